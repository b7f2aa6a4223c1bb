// Consuming in a group: each group sees every message, its members share the work; what was handed out is acked, or
// comes back.
//
//   auto consumer = client.consumer({"orders"}, {.group = "billing"}).value();
//   while (auto delivery = consumer.next(std::chrono::seconds(1))) {
//     bill(delivery->message().text());
//     consumer.ack(*delivery);
//   }
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "shm/base/result.h"
#include "shm/base/types.h"
#include "sluice/export.h"
#include "sluice/group.h"
#include "sluice/message.h"
#include "sluice/reader.h"

namespace sluice {

namespace internal {
class ConsumerCore;
}  // namespace internal

// A message in the application's hands. Copying is cheap; it pins its bytes as a Message does.
class SLUICE_EXPORT Delivery {
 public:
  const Message& message() const { return message_; }
  // Times that it was handed to the application, this one included, and that it failed (nack, timeout, a crash that it
  // is charged with).
  std::uint32_t delivered() const { return delivered_; }
  std::uint32_t failed() const { return failed_; }

 private:
  friend class internal::ConsumerCore;
  Message message_;
  std::uint32_t delivered_ = 1;
  std::uint32_t failed_ = 0;
  std::uint32_t place_ = 0;  // of the consumer: which cell or slot
  std::uint64_t stamp_ = 0;  // of the assignment or delivery
  std::uint64_t index_ = 0;  // in the consumer's own list
};

struct Rebalance {
  enum class Kind : std::uint8_t {
    assigned,
    revoked,  // wanted by another member: settle what is in your hands soon; later acks are refused
    lost,     // gone already (hung, hand-over late, group deleted)
  } kind = Kind::assigned;
  std::string_view topic;
  PartitionNumber partition = 0;
};

struct ConsumerOptions {
  std::string group;                    // made if it is not there
  GroupMode mode = GroupMode::ordered;  // of a group that is made now
  From from = From::latest();           // where the group has no cursor yet
  std::string tag;                      // only messages with it; all members of a group name the same
  WaitStrategy wait = WaitStrategy::spin_then_sleep;
  Duration spin_time = std::chrono::microseconds(30);
  std::uint32_t in_flight_max = 1024;  // messages in this member's hands; beyond it next() and poll() hand out no more
  // Called on the consumer's thread inside next() and poll(). Must not call the consumer.
  std::function<void(const LossEvent&)> on_loss;
  std::function<void(const Rebalance&)> on_rebalance;
};

struct ConsumerCounters {
  std::uint64_t messages = 0;  // handed out
  std::uint64_t bytes = 0;     // of their payload
  std::uint64_t acked = 0;
  std::uint64_t nacked = 0;    // rejected ones included
  std::uint64_t stale = 0;     // outcomes that were refused
  std::uint64_t repeated = 0;  // handed out again
  std::uint64_t gaps = 0;      // sequence numbers missing
  std::uint64_t repeats = 0;   // sequence numbers met twice
  std::uint64_t corrupt = 0;
  std::uint64_t expired_bytes = 0;     // of log, gone by retention before it was read
  std::uint64_t expired_messages = 0;  // passed over because their time to live was over
  std::uint64_t rebalances = 0;
  std::uint64_t sleeps = 0;
};

struct RunOptions {
  // Handlers that run at a time, on threads of their own; 1: on the calling thread. Messages of one key (without one:
  // of one partition) are handled in order, one at a time.
  std::uint32_t concurrency = 1;
  bool auto_extend = true;  // renews ack_timeout while a handler runs
};
// Ack by returning success; an error is a nack by the group's policy with its message as the reason (`invalid`:
// reject).
using Handler = std::function<Status(const Delivery&)>;

// One member of a group. Belongs to one thread (run() has its own for handlers). Reconnects with its Client, and goes
// on with what it holds. A member that is destroyed or closed gives everything back at once; what was handed out and
// not acked comes again, to others too.
// Where a message was first appended: what it is known by, however often and from wherever it is delivered (again after
// a crash, by a retry, as a redriven dead letter). What the ledger keys on.
struct Origin {
  TopicId topic;
  PartitionNumber partition = 0;
  Position position;
  bool operator==(const Origin&) const = default;
};

class SLUICE_EXPORT Consumer {
 public:
  Consumer(Consumer&&) noexcept;
  Consumer& operator=(Consumer&&) noexcept;
  ~Consumer();

  // The next message. timed_out if none came (0: only what is there now). closed (group deleted) · permission ·
  // no_daemon · io · quota (living messages hold too many segments) · revoked. Steady state in an ordered group: no
  // system call, no allocation.
  Result<Delivery> next(Duration timeout = std::chrono::seconds(1));
  // Up to `count` messages to `handler`, one after the other; waits for the first one only. Returns how many.
  Result<std::size_t> poll(std::size_t count, Duration timeout, const std::function<void(const Delivery&)>& handler);

  // Of a message in this consumer's hands. conflict: it is not.
  Result<Origin> origin(const Delivery& delivery) const;
  // Of a message with that origin: the last forced seek (seek_group) that went back over it, 0: none did. A message is
  // handled once in each epoch. Asks the daemon once a partition, and anew behind each forced seek. Errors: not_found
  // (the group was deleted) · no_daemon · timed_out.
  Result<std::uint64_t> epoch(const Origin& origin) const;
  const std::string& group() const;

  // Settled: it will not come again. conflict: the message is another's by now (timed out, handed over); its outcome is
  // decided there. Durable within 200 ms by itself; see ack_sync().
  Status ack(const Delivery& delivery);
  Status ack(std::span<const Delivery> deliveries);
  // Ordered groups: this one and everything of its partition that was handed out before it.
  Status ack_up_to(const Delivery& delivery);
  // Failed: it comes again after `delay` (less than zero: as the group's policy says), until it has failed max_attempts
  // times. `reason` (at most 256 bytes, the rest is cut off) stands with the dead letter.
  Status nack(const Delivery& delivery, Duration delay = Duration(-1), std::string_view reason = {});
  // To the dead letters at once.
  Status reject(const Delivery& delivery, std::string_view reason = {});
  // Its ack_timeout begins anew, and ends in `time`.
  Status extend(const Delivery& delivery, Duration time);
  // Waits until every outcome that was given so far is in the store.
  Status ack_sync(Duration timeout = std::chrono::seconds(30));

  // Hands each message to `handler` until stop() is called (from any thread, also from the handler) or an error ends
  // it.
  Status run(const Handler& handler, const RunOptions& options = {});
  void stop();

  // Readable (level-triggered) when next() has something, for an epoll loop: call next() or poll() with timeout 0 until
  // they find nothing, then wait. The consumer's own; do not read it.
  Result<int> fd();

  // Leaves the group: what it holds goes to others. Outcomes are in the store when it returns.
  Status close();
  std::uint64_t member() const;
  // Partitions that it has now (ordered groups).
  std::vector<std::pair<std::string, PartitionNumber>> assignments() const;
  const ConsumerCounters& counters() const;

  struct Impl;

 private:
  friend class Client;
  friend class Transaction;
  explicit Consumer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace sluice
