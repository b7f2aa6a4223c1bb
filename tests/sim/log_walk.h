// Reads a partition's files as a consumer does: through PartitionLog, with the scanner of the ring.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "daemon/log/partition_log.h"
#include "tests/sim/truth.h"

namespace sluice::sim {

// What failed its checks at this position may be whole on another copy. True: it was mended, read again.
using Mend = std::function<bool(Position)>;

// Hands out the records and aborts from `at` to the end of its segment, or of the durable data in it. Returns where to
// go on; nothing if `at` is above the log's end. A record that fails its checks, and is not mended, is a Failure.
std::optional<Position> walk_segment(log::PartitionLog& log, std::uint64_t segment_size, Position at, const Mend& mend,
                                     const std::function<void(Found)>& visit);
// Everything there is.
std::vector<Found> walk_all(log::PartitionLog& log, std::uint64_t segment_size, const Mend& mend);

}  // namespace sluice::sim
