// The bus: every topic, partition and session of the daemon, on one thread.
//
// Owner: the bus thread (bus_loop.h runs it; tests may call do_work() themselves). The control thread reaches it
// through BusPoster only.
//
// Invariants
//  1. A producer id is alive from before its grant until its session's death was proven and its claims were swept.
//  2. What a call answers is durable in the store before the answer where a restart must remember it (topics, names,
//     fences, leases).
//  3. Nothing here waits for a client, a ring or the disk's data path.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "daemon/bus/bus_logs.h"
#include "daemon/bus/data_directory.h"
#include "daemon/bus/kept_state.h"
#include "daemon/bus/mirror_keeper.h"
#include "daemon/bus/partition_regions.h"
#include "daemon/bus/scrub.h"
#include "daemon/bus/topic.h"
#include "daemon/bus/topic_mirrors.h"
#include "daemon/delivery/delivery.h"
#include "daemon/io/disk.h"
#include "daemon/keep/kept_table.h"
#include "daemon/keep/region_keeper.h"
#include "daemon/session/bus_interface.h"
#include "daemon/session/session.h"
#include "daemon/spill/environment.h"
#include "daemon/store/store.h"
#include "daemon/transactions/transactions.h"
#include "shm/base/clock.h"

namespace sluice::bus {

struct BusSettings {
  std::string socket;  // for status
  std::string version;
  std::string config_toml;  // the effective configuration
  session::Policy policy;
  std::uint64_t memory_budget = 0;  // bytes of slot memory
  std::uint64_t flush_interval_ns = kFlushIntervalNsDefault;
  std::uint32_t segments_per_file = kSegmentsPerFileDefault;
  core::TopicDefaults topic_defaults;
  std::uint32_t partitions_max = kPartitionsMax;
  std::uint32_t sessions_max = kSessionsMax;
  std::uint64_t retention_interval_ns = 10'000'000'000;
  core::TransactionRules transactions;
  resolve::Resolvers* resolvers = nullptr;  // those that the rules name
  // Called on the bus thread when it has ended a session by itself: its connection is to be closed.
  std::function<void(SessionId)> on_revoked;
  store::MirrorStore* mirror_store = nullptr;  // the store, where there are mirrors
  MirrorKeeperOptions mirrors;
  TopicMirrorSettings topic_mirrors;
  std::uint64_t mirror_scrub_ns = 0;                     // from one segment to the next; 0: none
  std::function<std::uint64_t()> wall_ns = realtime_ns;  // what delayed messages are due by
};

struct TurnResult {
  bool progressed = false;
  bool urgent = false;            // somebody waits for a sync that is under way
  std::uint64_t deadline_ns = 0;  // monotonic; 0: none
};

class Bus final : public session::BusInterface,
                  public spill::Attached,
                  public spill::AuditNotes,
                  public spill::HalfListener,
                  public transactions::Host,
                  public delivery::Delivery::Sessions {
 public:
  // Opens everything that the store knows. `wake_fd`: the eventfd by which clients wake the bus thread. With a keeper,
  // memory and sessions outlive this daemon; `inherited` is what the one before has left, and goes on if all of it fits
  // together, or else is let go. Errors: version (what is there belongs to a newer sluiced: nothing is touched), and
  // those of the disk and the store.
  static Result<std::unique_ptr<Bus>> start(BusSettings settings, const DataDirectory& directory, io::Disk& disk,
                                            store::Store& store, int wake_fd, keep::RegionKeeper* keeper = nullptr,
                                            keep::Inheritance inherited = {});
  ~Bus() override;

  // ---- the loop
  TurnResult do_work(std::uint64_t now_ns);
  // Raises the daemon's flag (layout::kBellDaemon or kBellDaemonNap) in every bell; takes both down.
  void arm(std::uint32_t flag);
  void disarm();

  // ---- stop: gates close, then do_work() until drained(), then finish_stop().
  void begin_stop();
  bool drained() const;
  Status finish_stop();
  std::uint32_t partition_count() const { return static_cast<std::uint32_t>(by_handle_.size()); }
  // Sessions of the daemon before that have not come back yet.
  std::vector<SessionId> disconnected_sessions() const;

  // ---- session::BusInterface
  Result<session::Welcome> attach(session::HelloRequest request) override;
  bool on_peer(SessionId session, session::PeerEvent event) override;
  Status create_topic(SessionId session, core::TopicRequest request) override;
  Status alter_topic(SessionId session, const std::string& name, core::TopicChange change) override;
  Status delete_topic(SessionId session, const std::string& name) override;
  Status recover_topic(SessionId session, const std::string& name, std::optional<PartitionNumber> partition) override;
  Result<session::ScrubReport> scrub_topic(SessionId session, const std::string& name,
                                           std::optional<PartitionNumber> partition, bool start) override;
  Result<std::vector<session::TopicInfo>> list_topics(SessionId session) override;
  Result<session::TopicInfo> describe_topic(SessionId session, const std::string& name) override;
  Result<session::ProducerGrant> open_producer(SessionId session, session::OpenProducer request) override;
  Status close_producer(SessionId session, ProducerId producer) override;
  Result<session::ReaderGrant> open_reader(SessionId session, session::OpenReader request) override;
  Status close_reader(SessionId session, std::uint64_t reader) override;
  Result<std::vector<session::PartitionGrant>> open_partitions(SessionId session, const std::string& topic,
                                                               session::Access access, PartitionNumber first,
                                                               std::uint32_t count) override;
  Result<session::LocateAnswer> locate(SessionId session, TopicId topic, PartitionNumber partition, Position position,
                                       bool damaged) override;
  Result<Position> seek_time(SessionId session, TopicId topic, PartitionNumber partition,
                             std::uint64_t time_ns) override;
  Result<std::vector<session::PartitionRange>> end_positions(SessionId session, const std::string& topic) override;
  Status report_sequences(SessionId session, TopicId topic, std::vector<session::SequenceReport> reports) override;
  Result<session::AuditReport> audit(SessionId session, const std::string& topic) override;
  Result<session::BusStatus> status(SessionId session) override;
  Result<std::vector<session::DoctorCheck>> doctor(SessionId session, bool quick) override;
  Result<std::vector<session::SessionInfo>> list_sessions(SessionId session) override;
  Status kill_session(SessionId session, SessionId victim) override;
  Result<std::string> config(SessionId session) override;

  session::GroupInterface& groups() override { return delivery_; }
  session::TransactionInterface& transactions() override { return transactions_; }

  // ---- spill::Attached
  bool is_producer_alive(ProducerId producer) const override;
  std::optional<Position> reader_cursor_min(std::uint32_t handle) const override;
  // ---- spill::AuditNotes
  void note(std::uint32_t handle, const spill::Checkpoint& checkpoint) override;
  // ---- delivery::Delivery::Sessions
  Result<session::Session*> live(SessionId session) const override { return live_session(session); }
  Status require_operator(const session::Session& session, std::string_view doing) const override;
  // ---- spill::HalfListener
  void on_half(TopicId topic, PartitionNumber partition, const core::Half& half) override;
  // ---- transactions::Host (bus_transactions.cc), with live() and require_operator()
  Status may_publish(const session::Peer& peer, TopicId topic) const override;
  Result<ProducerId> new_id() override { return next_producer_id(); }
  bool is_former(ProducerId id) const override { return id < first_given_; }
  bool may_return(ProducerId id) const override { return id < (transactors_kept_ ? first_producer_ : first_given_); }
  Status keep_transactor(SessionId session, ProducerId id, const std::string& group) override;
  void drop_transactor(SessionId session, ProducerId id) override;
  std::optional<std::string> topic_name(TopicId topic) const override;
  std::optional<Position> durable(const core::Place& place) const override;
  void flush(const core::Place& place) override;
  Status check_acks(const session::AckSet& acks) override { return delivery_.check_acks(acks); }
  Result<std::vector<store::GroupSave>> take_acks(const std::vector<const session::AckSet*>& all) override {
    return delivery_.take_acks(all);
  }
  void apply_acks(const session::AckSet& acks) override { delivery_.apply_acks(acks); }
  void acks_failed(const std::vector<store::GroupSave>& saves) override { delivery_.acks_failed(saves); }
  bool decide(const core::Place& place, Position half, bool commit, std::uint64_t order) override;

 private:
  friend class BusLogs;
  struct LiveProducer {
    SessionId session;
    TopicId topic;
  };

  Bus(BusSettings settings, const DataDirectory& directory, io::Disk& disk, store::Store& store, int wake_fd,
      keep::RegionKeeper* keeper);
  Status load();
  Status open_topics();
  Status take_over_halves();
  OpenContext open_context(TopicId topic);
  Status open_topic(core::TopicRecord record, bool fresh);
  Status add_partitions(Topic& topic, bool fresh);
  Status add_partition(Topic& topic, PartitionNumber number, bool fresh);

  // ---- what outlives it (bus_continuity.cc)
  Status adopt(keep::KeptTable table, keep::Inheritance& inherited);
  Status adopt_sessions(KeptState& state, keep::Inheritance& inherited);
  Status take_kept_units(const KeptState& state, keep::Inheritance& inherited);
  Status choose_keeper();
  Status begin_table();
  Status check_keeper_room(std::uint64_t partitions, const std::string& doing) const;
  Status keep_partitions(const Topic& topic);
  void drop_partitions(const Topic& topic);
  void drop_partition(std::uint32_t handle);
  Result<UniqueFd> keep_session(const session::Session& session);
  void drop_session(SessionId session);
  Status note(const session::Session& session);

  // ---- poisoned partitions (bus_recover.cc)
  Status recover_partition(Topic& topic, PartitionNumber number);
  void let_attach_anew(const Topic& topic);
  bool hang_up_replaced();

  Result<session::Session*> live_session(SessionId id) const;
  Result<Topic*> find_topic(const std::string& name) const;
  Result<Topic*> find_topic(TopicId id) const;
  Result<PartitionUnit*> find_partition(TopicId id, PartitionNumber number) const;
  Status check_room(const core::TopicConfig& config, std::uint64_t partitions, const std::string& doing) const;
  Result<TopicId> make_topic(core::TopicRequest request);
  Status remove_topic(const std::string& name);
  void take_back_partitions(Topic& topic);

  Status lease_producer_ids();
  Result<ProducerId> next_producer_id();
  Status take_over_name(Topic& topic, const std::string& name, ProducerId id, session::ProducerGrant& grant);
  void end_producers(const session::Session& session);
  void end_producer(ProducerId id);
  void repair(session::Session& session);
  Result<std::vector<session::PartitionGrant>> grants(const Topic& topic, session::Access access, PartitionNumber first,
                                                      std::uint32_t count) const;
  session::TopicInfo info_of(const Topic& topic) const;
  session::PartitionInfo info_of(const PartitionUnit& unit) const;
  std::uint32_t count_sessions_with(const Topic& topic, bool producers) const;

  bool reap(io::Disk& disk, std::uint64_t now_ns);
  void enforce_pin_quota(const PartitionUnit& unit);
  void run_retention(std::uint64_t now_ns);
  void retain(const Topic& topic, PartitionUnit& unit, std::uint64_t wall_ns);
  bool bury_deleted();

  // Constant after construction.
  const BusSettings settings_;
  const DataDirectory& directory_;
  io::Disk& disk_;
  store::Store& store_;
  keep::RegionKeeper* keeper_;  // null: nothing outlives this daemon
  const int wake_fd_;
  const std::uint64_t started_ns_;  // wall clock
  // Owned by the bus thread.
  Incarnation incarnation_;
  MemoryBudget budget_;
  std::unique_ptr<session::SessionTable> sessions_;
  TopicMirrors topic_mirrors_;  // outlives the topics
  std::map<std::string, std::unique_ptr<Topic>> topics_;
  std::map<TopicId, Topic*> by_id_;
  std::vector<std::unique_ptr<Topic>> dying_;                       // deleted, with requests in flight
  std::unordered_map<std::uint32_t, spill::Partition*> by_handle_;  // dying ones included
  std::unordered_map<ProducerId, LiveProducer> producers_;
  std::uint32_t next_handle_ = 1;
  ProducerId first_producer_;  // of this life of the memory
  ProducerId first_given_;     // by this daemon
  bool transactors_kept_ = true;
  ProducerId next_producer_;
  std::uint32_t producer_ids_left_ = 0;
  std::uint64_t retention_at_ns_ = 0;
  std::unordered_map<SessionId, std::uint64_t> hung_up_at_ns_;
  std::uint64_t repair_ns_max_ = 0;
  std::uint64_t repair_ns_last_ = 0;
  std::optional<keep::KeptTable> table_;          // with a keeper
  std::map<std::uint32_t, KeptUnit> kept_units_;  // by handle, while topics are opened
  std::vector<std::string> findings_;             // of the last start
  std::vector<SessionId> replaced_sessions_;      // their connections are to be closed
  MirrorKeeper mirror_keeper_;
  Scrub scrub_;
  ProducerId own_producer_;  // of the daemon's own messages
  BusLogs logs_{*this};
  delivery::Delivery delivery_;
  transactions::Transactions transactions_;
  bool stopping_ = false;
};

}  // namespace sluice::bus
