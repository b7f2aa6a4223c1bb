// The SDK's connection to sluiced: hello, the session, every control call, and the way back after a hang-up.
//
// One control thread runs the connection's event loop; nothing of KJ or Cap'n Proto is visible here. Data never goes
// this way: data-path objects look at word() now and then, and come here when it has changed.
//
// States:  connected ─ socket lost ─▶ disconnected ─ hello ─▶ resumed  (same session, same memory: nothing changes)
//                                        │                 └▶ replaced (new memory: generation() is one higher)
//                                        └ revoked, refused for good ─▶ closed
// Reconnecting begins at once and goes on for ever, with pauses of 20 ms doubling to 1 s.
//
// Invariants
//  1. memory() is never null after connect(); it changes only with generation().
//  2. Calls that are waiting at a disconnect go on after the reconnect, within their timeout. A call whose request may
//     have reached the daemon is repeated only if doing it twice is harmless (all but create_topic, delete_topic,
//     alter_topic, recover_topic, kill_session, create_group, alter_group, delete_group, redrive, purge_dead_letters,
//     and seek_group where it executes: they answer `unknown`). A producer or reader that was opened for a lost memory
//     is opened again, in the new one.
//  3. A group's member belongs to one life of the daemon, memory or not: assignments, save_acks and leave_group answer
//     `conflict` where the daemon does not know it. Then it joins again, with what it holds.
//
// Thread safety: every member from any thread but the control thread itself (on_state must not call back). Must be
// destroyed after all calls have returned; not usable in a forked child.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "sdk/control_session.h"
#include "sdk/control_types.h"
#include "sdk/transaction_link.h"
#include "shm/base/result.h"
#include "shm/base/types.h"
#include "sluice/admin.h"
#include "sluice/client.h"
#include "sluice/transaction.h"

namespace sluice::internal {

class ControlClient {
 public:
  // Connects and says hello. Only socket, client_name, timeout, control_timeout and on_state of the options are used;
  // `socket` must be given. Fails at once if nobody answers: no_daemon · permission · version · quota · timed_out.
  static Result<std::unique_ptr<ControlClient>> connect(ConnectOptions options);
  ~ControlClient();
  ControlClient(const ControlClient&) = delete;
  ControlClient& operator=(const ControlClient&) = delete;

  // ---- for the data path ----

  // generation << 1 | online. One acquire load of a line that hardly ever changes: compare it with the value that was
  // seen at opening; when it differs, look closer.
  std::uint64_t word() const { return word_.load(std::memory_order_acquire); }
  static constexpr bool online(std::uint64_t word) { return (word & 1) != 0; }
  static constexpr std::uint64_t generation(std::uint64_t word) { return word >> 1; }
  bool online() const { return online(word()); }
  // The memory outlives its daemon: what needs no call goes on while it is away.
  bool memory_kept() const { return memory_kept_.load(std::memory_order_relaxed); }
  // From 1; one higher with every `replaced`.
  std::uint64_t generation() const { return generation(word()); }

  // ---- state ----

  ConnectionState state() const;
  // Why it is not connected: no_daemon while the daemon is away, or the error that closed it.
  Status health() const;
  Incarnation incarnation() const { return memory()->incarnation(); }
  std::shared_ptr<SessionMemory> memory() const;
  const std::string& socket() const;
  // Waits until online: no_daemon (timeout), or what closed the client for good.
  Status wait_online(Duration timeout) const;

  // ---- control calls ----
  // timeout 0: the options' control_timeout, a reconnect included. Every call may answer timed_out, no_daemon (the
  // daemon was away all the time), revoked, closed, beside what control.capnp says.

  Status create_topic(const TopicConfig& config, Duration timeout = {});
  Status alter_topic(std::string_view name, const TopicChange& change, Duration timeout = {});
  Status delete_topic(std::string_view name, Duration timeout = {});
  Status recover_topic(std::string_view name, std::optional<PartitionNumber> partition, Duration timeout = {});
  Result<ScrubReport> scrub_topic(std::string_view name, std::optional<PartitionNumber> partition, bool start,
                                  Duration timeout = {});
  Result<std::vector<TopicInfo>> list_topics(Duration timeout = {});
  Result<TopicInfo> describe_topic(std::string_view name, Duration timeout = {});

  // `name` empty: anonymous. With a sink, it gets the partitions' grants instead of the answer; its error ends the
  // call. If memory is replaced while partitions are still coming: conflict (open again; what the sink took is of no
  // use).
  Result<ProducerGrant> open_producer(std::string_view topic, std::string_view name, const GrantSink& sink = {},
                                      Duration timeout = {});
  Status close_producer(const ProducerGrant& grant, Duration timeout = {});
  Status close_producer(ProducerId id, std::uint64_t generation, Duration timeout = {});
  // `partitions` empty: all. With `cursors`, each partition gets a cursor cell, and volatile topics wait for it.
  Result<ReaderGrant> open_reader(std::string_view topic, const std::vector<PartitionNumber>& partitions, bool cursors,
                                  const GrantSink& sink = {}, Duration timeout = {});
  // A reader of an older generation is gone already: that is no error.
  Status close_reader(std::uint64_t id, std::uint64_t generation, Duration timeout = {});
  // Partitions from `first` on: those that were added after opening.
  enum class Access : std::uint8_t { produce, consume };
  Result<std::vector<PartitionGrant>> open_partitions(std::string_view topic, Access access, PartitionNumber first,
                                                      const GrantSink& sink = {}, Duration timeout = {});

  Result<LocateAnswer> locate(TopicId topic, PartitionNumber partition, Position position, bool damaged = false,
                              Duration timeout = {});
  Result<Position> seek_time(TopicId topic, PartitionNumber partition, std::uint64_t time_ns, Duration timeout = {});
  Result<std::vector<PartitionRange>> end_positions(std::string_view topic, Duration timeout = {});
  Status report_sequences(TopicId topic, const std::vector<SequenceReport>& reports, Duration timeout = {});

  // ---- consumer groups
  Status create_group(const GroupConfig& config, Duration timeout = {});
  Status alter_group(std::string_view name, const GroupChange& change, Duration timeout = {});
  Status delete_group(std::string_view name, Duration timeout = {});
  Status pause_group(std::string_view name, bool pause, Duration timeout = {});
  Result<std::vector<GroupInfo>> describe_groups(std::string_view name, Duration timeout = {});  // empty: all
  Result<GroupReason> explain_group(std::string_view name, Duration timeout = {});
  Result<std::vector<SeekMove>> seek_group(std::string_view name, std::string_view topic, const From& to, bool execute,
                                           bool force, Duration timeout = {});
  Result<SafeHorizon> safe_horizon(std::string_view group, std::string_view topic, PartitionNumber partition,
                                   Duration timeout = {});
  Result<std::vector<EpochStart>> group_epochs(std::string_view group, TopicId topic, PartitionNumber partition,
                                               Duration timeout = {});
  Result<MemberGrant> join_group(const JoinGroup& request, Duration timeout = {});
  // A member of an older generation is gone already: that is no error.
  Status leave_group(std::uint64_t member, std::uint64_t generation, Duration timeout = {});
  // These two: not_found if the daemon does not know the member (it is new): join again.
  Result<std::vector<Assignment>> assignments(std::uint64_t member, Duration timeout = {});
  Status save_acks(std::uint64_t member, Duration timeout = {});
  Result<std::vector<DeadLetterCount>> count_dead_letters(std::string_view group, Duration timeout = {});
  Result<std::vector<DeadLetter>> list_dead_letters(std::string_view group, std::uint64_t after_id, std::uint32_t limit,
                                                    Duration timeout = {});
  Result<std::vector<RedriveOutcome>> redrive(std::string_view group, const RedriveOptions& options,
                                              Duration timeout = {});
  Result<std::uint64_t> purge_dead_letters(std::string_view group, Duration timeout = {});

  // ---- transactions; as TransactionLink and Client
  Result<ProducerId> open_transactor(std::string_view group, ProducerId former, Duration timeout = {});
  Status close_transactor(ProducerId transactor, Duration timeout = {});
  Result<Resolution> resolve(const ResolveRequest& resolve, Duration timeout = {});
  Result<CheckRequest> take_check(ProducerId transactor);
  Status answer_check(ProducerId transactor, TransactionId transaction, std::uint64_t serial, Verdict verdict,
                      Duration timeout = {});
  Result<std::vector<TransactionInfo>> list_transactions(TransactionId after, std::uint32_t limit, bool parked_only,
                                                         Duration timeout = {});
  Result<TransactionInfo> describe_transaction(TransactionId id, Duration timeout = {});
  Result<TransactionInfo> order_transaction(TransactionId id, TransactionOrder order, Duration timeout = {});

  Result<AuditReport> audit(std::string_view topic, Duration timeout = {});
  Result<BusStatus> status(Duration timeout = {});
  Result<std::vector<DoctorCheck>> doctor(bool quick, Duration timeout = {});
  Result<std::vector<SessionInfo>> list_sessions(Duration timeout = {});
  Status kill_session(std::uint64_t id, Duration timeout = {});
  Result<std::string> config(Duration timeout = {});

 private:
  class Loop;  // everything that knows KJ
  friend class Loop;
  struct Shared;

  explicit ControlClient(ConnectOptions options);
  // One message's worth of each.
  Result<ReaderGrant> open_reader_once(std::string_view topic, const std::vector<PartitionNumber>& wanted, bool cursors,
                                       std::vector<PartitionGrant>& first, Duration timeout);
  Result<std::vector<PartitionGrant>> open_partitions_once(std::string_view topic, Access access, PartitionNumber first,
                                                           std::uint32_t count, std::uint64_t memory_generation,
                                                           Duration timeout);
  // What belonged to a lost memory is closed already.
  Status gone_is_closed(std::uint64_t memory_generation, Status status) const;

  // Written by the control thread, release: pairs with the acquire in word(); publishes memory().
  std::atomic<std::uint64_t> word_{0};
  std::atomic<bool> memory_kept_{false};  // written by the control thread before word_
  std::unique_ptr<Shared> shared_;
  std::unique_ptr<Loop> loop_;
};

}  // namespace sluice::internal
