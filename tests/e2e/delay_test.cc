// Many delayed messages through a real daemon that is killed while they come due: a plain reader gets each once, and
// none before its time. Prints how late they came, and what one that waits costs the daemon.
#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <numeric>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "shm/base/clock.h"
#include "tests/crash/daemon_process.h"

namespace sluice::test {
namespace {

using namespace std::chrono_literals;

constexpr std::size_t kMessageSize = 64;

struct Plan {
  std::uint64_t messages = 0;
  std::uint64_t lead_ns = 0;    // until the first is due: all are sent by then
  std::uint64_t spread_ns = 0;  // from the first to the last
  std::uint64_t kills = 0;      // within it
};

Plan plan() {
  constexpr std::uint64_t kSecond = 1'000'000'000;
  if (long_run()) return {1'000'000, 15 * kSecond, 60 * kSecond, 3};
  return {30'000, 1 * kSecond, 4 * kSecond, 4};
}

struct Content {
  std::uint64_t number = 0;
  std::uint64_t due_ns = 0;
};

class DelayRun {
 public:
  explicit DelayRun(const Plan& plan) : plan_(plan), seen_(plan.messages, 0) { lateness_ns_.reserve(plan.messages); }

  // In random order of times.
  void send(Client& client) {
    std::vector<std::uint64_t> order(plan_.messages);
    std::iota(order.begin(), order.end(), 0);
    std::shuffle(order.begin(), order.end(), std::mt19937_64(5));
    Producer producer = client.producer("later").value();
    const std::uint64_t first = realtime_ns() + plan_.lead_ns;
    std::array<std::byte, kMessageSize> payload{};
    for (const std::uint64_t number : order) {
      const Content content{number, first + number * plan_.spread_ns / plan_.messages};
      std::memcpy(payload.data(), &content, sizeof content);
      MessageOptions options;
      options.deliver_at_ns = content.due_ns;
      const auto sent = producer.send_async(payload, options);
      ASSERT_TRUE(sent) << sent.error().message();
    }
    const Status flushed = producer.flush(std::chrono::seconds(kHangSeconds));
    ASSERT_TRUE(flushed) << flushed.error().message();
    first_due_ns_ = first;
  }

  void read(Reader& reader, const std::atomic<bool>& give_up) {
    while (lateness_ns_.size() < plan_.messages && !give_up.load()) {
      const auto message = reader.next(100ms);
      if (!message) {
        if (message.error().code() != ErrorCode::timed_out && message.error().code() != ErrorCode::no_daemon) {
          wrong_ = message.error().message();
          return;
        }
        continue;
      }
      const std::uint64_t now = realtime_ns();
      Content content;
      std::memcpy(&content, message->payload().data(), sizeof content);
      if (content.number >= plan_.messages || message->payload().size() != kMessageSize) {
        wrong_ = "a message that nobody sent";
        return;
      }
      if (now < content.due_ns) wrong_ = "message " + std::to_string(content.number) + " came before its time";
      if (++seen_[content.number] != 1) wrong_ = "message " + std::to_string(content.number) + " came again";
      lateness_ns_.push_back(now - std::min(now, content.due_ns));
      received_.store(lateness_ns_.size());
    }
    // Whatever comes now comes again.
    if (reader.next(200ms)) wrong_ = "a message more than were sent";
  }

  void print(const char* what, std::uint64_t bytes_before, std::uint64_t bytes_after) {
    std::sort(lateness_ns_.begin(), lateness_ns_.end());
    const auto at = [&](double part) {
      return static_cast<double>(
                 lateness_ns_[static_cast<std::size_t>(part * static_cast<double>(lateness_ns_.size() - 1))]) /
             1e6;
    };
    const double each = static_cast<double>(bytes_after) - static_cast<double>(bytes_before);
    std::printf(
        "  %s: %llu delayed messages over %.0f s, daemon killed %llu times: late p50 %.2f ms, p99 %.2f ms, "
        "p99.9 %.2f ms, max %.2f ms; %.1f bytes of the daemon for each that waits\n",
        what, static_cast<unsigned long long>(plan_.messages), static_cast<double>(plan_.spread_ns) / 1e9,
        static_cast<unsigned long long>(plan_.kills), at(0.5), at(0.99), at(0.999), at(1),
        each / static_cast<double>(plan_.messages));
  }

  const std::string& wrong() const { return wrong_; }
  std::uint64_t received() const { return received_.load(); }
  std::uint64_t first_due_ns() const { return first_due_ns_; }

 private:
  const Plan plan_;
  std::uint64_t first_due_ns_ = 0;
  std::atomic<std::uint64_t> received_{0};
  // The reader's thread.
  std::vector<std::uint8_t> seen_;
  std::vector<std::uint64_t> lateness_ns_;
  std::string wrong_;
};

TopicConfig later(Visibility visibility) {
  TopicConfig config;
  config.name = "later";
  config.visibility = visibility;
  return config;
}

// `kill` ends the daemon and has the next one started; none: it lives.
void run(TestDaemon& daemon, Visibility visibility, const char* what, const std::function<void()>& kill) {
  Plan planned = plan();
  if (!kill) planned.kills = 0;
  Client client = daemon.connect("delay");
  ASSERT_TRUE(client.create_topic(later(visibility)));
  DelayRun run(planned);
  Reader reader = client.reader({"later"}).value();
  const pid_t pid = client.status().value().pid;
  const std::uint64_t before = anonymous_bytes(pid);
  ASSERT_NO_FATAL_FAILURE(run.send(client));
  EXPECT_EQ(client.topic("later")->partitions.front().delayed, planned.messages);
  const std::uint64_t after = anonymous_bytes(pid);
  std::atomic<bool> give_up{false};
  std::thread reading([&] { run.read(reader, give_up); });
  for (std::uint64_t i = 1; i <= planned.kills; ++i) {
    const std::uint64_t at = run.first_due_ns() + planned.spread_ns * i / (planned.kills + 1);
    while (realtime_ns() < at) std::this_thread::sleep_for(1ms);
    kill();
  }
  const bool all = wait_until([&] { return run.received() == planned.messages || !run.wrong().empty(); });
  give_up.store(!all);
  reading.join();
  EXPECT_EQ(run.received(), planned.messages);
  EXPECT_EQ(run.wrong(), "");
  if (run.received() == planned.messages) run.print(what, before, after);
  const AuditReport audit = client.audit("later").value();
  EXPECT_TRUE(audit.holds);
  std::uint64_t delayed = 0;
  for (const AuditRow& row : audit.rows) delayed += row.delayed;
  EXPECT_EQ(delayed, planned.messages);
  EXPECT_EQ(client.topic("later")->partitions.front().delayed, 0u);
  // With so many, what else a daemon has by then no longer matters.
  if (long_run()) {
    EXPECT_LT((after - std::min(before, after)) / planned.messages, 200u);
  }
}

// What is late here is late by the daemon's and the reader's waking alone.
TEST(Delays, EachComesOnceWhileNobodyDies) {
  TestDaemon daemon;
  ASSERT_TRUE(daemon.start()) << daemon.log_tail();
  run(daemon, Visibility::committed, "nobody dies", {});
}

TEST(Delays, EachComesOnceWhileTheDaemonIsKilledBelowItsKeeper) {
  TestDaemon daemon;
  daemon.use_keeper();
  ASSERT_TRUE(daemon.start()) << daemon.log_tail();
  const auto kill = [&] {
    const auto pid = [&] { return daemon.connect().status().value().pid; };
    const pid_t dies = pid();
    ASSERT_EQ(::kill(dies, SIGKILL), 0);
    ASSERT_TRUE(wait_until([&] { return pid() != dies; })) << daemon.log_tail();
  };
  run(daemon, Visibility::committed, "memory kept", kill);
}

// Right behind an append, before anybody has noted it: the next daemon finds the ref in memory.
TEST(Delays, EachComesOnceWhileTheDaemonDiesWithRefsItHasJustAppended) {
  TestDaemon daemon;
  daemon.use_keeper();
  const std::string failpoint = "spill.ref_appended=kill@~" + std::to_string(plan().messages / 15);
  ASSERT_TRUE(daemon.start({"SLUICE_FAILPOINT=" + failpoint})) << daemon.log_tail();
  run(daemon, Visibility::committed, "killed at a ref", [] {});
}

// With the memory goes what was not durable, refs too: a reader that is shown nothing else sees nothing twice.
TEST(Delays, EachComesOnceWhileTheDaemonDiesWithItsMemory) {
  TestDaemon daemon;
  ASSERT_TRUE(daemon.start()) << daemon.log_tail();
  const auto kill = [&] {
    daemon.kill();
    ASSERT_TRUE(daemon.start()) << daemon.log_tail();
  };
  run(daemon, Visibility::durable, "memory lost", kill);
}

}  // namespace
}  // namespace sluice::test
