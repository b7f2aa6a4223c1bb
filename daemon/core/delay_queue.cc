#include "daemon/core/delay_queue.h"

#include <algorithm>
#include <functional>
#include <utility>

#include "shm/base/assert.h"

namespace sluice::core {
namespace {

constexpr std::greater<> kLater;  // std's heaps have the greatest in front

bool by_position(const Delay& a, const Delay& b) { return a.position < b.position; }

}  // namespace

void DelayQueue::restore(const DelaySnapshot& snapshot) {
  SLUICE_ASSERT(!settled_ && waiting_.empty());
  saved_upto_ = snapshot.upto;
  done_ = snapshot.done;
  for (const Delay& delay : snapshot.delays)
    if (delay > done_) waiting_.push_back(delay);
  waiting_.insert(waiting_.end(), snapshot.late.begin(), snapshot.late.end());
}

void DelayQueue::push(Delay delay) {
  waiting_.push_back(delay);
  if (settled_) std::push_heap(waiting_.begin(), waiting_.end(), kLater);
  if (oldest_ || size() == 1) oldest_ = std::min(oldest_.value_or(delay.position), delay.position);
}

Delay DelayQueue::pop() {
  std::pop_heap(waiting_.begin(), waiting_.end(), kLater);
  const Delay first = waiting_.back();
  waiting_.pop_back();
  return first;
}

void DelayQueue::note(Delay delay) {
  ++changes_;
  push(delay);
}

void DelayQueue::end(const Delay& delay) {
  done_ = std::max(done_, delay);
  if (oldest_ == delay.position) oldest_.reset();
}

bool DelayQueue::met(Position at, Position reference) {
  if (!settled_) {
    ++changes_;
    met_unsettled_.push_back(reference);
    return true;
  }
  passed(at);
  if (sent_.empty() || sent_.front().ref != at || sent_.front().delay.position != reference) return false;
  ++changes_;
  end(sent_.front().delay);
  sent_.pop_front();
  return true;
}

void DelayQueue::passed(Position frontier) {
  while (!sent_.empty() && sent_.front().ref < frontier) {
    const Delay delay = sent_.front().delay;
    sent_.pop_front();
    push(delay);
  }
}

// Both sides in the order of position. Saves may overlap, and a ref may be met that means nothing here.
void DelayQueue::settle() {
  if (settled_) return;
  settled_ = true;
  std::sort(waiting_.begin(), waiting_.end(), by_position);
  std::sort(met_unsettled_.begin(), met_unsettled_.end());
  auto met = met_unsettled_.begin();
  auto kept = waiting_.begin();
  for (auto next = waiting_.begin(); next != waiting_.end(); ++next) {
    if (kept != waiting_.begin() && std::prev(kept)->position == next->position) continue;
    while (met != met_unsettled_.end() && *met < next->position) ++met;
    if (met != met_unsettled_.end() && *met == next->position)
      done_ = std::max(done_, *next);
    else
      *kept++ = *next;
  }
  waiting_.erase(kept, waiting_.end());
  std::vector<Position>().swap(met_unsettled_);
  oldest_ = waiting_.empty() ? std::nullopt : std::optional(waiting_.front().position);
  std::make_heap(waiting_.begin(), waiting_.end(), kLater);
}

std::optional<Delay> DelayQueue::due(std::uint64_t now_ns) const {
  if (!settled_ || waiting_.empty() || waiting_.front().due_ns > now_ns) return std::nullopt;
  return waiting_.front();
}

void DelayQueue::sent(Position ref) {
  SLUICE_ASSERT(settled_ && !waiting_.empty());
  SLUICE_ASSERT(sent_.empty() || sent_.back().ref < ref);
  sent_.push_back({pop(), ref});
}

std::optional<std::uint64_t> DelayQueue::next_due_ns() const {
  if (waiting_.empty()) return std::nullopt;
  if (settled_) return waiting_.front().due_ns;
  return std::min_element(waiting_.begin(), waiting_.end())->due_ns;
}

std::optional<Position> DelayQueue::oldest() {
  if (oldest_ || size() == 0) return size() == 0 ? std::nullopt : oldest_;
  Position lowest = waiting_.empty() ? sent_.front().delay.position : waiting_.front().position;
  for (const Delay& delay : waiting_) lowest = std::min(lowest, delay.position);
  for (const Sent& sent : sent_) lowest = std::min(lowest, sent.delay.position);
  oldest_ = lowest;
  return oldest_;
}

DelaySnapshot DelayQueue::snapshot(Position upto) const {
  if (!settled_) {
    DelayQueue settled = *this;
    settled.settle();
    return settled.snapshot(upto);
  }
  DelaySnapshot snapshot;
  snapshot.upto = upto;
  snapshot.done = done_;
  const auto add = [&](const Delay& delay) {
    if (delay.position >= saved_upto_ && delay > done_) snapshot.delays.push_back(delay);
    if (delay <= done_) snapshot.late.push_back(delay);
  };
  for (const Delay& delay : waiting_) add(delay);
  for (const Sent& sent : sent_) add(sent.delay);
  std::sort(snapshot.delays.begin(), snapshot.delays.end());
  std::sort(snapshot.late.begin(), snapshot.late.end());
  return snapshot;
}

void DelayQueue::saved(Position upto, std::uint64_t changes) {
  saved_upto_ = std::max(saved_upto_, upto);
  changes_saved_ = std::max(changes_saved_, changes);
}

}  // namespace sluice::core
