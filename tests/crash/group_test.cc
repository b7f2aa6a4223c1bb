// Members of a group are killed, stopped and started while producers work: each message is handled at least once, in
// order per key in an ordered group, again only if its member died with it, and the audit holds. Real processes.
#include <sys/wait.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <functional>
#include <map>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "shm/base/clock.h"
#include "tests/crash/daemon_process.h"
#include "tests/crash/group_board.h"

namespace sluice::test {
namespace {

using namespace std::chrono_literals;

class GroupCrash : public testing::Test {
 protected:
  void SetUp() override {
    daemon_.use_keeper();
    ASSERT_TRUE(daemon_.start()) << daemon_.log_tail();
  }

  void create_topic(std::uint32_t partitions) {
    Client client = daemon_.connect();
    TopicConfig config;
    config.name = "work";
    config.partitions = partitions;
    ASSERT_TRUE(client.create_topic(config));
  }

  void create_group(GroupMode mode, std::uint32_t max_attempts, Duration backoff) {
    Client client = daemon_.connect();
    GroupConfig config;
    config.name = "g";
    config.mode = mode;
    config.max_attempts = max_attempts;
    config.backoff = Backoff{{backoff}, {}, {}};
    ASSERT_TRUE(client.create_group(config));
  }

  std::uint32_t start_member(const char* mode, int work_us = 0, int batch = 0) {
    const std::uint32_t number = next_member_++;
    Process::Options options;
    options.keep_fd = board_.fd();
    options.log = daemon_.folder() / ("member" + std::to_string(number) + ".log");
    members_[number] =
        Process::start({CRASH_MEMBER_PATH, daemon_.socket(), "work", "g", mode, std::to_string(board_.fd()),
                        std::to_string(number), std::to_string(work_us), std::to_string(batch)},
                       options);
    return number;
  }

  void produce(std::uint32_t from, std::uint32_t to, std::uint32_t keys, std::uint32_t per_ms) {
    Client client = daemon_.connect("producer");
    auto producer = client.producer("work");
    ASSERT_TRUE(producer);
    for (std::uint32_t id = from; id < to; ++id) {
      const GroupMessage message{id, id % keys, id / keys, 0, monotonic_ns()};
      const std::string key = "k" + std::to_string(message.key);
      MessageOptions options;
      options.key = key;
      const auto sent =
          producer->send(std::string_view(reinterpret_cast<const char*>(&message), sizeof message), options);
      ASSERT_TRUE(sent) << sent.error().message();
      if (per_ms != 0 && id % per_ms == per_ms - 1) std::this_thread::sleep_for(1ms);
    }
    ASSERT_TRUE(producer->flush());
  }

  void expect_handled(std::uint64_t messages) {
    EXPECT_TRUE(wait_until([&] { return board_->handled.load() >= messages; }))
        << board_->handled.load() << " of " << messages << "; " << board_->error << "\n"
        << daemon_.log_tail();
  }

  void stop_members() {
    board_->stop.store(1);
    for (auto& [number, member] : members_) {
      member.signal(SIGCONT);
      const auto status = member.wait();
      ASSERT_TRUE(status) << "member " << number << " hangs";
      EXPECT_TRUE(WIFEXITED(*status) && WEXITSTATUS(*status) == 0) << "member " << number << ": " << board_->error;
    }
    members_.clear();
    EXPECT_EQ(0u, board_->errors.load()) << board_->error;
  }

  // Everything is settled, and nothing was lost.
  void expect_caught_up() {
    Client client = daemon_.connect();
    EXPECT_TRUE(wait_until([&] {
      const auto group = client.group("g");
      return group && std::all_of(group->partitions.begin(), group->partitions.end(),
                                  [](const GroupPartitionInfo& p) { return p.cursor == p.end && p.lag_messages == 0; });
    }));
    const auto audit = client.audit("work");
    ASSERT_TRUE(audit);
    EXPECT_TRUE(audit->holds);
  }

  std::vector<std::uint32_t> running() const {
    std::vector<std::uint32_t> numbers;
    for (const auto& [number, member] : members_) numbers.push_back(number);
    return numbers;
  }

  TestDaemon daemon_;
  GroupBoard board_;
  std::map<std::uint32_t, Process> members_;
  std::uint32_t next_member_ = 0;
};

// Every 200 ms one of them is killed, stopped for a while, or joined by another one.
void disturb(std::mt19937& dice, const std::function<void(std::uint32_t)>& kill,
             const std::function<void(std::uint32_t)>& stop, const std::function<void()>& start,
             const std::vector<std::uint32_t>& members) {
  const std::uint32_t victim = members[dice() % members.size()];
  switch (dice() % 3) {
    case 0: kill(victim); break;
    case 1: stop(victim); break;
    case 2:
      if (members.size() < 6) start();
      break;
  }
  if (members.size() < 3) start();
}

TEST_F(GroupCrash, ordered_members_that_are_killed_stopped_and_started_lose_nothing_and_keep_each_keys_order) {
  constexpr std::uint32_t kMessages = 1'000'000;
  ASSERT_NO_FATAL_FAILURE(create_topic(8));
  for (int i = 0; i < 3; ++i) start_member("ordered");
  std::atomic<bool> produced{false};
  std::thread producer([&] {
    produce(0, kMessages, 1000, 100);
    produced = true;
  });
  std::mt19937 dice(20261127);
  std::uint32_t kills = 0;
  std::vector<std::uint32_t> stopped;
  while (!produced || board_->handled.load() < kMessages) {
    std::this_thread::sleep_for(200ms);
    for (const std::uint32_t number : std::exchange(stopped, {}))
      if (members_.count(number) != 0) members_[number].signal(SIGCONT);
    if (produced && board_->handled.load() == kMessages) break;
    disturb(
        dice,
        [&](std::uint32_t number) {
          members_[number].kill();
          members_.erase(number);
          ++kills;
        },
        [&](std::uint32_t number) {
          members_[number].signal(SIGSTOP);
          stopped.push_back(number);
        },
        [&] { start_member("ordered"); }, running());
    if (HasFailure() || board_->errors.load() != 0) break;
  }
  producer.join();
  expect_handled(kMessages);
  ASSERT_NO_FATAL_FAILURE(stop_members());
  EXPECT_EQ(0u, board_->disordered.load()) << "messages before the one of their key that comes before them";
  // One that was handled and not acked yet comes again.
  EXPECT_LE(board_->repeats.load(), kills);
  expect_caught_up();
  std::printf("%u members, %u killed, %llu messages again\n", next_member_, kills,
              static_cast<unsigned long long>(board_->repeats.load()));
  EXPECT_EQ(0, daemon_.stop()) << daemon_.log_tail();
}

TEST_F(GroupCrash, shared_members_that_are_killed_lose_nothing_and_repeat_only_what_they_had_begun) {
  constexpr std::uint32_t kMessages = 100'000;
  ASSERT_NO_FATAL_FAILURE(create_topic(2));
  ASSERT_NO_FATAL_FAILURE(create_group(GroupMode::shared, 1000, 10ms));
  for (int i = 0; i < 3; ++i) start_member("shared");
  std::atomic<bool> produced{false};
  std::thread producer([&] {
    produce(0, kMessages, 1000, 20);
    produced = true;
  });
  std::uint32_t kills = 0;
  std::mt19937 dice(7);
  while (!produced) {
    std::this_thread::sleep_for(200ms);
    const std::vector<std::uint32_t> numbers = running();
    const std::uint32_t victim = numbers[dice() % numbers.size()];
    members_[victim].kill();
    members_.erase(victim);
    ++kills;
    start_member("shared");
  }
  producer.join();
  expect_handled(kMessages);
  ASSERT_NO_FATAL_FAILURE(stop_members());
  EXPECT_LE(board_->repeats.load(), kills);
  expect_caught_up();
  EXPECT_EQ(0, daemon_.stop()) << daemon_.log_tail();
}

TEST_F(GroupCrash, a_daemon_that_is_killed_repeats_in_an_ordered_group_nothing) {
  constexpr std::uint32_t kMessages = 200'000;
  ASSERT_NO_FATAL_FAILURE(create_topic(4));
  for (int i = 0; i < 3; ++i) start_member("ordered");
  std::atomic<bool> produced{false};
  std::thread producer([&] {
    produce(0, kMessages, 1000, 40);
    produced = true;
  });
  int kills = 0;
  for (; !produced && kills < 10; ++kills) {
    std::this_thread::sleep_for(500ms);
    const pid_t pid = daemon_.connect().status().value().pid;
    ASSERT_EQ(::kill(pid, SIGKILL), 0);
    ASSERT_TRUE(wait_until([&] {
      const auto status = daemon_.connect().status();
      return status && status->pid != pid;
    }));
  }
  producer.join();
  expect_handled(kMessages);
  ASSERT_NO_FATAL_FAILURE(stop_members());
  EXPECT_EQ(0u, board_->disordered.load());
  EXPECT_EQ(0u, board_->repeats.load()) << "in " << kills << " deaths of the daemon; no member has died";
  expect_caught_up();
  EXPECT_EQ(0, daemon_.stop()) << daemon_.log_tail();
}

TEST_F(GroupCrash, the_message_that_kills_its_consumer_is_parked_and_none_of_those_fetched_with_it) {
  for (const char* mode : {"ordered", "shared"}) {
    SCOPED_TRACE(mode);
    Client client = daemon_.connect();
    if (client.topic("work")) {
      ASSERT_TRUE(client.delete_topic("work"));
      ASSERT_TRUE(client.delete_group("g"));
      ASSERT_TRUE(client.delete_topic("dlq.g"));
    }
    ASSERT_NO_FATAL_FAILURE(create_topic(1));
    ASSERT_NO_FATAL_FAILURE(
        create_group(std::string(mode) == "shared" ? GroupMode::shared : GroupMode::ordered, 3, 5ms));
    std::memset(static_cast<void*>(board_.operator->()), 0, sizeof(GroupBoardMemory));
    board_->poison.store(1 + 42);
    ASSERT_NO_FATAL_FAILURE(produce(0, 100, 100, 0));
    std::uint32_t deaths = 0;
    std::uint32_t number = start_member(mode, 0, 100);
    const auto parked = [&] {
      const auto counts = client.dead_letter_counts("g");
      return counts && !counts->empty() && counts->front().parked == 1;
    };
    ASSERT_TRUE(wait_until([&] {
      if (members_[number].poll()) {
        members_.erase(number);
        ++deaths;
        number = start_member(mode, 0, 100);
      }
      return board_->handled.load() >= 99 && parked();
    })) << board_->handled.load()
        << " handled, " << deaths << " deaths\n"
        << daemon_.log_tail();
    ASSERT_NO_FATAL_FAILURE(stop_members());
    EXPECT_EQ(0u, board_->count_of[42].load());
    // Once with all the others in hand, which charges nobody, and then three times alone.
    EXPECT_EQ(4u, deaths);
    const auto letters = client.dead_letters("g", 0, 10);
    ASSERT_TRUE(letters && letters->size() == 1u);
    EXPECT_EQ(3u, letters->front().failed);
    EXPECT_EQ("work", letters->front().topic);
    expect_caught_up();
  }
  EXPECT_EQ(0, daemon_.stop()) << daemon_.log_tail();
}

// The slow one keeps what it has begun, and nothing else waits for it: first while it holds one message for as long as
// all the others take, then while it takes a second for each.
TEST_F(GroupCrash, of_eight_shared_members_on_one_partition_a_slow_one_keeps_no_message_but_its_own_waiting) {
  constexpr std::uint32_t kWhileHeld = 2000;
  constexpr std::uint32_t kMessages = 4000;
  ASSERT_NO_FATAL_FAILURE(create_topic(1));
  ASSERT_NO_FATAL_FAILURE(create_group(GroupMode::shared, 3, 10ms));
  const std::uint32_t slow = start_member("shared", 1'000'000);
  board_->held.store(slow + 1);
  for (int i = 0; i < 7; ++i) start_member("shared");
  Client client = daemon_.connect();
  ASSERT_TRUE(wait_until([&] {
    const auto group = client.group("g");
    return group && group->members.size() == 8;
  })) << daemon_.log_tail();
  ASSERT_NO_FATAL_FAILURE(produce(0, kWhileHeld, 100, 10));
  expect_handled(kWhileHeld - 1);
  EXPECT_EQ(1u, board_->holding.load());
  for (const std::uint32_t number : running())
    EXPECT_EQ(number == slow, board_->by_member[number].load() == 0) << "member " << number;
  const std::uint64_t let_go_ns = monotonic_ns();
  board_->held.store(0);
  ASSERT_NO_FATAL_FAILURE(produce(kWhileHeld, kMessages, 100, 1));
  expect_handled(kMessages);
  const std::uint64_t seconds = (monotonic_ns() - let_go_ns) / 1'000'000'000;
  EXPECT_LE(board_->by_member[slow].load(), seconds + 2) << "more than it can have handled";
  EXPECT_EQ(0u, board_->repeats.load());
  std::vector<std::uint32_t> waited_us;
  for (std::uint32_t id = 0; id < kMessages; ++id)
    if (board_->handled_by[id].member.load() != slow + 1) waited_us.push_back(board_->handled_by[id].after_us.load());
  std::sort(waited_us.begin(), waited_us.end());
  for (const std::uint32_t number : running())
    std::printf("member %u%s: %llu messages\n", number, number == slow ? ", the slow one" : "",
                static_cast<unsigned long long>(board_->by_member[number].load()));
  ASSERT_FALSE(waited_us.empty());
  std::printf("from the send to the others' handlers: p50 %.1f ms, p99 %.1f ms, max %.1f ms\n",
              waited_us[waited_us.size() / 2] / 1e3, waited_us[waited_us.size() * 99 / 100] / 1e3,
              waited_us.back() / 1e3);
  ASSERT_NO_FATAL_FAILURE(stop_members());
  expect_caught_up();
  EXPECT_EQ(0, daemon_.stop()) << daemon_.log_tail();
}

// Shown, not judged: from the kill of a member to the first message of its partition in another one's handler. Both
// ends are taken by those who do it, on one clock: the killer right before the signal, the handler when it begins.
TEST_F(GroupCrash, the_partitions_of_a_killed_member_are_read_by_another) {
  ASSERT_NO_FATAL_FAILURE(create_topic(2));
  std::atomic<bool> stop{false};
  std::thread producer([&] {
    for (std::uint32_t from = 0; !stop; from += 1000) produce(from, from + 1000, 1000, 5);
  });
  start_member("ordered");
  const int kills = long_run() ? 100 : 20;
  std::vector<double> took_ms;
  Client client = daemon_.connect();
  for (int i = 0; i < kills && !HasFailure(); ++i) {
    const std::uint32_t victim = start_member("ordered");
    std::uint32_t partition = 0;
    // Each of both has one, and reads it.
    ASSERT_TRUE(wait_until([&] {
      const auto group = client.group("g");
      if (!group || group->members.size() != 2) return false;
      for (partition = 0; partition < 2 && board_->last_of_partition[partition].load() != victim + 1;) ++partition;
      return partition < 2 && std::all_of(group->members.begin(), group->members.end(),
                                          [](const MemberInfo& m) { return m.partitions == 1; });
    })) << daemon_.log_tail();
    TakeOver& take_over = board_->take_over;
    take_over.at_ns.store(0);
    take_over.victim.store(victim);
    take_over.partition.store(partition + 1);
    const std::uint64_t killed_ns = monotonic_ns();
    members_[victim].signal(SIGKILL);
    ASSERT_TRUE(wait_until([&] { return take_over.at_ns.load() != 0; })) << daemon_.log_tail();
    took_ms.push_back(static_cast<double>(take_over.at_ns.load() - killed_ns) / 1e6);
    take_over.partition.store(0);
    members_[victim].kill();
    members_.erase(victim);
  }
  stop = true;
  producer.join();
  ASSERT_NO_FATAL_FAILURE(stop_members());
  std::sort(took_ms.begin(), took_ms.end());
  if (!took_ms.empty())
    std::printf("from kill to the first message at another, %zu kills: p50 %.1f ms, p99 %.1f ms, max %.1f ms\n",
                took_ms.size(), took_ms[took_ms.size() / 2], took_ms[took_ms.size() * 99 / 100], took_ms.back());
  EXPECT_EQ(0, daemon_.stop()) << daemon_.log_tail();
}

}  // namespace
}  // namespace sluice::test
