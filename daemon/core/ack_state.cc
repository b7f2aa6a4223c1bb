#include "daemon/core/ack_state.h"

#include <algorithm>
#include <utility>

#include "shm/base/limits.h"

namespace sluice::core {

void AckState::advance(Position position) {
  if (position <= cursor_) return;
  cursor_ = position;
  // Spans that the cursor reaches go into it.
  for (auto span = settled_.begin(); span != settled_.end() && span->first <= cursor_; span = settled_.begin()) {
    cursor_ = std::max(cursor_, span->second);
    settled_.erase(span);
  }
  counts_.erase(counts_.begin(), counts_.lower_bound(cursor_));
  dirty_ = true;
}

void AckState::settle(Position begin, Position end) {
  if (end <= begin || end <= cursor_) return;
  if (begin <= cursor_) return advance(end);
  auto next = settled_.lower_bound(begin);
  if (next != settled_.begin() && std::prev(next)->second >= begin) {
    --next;
    begin = next->first;
  } else if (settled_.size() >= kAckRangesMax && (next == settled_.end() || next->first > end)) {
    return;
  }
  while (next != settled_.end() && next->first <= end) {
    end = std::max(end, next->second);
    next = settled_.erase(next);
  }
  settled_.emplace(begin, end);
  dirty_ = true;
}

bool AckState::is_settled(Position position) const {
  if (position < cursor_) return true;
  const auto next = settled_.upper_bound(position);
  return next != settled_.begin() && std::prev(next)->second > position;
}

std::vector<PositionSpan> AckState::settled() const {
  std::vector<PositionSpan> spans;
  spans.reserve(settled_.size());
  for (const auto& [begin, end] : settled_) spans.push_back({begin, end});
  return spans;
}

void AckState::seek(Position to) {
  cursor_ = to;
  settled_.clear();
  counts_.clear();
  dirty_ = true;
}

Pending* AckState::find(Position position) {
  const auto found = pending_.find(position);
  return found == pending_.end() ? nullptr : &found->second;
}

Pending& AckState::put(Position position, Pending pending) {
  changed_.insert(position);
  counts_.erase(position);
  return pending_[position] = std::move(pending);
}

bool AckState::drop(Position position) {
  if (pending_.erase(position) == 0) return false;
  changed_.insert(position);
  return true;
}

}  // namespace sluice::core
