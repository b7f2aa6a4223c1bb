// Reading without a group: every message of the chosen partitions, from a chosen place, in place. Moves no cursor that
// anybody keeps.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "shm/base/result.h"
#include "shm/base/types.h"
#include "sluice/export.h"
#include "sluice/message.h"
#include "sluice/producer.h"

namespace sluice {

// Where a reader starts.
struct From {
  enum class Kind : std::uint8_t { earliest, latest, position, time } kind = Kind::latest;
  PartitionNumber partition = 0;  // position: in this partition (the others start at earliest)
  Position at;                    // position; snaps to the next record
  std::uint64_t time_ns = 0;      // time: ns since the epoch; the first message of that time or later

  static From earliest() { return {Kind::earliest, 0, {}, 0}; }
  static From latest() { return {Kind::latest, 0, {}, 0}; }
  static From position(PartitionNumber partition, Position at) { return {Kind::position, partition, at, 0}; }
  static From time(std::uint64_t time_ns) { return {Kind::time, 0, {}, time_ns}; }
};

enum class WaitStrategy : std::uint8_t {
  spin,             // lowest latency, one processor; paces itself behind a fast producer (adaptive lag)
  spin_then_sleep,  // spins `spin_time`, then sleeps on a futex
  sleep,
};

// A gap or repeat in a producer's sequence numbers in a partition, or bytes that cannot be right.
struct LossEvent {
  enum class Kind : std::uint8_t { gap, repeat, corrupt } kind = Kind::gap;
  Address address;  // where it was noticed
  ProducerId producer;
  Sequence expected;  // gap, repeat
  Sequence found;
  std::string reason;  // corrupt
};

struct ReaderOptions {
  From from = From::latest();
  std::vector<PartitionNumber> partitions;  // empty: all, new ones included
  WaitStrategy wait = WaitStrategy::spin_then_sleep;
  Duration spin_time = std::chrono::microseconds(30);
  std::string tag;  // only messages with this tag; empty: all
  // Called on the reader's thread inside next() and poll(). Must not call the reader.
  std::function<void(const LossEvent&)> on_loss;
};

struct ReaderCounters {
  std::uint64_t messages = 0;
  std::uint64_t bytes = 0;  // of payload
  std::uint64_t gaps = 0;   // sequence numbers missing
  std::uint64_t repeats = 0;
  std::uint64_t corrupt = 0;        // records that failed a check and were passed over
  std::uint64_t from_files = 0;     // messages read from log files
  std::uint64_t expired_bytes = 0;  // of log, passed over because retention (or drop-oldest) had taken them
  // Passed over because their time to live, or the topic's, was over, or because retention had taken them before their
  // delay was over.
  std::uint64_t expired_messages = 0;
  std::uint64_t sleeps = 0;
};

// Belongs to one thread. Reads several partitions (and topics) fairly in turn; in order per partition. Goes from log
// files to memory and back by itself; reconnects with its Client and goes on where it was.
class SLUICE_EXPORT Reader {
 public:
  Reader(Reader&&) noexcept;
  Reader& operator=(Reader&&) noexcept;
  ~Reader();

  // The next message. timed_out if none came (0: only what is there now). closed (topic deleted) · permission ·
  // no_daemon (disconnected, and not back within the timeout) · io (a log file's disk failed) · quota (living messages
  // hold too many segments: destroy some) · version (a log file of a newer format) · revoked. closed and permission are
  // told once for each topic; the reader goes on with the others. Steady state: no system call, no allocation.
  Result<Message> next(Duration timeout = std::chrono::seconds(1));
  // Up to `count` messages to `handler` with one pin for all of them: the quickest way. The reference is good during
  // the call alone (copy the Message to keep it). Waits for the first one only; returns how many were handled, 0 on
  // timeout.
  Result<std::size_t> poll(std::size_t count, Duration timeout, const std::function<void(const Message&)>& handler);

  // The position of the next read of that partition; 0 if this reader does not read it.
  Position position(std::string_view topic, PartitionNumber partition) const;
  // Moves a partition's next read (to the record at or after `at`); not_found if this reader does not read it.
  Status seek(std::string_view topic, PartitionNumber partition, Position at);
  // True once every partition has been read up to the end that stood when the reader was made. It changes in next() and
  // poll(), also in one that answers timed_out (aborted claims may be the last thing before the end): call them with a
  // short timeout until it is true.
  bool at_initial_end() const;
  const ReaderCounters& counters() const;

  struct Impl;

 private:
  friend class Client;
  explicit Reader(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace sluice
