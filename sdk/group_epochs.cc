#include "sdk/group_epochs.h"

namespace sluice::internal {

Result<std::uint64_t> GroupEpochs::of(BusLink& link, const std::string& group, const Origin& origin,
                                      std::uint32_t latest) {
  if (latest == 0) return std::uint64_t{0};
  if (latest != latest_) starts_.clear();
  latest_ = latest;
  auto found = starts_.find({origin.topic, origin.partition});
  if (found == starts_.end()) {
    SLUICE_ASSIGN(std::vector<EpochStart> starts, link.group_epochs(group, origin.topic, origin.partition));
    found = starts_.emplace(std::pair(origin.topic, origin.partition), std::move(starts)).first;
  }
  std::uint64_t epoch = 0;
  for (const EpochStart& start : found->second)
    if (start.from <= origin.position) epoch = start.epoch;
  return epoch;
}

}  // namespace sluice::internal
