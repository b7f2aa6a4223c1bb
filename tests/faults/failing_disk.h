// A daemon on a device that can fail, a sender for each of its topics, and the operator's hands.
// Owner: the test; one thread, its main one.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "tests/crash/daemon_process.h"
#include "tests/faults/block_device.h"
#include "tests/faults/evidence.h"

namespace sluice::test {

inline constexpr std::uint64_t kFailingDiskSize = 64u << 20;
inline const std::vector<std::string> kFailingTopics = {"orders", "payments"};  // async, sync

// A daemon on a device that can fail, two senders, and the operator's hands.
class FailingDisk {
 public:
  FailingDisk() : device(daemon.folder() / "device", kFailingDiskSize) {
    make_ext4(device.path());
    mount();
    daemon.configure("[topics]\nsegments_per_file = 4\n");
  }
  ~FailingDisk() {
    daemon.kill();  // before the file system goes
    mount_.reset();
  }

  void start_with_topics() {
    ASSERT_TRUE(daemon.start()) << daemon.log_tail();
    client = std::make_unique<Client>(daemon.connect());
    for (std::uint32_t i = 0; i < kFailingTopics.size(); ++i) {
      const Status made = create_small_topic(*client, kFailingTopics[i], i == 0 ? Durability::async : Durability::sync);
      ASSERT_TRUE(made.has_value()) << made.error().message();
      senders.push_back(std::make_unique<Sender>(*client, kFailingTopics[i], i, std::chrono::seconds(10)));
    }
  }
  void send_durably(std::uint64_t count) const {
    for (const auto& sender : senders) {
      for (const Status& done : {sender->send(count), sender->flush()})
        ASSERT_TRUE(done.has_value()) << done.error().message();
      ASSERT_EQ(sender->sent().size(), sender->settle());
    }
  }
  std::vector<const Sender*> evidence() const {
    std::vector<const Sender*> all;
    for (const auto& sender : senders) all.push_back(sender.get());
    return all;
  }
  // What a file system needs after errors: taken off, looked over, mounted again.
  void repair() {
    mount_.reset();
    // 0: nothing to do · 1: corrected.
    const CommandResult checked = run_command({"e2fsck", "-p", device.path()});
    ASSERT_LE(checked.exit_code, 1) << checked.output;
    ASSERT_GE(checked.exit_code, 0) << checked.output;
    mount();
  }
  void mount() { mount_ = std::make_unique<Mount>(device.path(), data()); }
  void unmount() { mount_.reset(); }
  std::filesystem::path data() const { return daemon.folder() / "data"; }

  TestDaemon daemon;
  BlockDevice device;
  std::unique_ptr<Client> client;
  std::vector<std::unique_ptr<Sender>> senders;

 private:
  std::unique_ptr<Mount> mount_;
};

// The newest log file of a topic: what a start reads.
inline std::filesystem::path last_log_file(const std::filesystem::path& topics, const std::string& topic) {
  std::filesystem::path last;
  for (const auto& entry : std::filesystem::directory_iterator(topics / topic / "0"))
    if (entry.path().extension() == ".log" && entry.path() > last) last = entry.path();
  return last;
}

}  // namespace sluice::test
