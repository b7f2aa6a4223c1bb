// The epochs of a group's messages, as a member looks them up: asked of the daemon once for each partition, and again
// once a forced seek has begun a new one.
//
// Owner: one ConsumerCore, on the consumer's thread.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "sdk/bus_link.h"
#include "sdk/control_types.h"
#include "sluice/consumer.h"

namespace sluice::internal {

class GroupEpochs {
 public:
  // `latest`: the group's, lower half, as the member's region says behind the delivery that is asked about; 0: it was
  // never forced. Errors: those of the control call.
  Result<std::uint64_t> of(BusLink& link, const std::string& group, const Origin& origin, std::uint32_t latest);

 private:
  std::uint32_t latest_ = 0;
  std::map<std::pair<TopicId, PartitionNumber>, std::vector<EpochStart>> starts_;  // since latest_
};

}  // namespace sluice::internal
