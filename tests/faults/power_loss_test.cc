// Power loss on a real ext4: a daemon under load writes through a device that logs every write and flush; then the
// device is put into the states that a power loss could have left, mounted, and a daemon started on it. Each receipt
// that was durable before that moment holds, byte for byte and in order, nothing counts as rotten, and life goes on.
//
// SLUICE_KEEP=DIR: the image of a state that failed is kept there.
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "tests/crash/daemon_process.h"
#include "tests/crash/results.h"
#include "tests/faults/block_device.h"
#include "tests/faults/evidence.h"
#include "tests/faults/write_log.h"

namespace sluice::test {
namespace {

using namespace std::chrono_literals;

constexpr std::uint64_t kDiskSize = 64u << 20;
constexpr std::uint64_t kLoggedMax = 160u << 20;  // bytes of write log of one life
constexpr std::uint64_t kStatesPerLife = 50;
constexpr int kStepsPerLife = 150;
// The last one loses old log files to retention: its receipts are not held against what is left.
const std::vector<std::string> kTopics = {"orders", "payments", "brief"};  // async, sync, async
constexpr const char* kConfiguration = "[topics]\nsegments_per_file = 2\n[retention]\ncheck_interval = \"100ms\"\n";

// An ext4 of kDiskSize bytes in a file.
void make_disk(const std::filesystem::path& file) {
  std::filesystem::create_directories(file.parent_path());
  const UniqueFd disk(::open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (::ftruncate(disk.get(), kDiskSize) != 0) throw std::runtime_error("no room for a disk");
  const LoopDevice device(disk.get());
  make_ext4(device.path());
}

std::vector<std::byte> bytes_of(const std::filesystem::path& file) {
  std::vector<std::byte> bytes(std::filesystem::file_size(file));
  std::ifstream(file, std::ios::binary).read(reinterpret_cast<char*>(bytes.data()), std::streamsize(bytes.size()));
  return bytes;
}

// A daemon under load on the logged device: what it was told, and what the device was.
class Life {
 public:
  explicit Life(std::uint64_t seed) : random_(seed) {
    make_disk(folder() / "data");
    first_image_ = bytes_of(folder() / "data");
    device_ = std::make_unique<BlockDevice>(folder(), kDiskSize, BlockDevice::Log::yes);
    mount_ = std::make_unique<Mount>(device_->path(), daemon_.folder() / "data");
    daemon_.configure(kConfiguration);
  }
  ~Life() {
    daemon_.kill();  // before the file system goes
    mount_.reset();
  }

  void run() {
    ASSERT_TRUE(daemon_.start()) << daemon_.log_tail();
    client_ = std::make_unique<Client>(daemon_.connect());
    make_topics();
    for (int step = 0; step < kStepsPerLife && logged() < kLoggedMax && !testing::Test::HasFatalFailure(); ++step)
      take_step();
    daemon_.kill();
    log_ = std::make_unique<WriteLog>(device_->log(), logged());
  }

  const WriteLog& log() const { return *log_; }
  std::vector<std::byte> first_image() { return std::move(first_image_); }
  const std::vector<std::unique_ptr<Sender>>& senders() const { return senders_; }

 private:
  std::filesystem::path folder() const { return daemon_.folder() / "device"; }
  std::uint64_t logged() const { return std::filesystem::file_size(device_->log()); }

  void make_topics() {
    for (std::uint32_t i = 0; i < kTopics.size(); ++i) {
      const Status made = create_small_topic(*client_, kTopics[i], i == 1 ? Durability::sync : Durability::async);
      ASSERT_TRUE(made.has_value()) << made.error().message();
      senders_.push_back(std::make_unique<Sender>(*client_, kTopics[i], i, std::chrono::seconds(kHangSeconds)));
    }
    TopicChange change;
    change.retention_bytes = 512 * 1024;
    const Status altered = client_->alter_topic("brief", change);
    ASSERT_TRUE(altered.has_value()) << altered.error().message();
  }

  // Sends a little or a lot, waits for it or not; now and then the daemon dies, or stops, and starts again.
  void take_step() {
    Sender& sender = *senders_[random_() % senders_.size()];
    const Status sent = sender.send(1 + random_() % (random_() % 8 == 0 ? 400 : 30));
    ASSERT_TRUE(sent.has_value()) << sent.error().message();
    if (random_() % 2 == 0) {
      const Status flushed = sender.flush_after_restart();
      ASSERT_TRUE(flushed.has_value()) << flushed.error().message();
    }
    for (const auto& one : senders_) one->settle([this] { return logged(); });
    if (random_() % 40 != 0) return;
    if (random_() % 2 == 0) {
      daemon_.kill();
    } else {
      ASSERT_EQ(0, daemon_.stop()) << daemon_.log_tail();
    }
    for (const auto& one : senders_) one->settle([this] { return logged(); });
    ASSERT_TRUE(daemon_.start()) << daemon_.log_tail();
  }

  std::mt19937_64 random_;
  TestDaemon daemon_;
  std::unique_ptr<BlockDevice> device_;
  std::unique_ptr<Mount> mount_;
  std::unique_ptr<Client> client_;
  std::vector<std::unique_ptr<Sender>> senders_;
  std::vector<std::byte> first_image_;
  std::unique_ptr<WriteLog> log_;
};

// The device after the power loss: in memory.
class Image {
 public:
  Image() : fd_(::memfd_create("image", MFD_CLOEXEC)) {
    if (::ftruncate(fd_.get(), kDiskSize) != 0) throw std::runtime_error("no memory for an image");
    void* memory = ::mmap(nullptr, kDiskSize, PROT_READ | PROT_WRITE, MAP_SHARED, fd_.get(), 0);
    if (memory == MAP_FAILED) throw std::runtime_error("an image cannot be mapped");
    bytes_ = {static_cast<std::byte*>(memory), kDiskSize};
  }
  ~Image() { ::munmap(bytes_.data(), bytes_.size()); }
  Image(const Image&) = delete;
  Image& operator=(const Image&) = delete;

  int fd() const { return fd_.get(); }
  std::span<std::byte> bytes() const { return bytes_; }

 private:
  UniqueFd fd_;
  std::span<std::byte> bytes_;
};

testing::AssertionResult nothing_is_rotten(Client& client) {
  const auto status = client.status();
  if (!status) return testing::AssertionFailure() << status.error().message();
  for (const std::string& finding : status->recovery)
    if (finding.find("quarantined") != std::string::npos)
      return testing::AssertionFailure() << "a power loss is taken for rot: " << finding;
  return testing::AssertionSuccess();
}

// `mark`: receipts that were durable when the log had at most that size must be there.
void check_state(const Image& image, const Life& life, std::uint64_t mark, Counts& counts) {
  TestDaemon daemon;
  daemon.configure(kConfiguration);
  const LoopDevice device(image.fd());
  const Mount mount(device.path(), daemon.folder() / "data");
  ASSERT_TRUE(daemon.start()) << daemon.log_tail();
  {
    Client client = daemon.connect("check");
    std::vector<std::string> there;
    std::vector<const Sender*> evidence;
    for (const auto& sender : life.senders()) {
      // The life began with topics that were not made yet.
      const bool durable = std::any_of(sender->sent().begin(), sender->sent().end(),
                                       [&](const Sent& sent) { return sent.durable && sent.mark <= mark; });
      if (!durable && !client.topic(sender->topic())) continue;
      there.push_back(sender->topic());
      if (sender->topic() != "brief") evidence.push_back(sender.get());
    }
    EXPECT_TRUE(nothing_is_rotten(client));
    EXPECT_TRUE(receipts_hold(client, evidence, counts["durable receipts held"], mark)) << daemon.log_tail();
    if (std::find(there.begin(), there.end(), "brief") != there.end()) {
      std::string wrong;
      static_cast<void>(read_topic(client, "brief", wrong));
      EXPECT_EQ("", wrong);
    }
    EXPECT_TRUE(is_alive(client, there)) << daemon.log_tail();
  }
  daemon.kill();  // before the file system goes
}

void keep(const Image& image) {
  const char* folder = std::getenv("SLUICE_KEEP");
  if (folder == nullptr) return;
  std::ofstream(std::filesystem::path(folder) / "power-loss.img", std::ios::binary)
      .write(reinterpret_cast<const char*>(image.bytes().data()), std::streamsize(image.bytes().size()));
}

std::uint64_t lose_power(std::uint64_t seed, Counts& counts) {
  Life life(seed);
  life.run();
  if (testing::Test::HasFailure()) return 0;
  const WriteLog& log = life.log();
  counts["logged writes"] += log.size() - log.flushes();
  counts["logged flushes"] += log.flushes();
  std::mt19937_64 random(seed);
  std::vector<std::size_t> cuts;
  for (std::uint64_t i = 0; i < kStatesPerLife; ++i) cuts.push_back(random() % (log.size() + 1));
  std::sort(cuts.begin(), cuts.end());
  PowerLoss power_loss(log, life.first_image());
  const Image image;
  for (std::uint64_t i = 0; i < kStatesPerLife; ++i) {
    const auto survivors = static_cast<Survivors>(random() % kSurvivorsCount);
    power_loss.make(cuts[i], survivors, random, image.bytes());
    keep(image);
    check_state(image, life, log.begin_of(cuts[i]), counts);
    if (!testing::Test::HasFailure()) continue;
    ADD_FAILURE() << "state " << i << ": after " << cuts[i] << " of " << log.size() << " entries, survivors "
                  << static_cast<int>(survivors);
    return 0;
  }
  return kStatesPerLife;
}

TEST(PowerLoss, EveryDurableReceiptHoldsInEachStateThatItCouldLeave) {
  if (const std::string why = why_no_block_devices(); !why.empty()) GTEST_SKIP() << why;
  enter_private_mounts();
  run_rounds({"power_loss", 200, 20000, 70}, lose_power);
}

}  // namespace
}  // namespace sluice::test
