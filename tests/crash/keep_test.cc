// The daemon dies or is restarted below its keeper while producers and readers work: none of them sees an error, no
// send meets back-pressure or waits for the daemon, nothing is lost or repeated. Real processes.
#include <sys/wait.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <fstream>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "tests/crash/board.h"
#include "tests/crash/daemon_process.h"
#include "tests/crash/ledger.h"

namespace sluice::test {
namespace {

using namespace std::chrono_literals;

// Where the daemon dies, and at each how many hits on average.
const std::map<std::string, int> kFailpoints = {
    {"spill.write_submitted", 200}, {"spill.synced", 200},    {"spill.published", 200}, {"spill.swept", 1},
    {"log.file_renamed", 2},        {"log.index_written", 2}, {"log.file_removed", 2},  {"log.spare_blank", 1},
    {"store.committed", 2},         {"recovery.scanned", 4},  {"recovery.applied", 4},  {"keep.sent", 2}};
const std::vector<std::string> kTopics = {"orders", "payments", "ticks"};  // async, sync, volatile

// A producer and a reader of one topic, on threads of their own and connections of their own.
class Traffic {
 public:
  Traffic(TestDaemon& daemon, std::string topic, std::uint32_t worker)
      : topic_(std::move(topic)), worker_(worker), client_(daemon.connect(topic_)) {
    sender_ = std::thread([this] { send(); });
    receiver_ = std::thread([this] { receive(); });
  }
  ~Traffic() { finish(); }

  void stop() { stop_ = true; }
  void finish() {
    stop();
    if (sender_.joinable()) sender_.join();
    if (receiver_.joinable()) receiver_.join();
  }
  std::uint64_t sent() const { return sent_; }
  std::uint64_t received() const { return received_; }
  std::string trouble;  // the first one; read it after finish()
  ProducerCounters producer_counters;
  ReaderCounters reader_counters;

 private:
  void complain(const std::string& what) {
    const std::lock_guard lock(mutex_);
    if (trouble.empty()) trouble = topic_ + ": " + what;
    stop_ = true;
  }

  // A few thousand a second: the ring must have room for all that comes while the daemon is away.
  void send() {
    ProducerOptions options;
    options.send_timeout = 60s;
    auto producer = client_.producer(topic_, options);
    if (!producer) return complain(producer.error().message());
    while (!stop_) {
      for (int i = 0; i < 8 && !stop_; ++i) {
        MessageOptions to;
        to.partition = static_cast<PartitionNumber>(sent_ % 2);
        const auto receipt = producer->send_async(make_payload(worker_, sent_ + 1), to);
        if (!receipt) return complain(receipt.error().message());
        ++sent_;
      }
      std::this_thread::sleep_for(2ms);
    }
    if (const Status flushed = producer->flush(60s); !flushed) complain(flushed.error().message());
    producer_counters = producer->counters();
    all_sent_ = true;
  }

  void receive() {
    ReaderOptions options;
    options.from = From::earliest();
    auto reader = client_.reader({topic_}, options);
    if (!reader) return complain(reader.error().message());
    Ledger ledger;
    while (!all_sent_ || received_ < sent_) {
      auto handled = reader->poll(256, 20ms, [&](const Message& message) {
        const std::string wrong = ledger.note(message);
        if (!wrong.empty()) complain(wrong);
        ++received_;
      });
      if (!handled) return complain(handled.error().message());
      if (stop_ && !trouble.empty()) return;
    }
    reader_counters = reader->counters();
  }

  const std::string topic_;
  const std::uint32_t worker_;
  Client client_;
  std::mutex mutex_;
  std::atomic<bool> stop_{false};
  std::atomic<bool> all_sent_{false};
  std::atomic<std::uint64_t> sent_{0};
  std::atomic<std::uint64_t> received_{0};
  std::thread sender_;
  std::thread receiver_;
};

class Keep : public testing::Test {
 protected:
  void SetUp() override {
    daemon_.use_keeper();
    daemon_.configure("[topics]\nsegments_per_file = 2\n[retention]\ncheck_interval = \"1s\"\n");
    failpoints_ = daemon_.folder() / "failpoints";
    ASSERT_TRUE(daemon_.start({"SLUICE_FAILPOINT=@" + failpoints_.string()})) << daemon_.log_tail();
    Client client = daemon_.connect();
    for (const std::string& topic : kTopics) {
      TopicConfig config;
      config.name = topic;
      config.partitions = 2;
      if (topic == "payments") config.durability = Durability::sync;
      if (topic == "ticks") config.durability = Durability::volatile_;
      config.segment_size = kSegmentSize;
      config.slots = 32;
      config.retention_bytes = 4 * kSegmentSize;
      const Status made = client.create_topic(config);
      ASSERT_TRUE(made.has_value()) << made.error().message();
    }
    for (std::uint32_t i = 0; i < kTopics.size(); ++i)
      traffic_.push_back(std::make_unique<Traffic>(daemon_, kTopics[i], i));
  }

  // The daemon's own pid, not the keeper's. Asks a daemon that answers.
  pid_t daemon_pid() {
    Client client = daemon_.connect();
    return client.status().value().pid;
  }

  void end_daemon(int signal, pid_t pid) {
    ASSERT_EQ(::kill(pid, signal), 0);
    ASSERT_TRUE(wait_until([&] { return daemon_pid() != pid; })) << daemon_.log_tail();
  }

  void all_get_on() {
    for (auto& traffic : traffic_) {
      const std::uint64_t sent = traffic->sent(), received = traffic->received();
      ASSERT_TRUE(wait_until([&] { return traffic->sent() > sent && traffic->received() > received; }))
          << daemon_.log_tail();
    }
  }

  // Whatever happened, nobody noticed. `room`: the daemon was never away for so long that the rings could fill.
  void check(bool room) {
    for (auto& traffic : traffic_) traffic->stop();
    std::uint64_t messages = 0;
    for (auto& traffic : traffic_) {
      traffic->finish();
      EXPECT_EQ("", traffic->trouble);
      EXPECT_EQ(traffic->sent(), traffic->received());
      if (room) {
        EXPECT_EQ(0u, traffic->producer_counters.back_pressure);
      }
      EXPECT_EQ(0u, traffic->producer_counters.daemon_waits);
      EXPECT_EQ(0u, traffic->reader_counters.gaps + traffic->reader_counters.repeats);
      EXPECT_EQ(0u, traffic->reader_counters.corrupt);
      messages += traffic->sent();
    }
    Client client = daemon_.connect();
    for (const std::string& topic : kTopics) {
      const AuditReport report = client.audit(topic).value();
      EXPECT_TRUE(report.holds) << topic;
      for (const AuditRow& row : report.rows)
        EXPECT_EQ(0u, row.gaps + row.repeats + row.cut + row.quarantined + row.aborted)
            << topic << "/" << row.partition << ": " << row.gaps << " gaps, " << row.repeats << " repeats, " << row.cut
            << " cut, " << row.quarantined << " quarantined, " << row.aborted << " aborted of "
            << row.sequence_last.value;
    }
    std::printf("  %llu messages\n", static_cast<unsigned long long>(messages));
    EXPECT_EQ(0, daemon_.stop());
  }

  static constexpr std::uint64_t kSegmentSize = 256 * 1024;

  // How many daemons the keeper has seen die.
  std::uint64_t deaths() const {
    std::ifstream log(daemon_.folder() / "sluiced.log");
    std::uint64_t count = 0;
    for (std::string line; std::getline(log, line);) count += line.find("daemon ended") != std::string::npos;
    return count;
  }

  TestDaemon daemon_;
  std::filesystem::path failpoints_;
  std::vector<std::unique_ptr<Traffic>> traffic_;
};

TEST_F(Keep, NobodyNoticesThatTheDaemonIsKilled) {
  const int kills = long_run() ? 5000 : 100;
  std::mt19937_64 random(testing::UnitTest::GetInstance()->random_seed() + 11);
  for (int kill = 0; kill < kills; ++kill) {
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 60'000));
    ASSERT_NO_FATAL_FAILURE(end_daemon(SIGKILL, daemon_pid())) << "kill " << kill;
    if (kill % 10 == 0) {
      ASSERT_NO_FATAL_FAILURE(all_get_on()) << "after kill " << kill;
    }
  }
  std::printf("  %d kills\n", kills);
  check(true);
}

TEST_F(Keep, NobodyNoticesADeathAtAnyFailpoint) {
  const std::uint64_t rounds = long_run() ? 300 : 3;
  for (const auto& [name, hits] : kFailpoints) {
    std::ofstream(failpoints_) << name << "=kill@~" << hits;
    const std::uint64_t before = deaths();
    std::atomic<bool> done{false};
    std::thread visitor([&] {
      // Sessions that come and go: claims to sweep, regions to keep.
      while (!done) {
        ConnectOptions options;
        options.socket = daemon_.socket();
        options.timeout = 60s;
        if (auto client = Client::connect(options)) static_cast<void>(client->producer("orders").has_value());
        std::this_thread::sleep_for(5ms);
      }
    });
    // The next ones read the file. Points of a start are passed by the daemons that follow one that was killed from
    // here.
    std::uint64_t killed = 0;
    auto kill_at = std::chrono::steady_clock::now();
    const bool died = wait_until([&] {
      if (std::chrono::steady_clock::now() >= kill_at) {
        killed += ::kill(daemon_pid(), SIGKILL) == 0;
        kill_at = std::chrono::steady_clock::now() + 2s;
      }
      return deaths() >= before + killed + rounds;
    });
    std::filesystem::remove(failpoints_);
    done = true;
    visitor.join();
    ASSERT_TRUE(died) << name << " is never passed: " << daemon_.log_tail();
    ASSERT_NO_FATAL_FAILURE(all_get_on()) << name;
    // One that has read the file may be left.
    ASSERT_NO_FATAL_FAILURE(end_daemon(SIGKILL, daemon_pid())) << name;
  }
  std::printf("  %llu deaths at %zu failpoints\n", static_cast<unsigned long long>(deaths()), kFailpoints.size());
  check(false);
}

TEST_F(Keep, ARestartGoesAsAKillDoes) {
  const int restarts = long_run() ? 100 : 3;
  for (int restart = 0; restart < restarts; ++restart) {
    ASSERT_NO_FATAL_FAILURE(end_daemon(SIGTERM, daemon_pid()));
    ASSERT_NO_FATAL_FAILURE(all_get_on());
  }
  for (auto& traffic : traffic_) traffic->stop();
  for (auto& traffic : traffic_) {
    traffic->finish();
    EXPECT_EQ("", traffic->trouble);
    EXPECT_EQ(traffic->sent(), traffic->received());
    EXPECT_EQ(0u, traffic->reader_counters.gaps + traffic->reader_counters.repeats);
  }
}

TEST_F(Keep, AClientThatDiesWhileTheDaemonIsAwayIsRepaired) {
  Board board;
  Process::Options options;
  options.keep_fd = board.fd();
  options.log = daemon_.folder() / "worker.log";
  Process worker = Process::start(
      {CRASH_PRODUCER_PATH, daemon_.socket(), "orders", std::to_string(board.fd()), "7", "send", "0"}, options);
  ASSERT_TRUE(wait_until([&] { return board->workers[7].confirmed.load() > 100; })) << board->workers[7].error;
  const pid_t pid = daemon_pid();
  ASSERT_EQ(::kill(pid, SIGSTOP), 0);
  worker.kill();
  ASSERT_NO_FATAL_FAILURE(end_daemon(SIGKILL, pid));
  ASSERT_NO_FATAL_FAILURE(all_get_on());
  Client client = daemon_.connect();
  ASSERT_TRUE(wait_until([&] { return client.sessions().value().size() == kTopics.size() + 1; }));
}

}  // namespace
}  // namespace sluice::test
