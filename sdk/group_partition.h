// A partition as one member of a group has it: read directly, handed out, settled.
//
//   reading ── the daemon wants it back ──▶ wanted ── nothing is in hand ──▶ released (release())
//
// Its generation taken back in any state: the owner drops it (is_lost()), and what is in hand answers conflict.
//
// Owner: one ConsumerCore, on the consumer's thread.
// Invariants
//  1. `newest` is in the cell before the message is handed out; an outcome is in the ring before `acked` passes its
//  record.
//  2. `acked` only grows. With nothing in hand it follows the stream, over what was not for this group too.
//  3. What was answered with anything but an ack, or was withdrawn, is kept until the daemon must have stored it: a
//     daemon that is new is told again, and until then that `acked` lies below (held(), rebind()).
//  4. At most one message below careful_until is in the application's hands, and nothing else with it (with the owner).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "sdk/control_types.h"
#include "sdk/grow_ring.h"
#include "sdk/in_hand.h"
#include "sdk/member_link.h"
#include "sdk/partition_opener.h"
#include "sdk/partition_stream.h"
#include "shm/layout/member_region.h"

namespace sluice::internal {

class GroupPartition {
 public:
  GroupPartition(StreamContext& context, std::string_view topic, OpenedPartition opened, ReaderHandlePtr reader,
                 Strict strict, std::uint32_t place, std::uint64_t serial);
  GroupPartition(const GroupPartition&) = delete;
  GroupPartition& operator=(const GroupPartition&) = delete;

  // ---- assignment
  // The first one: reads from its start on.
  Status begin(MemberLink& member, const Assignment& assignment);
  // Assigned again by a daemon that does not know this member: goes on with what is in hand. False: what must be told
  // does not fit; the partition counts as lost.
  bool rebind(MemberLink& member, const Assignment& assignment);
  // The same in the daemon's new memory.
  Status reattach(OpenedPartition opened, ReaderHandlePtr reader);
  // What a daemon that is new is told when the member joins.
  HeldPartition held() const;
  // Looks at the generation in the cell. True: it was taken back.
  bool is_lost() const { return (generation_word() & ~layout::kWantedBack) != generation_; }
  // True once: it is wanted back from now on.
  bool take_wanted();
  bool is_wanted() const { return phase_ == Phase::wanted; }
  // True once: it cannot be read any more.
  bool take_denied() { return !std::exchange(denied_, true); }
  // Wanted back with nothing in hand: given back, the last word of it. True if so.
  bool release();
  std::uint64_t generation() const { return generation_; }
  // Of the group in this partition, before this assignment.
  std::uint64_t seeks() const { return seeks_; }
  std::uint32_t cell_index() const { return cell_index_; }
  // A Delivery names both: where the owner keeps this object, and its number, unique in the consumer's life.
  std::uint32_t place() const { return place_; }
  std::uint64_t serial() const { return serial_; }

  // ---- reading
  enum class Readiness : std::uint8_t {
    yes,
    no,     // nothing is to be handed out, whatever the log holds
    alone,  // once nothing else is in the application's hands
  };
  Readiness readiness() {
    if (is_ordinary_ && !in_hand_.full()) [[likely]]
      return Readiness::yes;
    look_at_state();
    return in_hand_.full() ? Readiness::no : is_ordinary_ ? Readiness::yes : readiness_;
  }
  // The next record to be handed out. Records of others (settled, or deferred behind one of the same key) are passed.
  Look next(ring::RecordView& record) {
    if (is_plain_) [[likely]]
      return stream_.next(record);
    return next_checked(record);
  }
  // The record that next() gave goes to the application: its index in the list. `counts`: of earlier deliveries.
  std::uint64_t hand_out(const ring::RecordView& record) {
    newest_ = record.position;
    cell_->newest.store(newest_.value, std::memory_order_release);
    if (in_hand_.empty()) cell_->oldest.store(newest_.value, std::memory_order_release);
    const std::uint64_t hash = strict_ == Strict::key ? key_hash_of(record.trailer) : 0;
    const std::uint64_t index = in_hand_.push(record.position, stream_.position(), hash);
    cell_->in_flight.store(in_hand_.count(), std::memory_order_release);
    return index;
  }
  const Repeat* repeat_of(Position position) const;
  // Times that it was in a member's hands before.
  std::uint32_t handed_out_before(Position position) const;
  bool is_careful(Position position) const { return position < careful_until_; }
  // The batch is over. True if something was published for the daemon.
  bool rest(bool unpin);
  PartitionStream& stream() { return stream_; }
  const PartitionStream& stream() const { return stream_; }
  // References to its messages are on their way to the application, or in its hands: strict by partition waits for
  // them.
  void set_references(bool any);

  // ---- settling; `index` is in hand
  const InHand& in_hand() const { return in_hand_; }
  void ack(std::uint64_t index) {
    if (index != in_hand_.begin()) [[unlikely]]
      write_ack(in_hand_.at(index));
    settle(index, InHand::State::acked);
  }
  // This one and everything handed out before it. Returns how many.
  std::uint32_t ack_up_to(std::uint64_t index);
  // nack, reject, defer. Precondition: the member has room.
  void answer(std::uint64_t index, layout::OutcomeVerb verb, std::uint64_t argument, std::string_view reason);
  // Precondition: the member has room.
  void extend(std::uint64_t index, std::uint64_t time_ns);
  // The message at that position, if it is in hand, is another's by now. True if it was.
  bool withdraw(Position position);
  // Strict: a message that was handed out by reference has failed.
  void hold_back(std::uint64_t key_hash);
  // Strict: nothing of this key (0: of the partition) is held back any more, if the daemon had read all that matters.
  void unblock(std::uint64_t key_hash, std::uint64_t outcomes_read);
  Strict strict() const { return strict_; }
  std::uint64_t key_hash_of(std::span<const std::byte> trailer) const;

 private:
  enum class Phase : std::uint8_t { reading, wanted, released };
  // An outcome that the daemon may not have stored yet.
  struct Unstored {
    layout::OutcomeEntry entry{};
    std::string reason;
    std::uint64_t number = 0;   // of outcomes written with it
    std::uint64_t read_ns = 0;  // monotonic: since then it is known to be read; 0: it is not
  };

  std::uint64_t generation_word() const {
    // acquire: pairs with the daemon's release; nothing of an earlier generation is read behind it.
    return cell_->generation.load(std::memory_order_acquire);
  }
  void take(const Assignment& assignment);
  void accept();
  Look next_checked(ring::RecordView& record);
  bool is_settled(Position position) const;
  bool defer_if_blocked(const ring::RecordView& record);
  void settle(std::uint64_t index, InHand::State state) {
    in_hand_.settle(index, state);
    ++settled_;
    publish();
  }
  // release, all of them: pairs with the daemon's acquires; what they speak of was done before.
  void publish() {
    const bool none = in_hand_.empty();
    const Position up_to = none ? stream_.position() : in_hand_.front().position;
    if (up_to > acked_) {
      acked_ = up_to;
      cell_->acked.store(acked_.value, std::memory_order_release);
    }
    cell_->oldest.store(none ? 0 : up_to.value, std::memory_order_release);
    cell_->settled.store(settled_, std::memory_order_release);
    cell_->in_flight.store(in_hand_.count(), std::memory_order_release);
  }
  void write_ack(const InHand::Entry& entry);
  layout::OutcomeEntry outcome(layout::OutcomeVerb verb, Position target, std::uint64_t argument) const;
  void write_unstored(layout::OutcomeVerb verb, Position target, std::uint64_t argument, std::string_view reason);
  void forget_stored();
  void look_at_state();

  // Constant.
  const Strict strict_;
  const std::uint32_t place_;
  const std::uint64_t serial_;
  // The consumer's thread.
  PartitionStream stream_;
  ReaderHandlePtr reader_;
  MemberLink* member_ = nullptr;
  layout::AssignmentCell* cell_ = nullptr;
  std::uint32_t cell_index_ = 0;
  std::uint64_t generation_ = 0;
  std::uint64_t seeks_ = 0;
  Phase phase_ = Phase::reading;
  bool denied_ = false;
  bool is_ordinary_ = false;             // nothing keeps it from being read, whatever else is in hand
  Readiness readiness_ = Readiness::no;  // if it is not
  bool is_plain_ = false;                // every record of the stream is to be handed out
  InHand in_hand_;
  Position acked_;
  Position newest_;
  std::uint64_t settled_ = 0;
  Position careful_until_;
  Position special_until_;                     // below it records may be settled or repeated
  std::vector<PositionRange> settled_ranges_;  // ascending
  std::vector<Repeat> repeats_;                // ascending
  std::vector<Position> handed_out_;
  bool is_held_back_ = false;       // strict by partition
  std::uint64_t held_back_at_ = 0;  // outcomes written when it was
  bool has_references_ = false;
  std::unordered_map<std::uint64_t, std::uint64_t> blocked_keys_;  // hash → outcomes written when it was last deferred
  GrowRing<Unstored> unstored_;
};

}  // namespace sluice::internal
