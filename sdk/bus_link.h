// What the data path asks of the control channel, and nothing more: producers and readers are written against this, so
// that they can be run over a bus in the same process (tests) as well as over a connection (ControlLink).
//
// Thread safety: every member may be called from any thread.
// Invariants
//  1. word() changes before change_word() does: who waits on change_word() and then reads word() misses nothing.
//  2. memory() is never null, and changes only with the generation in word().
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "sdk/control_session.h"
#include "sdk/control_types.h"
#include "shm/base/result.h"
#include "shm/ring/futex.h"
#include "sluice/client.h"

namespace sluice::internal {

class BusLink {
 public:
  virtual ~BusLink() = default;

  // generation << 1 | online; see ControlClient::word(). Called once a message: no lock, no system call.
  virtual std::uint64_t word() const = 0;
  static constexpr bool online(std::uint64_t word) { return (word & 1) != 0; }
  static constexpr std::uint64_t generation(std::uint64_t word) { return word >> 1; }
  // Bumped, and its waiters woken, with every change of the connection: sleepers take it along.
  const std::atomic<std::uint32_t>& change_word() const { return change_; }

  // True if the memory outlives its daemon: while the connection is away it goes on as before.
  virtual bool memory_kept() const = 0;
  virtual ConnectionState state() const = 0;
  virtual Status health() const = 0;
  virtual Status wait_online(Duration timeout) const = 0;
  virtual std::shared_ptr<SessionMemory> memory() const = 0;

  // As the members of ControlClient of the same name. Duration 0: the connection's own timeout.
  virtual Result<ProducerGrant> open_producer(std::string_view topic, std::string_view name, const GrantSink& sink) = 0;
  virtual void close_producer(ProducerId id, std::uint64_t generation) = 0;
  // `cursors`: each partition gets a cursor cell, and volatile topics wait for it.
  virtual Result<ReaderGrant> open_reader(std::string_view topic, const std::vector<PartitionNumber>& partitions,
                                          bool cursors, const GrantSink& sink) = 0;
  virtual Status close_reader(std::uint64_t id, std::uint64_t generation) = 0;
  // How many partitions the topic has by now is one more than the last grant's number.
  virtual Status open_partitions(std::string_view topic, bool produce, PartitionNumber first, const GrantSink& sink,
                                 Duration timeout) = 0;
  // `damaged`: what lies there was found damaged; `above` until the daemon has seen to it.
  virtual Result<LocateAnswer> locate(TopicId topic, PartitionNumber partition, Position position, bool damaged) = 0;
  virtual Result<Position> seek_time(TopicId topic, PartitionNumber partition, std::uint64_t time_ns) = 0;
  virtual Status report_sequences(TopicId topic, const std::vector<SequenceReport>& reports, Duration timeout) = 0;
  // Why a partition's gate is closed, in the daemon's words.
  virtual Result<std::string> gate_reason(std::string_view topic, PartitionNumber partition) = 0;

  // ---- consumer groups
  virtual Result<MemberGrant> join_group(const JoinGroup& request) = 0;
  virtual Status leave_group(std::uint64_t member, std::uint64_t generation) = 0;
  virtual Result<std::vector<Assignment>> assignments(std::uint64_t member) = 0;
  // Where the epochs of its messages begin in that partition.
  virtual Result<std::vector<EpochStart>> group_epochs(std::string_view group, TopicId topic,
                                                       PartitionNumber partition) = 0;
  virtual Status save_acks(std::uint64_t member, Duration timeout) = 0;

 protected:
  void changed() {
    // release: pairs with the acquire of waiters; word() was stored before.
    change_.fetch_add(1, std::memory_order_release);
    ring::futex_wake_all(change_);
  }

 private:
  std::atomic<std::uint32_t> change_{0};
};

}  // namespace sluice::internal
