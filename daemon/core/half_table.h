// The halves of one partition that are not done with: messages of transactions, which nobody sees before they are
// decided.
//
// Pure state machine, without clock: fed by the scan in order of position (and by recovery's, with the same calls), and
// by the decisions. Owner: the bus thread.
//
//   note() ──▶ open ── decide(rollback) ──────────────────────────────────────────────────────▶ ended
//               └───── decide(commit) ──▶ committed ── sent() ──▶ sent ── met() ──▶ ended
//                                            ▲                      └── passed(): its ref is not there ──┐
//                                            └──────────────────────────────────────────────────────────┘
//
// A table begins unsettled: refs that a daemon before has appended are only met, and none is due. settle() ends that
// once every record of that daemon was seen, and every decision that the store has was told. One that was decided
// before this table has met it (a rollback needs no durable half) is decided as soon as it is met; one that is not met
// by then is gone with lost memory, and has ended.
//
// Invariants
//  1. A half is in one state, from note() on; what has ended is never met again.
//  2. Refs are appended in the order of the decisions.
//  3. The store has every half that a snapshot named and none that ended in one: it is true of the records below the
//     snapshot's end, with the decisions since.
//  4. Counts that are newer than the store's halves name those that they call rolled back and no decision in the store
//     does (`late`): they have ended.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "shm/base/transaction_id.h"
#include "shm/base/types.h"

namespace sluice::core {

struct Half {
  Position position;
  TransactionId transaction;
  ProducerId producer;
  bool check_back = false;
  std::uint64_t time_ns = 0;  // when it was sent, since the epoch; 0: its topic keeps no time
  std::string group;          // the producer group
  bool operator==(const Half&) const = default;
};

// Saved: `added` are those noted since the last save, `ended` those that ended since. Read back: `added` is all.
struct HalfSnapshot {
  std::vector<Half> added;
  std::vector<Position> ended;
  std::uint64_t decided = 0;   // the order of the last decision that the audit's counts hold
  std::vector<Position> late;  // HalfTable::late(); in no store
  bool operator==(const HalfSnapshot&) const = default;
};

class HalfTable {
 public:
  // What a store gave back; before anything else. The audit that came with it counts what lies below `counted_below`.
  void restore(const HalfSnapshot& snapshot, Position counted_below);

  struct Decided {
    Half half;
    bool commit = false;
    bool is_counted = false;  // the audit that was restored knows it
  };
  // ---- the scan, in order of position
  // Of one that was decided before: how.
  std::optional<Decided> note(Half half);
  // The ref at `at` means the record at `reference`. False: nothing that waits for it, so it is no ref of ours.
  bool met(Position at, Position reference);
  // The scan has passed everything below.
  void passed(Position frontier);
  void settle();
  bool settled() const { return settled_; }

  // ---- decisions
  // `order`: ascending with each transaction, the same for all its halves; 0: of one that came too late for its
  // transaction's, which no store knows. Nothing if no open half stands there.
  std::optional<Decided> decide(Position position, bool commit, std::uint64_t order);
  // The committed half whose ref is next; nothing while unsettled.
  std::optional<Position> due() const;
  // The ref of what due() gave stands at `ref`, above all that were sent before.
  void sent(Position ref);

  std::size_t size() const { return halves_.size(); }
  std::size_t waiting() const { return committed_.size(); }
  // The lowest position that is still needed; nothing if none is.
  std::optional<Position> oldest() const;
  // The order of the last decision.
  std::uint64_t decided() const { return decided_; }
  // Rolled back by a decision without an order, and open as far as the store knows.
  std::vector<Position> late() const;
  std::size_t late_count() const { return late_.size(); }
  // Every one that is open, by position.
  std::vector<Half> open() const;

  // ---- the store
  HalfSnapshot snapshot() const;
  // A snapshot that was taken when changes() was so many is in the store.
  void saved(std::uint64_t changes);
  std::uint64_t changes() const { return changes_; }
  bool changed_since_save() const { return changes_ != changes_saved_; }

 private:
  enum class State : std::uint8_t { open, committed, sent };
  struct Entry {
    Half half;
    std::uint64_t order = 0;
    State state = State::open;
  };
  struct Sent {
    Position half;
    Position ref;
  };
  struct Change {
    Position position;
    std::uint64_t number;
  };

  void end_late(Position position);
  void end(std::map<Position, Entry>::iterator entry);

  std::map<Position, Entry> halves_;
  std::set<std::pair<std::uint64_t, Position>> committed_;    // by order
  std::deque<Sent> sent_;                                     // ascending refs
  std::vector<Position> met_unsettled_;                       // what refs meant
  std::map<Position, std::pair<bool, std::uint64_t>> early_;  // decided and not met, unsettled: commit, order
  bool settled_ = false;
  std::uint64_t decided_ = 0;               // the order of the last one
  std::uint64_t counted_ = 0;               // and that of the last one that the restored audit knows
  Position counted_below_;                  // of those below
  std::map<Position, std::uint64_t> late_;  // to the number of the change
  // Not in the store yet, ascending numbers.
  std::deque<Change> added_;
  std::deque<Change> ended_;
  std::uint64_t changes_ = 0;
  std::uint64_t changes_saved_ = 0;
};

}  // namespace sluice::core
