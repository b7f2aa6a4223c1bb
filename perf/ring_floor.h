// What the machine gives at best, measured beside every result: the travel of one cache line between the two cores, and
// the copying of memory.
//
// Used by two processes over shared memory, each pinned to its core. Thread safety: one thread on each side.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "shm/base/limits.h"

namespace sluice::perf {

// Cycles of the time stamp counter, and how many there are in a nanosecond.
std::uint64_t cycles();
double cycles_per_ns();

struct alignas(kWriterDistance) PingPong {
  std::atomic<std::uint32_t> turn;
};

struct Percentiles {
  double p50_ns = 0;
  double p99_ns = 0;
};
// Sorts `samples` (in cycles).
Percentiles percentiles(std::vector<std::uint64_t>& samples);

// Raw round trip of one line, `rounds` times: one side calls ping, the other pong. The line is left as it was.
Percentiles ping(PingPong& line, std::uint32_t rounds);
void pong(PingPong& line, std::uint32_t rounds);

// Bytes per second that memcpy moves between two buffers of 1 MiB.
double copy_bytes_per_s();

}  // namespace sluice::perf
