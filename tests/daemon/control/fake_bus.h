// A bus for tests of the control channel: real sessions and regions, topics in a map, a thread with an inbox. What a
// call was given is kept, so that a test can look.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "daemon/control/server.h"
#include "daemon/session/bus_interface.h"
#include "daemon/session/session.h"
#include "tests/daemon/control/fake_groups.h"
#include "tests/daemon/control/fake_transactions.h"

namespace sluice::test {

class FakeBus final : public session::BusInterface, public session::BusPoster {
 public:
  explicit FakeBus(std::uint64_t incarnation = 1);
  ~FakeBus() override;

  bool post(std::function<void(session::BusInterface&)> call) override;
  bool has_ended() const override { return false; }
  // Runs on the bus thread and waits for it.
  void run(const std::function<void(FakeBus&)>& call);
  // Waits until `condition` holds on the bus thread; false after ten seconds.
  bool eventually(const std::function<bool(FakeBus&)>& condition);
  // From now on, the inbox takes nothing.
  void refuse_posts() { refusing_ = true; }
  void accept_posts() { refusing_ = false; }
  // Stops the bus thread's work until released.
  void block(bool on);

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
  Result<Position> seek_time(SessionId session, TopicId topic, PartitionNumber partition, std::uint64_t time) override;
  Result<std::vector<session::PartitionRange>> end_positions(SessionId session, const std::string& topic) override;
  Status report_sequences(SessionId session, TopicId topic, std::vector<session::SequenceReport> reports) override;
  session::GroupInterface& groups() override { return fake_groups; }
  session::TransactionInterface& transactions() override { return fake_transactions; }
  Result<session::AuditReport> audit(SessionId session, const std::string& topic) override;
  Result<session::BusStatus> status(SessionId session) override;
  Result<std::vector<session::DoctorCheck>> doctor(SessionId session, bool quick) override;
  Result<std::vector<session::SessionInfo>> list_sessions(SessionId session) override;
  Status kill_session(SessionId session, SessionId victim) override;
  Result<std::string> config(SessionId session) override;

  // The bus thread's.
  struct Topic {
    TopicId id;
    core::TopicConfig config;
  };
  session::SessionTable sessions;
  std::map<std::string, Topic> topics;
  std::vector<session::SequenceReport> reports;
  std::vector<std::pair<SessionId, session::PeerEvent>> peer_events;
  std::vector<SessionId> proven_dead;
  std::optional<session::HelloRequest> last_hello;
  std::uint32_t creates = 0;
  std::vector<std::string> recovered;
  core::TopicDefaults topic_defaults;
  FakeGroups fake_groups;
  FakeTransactions fake_transactions;
  std::function<Status()> on_create;  // runs inside create_topic

 private:
  void serve();
  Result<session::Session*> alive(SessionId session) const;
  Result<Topic*> find(const std::string& name);
  session::PartitionGrant grant(const Topic& topic, PartitionNumber partition, bool writable);

  const Incarnation incarnation_;
  UniqueFd wake_;
  std::uint32_t next_topic_ = 1;
  std::uint32_t next_producer_ = 1;

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<void(session::BusInterface&)>> inbox_;
  bool stopping_ = false;
  bool blocked_ = false;
  std::atomic<bool> refusing_{false};
  std::thread thread_;
};

// A folder for a socket, gone with the test.
class TemporaryFolder {
 public:
  TemporaryFolder();
  ~TemporaryFolder();
  std::string file(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

// A control server on its own thread.
class RunningServer {
 public:
  RunningServer(const std::string& socket, session::BusPoster& poster, std::optional<uid_t> owner = std::nullopt);
  ~RunningServer();
  control::Server& operator*() { return *server_; }
  control::Server* operator->() { return server_.get(); }

 private:
  std::unique_ptr<control::Server> server_;
  std::thread thread_;
};

}  // namespace sluice::test
