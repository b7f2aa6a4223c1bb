// One partition's regions as this process has mapped them. Shared by all that read or write there: the last one unmaps.
//
// Invariant: what open() returns was checked (seals, header, sizes), so that PartitionMemory's arithmetic stays inside
// of the mappings whatever a peer writes. Thread safety: constant after construction.
#pragma once

#include <algorithm>
#include <memory>

#include "sdk/control_types.h"
#include "shm/base/limits.h"
#include "shm/base/result.h"
#include "shm/region/region.h"
#include "shm/ring/partition_memory.h"

namespace sluice::internal {

class PartitionMaps {
 public:
  // Maps what was granted. `session` keeps the daemon's eventfd open as long as these mappings. corrupt (a region that
  // is not what it should be), no_memory, version.
  static Result<std::shared_ptr<const PartitionMaps>> open(const PartitionGrant& grant, TopicId topic,
                                                           std::shared_ptr<SessionMemory> session,
                                                           region::Access log_access);

  const ring::PartitionMemory& memory() const { return memory_; }
  const layout::ControlRegion& control() const { return *memory_.control; }
  // How many partitions the topic has by now: a hint that costs no call, the next grant decides.
  std::uint32_t topic_partitions() const {
    return std::min(memory_.control->topic_partitions.load(std::memory_order_relaxed), kPartitionsPerTopicMax);
  }
  std::uint64_t message_ttl_ns() const { return memory_.control->message_ttl_ns.load(std::memory_order_relaxed); }
  PartitionNumber partition() const { return partition_; }
  TopicId topic() const { return topic_; }
  Incarnation incarnation() const { return session_->incarnation(); }
  const std::shared_ptr<SessionMemory>& session() const { return session_; }
  bool has_flag(std::uint32_t flag) const { return (flags_ & flag) != 0; }

 private:
  PartitionMaps() = default;

  region::Mapping control_;
  region::Mapping log_;
  region::Mapping bell_;
  std::shared_ptr<SessionMemory> session_;
  ring::PartitionMemory memory_;
  TopicId topic_;
  PartitionNumber partition_ = 0;
  std::uint32_t flags_ = 0;
};
using PartitionMapsPtr = std::shared_ptr<const PartitionMaps>;

}  // namespace sluice::internal
