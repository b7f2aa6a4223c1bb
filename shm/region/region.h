// How a region is opened: the header that says what it is, published last by its maker and checked first by its
// openers.
//
// Owner: the daemon initialises, once, before the region is handed out. Any thread opens.
// Guarantee: a Region that open_region() returned has the kind, size, topic, partition and incarnation that was asked
// for, and cannot shrink. Its header was copied once and checked in the copy: `info` is true, the shared bytes may
// change.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "shm/base/result.h"
#include "shm/base/types.h"
#include "shm/layout/regions.h"
#include "shm/region/mapping.h"

namespace sluice::region {

// A RegionHeader as a value.
struct RegionInfo {
  layout::RegionKind kind = layout::RegionKind::control;
  TopicId topic;
  PartitionNumber partition = 0;
  std::uint32_t handle = 0;
  Incarnation incarnation;
  std::uint64_t size = 0;  // bytes
  SessionId session;
};

// What an opener insists on.
struct RegionExpectation {
  layout::RegionKind kind = layout::RegionKind::control;
  Incarnation incarnation;
  std::optional<TopicId> topic;
  std::optional<PartitionNumber> partition;
  std::optional<SessionId> session;
};

struct Region {
  Mapping mapping;
  RegionInfo info;
};

// "the control region of topic 7, partition 2"
std::string region_name(const RegionExpectation& expectation);

// Writes the header at the start of a zeroed mapping. The magic comes last: after that it may be opened.
// Precondition: info.size <= the mapping's size.
void initialise_header(const Mapping& mapping, const RegionInfo& info);

// Reads and checks the header of a mapping. version (a layout that this build does not know), corrupt (anything else
// that is not as expected; the text says what).
Result<RegionInfo> read_header(const Mapping& mapping, const RegionExpectation& expectation);

// Checks a received descriptor (seals), maps all of it and checks its header. The descriptor may be closed afterwards.
Result<Region> open_region(int fd, Access access, const RegionExpectation& expectation);

}  // namespace sluice::region
