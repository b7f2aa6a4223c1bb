// Walking over a segment's records: the same code for memory, for a log file's mapping, and for the daemon's own scan.
//
// Thread safety: none; a scanner belongs to one thread. Nothing is trusted: each header is copied once, checked, and
// only then used; payload and trailer are handed out as spans within the checked bounds.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "shm/base/types.h"
#include "shm/layout/record.h"
#include "shm/layout/segment.h"
#include "shm/ring/partition_memory.h"

namespace sluice::ring {

// A segment, or as much of it as may be read.
struct SegmentView {
  const std::byte* base = nullptr;  // the segment's first byte
  Position start;                   // its position
  Position limit;                   // read below it: `prepared` or the segment's end in memory, the data end in a file
  Position end;                     // the segment's end
  std::uint32_t checksum = 0;       // the segment header's
  bool verify = false;              // check record checksums
};

struct RecordView {
  Position position;
  layout::RecordFields fields;
  std::span<const std::byte> payload;
  std::span<const std::byte> trailer;
};

enum class ScanResult : std::uint8_t {
  record,          // view is filled; the scan has moved past it
  aborted,         // moved past an aborted claim (fields.claim is valid): it used up one sequence of its producer
  pad,             // moved past a pad
  corrupt_record,  // moved past a record whose sizes or checksum are wrong (position and fields.claim are valid)
  free,            // nothing is there yet
  claimed,         // halted at an open claim (fields.claim is valid)
  segment_end,     // the segment is read to its end
  limit,           // what may be read is read
  broken_chain,    // an impossible claim word: the rest of the segment can't be walked
};

// Looks at the record at `position` and moves `position` past it if it is final. In line: a reader's whole work per
// message.
inline ScanResult scan_record(const SegmentView& segment, Position& position, RecordView& view) {
  if (position == segment.start) position = position + layout::kSegmentHeaderSize;
  if (position >= segment.end) return ScanResult::segment_end;
  if (position + layout::kRecordAlignment > segment.limit) return ScanResult::limit;
  const std::byte* at = segment.base + (position - segment.start);
  view.position = position;
  switch (layout::read_header(at, segment.end - position, view.fields)) {
    case layout::HeaderCheck::free: return ScanResult::free;
    case layout::HeaderCheck::claimed: return ScanResult::claimed;
    case layout::HeaderCheck::corrupt: return ScanResult::broken_chain;
    case layout::HeaderCheck::skip:
      position = position + view.fields.claim.span_size();
      return view.fields.claim.kind() == layout::RecordKind::pad ? ScanResult::pad : ScanResult::aborted;
    case layout::HeaderCheck::bad_sizes:
      position = position + view.fields.claim.span_size();
      return ScanResult::corrupt_record;
    case layout::HeaderCheck::record: break;
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

// The view of a segment in memory, as its slot says. `pinned` by the caller, table checked.
SegmentView view_of(const PartitionMemory& memory, SegmentNumber segment, std::uint32_t slot, bool verify);

// Pins `segment` in `cell` and checks that it is still there: `here` with the slot, or not pinned at all.
// An exchange (full fence) pairs with the reclaimer's membarrier: it sees our pin, or we see its withdrawal.
Presence pin_segment(const PartitionMemory& memory, std::atomic<std::uint64_t>& cell, SegmentNumber segment,
                     std::uint32_t& slot);

}  // namespace sluice::ring
