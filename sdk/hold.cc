#include "sdk/hold.h"

#include <algorithm>

namespace sluice::internal {
namespace {
// Free holds beyond these give their pin cell back to the session: others may need it.
constexpr std::size_t kPinsKeptFree = 4;
}  // namespace

void retain(Hold* hold) {
  // relaxed: whoever copies a reference has one already.
  if (hold != nullptr) hold->references.fetch_add(1, std::memory_order_relaxed);
}

void release(Hold* hold) {
  // acq_rel: all that the others read through it comes before the pin is cleared.
  if (hold != nullptr && hold->references.fetch_sub(1, std::memory_order_acq_rel) == 1) hold->pool->give_back(hold);
}

void HoldPool::give_back(Hold* hold) {
  // release: pairs with the acquire in the reclaimer's look at the pins; our reads of the slot come before its reuse.
  if (hold->pin) hold->pin.cell().store(0, std::memory_order_release);
  hold->memory.reset();
  hold->file.reset();
  Hold* top = returned_.load(std::memory_order_relaxed);
  do {
    hold->next = top;
    // release: pairs with the acquire in collect().
  } while (!returned_.compare_exchange_weak(top, hold, std::memory_order_release, std::memory_order_relaxed));
  leave();
}

// The stack is only ever taken as a whole, so that no element can come back to its top unnoticed (ABA).
void HoldPool::collect() {
  for (Hold* hold = returned_.exchange(nullptr, std::memory_order_acquire); hold != nullptr; hold = hold->next) {
    if (free_.size() >= kPinsKeptFree) hold->pin.reset();
    free_.push_back(hold);
  }
}

Result<Hold*> HoldPool::take(const std::shared_ptr<SessionMemory>& session) {
  if (returned_.load(std::memory_order_relaxed) != nullptr) collect();
  Hold* hold = nullptr;
  if (!free_.empty()) {
    // One that has what is needed, or else the last.
    auto found = std::find_if(free_.begin(), free_.end(), [&](Hold* candidate) {
      return session != nullptr && candidate->pin && candidate->pin.memory() == session;
    });
    if (found == free_.end()) found = free_.end() - 1;
    std::swap(*found, free_.back());
    hold = free_.back();
  } else {
    if (all_.size() >= kHoldsMax)
      return fail(ErrorCode::quota, "reading on: living messages of this reader hold " + std::to_string(kHoldsMax) +
                                        " segments and files already; destroy messages once they are done with");
    all_.push_back(std::make_unique<Hold>());
    hold = all_.back().get();
    hold->pool = this;
    free_.reserve(all_.size());
    free_.push_back(hold);
  }
  if (session != nullptr && (!hold->pin || hold->pin.memory() != session)) {
    auto lease = PinLease::take(session);
    if (!lease)
      return fail(lease.error().code(), lease.error().context() +
                                            "; messages that are kept hold their segments in memory: destroy them once "
                                            "they are done with, or copy their bytes");
    hold->pin = std::move(*lease);
  }
  free_.pop_back();
  hold->references.store(1, std::memory_order_relaxed);
  users_.fetch_add(1, std::memory_order_relaxed);
  return hold;
}

std::string_view HoldPool::keep_name(std::string_view name) { return names_.emplace_back(name); }

void HoldPool::close() { leave(); }

void HoldPool::leave() {
  // acq_rel: the last one to leave sees all that the others did with the pool.
  if (users_.fetch_sub(1, std::memory_order_acq_rel) == 1) delete this;
}

}  // namespace sluice::internal
