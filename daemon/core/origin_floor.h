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
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>

#include "shm/base/types.h"

namespace sluice::core {

class OriginFloor {
 public:
  static constexpr std::size_t kEntriesMax = 4096;

  // The ref at `at`, above all before, names the record at `origin`, which is below it.
  void met(Position at, Position origin);
  // Nobody asks for what is below any more.
  void forget_below(Position position);
  // The lowest that a ref at `position` or behind it names; at most `position` itself.
  Position from(Position position) const;

 private:
  struct Entry {
    Position at;
    Position origin;
  };
  void append(const Entry& entry);
  void merge();

  std::uint32_t span_bits_ = 0;
  std::deque<Entry> entries_;  // both ascending: what a later one undercuts is left out
};

}  // namespace sluice::core
