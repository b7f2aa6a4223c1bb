// Sending: by copy (send) or in place (claim → fill → commit).
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "shm/base/result.h"
#include "shm/base/types.h"
#include "sluice/export.h"

namespace sluice {

namespace internal {
class ProducerCore;
}  // namespace internal

using Duration = std::chrono::nanoseconds;

struct ProducerOptions {
  // Named producers continue their sequence numbers and get their last sequence and bookmark back; a newer holder of
  // the name fences an older one. Empty: anonymous.
  std::string name;
  // What send() does where there is no room: wait this long (then timed_out), or 0: would_block at once.
  Duration send_timeout = std::chrono::seconds(30);
};

// Everything of a message but its payload. Views must live until the call returns.
struct MessageOptions {
  // Messages with the same key are in order among themselves. It also chooses the partition, unless that is given:
  // FNV-1a (64 bits) of its bytes, through the finaliser of MurmurHash3, modulo the number of partitions; this never
  // changes, but more partitions send a key elsewhere. At most kKeySizeMax (16 KiB).
  std::string_view key;
  // From 0. With neither key nor partition: each partition in turn, 64 messages at a time.
  std::optional<PartitionNumber> partition;
  std::string_view tag;
  std::span<const std::pair<std::string_view, std::string_view>> headers;
  std::string_view bookmark;  // comes back to a named producer with its last sequence
  // When readers get it, one of the two at most: so long after it is sent, or at that time (ns since the epoch; one
  // that has passed: at once). 365 days ahead at most, exact to about 10 ms, in the order of these times. Its receipt
  // is that of any message. invalid on volatile topics.
  Duration delay{0};
  std::uint64_t deliver_at_ns = 0;
  // Readers that come to it later pass over it; counted from when they can get it. 0: never. The topic's
  // message_ttl may end it earlier.
  Duration expire_after{0};
};

// Where and when a message was committed. Small, copyable. What "durable" needs beyond it is wait() and flush().
struct Receipt {
  PartitionNumber partition = 0;
  Position position;  // of the record; the address is topic/partition@position
  Position end;       // durable once the durable watermark reaches it
  Sequence sequence;
  Incarnation incarnation;  // of the memory it was committed to
};

enum class ReceiptState : std::uint8_t {
  committed,  // in shared memory: survives the death of any process
  durable,    // on stable storage: survives power loss
  unknown,    // its memory was lost before it was durable: it may or may not be delivered
};

// A piece of the log that is being filled in place. Commit it soon: everything behind it in the partition waits, and
// past the topic's claim deadline the daemon aborts it. Destroying it without commit() aborts it. One a producer at a
// time.
class SLUICE_EXPORT Claim {
 public:
  Claim(Claim&& other) noexcept;
  Claim& operator=(Claim&& other) noexcept;
  ~Claim();
  // Where to write: exactly the size asked for, bytes undefined (zero) before they are written.
  std::span<std::byte> payload() const { return payload_; }
  // Makes the message visible. claim_expired if the daemon has aborted it meanwhile: nothing was sent, claim again.
  Result<Receipt> commit();
  void abort();

 private:
  friend class Producer;
  Claim() = default;
  internal::ProducerCore* core_ = nullptr;
  std::span<std::byte> payload_;
};

struct LastSent {
  PartitionNumber partition = 0;
  Sequence sequence;     // the last one that stands; 0: none
  std::string bookmark;  // that came with it
};

// What sending met besides the steady state; messages, since the producer was opened.
struct ProducerCounters {
  std::uint64_t back_pressure = 0;  // sends that found no room at first
  std::uint64_t daemon_waits = 0;   // times that a send waited for the daemon or asked it something
};

// Sends to one topic. Belongs to one thread; a process makes as many as it likes (up to kSessionPinsMax, 256, a
// client). Reconnects by itself with its Client. Where the bus's memory outlives its daemon (keeper, file-descriptor
// store) sends go on meanwhile, as long as there is room; elsewhere send() waits for the reconnect, up to its timeout.
// Where the memory was replaced, the producer gets a new id and goes on by itself.
class SLUICE_EXPORT Producer {
 public:
  Producer(Producer&&) noexcept;
  Producer& operator=(Producer&&) noexcept;
  ~Producer();

  // Copies the payload into the log and commits it. On a sync topic send() and send_batch() return once the messages
  // are durable (waiting send_timeout at the most, 30 s if that is 0); send_async() returns as soon as they are
  // committed: wait() or flush() later, so that a window can be in flight. On other topics send_async() is send().
  // Partitions that are added to the topic are taken up within about 5 s, by the first message that names one at once.
  // Errors: too_large · would_block or timed_out (no room) · io (partition poisoned) · permission · fenced · closed
  // (topic deleted) · no_daemon (reconnect took longer than the timeout) · unknown (sync: committed, but its durability
  // is not known). Steady state: no system call, no allocation.
  Result<Receipt> send(std::span<const std::byte> payload, const MessageOptions& options = {});
  Result<Receipt> send(std::string_view payload, const MessageOptions& options = {});
  Result<Receipt> send_async(std::span<const std::byte> payload, const MessageOptions& options = {});
  Result<Receipt> send_async(std::string_view payload, const MessageOptions& options = {});
  // n messages that become visible at once, to one partition (options.partition, or the hash of options.key, or the
  // next in turn); options apply to each. The receipt is the first one's, its `end` the last one's. At most
  // kBatchRecordsMax and a quarter of a segment in all.
  Result<Receipt> send_batch(std::span<const std::span<const std::byte>> payloads, const MessageOptions& options = {});

  // Memory for a message of exactly `size` bytes in the log itself. Until it is committed or aborted this producer
  // sends nothing else (invalid). The Claim may outlive moves of the Producer, not the Producer. Errors as send().
  Result<Claim> claim(std::size_t size, const MessageOptions& options = {});

  // Waits until the message is durable. timed_out; unknown (memory was lost first); io (poisoned).
  // On a volatile topic: invalid.
  Status wait(const Receipt& receipt, Duration timeout = std::chrono::seconds(30));
  // Waits until all that this producer sent is durable (volatile topics: returns at once).
  Status flush(Duration timeout = std::chrono::seconds(30));
  // Without waiting: what is known now. A receipt of a lost memory is durable if that was known before the loss, else
  // unknown.
  ReceiptState state(const Receipt& receipt) const;

  // Named producers: what stood when the name was attached, one entry a partition.
  const std::vector<LastSent>& last_sent() const;
  ProducerId id() const;
  const ProducerCounters& counters() const;
  std::uint32_t partitions() const;
  // The largest payload that fits, bytes, without options.
  std::size_t payload_size_max() const;

  struct Impl;

 private:
  friend class Client;
  friend class Claim;
  explicit Producer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace sluice
