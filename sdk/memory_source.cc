#include "sdk/memory_source.h"

#include <algorithm>

#include "shm/layout/record.h"
#include "shm/layout/segment.h"

namespace sluice::internal {

MemorySource::MemorySource(PartitionMapsPtr maps)
    : maps_(std::move(maps)),
      bell_(maps_->memory()),
      verify_(maps_->has_flag(layout::kTopicFlagChecksums)),
      durable_only_(maps_->has_flag(layout::kTopicFlagDurable) && maps_->has_flag(layout::kTopicFlagVisibleDurable)) {}

layout::Gate MemorySource::gate() const {
  return static_cast<layout::Gate>(maps_->control().gate.load(std::memory_order_acquire));
}

Position MemorySource::visible_limit() const {
  // acquire: pairs with the release of DurableWait::publish.
  return durable_only_ ? Position(maps_->control().durable.load(std::memory_order_acquire))
                       : Position(~std::uint64_t{0});
}

ring::Presence MemorySource::enter(Position position, std::atomic<std::uint64_t>& cell, ring::SegmentView& view) const {
  const SegmentNumber segment = memory().segment_of(position);
  std::uint32_t slot = 0;
  const ring::Presence presence = ring::pin_segment(memory(), cell, segment, slot);
  if (presence != ring::Presence::here) return presence;
  view = ring::view_of(memory(), segment, slot, verify_);
  view.limit = std::min(view.limit, visible_limit());
  return presence;
}

bool MemorySource::extend(ring::SegmentView& view) const {
  // acquire: pairs with the release in SlotManager::prepare_step; publishes the zeros below it.
  const Position prepared(maps_->control().prepared.load(std::memory_order_acquire));
  const Position limit = std::min({view.end, prepared, visible_limit()});
  if (limit <= view.limit) return false;
  view.limit = limit;
  return true;
}

bool MemorySource::is_quiet(Position position) const {
  const ring::PartitionMemory& mem = memory();
  const SegmentNumber segment = mem.segment_of(position);
  const layout::SlotEntry entry{mem.table_entry(segment).load(std::memory_order_acquire)};
  const ring::Presence presence = ring::presence_of(mem, entry, segment);
  if (presence != ring::Presence::here) return presence == ring::Presence::not_yet;
  const Position start = mem.start_of(segment);
  const Position at = position == start ? start + layout::kSegmentHeaderSize : position;
  const Position prepared(maps_->control().prepared.load(std::memory_order_acquire));
  if (at + layout::kRecordAlignment > std::min({start + mem.segment_size(), prepared, visible_limit()}))
    return at < start + mem.segment_size();
  const auto* header = reinterpret_cast<const layout::RecordHeader*>(mem.slot_base(entry.slot()) + (at - start));
  // relaxed: nothing is read behind it; the full look acquires.
  const layout::ClaimWord word{header->claim.load(std::memory_order_relaxed)};
  return word.is_free() || word.is_claimed();
}

ring::FutexWait MemorySource::announce() const {
  if (durable_only_) return {&maps_->control().durable_count, ring::DurableWait(memory()).announce()};
  return {&bell_.count_word(), bell_.announce()};
}

}  // namespace sluice::internal
