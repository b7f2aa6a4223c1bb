// What the ledger knows a message by, and below which positions it may forget. Values only.
//
// A key is the *origin* address: where the message was first appended. A dead letter that is redriven and a delayed
// message are delivered from other positions, and keep the key that they had.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "sluice/result.h"

namespace sluice::ledger {

inline constexpr std::size_t kGroupSizeMax = 190;           // bytes; as the daemon's
inline constexpr std::size_t kIdSizeMax = 1024;             // bytes of an application's id, or of a subject's name
inline constexpr std::size_t kResultSizeMax = 1024 * 1024;  // bytes that are kept for the repeat
inline constexpr std::size_t kForgetRowsMax = 1000;         // removed by one call
inline constexpr std::size_t kParkedMax = 10'000;           // exceptions of one partition
inline constexpr std::size_t kPrefixSizeMax = 32;           // bytes of the tables' prefix

struct MessageKey {
  std::string group;
  // Of the latest forced seek that goes back over this message: after that seek it is meant to be handled again. A
  // forced seek elsewhere leaves it as it was: in another partition, or to a position above it behind which nothing is
  // delivered that stands below it (docs/LEDGER.md, With the bus).
  std::uint64_t epoch = 0;
  TopicId topic;
  PartitionNumber partition = 0;
  Position position;
};

// What the daemon says of one partition of a group. True once said, it stays true: in this epoch and those before it,
// nothing below `below` is delivered again but what `parked` lists. What is below and not listed never comes back
// to the list. Of a topic that was deleted: `below` is the highest position there is, and nothing is parked.
struct Horizon {
  std::string group;
  std::uint64_t epoch = 0;  // in which it was said
  TopicId topic;
  PartitionNumber partition = 0;
  Position below;
  // Origin positions of dead letters that are parked, or redriven and not settled. In any order.
  std::vector<Position> parked;
};

}  // namespace sluice::ledger
