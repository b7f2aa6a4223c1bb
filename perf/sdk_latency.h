// From send() to the reader's hands over the public SDK, beside the travel of one cache line.
#pragma once

#include <cstdint>
#include <string>

#include "shm/base/result.h"

namespace sluice::perf {

struct LatencyOptions {
  std::string socket;          // empty: the default
  std::uint32_t size = 64;     // bytes of payload, at least 8
  std::uint32_t rate = 20000;  // messages a second
  double seconds = 2;
};
// Prints a line a setting. Makes a topic of its own and deletes it.
Status print_latency(const LatencyOptions& options);

}  // namespace sluice::perf
