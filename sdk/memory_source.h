// Reading a partition's bytes where their producers wrote them: a segment in a slot, held there by a pin.
//
// Owner: one PartitionStream. Invariant: a view is used only while the pin that enter() set stands.
#pragma once

#include <atomic>
#include <cstdint>
#include <utility>

#include "sdk/partition_maps.h"
#include "shm/base/types.h"
#include "shm/ring/bell.h"
#include "shm/ring/futex.h"
#include "shm/ring/scanner.h"

namespace sluice::internal {

class MemorySource {
 public:
  explicit MemorySource(PartitionMapsPtr maps);

  const PartitionMapsPtr& maps() const { return maps_; }
  const ring::PartitionMemory& memory() const { return maps_->memory(); }
  bool is_open() const { return gate() == layout::Gate::open; }
  layout::Gate gate() const;
  const ring::Bell& bell() const { return bell_; }
  bool verify() const { return verify_; }

  // Pins the segment of `position` in `cell`. `here`: the view is good until the cell is cleared; else nothing is
  // pinned.
  ring::Presence enter(Position position, std::atomic<std::uint64_t>& cell, ring::SegmentView& view) const;
  // Looks again how far the view may be read. True if that is further than before.
  bool extend(ring::SegmentView& view) const;
  // True if a look at `position` would certainly find nothing new; costs no pin. A hint: the slot may be another's
  // while we look, so it must not be the last look before a sleep.
  bool is_quiet(Position position) const;
  // Raises the flag that wakes us when there may be more to see; ring::Bell::barrier() and a full look must follow.
  ring::FutexWait announce() const;

 private:
  Position visible_limit() const;

  PartitionMapsPtr maps_;
  ring::Bell bell_;
  bool verify_ = false;        // the topic's records carry checksums
  bool durable_only_ = false;  // nothing is shown that a power loss could take back
};

}  // namespace sluice::internal
