#include "daemon/core/half_table.h"

#include <algorithm>

#include "shm/base/assert.h"

namespace sluice::core {

void HalfTable::restore(const HalfSnapshot& snapshot, Position counted_below) {
  SLUICE_ASSERT(!settled_ && halves_.empty());
  for (const Half& half : snapshot.added) halves_.try_emplace(half.position, Entry{half, 0, State::open});
  decided_ = counted_ = snapshot.decided;
  counted_below_ = counted_below;
  for (const Position position : snapshot.late) {
    halves_.erase(position);
    end_late(position);
  }
}

// One that the snapshot has already may be met again: what was read back can reach further than its end.
std::optional<HalfTable::Decided> HalfTable::note(Half half) {
  const Position position = half.position;
  if (late_.contains(position)) return std::nullopt;
  if (!halves_.try_emplace(position, Entry{std::move(half), 0, State::open}).second) return std::nullopt;
  added_.push_back({position, ++changes_});
  const auto early = early_.find(position);
  if (early == early_.end()) return std::nullopt;
  const auto [commit, order] = early->second;
  early_.erase(early);
  return decide(position, commit, order);
}

void HalfTable::end_late(Position position) {
  ended_.push_back({position, ++changes_});
  late_[position] = changes_;
}

void HalfTable::end(std::map<Position, Entry>::iterator entry) {
  ended_.push_back({entry->first, ++changes_});
  halves_.erase(entry);
}

std::optional<HalfTable::Decided> HalfTable::decide(Position position, bool commit, std::uint64_t order) {
  const auto entry = halves_.find(position);
  if (entry == halves_.end() && !settled_) early_[position] = {commit, order};
  if (entry == halves_.end() || entry->second.state != State::open) return std::nullopt;
  decided_ = std::max(decided_, order);
  const bool is_counted = order != 0 && order <= counted_ && position < counted_below_;
  const Decided decided{entry->second.half, commit, is_counted};
  if (commit) {
    ++changes_;
    entry->second.state = State::committed;
    entry->second.order = order;
    committed_.emplace(order, position);
  } else if (order == 0) {
    halves_.erase(entry);
    end_late(position);
  } else {
    end(entry);
  }
  return decided;
}

bool HalfTable::met(Position at, Position reference) {
  if (!settled_) {
    ++changes_;
    met_unsettled_.push_back(reference);
    return true;
  }
  passed(at);
  if (sent_.empty() || sent_.front().ref != at || sent_.front().half != reference) return false;
  sent_.pop_front();
  end(halves_.find(reference));
  return true;
}

void HalfTable::passed(Position frontier) {
  while (!sent_.empty() && sent_.front().ref < frontier) {
    Entry& entry = halves_.at(sent_.front().half);
    entry.state = State::committed;
    committed_.emplace(entry.order, sent_.front().half);
    sent_.pop_front();
  }
}

// A ref may be met that means nothing here: a delayed message, or a half that the store knows to have ended.
void HalfTable::settle() {
  if (settled_) return;
  settled_ = true;
  for (const auto& [position, decision] : early_) ended_.push_back({position, ++changes_});
  early_.clear();
  for (const Position reference : met_unsettled_) {
    const auto entry = halves_.find(reference);
    if (entry == halves_.end() || entry->second.state != State::committed) continue;
    committed_.erase({entry->second.order, reference});
    end(entry);
  }
  std::vector<Position>().swap(met_unsettled_);
}

std::optional<Position> HalfTable::due() const {
  if (!settled_ || committed_.empty()) return std::nullopt;
  return committed_.begin()->second;
}

void HalfTable::sent(Position ref) {
  SLUICE_ASSERT(settled_ && !committed_.empty());
  SLUICE_ASSERT(sent_.empty() || sent_.back().ref < ref);
  const Position half = committed_.begin()->second;
  committed_.erase(committed_.begin());
  halves_.at(half).state = State::sent;
  sent_.push_back({half, ref});
}

std::optional<Position> HalfTable::oldest() const {
  return halves_.empty() ? std::nullopt : std::optional(halves_.begin()->first);
}

std::vector<Half> HalfTable::open() const {
  std::vector<Half> open;
  for (const auto& [position, entry] : halves_)
    if (entry.state == State::open) open.push_back(entry.half);
  return open;
}

std::vector<Position> HalfTable::late() const {
  std::vector<Position> positions;
  for (const auto& [position, number] : late_) positions.push_back(position);
  return positions;
}

// Unsettled, what was decided and not met may still be met.
HalfSnapshot HalfTable::snapshot() const {
  if (!settled_) {
    HalfTable settled = *this;
    settled.early_.clear();
    settled.settle();
    return settled.snapshot();
  }
  HalfSnapshot snapshot;
  snapshot.decided = decided_;
  for (const Change& change : added_) {
    const auto entry = halves_.find(change.position);
    if (entry != halves_.end()) snapshot.added.push_back(entry->second.half);
  }
  for (const Change& change : ended_) snapshot.ended.push_back(change.position);
  return snapshot;
}

void HalfTable::saved(std::uint64_t changes) {
  while (!added_.empty() && added_.front().number <= changes) added_.pop_front();
  while (!ended_.empty() && ended_.front().number <= changes) ended_.pop_front();
  std::erase_if(late_, [&](const auto& late) { return late.second <= changes; });
  changes_saved_ = std::max(changes_saved_, changes);
}

}  // namespace sluice::core
