#include "sdk/partition_opener.h"

#include <algorithm>
#include <string>

namespace sluice::internal {
namespace {

Result<std::vector<OpenedPartition>> map_all(std::string_view topic, ReaderGrant& grant,
                                             std::vector<PartitionGrant> granted) {
  std::vector<OpenedPartition> opened;
  for (PartitionGrant& one : granted) {
    SLUICE_ASSIGN(PartitionMapsPtr maps,
                  PartitionMaps::open(one, grant.topic, grant.memory, region::Access::read_only));
    one = {};  // its descriptors are closed
    const PartitionNumber number = maps->partition();
    const auto range = std::find_if(grant.ranges.begin(), grant.ranges.end(),
                                    [&](const PartitionRange& r) { return r.partition == number; });
    if (range == grant.ranges.end())
      return fail(ErrorCode::internal, "opening partition " + std::to_string(number) + " of topic " +
                                           std::string(topic) + ": the daemon named no range for it; report this");
    opened.push_back({std::move(maps), *range, {}});
    for (ReaderCursor& cursor : grant.cursors) {
      if (cursor.partition == number) opened.back().cursor = std::move(cursor.cell);
    }
  }
  return opened;
}

}  // namespace

Result<OpenedReader> open_for_reading(BusLink& link, std::string_view topic,
                                      const std::vector<PartitionNumber>& partitions, bool cursors) {
  // Mapped once the grant's session and topic id are known.
  std::vector<PartitionGrant> granted;
  SLUICE_ASSIGN(ReaderGrant grant, link.open_reader(topic, partitions, cursors, [&](PartitionGrant one) -> Status {
    granted.push_back(std::move(one));
    return {};
  }));
  for (PartitionGrant& one : grant.partitions) granted.push_back(std::move(one));
  OpenedReader opened{grant.id, grant.memory->generation(), grant.partition_count, {}};
  auto mapped = map_all(topic, grant, std::move(granted));
  if (!mapped) {
    static_cast<void>(link.close_reader(opened.id, opened.generation).has_value());
    return fail(std::move(mapped).error());
  }
  opened.partitions = std::move(*mapped);
  return opened;
}

}  // namespace sluice::internal
