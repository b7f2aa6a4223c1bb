// The daemon dies with kill -9 under load, at random and at its own failpoints, and starts again: every message whose
// receipt said durable is there, byte for byte, in order; no position is used twice; the audit has counted exactly what
// readers find and what living senders lost; and the clients come back by themselves. Real processes.
#include <sys/wait.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <cstdio>
#include <map>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <tuple>
#include <vector>

#include <gtest/gtest.h>

#include "tests/crash/board.h"
#include "tests/crash/daemon_process.h"
#include "tests/crash/ledger.h"

namespace sluice::test {
namespace {

using namespace std::chrono_literals;

constexpr std::uint32_t kWorkers = 3;
const std::vector<std::string> kFailpoints = {"spill.write_submitted", "spill.synced", "spill.published",
                                              "spill.swept"};
const std::vector<std::string> kTopics = {"orders", "payments"};  // async, sync

const std::string& topic_of(std::uint32_t worker) { return kTopics[worker % kTopics.size()]; }

// One row of the audit: what one producer id sent to one partition.
using RowKey = std::tuple<std::string, PartitionNumber, std::uint32_t>;

struct Found {
  std::map<std::tuple<std::string, PartitionNumber, std::uint64_t>, Origin> at;
  std::map<RowKey, std::set<std::uint64_t>> sequences;
  std::vector<Ledger> ledgers = std::vector<Ledger>(kTopics.size());
  std::string wrong;
};

class DaemonKill : public testing::Test {
 protected:
  void SetUp() override {
#if !defined(SLUICE_FAILPOINTS)
    GTEST_SKIP() << "this build has no failpoints";
#endif
    daemon_.configure("[topics]\nsegments_per_file = 8\n");
    ASSERT_TRUE(daemon_.start()) << daemon_.log_tail();
    Client client = daemon_.connect();
    for (const std::string& topic : kTopics) {
      TopicConfig config;
      config.name = topic;
      config.partitions = 2;
      config.durability = topic == "orders" ? Durability::async : Durability::sync;
      config.segment_size = 256 * 1024;
      config.slots = 4;
      config.claim_deadline = std::chrono::minutes(1);  // no claim of the living is aborted: every number has a receipt
      const Status made = client.create_topic(config);
      ASSERT_TRUE(made.has_value()) << made.error().message();
    }
    for (std::uint32_t worker = 0; worker < kWorkers; ++worker) workers_.push_back(start_worker(worker));
  }

  Process start_worker(std::uint32_t worker) {
    Process::Options options;
    options.keep_fd = board_.fd();
    options.log = daemon_.folder() / "workers.log";
    return Process::start({CRASH_PRODUCER_PATH, daemon_.socket(), topic_of(worker), std::to_string(board_.fd()),
                           std::to_string(worker), "window", "0"},
                          options);
  }

  // Starts the daemon so that it dies at that failpoint, and waits for its death.
  testing::AssertionResult dies_at(const std::string& failpoint, std::uint64_t hit, std::uint32_t& next_worker) {
    const bool at_a_death = failpoint == "spill.swept";
    daemon_.launch({"SLUICE_FAILPOINT=" + failpoint + "=kill@" + std::to_string(at_a_death ? 1 : hit)});
    if (at_a_death) {
      // It sweeps when a producer has died.
      if (!daemon_.wait_ready()) return testing::AssertionFailure() << daemon_.log_tail();
      const std::uint32_t worker = next_worker++;
      Process victim = start_worker(worker);
      if (!wait_until([&] { return board_->workers[worker].durable.load(std::memory_order_acquire) > 0; }))
        return testing::AssertionFailure() << board_->workers[worker].error;
      victim.kill();
    }
    const auto status = daemon_.process().wait();
    if (!status) return testing::AssertionFailure() << failpoint << " is never passed\n" << daemon_.log_tail();
    if (!WIFSIGNALED(*status) || WTERMSIG(*status) != SIGKILL)
      return testing::AssertionFailure() << failpoint << ": wait status " << *status << "\n" << daemon_.log_tail();
    return testing::AssertionSuccess();
  }

  // Each worker has that many more durable receipts: it is attached again, and has reported what it had lost.
  testing::AssertionResult all_get_on(std::uint64_t messages) {
    std::array<std::uint64_t, kWorkers> goals;
    for (std::uint32_t worker = 0; worker < kWorkers; ++worker)
      goals[worker] = board_->workers[worker].durable.load(std::memory_order_acquire) + messages;
    for (std::uint32_t worker = 0; worker < kWorkers; ++worker) {
      Worker& self = board_->workers[worker];
      if (!wait_until(
              [&] { return self.durable.load(std::memory_order_acquire) >= goals[worker] || workers_[worker].poll(); }))
        return testing::AssertionFailure() << "worker " << worker << " does not get on: " << self.error << "\n"
                                           << daemon_.log_tail();
      if (!workers_[worker].running())
        return testing::AssertionFailure() << "worker " << worker << " ended: " << self.error << "\n"
                                           << daemon_.log_tail();
    }
    return testing::AssertionSuccess();
  }

  void stop_workers() {
    board_->stop.store(1);
    for (std::uint32_t worker = 0; worker < kWorkers; ++worker) {
      const auto status = workers_[worker].wait();
      ASSERT_TRUE(status && WIFEXITED(*status) && WEXITSTATUS(*status) == 0)
          << "worker " << worker << ": " << board_->workers[worker].error;
    }
  }

  void read_all(Found& found) {
    Client client = daemon_.connect("check");
    for (std::size_t topic = 0; topic < kTopics.size(); ++topic) {
      ReaderOptions options;
      options.from = From::earliest();
      auto reader = client.reader({kTopics[topic]}, options);
      ASSERT_TRUE(reader.has_value()) << reader.error().message();
      while (!reader->at_initial_end()) {
        auto handled = reader->poll(256, 20ms, [&](const Message& message) {
          const std::string wrong = found.ledgers[topic].note(message);
          if (found.wrong.empty()) found.wrong = wrong;
          Origin origin;
          if (parse_payload(message.text(), origin))
            found.at[{kTopics[topic], message.partition(), message.position().value}] = origin;
          found.sequences[{kTopics[topic], message.partition(), message.producer().value}].insert(
              message.sequence().value);
        });
        ASSERT_TRUE(handled.has_value() || handled.error().code() == ErrorCode::timed_out) << handled.error().message();
      }
      EXPECT_EQ(0u, reader->counters().corrupt);
      EXPECT_EQ(0u, reader->counters().repeats);
    }
    EXPECT_EQ("", found.wrong);
  }

  std::map<RowKey, AuditRow> audit() {
    Client client = daemon_.connect("audit");
    std::map<RowKey, AuditRow> rows;
    for (const std::string& topic : kTopics) {
      const AuditReport report = client.audit(topic).value();
      for (const AuditRow& row : report.rows) rows[{topic, row.partition, row.producer.value}] = row;
    }
    return rows;
  }

  // Holds each row against what readers found and what the receipts say. A number that a living sender was given and
  // that is not in the log was cut; one that died could not report. Returns how many were cut.
  std::uint64_t check_audit(const std::map<RowKey, AuditRow>& rows, const Found& found) {
    struct Sent {
      std::uint32_t worker = 0;
      std::uint64_t lost = 0;  // receipts of messages that are not in the log
      std::uint64_t last = 0;
    };
    std::map<RowKey, Sent> sent;
    const std::set<std::uint64_t> nothing;
    const auto in_log = [&](const RowKey& key) -> const std::set<std::uint64_t>& {
      const auto at = found.sequences.find(key);
      return at == found.sequences.end() ? nothing : at->second;
    };
    const std::uint32_t notes = std::min(board_->notes_used.load(), kNotesMax);
    for (std::uint32_t i = 0; i < notes; ++i) {
      const Note& note = board_->notes[i];
      if (note.state.load(std::memory_order_acquire) == kNoteUnwritten) continue;
      const RowKey key{topic_of(note.worker), note.partition, note.producer};
      Sent& of_row = sent[key];
      of_row.worker = note.worker;
      of_row.lost += in_log(key).count(note.sequence) == 0;
      of_row.last = std::max(of_row.last, note.sequence);
    }
    std::uint64_t cut = 0;
    for (const auto& [key, row] : rows) {
      const std::string text =
          std::get<0>(key) + "/" + std::to_string(row.partition) + " producer " + std::to_string(row.producer.value);
      cut += row.cut;
      EXPECT_EQ(0u, row.gaps + row.repeats + row.quarantined + row.fenced + row.dropped + row.expired) << text;
      EXPECT_EQ(in_log(key).size(), row.data) << text << ": the audit counts other messages than readers find";
      const auto of_row = sent.find(key);
      if (of_row == sent.end() || of_row->second.worker >= kWorkers) {
        EXPECT_EQ(0u, row.cut) << text << ": nobody can have reported it";
        continue;
      }
      // A send that ended with an error may have taken a number, and has no receipt.
      const std::uint64_t failed = board_->workers[of_row->second.worker].failed.load();
      EXPECT_GE(row.cut, of_row->second.lost) << text << ": less is cut than its sender has lost";
      EXPECT_LE(row.cut, of_row->second.lost + failed) << text << ": more is cut than its sender has lost";
      EXPECT_GE(row.sequence_last.value, of_row->second.last) << text;
      EXPECT_LE(row.sequence_last.value, of_row->second.last + failed) << text;
    }
    for (const auto& [key, of_row] : sent)
      if (of_row.worker < kWorkers) {
        EXPECT_EQ(1u, rows.count(key)) << "no audit row of producer " << std::get<2>(key);
      }
    return cut;
  }

  TestDaemon daemon_;
  Board board_;
  std::vector<Process> workers_;
};

TEST_F(DaemonKill, EveryDurableReceiptHolds) {
  const int random_kills = long_run() ? 500 : 100;
  const int rounds = long_run() ? 10 : 2;  // of each failpoint
  std::mt19937_64 random(testing::UnitTest::GetInstance()->random_seed() + 7);
  for (int kill = 0; kill < random_kills; ++kill) {
    ASSERT_TRUE(all_get_on(1 + random() % 200)) << "before kill " << kill;
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 5000));
    daemon_.kill();
    ASSERT_TRUE(daemon_.start()) << "start after kill " << kill << ": " << daemon_.log_tail();
  }
  std::map<std::string, int> hits;
  std::uint32_t next_worker = kWorkers;  // those that are killed themselves
  for (int round = 0; round < rounds; ++round) {
    for (const std::string& failpoint : kFailpoints) {
      ASSERT_TRUE(all_get_on(16)) << "before " << failpoint;
      daemon_.kill();
      ASSERT_TRUE(dies_at(failpoint, 1 + random() % 20, next_worker));
      ++hits[failpoint];
      ASSERT_TRUE(daemon_.start()) << "start after " << failpoint << ": " << daemon_.log_tail();
    }
  }
  ASSERT_TRUE(all_get_on(50));
  stop_workers();
  for (const std::string& failpoint : kFailpoints) EXPECT_GT(hits[failpoint], 0) << failpoint;

  Found found;
  read_all(found);
  std::uint64_t durable = 0, lost = 0;
  std::set<std::tuple<std::string, PartitionNumber, std::uint64_t>> positions;
  const std::uint32_t notes = std::min(board_->notes_used.load(), kNotesMax);
  for (std::uint32_t i = 0; i < notes; ++i) {
    const Note& note = board_->notes[i];
    const std::uint32_t state = note.state.load(std::memory_order_acquire);
    if (state == kNoteUnwritten) continue;
    const auto address = std::make_tuple(topic_of(note.worker), note.partition, note.position);
    const std::string text =
        std::get<0>(address) + "/" + std::to_string(note.partition) + "@" + std::to_string(note.position);
    EXPECT_TRUE(positions.insert(address).second) << text << " was given twice";
    const auto at = found.at.find(address);
    const bool there = at != found.at.end() && at->second.worker == note.worker && at->second.counter == note.counter;
    EXPECT_TRUE(there || at == found.at.end()) << text << " is another message";
    if (state == kNoteDurable) {
      ++durable;
      EXPECT_TRUE(there) << text << " was durable, and is not there: message " << note.counter << " of worker "
                         << note.worker;
    }
    lost += !there;
  }
  EXPECT_GT(durable, 0u);

  const std::map<RowKey, AuditRow> rows = audit();
  const std::uint64_t cut = check_audit(rows, found);
  std::printf("  %d kills, %llu durable receipts hold, %llu committed ones were lost, %llu counted as cut\n",
              random_kills + rounds * static_cast<int>(kFailpoints.size()) * 2,
              static_cast<unsigned long long>(durable), static_cast<unsigned long long>(lost),
              static_cast<unsigned long long>(cut));

  // A clean stop and start cuts nothing and counts nothing again.
  EXPECT_EQ(0, daemon_.stop());
  ASSERT_TRUE(daemon_.start()) << daemon_.log_tail();
  const std::map<RowKey, AuditRow> again = audit();
  EXPECT_EQ(rows.size(), again.size());
  EXPECT_EQ(cut, check_audit(again, found));
  Found second;
  read_all(second);
  EXPECT_EQ(found.at.size(), second.at.size());
}

}  // namespace
}  // namespace sluice::test
