// A disk that answers EIO under a real daemon, on a real ext4: to writes, to flushes alone, to reads in recovery.
// A failed write or flush poisons the partitions: publishing fails with the reason, status and doctor say it, nothing
// is durable falsely; a start on the healed disk finds everything that was. A failed read refuses the start and changes
// nothing.
#include <algorithm>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "tests/crash/daemon_process.h"
#include "tests/crash/results.h"
#include "tests/faults/block_device.h"
#include "tests/faults/evidence.h"
#include "tests/faults/failing_disk.h"

namespace sluice::test {
namespace {

using namespace std::chrono_literals;

const std::vector<std::string>& kTopics = kFailingTopics;

// An ext4 whose journal met an error turns read-only: what comes after the first error fails with that.
bool names_the_disk_error(const std::string& text) {
  return text.find("Input/output error") != std::string::npos ||
         text.find("Read-only file system") != std::string::npos;
}

// Sends until it is refused; the refusal must be an I/O error that says so.
testing::AssertionResult until_refused(Sender& sender) {
  for (;;) {
    Status sent = sender.send(8);
    if (sent) sent = sender.flush();
    sender.settle();
    if (sent) continue;
    const std::string message = sent.error().message();
    if (sent.error().code() != ErrorCode::io)
      return testing::AssertionFailure() << sender.topic() << " is not refused for its disk: " << message;
    if (!names_the_disk_error(message))
      return testing::AssertionFailure() << sender.topic() << ": the reason is missing: " << message;
    // And from now on at once.
    const Status again = sender.send(1);
    if (again || again.error().code() != ErrorCode::io)
      return testing::AssertionFailure() << sender.topic() << " takes messages again";
    return testing::AssertionSuccess();
  }
}

testing::AssertionResult says_poisoned(Client& client) {
  const auto status = client.status();
  if (!status || status->poisoned != kTopics.size())
    return testing::AssertionFailure() << "status counts " << (status ? status->poisoned : 0) << " poisoned partitions";
  for (const std::string& topic : kTopics) {
    const auto info = client.topic(topic);
    if (!info || info->partitions[0].state != PartitionState::poisoned)
      return testing::AssertionFailure() << topic << " is not shown as poisoned";
    if (!names_the_disk_error(info->partitions[0].reason))
      return testing::AssertionFailure() << topic << ": the reason is missing: " << info->partitions[0].reason;
  }
  const auto checks = client.doctor(true);
  if (!checks) return testing::AssertionFailure() << checks.error().message();
  for (const DoctorCheck& check : *checks)
    if (check.name == "partitions" && !check.ok && !check.advice.empty()) return testing::AssertionSuccess();
  return testing::AssertionFailure() << "doctor finds nothing wrong with the partitions";
}

void poison_and_heal(Fault::On on, std::uint64_t seed, Counts& counts) {
  std::mt19937_64 random(seed);
  FailingDisk disk;
  TestDaemon& daemon = disk.daemon;
  disk.start_with_topics();
  if (testing::Test::HasFatalFailure()) return;
  for (std::uint64_t i = random() % 4; i-- > 0;) disk.send_durably(1 + random() % 200);
  if (random() % 2 == 0) {
    // With writes of unknown outcome in flight.
    for (const auto& sender : disk.senders) ASSERT_TRUE(sender->send(1 + random() % 100).has_value());
  }
  disk.device.inject({on, {}});
  for (const auto& sender : disk.senders) ASSERT_TRUE(until_refused(*sender)) << daemon.log_tail();
  ASSERT_TRUE(says_poisoned(*disk.client)) << daemon.log_tail();

  disk.device.heal();
  if (random() % 2 == 0) {
    daemon.kill();
  } else {
    static_cast<void>(daemon.stop());  // what it could not do to the failed file system it says
    ASSERT_FALSE(daemon.process().running()) << daemon.log_tail();
  }
  disk.repair();
  if (testing::Test::HasFatalFailure()) return;
  ASSERT_TRUE(daemon.start()) << daemon.log_tail();
  ASSERT_TRUE(receipts_hold(*disk.client, disk.evidence(), counts["durable receipts held"])) << daemon.log_tail();
  ASSERT_TRUE(is_alive(*disk.client, kTopics)) << daemon.log_tail();
  // The senders go on by themselves, once they were told that what was not durable is unknown.
  for (const auto& sender : disk.senders) {
    for (const Status& done : {sender->send(20), sender->flush_after_restart()})
      ASSERT_TRUE(done.has_value()) << done.error().message();
  }
}

using Files = std::vector<std::pair<std::string, std::string>>;  // path, bytes

Files contents_of(const std::filesystem::path& folder) {
  Files files;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder)) {
    if (!entry.is_regular_file()) continue;
    std::ifstream stream(entry.path(), std::ios::binary);
    std::ostringstream bytes;
    bytes << stream.rdbuf();
    files.emplace_back(entry.path(), bytes.str());
  }
  std::sort(files.begin(), files.end());
  return files;
}

void unreadable_in_recovery(std::uint64_t seed, Counts& counts) {
  std::mt19937_64 random(seed);
  FailingDisk disk;
  TestDaemon& daemon = disk.daemon;
  disk.start_with_topics();
  if (testing::Test::HasFatalFailure()) return;
  for (std::uint64_t i = 1 + random() % 4; i-- > 0;) disk.send_durably(1 + random() % 200);
  daemon.kill();
  const std::filesystem::path topics = disk.data() / "topics";
  const std::string& topic = kTopics[random() % kTopics.size()];
  const Files before = contents_of(topics / topic);
  std::vector<std::uint64_t> sectors = sectors_of(last_log_file(topics, topic), 4096);
  ASSERT_FALSE(sectors.empty());
  // The head of the file, where there is data for sure, or all of it.
  if (random() % 2 == 0) sectors.resize(1);

  // Taken off and attached again, so that no cache answers.
  disk.unmount();
  disk.device.detach();
  disk.device.inject({Fault::On::read, sectors});
  disk.device.attach();
  disk.mount();
  daemon.launch();
  ASSERT_FALSE(daemon.wait_ready()) << "a start took a log that cannot be read\n" << daemon.log_tail();
  ASSERT_NE(std::string::npos, daemon.log_tail().find("Input/output error")) << daemon.log_tail();
  ASSERT_NE(std::string::npos, daemon.log_tail().find(topic)) << daemon.log_tail();

  disk.unmount();
  disk.device.detach();
  disk.device.heal();
  disk.device.attach();
  disk.mount();
  ASSERT_TRUE(before == contents_of(topics / topic)) << "the start that was refused has changed files";
  ASSERT_TRUE(daemon.start()) << daemon.log_tail();
  ASSERT_TRUE(receipts_hold(*disk.client, disk.evidence(), counts["durable receipts held"])) << daemon.log_tail();
  ASSERT_TRUE(is_alive(*disk.client, kTopics)) << daemon.log_tail();
}

class DiskError : public testing::Test {
 protected:
  void SetUp() override {
    if (const std::string why = why_no_block_devices(); !why.empty()) GTEST_SKIP() << why;
    enter_private_mounts();
  }
};

TEST_F(DiskError, OfAWritePoisonsAndNothingDurableIsLost) {
  run_rounds({"write_eio", 3, 100, 20}, [](std::uint64_t seed, Counts& counts) {
    poison_and_heal(Fault::On::write, seed, counts);
    return std::uint64_t{1};
  });
}

TEST_F(DiskError, OfAFlushAlonePoisonsAndNothingDurableIsLost) {
  run_rounds({"flush_eio", 3, 100, 20}, [](std::uint64_t seed, Counts& counts) {
    poison_and_heal(Fault::On::flush, seed, counts);
    return std::uint64_t{1};
  });
}

TEST_F(DiskError, OfAReadInRecoveryRefusesTheStartAndChangesNothing) {
  run_rounds({"read_eio", 3, 100, 20}, [](std::uint64_t seed, Counts& counts) {
    unreadable_in_recovery(seed, counts);
    return std::uint64_t{1};
  });
}

}  // namespace
}  // namespace sluice::test
