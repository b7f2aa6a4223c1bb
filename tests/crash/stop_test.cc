// Producers, the consumer and the daemon are stopped (SIGSTOP) for longer than any deadline and go on again, in any
// combination: a commit that comes too late is told so and nobody sees its message, every other message is there once
// and in order, and the audit knows each sequence number. Real processes.
#include <sys/wait.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "tests/crash/board.h"
#include "tests/crash/daemon_process.h"
#include "tests/crash/results.h"

namespace sluice::test {
namespace {

using namespace std::chrono_literals;

constexpr auto kClaimDeadline = 100ms;
constexpr std::uint32_t kProducers = 3;  // workers from 0
constexpr std::uint32_t kConsumer = kProducers;
const std::vector<std::string> kModes = {"late", "late", "send"};
constexpr Durability kDurabilities[] = {Durability::async, Durability::sync, Durability::volatile_};

class Stop : public testing::Test {
 protected:
  void SetUp() override { ASSERT_TRUE(daemon_.start()) << daemon_.log_tail(); }

  TestDaemon daemon_;
};

// One topic, its producers and its consumer.
class Round {
 public:
  Round(TestDaemon& daemon, std::string topic, std::uint64_t seed)
      : daemon_(daemon), topic_(std::move(topic)), random_(seed), client_(daemon.connect()) {}

  void run(Counts& counts) {
    create();
    for (std::uint32_t worker = 0; worker < kProducers; ++worker)
      workers_.push_back(start(CRASH_PRODUCER_PATH, {std::to_string(worker), kModes[worker], "0"}));
    workers_.push_back(start(CRASH_CONSUMER_PATH, {std::to_string(kConsumer)}));
    ASSERT_TRUE(gets_on()) << trouble();
    stop_and_continue(counts);
    ASSERT_TRUE(gets_on()) << trouble();
    end_workers();
    if (testing::Test::HasFailure()) return;
    compare(counts);
    EXPECT_TRUE(client_.delete_topic(topic_));
  }

 private:
  Process start(const std::string& program, std::vector<std::string> arguments) {
    Process::Options options;
    options.keep_fd = board_.fd();
    options.log = daemon_.folder() / "workers.log";
    arguments.insert(arguments.begin(), {program, daemon_.socket(), topic_, std::to_string(board_.fd())});
    return Process::start(arguments, options);
  }

  void create() {
    TopicConfig config;
    config.name = topic_;
    config.partitions = 2;
    config.durability = kDurabilities[random_() % std::size(kDurabilities)];
    config.segment_size = 256 * 1024;
    config.slots = 4;
    config.claim_deadline = kClaimDeadline;
    const Status made = client_.create_topic(config);
    ASSERT_TRUE(made.has_value()) << made.error().message();
  }

  std::uint64_t confirmed(std::uint32_t worker) const {
    // acquire: pairs with the worker's release after its receipt, or behind its note.
    return board_->workers[worker].confirmed.load(std::memory_order_acquire);
  }

  // Everybody sends, or reads.
  bool gets_on() {
    std::vector<std::uint64_t> before;
    for (std::uint32_t worker = 0; worker <= kConsumer; ++worker) before.push_back(confirmed(worker));
    return wait_until([&] {
      for (std::uint32_t worker = 0; worker <= kConsumer; ++worker)
        if (confirmed(worker) <= before[worker]) return false;
      return true;
    });
  }

  std::string trouble() const {
    std::string text = daemon_.log_tail();
    for (std::uint32_t worker = 0; worker <= kConsumer; ++worker)
      text += "\nworker " + std::to_string(worker) + " at " + std::to_string(confirmed(worker)) + ": " +
              board_->workers[worker].error;
    return text;
  }

  void stop_and_continue(Counts& counts) {
    std::vector<std::pair<std::string, Process*>> all = {{"daemon", &daemon_.process()}};
    for (std::uint32_t worker = 0; worker <= kConsumer; ++worker)
      all.emplace_back(worker == kConsumer ? "consumer" : "producer", &workers_[worker]);
    std::shuffle(all.begin(), all.end(), random_);
    all.resize(1 + random_() % all.size());
    for (const auto& [name, process] : all) {
      std::this_thread::sleep_for(std::chrono::microseconds(random_() % 20'000));
      process->signal(SIGSTOP);
      ++counts[name + " stops"];
    }
    std::this_thread::sleep_for(2 * kClaimDeadline + std::chrono::milliseconds(random_() % 200));
    std::shuffle(all.begin(), all.end(), random_);
    for (const auto& [name, process] : all) {
      process->signal(SIGCONT);
      std::this_thread::sleep_for(std::chrono::microseconds(random_() % 20'000));
    }
  }

  void end_workers() {
    board_->stop.store(1, std::memory_order_release);
    std::uint64_t sent = 0;
    for (std::uint32_t worker = 0; worker < kProducers; ++worker) {
      expect_success(worker);
      sent += confirmed(worker);
    }
    board_->workers[kConsumer].attempted.store(sent);
    board_->stop.store(2, std::memory_order_release);
    expect_success(kConsumer);
  }

  void expect_success(std::uint32_t worker) {
    const auto status = workers_[worker].wait();
    EXPECT_TRUE(status && WIFEXITED(*status) && WEXITSTATUS(*status) == 0) << "worker " << worker << "\n" << trouble();
  }

  // What was seen is what was committed, each message once; the consumer has looked at the order.
  void compare(Counts& counts) {
    using Key = std::pair<std::uint32_t, std::uint64_t>;
    std::map<Key, std::uint32_t> fates;
    std::map<Key, std::uint64_t> seen;
    const std::uint32_t notes = std::min(board_->notes_used.load(), kNotesMax);
    for (std::uint32_t i = 0; i < notes; ++i) {
      const Note& note = board_->notes[i];
      const std::uint32_t state = note.state.load(std::memory_order_acquire);
      const Key key{note.worker, note.counter};
      if (state == kNoteSeen)
        ++seen[key];
      else
        fates[key] = state;
    }
    for (std::uint32_t worker = 0; worker < kProducers; ++worker)
      for (std::uint64_t counter = 1; kModes[worker] == "send" && counter <= confirmed(worker); ++counter)
        fates[{worker, counter}] = kNoteCommitted;
    std::uint64_t committed = 0, expired = 0;
    for (const auto& [key, fate] : fates) {
      const auto found = seen.find(key);
      const std::uint64_t times = found == seen.end() ? 0 : found->second;
      (fate == kNoteExpired ? expired : committed) += 1;
      EXPECT_EQ(fate == kNoteExpired ? 0u : 1u, times)
          << "message " << key.second << " of worker " << key.first << ", fate " << fate;
    }
    EXPECT_EQ(committed, seen.size());
    expect_audit(committed, expired);
    counts["messages"] += committed;
    counts["commits too late"] += expired;
  }

  void expect_audit(std::uint64_t committed, std::uint64_t expired) {
    const AuditReport report = client_.audit(topic_).value();
    EXPECT_TRUE(report.holds);
    std::uint64_t data = 0, aborted = 0;
    for (const AuditRow& row : report.rows) {
      data += row.data;
      aborted += row.aborted;
      EXPECT_EQ(0u, row.gaps + row.repeats + row.cut + row.quarantined) << "producer " << row.producer.value;
    }
    EXPECT_EQ(committed, data);
    EXPECT_LE(expired, aborted);
  }

  TestDaemon& daemon_;
  const std::string topic_;
  std::mt19937_64 random_;
  Client client_;
  Board board_;
  std::vector<Process> workers_;
};

TEST_F(Stop, WhoeverIsStoppedPastEveryDeadlineDoesNoHarmAfterwards) {
  std::uint64_t rounds = 0;
  run_rounds({"stop", 30, 1000, 45}, [&](std::uint64_t seed, Counts& counts) {
    Round(daemon_, "orders-" + std::to_string(++rounds), seed).run(counts);
    return 1;
  });
  // Fresh messages pass.
  Client client = daemon_.connect();
  TopicConfig config;
  config.name = "fresh";
  ASSERT_TRUE(client.create_topic(config));
  Producer producer = client.producer("fresh").value();
  ASSERT_TRUE(producer.send("hello"));
  ReaderOptions from_the_start;
  from_the_start.from = From::earliest();
  Reader reader = client.reader({"fresh"}, from_the_start).value();
  EXPECT_EQ("hello", reader.next(60s).value().text());
  EXPECT_EQ(0, daemon_.stop()) << daemon_.log_tail();
}

}  // namespace
}  // namespace sluice::test
