// What a group was told, and what it was moved to, in one partition: the safe horizon, and the epochs of its messages.
//
// An application that handles each message once keeps a note of each (sdk/ledger), and forgets the notes below the
// horizon: nothing there is delivered again. Who moves the group back below it wants messages handled anew that no note
// is left of: that must be forced, and begins a new epoch for them.
//
//   epoch     0 ───────▶ 1 ───────────▶ 3 ──────▶       of a message: that of the last entry at or below it
//   position  0          from           from
//
// Pure values. Owner: daemon/delivery; kept in the store.
//
// Invariants
//  1. What was said stays true: below `horizon`, in the last epoch and those before it, nothing is delivered again but
//     parked messages.
//  2. `epochs` ascend by both; a message's epoch changes only with a forced seek that goes back over it.
//  3. `seeks` grows with each seek: what a member says of a time before the last one does not count.
#pragma once

#include <cstdint>
#include <vector>

#include "shm/base/types.h"

namespace sluice::core {

// Of one partition of a group, each lower than the next: a seek to a lower position takes the place of those above it.
inline constexpr std::size_t kForcedSeeksMax = 64;

struct EpochStart {
  Position from;
  std::uint64_t epoch = 0;
  bool operator==(const EpochStart&) const = default;
};

struct SeekMark {
  std::uint64_t seeks = 0;
  Position horizon;
  std::vector<EpochStart> epochs;

  bool needs_force(Position to) const { return to < horizon; }
  // False: kForcedSeeksMax stand below it.
  bool may_force(Position from) const;
  // The group goes on at `to`, which needs no force.
  void seek() { ++seeks; }
  // The group goes back to `to`; messages from `from` on (at most `to`) come again with it. `epoch`: above all before.
  void force(Position to, Position from, std::uint64_t epoch);
  std::uint64_t epoch() const { return epochs.empty() ? 0 : epochs.back().epoch; }
  std::uint64_t epoch_of(Position position) const;

  bool operator==(const SeekMark&) const = default;
};

// A mark that can be: see invariant 2, and the limit.
bool is_valid(const SeekMark& mark);

}  // namespace sluice::core
