// What a member has handed out of one partition that it reads itself, in the order of the log, until everything below
// is settled. An index names a message for as long as the list lives, also after it is gone from it.
//
//   in_hand ─▶ acked · answered (nack, reject, defer) · withdrawn (another's by now)
//
// The front leaves the list once it is no longer in hand, and with it all behind it that are not.
//
// Owner: one consumer, on its thread.
// Invariants
//  1. Positions ascend; the front is in hand.
//  2. count() is the number of messages in hand; settled ones behind the front do not count.
//  3. In the steady state nothing is allocated.
#pragma once

#include <cstddef>
#include <cstdint>

#include "sdk/grow_ring.h"
#include "shm/base/types.h"

namespace sluice::internal {

class InHand {
 public:
  // Messages behind one that is not settled; beyond it nothing more is read of the partition until it is.
  static constexpr std::size_t kEntriesMax = std::size_t{1} << 20;

  enum class State : std::uint8_t { in_hand, acked, answered, withdrawn };
  struct Entry {
    Position position;
    Position end;
    std::uint64_t key_hash = 0;  // strict by key; 0: none
    State state = State::in_hand;
  };

  bool empty() const { return entries_.empty(); }
  bool full() const { return entries_.size() >= kEntriesMax; }
  std::uint32_t count() const { return count_; }
  std::uint64_t begin() const { return entries_.begin(); }
  std::uint64_t end() const { return entries_.end(); }
  const Entry& at(std::uint64_t index) const { return entries_.at(index); }
  const Entry& front() const { return entries_.at(begin()); }
  // The entry if it is in hand.
  const Entry* find(std::uint64_t index) const {
    if (index < begin() || index >= end()) return nullptr;
    const Entry& entry = entries_.at(index);
    return entry.state == State::in_hand ? &entry : nullptr;
  }
  // The index of the entry at that position, or end().
  std::uint64_t index_of(Position position) const;

  // Returns the index. Not full().
  std::uint64_t push(Position position, Position end, std::uint64_t key_hash) {
    ++count_;
    // Field by field: an entry made first and copied then is stored twice.
    Entry& entry = entries_.push_slot();
    entry.position = position;
    entry.end = end;
    entry.key_hash = key_hash;
    entry.state = State::in_hand;
    return entries_.end() - 1;
  }
  // `index` is in hand.
  void settle(std::uint64_t index, State state) {
    --count_;
    if (index == begin()) [[likely]]
      entries_.pop();
    else
      entries_.at(index).state = state;
    while (!entries_.empty() && front().state != State::in_hand) entries_.pop();
  }

 private:
  GrowRing<Entry> entries_;
  std::uint32_t count_ = 0;
};

}  // namespace sluice::internal
