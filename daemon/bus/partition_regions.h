// The shared memory of one partition: its control, log and bell regions, made, mapped and handed out.
//
// Owner: the bus thread. Lives as long as the partition; clients' mappings of the regions outlive it.
// Invariant: the sum of what every partition has backed never exceeds the budget.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>

#include "daemon/core/topic.h"
#include "daemon/session/bus_interface.h"
#include "shm/base/fd.h"
#include "shm/base/result.h"
#include "shm/base/types.h"
#include "shm/region/mapping.h"
#include "shm/ring/partition_memory.h"
#include "shm/ring/slot_manager.h"

namespace sluice::bus {

// Bytes of slot memory that all partitions together may back.
struct MemoryBudget {
  std::uint64_t limit = 0;
  std::uint64_t used = 0;
};

struct RegionIdentity {
  std::string name;  // "topic/partition"
  TopicId topic;
  PartitionNumber partition = 0;
  std::uint32_t handle = 0;
  Incarnation incarnation;
};

class PartitionRegions final : public ring::SlotMemory {
 public:
  // no_memory: descriptors or address space are refused, or the budget has no room for one step a partition.
  static Result<std::unique_ptr<PartitionRegions>> create(const core::TopicConfig& config,
                                                          const RegionIdentity& identity, Position start,
                                                          MemoryBudget& budget);
  // Takes over what the daemon before has made: control, log and bell, in this order. version, corrupt: it is something
  // else than it should be; nothing of it is changed.
  static Result<std::unique_ptr<PartitionRegions>> adopt(const core::TopicConfig& config,
                                                         const RegionIdentity& identity,
                                                         std::array<UniqueFd, 3> regions, MemoryBudget& budget);
  ~PartitionRegions() override;

  // Control, log and bell, to be kept over a restart; never for a client.
  std::array<int, 3> descriptors() const { return {control_fd_.get(), log_fd_.get(), bell_fd_.get()}; }

  ring::PartitionMemory memory(int daemon_wake_fd) const;
  // Descriptions of their own: control read-only; log read-write for producers, read-only for consumers; bell
  // read-write.
  Result<session::PartitionGrant> grant(session::Access access) const;

  Status back(std::uint64_t offset, std::uint64_t size) override;
  std::uint64_t in_memory(std::uint64_t offset, std::uint64_t size) const override;

 private:
  PartitionRegions(RegionIdentity identity, MemoryBudget& budget) : identity_(std::move(identity)), budget_(budget) {}
  std::uint64_t allocated() const;
  void count_allocated();

  const RegionIdentity identity_;
  MemoryBudget& budget_;
  std::uint64_t backed_ = 0;
  UniqueFd control_fd_;
  UniqueFd log_fd_;
  UniqueFd bell_fd_;
  region::Mapping control_;
  region::Mapping log_;
  region::Mapping bell_;
};

}  // namespace sluice::bus
