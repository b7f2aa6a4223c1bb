#include "tests/sim/transactions/clock.h"

#include <ctime>

#include "shm/base/clock.h"

namespace sluice {
namespace {

constexpr std::uint64_t kEpochNs = 1'700'000'000'000'000'000;
std::uint64_t now_ns = 0;

}  // namespace

std::uint64_t realtime_ns() { return kEpochNs + now_ns; }
std::uint64_t realtime_coarse_ns() { return kEpochNs + now_ns; }
std::uint64_t monotonic_ns() { return now_ns; }
std::uint64_t monotonic_coarse_ns() { return now_ns; }

namespace transactions::sim {

void set_clock(std::uint64_t monotonic) { now_ns = monotonic; }
void advance_clock(std::uint64_t ns) { now_ns += ns; }

}  // namespace transactions::sim
}  // namespace sluice

// A start waits so for the writes of a daemon that was killed.
extern "C" int nanosleep(const timespec* request, timespec*) {
  sluice::transactions::sim::advance_clock(static_cast<std::uint64_t>(request->tv_sec) * 1'000'000'000u +
                                           static_cast<std::uint64_t>(request->tv_nsec));
  return 0;
}
