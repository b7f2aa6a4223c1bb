#include "sdk/cli/group_totals.h"

#include <algorithm>

namespace sluice::cli {

GroupTotals totals_of(const GroupInfo& group) {
  GroupTotals sum;
  for (const GroupPartitionInfo& p : group.partitions) {
    sum.lag_messages += p.lag_messages;
    sum.lag_bytes += p.lag_bytes;
    sum.oldest_age = std::max(sum.oldest_age, p.oldest_age);
    sum.ready += p.ready;
    sum.in_flight += p.in_flight;
    sum.retrying += p.retrying;
    sum.parked += p.parked;
    sum.produced_per_s += p.produced_per_s;
    sum.consumed_per_s += p.consumed_per_s;
    if (!p.catch_up) {
      sum.catch_up.reset();
    } else if (sum.catch_up) {
      sum.catch_up = std::max(*sum.catch_up, *p.catch_up);
    }
  }
  return sum;
}

bool is_within(const GroupTotals& totals, const LagLimits& limits) {
  if (limits.messages && totals.lag_messages > *limits.messages) return false;
  return !limits.age || totals.oldest_age <= *limits.age;
}

}  // namespace sluice::cli
