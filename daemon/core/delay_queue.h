// What waits for its time in one partition: the places of delayed messages, the next due first. It says which is to be
// delivered now; its owner appends a `ref` record that names it.
//
// Pure state machine, without clock: fed by the scan in order of position (and by recovery's, with the same calls).
// Owner: the bus thread.
//
//   note() ──▶ waiting ── sent() ──▶ sent ── met() ──▶ done
//                 ▲                    └── passed(): its ref is not there ──┐
//                 └─────────────────────────────────────────────────────────┘
//
// A queue begins unsettled: refs that a daemon before has appended are only met, in any order with what they mean, and
// nothing is due. settle() ends that once every record of that daemon was seen.
//
// What the store keeps is small although millions may wait. Each save adds those that were noted since the last one
// (`delays`), and nothing is taken out one by one: delays end in order of their times, so `done` says what has ended,
// and `late` names the few at or below it that have not.
//
// Invariants
//  1. A delay is waiting or sent, once, from note() until its ref was met. Lost between sent() and met(), it waits
//  again.
//  2. snapshot() holds exactly these, whatever was sent: it is true of the records below the scan's frontier.
//  3. Memory: one Delay (16 bytes) each, and as much again for those that are sent.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <vector>

#include "shm/base/types.h"

namespace sluice::core {

// Later than any clock says: a time above it is taken for it.
inline constexpr std::uint64_t kDueNsMax = ~std::uint64_t{0} >> 1;

// In the order of their delivery.
struct Delay {
  std::uint64_t due_ns = 0;  // since the epoch
  Position position;         // of the delayed record
  auto operator<=>(const Delay&) const = default;
};

// See above. Saved: `delays` are those noted at or above the last save's `upto`. Read back: those of every save.
struct DelaySnapshot {
  Position upto;  // every record below it is in this
  std::vector<Delay> delays;
  Delay done;
  std::vector<Delay> late;
  bool operator==(const DelaySnapshot&) const = default;
};

class DelayQueue {
 public:
  // What a store gave back; before anything else.
  void restore(const DelaySnapshot& snapshot);

  // ---- the scan, in order of position
  // A delayed record that stands.
  void note(Delay delay);
  // The ref at `at` means the record at `reference`. False: nothing that waits for it, so it is no ref of ours.
  bool met(Position at, Position reference);
  // The scan has passed everything below.
  void passed(Position frontier);
  // Every ref that a daemon before can have appended was met.
  void settle();
  bool settled() const { return settled_; }

  // ---- delivery
  // The first that is due by now; nothing while unsettled.
  std::optional<Delay> due(std::uint64_t now_ns) const;
  // The ref of what due() gave stands at `ref`, above all that were sent before.
  void sent(Position ref);
  // When the next is due, of those that wait; nothing if none does.
  std::optional<std::uint64_t> next_due_ns() const;
  std::size_t size() const { return waiting_.size() + sent_.size(); }
  // The lowest position that is still needed; nothing if none is. Looks at all of them where the lowest has gone.
  std::optional<Position> oldest();

  // ---- the store
  DelaySnapshot snapshot(Position upto) const;
  // A snapshot with this `upto`, taken when changes() was so many, is in the store.
  void saved(Position upto, std::uint64_t changes);
  // Counts what was noted and met.
  std::uint64_t changes() const { return changes_; }
  // The store's snapshot does not say all that was seen.
  bool changed_since_save() const { return changes_ != changes_saved_; }

 private:
  struct Sent {
    Delay delay;
    Position ref;
  };

  void push(Delay delay);
  Delay pop();
  void end(const Delay& delay);

  // A heap, the earliest in front; unsettled, in the order of their coming.
  std::deque<Delay> waiting_;
  std::deque<Sent> sent_;                // ascending refs
  std::vector<Position> met_unsettled_;  // what refs meant
  bool settled_ = false;
  Delay done_;  // the highest that has ended
  std::optional<Position> oldest_;
  Position saved_upto_;
  std::uint64_t changes_ = 0;
  std::uint64_t changes_saved_ = 0;
};

}  // namespace sluice::core
