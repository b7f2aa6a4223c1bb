#include "sdk/partition_maps.h"

#include <bit>
#include <string>
#include <utility>

#include "shm/base/limits.h"

namespace sluice::internal {
namespace {

// The numbers that all addresses are computed from.
Status check_shape(const layout::ControlRegion& control, std::size_t log_size, const std::string& name) {
  const bool segment_fits = std::has_single_bit(control.segment_size) && control.segment_size >= kSegmentSizeMin &&
                            control.segment_size <= kSegmentSizeMax;
  if (!segment_fits || control.slots == 0 || control.slots > kSlotsMax ||
      log_size < layout::log_region_size(control.segment_size, control.slots))
    return fail(ErrorCode::corrupt, "opening " + name + ": " + std::to_string(control.slots) + " slots of " +
                                        std::to_string(control.segment_size) + " bytes do not fit its log region of " +
                                        std::to_string(log_size) + " bytes; report this");
  return {};
}

}  // namespace

Result<PartitionMapsPtr> PartitionMaps::open(const PartitionGrant& grant, TopicId topic,
                                             std::shared_ptr<SessionMemory> session, region::Access log_access) {
  region::RegionExpectation expected;
  expected.incarnation = session->incarnation();
  expected.topic = topic;
  expected.partition = grant.partition;
  expected.kind = layout::RegionKind::control;
  SLUICE_ASSIGN(region::Region control, region::open_region(grant.control.get(), region::Access::read_only, expected));
  expected.kind = layout::RegionKind::log;
  SLUICE_ASSIGN(region::Region log, region::open_region(grant.log.get(), log_access, expected));
  expected.kind = layout::RegionKind::bell;
  SLUICE_ASSIGN(region::Region bell, region::open_region(grant.bell.get(), region::Access::read_write, expected));
  auto* control_region = control.mapping.at<layout::ControlRegion>();
  SLUICE_TRY(check_shape(*control_region, log.mapping.size(), region::region_name(expected)));

  std::shared_ptr<PartitionMaps> maps(new PartitionMaps());
  maps->memory_ = ring::PartitionMemory::view(control_region, log.mapping.at<layout::LogRegionHeader>(),
                                              bell.mapping.at<layout::BellRegion>(), session->wake_fd());
  maps->flags_ = control_region->flags;
  maps->topic_ = topic;
  maps->partition_ = grant.partition;
  maps->control_ = std::move(control.mapping);
  maps->log_ = std::move(log.mapping);
  maps->bell_ = std::move(bell.mapping);
  maps->session_ = std::move(session);
  return PartitionMapsPtr(std::move(maps));
}

}  // namespace sluice::internal
