// Messages that the daemon has handed to a member one by one; sdk/references.h is the real one.
//
//   waiting ─▶ in_hand ─▶ answered       its outcome is in the ring; kept until its slot is used again
//      └──────────┴─────▶ (withdrawn, recalled: gone from the list)
//
// After a rejoin those that were in hand, or answered and not read, have no slot until the new daemon has handed the
// same message out again.
//
// Owner: a Member.
#pragma once

#include <cstdint>
#include <vector>

#include "daemon/session/group_interface.h"
#include "tests/sim/transactions/acks_truth.h"
#include "tests/sim/transactions/words.h"

namespace sluice::transactions::sim {

struct Reference {
  enum class State : std::uint8_t { waiting, in_hand, answered } state = State::waiting;
  static constexpr std::uint32_t kNoSlot = 0xffff'ffff;
  Address address;
  std::uint32_t slot = 0;
  std::uint64_t stamp = 0;
  std::uint64_t seeks = 0;
  std::uint32_t delivered = 0;
  std::uint32_t failed = 0;
  bool alone = false;
  std::uint64_t serial = 0;
  layout::OutcomeVerb verb{};  // of its answer
  std::uint64_t argument = 0;
  std::uint64_t number = 0;  // of outcomes written with it; 0: a transaction has settled it
};

class References {
 public:
  // What was handed out. True: it is one that was in hand already, and goes on.
  bool accept(Words& words, const layout::DeliverySlot& slot, std::uint32_t index);
  // Another's by now.
  void withdraw(Words& words, std::uint64_t stamp);
  // The first that waits, which is begun; null: none does, or it must wait. Good until the next call that changes
  // something.
  Reference* begin(Words& words, bool others_in_hand);
  Reference* find(const Address& address);
  std::uint32_t in_hand() const;

  // ---- settling; the reference is in hand
  void answer(Words& words, Reference& reference, layout::OutcomeVerb verb, std::uint64_t argument);
  void settled_elsewhere(Reference& reference);

  // ---- a daemon that is new
  std::vector<session::HeldMessage> held(const Words& words) const;
  void detach(const Words& words);
  void clear() { list_.clear(); }

 private:
  static bool is_unread(const Reference& reference, const Words& words);
  static void write(Words& words, Reference& reference);
  bool attach(Words& words, const Reference& fresh);

  std::vector<Reference> list_;  // in the order of their coming
};

}  // namespace sluice::transactions::sim
