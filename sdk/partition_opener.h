// Opens partitions of a topic for reading: asks the daemon, maps what it grants.
//
// Thread safety: free functions; the values belong to their holder.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>
#include <utility>
#include <vector>

#include "sdk/bus_link.h"
#include "sdk/partition_maps.h"
#include "shm/base/result.h"

namespace sluice::internal {

struct OpenedPartition {
  PartitionMapsPtr maps;
  PartitionRange range;
  CursorLease cursor;  // empty if none were asked for
};
struct OpenedReader {
  std::uint64_t id = 0;
  std::uint64_t generation = 0;       // of the memory it is in
  std::uint32_t partition_count = 0;  // of the topic
  std::vector<OpenedPartition> partitions;
};

// As BusLink::open_reader. If a grant cannot be mapped the daemon's reader is closed again.
Result<OpenedReader> open_for_reading(BusLink& link, std::string_view topic,
                                      const std::vector<PartitionNumber>& partitions, bool cursors);

// Closes a reader without cursor cells with the last of those that use it. (Cells need more care: see ReaderCore.)
class ReaderHandle {
 public:
  ReaderHandle(std::shared_ptr<BusLink> link, const OpenedReader& opened)
      : link_(std::move(link)), id_(opened.id), generation_(opened.generation) {}
  ReaderHandle(const ReaderHandle&) = delete;
  ReaderHandle& operator=(const ReaderHandle&) = delete;
  // Not told: it ends with its session.
  ~ReaderHandle() { static_cast<void>(link_->close_reader(id_, generation_).has_value()); }

 private:
  const std::shared_ptr<BusLink> link_;
  const std::uint64_t id_;
  const std::uint64_t generation_;
};
using ReaderHandlePtr = std::shared_ptr<const ReaderHandle>;

}  // namespace sluice::internal
