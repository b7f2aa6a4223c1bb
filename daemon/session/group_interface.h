// What the control server asks of the bus about consumer groups, in plain C++ types; the rules of bus_interface.h hold
// here too.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "daemon/core/group.h"
#include "daemon/core/seek_mark.h"
#include "shm/base/fd.h"
#include "shm/base/result.h"
#include "shm/base/types.h"

namespace sluice::session {

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
  core::GroupMode mode = core::GroupMode::ordered;  // of a group that is made by this call
  bool must_exist = false;
  std::vector<std::string> topics;                    // names or patterns, at most kMemberPatternsMax
  std::string tag;                                    // only messages with it; all members of a group name the same
  core::GroupStart start;                             // where the group has no cursor yet
  std::uint32_t in_flight_max = kInFlightMaxDefault;  // messages in its hands, 1 to kDeliverySlotsMax
  std::vector<HeldPartition> held_partitions;         // at a daemon that is new
  std::vector<HeldMessage> held_messages;
};
struct MemberGrant {
  std::uint64_t member = 0;  // never used twice, by later daemons neither: their members' calls answer not_found
  UniqueFd region;           // layout::MemberRegion, read-write
  UniqueFd readable;         // eventfd: written when an armed member has something to read
  core::GroupConfig config;
};

// A message whose earlier deliveries count.
struct Repeat {
  Position position;
  std::uint32_t delivered = 0;
  std::uint32_t failed = 0;
};
struct PositionRange {
  Position begin;
  Position end;
};
inline constexpr std::uint32_t kByReference = 0xffff'ffff;  // as a cell: not read directly
struct Assignment {
  std::uint32_t cell = 0;
  std::uint64_t generation = 0;
  std::string topic;
  TopicId topic_id;
  PartitionNumber partition = 0;
  Position start;                           // read from here on; snaps to the next record
  Position careful_until;                   // below it one message at a time is in the application's hands
  std::vector<PositionRange> settled;       // above `start`, ascending: not to be handed out
  std::vector<Repeat> repeats;              // above `start`: counts to be told with the message
  std::vector<Position> handed_out;         // a message was handed out before once for each that is above it
  std::vector<std::uint64_t> blocked_keys;  // strict by key: hashes of keys that wait
  bool blocked = false;                     // strict by partition: nothing is read until it is unblocked
  std::uint64_t seeks = 0;                  // of the group in this partition, so far
};

struct MemberInfo {
  std::uint64_t member = 0;
  SessionId session;
  std::int32_t pid = 0;
  std::string client_name;
  std::uint32_t partitions = 0;
  std::uint32_t in_flight = 0;
  std::uint32_t in_flight_max = 0;
  std::uint64_t idle_ns = 0;  // since its last call
  bool hung = false;          // it has lost its partitions to the member timeout
};
struct GroupPartitionInfo {
  std::string topic;
  TopicId topic_id;
  PartitionNumber partition = 0;
  std::uint64_t member = 0;  // 0: nobody's, or everybody's (shared)
  Position cursor;
  Position end;
  std::uint64_t lag_messages = 0;
  std::uint64_t lag_bytes = 0;
  std::uint64_t oldest_age_ns = 0;  // of the oldest message that is not settled; 0: none
  std::uint64_t ready = 0;          // neither settled nor in anybody's hands
  std::uint64_t in_flight = 0;
  std::uint64_t retrying = 0;  // wait for another delivery
  std::uint64_t parked = 0;
  Position safe_horizon;  // as it was last said
  double produced_per_s = 0;
  double consumed_per_s = 0;
  std::uint64_t catch_up_ns = 0;  // estimate; UINT64_MAX: never at these rates
};
struct GroupInfo {
  core::GroupConfig config;
  bool paused = false;
  std::uint64_t epoch = 0;
  std::vector<std::string> subscriptions;
  std::vector<MemberInfo> members;
  std::vector<GroupPartitionInfo> partitions;
};

// In one sentence what holds a group back.
struct GroupReason {
  bool well = false;
  std::string cause;  // no_members, paused, member_stopped, member_hung, member_slow, in_flight_limit, poison_message,
                      // open_claim, producers_faster, not_subscribed, caught_up, catching_up
  std::string sentence;
  std::string advice;
};

struct SeekGroup {
  std::string group;
  std::string topic;  // empty: all that it has cursors in
  core::GroupStart to;
  bool execute = false;  // false: tell what would happen
  bool force = false;    // also below the safe horizon
};
struct SeekResult {
  std::string topic;
  PartitionNumber partition = 0;
  Position from;
  Position to;
  bool below_horizon = false;  // it must be forced
};

// True once said, it stays true: in this epoch and those before it nothing below `below` is delivered again but what
// `parked` lists, and what is not listed never comes back to the list.
struct SafeHorizon {
  TopicId topic;
  std::uint64_t epoch = 0;
  Position below;
  std::vector<Position> parked;  // ascending; where dead letters that may come again were first appended
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
  std::uint64_t parked_ns = 0;  // wall clock
  std::string state;            // parked, redriven, purged
};
struct DeadLetterCount {
  std::string group;
  std::uint64_t parked = 0;
  std::uint64_t redriven = 0;
  std::uint64_t purged = 0;
};
struct Redrive {
  std::string group;
  std::vector<std::pair<std::string, std::string>> filter;  // topic=, partition=, reason= (contains), id=
  std::uint32_t rate = 0;                                   // messages a second; 0: at once
  bool dry_run = false;
};
struct RedriveOutcome {
  DeadLetter letter;
  std::string outcome;  // redriven, would_redrive, failed: …
};

class GroupInterface {
 public:
  virtual ~GroupInterface() = default;

  virtual Status create_group(SessionId session, core::GroupConfig config) = 0;
  virtual Status alter_group(SessionId session, const std::string& name, core::GroupChange change) = 0;
  virtual Status delete_group(SessionId session, const std::string& name) = 0;
  virtual Status pause_group(SessionId session, const std::string& name, bool pause) = 0;
  // All of them, or the one of that name.
  virtual Result<std::vector<GroupInfo>> describe_groups(SessionId session, const std::string& name) = 0;
  virtual Result<GroupReason> explain_group(SessionId session, const std::string& name) = 0;
  virtual Result<std::vector<SeekResult>> seek_group(SessionId session, SeekGroup request) = 0;
  // What can be said by now, stored before it is answered. would_block: more redriven letters than it looks at are
  // under way.
  virtual Result<SafeHorizon> safe_horizon(SessionId session, const std::string& group, const std::string& topic,
                                           PartitionNumber partition) = 0;
  // The epochs of a group's messages in a partition.
  virtual Result<std::vector<core::EpochStart>> group_epochs(SessionId session, const std::string& group, TopicId topic,
                                                             PartitionNumber partition) = 0;
  virtual Result<MemberGrant> join_group(SessionId session, JoinGroup request) = 0;
  // What it holds is others' from now on; its last words in the region are read first.
  virtual Status leave_group(SessionId session, std::uint64_t member) = 0;
  // Without partitions of which something is to be stored first: the region says when to ask again.
  virtual Result<std::vector<Assignment>> assignments(SessionId session, std::uint64_t member) = 0;
  // Everything that the member has settled by now is in the store when this is answered.
  virtual Status save_acks(SessionId session, std::uint64_t member) = 0;
  virtual Result<std::vector<DeadLetterCount>> count_dead_letters(SessionId session, const std::string& group) = 0;
  virtual Result<std::vector<DeadLetter>> list_dead_letters(SessionId session, const std::string& group,
                                                            std::uint64_t after_id, std::uint32_t limit) = 0;
  virtual Result<std::vector<RedriveOutcome>> redrive(SessionId session, Redrive request) = 0;
  virtual Result<std::uint64_t> purge_dead_letters(SessionId session, const std::string& group) = 0;
};

}  // namespace sluice::session
