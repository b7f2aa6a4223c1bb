// What only the real disk has: what a machine may refuse, and locks that outlive a process.
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <sstream>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "daemon/io/open_disk.h"
#include "tests/daemon/io/disk_rig.h"

namespace sluice::io {
namespace {

using testing::HasSubstr;

constexpr std::size_t kBlock = kDirectIoAlignment;

class UringDiskTest : public testing::Test {
 protected:
  void SetUp() override {
    rig_ = make_posix_rig(testing::TempDir(), uring({}));
    if (!rig_->why_not().empty()) GTEST_SKIP() << rig_->why_not();
  }
  Disk& disk() { return rig_->disk(); }
  DiskRig& rig() { return *rig_; }
  std::string path(const std::string& name) const { return rig_->directory() + "/" + name; }

  // Runs it in a child, which ends with exit code 0 if it returned "", and prints what it returned otherwise.
  static int run_in_child(const std::function<std::string()>& work) {
    const pid_t child = ::fork();
    if (child == 0) {
      const std::string complaint = work();
      if (!complaint.empty()) std::fprintf(stderr, "in the child: %s\n", complaint.c_str());
      ::_exit(complaint.empty() ? 0 : 1);
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }

 private:
  std::unique_ptr<DiskRig> rig_;
};

TEST(UringDiskOptions, QueueDepthIsWithinItsLimits) {
  for (const std::uint32_t depth : {0u, kQueueDepthMax + 1}) {
    const auto refused = UringDisk::create({.queue_depth = depth});
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code(), ErrorCode::invalid);
  }
  for (const std::uint32_t depth : {1u, 3u, kQueueDepthMax}) {
    const auto disk = UringDisk::create({.queue_depth = depth});
    if (!disk && disk.error().code() == ErrorCode::permission) GTEST_SKIP() << disk.error().message();
    EXPECT_TRUE(disk) << depth;
  }
}

// As in a container whose seccomp profile knows no io_uring.
std::string forbid_io_uring() {
  std::array<sock_filter, 4> code = {{
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_io_uring_setup, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  }};
  const sock_fprog program{static_cast<unsigned short>(code.size()), code.data()};
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) {
    return "no seccomp";
  }
  return {};
}

TEST_F(UringDiskTest, RefusedIoUringSaysWhereToLook) {
  EXPECT_EQ(run_in_child([]() -> std::string {
              if (std::string complaint = forbid_io_uring(); !complaint.empty()) return complaint;
              const auto refused = UringDisk::create({});
              if (refused) return "it was not refused";
              if (refused.error().code() != ErrorCode::permission) return refused.error().message();
              const bool helps = refused.error().message().find("seccomp") != std::string::npos;
              return helps ? "" : refused.error().message();
            }),
            0);
}

TEST_F(UringDiskTest, WithoutIoUringTheDiskIsPlainAndSaysWhy) {
  const std::string file_path = path("a");
  EXPECT_EQ(run_in_child([&]() -> std::string {
              if (std::string complaint = forbid_io_uring(); !complaint.empty()) return complaint;
              const auto disk = open_disk({.queue_depth = 8});
              if (!disk) return disk.error().message();
              const DiskFeatures features = (*disk)->features();
              if (features.backend != "pwrite") return features.backend;
              if (features.why_not.find("seccomp") == std::string::npos) return features.why_not;
              const FileId file = (*disk)->open(file_path, OpenMode::create).value();
              const AlignedBuffer data(kBlock, 1);
              if (write_and_wait(**disk, file, 0, data.bytes()) != kBlock) return "not written";
              return sync_and_wait(**disk, file) == 0 ? "" : "not synced";
            }),
            0);
  const auto best = open_disk({.queue_depth = 8});
  ASSERT_TRUE(best);
  EXPECT_EQ((*best)->features().backend, "io_uring");
}

// The kernel keeps the pages that were registered: memory that came to the same address since is not what it writes.
TEST_F(UringDiskTest, WritesFromRegisteredMemoryUseTheRegistration) {
  const std::size_t size = 4 * kBlock;
  const int flags = MAP_PRIVATE | MAP_ANONYMOUS;
  void* const mapped = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, flags, -1, 0);
  ASSERT_NE(mapped, MAP_FAILED);
  const std::span<std::byte> memory(static_cast<std::byte*>(mapped), size);
  std::fill(memory.begin(), memory.end(), std::byte{1});
  const std::uint32_t registration = disk().register_memory(memory);
  if (registration == 0) GTEST_SKIP() << disk().features().why_not;
  ASSERT_EQ(::mmap(mapped, size, PROT_READ | PROT_WRITE, flags | MAP_FIXED, -1, 0), mapped);
  std::fill(memory.begin(), memory.end(), std::byte{2});
  const FileId file = disk().open(path("a"), OpenMode::create).value();
  ASSERT_EQ(write_and_wait(disk(), file, 0, memory), size);
  EXPECT_EQ(contents(disk(), file), std::vector<std::byte>(size, std::byte{1}));
  disk().unregister_memory(registration);
  ASSERT_EQ(write_and_wait(disk(), file, 0, memory), size);
  EXPECT_EQ(contents(disk(), file), std::vector<std::byte>(size, std::byte{2}));
  ::munmap(mapped, size);
}

TEST_F(UringDiskTest, LittleLockedMemoryMeansUnregisteredWrites) {
  const std::string file_path = path("a");
  ASSERT_EQ(::chmod(rig().directory().c_str(), 0777), 0);
  EXPECT_EQ(run_in_child([&]() -> std::string {
              const rlimit little{64 * 1024, 64 * 1024};
              if (::setrlimit(RLIMIT_MEMLOCK, &little) != 0) return "no setrlimit";
              // Root may lock what it likes.
              if (::getuid() == 0 && ::setuid(65534) != 0) return "no setuid";
              auto disk = UringDisk::create({.queue_depth = 8});
              if (!disk) return disk.error().message();
              AlignedBuffer data(1024 * 1024, 3);
              if ((*disk)->register_memory(data.bytes()) != 0) return "it was registered";
              const auto file = (*disk)->open(file_path, OpenMode::create);
              if (!file) return file.error().message();
              const std::int64_t written = write_and_wait(**disk, *file, 0, data.bytes());
              if (written != 1024 * 1024) return "wrote " + std::to_string(written);
              if (contents(**disk, *file) != data.copy()) return "other bytes";
              const DiskFeatures features = (*disk)->features();
              return !features.registered_buffers && features.why_not.find("LimitMEMLOCK") != std::string::npos
                         ? ""
                         : features.why_not;
            }),
            0);
}

TEST_F(UringDiskTest, ShortWriteIsReportedAsShort) {
  const FileId file = disk().open(path("a"), OpenMode::create).value();
  const AlignedBuffer data(4 * kBlock, 1);
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  ::signal(SIGXFSZ, SIG_IGN);
  const rlimit small{2 * kBlock, before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  const std::int64_t first = write_and_wait(disk(), file, 0, data.bytes());
  const std::int64_t beyond = write_and_wait(disk(), file, 2 * kBlock, data.bytes());
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
  EXPECT_EQ(first, 2 * kBlock);
  EXPECT_EQ(beyond, -EFBIG);
  EXPECT_EQ(write_and_wait(disk(), file, 0, data.bytes()), 4 * kBlock);
}

// The lock must end with the last write of a killed process, so it has to be where the kernel writes.
TEST_F(UringDiskTest, LockIsOnTheDescriptionThatWrites) {
  const FileId file = disk().open(path("a"), OpenMode::create).value();
  if (!disk().features().direct) GTEST_SKIP() << disk().features().why_not;
  ASSERT_TRUE(disk().lock(file));
  struct stat there {};
  ASSERT_EQ(::stat(path("a").c_str(), &there), 0);
  const std::string inode = ":" + std::to_string(there.st_ino) + " ";  // others were locked by who started us
  int locked = 0;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fdinfo")) {
    std::ifstream in(entry.path());
    std::stringstream text;
    text << in.rdbuf();
    if (text.str().find("FLOCK") == std::string::npos || text.str().find(inode) == std::string::npos) continue;
    ++locked;
    const int flags = std::stoi(text.str().substr(text.str().find("flags:") + 6), nullptr, 8);
    EXPECT_NE(flags & O_DIRECT, 0) << text.str();
  }
  EXPECT_EQ(locked, 1);
}

TEST_F(UringDiskTest, LockOfAKilledProcessIsFreed) {
  const FileId file = disk().open(path("a"), OpenMode::create).value();
  std::array<int, 2> ready{};
  ASSERT_EQ(::pipe(ready.data()), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    auto own = UringDisk::create({.queue_depth = 8});
    const auto same = own ? (*own)->open(path("a"), OpenMode::read_write) : Result<FileId>(FileId());
    const bool locked = own && same && (*own)->lock(*same);
    const AlignedBuffer data(64 * kBlock, 1);
    if (locked) static_cast<void>((*own)->submit_write(*same, 0, data.bytes(), 1));
    std::array<Completion, 1> into;
    if (locked) static_cast<void>((*own)->reap(into));
    static_cast<void>(::write(ready[1], locked ? "y" : "n", 1) == 1);
    ::pause();
  }
  char said = 0;
  ASSERT_EQ(::read(ready[0], &said, 1), 1);
  ASSERT_EQ(said, 'y');
  EXPECT_EQ(disk().lock(file).error().code(), ErrorCode::in_use);
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
  // Free at the latest when its write has ended.
  bool free = false;
  for (int i = 0; i < 2000 && !free; ++i) {
    free = disk().lock(file).has_value();
    if (!free) ::usleep(10'000);
  }
  EXPECT_TRUE(free);
  ::close(ready[0]);
  ::close(ready[1]);
}

TEST_F(UringDiskTest, MemoryIsRegisteredOnce) {
  AlignedBuffer memory(8 * kBlock, 1);
  const std::span<std::byte> bytes = memory.bytes();
  const std::uint32_t middle = disk().register_memory(bytes.subspan(2 * kBlock, 2 * kBlock));
  if (middle == 0) GTEST_SKIP() << disk().features().why_not;
  EXPECT_EQ(disk().register_memory(bytes.subspan(2 * kBlock, 2 * kBlock)), 0u);
  EXPECT_EQ(disk().register_memory(bytes.subspan(kBlock, 2 * kBlock)), 0u);
  EXPECT_EQ(disk().register_memory(bytes.subspan(3 * kBlock, 2 * kBlock)), 0u);
  const std::uint32_t before = disk().register_memory(bytes.first(2 * kBlock));
  const std::uint32_t after = disk().register_memory(bytes.subspan(4 * kBlock));
  EXPECT_NE(before, 0u);
  EXPECT_NE(after, 0u);
  EXPECT_TRUE(disk().features().registered_buffers);
  for (const std::uint32_t registration : {middle, before, after}) disk().unregister_memory(registration);
}

TEST_F(UringDiskTest, RegistrationsEndAtTheirLimit) {
  AlignedBuffer memory(kBlock * 8, 1);
  // Any address will do: parts of one page can be registered too.
  const std::size_t part = memory.bytes().size() / (kRegistrationsMax + 1);
  ASSERT_GT(part, 0u);
  std::vector<std::uint32_t> registrations;
  for (std::uint32_t i = 0; i < kRegistrationsMax; ++i) {
    const std::uint32_t registration = disk().register_memory(memory.bytes().subspan(i * part, part));
    if (registration == 0 && i == 0) GTEST_SKIP() << disk().features().why_not;
    ASSERT_NE(registration, 0u) << i << ": " << disk().features().why_not;
    registrations.push_back(registration);
  }
  EXPECT_EQ(disk().register_memory(memory.bytes().subspan(kRegistrationsMax * part, part)), 0u);
  EXPECT_THAT(disk().features().why_not, HasSubstr("limit"));
  for (const std::uint32_t registration : registrations) disk().unregister_memory(registration);
  EXPECT_NE(disk().register_memory(memory.bytes()), 0u);
}

TEST_F(UringDiskTest, WritesFromAMappedMemfdAreRegistered) {
  const UniqueFd memfd(::memfd_create("slot", MFD_CLOEXEC));
  const std::size_t size = 16 * kBlock;
  ASSERT_EQ(::ftruncate(memfd.get(), size), 0);
  void* const mapped = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, memfd.get(), 0);
  ASSERT_NE(mapped, MAP_FAILED);
  const std::span<std::byte> slot(static_cast<std::byte*>(mapped), size);
  std::fill(slot.begin(), slot.end(), std::byte{0x5a});
  const std::uint32_t registration = disk().register_memory(slot);
  EXPECT_EQ(registration != 0, disk().features().registered_buffers);
  const FileId file = disk().open(path("a"), OpenMode::create).value();
  ASSERT_EQ(write_and_wait(disk(), file, 0, slot), size);
  EXPECT_EQ(contents(disk(), file), std::vector<std::byte>(size, std::byte{0x5a}));
  disk().unregister_memory(registration);
  ::munmap(mapped, size);
}

TEST_F(UringDiskTest, TurnedOffFeaturesAreNamed) {
  const auto plain = UringDisk::create({.queue_depth = 8, .direct_io = false, .register_buffers = false});
  ASSERT_TRUE(plain);
  (*plain)->close((*plain)->open(path("a"), OpenMode::create).value());
  const DiskFeatures features = (*plain)->features();
  EXPECT_FALSE(features.direct);
  EXPECT_FALSE(features.registered_buffers);
  EXPECT_THAT(features.why_not, HasSubstr("O_DIRECT"));
  EXPECT_THAT(features.why_not, HasSubstr("registered buffers"));
}

TEST_F(UringDiskTest, DestroyedDiskHasFinishedItsWrites) {
  const AlignedBuffer data(256 * kBlock, 1);
  {
    const auto own = UringDisk::create({.queue_depth = 8}).value();
    const FileId file = own->open(path("a"), OpenMode::create).value();
    for (std::uint64_t i = 0; i < 8; ++i) {
      ASSERT_TRUE(own->submit_write(file, i * data.bytes().size(), data.bytes(), i));
    }
    std::array<Completion, 1> into;
    static_cast<void>(own->reap(into));
  }
  const FileId file = disk().open(path("a"), OpenMode::read_write).value();
  EXPECT_TRUE(disk().lock(file));
  EXPECT_EQ(disk().size(file).value(), 8 * data.bytes().size());
}

}  // namespace
}  // namespace sluice::io
