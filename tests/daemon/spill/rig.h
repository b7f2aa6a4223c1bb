// What a spill::Partition needs from around it, in one process and with handles to turn: its regions on the heap, pins,
// the memory behind the slots, who lives.
//
// Owner: one test, or one life of a simulation (tests/sim). Lifetimes: what is handed out points into the rig.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <set>
#include <span>

#include "daemon/core/topic.h"
#include "daemon/spill/environment.h"
#include "shm/layout/regions.h"
#include "shm/ring/partition_memory.h"
#include "tests/shm/ring/test_partition.h"

namespace sluice::spill::test {

using ring::test::CountedMemory;
using ring::test::MemoryKind;
using ring::test::Pages;
using ring::test::PinArray;

class FakeAttached final : public Attached {
 public:
  bool is_producer_alive(ProducerId producer) const override { return alive.contains(producer.value); }
  std::optional<Position> reader_cursor_min(std::uint32_t) const override { return cursor; }

  std::set<std::uint32_t> alive;
  std::optional<Position> cursor;
};

inline std::uint32_t flags_of(const core::TopicConfig& config) {
  std::uint32_t flags = 0;
  if (config.checksum) flags |= layout::kTopicFlagChecksums;
  if (config.durability != core::Durability::volatile_) flags |= layout::kTopicFlagDurable;
  if (config.durability == core::Durability::sync) flags |= layout::kTopicFlagSync;
  if (config.claim_deadline_ns == 0) flags |= layout::kTopicFlagPlainCommit;
  if (config.visibility == core::Visibility::durable) flags |= layout::kTopicFlagVisibleDurable;
  if (config.overflow == core::Overflow::drop_oldest) flags |= layout::kTopicFlagDropOldest;
  return flags;
}

// The three regions of a partition, as a daemon initialises them.
class HeapRegions {
 public:
  HeapRegions(const core::TopicConfig& config, std::uint32_t handle, Position start)
      : control_(MemoryKind::heap, sizeof(layout::ControlRegion)),
        log_(MemoryKind::heap, layout::log_region_size(config.segment_size, config.slots)),
        bell_(MemoryKind::heap, sizeof(layout::BellRegion)) {
    auto* control = control_.as<layout::ControlRegion>();
    control->header.handle = handle;
    control->segment_size = config.segment_size;
    control->slots = config.slots;
    control->flags = flags_of(config);
    control->message_size_max = config.segment_size / kMessageSegmentFraction;
    control->claim_deadline_ns = config.claim_deadline_ns;
    control->start_position = start.value;
  }

  ring::PartitionMemory memory() const {
    return ring::PartitionMemory::view(control_.as<layout::ControlRegion>(), log_.as<layout::LogRegionHeader>(),
                                       bell_.as<layout::BellRegion>(), -1);
  }
  std::array<std::span<std::byte>, 3> bytes() const { return {control_.bytes(), log_.bytes(), bell_.bytes()}; }

 private:
  Pages control_;
  Pages log_;
  Pages bell_;
};

}  // namespace sluice::spill::test
