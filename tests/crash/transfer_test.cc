// Money moved between accounts by consume–transform–produce, while workers and the daemon are killed: each transfer has
// exactly one debit and one credit, so that the sum never changes and no account's history has a gap or a repeat.
#include <chrono>
#include <csignal>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <map>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "shm/base/clock.h"
#include "tests/crash/daemon_process.h"

namespace sluice::test {
namespace {

using namespace std::chrono_literals;

constexpr std::uint32_t kAccounts = 100;
constexpr std::size_t kWorkers = 8;
constexpr std::uint32_t kReadAtOnce = 64;  // far fewer than from one kill to the next

struct Plan {
  std::uint64_t transfers;
  std::uint64_t workers_killed;
  std::uint64_t daemons_killed;
};
Plan plan() { return long_run() ? Plan{1'000'000, 500, 100} : Plan{20'000, 12, 4}; }

struct Entries {
  int debits = 0;
  int credits = 0;
  long sum = 0;
};

class Bank {
 public:
  explicit Bank(TestDaemon& daemon) : daemon_(daemon), client_(daemon.connect("bank")) {
    for (const char* topic : {"transfers", "entries"}) {
      TopicConfig config;
      config.name = topic;
      config.partitions = 4;
      EXPECT_TRUE(client_.create_topic(config));
    }
    GroupConfig group;
    group.name = "tellers";
    group.max_attempts = 1'000'000;  // a killed worker fails what it had in its hands: none of it is to be parked
    group.backoff = Backoff{{1ms}, {}, {}};
    EXPECT_TRUE(client_.create_group(group));
  }

  void publish(std::uint64_t count) {
    std::mt19937_64 random(11);
    Producer producer = client_.producer("transfers").value();
    for (std::uint64_t i = 0; i < count; ++i) {
      const std::string from = "a" + std::to_string(random() % kAccounts);
      const std::string to = "a" + std::to_string(random() % kAccounts);
      MessageOptions options;
      options.key = from;
      const auto sent = producer.send_async(
          std::to_string(i) + " " + from + " " + to + " " + std::to_string(1 + random() % 100), options);
      ASSERT_TRUE(sent) << sent.error().message();
    }
    ASSERT_TRUE(producer.flush());
  }

  Process worker() {
    return Process::start({CRASH_TRANSFER_WORKER_PATH, daemon_.socket()},
                          {{}, (daemon_.folder() / "workers.log").string(), -1, static_cast<uid_t>(-1)});
  }

  // Reads on, not so much that a kill could be late; true once there are two entries for each transfer.
  bool read(Reader& reader, std::uint64_t transfers) {
    for (std::uint32_t i = 0; i < kReadAtOnce; ++i) {
      const auto message = reader.next(10ms);
      if (!message) break;
      std::istringstream text{std::string(message->text())};
      std::uint64_t id = 0;
      std::string account;
      long amount = 0;
      text >> id >> account >> amount;
      Entries& entries = entries_[id];
      ++(amount < 0 ? entries.debits : entries.credits);
      entries.sum += amount;
      balances_[account] += amount;
      ++count_;
    }
    return count_ >= 2 * transfers;
  }

  void check(std::uint64_t transfers) {
    EXPECT_EQ(entries_.size(), transfers);
    EXPECT_EQ(count_, 2 * transfers);
    std::uint64_t wrong = 0;
    for (const auto& [id, entries] : entries_)
      wrong += entries.debits != 1 || entries.credits != 1 || entries.sum != 0 ? 1 : 0;
    EXPECT_EQ(wrong, 0u) << "transfers with a gap or a repeat";
    long sum = 0;
    for (const auto& [account, balance] : balances_) sum += balance;
    EXPECT_EQ(sum, 0);
    for (const char* topic : {"transfers", "entries"}) EXPECT_TRUE(client_.audit(topic)->holds) << topic;
  }

  // What workers that ended by themselves gave as their reason.
  std::string workers_said() const {
    std::ifstream file(daemon_.folder() / "workers.log");
    return {std::istreambuf_iterator<char>(file), {}};
  }
  Client& client() { return client_; }
  std::uint64_t count() const { return count_; }

 private:
  TestDaemon& daemon_;
  Client client_;
  std::map<std::uint64_t, Entries> entries_;
  std::map<std::string, long> balances_;
  std::uint64_t count_ = 0;
};

TEST(Transfers, TheSumNeverChangesAndNoHistoryHasAGapOrARepeat) {
  const Plan planned = plan();
  TestDaemon daemon;
  daemon.use_keeper();
  ASSERT_TRUE(daemon.start()) << daemon.log_tail();
  Bank bank(daemon);
  ASSERT_NO_FATAL_FAILURE(bank.publish(planned.transfers));
  ReaderOptions options;
  options.from = From::earliest();
  Reader reader = bank.client().reader({"entries"}, options).value();
  std::vector<Process> workers;
  for (std::size_t i = 0; i < kWorkers; ++i) workers.push_back(bank.worker());
  std::mt19937_64 random(7);
  const std::uint64_t began = monotonic_ns();
  const std::uint64_t kills = planned.workers_killed + planned.daemons_killed;
  std::uint64_t killed = 0, quiet_since = monotonic_ns(), seen = 0;
  while (!bank.read(reader, planned.transfers)) {
    for (Process& worker : workers) {
      if (!worker.running() || !worker.poll()) continue;
      ADD_FAILURE() << "a worker has ended: " << bank.workers_said();
      worker = bank.worker();
    }
    if (bank.count() != seen) {
      seen = bank.count();
      quiet_since = monotonic_ns();
    }
    ASSERT_LT(monotonic_ns() - quiet_since, kHangSeconds * 1'000'000'000ull) << "nothing moves any more";
    // Evenly over what there is to do.
    if (killed >= kills || bank.count() < (killed + 1) * 2 * planned.transfers / (kills + 1)) continue;
    if (killed++ % (kills / planned.daemons_killed) == 1) {
      ASSERT_EQ(::kill(bank.client().status().value().pid, SIGKILL), 0);
    } else {
      Process& worker = workers[random() % kWorkers];
      worker.kill();
      worker = bank.worker();
    }
  }
  const double seconds = static_cast<double>(monotonic_ns() - began) / 1e9;
  EXPECT_EQ(killed, kills);
  workers.clear();
  EXPECT_TRUE(wait_until([&] { return bank.client().status().value().open_transactions == 0; })) << "all of the dead";
  bank.read(reader, planned.transfers);
  bank.check(planned.transfers);
  std::printf("  %llu transfers by %zu workers, %llu kills of workers and daemons: %.0f a second\n",
              static_cast<unsigned long long>(planned.transfers), kWorkers, static_cast<unsigned long long>(killed),
              static_cast<double>(planned.transfers) / seconds);
}

}  // namespace
}  // namespace sluice::test
