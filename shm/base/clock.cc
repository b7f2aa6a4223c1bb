#include "shm/base/clock.h"

#include <ctime>

namespace sluice {
namespace {
std::uint64_t read_clock(clockid_t id) {
  timespec t;
  clock_gettime(id, &t);
  return static_cast<std::uint64_t>(t.tv_sec) * 1'000'000'000u + static_cast<std::uint64_t>(t.tv_nsec);
}
}  // namespace

std::uint64_t realtime_ns() { return read_clock(CLOCK_REALTIME); }
std::uint64_t realtime_coarse_ns() { return read_clock(CLOCK_REALTIME_COARSE); }
std::uint64_t monotonic_ns() { return read_clock(CLOCK_MONOTONIC); }
std::uint64_t monotonic_coarse_ns() { return read_clock(CLOCK_MONOTONIC_COARSE); }

}  // namespace sluice
