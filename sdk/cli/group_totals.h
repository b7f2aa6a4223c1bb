// What a group's partitions come to together. Thread safety: values and pure functions.
#pragma once

#include <cstdint>
#include <optional>

#include "sluice/group.h"

namespace sluice::cli {

struct GroupTotals {
  std::uint64_t lag_messages = 0;
  std::uint64_t lag_bytes = 0;
  Duration oldest_age{};  // of all its messages that are not settled
  std::uint64_t ready = 0;
  std::uint64_t in_flight = 0;
  std::uint64_t retrying = 0;
  std::uint64_t parked = 0;
  double produced_per_s = 0;
  double consumed_per_s = 0;
  std::optional<Duration> catch_up = Duration(0);  // of the last partition to do so; nothing: one never does
};
GroupTotals totals_of(const GroupInfo& group);

// --max-lag and --max-age of `why --check`; nothing: any.
struct LagLimits {
  std::optional<std::uint64_t> messages;
  std::optional<Duration> age;
};
// True if neither is exceeded.
bool is_within(const GroupTotals& totals, const LagLimits& limits);

}  // namespace sluice::cli
