// A disk that fills up: producers meet back-pressure that says why, `status` and `doctor` say it too, and once there is
// room everything goes on by itself. A real daemon on a real ext4 of 20 MB.
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <memory>
#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "tests/crash/daemon_process.h"
#include "tests/crash/results.h"
#include "tests/faults/evidence.h"
#include "tests/faults/loop_device.h"

namespace sluice::test {
namespace {

using namespace std::chrono_literals;

constexpr std::uint64_t kDiskSize = 20'000'000;
constexpr std::uint64_t kBallastSize = 6'000'000;
const std::vector<std::string> kTopics = {"orders", "payments"};  // async, sync

class FullDisk {
 public:
  FullDisk() : image_(::memfd_create("disk", MFD_CLOEXEC)) {
    if (::ftruncate(image_.get(), kDiskSize) != 0) throw std::runtime_error("no memory for a disk");
    device_ = std::make_unique<LoopDevice>(image_.get());
    make_ext4(device_->path());
    mount_ = std::make_unique<Mount>(device_->path(), daemon.folder() / "data");
    const UniqueFd ballast(::open(ballast_path().c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
    if (::posix_fallocate(ballast.get(), 0, kBallastSize) != 0) throw std::runtime_error("no room for ballast");
  }
  ~FullDisk() { daemon.kill(); }  // before the file system goes

  // Not a byte is left.
  void fill_completely() const {
    const UniqueFd rest(::open((ballast_path() + ".rest").c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
    for (const std::size_t size : {std::size_t{65536}, std::size_t{512}}) {
      const std::vector<char> bytes(size, 'x');
      while (::write(rest.get(), bytes.data(), size) > 0 && ::fsync(rest.get()) == 0) {
      }
    }
  }
  void make_room() const {
    ::unlink(ballast_path().c_str());
    ::unlink((ballast_path() + ".rest").c_str());
  }

  TestDaemon daemon;

 private:
  std::string ballast_path() const { return daemon.folder() / "data" / "ballast"; }

  UniqueFd image_;
  std::unique_ptr<LoopDevice> device_;
  std::unique_ptr<Mount> mount_;
};

// Sends until there is no room, and the error names the full disk.
testing::AssertionResult fill(Sender& sender, std::uint64_t window) {
  for (;;) {
    Status sent = sender.send(window);
    if (sent) sent = sender.flush();
    sender.settle();
    if (sent) continue;
    const bool full = sent.error().code() == ErrorCode::timed_out;
    if (full && sent.error().message().find("No space left") != std::string::npos) return testing::AssertionSuccess();
    return testing::AssertionFailure() << sender.topic() << ": " << sent.error().message();
  }
}

testing::AssertionResult says_disk_full(Client& client) {
  std::string room;
  const bool told = wait_until([&] {
    const auto checks = client.doctor(true);
    if (checks)
      for (const DoctorCheck& check : *checks)
        if (check.name == "room" && !check.ok) room = check.detail;
    return !room.empty();
  });
  if (!told) return testing::AssertionFailure() << "doctor does not say that partitions wait for room";
  std::string reasons;
  for (const std::string& topic : kTopics) {
    const auto info = client.topic(topic);
    if (!info) return testing::AssertionFailure() << info.error().message();
    if (info->partitions[0].state != PartitionState::open)
      return testing::AssertionFailure() << topic << " is not open: " << info->partitions[0].reason;
    reasons += info->partitions[0].reason;
  }
  for (const std::string& text : {room, reasons})
    if (text.find("No space left") == std::string::npos)
      return testing::AssertionFailure() << "this does not name the full disk: " << text;
  return testing::AssertionSuccess();
}

bool has_room(Client& client) {
  return wait_until([&] {
    const auto checks = client.doctor(true);
    if (!checks) return false;
    for (const DoctorCheck& check : *checks)
      if (check.name == "room") return check.ok;
    return false;
  });
}

// A start on a disk without a byte to spare serves what is durable, and an operator can have old messages removed: its
// notes have room in the store's reserve.
testing::AssertionResult starts_and_can_be_altered(TestDaemon& daemon, const FullDisk& disk, Client& client,
                                                   const std::vector<const Sender*>& senders, Counts& counts) {
  disk.fill_completely();
  daemon.launch();
  if (!daemon.wait_ready()) return testing::AssertionFailure() << "no start on a full disk: " << daemon.log_tail();
  ++counts["starts on a full disk"];
  std::uint64_t held = 0;
  if (const auto holds = receipts_hold(client, senders, held); !holds) return holds;
  disk.fill_completely();
  TopicChange change;
  change.retention_bytes = std::uint64_t{1} << 40;  // none of what this test wants to see again
  if (const Status altered = client.alter_topic(kTopics.front(), change); !altered)
    return testing::AssertionFailure() << altered.error().message();
  return testing::AssertionSuccess();
}

void full_and_room_again(std::uint64_t seed, Counts& counts) {
  std::mt19937_64 random(seed);
  FullDisk disk;
  TestDaemon& daemon = disk.daemon;
  daemon.configure("[topics]\nsegments_per_file = " + std::to_string(2 + random() % 3) + "\n");
  ASSERT_TRUE(daemon.start()) << daemon.log_tail();
  auto client = std::make_unique<Client>(daemon.connect());
  for (const std::string& topic : kTopics) {
    const Status made = create_small_topic(*client, topic, topic == "orders" ? Durability::async : Durability::sync);
    ASSERT_TRUE(made.has_value()) << made.error().message();
  }
  Sender orders(*client, "orders", 0, 300ms);
  Sender payments(*client, "payments", 1, 300ms);
  const std::vector<const Sender*> senders = {&orders, &payments};
  ASSERT_TRUE(fill(payments, 1 + random() % 32));
  ASSERT_TRUE(fill(orders, 1 + random() % 256));
  ASSERT_TRUE(fill(payments, 1));
  ASSERT_TRUE(says_disk_full(*client)) << daemon.log_tail();

  const bool restart = random() % 2 == 0;
  if (restart) {
    daemon.kill();
    ASSERT_TRUE(starts_and_can_be_altered(daemon, disk, *client, senders, counts));
  }
  disk.make_room();
  ASSERT_TRUE(has_room(*client)) << daemon.log_tail();
  for (Sender* sender : {&orders, &payments}) {
    // First what waited for room, then more.
    const Status flushed = restart ? sender->flush_after_restart() : sender->flush();
    ASSERT_TRUE(flushed.has_value()) << flushed.error().message();
    for (const Status& done : {sender->send(20), restart ? sender->flush_after_restart() : sender->flush()})
      ASSERT_TRUE(done.has_value()) << done.error().message();
    const std::uint64_t durable = sender->settle();
    if (!restart) {
      ASSERT_EQ(sender->sent().size(), durable) << sender->topic();
    }
  }
  ASSERT_TRUE(is_alive(*client, kTopics)) << daemon.log_tail();

  if (random() % 2 == 0) {
    daemon.kill();
  } else {
    ASSERT_EQ(0, daemon.stop()) << daemon.log_tail();
  }
  ASSERT_TRUE(daemon.start()) << daemon.log_tail();
  ASSERT_TRUE(receipts_hold(*client, senders, counts["durable receipts held"])) << daemon.log_tail();
  ASSERT_TRUE(is_alive(*client, kTopics)) << daemon.log_tail();
}

TEST(DiskFull, IsBackPressureThatHealsByItselfAndLosesNothing) {
  if (const std::string why = why_no_file_systems(); !why.empty()) GTEST_SKIP() << why;
  enter_private_mounts();
  run_rounds({"enospc", 3, 100, 40}, [](std::uint64_t seed, Counts& counts) {
    full_and_room_again(seed, counts);
    return std::uint64_t{1};
  });
}

}  // namespace
}  // namespace sluice::test
