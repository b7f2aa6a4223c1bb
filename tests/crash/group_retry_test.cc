// A handler that fails three times and then succeeds, while the daemon is killed between the second failure and the
// third delivery: the counters and the delays are those that a living daemon would have given. A real daemon below its
// keeper; how late a delivery is, is shown.
#include <sys/types.h>

#include <array>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "shm/base/clock.h"
#include "tests/crash/daemon_process.h"

namespace sluice::test {
namespace {

using namespace std::chrono_literals;

constexpr std::array<std::uint64_t, 3> kDelaysNs = {100'000'000, 500'000'000, 200'000'000};

// When the daemon dies: right behind the nack, whether or not it has read it; or once it is in the store.
enum class Kill { at_once, when_saved };

class Retry : public testing::TestWithParam<std::pair<GroupMode, Kill>> {
 protected:
  void SetUp() override {
    daemon_.use_keeper();
    ASSERT_TRUE(daemon_.start()) << daemon_.log_tail();
  }
  void make(Client& client) {
    TopicConfig topic;
    topic.name = "work";
    ASSERT_TRUE(client.create_topic(topic));
    GroupConfig group;
    group.name = "g";
    group.mode = GetParam().first;
    group.max_attempts = 10;
    group.backoff = Backoff{};
    for (const std::uint64_t delay : kDelaysNs) group.backoff->steps.push_back(std::chrono::nanoseconds(delay));
    ASSERT_TRUE(client.create_group(group));
  }
  void kill_daemon(Client& client) {
    const pid_t pid = client.status().value().pid;
    ASSERT_EQ(::kill(pid, SIGKILL), 0);
    ASSERT_TRUE(wait_until([&] {
      const auto status = client.status();
      return status && status->pid != pid;
    })) << daemon_.log_tail();
  }
  Delivery next(Consumer& consumer) {
    Delivery delivery;
    EXPECT_TRUE(wait_until([&] {
      auto got = consumer.next(50ms);
      if (!got) return false;
      delivery = std::move(*got);
      return true;
    })) << daemon_.log_tail();
    return delivery;
  }

  TestDaemon daemon_;
};

TEST_P(Retry, the_fourth_delivery_is_acked_each_comes_in_its_time_and_the_daemons_death_between_changes_nothing) {
  Client client = daemon_.connect();
  ASSERT_NO_FATAL_FAILURE(make(client));
  ConsumerOptions options;
  options.group = "g";
  options.mode = GetParam().first;
  options.from = From::earliest();
  Consumer consumer = client.consumer({"work"}, options).value();
  Producer producer = client.producer("work").value();
  ASSERT_TRUE(producer.send("a message"));
  ASSERT_TRUE(producer.flush());
  std::uint64_t failed_ns = 0;
  for (std::uint32_t failed = 0; failed <= kDelaysNs.size() && !HasFailure(); ++failed) {
    const Delivery delivery = next(consumer);
    const std::uint64_t now = monotonic_ns();
    EXPECT_EQ(delivery.failed(), failed);
    EXPECT_EQ(delivery.delivered(), failed + 1);
    EXPECT_EQ(delivery.message().text(), "a message");
    if (failed != 0) {
      const std::uint64_t due_ns = failed_ns + kDelaysNs[failed - 1];
      EXPECT_GE(now, due_ns) << "delivery " << failed + 1 << " came too early";
      std::printf("delivery %u: %.1f ms after it was due\n", failed + 1, static_cast<double>(now - due_ns) / 1e6);
    }
    if (failed == kDelaysNs.size()) {
      ASSERT_TRUE(consumer.ack(delivery));
      break;
    }
    failed_ns = monotonic_ns();
    ASSERT_TRUE(consumer.nack(delivery, Duration(-1), "not yet"));
    if (failed != 1) continue;
    if (GetParam().second == Kill::when_saved) {
      ASSERT_TRUE(consumer.ack_sync());
    }
    ASSERT_NO_FATAL_FAILURE(kill_daemon(client));
  }
  ASSERT_TRUE(consumer.ack_sync());
  const auto group = client.group("g");
  ASSERT_TRUE(group && group->partitions.size() == 1u);
  EXPECT_EQ(group->partitions.front().lag_messages, 0u);
  EXPECT_EQ(group->partitions.front().retrying, 0u);
  EXPECT_FALSE(consumer.next(std::chrono::nanoseconds(2 * kDelaysNs.back()))) << "it came again after its ack";
  EXPECT_EQ(client.dead_letter_counts("g").value().front().parked, 0u);
  EXPECT_EQ(0, daemon_.stop()) << daemon_.log_tail();
}

INSTANTIATE_TEST_SUITE_P(All, Retry,
                         testing::Values(std::pair(GroupMode::ordered, Kill::at_once),
                                         std::pair(GroupMode::ordered, Kill::when_saved),
                                         std::pair(GroupMode::shared, Kill::at_once),
                                         std::pair(GroupMode::shared, Kill::when_saved)),
                         [](const auto& one) {
                           return std::string(one.param.first == GroupMode::ordered ? "ordered" : "shared") +
                                  (one.param.second == Kill::at_once ? "_killed_at_once" : "_killed_when_saved");
                         });

}  // namespace
}  // namespace sluice::test
