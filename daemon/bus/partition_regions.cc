#include "daemon/bus/partition_regions.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

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

Result<std::unique_ptr<PartitionRegions>> PartitionRegions::adopt(const core::TopicConfig& config,
                                                                  const RegionIdentity& identity,
                                                                  std::array<UniqueFd, 3> fds, MemoryBudget& budget) {
  std::unique_ptr<PartitionRegions> regions(new PartitionRegions(identity, budget));
  constexpr std::array kKinds = {layout::RegionKind::control, layout::RegionKind::log, layout::RegionKind::bell};
  const std::array mappings = {&regions->control_, &regions->log_, &regions->bell_};
  for (std::size_t i = 0; i < fds.size(); ++i) {
    SLUICE_ASSIGN(region::Region region,
                  region::open_region(fds[i].get(), region::Access::read_write,
                                      {kKinds[i], identity.incarnation, identity.topic, identity.partition, {}}));
    if (region.info.handle != identity.handle)
      return fail(ErrorCode::corrupt, "adopting the memory of " + identity.name + ": it has handle " +
                                          std::to_string(region.info.handle) + ", not " +
                                          std::to_string(identity.handle));
    *mappings[i] = std::move(region.mapping);
  }
  const auto* control = regions->control_.at<layout::ControlRegion>();
  if (control->segment_size != config.segment_size || control->slots != config.slots ||
      regions->log_.size() != layout::log_region_size(config.segment_size, config.slots))
    return fail(ErrorCode::corrupt,
                "adopting the memory of " + identity.name + ": its segments and slots are not those of the topic");
  regions->control_fd_ = std::move(fds[0]);
  regions->log_fd_ = std::move(fds[1]);
  regions->bell_fd_ = std::move(fds[2]);
  regions->count_allocated();
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
  count_allocated();
  return {};
}

std::uint64_t PartitionRegions::in_memory(std::uint64_t offset, std::uint64_t size) const {
  const off_t hole = ::lseek(log_fd_.get(), static_cast<off_t>(offset), SEEK_HOLE);
  return hole < 0 ? 0 : std::min(static_cast<std::uint64_t>(hole) - offset, size);
}

// Of slots; the page in front of them is not counted.
std::uint64_t PartitionRegions::allocated() const {
  struct stat status {};
  if (::fstat(log_fd_.get(), &status) != 0) return backed_;
  const std::uint64_t bytes = static_cast<std::uint64_t>(status.st_blocks) * 512;
  return bytes - std::min(bytes, layout::kLogHeaderSize);
}

// What the kernel says is true also of memory that another daemon has backed.
void PartitionRegions::count_allocated() {
  const std::uint64_t now = allocated();
  budget_.used += now - backed_;
  backed_ = now;
}

}  // namespace sluice::bus
