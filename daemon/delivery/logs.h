// What delivery needs of topics and their logs, as an interface: the bus in the daemon, simple logs in tests.
//
// Thread safety: all of it is used on the bus thread alone.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/session/access.h"
#include "shm/base/result.h"
#include "shm/base/types.h"
#include "shm/layout/record.h"

namespace sluice::delivery {

struct TopicView {
  TopicId id;
  std::string name;
  std::uint32_t partitions = 0;
  bool is_volatile = false;
};

// A record that consumers see, without its bytes.
struct LogRecord {
  Position position;
  Position end;
  std::uint64_t time_ns = 0;
  std::uint64_t key_hash = 0;  // 0: it has no key
  bool tag_matches = true;     // as asked for
};
// A record with its bytes.
struct LogMessage {
  LogRecord record;
  Position origin;  // where its bytes stand: not in the record's place if that is a ref
  ProducerId producer;
  Sequence sequence;
  std::string payload;
  std::string trailer;
};

// A walk over a log: what it passed, and where it goes on.
struct LogWalk {
  std::vector<LogRecord> records;
  Position next;        // everything below was looked at
  bool at_end = false;  // of what consumers may see now
};

class Logs {
 public:
  virtual ~Logs() = default;

  virtual std::vector<TopicView> topics() const = 0;
  virtual std::optional<TopicView> find(TopicId topic) const = 0;
  virtual Status may_consume(const session::Peer& peer, TopicId topic) const = 0;

  // First position that can be read, and the end of what consumers may see (the durable end, if the topic says so).
  // A partition that cannot be read now: io.
  virtual Result<Position> earliest(TopicId topic, PartitionNumber partition) const = 0;
  virtual Result<Position> end(TopicId topic, PartitionNumber partition) const = 0;
  // A member may have read further than the daemon has looked: end() covers all that was committed by now.
  virtual void catch_up(TopicId topic, PartitionNumber partition) = 0;
  // Everything below is on stable storage (volatile topics: as end()).
  virtual Result<Position> durable(TopicId topic, PartitionNumber partition) const = 0;
  // The first record at or behind that position; end() if there is none.
  virtual Result<Position> snap(TopicId topic, PartitionNumber partition, Position position) = 0;
  // The first record of that time or later; end() if there is none.
  virtual Result<Position> at_time(TopicId topic, PartitionNumber partition, std::uint64_t time_ns) = 0;

  // Up to `count` records from `from` on (a record's start, or the end of one) of those that consumers see;
  // `tag` empty: all. Bounded work: it may stop before the end with fewer.
  virtual Result<LogWalk> walk(TopicId topic, PartitionNumber partition, Position from, std::uint32_t count,
                               std::string_view tag) = 0;
  // The record at exactly this position. not_found: there is none that consumers see, or it is gone.
  virtual Result<LogMessage> read(TopicId topic, PartitionNumber partition, Position position) = 0;
  // No message that is delivered at or behind `from` was first appended below it; at most `from`. Lower than need be
  // where an earlier daemon has appended.
  virtual Result<Position> lowest_origin(TopicId topic, PartitionNumber partition, Position from) = 0;
  // Records that consumers see in [from, to). An estimate where segments are not closed yet.
  virtual Result<std::uint64_t> count(TopicId topic, PartitionNumber partition, Position from, Position to) = 0;
  // Committed records since the topic exists.
  virtual std::uint64_t produced(TopicId topic, PartitionNumber partition) const = 0;

  // The process of the producer whose claim holds up the partition's end; nothing: none does.
  virtual std::optional<std::int32_t> open_claim(TopicId topic, PartitionNumber partition) const = 0;

  // ---- dead letters
  // Makes the topic if it is not there (one partition, as durable as can be).
  virtual Result<TopicId> make_dead_letter_topic(const std::string& name) = 0;
  // Appends the daemon's own copy of a message; where it stands. would_block: no room now, try again.
  virtual Result<std::pair<Position, Position>> append(TopicId topic, PartitionNumber partition,
                                                       std::string_view payload, std::string_view trailer) = 0;
};

}  // namespace sluice::delivery
