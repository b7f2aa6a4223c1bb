// Topics, audit, status: what goes through the control channel. Values only.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "shm/base/result.h"
#include "shm/base/types.h"
#include "sluice/producer.h"

namespace sluice {

enum class Durability : std::uint8_t {
  volatile_,  // memory alone
  async,      // synced at least every flush interval (5 ms)
  sync,       // send() returns when it is durable
};
enum class Visibility : std::uint8_t { committed, durable };
enum class Overflow : std::uint8_t { block, drop_oldest };  // volatile topics, when memory is full
enum class TimeMode : std::uint8_t { coarse, precise, none };

// Of a topic to be created: what is left out (nothing; 0 for segment_size and slots) is as the daemon's configuration
// says, whose own defaults stand in brackets. Of a topic that is there, everything is given.
struct TopicConfig {
  std::string name;
  std::uint32_t partitions = 1;
  std::optional<Durability> durability;  // (async)
  Visibility visibility = Visibility::committed;
  std::uint64_t segment_size = 0;                // bytes (4 MiB)
  std::uint32_t slots = 0;                       // segments in memory (8)
  std::optional<std::uint64_t> retention_bytes;  // per partition; 0: no limit (0)
  std::optional<Duration> retention_time;        // 0: no limit (0)
  // Consumers pass over a message that is older, counted from when they could first have it; a message's own
  // expire_after may only shorten that. 1 ms to 10 years; 0: none. Not with time_mode none.
  Duration message_ttl{0};
  Overflow overflow = Overflow::block;
  std::optional<Duration> claim_deadline;  // 0: none, volatile topics only (1 s)
  bool checksum = true;
  TimeMode time_mode = TimeMode::coarse;
  std::vector<std::string> publishers;  // "user:NAME" | "group:NAME"; empty: whoever may connect
  std::vector<std::string> consumers;
  // Further directories, on other disks, that hold its log files too; absolute, below one of the daemon's mirror_roots,
  // at most 3 with the daemon's own mirrors. They stay as they are.
  std::vector<std::string> mirrors;
};

struct TopicChange {
  std::optional<std::uint32_t> partitions;  // more, never fewer; keys go elsewhere from then on
  std::optional<std::uint64_t> retention_bytes;
  std::optional<Duration> retention_time;
  std::optional<Duration> message_ttl;  // 0: none; holds at once, also for what was sent before
  std::optional<Overflow> overflow;
};

enum class PartitionState : std::uint8_t { open, poisoned, deleted, denied, closing };

struct PartitionInfo {
  PartitionNumber partition = 0;
  PartitionState state = PartitionState::open;
  std::string reason;  // why it is not open
  Position earliest;   // first position that can be read
  Position committed;  // frontier of final records
  Position durable;
  Position tail;
  Position prepared;
  Position memory_start;  // below it: log files
  std::uint64_t file_count = 0;
  std::uint64_t file_bytes = 0;
  std::uint64_t records = 0;  // committed since the topic exists
  std::uint32_t slots_used = 0;
  std::uint32_t slots_pinned = 0;
  std::uint32_t open_claims = 0;
  std::uint64_t quarantined_bytes = 0;
  std::uint64_t corrupt_records = 0;
  std::uint64_t delayed = 0;      // messages that wait for their time
  std::uint64_t next_due_ns = 0;  // of these, since the epoch; 0: none waits
  // Messages of transactions: that wait for their decision, and that have it, since the topic exists.
  std::uint64_t open_halves = 0, committed_halves = 0, rolled_back_halves = 0;
};

struct TopicInfo {
  TopicConfig config;
  TopicId id;
  std::uint64_t created_ns = 0;  // since the epoch
  std::vector<PartitionInfo> partitions;
  std::uint32_t producers = 0;
  std::uint32_t readers = 0;
};

struct AuditRow {
  PartitionNumber partition = 0;
  ProducerId producer;  // 0: the sum of the anonymous ones that ended long ago
  std::string name;
  Sequence sequence_first;
  Sequence sequence_last;
  std::uint64_t data = 0, committed_halves = 0, rolled_back = 0, open = 0, delayed = 0, aborted = 0, fenced = 0,
                dropped = 0, expired = 0, cut = 0, quarantined = 0, gaps = 0, repeats = 0;
};
struct AuditReport {
  std::vector<AuditRow> rows;
  bool holds = false;  // every sum holds, and nothing was cut or quarantined
};

// What a scrub of a topic's log files found, or has found so far.
struct ScrubRange {
  PartitionNumber partition = 0;
  Position begin;
  Position end;
  std::string reason;
};
struct ScrubReport {
  std::uint64_t run = 0;  // counts in one daemon; 0: there was none
  bool running = false;
  std::uint32_t copies = 0;    // that were compared
  std::uint64_t segments = 0;  // looked at
  std::uint64_t bytes = 0;     // of one copy
  std::uint64_t mended_segments = 0;
  std::uint64_t mended_bytes = 0;  // written, on all copies
  std::uint64_t damaged_bytes = 0;
  std::vector<ScrubRange> damaged;  // intact on no copy, and not served; the first ones
  std::vector<std::string> errors;  // what could not be looked at; the first ones
};

// One copy of the data directory, or of a topic that has mirrors of its own.
struct MirrorStatus {
  std::string path;
  std::string state;                                // good, stale or filling
  std::string reason;                               // why it is not good
  std::uint64_t filled_bytes = 0, total_bytes = 0;  // filling: so far, and as far as it is known
  std::uint64_t failed_reads = 0;                   // that another copy answered
  std::string topic;                                // whose log files it holds; empty: the data directory's
};
// How often a check was answered so; none: who was asked died, or took too long.
struct AnswerCounts {
  std::uint64_t commit = 0, rollback = 0, unknown = 0, none = 0;
};
struct BusStatus {
  std::string version;
  std::int32_t pid = 0;
  std::uint64_t started_ns = 0;
  Incarnation incarnation;
  std::string data_directory;
  std::string socket;
  std::uint32_t sessions = 0, topics = 0, partitions = 0, poisoned = 0;
  std::uint64_t memory_bytes = 0, memory_budget_bytes = 0, disk_bytes = 0;
  std::uint64_t repaired_claims = 0, expired_claims = 0;
  std::uint64_t repair_ns_max = 0, repair_ns_last = 0;  // from a client's hang-up to its last repaired claim
  std::string disk_backend;
  std::vector<std::string> recovery;  // what the last start found, a line each
  std::vector<MirrorStatus> mirrors;  // the data directory first, if it has any; then those of topics
  // Log files looked at again since the start: whole passes of the slow scrub; what came from another copy; what is
  // intact on none.
  std::uint64_t scrub_passes = 0, scrub_mended_bytes = 0, scrub_damaged_bytes = 0;
  // Undecided; parked ones wait for an operator.
  std::uint64_t open_transactions = 0, parked_transactions = 0;
  // Since the start: decided; what producers, and the resolvers' runs, have answered when they were asked.
  std::uint64_t committed_transactions = 0, rolled_back_transactions = 0;
  AnswerCounts checks, resolver_runs;
};
struct DoctorCheck {
  std::string name;
  bool ok = false;
  std::string detail;
  std::string advice;  // what to do if it is not ok
};
struct SessionInfo {
  std::uint64_t id = 0;
  std::int32_t pid = 0;
  std::uint32_t uid = 0;
  std::string client_name;
  std::uint32_t producers = 0, readers = 0, pins = 0;
  bool connected = false;
};

}  // namespace sluice
