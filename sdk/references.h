// The references in a member's hands: records that the daemon has handed to it one by one, waiting to go to the
// application, in its hands, or answered.
//
//   waiting ─▶ in_hand ─▶ answered      its outcome is in the ring; kept until its slot is used again
//      └──────────┴─────▶ withdrawn     another's by now; an outcome is sent all the same, so that its slot comes back
//
// After a rejoin (detach()) those that were in hand, or answered and not read, have no slot until the new daemon has
// handed the same record out again: accept() knows it by its address, and an answer that was given already is told
// then. So have nacks and rejects that were read, until they are stored: a daemon that dies in between must neither
// count a failure less nor bring the message before its time. (Of acks there are too many: such a message comes again.)
//
// Owner: one ConsumerCore, on the consumer's thread.
// Invariants
//  1. A slot belongs to one reference at a time; a slot that comes again before it was answered is refused.
//  2. Waiting ones leave in the order they came.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "sdk/control_types.h"
#include "sdk/grow_ring.h"
#include "sdk/member_link.h"
#include "shm/base/types.h"
#include "shm/layout/member_region.h"

namespace sluice::internal {

struct Reference {
  enum class State : std::uint8_t { free, waiting, in_hand, answered, withdrawn };
  State state = State::free;
  bool alone = false;
  TopicId topic;
  PartitionNumber partition = 0;
  Position position;
  std::uint32_t slot = 0;  // kNoSlot: of an earlier member
  std::uint64_t stamp = 0;
  std::uint64_t serial = 0;  // of this delivery, unique in the consumer's life
  std::uint32_t delivered = 0;
  std::uint32_t failed = 0;
  std::uint64_t key_hash = 0;  // strict by key, once its record was read
  std::uint64_t seeks = 0;     // of the group in its partition, before it was handed out
  std::uint64_t before = 0;    // index of the next message of its partition that is read directly, at the hand-out
  // Its answer.
  layout::OutcomeVerb verb{};
  std::uint64_t argument = 0;
  std::string reason;
  std::uint64_t number = 0;  // of outcomes written with it
};

class References {
 public:
  static constexpr std::uint32_t kNoSlot = 0xffff'ffff;

  References();

  // The daemon's slot `index`, copied. accepted: it waits, at the end of the queue.
  enum class Verdict : std::uint8_t { accepted, known, refused };
  Verdict accept(MemberLink& member, const layout::DeliverySlot& slot, std::uint32_t index);
  bool any_waiting() const { return !queue_.empty(); }
  // The first that waits. Precondition: any_waiting().
  std::uint32_t next_waiting() const { return queue_.at(queue_.begin()).index; }
  // The first that waits is to go to the application. False: the daemon has taken it back, and it waits no more.
  bool begin(MemberLink& member);
  // It goes there. Precondition: it has begun.
  void hand_out();

  // The reference if it is in hand.
  Reference* find(std::uint32_t index, std::uint64_t serial);
  // Good until the next accept().
  Reference& at(std::uint32_t index) { return references_[index]; }
  std::uint32_t size() const { return static_cast<std::uint32_t>(references_.size()); }
  // Precondition: the member has room. In hand or waiting (then it must be the first).
  void answer(MemberLink& member, std::uint32_t index, layout::OutcomeVerb verb, std::uint64_t argument,
              std::string_view reason);
  // It was settled by other means (a transaction): the daemon knows, and nothing is told. In hand.
  void settled_elsewhere(std::uint32_t index);
  // Precondition: the member has room.
  void extend(MemberLink& member, std::uint32_t index, std::uint64_t time_ns);
  // The delivery with that stamp is another's by now: what it was, or null.
  const Reference* withdraw(MemberLink& member, std::uint64_t stamp, bool& was_in_hand);

  // What a daemon that is new is told when the member joins.
  std::vector<HeldMessage> held(const MemberLink& member);
  // The member is another one by now: see above.
  void detach(const MemberLink& former);
  // The member has lost everything. Returns how many were in hand.
  std::uint32_t lose_all();

 private:
  struct Waiting {
    std::uint32_t index = 0;
    std::uint64_t serial = 0;
  };

  // A nack or reject that was told, and may not be stored yet.
  struct Unstored {
    Reference one;
    std::uint64_t read_ns = 0;  // by the daemon; 0: not seen to be
  };

  bool attach(MemberLink& member, const layout::DeliverySlot& slot, std::uint32_t index);
  std::uint32_t take_free();
  void give_free(std::uint32_t index);
  void drop_stale();
  bool is_unread(const Reference& one, const MemberLink& member) const;
  void write(MemberLink& member, Reference& one);
  void keep_unstored(const MemberLink& member, const Reference& one);
  void forget_stored(const MemberLink& member);

  std::vector<Reference> references_;
  std::vector<std::uint32_t> free_;
  std::vector<std::uint32_t> by_slot_;  // slot → index, kNoSlot: none
  GrowRing<Waiting> queue_;
  GrowRing<Unstored> unstored_;
  std::unordered_multimap<std::uint64_t, std::uint32_t> detached_;  // position → index
  std::uint64_t last_serial_ = 0;
};

}  // namespace sluice::internal
