// What a partition's memory holds that outlived its daemon: read from the slot table and the segments' headers, and
// checked, before anything stands on it.
//
// Owner: the bus thread of the new daemon, before it writes a word. The table lies in the control region, which only a
// daemon writes; the headers lie in the log region, which producers can write, so they are copied once and believed
// only as far as a lie does no harm: `durable_position` may be anything that is durable by now.
#pragma once

#include <cstdint>
#include <vector>

#include "shm/base/result.h"
#include "shm/base/types.h"
#include "shm/ring/partition_memory.h"

namespace sluice::ring {

struct KeptSegment {
  SegmentNumber segment;
  std::uint32_t slot = 0;
  std::uint32_t checksum = 0;  // of its header
};

struct KeptSlots {
  std::vector<KeptSegment> ready;  // consecutive
  std::uint64_t prepared = 0;      // position
};

// `resume`: everything below is on stable storage (durable topics), or was seen by the last daemon; what lies above
// must be in memory. corrupt: the memory does not hold together, or bytes above `resume` are not in it; the text says
// what. Changes nothing.
Result<KeptSlots> read_kept_slots(const PartitionMemory& memory, TopicId topic, PartitionNumber partition,
                                  Incarnation incarnation, Position resume);

}  // namespace sluice::ring
