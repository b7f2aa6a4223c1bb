#include "daemon/bus/partition_regions.h"

#include "shm/base/limits.h"
#include "shm/layout/regions.h"
#include "shm/region/memfd.h"
#include "shm/region/region.h"

namespace sluice::bus {
namespace {

struct MappedRegion {
  UniqueFd fd;
  region::Mapping mapping;
};

Result<MappedRegion> make_region(const std::string& what, std::uint64_t size) {
  MappedRegion made;
  SLUICE_ASSIGN(made.fd, region::create_memfd("sluice:" + what, size));
  SLUICE_ASSIGN(made.mapping, region::Mapping::map(made.fd.get(), region::Access::read_write, what));
  return made;
}

std::uint32_t flags_of(const core::TopicConfig& config) {
  std::uint32_t flags = 0;
  if (config.checksum) flags |= layout::kTopicFlagChecksums;
  if (config.durability != core::Durability::volatile_) flags |= layout::kTopicFlagDurable;
  if (config.durability == core::Durability::sync) flags |= layout::kTopicFlagSync;
  if (config.claim_deadline_ns == 0) flags |= layout::kTopicFlagPlainCommit;
  if (config.visibility == core::Visibility::durable) flags |= layout::kTopicFlagVisibleDurable;
  if (config.overflow == core::Overflow::drop_oldest) flags |= layout::kTopicFlagDropOldest;
  return flags;
}

void write_constants(layout::ControlRegion& control, const core::TopicConfig& config, Position start) {
  control.segment_size = config.segment_size;
  control.slots = config.slots;
  control.flags = flags_of(config);
  control.time_mode = static_cast<layout::TimeMode>(config.time_mode);
  control.message_size_max = config.segment_size / kMessageSegmentFraction;
  control.claim_deadline_ns = config.claim_deadline_ns;
  control.start_position = start.value;
}

}  // namespace

Result<std::unique_ptr<PartitionRegions>> PartitionRegions::create(const core::TopicConfig& config,
                                                                   const RegionIdentity& identity, Position start,
                                                                   MemoryBudget& budget) {
  std::unique_ptr<PartitionRegions> regions(new PartitionRegions(identity, budget));
  const std::uint64_t log_size = layout::log_region_size(config.segment_size, config.slots);
  SLUICE_ASSIGN(MappedRegion control, make_region(identity.name + ":control", sizeof(layout::ControlRegion)));
  SLUICE_ASSIGN(MappedRegion log, make_region(identity.name + ":log", log_size));
  SLUICE_ASSIGN(MappedRegion bell, make_region(identity.name + ":bell", sizeof(layout::BellRegion)));

  write_constants(*control.mapping.at<layout::ControlRegion>(), config, start);
  region::RegionInfo info{layout::RegionKind::control,
                          identity.topic,
                          identity.partition,
                          identity.handle,
                          identity.incarnation,
                          sizeof(layout::ControlRegion),
                          {}};
  region::initialise_header(control.mapping, info);
  info.kind = layout::RegionKind::log;
  info.size = log_size;
  region::initialise_header(log.mapping, info);
  info.kind = layout::RegionKind::bell;
  info.size = sizeof(layout::BellRegion);
  region::initialise_header(bell.mapping, info);

  regions->control_fd_ = std::move(control.fd);
  regions->log_fd_ = std::move(log.fd);
  regions->bell_fd_ = std::move(bell.fd);
  regions->control_ = std::move(control.mapping);
  regions->log_ = std::move(log.mapping);
  regions->bell_ = std::move(bell.mapping);
  return regions;
}

PartitionRegions::~PartitionRegions() { budget_.used -= backed_; }

ring::PartitionMemory PartitionRegions::memory(int daemon_wake_fd) const {
  return ring::PartitionMemory::view(control_.at<layout::ControlRegion>(), log_.at<layout::LogRegionHeader>(),
                                     bell_.at<layout::BellRegion>(), daemon_wake_fd);
}

Result<session::PartitionGrant> PartitionRegions::grant(session::Access access) const {
  session::PartitionGrant grant;
  grant.partition = identity_.partition;
  SLUICE_ASSIGN(grant.control, region::reopen_read_only(control_fd_.get(), identity_.name + ":control"));
  if (access == session::Access::produce) {
    SLUICE_ASSIGN(grant.log, region::reopen_read_write(log_fd_.get(), identity_.name + ":log"));
  } else {
    SLUICE_ASSIGN(grant.log, region::reopen_read_only(log_fd_.get(), identity_.name + ":log"));
  }
  SLUICE_ASSIGN(grant.bell, region::reopen_read_write(bell_fd_.get(), identity_.name + ":bell"));
  return grant;
}

Status PartitionRegions::back(std::uint64_t offset, std::uint64_t size) {
  if (budget_.used + size > budget_.limit) {
    return fail(ErrorCode::no_memory, "backing " + std::to_string(size) + " bytes of slots of " + identity_.name +
                                          ": the memory budget of " + std::to_string(budget_.limit) +
                                          " bytes is used up; raise memory_budget or use fewer slots");
  }
  SLUICE_TRY(region::allocate(log_fd_.get(), offset, size, identity_.name + ":log"));
  budget_.used += size;
  backed_ += size;
  return {};
}

}  // namespace sluice::bus
