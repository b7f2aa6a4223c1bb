// A producer: where messages go, waiting for room and for durability, and the way through reconnects. The inside of
// sluice::Producer and sluice::Claim.
//
// Owner: one thread.
// Invariants
//  1. All lanes share one pin cell, so that one claim is open at a time; while a Claim is open nothing else is sent and
//     no memory is given up.
//  2. A lane's appender is made at the first message to its partition, with the next sequence of this producer there.
//  3. What was sent to a lost memory is durable if its last watermark said so, else unknown, for ever (lives_).
//  4. The steady state of send() makes no system call and allocates nothing.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "sdk/bus_link.h"
#include "sdk/partition_maps.h"
#include "shm/base/result.h"
#include "shm/layout/trailer.h"
#include "shm/ring/appender.h"
#include "sluice/producer.h"

namespace sluice::internal {

using Payloads = std::span<const std::span<const std::byte>>;

class ProducerCore {
 public:
  static Result<std::unique_ptr<ProducerCore>> open(std::shared_ptr<BusLink> link, std::string topic,
                                                    ProducerOptions options);
  ~ProducerCore();

  Result<Receipt> send(std::span<const std::byte> payload, const MessageOptions& options, bool wait_durable);
  Result<Receipt> send_batch(Payloads payloads, const MessageOptions& options);
  // A message of a transaction: committed when this returns, durable once wait() says so.
  Result<Receipt> send_half(std::span<const std::byte> payload, const MessageOptions& options,
                            const layout::HalfEntry& half);
  Result<std::span<std::byte>> claim(std::size_t size, const MessageOptions& options);
  Result<Receipt> commit();
  void abort();

  Status wait(const Receipt& receipt, Duration timeout);
  Status flush(Duration timeout);
  ReceiptState state(const Receipt& receipt) const;

  const std::vector<LastSent>& last_sent() const { return last_sent_; }
  ProducerId id() const { return id_; }
  TopicId topic_id() const { return topic_id_; }
  const ProducerCounters& counters() const { return counters_; }
  std::uint32_t partitions() const { return static_cast<std::uint32_t>(lanes_.size()); }
  std::size_t payload_size_max() const;

 private:
  struct Lane {
    PartitionMapsPtr maps;
    Sequence next;  // of the first message, until there is an appender
    std::optional<ring::Appender> appender;
    Position sent_end;  // everything of ours lies below
    std::uint32_t fences_seen = 0;
  };
  // One life of the bus's memory that is over for us; it may go on for others, or in other partitions.
  struct PastLane {
    Position start;    // what lies below belongs to a memory before
    Position durable;  // the last that was known
  };
  struct PastLife {
    Incarnation incarnation;
    std::vector<PastLane> lanes;  // by partition
  };
  struct OpenClaim {
    Lane* lane = nullptr;
    ring::OpenClaim ring;
    std::uint32_t payload_size = 0;
    std::span<const std::byte> trailer;  // in trailer_
  };
  // What append_to() waits for, from one attempt to the next.
  struct Patience {
    std::uint64_t deadline_ns = 0;  // monotonic; 0: not waited yet
    std::uint32_t spins = 0;
    bool armed = false;
    std::uint32_t bell_count = 0;
    std::uint32_t change = 0;
  };

  ProducerCore(std::shared_ptr<BusLink> link, std::string topic, ProducerOptions options);

  // ---- opening, and opening again
  Status open_lanes();
  Status add_lane(PartitionGrant grant, TopicId topic, const std::shared_ptr<SessionMemory>& memory);
  // The connection has changed: waits for it, and opens again where memory was replaced.
  Status catch_up(Patience& patience);
  bool goes_on_alone() const;
  void end_life();
  // `timeout` 0: the connection's own.
  void tell_lost(Duration timeout);
  // `timeout` 0: the connection's own.
  void add_partitions(std::uint64_t now_ns, Duration timeout);
  Status check_ready(Patience& patience);

  // ---- sending
  Result<Lane*> choose(const MessageOptions& options);
  // What stands around a payload.
  struct Wrapping {
    std::span<const std::byte> trailer;  // in trailer_
    layout::RecordKind kind = layout::RecordKind::data;
  };
  Result<Wrapping> wrap(const Lane& lane, const MessageOptions& options);
  Result<Wrapping> wrap_half(const Lane& lane, const MessageOptions& options, const layout::HalfEntry& half);
  Result<Receipt> send_wrapped(Lane& chosen, std::span<const std::byte> payload, const Wrapping& wrapping,
                               bool wait_durable);
  Result<layout::RecordKind> add_times(const Lane& lane, const MessageOptions& options);
  std::uint64_t message_time(const Lane& lane) const;
  std::uint64_t time_and_check(const Lane& lane);
  // Runs `attempt` (an append or claim on the lane of `partition`) until it is done, there is a reason not to, or
  // patience is at its end.
  template <typename Attempt>
  Result<Lane*> append_to(PartitionNumber partition, Attempt attempt);
  Status wait_for_room(Lane& lane, Patience& patience);
  std::string obstacle(const Lane& lane) const;
  Status on_gate(Lane& lane, Patience& patience);
  Status too_large(const Lane& lane, std::uint64_t size) const;
  Status check_fence(Lane& lane);
  // How long send() may still wait, ns. `what` it waits for is named in the error.
  Result<std::uint64_t> patience_left(Patience& patience, ErrorCode at_once, std::string_view what) const;
  Receipt receipt(Lane& lane, const ring::Appended& appended);
  Result<Receipt> finish(Lane& lane, const ring::Appended& appended, bool wait_durable);

  // ---- durability
  Status await_durable(const Lane& lane, Position end, std::uint64_t timeout_ns) const;
  ReceiptState past_state(const Receipt& receipt) const;
  std::string place(const Lane& lane) const;

  // Constant.
  const std::shared_ptr<BusLink> link_;
  const std::string topic_;
  const ProducerOptions options_;
  // The producer's thread.
  std::uint64_t opened_word_ = 0;  // BusLink::word() that the lanes belong to; 0: they belong to none
  std::uint64_t generation_ = 0;
  ProducerId id_;
  TopicId topic_id_;
  PinLease pin_;
  std::vector<std::unique_ptr<Lane>> lanes_;
  std::vector<LastSent> last_sent_;
  layout::TrailerBuilder trailer_;
  std::uint32_t turn_ = 0;  // partition of messages without a key
  std::uint32_t turn_left_ = 0;
  std::uint64_t added_check_ns_ = 0;  // wall clock: when to ask for added partitions again
  std::uint32_t sends_without_time_ = 0;
  std::optional<OpenClaim> claim_;
  std::vector<PastLife> lives_;
  std::vector<SequenceReport> reports_;  // of lost memories, that the daemon was not told yet
  ProducerCounters counters_;
  bool lost_undurable_ = false;  // something sent became unknown since the last flush()
};

}  // namespace sluice::internal

namespace sluice {
struct Producer::Impl {
  std::unique_ptr<internal::ProducerCore> core;
};
}  // namespace sluice
