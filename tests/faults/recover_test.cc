// `sluice topic recover`: a partition that was poisoned by its disk opens again while the daemon and its clients go on.
// Everything that was durable is there, senders and readers come back by themselves, and other topics notice nothing;
// also where a keeper holds the memory, and the daemon dies afterwards.
#include <fcntl.h>
#include <signal.h>

#include <chrono>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "tests/crash/ledger.h"
#include "tests/crash/results.h"
#include "tests/faults/evidence.h"
#include "tests/faults/failing_disk.h"

namespace sluice::test {
namespace {

using namespace std::chrono_literals;

constexpr std::uint64_t kBlockSize = 4096;

// A reader that was there from the start, and what it saw.
class Witness {
 public:
  Witness(Client& client, const std::string& topic) : reader_(client.reader({topic}, from_the_start()).value()) {}

  // Reads until that message has come.
  testing::AssertionResult read_up_to(std::uint64_t counter) {
    std::string wrong;
    const bool ended = wait_until([&] {
      const auto handled = reader_.poll(256, 20ms, [&](const Message& message) {
        Origin origin;
        if (wrong.empty()) wrong = ledger_.note(message);
        if (parse_payload(message.text(), origin)) last_ = origin.counter;
      });
      if (!handled && handled.error().code() != ErrorCode::timed_out) wrong = handled.error().message();
      return !wrong.empty() || last_ >= counter;
    });
    if (!wrong.empty()) return testing::AssertionFailure() << wrong;
    if (!ended) return testing::AssertionFailure() << "message " << counter << " has not come, the last was " << last_;
    if (reader_.counters().corrupt != 0) return testing::AssertionFailure() << "corrupt records";
    return testing::AssertionSuccess();
  }

 private:
  static ReaderOptions from_the_start() {
    ReaderOptions options;
    options.from = From::earliest();
    return options;
  }
  Reader reader_;
  Ledger ledger_;
  std::uint64_t last_ = 0;
};

testing::AssertionResult until_poisoned(Sender& sender) {
  for (;;) {
    Status sent = sender.send(8);
    if (sent) sent = sender.flush();
    sender.settle();
    if (!sent && sent.error().code() == ErrorCode::io) return testing::AssertionSuccess();
    if (!sent) return testing::AssertionFailure() << sent.error().message();
  }
}

// The operator's command, again while requests of the failed disk have not ended.
int recover(FailingDisk& disk, const std::string& what) {
  int code = 0;
  wait_until([&] {
    code = run_command({SLUICE_PATH, "--socket", disk.daemon.socket(), "topic", "recover", what}).exit_code;
    return code != 6;
  });
  return code;
}

// Reads of the file reach the device: neither the file system nor the loop device answers from memory.
void forget_cached(const FailingDisk& disk, const std::filesystem::path& file) {
  const UniqueFd fd(::open(file.c_str(), O_RDONLY | O_CLOEXEC));
  ::posix_fadvise(fd.get(), 0, 0, POSIX_FADV_DONTNEED);
  disk.device.forget_cached();
}

void poison_and_recover(std::uint64_t seed, Counts& counts) {
  std::mt19937_64 random(seed);
  const bool kept = random() % 2 == 0;
  FailingDisk disk;
  TestDaemon& daemon = disk.daemon;
  if (kept) daemon.use_keeper();
  disk.start_with_topics();
  if (testing::Test::HasFatalFailure()) return;
  disk.send_durably(1 + random() % 200);
  if (testing::Test::HasFatalFailure()) return;
  const std::size_t failing = random() % kFailingTopics.size();
  const std::string& topic = kFailingTopics[failing];
  Sender& victim = *disk.senders[failing];
  Sender& other = *disk.senders[1 - failing];
  Witness witness(*disk.client, topic);
  Witness bystander(*disk.client, other.topic());
  EXPECT_EQ(8, recover(disk, topic)) << "nothing is poisoned yet";

  // The blocks of its newest log file alone: the file system and the other topic go on.
  const std::filesystem::path file = last_log_file(disk.data() / "topics", topic);
  const std::vector<std::uint64_t> sectors = sectors_of(file, kBlockSize);
  disk.device.inject({Fault::On::write, sectors});
  ASSERT_TRUE(until_poisoned(victim)) << daemon.log_tail();
  for (const Status& done : {other.send(20), other.flush()}) ASSERT_TRUE(done.has_value()) << done.error().message();
  if (random() % 3 == 0) {
    // Too early: the log cannot even be read.
    disk.device.inject({Fault::On::read, sectors});
    forget_cached(disk, file);
    ASSERT_EQ(7, recover(disk, topic)) << daemon.log_tail();
    EXPECT_EQ(1u, disk.client->status().value().poisoned);
    ASSERT_FALSE(victim.send(1).has_value()) << "it takes messages again";
    ++counts["recoveries that came too early"];
  }
  disk.device.heal();
  ASSERT_EQ(0, recover(disk, random() % 2 == 0 ? topic : topic + "/0")) << daemon.log_tail();
  EXPECT_EQ(8, recover(disk, topic)) << "it is not poisoned any more";
  EXPECT_EQ(0u, disk.client->status().value().poisoned);

  for (int again = 0; again < 2; ++again) {
    for (const auto& sender : disk.senders) {
      for (const Status& done : {sender->send(1 + random() % 100), sender->flush_after_restart()})
        ASSERT_TRUE(done.has_value()) << done.error().message() << daemon.log_tail();
      sender->settle();
    }
    if (!kept || again != 0) break;
    // The next daemon goes on with the memory that was made in place of the poisoned.
    ASSERT_EQ(0, ::kill(disk.client->status().value().pid, SIGKILL));
    ++counts["restarts with kept memory"];
  }
  const BusStatus status = disk.client->status().value();
  for (const std::string& finding : status.recovery)
    EXPECT_EQ(std::string::npos, finding.find("memory was not kept")) << finding;
  ASSERT_TRUE(witness.read_up_to(victim.sent().back().counter)) << daemon.log_tail();
  ASSERT_TRUE(bystander.read_up_to(other.sent().back().counter)) << daemon.log_tail();
  // Of the other topic nothing became unknown for good.
  EXPECT_EQ(other.sent().size(), other.settle());
  for (const std::string& name : kFailingTopics) {
    const AuditReport audit = disk.client->audit(name).value();
    for (const AuditRow& row : audit.rows) EXPECT_EQ(0u, row.gaps + row.repeats) << name;
  }
  std::uint64_t held = 0;
  ASSERT_TRUE(receipts_hold(*disk.client, disk.evidence(), held)) << daemon.log_tail();
  ASSERT_TRUE(is_alive(*disk.client, kFailingTopics)) << daemon.log_tail();

  daemon.kill();
  ASSERT_TRUE(daemon.start()) << daemon.log_tail();
  ASSERT_TRUE(receipts_hold(*disk.client, disk.evidence(), counts["durable receipts held"])) << daemon.log_tail();
  ASSERT_TRUE(is_alive(*disk.client, kFailingTopics)) << daemon.log_tail();
}

TEST(TopicRecover, OpensAPoisonedPartitionAgainAndLosesNothingDurable) {
  if (const std::string why = why_no_block_devices(); !why.empty()) GTEST_SKIP() << why;
  enter_private_mounts();
  run_rounds({"topic_recover", 3, 100, 20}, [](std::uint64_t seed, Counts& counts) {
    poison_and_recover(seed, counts);
    return std::uint64_t{1};
  });
}

}  // namespace
}  // namespace sluice::test
