// What the control client's calls answer, beside the public values of sluice/admin.h. Internal to the SDK.
//
// Descriptors in here belong to whoever holds the value: map them, then let them close.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "sdk/control_session.h"
#include "shm/base/fd.h"
#include "shm/base/result.h"
#include "shm/base/types.h"
#include "sluice/admin.h"
#include "sluice/group.h"
#include "sluice/producer.h"
#include "sluice/reader.h"

namespace sluice::internal {

struct PartitionGrant {
  PartitionNumber partition = 0;
  UniqueFd control;  // read-only
  UniqueFd log;      // read-write for producers, read-only for readers
  UniqueFd bell;     // read-write
};
// Takes each grant as it comes: map it and let its descriptors close, so that a topic of a thousand partitions does not
// need three thousand descriptors at a time. Runs on the thread that called open_….
using GrantSink = std::function<Status(PartitionGrant)>;

struct ProducerGrant {
  ProducerId id;
  TopicId topic;
  PinLease pin;  // its cell, in the memory that it belongs to
  std::uint32_t partition_count = 0;
  std::vector<PartitionGrant> partitions;  // empty if a sink took them
  std::vector<LastSent> last;              // named producers: one entry a partition
};

struct PartitionRange {
  PartitionNumber partition = 0;
  Position earliest;
  Position end;  // committed end
};
struct ReaderCursor {
  PartitionNumber partition = 0;
  CursorLease cell;  // at position 0 until its reader stores one: everything is kept for it until then
};
struct ReaderGrant {
  std::uint64_t id = 0;
  TopicId topic;
  std::shared_ptr<SessionMemory> memory;
  std::uint32_t partition_count = 0;       // of the topic
  std::vector<PartitionGrant> partitions;  // empty if a sink took them
  std::vector<PartitionRange> ranges;      // one a partition that was asked for
  std::vector<ReaderCursor> cursors;       // empty if none were asked for
};

struct LocateAnswer {
  enum class Kind : std::uint8_t {
    file,     // `file` holds the bytes of [base, data_end)
    skip,     // nothing was ever there: go on at `position`
    trimmed,  // gone by retention: `position` is the earliest that is left
    above,    // not in a file yet: it is in memory
  };
  Kind kind = Kind::above;
  Position position;
  UniqueFd file;
  Position base;
  Position data_end;
};

// What a member has in its hands when it comes back to a daemon that does not know it.
struct HeldPartition {
  TopicId topic;
  PartitionNumber partition = 0;
  Position acked;
  Position oldest;  // 0: none in hand
  Position newest;
  std::uint64_t seeks = 0;  // as its assignment said
};
struct HeldMessage {
  TopicId topic;
  PartitionNumber partition = 0;
  Position position;
  std::uint32_t delivered = 0;
  std::uint32_t failed = 0;
  bool started = false;
  std::uint64_t seeks = 0;  // as its delivery said
};
struct JoinGroup {
  std::string group;
  GroupMode mode = GroupMode::ordered;
  bool must_exist = false;
  std::vector<std::string> topics;
  std::string tag;
  From from;
  std::uint32_t in_flight_max = 0;
  std::vector<HeldPartition> held_partitions;
  std::vector<HeldMessage> held_messages;
};
struct MemberGrant {
  std::uint64_t member = 0;
  UniqueFd region;    // layout::MemberRegion, read-write
  UniqueFd readable;  // eventfd
  GroupConfig config;
  std::shared_ptr<SessionMemory> memory;  // of the session that joined
};
struct Repeat {
  Position position;
  std::uint32_t delivered = 0;
  std::uint32_t failed = 0;
};
struct PositionRange {
  Position begin;
  Position end;
};
struct Assignment {
  std::uint32_t cell = 0;
  std::uint64_t generation = 0;
  std::string topic;
  TopicId topic_id;
  PartitionNumber partition = 0;
  Position start;
  Position careful_until;
  std::vector<PositionRange> settled;
  std::vector<Repeat> repeats;
  std::vector<Position> handed_out;
  std::vector<std::uint64_t> blocked_keys;
  bool blocked = false;
  std::uint64_t seeks = 0;  // of the group in this partition, so far
};
// Messages that were first appended at `from` or above, up to the next one's, are of this epoch.
struct EpochStart {
  Position from;
  std::uint64_t epoch = 0;
};

struct SequenceReport {
  PartitionNumber partition = 0;
  ProducerId producer;  // of the lost incarnation
  Sequence sequence;    // last one claimed
};

}  // namespace sluice::internal
