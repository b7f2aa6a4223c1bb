// How far back the refs of a partition reach: the lowest record that one of them at or behind a position names.
//
// Messages that waited (delayed, halves) are delivered where their ref stands, and known by where they stand
// themselves: whoever says that nothing below a position comes again must know it.
//
// Pure: fed by the scan in order of position. Owner: the bus thread.
//
// Invariants
//  1. An answer is never too high. It is too low by what was merged to stay within kEntriesMax: refs within one span of
//     positions, all of the same size, are told apart no more.
//  2. What lies below `known_from` was not met: nothing is said of it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>

#include "shm/base/types.h"

namespace sluice::core {

class OriginFloor {
 public:
  static constexpr std::size_t kEntriesMax = 4096;

  explicit OriginFloor(Position known_from) : known_from_(known_from) {}

  // The ref at `at`, above all before, names the record at `origin`, which is below it.
  void met(Position at, Position origin);
  // Nobody asks for what is below any more.
  void forget_below(Position position);
  // At most `position` itself. Nothing: there may be refs behind it that were not met.
  std::optional<Position> from(Position position) const;

 private:
  struct Entry {
    Position at;
    Position origin;
  };
  void append(const Entry& entry);
  void merge();

  Position known_from_;
  std::uint32_t span_bits_ = 0;
  std::deque<Entry> entries_;  // both ascending: what a later one undercuts is left out
};

}  // namespace sluice::core
