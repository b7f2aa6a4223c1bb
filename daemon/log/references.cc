#include "daemon/log/references.h"

#include <algorithm>

#include "shm/layout/trailer.h"

namespace sluice::log {

std::uint64_t refers_back(Position at, const layout::RecordFields& fields, std::span<const std::byte> trailer,
                          std::uint64_t segment_size) {
  if (fields.claim.kind() != layout::RecordKind::ref || fields.claim.producer() != ProducerId(0)) return 0;
  const auto reference = layout::as_u64(layout::find_entry(trailer, layout::TrailerType::reference));
  if (!reference || *reference >= at.value) return 0;
  return at.value / segment_size - *reference / segment_size + 1;
}

Position referred_from(SegmentNumber segment, std::uint64_t refers_back, std::uint64_t segment_size) {
  if (refers_back == 0) return kRefersToNothing;
  return Position((segment.value + 1 - std::min(refers_back, segment.value + 1)) * segment_size);
}

Position referred_from(std::span<const SegmentSummary> segments, std::uint64_t segment_size) {
  Position lowest = kRefersToNothing;
  for (const SegmentSummary& summary : segments)
    lowest = std::min(lowest, referred_from(summary.segment, summary.refers_back, segment_size));
  return lowest;
}

}  // namespace sluice::log
