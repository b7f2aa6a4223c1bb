// A partition of an ordered group as its owner reads and settles it; sdk/group_partition.h is the real one.
//
// Owner: a Member.
// Invariants
//  1. `newest` is in the cell before the message is handed out; an outcome is in the ring before `acked` passes its
//     record.
//  2. What was nacked or withdrawn is kept until the daemon must have stored it: a daemon that is new is told again,
//  and until then
//     that `acked` lies below.
#pragma once

#include <cstdint>
#include <deque>
#include <vector>

#include "daemon/session/group_interface.h"
#include "daemon/session/transaction_interface.h"
#include "tests/sim/transactions/acks_truth.h"
#include "tests/sim/transactions/words.h"

namespace sluice::transactions::sim {

class Owned {
 public:
  struct Entry {
    Position position;
    Position end;
    std::uint64_t serial = 0;
    enum class State : std::uint8_t { in_hand, acked, over } state = State::in_hand;
  };

  Owned(const AcksTruth& log, core::Place place) : log_(log), place_(place) {}

  const core::Place& place() const { return place_; }
  bool is(const session::Assignment& assignment) const {
    return generation_ == assignment.generation && cell_ == assignment.cell;
  }

  // ---- assignment
  void begin(Words& words, const session::Assignment& assignment);
  // Assigned again by a daemon that is new: goes on with what is in hand.
  void rebind(Words& words, const session::Assignment& assignment);
  session::HeldPartition held() const;
  bool is_lost(const Words& words) const;
  // Wanted back with nothing in hand, or with what it `abandons`: gives it back, and is over.
  bool release(Words& words, bool abandons);

  // ---- reading
  // What is next to be handed out; null: nothing.
  const TrueInput* next(Words& words);
  // A message that may have killed its consumer is handed out alone.
  bool is_careful() const { return read_ < careful_until_; }
  void hand_out(Words& words, const TrueInput& input, std::uint64_t serial);
  std::uint32_t in_hand() const;

  // ---- settling; the entry is in hand
  Entry* find(Position position);
  session::TransactionAck describe(const Entry& entry, std::uint64_t member) const;
  void ack(Words& words, Entry& entry);
  void nack(Words& words, Entry& entry, std::uint64_t delay_ns);
  void withdraw(Words& words, Entry& entry);

 private:
  struct Nack {
    layout::OutcomeEntry entry;
    std::uint64_t number = 0;
    std::uint64_t read_ns = 0;  // 0: it was not seen to be read
  };
  void take(const session::Assignment& assignment);
  bool is_settled(Position position) const;
  layout::OutcomeEntry outcome(layout::OutcomeVerb verb, Position target, std::uint64_t argument) const;
  void settle(Words& words, Entry& entry, Entry::State state);
  void publish(Words& words);
  void forget_stored(const Words& words);

  const AcksTruth& log_;
  const core::Place place_;
  std::uint32_t cell_ = 0;
  std::uint64_t generation_ = 0;
  std::uint64_t seeks_ = 0;
  Position careful_until_;
  std::vector<session::PositionRange> settled_;
  Position read_;
  Position acked_;
  Position newest_;
  std::uint64_t settled_count_ = 0;
  std::deque<Entry> entries_;  // ascending; the front is in hand
  std::vector<Nack> nacks_;
};

}  // namespace sluice::transactions::sim
