// What a topic is: its configuration, as created, altered and kept. Pure values, checked in one place.
// Thread safety: values.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "shm/base/limits.h"
#include "shm/base/result.h"
#include "shm/base/types.h"

namespace sluice::core {

// Of a topic's mirror, bytes: with the topic's name and id behind it, it fits kMirrorPathSizeMax.
inline constexpr std::size_t kTopicMirrorPathSizeMax = 600;

enum class Durability : std::uint8_t { volatile_ = 0, async = 1, sync = 2 };
enum class Visibility : std::uint8_t { committed = 0, durable = 1 };
enum class Overflow : std::uint8_t { block = 0, drop_oldest = 1 };
enum class TimeMode : std::uint8_t { coarse = 0, precise = 1, none = 2 };

struct TopicConfig {
  std::string name;
  std::uint32_t partitions = 1;
  Durability durability = Durability::async;
  Visibility visibility = Visibility::committed;
  std::uint64_t segment_size = kSegmentSizeDefault;  // bytes, a power of two
  std::uint32_t slots = kSlotsDefault;
  std::uint64_t retention_bytes = 0;    // per partition; 0: no limit
  std::uint64_t retention_time_ns = 0;  // 0: no limit
  std::uint64_t message_ttl_ns = 0;     // consumers pass over what is older; 0: nothing
  Overflow overflow = Overflow::block;
  std::uint64_t claim_deadline_ns = kClaimDeadlineNsDefault;  // 0: none (volatile topics only)
  bool checksum = true;                                       // always on unless volatile
  TimeMode time_mode = TimeMode::coarse;
  std::vector<std::string> publishers;  // "user:NAME" | "group:NAME"; empty: whoever may connect
  std::vector<std::string> consumers;
  std::vector<std::string> mirrors;  // absolute: further directories that hold its log files; never altered
};

// What the daemon's configuration says of topics.
struct TopicDefaults {
  Durability durability = Durability::async;
  std::uint64_t segment_size = kSegmentSizeDefault;  // bytes
  std::uint32_t slots = kSlotsDefault;
  std::uint64_t retention_bytes = 0;    // per partition; 0: no limit
  std::uint64_t retention_time_ns = 0;  // 0: no limit
  std::uint64_t claim_deadline_ns = kClaimDeadlineNsDefault;
};

// A topic to be created. What the caller has left out is the daemon's to say.
struct TopicRequest {
  TopicConfig config;  // segment_size and slots 0: left out
  bool default_durability = false;
  bool default_retention_bytes = false;
  bool default_retention_time = false;
  bool default_claim_deadline = false;
};

struct TopicChange {
  std::optional<std::uint32_t> partitions;
  std::optional<std::uint64_t> retention_bytes;
  std::optional<std::uint64_t> retention_time_ns;
  std::optional<std::uint64_t> message_ttl_ns;
  std::optional<Overflow> overflow;
};

// A topic as the store keeps it.
struct TopicRecord {
  TopicId id;
  TopicConfig config;
  std::uint64_t created_ns = 0;  // wall clock
};

// invalid with the reason: name (1–200 of [A-Za-z0-9._-], not starting with a dot), limits, combinations
// (claim_deadline none and checksum off need volatile, drop-oldest needs volatile, durable visibility and mirrors need
// a durable topic; a time to live needs messages with a time). Whether a daemon allows the mirrors is its own to say.
Status check(const TopicConfig& config);
// The topic's configuration, with the defaults for what was left out. Not checked.
TopicConfig complete(TopicRequest request, const TopicDefaults& defaults);
// The configuration with the change in it; invalid if it is not allowed (fewer partitions, …).
Result<TopicConfig> apply(const TopicConfig& config, const TopicChange& change);

}  // namespace sluice::core
