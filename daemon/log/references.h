// How far back the refs of a segment reach. A message that its ref delivers is read where it was appended, so that
// place must stay for as long as the ref's own: retention asks.
//
// What is kept of a segment is one number, `refers_back` (SegmentSummary): files go from the oldest on, so only the
// lowest message that its refs mean counts. Known of what was scanned, running or in recovery, and of what the index
// says.
//
// Thread safety: pure functions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "daemon/log/partition_log.h"
#include "shm/base/types.h"
#include "shm/layout/record.h"

namespace sluice::log {

inline constexpr Position kRefersToNothing{~std::uint64_t{0}};

// Of a committed record at `at`: how many segments back that lies which it refers to, plus one. 0: it is no ref.
std::uint64_t refers_back(Position at, const layout::RecordFields& fields, std::span<const std::byte> trailer,
                          std::uint64_t segment_size);
// The start of the lowest segment that the refs of these segments mean; kRefersToNothing if they have none.
Position referred_from(SegmentNumber segment, std::uint64_t refers_back, std::uint64_t segment_size);
Position referred_from(std::span<const SegmentSummary> segments, std::uint64_t segment_size);

}  // namespace sluice::log
