// The installed unit under a real systemd, whose file-descriptor store keeps the bus's memory: the daemon is killed,
// restarted, and hangs until the watchdog ends it, and nobody notices. A store without room is noticed.
#include <chrono>
#include <memory>
#include <random>
#include <string>
#include <thread>

#include <gtest/gtest.h>

#include "tests/crash/results.h"
#include "tests/crash/traffic.h"
#include "tests/systemd/container.h"

namespace sluice::test {
namespace {

using namespace std::chrono_literals;

// Descriptors of a daemon without topics and clients: the listening socket, the wake-up, the table.
constexpr std::uint64_t kKeptOfDaemon = 3;
constexpr std::uint64_t kKeptOfPartition = 3;

class Systemd : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    why_not_ = why_no_container();
    if (!why_not_.empty()) return;
    container_ = std::make_unique<Container>();
  }
  static void TearDownTestSuite() { container_.reset(); }

  void SetUp() override {
    if (container_ == nullptr) GTEST_SKIP() << why_not_;
    container_->configure_unit("");
    container_->start_afresh();
  }
  void TearDown() override {
    if (container_ != nullptr && HasFailure()) ADD_FAILURE() << container_->log_tail();
  }

  void start_traffic() {
    traffic_ = std::make_unique<AllTraffic>();
    // systemd waits before it starts a daemon again, and a busy machine longer.
    traffic_->start([](const std::string& name) { return container_->connect(name); }, std::chrono::milliseconds(16));
    ASSERT_FALSE(HasFatalFailure());
    ASSERT_TRUE(traffic_->gets_on());
  }

  static std::string main_pid() { return container_->property("MainPID"); }

  // The daemon itself is what systemd started, and what it keeps is in systemd's store.
  static void expect_kept() {
    Client client = container_->connect("check");
    EXPECT_EQ(main_pid(), std::to_string(client.status().value().pid)) << "there is a keeper between";
    EXPECT_GE(container_->number("NFileDescriptorStore"),
              kKeptOfDaemon + kKeptOfPartition * 2 * AllTraffic::topics().size() + AllTraffic::topics().size());
  }

  // Ends the daemon in a way after which systemd starts another one, and waits until that works.
  void replace(const std::vector<std::string>& systemctl) {
    const std::string before = main_pid();
    container_->systemctl(systemctl);
    ASSERT_TRUE(wait_until([&] {
      const std::string now = main_pid();
      return now != before && now != "0";
    }));
    ASSERT_TRUE(traffic_->gets_on());
    expect_kept();
    // A long run starts it more often than the unit's limit allows.
    container_->systemctl({"reset-failed", "sluiced.service"});
  }

  void expect_new_messages_pass() {
    const CommandResult made = container_->run({"sluice", "topic", "create", "fresh"});
    ASSERT_EQ(0, made.exit_code) << made.output;
    const CommandResult passed = container_->run(
        {"sh", "-c", "echo hello | sluice produce fresh && sluice consume fresh --from earliest --count 1"});
    EXPECT_EQ(0, passed.exit_code) << passed.output;
    EXPECT_NE(std::string::npos, passed.output.find("hello\n")) << passed.output;
  }

  static std::unique_ptr<Container> container_;
  static std::string why_not_;
  std::unique_ptr<AllTraffic> traffic_;
};

std::unique_ptr<Container> Systemd::container_;
std::string Systemd::why_not_;

TEST_F(Systemd, NobodyNoticesThatTheDaemonIsKilled) {
  ASSERT_NO_FATAL_FAILURE(start_traffic());
  run_rounds({"systemd_kill", 3, 100, 60}, [&](std::uint64_t seed, Counts& counts) {
    std::mt19937_64 random(seed);
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 100'000));
    replace({"kill", "--signal=KILL", "sluiced.service"});
    ++counts["kills"];
    return 1;
  });
  traffic_->expect_unnoticed(container_->connect("check"), AllTraffic::Away::briefly);
  expect_new_messages_pass();
}

TEST_F(Systemd, ARestartGoesAsAKillDoes) {
  ASSERT_NO_FATAL_FAILURE(start_traffic());
  run_rounds({"systemd_restart", 3, 100, 60}, [&](std::uint64_t, Counts& counts) {
    replace({"restart", "sluiced.service"});
    ++counts["restarts"];
    return 1;
  });
  traffic_->expect_unnoticed(container_->connect("check"), AllTraffic::Away::stopped);
  expect_new_messages_pass();
}

TEST_F(Systemd, ADaemonThatHangsIsReplacedByTheWatchdog) {
  container_->configure_unit("WatchdogSec=1s\n");
  container_->systemctl({"restart", "sluiced.service"});
  ASSERT_NO_FATAL_FAILURE(start_traffic());
  run_rounds({"systemd_watchdog", 3, 100, 60}, [&](std::uint64_t, Counts& counts) {
    replace({"kill", "--signal=STOP", "sluiced.service"});
    ++counts["hangs"];
    return 1;
  });
  traffic_->expect_unnoticed(container_->connect("check"), AllTraffic::Away::long_);
  expect_new_messages_pass();
}

TEST_F(Systemd, AnIdleDaemonIsNoHangingOne) {
  container_->configure_unit("WatchdogSec=1s\n");
  container_->systemctl({"restart", "sluiced.service"});
  const std::string before = main_pid();
  std::this_thread::sleep_for(5s);
  EXPECT_EQ(before, main_pid());
  EXPECT_EQ(0u, container_->number("NRestarts"));
}

TEST_F(Systemd, AStopDrainsAndAStartServesAgain) {
  ASSERT_NO_FATAL_FAILURE(start_traffic());
  traffic_->expect_unnoticed(container_->connect("check"), AllTraffic::Away::briefly);
  const std::uint64_t durable = traffic_->sent(0) + traffic_->sent(1);
  container_->systemctl({"stop", "sluiced.service"});
  EXPECT_EQ("inactive", container_->property("ActiveState"));
  EXPECT_EQ("success", container_->property("Result"));
  EXPECT_EQ(0u, container_->number("NFileDescriptorStore"));
  container_->systemctl({"start", "sluiced.service"});
  Client client = container_->connect("check");
  EXPECT_TRUE(client.status().value().recovery.empty()) << client.status().value().recovery[0];
  std::uint64_t counted = 0;
  for (const std::string topic : {"orders", "payments"}) {
    const AuditReport report = client.audit(topic).value();
    EXPECT_TRUE(report.holds) << topic;
    for (const AuditRow& row : report.rows) counted += row.data;
  }
  EXPECT_EQ(durable, counted);
  expect_new_messages_pass();
}

TEST_F(Systemd, AFullStoreRefusesWhatItCannotKeepAndNothingElse) {
  // Room for the daemon's own, the traffic, and little more.
  constexpr std::uint64_t kStoreSize = 48;
  const std::string size = std::to_string(kStoreSize);
  container_->configure_unit("FileDescriptorStoreMax=" + size + "\nEnvironment=SLUICE_FDSTORE_MAX=" + size + "\n");
  container_->start_afresh();
  ASSERT_NO_FATAL_FAILURE(start_traffic());
  CommandResult made;
  std::uint64_t topics = 0;
  do {
    made = container_->run({"sluice", "topic", "create", "more-" + std::to_string(topics)});
  } while (made.exit_code == 0 && ++topics < kStoreSize);
  EXPECT_EQ(4, made.exit_code) << made.output;
  EXPECT_NE(std::string::npos, made.output.find("FileDescriptorStoreMax")) << made.output;
  ASSERT_GE(topics, 2u);
  // What was refused is not there.
  EXPECT_EQ(5, container_->run({"sluice", "topic", "describe", "more-" + std::to_string(topics)}).exit_code);
  // The others go on, also over a death.
  ASSERT_NO_FATAL_FAILURE(replace({"kill", "--signal=KILL", "sluiced.service"}));
  // And with room made it is let in.
  const CommandResult removed = container_->run({"sluice", "topic", "delete", "more-0"});
  EXPECT_EQ(0, removed.exit_code) << removed.output;
  traffic_->expect_unnoticed(container_->connect("check"), AllTraffic::Away::briefly);
  expect_new_messages_pass();
}

TEST_F(Systemd, AStoreSmallerThanSaidLosesMemoryAndNothingDurable) {
  container_->configure_unit("FileDescriptorStoreMax=5\n");
  container_->start_afresh();
  const CommandResult sent = container_->run(
      {"sh", "-c", "sluice topic create sure --durability sync && seq 100 | sluice produce sure --durability sync"});
  ASSERT_EQ(0, sent.exit_code) << sent.output;
  EXPECT_LT(container_->number("NFileDescriptorStore"), kKeptOfDaemon + kKeptOfPartition);
  Client client = container_->connect("check");
  const std::uint64_t before = client.incarnation().value;
  container_->systemctl({"kill", "--signal=KILL", "sluiced.service"});
  ASSERT_TRUE(wait_until([&] {
    const auto status = client.status();
    return status && status->incarnation.value > before;
  }));
  const CommandResult read = container_->run({"sluice", "consume", "sure", "--from", "earliest", "--exit"});
  EXPECT_EQ(0, read.exit_code) << read.output;
  EXPECT_NE(std::string::npos, read.output.find("99\n100\n")) << read.output;
  // Said, not discovered by whoever wonders where the memory went.
  EXPECT_EQ(1, container_->run({"sluice", "doctor"}).exit_code);
  const CommandResult checked = container_->run({"sluice", "doctor"});
  EXPECT_NE(std::string::npos, checked.output.find("FAILED  last start")) << checked.output;
  expect_new_messages_pass();
}

TEST_F(Systemd, TheUnitVerifiesAndIsNotExposed) {
  const CommandResult verified = container_->run({"systemd-analyze", "verify", "--man=no", "sluiced.service"});
  EXPECT_EQ(0, verified.exit_code) << verified.output;
  const CommandResult exposed =
      container_->run({"systemd-analyze", "security", "--no-pager", "--threshold=20", "sluiced.service"});
  EXPECT_EQ(0, exposed.exit_code) << exposed.output;
}

}  // namespace
}  // namespace sluice::test
