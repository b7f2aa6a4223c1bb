#include "shm/ring/scanner.h"

#include <algorithm>
#include <cstring>

#include "shm/base/failpoint.h"

namespace sluice::ring {

SegmentView view_of(const PartitionMemory& memory, SegmentNumber segment, std::uint32_t slot, bool verify) {
  SegmentView view;
  view.base = memory.slot_base(slot);
  view.start = memory.start_of(segment);
  view.end = view.start + memory.segment_size();
  // acquire: pairs with the release in SlotManager::prepare; above it lies the slot's previous segment.
  view.limit = std::min(view.end, Position(memory.control->prepared.load(std::memory_order_acquire)));
  view.verify = verify;
  layout::SegmentHeader header;
  std::memcpy(&header, view.base, sizeof header);
  view.checksum = header.checksum;
  return view;
}

Presence pin_segment(const PartitionMemory& memory, std::atomic<std::uint64_t>& cell, SegmentNumber segment,
                     std::uint32_t& slot) {
  cell.exchange(layout::pin_word(memory.handle, segment), std::memory_order_seq_cst);
  SLUICE_FAILPOINT("ring.reader_pinned");
  // acquire: pairs with the release in SlotManager::prepare.
  const layout::SlotEntry entry{memory.table_entry(segment).load(std::memory_order_acquire)};
  const Presence presence = presence_of(memory, entry, segment);
  if (presence == Presence::here)
    slot = entry.slot();
  else
    cell.store(0, std::memory_order_release);
  return presence;
}

}  // namespace sluice::ring
