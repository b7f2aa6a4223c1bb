// What the disk gives at best, measured beside every durable result, on a file of its own in the same file system.
#pragma once

#include <cstdint>
#include <string>

#include "shm/base/result.h"

namespace sluice::perf {

struct DiskFloor {
  double sequential_bytes_per_s = 0;  // O_DIRECT writes of 1 MiB over io_uring, two in flight, one sync at the end
  // The same into preallocated blocks that were never written, each 16 MiB synced meanwhile: what the file system
  // leaves of it for a log that grows.
  double growing_bytes_per_s = 0;
  double sync_4k_p50_ns = 0;    // O_DIRECT write of 4 KiB and fdatasync, over blocks that were written before
  double sync_256k_p50_ns = 0;  // the same with 256 KiB
};

// Writes and removes a file in `directory`. Errors of the file system come as they are.
Result<DiskFloor> measure_disk_floor(const std::string& directory, double seconds);

}  // namespace sluice::perf
