#include "sdk/in_hand.h"

namespace sluice::internal {

std::uint64_t InHand::index_of(Position position) const {
  std::uint64_t low = begin();
  std::uint64_t high = end();
  while (low < high) {
    const std::uint64_t middle = low + (high - low) / 2;
    if (at(middle).position < position)
      low = middle + 1;
    else
      high = middle;
  }
  return low != end() && at(low).position == position ? low : end();
}

}  // namespace sluice::internal
