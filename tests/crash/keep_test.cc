// The daemon dies or is restarted below its keeper while producers and readers work: none of them sees an error, no
// send meets back-pressure or waits for the daemon, nothing is lost or repeated. Real processes.
#include <sys/wait.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <fstream>
#include <map>
#include <random>
#include <string>
#include <thread>

#include <gtest/gtest.h>

#include "tests/crash/board.h"
#include "tests/crash/daemon_process.h"
#include "tests/crash/traffic.h"

namespace sluice::test {
namespace {

using namespace std::chrono_literals;

// Where the daemon dies, and at each how many hits on average.
const std::map<std::string, int> kFailpoints = {
    {"spill.write_submitted", 200}, {"spill.synced", 200},    {"spill.published", 200}, {"spill.swept", 1},
    {"log.file_renamed", 2},        {"log.index_written", 2}, {"log.file_removed", 2},  {"log.spare_blank", 1},
    {"store.committed", 2},         {"recovery.scanned", 4},  {"recovery.applied", 4},  {"keep.sent", 2}};

class Keep : public testing::Test {
 protected:
  void SetUp() override {
    daemon_.use_keeper();
    daemon_.configure("[topics]\nsegments_per_file = 2\n[retention]\ncheck_interval = \"1s\"\n");
    failpoints_ = daemon_.folder() / "failpoints";
    ASSERT_TRUE(daemon_.start({"SLUICE_FAILPOINT=@" + failpoints_.string()})) << daemon_.log_tail();
    ASSERT_NO_FATAL_FAILURE(traffic_.start([this](const std::string& name) { return daemon_.connect(name); }));
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

  void all_get_on() { ASSERT_TRUE(traffic_.gets_on()) << daemon_.log_tail(); }

  void expect_unnoticed(AllTraffic::Away away) {
    traffic_.expect_unnoticed(daemon_.connect(), away);
    EXPECT_EQ(0, daemon_.stop()) << daemon_.log_tail();
  }

  // How many daemons the keeper has seen die.
  std::uint64_t deaths() const {
    std::ifstream log(daemon_.folder() / "sluiced.log");
    std::uint64_t count = 0;
    for (std::string line; std::getline(log, line);) count += line.find("daemon ended") != std::string::npos;
    return count;
  }

  TestDaemon daemon_;
  std::filesystem::path failpoints_;
  AllTraffic traffic_;
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
  expect_unnoticed(AllTraffic::Away::briefly);
}

TEST_F(Keep, NobodyNoticesADeathAtAnyFailpoint) {
  const std::uint64_t rounds = long_run() ? 300 : 3;
  for (const auto& [name, hits] : kFailpoints) {
    std::ofstream(failpoints_) << name << "=kill@~" << hits;
    const std::uint64_t before = deaths();
    std::jthread visitor([&](const std::stop_token& done) {
      // Sessions that come and go: claims to sweep, regions to keep.
      while (!done.stop_requested()) {
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
    visitor.request_stop();
    visitor.join();
    ASSERT_TRUE(died) << name << " is never passed: " << daemon_.log_tail();
    ASSERT_NO_FATAL_FAILURE(all_get_on()) << name;
    // One that has read the file may be left.
    ASSERT_NO_FATAL_FAILURE(end_daemon(SIGKILL, daemon_pid())) << name;
  }
  std::printf("  %llu deaths at %zu failpoints\n", static_cast<unsigned long long>(deaths()), kFailpoints.size());
  expect_unnoticed(AllTraffic::Away::long_);
}

TEST_F(Keep, ARestartGoesAsAKillDoes) {
  const int restarts = long_run() ? 100 : 3;
  for (int restart = 0; restart < restarts; ++restart) {
    ASSERT_NO_FATAL_FAILURE(end_daemon(SIGTERM, daemon_pid()));
    ASSERT_NO_FATAL_FAILURE(all_get_on());
  }
  expect_unnoticed(AllTraffic::Away::stopped);
}

// Both go then, and the memory with them: but the daemon stops as if it was asked to.
TEST_F(Keep, TheDeathOfTheKeeperLosesNothingThatWasSent) {
  traffic_.expect_unnoticed(daemon_.connect(), AllTraffic::Away::briefly);
  TopicConfig config;
  config.name = "surviving";
  config.partitions = 2;
  ASSERT_TRUE(daemon_.connect().create_topic(config));
  Traffic traffic(daemon_.connect("surviving"), "surviving", 3);
  const int deaths = long_run() ? 100 : 3;
  for (int death = 0; death < deaths; ++death) {
    const std::uint64_t sent = traffic.sent(), received = traffic.received();
    ASSERT_TRUE(wait_until([&] { return traffic.sent() > sent + 100 && traffic.received() > received; }));
    daemon_.kill();
    // Its daemon holds the directory until it has stopped.
    ASSERT_TRUE(wait_until([&] { return daemon_.start(); })) << daemon_.log_tail();
    EXPECT_TRUE(daemon_.connect().status().value().recovery.empty()) << daemon_.log_tail();
  }
  traffic.finish();
  EXPECT_EQ("", traffic.trouble());
  EXPECT_EQ(traffic.sent(), traffic.received());
  EXPECT_EQ(0u, traffic.reader_counters().gaps + traffic.reader_counters().repeats);
  const AuditReport report = daemon_.connect().audit("surviving").value();
  EXPECT_TRUE(report.holds);
  std::uint64_t data = 0;
  for (const AuditRow& row : report.rows) data += row.data;
  EXPECT_EQ(traffic.sent(), data);
  std::printf("  %d deaths, %llu messages\n", deaths, static_cast<unsigned long long>(data));
  EXPECT_EQ(0, daemon_.stop()) << daemon_.log_tail();
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
  ASSERT_TRUE(wait_until([&] { return client.sessions().value().size() == AllTraffic::topics().size() + 1; }));
}

}  // namespace
}  // namespace sluice::test
