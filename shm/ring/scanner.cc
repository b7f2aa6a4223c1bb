#include "shm/ring/scanner.h"

#include <algorithm>
#include <cstring>

#include "shm/base/failpoint.h"

namespace sluice::ring {

using layout::HeaderCheck;

ScanResult scan_record(const SegmentView& segment, Position& position, RecordView& view) {
  if (position == segment.start) position = position + layout::kSegmentHeaderSize;
  if (position >= segment.end) return ScanResult::segment_end;
  if (position + layout::kRecordAlignment > segment.limit) return ScanResult::limit;
  const std::byte* at = segment.base + (position - segment.start);
  view.position = position;
  switch (layout::read_header(at, segment.end - position, view.fields)) {
    case HeaderCheck::free: return ScanResult::free;
    case HeaderCheck::claimed: return ScanResult::claimed;
    case HeaderCheck::corrupt: return ScanResult::broken_chain;
    case HeaderCheck::skip:
      position = position + view.fields.claim.span_size();
      return view.fields.claim.kind() == layout::RecordKind::pad ? ScanResult::pad : ScanResult::aborted;
    case HeaderCheck::bad_sizes: position = position + view.fields.claim.span_size(); return ScanResult::corrupt_record;
    case HeaderCheck::record: break;
  }
  // A span that reaches above what may be read: in memory a hostile word, in a file one that is not durable yet.
  if (position + view.fields.claim.span_size() > segment.limit) return ScanResult::limit;
  position = position + view.fields.claim.span_size();
  const std::uint32_t trailer_size = layout::trailer_size(at, view.fields);
  if (trailer_size == layout::kTrailerSizeInvalid) return ScanResult::corrupt_record;
  if (segment.verify && !layout::checksum_matches(at, view.fields, trailer_size, view.position, segment.checksum))
    return ScanResult::corrupt_record;
  view.payload = {at + layout::kRecordHeaderSize, view.fields.payload_size};
  view.trailer = {at + layout::trailer_offset(view.fields.payload_size), trailer_size};
  return ScanResult::record;
}

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
