// Producers die with kill -9, at random and in each named window of the append, while others publish: nothing that was
// committed is lost or repeated, the partition flows on, and the audit is clean. Real processes.
#include <sys/wait.h>

#include <atomic>
#include <csignal>
#include <cstdio>
#include <map>
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

constexpr const char* kTopic = "orders";
constexpr std::uint32_t kSteady = 2;  // workers 0 and 1 are not killed
const std::vector<std::string> kWindows = {"ring.pinned", "ring.claimed", "ring.half_written", "ring.written",
                                           "ring.committed"};

class ProducerKill : public testing::Test {
 protected:
  void SetUp() override {
#if !defined(SLUICE_FAILPOINTS)
    GTEST_SKIP() << "this build has no failpoints";
#endif
    ASSERT_TRUE(daemon_.start()) << daemon_.log_tail();
  }

  void create_topic(Duration claim_deadline) {
    Client client = daemon_.connect();
    TopicConfig config;
    config.name = kTopic;
    config.partitions = 2;
    config.segment_size = 256 * 1024;
    config.slots = 8;
    config.claim_deadline = claim_deadline;
    const Status made = client.create_topic(config);
    ASSERT_TRUE(made.has_value()) << made.error().message();
  }

  Process start_worker(std::uint32_t worker, const std::string& mode, std::uint64_t count,
                       const std::string& failpoint = {}) {
    Process::Options options;
    if (!failpoint.empty()) options.environment.push_back("SLUICE_FAILPOINT=" + failpoint);
    options.keep_fd = board_.fd();
    options.log = daemon_.folder() / "workers.log";
    return Process::start({CRASH_PRODUCER_PATH, daemon_.socket(), kTopic, std::to_string(board_.fd()),
                           std::to_string(worker), mode, std::to_string(count)},
                          options);
  }

  std::uint64_t confirmed(std::uint32_t worker) {
    // acquire: pairs with the worker's release after its receipt.
    return board_->workers[worker].confirmed.load(std::memory_order_acquire);
  }

  // Everything from the earliest message to the end, into a new ledger.
  void read_all(Ledger& ledger) {
    Client client = daemon_.connect("check");
    ReaderOptions options;
    options.from = From::earliest();
    std::string loss;
    options.on_loss = [&](const LossEvent& event) { loss = event.address.to_string() + " " + event.reason; };
    auto reader = client.reader({kTopic}, options);
    ASSERT_TRUE(reader.has_value()) << reader.error().message();
    std::string wrong;
    while (!reader->at_initial_end() && wrong.empty()) {
      auto handled = reader->poll(256, 20ms, [&](const Message& message) {
        if (wrong.empty()) wrong = ledger.note(message);
      });
      ASSERT_TRUE(handled.has_value() || handled.error().code() == ErrorCode::timed_out) << handled.error().message();
    }
    EXPECT_EQ("", wrong);
    EXPECT_EQ(0u, reader->counters().gaps) << loss;
    EXPECT_EQ(0u, reader->counters().repeats) << loss;
    EXPECT_EQ(0u, reader->counters().corrupt) << loss;
  }

  void expect_clean_audit() {
    Client client = daemon_.connect("audit");
    auto audit = client.audit(kTopic);
    ASSERT_TRUE(audit.has_value()) << audit.error().message();
    EXPECT_TRUE(audit->holds);
    for (const AuditRow& row : audit->rows) {
      EXPECT_EQ(0u, row.gaps + row.repeats + row.cut + row.quarantined) << "producer " << row.producer.value;
    }
  }

  TestDaemon daemon_;
  Board board_;
};

// A reader that follows live, on a thread of its own.
class LiveReader {
 public:
  explicit LiveReader(Client client) : client_(std::move(client)), thread_([this] { run(); }) {}
  ~LiveReader() { finish(); }
  void finish() {
    stop_.store(true);
    if (thread_.joinable()) thread_.join();
  }
  std::uint64_t messages() const { return messages_.load(); }
  std::string wrong;  // after finish()

 private:
  void run() {
    ReaderOptions options;
    options.from = From::earliest();
    options.on_loss = [](const LossEvent& loss) {
      std::printf("  loss at %s, producer %u, expected %llu, found %llu: %s\n", loss.address.to_string().c_str(),
                  loss.producer.value, static_cast<unsigned long long>(loss.expected.value),
                  static_cast<unsigned long long>(loss.found.value), loss.reason.c_str());
    };
    auto reader = client_.reader({kTopic}, options);
    if (!reader) {
      wrong = reader.error().message();
      return;
    }
    Ledger ledger;
    while (!stop_.load() && wrong.empty()) {
      auto handled = reader->poll(256, 50ms, [&](const Message& message) {
        if (wrong.empty()) wrong = ledger.note(message);
      });
      if (!handled && handled.error().code() != ErrorCode::timed_out) wrong = handled.error().message();
      messages_.store(ledger.messages());
    }
    const ReaderCounters& counters = reader->counters();
    if (wrong.empty() && counters.gaps + counters.repeats + counters.corrupt != 0)
      wrong = "gaps " + std::to_string(counters.gaps) + ", repeats " + std::to_string(counters.repeats) +
              ", corrupt records " + std::to_string(counters.corrupt);
  }

  Client client_;
  std::atomic<bool> stop_ = false;
  std::atomic<std::uint64_t> messages_ = 0;
  std::thread thread_;
};

struct Victim {
  std::uint32_t worker = 0;
  std::string window;  // empty: at random
  std::uint64_t kill_at = 0;
  Process process;
};

TEST_F(ProducerKill, LosesAndRepeatsNothingInAnyWindow) {
  const std::uint32_t kills = long_run() ? 1000 : 300;
  constexpr std::uint32_t kAtOnce = 3;
  create_topic(30s);  // so that every repair here is a death's, none a deadline's
  std::mt19937_64 random(testing::UnitTest::GetInstance()->random_seed() + 1);
  std::vector<Process> steady;
  for (std::uint32_t worker = 0; worker < kSteady; ++worker) steady.push_back(start_worker(worker, "send", 0));
  LiveReader live(daemon_.connect("live"));

  std::map<std::string, std::uint32_t> hits;
  std::map<std::uint32_t, std::string> window_of;
  std::uint32_t next = kSteady;
  while (next < kSteady + kills) {
    std::vector<Victim> victims;
    for (std::uint32_t i = 0; i < kAtOnce && next < kSteady + kills; ++i, ++next) {
      Victim& victim = victims.emplace_back();
      victim.worker = next;
      // Two thirds in named windows, in turn; the rest from outside.
      if (next % 3 != 0) victim.window = kWindows[(next / 3 * 2 + next % 3) % kWindows.size()];
      victim.kill_at = random() % 60;
      window_of[next] = victim.window;
      victim.process =
          start_worker(next,
                       next % 2 == 0                          ? "send"
                       : victim.window == "ring.half_written" ? "send"
                                                              : "claim",
                       0, victim.window.empty() ? "" : victim.window + "=kill@" + std::to_string(1 + random() % 40));
    }
    for (Victim& victim : victims) {
      if (victim.window.empty()) {
        ASSERT_TRUE(wait_until([&] { return confirmed(victim.worker) >= victim.kill_at; }))
            << board_->workers[victim.worker].error;
        victim.process.signal(SIGKILL);
      }
      const auto status = victim.process.wait();
      ASSERT_TRUE(status.has_value()) << "a worker that should die in " << victim.window << " goes on";
      ASSERT_TRUE(WIFSIGNALED(*status) && WTERMSIG(*status) == SIGKILL)
          << "worker " << victim.worker << ": " << board_->workers[victim.worker].error;
      ++hits[victim.window.empty() ? "at random" : victim.window];
    }
    // The partition flows on: both steady workers and the reader get further after these deaths.
    const std::uint64_t before[kSteady] = {confirmed(0), confirmed(1)};
    const std::uint64_t read_before = live.messages();
    ASSERT_TRUE(wait_until([&] {
      return confirmed(0) > before[0] && confirmed(1) > before[1] && live.messages() > read_before;
    })) << "nothing moves after worker "
        << next - 1 << "\n"
        << daemon_.log_tail();
  }
  board_->stop.store(1);
  for (Process& process : steady) {
    const auto status = process.wait();
    ASSERT_TRUE(status && WIFEXITED(*status) && WEXITSTATUS(*status) == 0);
  }
  live.finish();
  EXPECT_EQ("", live.wrong) << daemon_.log_tail();

  Ledger ledger;
  read_all(ledger);
  for (std::uint32_t worker = 0; worker < next; ++worker) {
    const std::uint64_t receipts = confirmed(worker);
    const std::uint64_t attempts = board_->workers[worker].attempted.load();
    const std::uint64_t found = ledger.count(worker);
    EXPECT_EQ(found, ledger.highest(worker)) << "worker " << worker << " has a hole";
    EXPECT_GE(found, receipts) << "worker " << worker << " killed in " << window_of[worker]
                               << ": lost what was committed";
    EXPECT_LE(found, attempts) << "worker " << worker;
    if (window_of[worker] == "ring.committed") {
      EXPECT_EQ(found, receipts + 1) << "worker " << worker;
    } else if (!window_of[worker].empty()) {
      EXPECT_EQ(found, receipts) << "worker " << worker << " killed in " << window_of[worker];
    }
  }
  expect_clean_audit();

  for (const std::string& window : kWindows) EXPECT_GT(hits[window], 0u) << window;
  EXPECT_GT(hits["at random"], 0u);
  for (const auto& [window, count] : hits) std::printf("  killed %-18s %4u\n", window.c_str(), count);
  Client client = daemon_.connect();
  const BusStatus status = client.status().value();
  EXPECT_GT(status.repaired_claims, 0u);
  EXPECT_EQ(0u, status.expired_claims);
  std::printf("  %llu messages; %llu claims repaired; from hang-up to repair: last %.3f ms, longest %.3f ms\n",
              static_cast<unsigned long long>(ledger.messages()),
              static_cast<unsigned long long>(status.repaired_claims), static_cast<double>(status.repair_ns_last) / 1e6,
              static_cast<double>(status.repair_ns_max) / 1e6);
  EXPECT_EQ(0, daemon_.stop());
}

TEST_F(ProducerKill, AStoppedSendRepeatsByItselfAfterItsDeadline) {
  create_topic(200ms);
  constexpr std::uint64_t kCount = 60;
  Process stopped = start_worker(0, "send", kCount, "ring.half_written=stop@20");
  const auto status = stopped.wait(true);
  ASSERT_TRUE(status && WIFSTOPPED(*status));
  Client client = daemon_.connect();
  // Others go on behind the hole once the deadline has passed.
  Process other = start_worker(1, "send", kCount);
  const auto other_status = other.wait();
  ASSERT_TRUE(other_status && WIFEXITED(*other_status) && WEXITSTATUS(*other_status) == 0) << board_->workers[1].error;
  ASSERT_TRUE(wait_until([&] { return client.status().value().expired_claims >= 1; })) << daemon_.log_tail();
  stopped.signal(SIGCONT);
  const auto end = stopped.wait();
  ASSERT_TRUE(end && WIFEXITED(*end) && WEXITSTATUS(*end) == 0) << board_->workers[0].error;
  Ledger ledger;
  read_all(ledger);
  for (std::uint32_t worker : {0u, 1u}) {
    EXPECT_EQ(kCount, confirmed(worker));
    EXPECT_EQ(kCount, ledger.count(worker));
    EXPECT_EQ(kCount, ledger.highest(worker));
  }
  expect_clean_audit();
}

TEST_F(ProducerKill, ACommitAfterTheDeadlineIsToldSo) {
  create_topic(200ms);
  Process stopped = start_worker(0, "stopped", 20);
  const auto status = stopped.wait(true);
  ASSERT_TRUE(status && WIFSTOPPED(*status)) << board_->workers[0].error;
  Client client = daemon_.connect();
  ASSERT_TRUE(wait_until([&] { return client.status().value().expired_claims >= 1; })) << daemon_.log_tail();
  stopped.signal(SIGCONT);
  const auto end = stopped.wait();
  ASSERT_TRUE(end && WIFEXITED(*end) && WEXITSTATUS(*end) == 0) << board_->workers[0].error;
  Ledger ledger;
  read_all(ledger);
  EXPECT_EQ(20u, ledger.count(0));
  expect_clean_audit();
}

}  // namespace
}  // namespace sluice::test
