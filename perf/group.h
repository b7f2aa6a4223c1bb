// What a consumer group costs: a member that acks each message, beside a bare reader of the same topic in the same run.
#pragma once

#include <cstdint>
#include <string>

#include "shm/base/result.h"

namespace sluice::perf {

struct GroupOptions {
  std::string socket;       // empty: the default
  std::uint32_t size = 64;  // bytes of payload
  double seconds = 1;       // of each measurement
};
// Prints a line a setting. Makes a topic and groups of its own and deletes them.
Status print_group(const GroupOptions& options);

}  // namespace sluice::perf
