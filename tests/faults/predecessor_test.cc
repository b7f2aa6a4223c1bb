// A daemon killed on a slow disk: its writes in flight outlive it. Its successor, started at once, waits for them
// before it recovers, and none of them lands on anything new. A real daemon; its log files are on a throttled device,
// its store is not, so that nothing but the locks holds the successor up.
#include <filesystem>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "tests/crash/daemon_process.h"
#include "tests/crash/results.h"
#include "tests/faults/block_device.h"
#include "tests/faults/evidence.h"

namespace sluice::test {
namespace {

using namespace std::chrono_literals;

constexpr std::uint64_t kDiskSize = 64u << 20;
constexpr std::uint64_t kSlowest = 1u << 20;  // bytes a second
constexpr std::uint64_t kSegmentSize = 1u << 20;
constexpr int kKillsMax = 20;  // a round ends with the first that writes outlive: more than one in three
const std::vector<std::string> kTopics = {"orders", "payments"};  // async, sync

class SlowDisk {
 public:
  SlowDisk() : device(daemon.folder() / "device", kDiskSize) {
    make_ext4(device.path());
    const std::filesystem::path slow = daemon.folder() / "slow";
    mounts_.push_back(std::make_unique<Mount>(device.path(), slow));
    for (const std::string& topic : kTopics) {
      std::filesystem::create_directory(slow / topic);
      mounts_.push_back(
          std::make_unique<Mount>(slow / topic, daemon.folder() / "data" / "topics" / topic / "0", Mount::As::bind));
    }
    daemon.configure("[topics]\nsegments_per_file = 4\n");
  }
  ~SlowDisk() {
    daemon.kill();  // before the file system goes
    device.heal();
    while (!mounts_.empty()) mounts_.pop_back();
  }
  std::vector<const Sender*> evidence() const {
    std::vector<const Sender*> all;
    for (const auto& sender : senders) all.push_back(sender.get());
    return all;
  }

  TestDaemon daemon;
  BlockDevice device;
  std::unique_ptr<Client> client;
  std::vector<std::unique_ptr<Sender>> senders;

 private:
  std::vector<std::unique_ptr<Mount>> mounts_;
};

void start_with_topics(SlowDisk& disk) {
  ASSERT_TRUE(disk.daemon.start()) << disk.daemon.log_tail();
  disk.client = std::make_unique<Client>(disk.daemon.connect());
  for (std::uint32_t i = 0; i < kTopics.size(); ++i) {
    const Durability durability = i == 0 ? Durability::async : Durability::sync;
    const Status made = create_small_topic(*disk.client, kTopics[i], durability, kSegmentSize);
    ASSERT_TRUE(made.has_value()) << made.error().message();
    disk.senders.push_back(std::make_unique<Sender>(*disk.client, kTopics[i], i, std::chrono::seconds(kHangSeconds)));
  }
}

// Kills the daemon with writes in flight and starts the next at once. Says whether that had to wait for them.
void kill_with_writes_in_flight(SlowDisk& disk, std::mt19937_64& random, bool& waited) {
  TestDaemon& daemon = disk.daemon;
  disk.device.throttle(kSlowest << (random() % 3));
  // More than one write each: a death waits for a sync that is under way, not for the writes behind it.
  for (const auto& sender : disk.senders) ASSERT_TRUE(sender->send(1500 + random() % 1500).has_value());
  ASSERT_TRUE(wait_until([&] { return disk.device.in_flight() > 0; }));
  std::this_thread::sleep_for(std::chrono::milliseconds(random() % 100));
  for (const auto& sender : disk.senders) sender->settle();
  daemon.kill();
  daemon.launch();
  ASSERT_TRUE(wait_until([&] {
    const std::string log = daemon.log_since_start();
    waited = log.find("waiting for the writes of a dead daemon") != std::string::npos;
    return waited || log.find(" ready ") != std::string::npos;
  })) << daemon.log_tail();
  std::this_thread::sleep_for(std::chrono::milliseconds(random() % 100));
  disk.device.heal();
  ASSERT_TRUE(daemon.wait_ready()) << daemon.log_tail();
}

void writes_outlive_their_daemon(std::uint64_t seed, Counts& counts) {
  std::mt19937_64 random(seed);
  SlowDisk disk;
  TestDaemon& daemon = disk.daemon;
  start_with_topics(disk);
  if (testing::Test::HasFatalFailure()) return;
  bool waited = false;
  for (int kill = 0; kill < kKillsMax && !waited; ++kill) {
    for (const auto& sender : disk.senders) {
      for (const Status& done : {sender->send(random() % 300), sender->flush_after_restart()})
        ASSERT_TRUE(done.has_value()) << done.error().message();
      sender->settle();
    }
    kill_with_writes_in_flight(disk, random, waited);
    if (testing::Test::HasFatalFailure()) return;
    ++counts["kills"];
  }
  ASSERT_TRUE(waited) << "no write has outlived its daemon";

  // New data where the old might still land; looked at by a start that has nothing of it in memory.
  for (const auto& sender : disk.senders) {
    for (const Status& done : {sender->send(50 + random() % 200), sender->flush_after_restart()})
      ASSERT_TRUE(done.has_value()) << done.error().message();
    sender->settle();
  }
  std::uint64_t held = 0;
  ASSERT_TRUE(receipts_hold(*disk.client, disk.evidence(), held)) << daemon.log_tail();
  daemon.kill();
  ASSERT_TRUE(daemon.start()) << daemon.log_tail();
  ASSERT_TRUE(receipts_hold(*disk.client, disk.evidence(), counts["durable receipts held"])) << daemon.log_tail();
  ASSERT_TRUE(is_alive(*disk.client, kTopics)) << daemon.log_tail();
}

TEST(Predecessor, ItsWritesInFlightNeverLandOnNewData) {
  if (const std::string why = why_no_block_devices(); !why.empty()) GTEST_SKIP() << why;
  enter_private_mounts();
  run_rounds({"predecessor", 3, 100, 40}, [](std::uint64_t seed, Counts& counts) {
    writes_outlive_their_daemon(seed, counts);
    return std::uint64_t{1};
  });
}

}  // namespace
}  // namespace sluice::test
