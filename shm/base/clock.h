// The clocks that the bus reads, each with its cost. All in nanoseconds. Thread safety: pure functions.
#pragma once

#include <cstdint>

namespace sluice {

// Wall clock, ns since the epoch. About 25 ns a call.
std::uint64_t realtime_ns();
// Wall clock at the kernel's tick (1–4 ms), ns since the epoch. About 5 ns a call.
std::uint64_t realtime_coarse_ns();
// Never goes back, not related to wall time.
std::uint64_t monotonic_ns();
std::uint64_t monotonic_coarse_ns();

// For code that is also run on simulated time.
class Clock {
 public:
  virtual ~Clock() = default;
  virtual std::uint64_t now_ns() const = 0;   // monotonic
  virtual std::uint64_t wall_ns() const = 0;  // since the epoch
};

class SystemClock final : public Clock {
 public:
  std::uint64_t now_ns() const override { return monotonic_ns(); }
  std::uint64_t wall_ns() const override { return realtime_ns(); }
};

}  // namespace sluice
