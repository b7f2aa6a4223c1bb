// What a transaction costs: begin, a half that is durable, nothing done locally, commit; beside two synchronous writes
// of the same disk and plain sends to a sync topic, in the same run.
#pragma once

#include <cstdint>
#include <string>

#include "shm/base/result.h"

namespace sluice::perf {

struct TransactionOptions {
  std::string socket;       // empty: the default
  std::string directory;    // for the disk's floor; empty: beside the daemon's data directory
  std::uint32_t size = 64;  // bytes of payload
  double seconds = 2;       // of each measurement
};
// Prints a line a setting. Makes a topic of its own and deletes it.
Status print_transaction(const TransactionOptions& options);

}  // namespace sluice::perf
