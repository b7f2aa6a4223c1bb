// How far a group has come in one partition: the cursor, what is settled above it, and what is pending.
//
// Owner: the delivery machine. Pure: no clock; times are the caller's, monotonic ns.
//
// Invariants
//  1. Every message below the cursor is settled or pending; the cursor never goes back, but by seek().
//  2. Settled spans are disjoint, ascending, and lie above the cursor.
//  3. A pending message is settled for the cursor's and the readers' sake; it goes on by itself.
//  4. changed() names every pending position that differs from what was last saved.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "daemon/core/delivery_types.h"
#include "shm/base/types.h"

namespace sluice::core {

enum class PendingState : std::uint8_t {
  waiting = 0,  // for its due time (or, deferred, for those of its key before it)
  out = 1,      // in a member's hands
  parking = 2,  // its copy goes to the dead letters
};

struct Pending {
  std::uint32_t delivered = 0;
  std::uint32_t failed = 0;
  std::uint64_t due_ns = 0;  // monotonic
  std::uint64_t key_hash = 0;
  std::uint64_t letter = 0;  // of a redriven dead letter: its id
  PendingState state = PendingState::waiting;
  bool deferred = false;  // behind another of its lane; due_ns is the earliest then
  bool suspect = false;   // it may have killed its consumer: handed out alone
  std::string reason;
  MemberId member = 0;  // out: whose
  std::uint32_t slot = 0;
};

class AckState {
 public:
  explicit AckState(Position cursor) : cursor_(cursor) {}

  Position cursor() const { return cursor_; }
  // Everything below `position` is settled. Lower than the cursor: nothing changes.
  void advance(Position position);
  // One message is. At most kAckRangesMax spans are kept apart: beyond it the message counts as not settled.
  void settle(Position begin, Position end);
  bool is_settled(Position position) const;
  // Ascending; what is pending above the cursor is not in it.
  std::vector<PositionSpan> settled() const;
  std::size_t settled_count() const { return settled_.size(); }
  // Back or forward: what was settled above is forgotten, what is pending stays.
  void seek(Position to);

  Pending* find(Position position);
  const std::map<Position, Pending>& pending() const { return pending_; }
  Pending& put(Position position, Pending pending);
  // False: it is not pending.
  bool drop(Position position);
  void touch(Position position) { changed_.insert(position); }
  // A state from the store.
  void restore(const std::vector<PositionSpan>& settled) {
    for (const PositionSpan& span : settled) settle(span.begin, span.end);
    dirty_ = false;
  }
  void restore(Position position, Pending pending) { pending_[position] = std::move(pending); }

  // Of messages above the cursor that are to be read directly again.
  std::map<Position, Counts>& counts() { return counts_; }
  const std::map<Position, Counts>& counts() const { return counts_; }

  // ---- saving
  bool dirty() const { return dirty_ || !changed_.empty(); }
  const std::set<Position>& changed() const { return changed_; }
  void saved() {
    dirty_ = false;
    changed_.clear();
  }
  // What was saved last was less than all: it must be saved again.
  void mark_dirty() { dirty_ = true; }

 private:
  Position cursor_;
  std::map<Position, Position> settled_;  // begin → end
  std::map<Position, Pending> pending_;
  std::map<Position, Counts> counts_;
  std::set<Position> changed_;
  bool dirty_ = true;  // a new one is to be saved
};

}  // namespace sluice::core
