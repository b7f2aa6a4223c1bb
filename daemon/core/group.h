// What a consumer group is: its configuration, as created, altered and kept, and its retry policy. Pure values, checked
// in one place.
// Thread safety: values.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "shm/base/limits.h"
#include "shm/base/result.h"
#include "shm/base/types.h"

namespace sluice::core {

// ordered: a partition belongs to one member at a time, which reads it from memory. shared: message by message to any
// member.
enum class GroupMode : std::uint8_t { ordered = 0, shared = 1 };
// What a message that waits for its retry holds back in an ordered group: nothing, messages of the same key, or all.
enum class Strict : std::uint8_t { none = 0, key = 1, partition = 2 };

// Delays before the second, third, … delivery of a message that failed. The last step of a list counts for all later
// ones.
struct Backoff {
  std::vector<std::uint64_t> steps_ns;  // empty: exponential from `first_ns`, doubling up to `max_ns`
  std::uint64_t first_ns = kBackoffFirstNsDefault;
  std::uint64_t max_ns = kBackoffMaxNsDefault;

  bool operator==(const Backoff&) const = default;
  // After `failed` failures (from 1). Exponential ones are spread by `dice` (any number) over the upper half, so that
  // what failed together does not come back together; a list is exact.
  std::uint64_t delay_ns(std::uint32_t failed, std::uint64_t dice) const;
};

struct GroupConfig {
  std::string name;
  GroupMode mode = GroupMode::ordered;
  std::uint64_t ack_timeout_ns = kAckTimeoutNsDefault;        // from its hand-out to its outcome; extend() moves it
  std::uint64_t member_timeout_ns = kMemberTimeoutNsDefault;  // alive, messages in hand, and no call for so long: hung
  std::uint32_t max_attempts = kMaxAttemptsDefault;           // failed so often: parked
  Backoff backoff;
  Strict strict = Strict::none;  // ordered groups alone
  bool hold = false;             // retention keeps what the group has not settled

  bool operator==(const GroupConfig&) const = default;
};

struct GroupChange {
  std::optional<std::uint64_t> ack_timeout_ns;
  std::optional<std::uint64_t> member_timeout_ns;
  std::optional<std::uint32_t> max_attempts;
  std::optional<Backoff> backoff;
  std::optional<Strict> strict;
  std::optional<bool> hold;
};

// Where a group begins in a partition that it has no cursor in.
struct GroupStart {
  enum class Kind : std::uint8_t { latest = 0, earliest = 1, time = 2, position = 3 } kind = Kind::latest;
  std::uint64_t time_ns = 0;      // time: wall clock
  PartitionNumber partition = 0;  // position: there; the others begin at earliest
  Position position;
};

// invalid with the reason: name (1–190 of [A-Za-z0-9._-], not starting with a dot), limits, combinations.
Status check(const GroupConfig& config);
Result<GroupConfig> apply(const GroupConfig& config, const GroupChange& change);

// True if `topic` is named by `pattern`: `*` stands for any characters, also none; all else for itself. The dead
// letters' topics (dlq.…) are named in full only.
bool matches(std::string_view pattern, std::string_view topic);
bool is_pattern(std::string_view text);
// invalid: no characters of a topic name, or empty.
Status check_pattern(std::string_view pattern);

// The topic where a group's messages are parked, and the group of such a topic (empty: it is none).
std::string dead_letter_topic(std::string_view group);
std::string_view dead_letter_group(std::string_view topic);

}  // namespace sluice::core
