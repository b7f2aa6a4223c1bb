#include "tests/sim/log_walk.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>

#include "shm/layout/trailer.h"
#include "shm/ring/scanner.h"

namespace sluice::sim {
namespace {

std::string text(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

Found found_of(const ring::SegmentView& segment, const ring::RecordView& record, Position end, bool aborted) {
  Found found;
  found.position = record.position;
  found.end = end;
  found.aborted = aborted;
  found.producer = record.fields.claim.producer();
  if (aborted) {
    const std::byte* header = segment.base + (record.position - segment.start);
    std::memcpy(&found.sequence.value, header + offsetof(layout::RecordHeader, sequence), 8);
    return found;
  }
  found.sequence = record.fields.sequence;
  found.time_ns = record.fields.time_ns;
  if (record.fields.claim.kind() == layout::RecordKind::ref)
    found.reference =
        Position(layout::as_u64(layout::find_entry(record.trailer, layout::TrailerType::reference)).value_or(0));
  found.delayed = record.fields.claim.kind() == layout::RecordKind::delayed;
  found.payload = text(record.payload);
  found.bookmark = text(layout::find_entry(record.trailer, layout::TrailerType::bookmark));
  return found;
}

Position walk(const ring::SegmentView& segment, Position at, const std::function<void(Found)>& visit) {
  using ring::ScanResult;
  while (at < segment.limit) {
    ring::RecordView record;
    const ScanResult result = ring::scan_record(segment, at, record);
    const bool is_fence = record.fields.claim.kind() == layout::RecordKind::fence;
    switch (result) {
      case ScanResult::record:
      case ScanResult::aborted:
        if (!is_fence) visit(found_of(segment, record, at, result == ScanResult::aborted));
        break;
      case ScanResult::pad: break;
      case ScanResult::segment_end:
      case ScanResult::limit: return segment.limit;
      case ScanResult::corrupt_record:
      case ScanResult::free:
      case ScanResult::claimed:
      case ScanResult::broken_chain:
        throw Failure("the log serves bytes that are no record @" + std::to_string(record.position.value) +
                      " (scan result " + std::to_string(static_cast<int>(result)) + ")");
    }
  }
  return at;
}

}  // namespace

namespace {

// All that is left of the segment from `at` on; its end, or the data's.
Position read_segment(log::PartitionLog& log, std::uint64_t segment_size, const log::Located& located, Position at,
                      std::vector<Found>& found) {
  const Position start(at.value / segment_size * segment_size);
  std::vector<std::byte> bytes(segment_size);
  const auto got = log.read(start, bytes);
  check(got.has_value(), "reading the log back failed");
  const Position limit = std::min(start + *got, located.data_end);
  check(limit > at, "the log gives no bytes @" + std::to_string(at.value));
  layout::SegmentHeader header;
  check(layout::read_segment_header(bytes.data(), header) == layout::SegmentCheck::ok,
        "the log serves a segment without its header @" + std::to_string(start.value));
  const ring::SegmentView segment{bytes.data(), start, limit, start + segment_size, header.checksum, true};
  return walk(segment, at, [&](Found one) { found.push_back(std::move(one)); });
}

}  // namespace

std::optional<Position> walk_segment(log::PartitionLog& log, std::uint64_t segment_size, Position at, const Mend& mend,
                                     const std::function<void(Found)>& visit) {
  const log::Located located = log.locate(at);
  if (located.kind == log::Located::Kind::above) return std::nullopt;
  if (located.kind == log::Located::Kind::skip) {
    check(located.next > at, "the log skips back from @" + std::to_string(at.value));
    return located.next;
  }
  std::vector<Found> found;
  Position end;
  try {
    end = read_segment(log, segment_size, located, at, found);
  } catch (const Failure&) {
    if (!mend(at)) throw;
    found.clear();
    end = read_segment(log, segment_size, located, at, found);
  }
  for (Found& one : found) visit(std::move(one));
  return end;
}

std::vector<Found> walk_all(log::PartitionLog& log, std::uint64_t segment_size, const Mend& mend) {
  std::vector<Found> all;
  std::optional<Position> at = log.earliest();
  while (at) at = walk_segment(log, segment_size, *at, mend, [&](Found found) { all.push_back(std::move(found)); });
  return all;
}

}  // namespace sluice::sim
