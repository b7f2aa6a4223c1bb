#include "daemon/core/origin_floor.h"

#include <algorithm>
#include <utility>

namespace sluice::core {

void OriginFloor::met(Position at, Position origin) {
  while (!entries_.empty() && entries_.back().origin >= origin) entries_.pop_back();
  append({at, origin});
  while (entries_.size() > kEntriesMax) merge();
}

// The last place of a span, and the lowest of what its refs name: that of the first one.
void OriginFloor::append(const Entry& entry) {
  if (!entries_.empty() && entries_.back().at.value >> span_bits_ == entry.at.value >> span_bits_)
    entries_.back().at = entry.at;
  else
    entries_.push_back(entry);
}

void OriginFloor::merge() {
  ++span_bits_;
  for (const Entry& entry : std::exchange(entries_, {})) append(entry);
}

void OriginFloor::forget_below(Position position) {
  while (!entries_.empty() && entries_.front().at < position) entries_.pop_front();
  if (entries_.empty()) span_bits_ = 0;
}

Position OriginFloor::from(Position position) const {
  const auto entry = std::lower_bound(entries_.begin(), entries_.end(), position,
                                      [](const Entry& one, Position wanted) { return one.at < wanted; });
  return entry == entries_.end() ? position : std::min(position, entry->origin);
}

}  // namespace sluice::core
