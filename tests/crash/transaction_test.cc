// Transactions with real processes: producers that are killed in the middle, daemons too, answers that conflict.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <fstream>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "shm/base/clock.h"
#include "tests/crash/daemon_process.h"

namespace sluice::test {
namespace {

using namespace std::chrono_literals;

constexpr const char* kTopic = "orders";
constexpr const char* kGroup = "shop";

class Transactions : public testing::Test {
 protected:
  void start(bool keeper = true, const std::vector<std::string>& environment = {}) {
    if (keeper) daemon.use_keeper();
    ASSERT_TRUE(daemon.start(environment)) << daemon.log_tail();
    client.emplace(daemon.connect("transactions"));
    TopicConfig config;
    config.name = kTopic;
    ASSERT_TRUE(client->create_topic(config));
  }
  void kill_daemon() {
    const auto pid = [&] { return daemon.connect().status().value().pid; };
    const pid_t dies = pid();
    ASSERT_EQ(::kill(dies, SIGKILL), 0);
    ASSERT_TRUE(wait_until([&] { return pid() != dies; })) << daemon.log_tail();
  }
  // A process that holds an open transaction, whose id comes back as text.
  Process transactor(std::string& id, bool check_back = true) {
    const std::string file = daemon.folder() / ("transaction-" + std::to_string(++files));
    Process process =
        Process::start({CRASH_TRANSACTOR_PATH, daemon.socket(), kTopic, kGroup, file, check_back ? "yes" : "no"});
    EXPECT_TRUE(wait_until([&] { return static_cast<bool>(std::ifstream(file) >> id); }));
    return process;
  }
  std::string state_of(const std::string& id) {
    const auto dash = id.find('-');
    const auto found =
        client->transaction(TransactionId::make(ProducerId(static_cast<std::uint32_t>(std::stoul(id.substr(0, dash)))),
                                                static_cast<std::uint32_t>(std::stoul(id.substr(dash + 1)))));
    return found ? found->state : found.error().message();
  }
  // Every message that is there by now.
  std::vector<std::string> read_all() {
    ReaderOptions options;
    options.from = From::earliest();
    Reader reader = client->reader({kTopic}, options).value();
    std::vector<std::string> texts;
    while (const auto message = reader.next(300ms)) texts.emplace_back(message->text());
    return texts;
  }

  TestDaemon daemon;
  std::optional<Client> client;
  int files = 0;
};

void print_times(const char* what, std::vector<std::uint64_t> ns) {
  std::sort(ns.begin(), ns.end());
  const auto at = [&](double part) {
    return static_cast<double>(ns[static_cast<std::size_t>(part * static_cast<double>(ns.size() - 1))]) / 1e6;
  };
  std::printf("  %s: %zu times, p50 %.2f ms, p99 %.2f ms, max %.2f ms\n", what, ns.size(), at(0.5), at(0.99), at(1));
}

TEST_F(Transactions, OneWhoseProducerIsKilledIsCheckedAtAnotherOfItsGroupAtOnce) {
  start();
  std::mutex mutex;
  std::map<std::string, std::uint64_t> checked_ns;  // by what the half says
  TransactionalOptions options;
  options.group = kGroup;
  options.check = [&](const TransactionCheck& check) {
    const std::lock_guard lock(mutex);
    EXPECT_EQ(check.messages.size(), 1u);
    if (check.messages.empty()) return Verdict::unknown;
    EXPECT_EQ(check.messages.front().text(), to_text(check.id));
    checked_ns[std::string(check.messages.front().text())] = monotonic_ns();
    return Verdict::commit;
  };
  TransactionalProducer producer = client->transactional_producer(options).value();
  Reader reader = client->reader({kTopic}).value();
  std::vector<std::uint64_t> to_check, to_delivery;
  for (int i = 0; i < (long_run() ? 100 : 15); ++i) {
    std::string id;
    Process process = transactor(id);
    const std::uint64_t killed = monotonic_ns();
    process.kill();
    const auto message = reader.next(60s);
    ASSERT_TRUE(message) << message.error().message();
    to_delivery.push_back(monotonic_ns() - killed);
    EXPECT_EQ(message->text(), id);
    const std::lock_guard lock(mutex);
    to_check.push_back(checked_ns[id] - killed);
    EXPECT_EQ(state_of(id), "committed");
  }
  print_times("from kill -9 of the producer to the check at another", to_check);
  print_times("from kill -9 of the producer to the message at a reader", to_delivery);
}

TEST_F(Transactions, WithNobodyToAskOneStaysOpenOverRestartsOfEverythingAndIsResolvedWhenOneComesBack) {
  start();
  std::string id;
  Process process = transactor(id);
  process.kill();
  const auto still_open = [&] {
    const auto list = client->transactions(TransactionId(), 10).value();
    ASSERT_EQ(list.size(), 1u);
    EXPECT_EQ(to_text(list.front().id), id);
    EXPECT_EQ(list.front().state, "open");
    EXPECT_EQ(list.front().unknowns, 0u) << "nobody was asked, so nothing counts";
  };
  still_open();
  kill_daemon();
  still_open();
  client.reset();
  EXPECT_EQ(daemon.stop(), 0);
  ASSERT_TRUE(daemon.start()) << daemon.log_tail();
  client.emplace(daemon.connect("transactions"));
  still_open();
  TransactionalOptions options;
  options.group = kGroup;
  options.check = [](const TransactionCheck&) { return Verdict::commit; };
  const TransactionalProducer producer = client->transactional_producer(options).value();
  ASSERT_TRUE(wait_until([&] { return state_of(id) == "committed"; }));
  EXPECT_EQ(read_all(), std::vector<std::string>{id});
}

TEST_F(Transactions, OneOfMessagesAloneIsRolledBackWithItsProducer) {
  start();
  std::string id;
  Process process = transactor(id, false);
  EXPECT_EQ(state_of(id), "open");
  process.kill();
  ASSERT_TRUE(wait_until([&] { return state_of(id) == "rolled_back"; }));
  EXPECT_TRUE(read_all().empty());
}

TEST_F(Transactions, OfTwoAnswersThatConflictOneStandsAndTheOtherIsTold) {
  start();
  const int rounds = long_run() ? 10'000 : 500;
  TransactionalOptions options;
  options.group = kGroup;
  TransactionalProducer begins = client->transactional_producer(options).value();
  std::vector<TransactionalProducer> answers;
  for (int i = 0; i < 2; ++i) answers.push_back(client->transactional_producer(options).value());
  std::set<std::string> committed;
  Reader reader = client->reader({kTopic}).value();
  for (int round = 0; round < rounds; ++round) {
    Transaction transaction = begins.begin().value();
    const std::string id = to_text(transaction.id());
    ASSERT_TRUE(transaction.send(kTopic, id));
    ASSERT_TRUE(transaction.prepare());
    std::optional<Status> outcomes[2];
    std::atomic<int> ready{0};
    std::vector<std::thread> threads;
    for (int i = 0; i < 2; ++i)
      threads.emplace_back([&, i] {
        ready.fetch_add(1);
        while (ready.load() != 2) {
        }
        outcomes[i] = answers[static_cast<std::size_t>(i)].resolve(transaction.id(),
                                                                   i == 0 ? Verdict::commit : Verdict::rollback);
      });
    for (std::thread& thread : threads) thread.join();
    ASSERT_NE(outcomes[0]->has_value(), outcomes[1]->has_value()) << "one of them stands";
    const Status& lost = *outcomes[outcomes[0]->has_value() ? 1 : 0];
    ASSERT_EQ(lost.error().code(), ErrorCode::conflict) << lost.error().message();
    if (outcomes[0]->has_value()) committed.insert(id);
    static_cast<void>(transaction.rollback());
  }
  std::set<std::string> seen;
  while (seen.size() < committed.size()) {
    const auto message = reader.next(10s);
    ASSERT_TRUE(message) << message.error().message();
    EXPECT_TRUE(seen.insert(std::string(message->text())).second) << "came twice: " << message->text();
  }
  EXPECT_FALSE(reader.next(200ms)) << "one that was rolled back";
  EXPECT_EQ(seen, committed);
  std::printf("  %d pairs of answers that conflict: %zu committed\n", rounds, committed.size());
}

// Between each step of one, and for all kinds of restart.
TEST_F(Transactions, ProducersGoOnOverDaemonsThatAreKilledAtTheirFailpoints) {
  for (const char* failpoint : {"transactions.before_decision", "transactions.decided", "spill.half_ref_appended"}) {
    SCOPED_TRACE(failpoint);
    TestDaemon own;
    own.use_keeper();
    ASSERT_TRUE(own.start({std::string("SLUICE_FAILPOINT=") + failpoint + "=kill@~5"})) << own.log_tail();
    Client here = own.connect("failpoints");
    TopicConfig config;
    config.name = kTopic;
    ASSERT_TRUE(here.create_topic(config));
    std::set<std::string> decided, committed;
    TransactionalOptions options;
    options.group = kGroup;
    options.check = [](const TransactionCheck&) { return Verdict::unknown; };
    TransactionalProducer producer = here.transactional_producer(options).value();
    for (int i = 0; i < 40; ++i) {
      Transaction transaction = producer.begin().value();
      const std::string id = to_text(transaction.id());
      ASSERT_TRUE(transaction.send(kTopic, id));
      const Status resolved = i % 3 == 0 ? transaction.rollback() : transaction.commit();
      ASSERT_TRUE(resolved) << resolved.error().message();
      if (i % 3 != 0) committed.insert(id);
    }
    ReaderOptions reading;
    reading.from = From::earliest();
    Reader reader = here.reader({kTopic}, reading).value();
    std::set<std::string> seen;
    while (seen.size() < committed.size()) {
      const auto message = reader.next(10s);
      ASSERT_TRUE(message) << message.error().message();
      EXPECT_TRUE(seen.insert(std::string(message->text())).second) << "came twice: " << message->text();
    }
    EXPECT_EQ(seen, committed);
    EXPECT_FALSE(reader.next(200ms));
    const AuditReport audit = here.audit(kTopic).value();
    EXPECT_TRUE(audit.holds);
    std::uint64_t halves = 0;
    for (const AuditRow& row : audit.rows) halves += row.committed_halves;
    EXPECT_EQ(halves, committed.size());
  }
}

TEST_F(Transactions, ManyOpenOnesHoldUpNothingAndCostLittle) {
  start();
  const std::uint64_t count = long_run() ? 100'000 : 20'000;
  Producer plain = client->producer(kTopic).value();
  const auto rate = [&] {
    constexpr int kMessages = 200'000;
    const std::uint64_t began = monotonic_ns();
    for (int i = 0; i < kMessages; ++i) EXPECT_TRUE(plain.send_async("x"));
    EXPECT_TRUE(plain.flush());
    return kMessages * 1e9 / static_cast<double>(monotonic_ns() - began);
  };
  const double before_rate = rate();
  const pid_t pid = client->status().value().pid;
  const std::uint64_t before = anonymous_bytes(pid);
  TransactionalOptions options;
  options.group = kGroup;
  options.check = [](const TransactionCheck&) { return Verdict::unknown; };
  TransactionalProducer producer = client->transactional_producer(options).value();
  std::vector<Transaction> open;
  for (std::uint64_t i = 0; i < count; ++i) {
    open.push_back(producer.begin().value());
    ASSERT_TRUE(open.back().send(kTopic, "half"));
  }
  ASSERT_TRUE(open.back().prepare());
  ASSERT_TRUE(wait_until([&] { return client->status().value().open_transactions == count; }));
  const std::uint64_t each = (anonymous_bytes(pid) - std::min(before, anonymous_bytes(pid))) / count;
  const double with_rate = rate();
  const std::uint64_t killed = monotonic_ns();
  kill_daemon();
  const std::uint64_t restart_ns = monotonic_ns() - killed;
  EXPECT_EQ(client->status().value().open_transactions, count);
  std::printf(
      "  %llu open halves: %llu bytes of the daemon for each, killed and back in %.0f ms; other messages of the "
      "partition "
      "%.2f M/s before, %.2f M/s beside them\n",
      static_cast<unsigned long long>(count), static_cast<unsigned long long>(each),
      static_cast<double>(restart_ns) / 1e6, before_rate / 1e6, with_rate / 1e6);
  // With so many, what else a daemon has by then no longer matters.
  if (long_run()) {
    EXPECT_LT(each, 300u);
  }
  ASSERT_TRUE(open.front().commit());
  ASSERT_TRUE(open.back().rollback());
}

}  // namespace
}  // namespace sluice::test
