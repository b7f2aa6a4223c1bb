// How fast messages become durable over the public SDK, beside what the disk gives.
#pragma once

#include <cstdint>
#include <string>

#include "shm/base/result.h"

namespace sluice::perf {

struct DurableOptions {
  std::string socket;         // empty: the default
  std::string directory;      // for the disk's floor; empty: beside the daemon's data directory
  std::uint32_t size = 1024;  // bytes of payload
  double seconds = 5;         // of each measurement
};
// Prints a line a setting. Makes topics of its own and deletes them.
Status print_durable(const DurableOptions& options);

}  // namespace sluice::perf
