#include "shm/ring/bell.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <thread>

#include "shm/base/clock.h"
#include "shm/base/limits.h"
#include "shm/ring/adaptive_lag.h"
#include "shm/ring/futex.h"
#include "shm/ring/membarrier.h"

namespace sluice::ring {
namespace {
constexpr std::uint64_t kDurableSpinNs = 200'000;
constexpr std::uint32_t kPausesPerLook = 32;
std::atomic<bool> membarrier_refused{false};
}  // namespace

std::uint64_t sleep_bound_ns() {
  return membarrier_refused.load(std::memory_order_relaxed) ? kSleepWithoutMembarrierNsMax : kSleepNsMax;
}

void Bell::ring(std::uint32_t mask) const {
  // acq_rel: of several wakers one takes each flag down; pairs with the fetch_or of arm().
  const std::uint32_t taken = region_->flags.fetch_and(~mask, std::memory_order_acq_rel) & mask;
  if ((taken & layout::kBellSleepers) != 0) {
    // release: pairs with the acquire in arm(), so that a sleeper that reads the new count sees what was published.
    region_->count.fetch_add(1, std::memory_order_release);
    futex_wake_all(region_->count);
  }
  if ((taken & (layout::kBellDaemon | layout::kBellDaemonNap)) != 0 && daemon_wake_fd_ >= 0) {
    const std::uint64_t one = 1;
    // A full eventfd counter means that the daemon is awake already; there is nothing to do about other errors here,
    // and the daemon's own sleep is bounded.
    [[maybe_unused]] const ssize_t written = ::write(daemon_wake_fd_, &one, sizeof one);
  }
}

void Bell::ring_for_dead() const {
  region_->count.fetch_add(1, std::memory_order_release);  // pairs with the acquire in arm()
  futex_wake_all(region_->count);
}

std::uint32_t Bell::announce() const {
  const std::uint32_t count = region_->count.load(std::memory_order_acquire);  // pairs with the release in ring()
  region_->flags.fetch_or(layout::kBellSleepers, std::memory_order_seq_cst);
  return count;
}

void Bell::barrier() {
  if (!membarrier_all()) membarrier_refused.store(true, std::memory_order_relaxed);
}

std::uint32_t Bell::arm() const {
  const std::uint32_t count = announce();
  barrier();
  return count;
}

void Bell::sleep(std::uint32_t count, std::uint64_t timeout_ns) const {
  futex_wait(region_->count, count, std::min(timeout_ns, sleep_bound_ns()));
}

// One waiter spins for as long as a quick device takes, so that a lone sender does not pay for a sleep and a wake-up;
// the others sleep at once. True if it became durable meanwhile.
bool DurableWait::spin(Position position, std::uint64_t deadline_ns) const {
  std::atomic<std::uint32_t>& spinner = memory_->bell->durable_spinner;
  std::uint32_t nobody = 0;
  if (!spinner.compare_exchange_strong(nobody, 1, std::memory_order_relaxed)) return false;
  const std::uint64_t end = std::min(deadline_ns, monotonic_ns() + kDurableSpinNs);
  bool durable = false;
  do {
    for (std::uint32_t i = 0; i < kPausesPerLook && !durable; ++i) {
      cpu_pause();
      durable = memory_->control->durable.load(std::memory_order_acquire) >= position.value;  // pairs with publish()
    }
    // Whoever works for this very sync may want this processor.
    if (!durable) std::this_thread::yield();
  } while (!durable && monotonic_ns() < end);
  spinner.store(0, std::memory_order_relaxed);
  return durable;
}

bool DurableWait::wait(Position position, std::uint64_t deadline_ns) const {
  layout::ControlRegion& control = *memory_->control;
  if (control.durable.load(std::memory_order_acquire) >= position.value || spin(position, deadline_ns)) return true;
  for (;;) {
    const std::uint32_t count = control.durable_count.load(std::memory_order_acquire);  // pairs with publish()
    if (control.durable.load(std::memory_order_acquire) >= position.value) return true;
    if (control.gate.load(std::memory_order_acquire) != static_cast<std::uint32_t>(layout::Gate::open)) return false;
    memory_->bell->durable_waiters.store(1, std::memory_order_seq_cst);
    // seq_cst: between raising the flag above and the second look here; pairs with the fence in publish().
    std::atomic_thread_fence(std::memory_order_seq_cst);
    if (control.durable.load(std::memory_order_acquire) >= position.value) return true;
    const std::uint64_t now = monotonic_ns();
    if (now >= deadline_ns) return false;
    futex_wait(control.durable_count, count, std::min(deadline_ns - now, kSleepNsMax));
  }
}

std::uint32_t DurableWait::announce() const {
  const std::uint32_t count = memory_->control->durable_count.load(std::memory_order_acquire);  // pairs with publish()
  memory_->bell->durable_waiters.store(1, std::memory_order_seq_cst);
  // seq_cst: between raising the flag and the caller's second look; pairs with the fence in publish().
  std::atomic_thread_fence(std::memory_order_seq_cst);
  return count;
}

void DurableWait::publish(const PartitionMemory& memory, Position durable) {
  layout::ControlRegion& control = *memory.control;
  control.durable.store(durable.value, std::memory_order_release);  // pairs with the acquires in wait()
  // seq_cst: publish, then read the flag; pairs with the fence in wait().
  std::atomic_thread_fence(std::memory_order_seq_cst);
  std::atomic<std::uint32_t>& flag = memory.bell->durable_waiters;
  // Taken down before the count moves: who raises it later has the new count, or is woken below.
  const bool waiters = flag.load(std::memory_order_relaxed) != 0 && flag.exchange(0, std::memory_order_acq_rel) != 0;
  control.durable_count.fetch_add(1, std::memory_order_release);  // pairs with the acquire in wait()
  if (waiters) futex_wake_all(control.durable_count);
}

}  // namespace sluice::ring
