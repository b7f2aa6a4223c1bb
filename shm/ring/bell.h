// The bell of a partition: wakes those who sleep, and costs those who don't one load of a line that rarely changes.
//
// Protocol (checked by tests/model, scenarios WAKE and ROOM)
//   sleeper   1. read count  2. raise the flag  3. membarrier  4. look again from the start  5. futex_wait on that
//   count waker     1. publish (commit, prepared, abort)  2. read flags  3. if up: take it down by exchange, bump
//   count, wake all
// Step 3 of the sleeper against 1–2 of the waker: either the sleeper's second look sees what was published, or the
// waker sees the flag. The waker's publish-then-read needs store-load order: it is a locked instruction, or the
// sleeper's membarrier provides it (clients that registered; the others exchange). All waiters are woken: consumers and
// producers sleep on one bell, and waking one may wake the wrong one.
//
// The daemon sleeps on descriptors: its flags are in the same word, and one eventfd wakes it.
// Thread safety: all members may be called from any thread and process. Owns nothing.
#pragma once

#include <cstdint>

#include "shm/layout/regions.h"
#include "shm/ring/partition_memory.h"

namespace sluice::ring {

class Bell {
 public:
  Bell(layout::BellRegion* region, int daemon_wake_fd) : region_(region), daemon_wake_fd_(daemon_wake_fd) {}
  explicit Bell(const PartitionMemory& memory) : Bell(memory.bell, memory.daemon_wake_fd) {}

  // After a commit: wakes sleepers, and the daemon if it sleeps.
  void committed() const { ring_if(layout::kBellSleepers | layout::kBellDaemon); }
  // After something that only sleepers wait for (the daemon publishing room, an abort).
  void published() const { ring_if(layout::kBellSleepers); }
  // After a death, on every partition that the dead could write to: wakes all, whether or not the flag is up. The dead
  // may have taken it down and not come to the wake.
  void ring_for_dead() const;
  // By who needs the daemon now: out of room, crossing a segment, waiting for `durable`.
  void call_daemon() const { ring_if(layout::kBellDaemon | layout::kBellDaemonNap); }
  // By who would be helped if the daemon looked, when it sleeps: a reader halted at a claim.
  void nudge_daemon() const { ring_if(layout::kBellDaemon); }

  // Steps 1–3 of a sleeper. Returns the count to sleep on.
  std::uint32_t arm() const;
  // The same for a sleeper on several bells: announce() on each (steps 1–2), then barrier() once (step 3).
  std::uint32_t announce() const;
  static void barrier();
  // Step 5. At most timeout_ns (callers bound it by kSleepNsMax, or kSleepWithoutMembarrierNsMax without membarrier).
  void sleep(std::uint32_t count, std::uint64_t timeout_ns) const;
  const std::atomic<std::uint32_t>& count_word() const { return region_->count; }

  // The daemon's own step 2; its membarrier comes once for all partitions.
  void daemon_arms(std::uint32_t flag) const { region_->flags.fetch_or(flag, std::memory_order_seq_cst); }
  void daemon_disarms() const {
    region_->flags.fetch_and(~(layout::kBellDaemon | layout::kBellDaemonNap), std::memory_order_relaxed);
  }

 private:
  void ring_if(std::uint32_t mask) const {
    // relaxed: ordered behind the caller's publish by its locked instruction or the sleeper's membarrier (see above).
    if ((region_->flags.load(std::memory_order_relaxed) & mask) != 0) [[unlikely]]
      ring(mask);
  }
  void ring(std::uint32_t mask) const;

  layout::BellRegion* region_;
  int daemon_wake_fd_;
};

// Sleeping until a durable watermark moves; its futex word is in the control region, which only the daemon can write.
class DurableWait {
 public:
  explicit DurableWait(const PartitionMemory& memory) : memory_(&memory) {}
  // Waits until durable ≥ position or the gate is not open or the deadline (monotonic ns) passes. True if it is
  // durable.
  bool wait(Position position, std::uint64_t deadline_ns) const;
  // The same by hand, for a sleeper on several words: raises the flag (with a full fence behind it) and returns the
  // count of ControlRegion::durable_count to sleep on, after a second look.
  std::uint32_t announce() const;
  // The daemon, after it has moved `durable`.
  static void publish(const PartitionMemory& memory, Position durable);

 private:
  bool spin(Position position, std::uint64_t deadline_ns) const;

  const PartitionMemory* memory_;
};

// False once membarrier was refused: sleeps are bounded by kSleepWithoutMembarrierNsMax then.
std::uint64_t sleep_bound_ns();

}  // namespace sluice::ring
