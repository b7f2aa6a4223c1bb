// Consumer groups as administered and described: what goes through the control channel. Values only.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "shm/base/result.h"
#include "shm/base/types.h"
#include "sluice/producer.h"
#include "sluice/reader.h"

namespace sluice {

enum class GroupMode : std::uint8_t {
  ordered,  // a partition belongs to one member at a time, which reads it from memory; in order per partition
  shared,   // message by message to any member
};
// What a message that waits for its retry holds back in an ordered group.
enum class Strict : std::uint8_t { none, key, partition };

// Delays before the next deliveries of a message that failed.
struct Backoff {
  std::vector<Duration> steps;  // exact, the last one counts for all later ones; empty: exponential
  Duration first = std::chrono::milliseconds(100);
  Duration max = std::chrono::seconds(30);  // doubling up to it, spread over the upper half
};

// What is left out is as the daemon's defaults say, which stand in brackets.
struct GroupConfig {
  std::string name;
  GroupMode mode = GroupMode::ordered;
  std::optional<Duration> ack_timeout;        // from hand-out to outcome (30 s); extend() moves it
  std::optional<Duration> member_timeout;     // alive, messages in hand, and no call for so long: hung (30 s)
  std::optional<std::uint32_t> max_attempts;  // failed so often: parked (16)
  std::optional<Backoff> backoff;             // (100 ms doubling to 30 s)
  Strict strict = Strict::none;               // ordered groups alone
  bool hold = false;                          // retention keeps what the group has not settled
};
struct GroupChange {
  std::optional<Duration> ack_timeout;
  std::optional<Duration> member_timeout;
  std::optional<std::uint32_t> max_attempts;
  std::optional<Backoff> backoff;
  std::optional<Strict> strict;
  std::optional<bool> hold;
};

struct MemberInfo {
  std::uint64_t member = 0;
  std::uint64_t session = 0;
  std::int32_t pid = 0;
  std::string client_name;
  std::uint32_t partitions = 0;
  std::uint32_t in_flight = 0;
  std::uint32_t in_flight_max = 0;
  Duration idle{};    // since its last call
  bool hung = false;  // it has lost its partitions to the member timeout
};
struct GroupPartitionInfo {
  std::string topic;
  TopicId topic_id;
  PartitionNumber partition = 0;
  std::uint64_t member = 0;  // 0: nobody's, or everybody's (shared)
  Position cursor;
  Position end;
  std::uint64_t lag_messages = 0;
  std::uint64_t lag_bytes = 0;  // of log
  Duration oldest_age{};        // of the oldest message that is not settled; 0: none
  std::uint64_t ready = 0;      // neither settled nor in anybody's hands
  std::uint64_t in_flight = 0;
  std::uint64_t retrying = 0;  // wait for another delivery
  std::uint64_t parked = 0;
  Position safe_horizon;  // as it was last said; 0: never
  double produced_per_s = 0;
  double consumed_per_s = 0;
  std::optional<Duration> catch_up;  // estimate; nothing: never at these rates
};
struct GroupInfo {
  GroupConfig config;  // complete
  bool paused = false;
  std::uint64_t epoch = 0;  // raised by each forced seek
  std::vector<std::string> subscriptions;
  std::vector<MemberInfo> members;
  std::vector<GroupPartitionInfo> partitions;
};

// In one sentence what holds a group back.
struct GroupReason {
  bool well = false;
  std::string cause;  // a word for scripts; docs/man/sluice.1 lists them
  std::string sentence;
  std::string advice;
};

struct SeekMove {
  std::string topic;
  PartitionNumber partition = 0;
  Position from;
  Position to;
  bool below_horizon = false;  // it must be forced
};

// What the daemon says of one partition of a group. True once said, it stays true: in this epoch and those before it,
// nothing that was first appended below `below` is delivered again but what `parked` lists, and what is not listed
// never comes back to the list.
struct SafeHorizon {
  TopicId topic;
  std::uint64_t epoch = 0;
  Position below;
  std::vector<Position> parked;  // ascending: where dead letters that may come again were first appended
};

struct DeadLetterCount {
  std::string group;
  std::uint64_t parked = 0;
  std::uint64_t redriven = 0;
  std::uint64_t purged = 0;
};
struct DeadLetter {
  std::uint64_t id = 0;  // in the group, ascending
  std::string group;
  std::string topic;  // where it comes from
  PartitionNumber partition = 0;
  Position position;
  Position parked_at;  // in partition 0 of dlq.<group>
  std::string reason;
  std::uint32_t delivered = 0;
  std::uint32_t failed = 0;
  std::uint64_t parked_ns = 0;  // since the epoch
  std::string state;            // parked, redriven, purged
};
struct RedriveOptions {
  // All must hold: topic=NAME, partition=N, position=N, id=N, reason=TEXT (is part of it).
  std::vector<std::pair<std::string, std::string>> filter;
  std::uint32_t rate = 0;  // messages a second; 0: at once
  bool dry_run = false;
};
struct RedriveOutcome {
  DeadLetter letter;
  std::string outcome;  // redriven, would_redrive, or why not
};

}  // namespace sluice
