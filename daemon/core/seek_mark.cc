#include "daemon/core/seek_mark.h"

#include <algorithm>

namespace sluice::core {

bool SeekMark::may_force(Position from) const {
  const auto stay = std::count_if(epochs.begin(), epochs.end(), [&](const EpochStart& one) { return one.from < from; });
  return static_cast<std::size_t>(stay) < kForcedSeeksMax;
}

void SeekMark::force(Position to, Position from, std::uint64_t epoch) {
  ++seeks;
  horizon = to;
  std::erase_if(epochs, [&](const EpochStart& one) { return one.from >= from; });
  epochs.push_back({from, epoch});
}

std::uint64_t SeekMark::epoch_of(Position position) const {
  std::uint64_t epoch = 0;
  for (const EpochStart& one : epochs)
    if (one.from <= position) epoch = one.epoch;
  return epoch;
}

bool is_valid(const SeekMark& mark) {
  if (mark.epochs.size() > kForcedSeeksMax) return false;
  return std::adjacent_find(mark.epochs.begin(), mark.epochs.end(), [](const EpochStart& a, const EpochStart& b) {
           return a.from >= b.from || a.epoch >= b.epoch;
         }) == mark.epochs.end();
}

}  // namespace sluice::core
