// What disk.h promises, on every disk there is.
#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <ostream>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "daemon/io/pwrite_disk.h"
#include "tests/daemon/io/disk_rig.h"

namespace sluice::io {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr std::size_t kBlock = kDirectIoAlignment;
constexpr std::uint64_t kRoom = 1024 * 1024;

struct Backend {
  std::string name;
  std::function<std::unique_ptr<DiskRig>()> make;
};

void PrintTo(const Backend& backend, std::ostream* out) { *out << backend.name; }

class DiskConformance : public testing::TestWithParam<Backend> {
 protected:
  void SetUp() override {
    rig_ = GetParam().make();
    if (!rig_->why_not().empty()) GTEST_SKIP() << rig_->why_not();
  }

  Disk& disk() { return rig_->disk(); }
  DiskRig& rig() { return *rig_; }
  std::string path(const std::string& name) const { return rig_->directory() + "/" + name; }
  FileId create(const std::string& name) { return disk().open(path(name), OpenMode::create).value(); }

  static ErrorCode code_of(const Status& status) { return status ? ErrorCode{} : status.error().code(); }
  template <typename T>
  static ErrorCode code_of(const Result<T>& result) {
    return result ? ErrorCode{} : result.error().code();
  }

 private:
  std::unique_ptr<DiskRig> rig_;
};

// ---- data

TEST_P(DiskConformance, ReadReturnsWhatWasWritten) {
  const FileId file = create("a");
  const AlignedBuffer data(3 * kBlock, 1);
  ASSERT_EQ(write_and_wait(disk(), file, kBlock, data.bytes()), 3 * kBlock);
  ASSERT_EQ(sync_and_wait(disk(), file), 0);
  EXPECT_EQ(disk().size(file).value(), 4 * kBlock);
  std::vector<std::byte> expected(kBlock);
  expected.insert(expected.end(), data.bytes().begin(), data.bytes().end());
  EXPECT_EQ(contents(disk(), file), expected);
  disk().close(file);
}

TEST_P(DiskConformance, EachRequestIsCompletedExactlyOnce) {
  const std::array<FileId, 2> files = {create("a"), create("b")};
  std::vector<AlignedBuffer> buffers;
  std::map<std::uint64_t, std::int64_t> expected;
  for (std::uint64_t token = 100; token < 100 + kRigQueueDepth; ++token) {
    const FileId file = files[token % 2];
    if (token % 4 == 3) {
      ASSERT_TRUE(disk().submit_sync(file, token));
      expected[token] = 0;
    } else {
      const std::size_t size = (1 + token % 3) * kBlock;
      buffers.emplace_back(size, token);
      ASSERT_TRUE(disk().submit_write(file, (token - 100) * 3 * kBlock, buffers.back().bytes(), token));
      expected[token] = static_cast<std::int64_t>(size);
    }
  }
  std::map<std::uint64_t, std::int64_t> seen;
  for (const Completion& completion : wait_for(disk(), kRigQueueDepth)) {
    EXPECT_TRUE(seen.emplace(completion.token, completion.result).second) << "twice: " << completion.token;
  }
  EXPECT_EQ(seen, expected);
  std::array<Completion, 4> more;
  EXPECT_EQ(disk().reap(more), 0u);
}

TEST_P(DiskConformance, QueueTakesExactlyItsDepth) {
  const FileId file = create("a");
  const AlignedBuffer data(kBlock, 1);
  for (int round = 0; round < 3; ++round) {
    for (std::uint64_t i = 0; i < kRigQueueDepth; ++i) {
      ASSERT_TRUE(disk().submit_write(file, i * kBlock, data.bytes(), i));
    }
    EXPECT_FALSE(disk().submit_write(file, kRigQueueDepth * kBlock, data.bytes(), 99));
    EXPECT_FALSE(disk().submit_sync(file, 99));
    EXPECT_EQ(wait_for(disk(), 1).size(), 1u);
    // Room is there again as soon as one was reaped, and for one only.
    EXPECT_TRUE(disk().submit_sync(file, 50));
    EXPECT_FALSE(disk().submit_sync(file, 51));
    EXPECT_EQ(wait_for(disk(), kRigQueueDepth).size(), kRigQueueDepth);
  }
  EXPECT_EQ(disk().size(file).value(), kRigQueueDepth * kBlock);
}

TEST_P(DiskConformance, CompletionFdIsReadableWhileCompletionsWait) {
  if (disk().completion_fd() < 0) GTEST_SKIP() << "simulated: no descriptor";
  const auto readable = [this](int timeout_ms) {
    pollfd wait{disk().completion_fd(), POLLIN, 0};
    int result = 0;
    do result = ::poll(&wait, 1, timeout_ms);
    while (result < 0 && errno == EINTR);
    return result == 1;
  };
  const FileId file = create("a");
  const AlignedBuffer data(kBlock, 1);
  EXPECT_FALSE(readable(0));
  for (std::uint64_t i = 0; i < 3; ++i) ASSERT_TRUE(disk().submit_write(file, i * kBlock, data.bytes(), i));
  std::array<Completion, 1> one;
  std::size_t reaped = disk().reap(one);
  while (reaped < 3) {
    ASSERT_TRUE(readable(20'000)) << "after " << reaped;
    reaped += disk().reap(one);
  }
  // The signal of one that was reaped before may still come, but not for ever.
  for (int i = 0; i < 10 && readable(10); ++i) EXPECT_EQ(disk().reap(one), 0u);
  EXPECT_FALSE(readable(0));
}

TEST_P(DiskConformance, WritesComeFromRegisteredMemoryOrAnyOther) {
  const FileId file = create("a");
  AlignedBuffer memory(8 * kBlock, 7);
  const std::span<std::byte> registered = memory.bytes().subspan(2 * kBlock, 4 * kBlock);
  const std::uint32_t registration = disk().register_memory(registered);
  EXPECT_EQ(registration != 0, disk().features().registered_buffers);
  // Inside, over either end, and outside.
  for (const std::size_t block : {2u, 5u, 1u, 6u, 0u}) {
    const std::span<std::byte> piece = memory.bytes().subspan(block * kBlock, block == 0 ? kBlock : 2 * kBlock);
    ASSERT_EQ(write_and_wait(disk(), file, block * kBlock, piece), piece.size()) << block;
  }
  ASSERT_EQ(write_and_wait(disk(), file, 3 * kBlock, memory.bytes().subspan(3 * kBlock, 2 * kBlock)), 2 * kBlock);
  EXPECT_EQ(contents(disk(), file), memory.copy());
  disk().unregister_memory(registration);
  ASSERT_EQ(write_and_wait(disk(), file, 0, memory.bytes()), memory.bytes().size());
  const std::uint32_t again = disk().register_memory(registered);
  EXPECT_EQ(again != 0, registration != 0);
  disk().unregister_memory(again);
  disk().unregister_memory(0);
}

TEST_P(DiskConformance, UnregisteringKeepsTheWritesInFlight) {
  const FileId file = create("a");
  AlignedBuffer memory(4 * kBlock, 7);
  const std::uint32_t registration = disk().register_memory(memory.bytes());
  ASSERT_TRUE(disk().submit_write(file, 0, memory.bytes(), 1));
  disk().unregister_memory(registration);
  const std::vector<Completion> completions = wait_for(disk(), 1);
  ASSERT_EQ(completions.size(), 1u);
  EXPECT_EQ(completions[0].result, 4 * kBlock);
  EXPECT_EQ(contents(disk(), file), memory.copy());
}

TEST_P(DiskConformance, SyncedAndSubmittedWritesSeeEachOther) {
  const FileId file = create("a");
  AlignedBuffer data(2 * kBlock, 1);
  ASSERT_EQ(write_and_wait(disk(), file, 0, data.bytes()), 2 * kBlock);
  std::vector<std::byte> expected = contents(disk(), file);  // now in the page cache
  const std::string small = "a header that is not aligned";
  const auto small_bytes = std::as_bytes(std::span(small));
  ASSERT_TRUE(disk().write_synced(file, kBlock - 5, small_bytes));
  std::copy(small_bytes.begin(), small_bytes.end(), expected.begin() + kBlock - 5);
  EXPECT_EQ(contents(disk(), file), expected);
  const AlignedBuffer newer(kBlock, 2);
  ASSERT_EQ(write_and_wait(disk(), file, kBlock, newer.bytes()), kBlock);
  std::copy(newer.bytes().begin(), newer.bytes().end(), expected.begin() + kBlock);
  EXPECT_EQ(contents(disk(), file), expected);
  ASSERT_TRUE(disk().write_synced(file, 2 * kBlock + 100, small_bytes));
  EXPECT_EQ(disk().size(file).value(), 2 * kBlock + 100 + small.size());
}

TEST_P(DiskConformance, UnalignedWritesAreADefectOfTheCaller) {
  const FileId file = create("a");
  const AlignedBuffer data(2 * kBlock, 1);
  EXPECT_THAT(assertion_of([&] { disk().submit_write(file, 512, data.bytes(), 1); }), HasSubstr("offset %"));
  EXPECT_THAT(assertion_of([&] { disk().submit_write(file, 0, data.bytes().subspan(512, kBlock), 1); }),
              HasSubstr("data"));
  EXPECT_THAT(assertion_of([&] { disk().submit_write(file, 0, data.bytes().first(512), 1); }), HasSubstr("size"));
  EXPECT_THAT(assertion_of([&] { disk().submit_write(file, 0, data.bytes().first(0), 1); }), HasSubstr("empty"));
}

TEST_P(DiskConformance, ClosingWithRequestsInFlightIsADefectOfTheCaller) {
  const FileId file = create("a");
  const AlignedBuffer data(kBlock, 1);
  ASSERT_TRUE(disk().submit_write(file, 0, data.bytes(), 1));
  EXPECT_THAT(assertion_of([&] { disk().close(file); }), HasSubstr("in_flight"));
  EXPECT_EQ(wait_for(disk(), 1).size(), 1u);
  disk().close(file);
}

// ---- files

TEST_P(DiskConformance, OpenSaysWhetherTheFileIsThere) {
  EXPECT_EQ(code_of(disk().open(path("a"), OpenMode::read)), ErrorCode::not_found);
  EXPECT_EQ(code_of(disk().open(path("a"), OpenMode::read_write)), ErrorCode::not_found);
  EXPECT_EQ(code_of(disk().open(path("no/a"), OpenMode::create)), ErrorCode::not_found);
  disk().close(create("a"));
  const Result<FileId> again = disk().open(path("a"), OpenMode::create);
  ASSERT_EQ(code_of(again), ErrorCode::exists);
  EXPECT_THAT(again.error().message(), HasSubstr(path("a")));
  disk().close(disk().open(path("a"), OpenMode::read).value());
  disk().close(disk().open(path("a"), OpenMode::read_write).value());
}

TEST_P(DiskConformance, ReadIsShortOnlyAtTheEnd) {
  const FileId file = create("a");
  std::vector<std::byte> into(2 * kBlock, std::byte{0xee});
  EXPECT_EQ(disk().read(file, 0, into).value(), 0u);
  const AlignedBuffer data(2 * kBlock, 1);
  ASSERT_TRUE(disk().write_synced(file, 0, data.bytes().first(kBlock + 10)));
  EXPECT_EQ(disk().read(file, 0, into).value(), kBlock + 10);
  EXPECT_TRUE(std::equal(into.begin(), into.begin() + kBlock + 10, data.bytes().begin()));
  EXPECT_EQ(disk().read(file, kBlock, into).value(), 10u);
  EXPECT_EQ(disk().read(file, kBlock + 10, into).value(), 0u);
  EXPECT_EQ(disk().read(file, 100 * kBlock, into).value(), 0u);
  EXPECT_EQ(disk().read(file, 5, std::span(into).first(7)).value(), 7u);
  EXPECT_TRUE(std::equal(into.begin(), into.begin() + 7, data.bytes().begin() + 5));
  EXPECT_EQ(disk().read(file, 0, {}).value(), 0u);
}

TEST_P(DiskConformance, AllocateGrowsAndNeverShrinks) {
  const FileId file = create("a");
  ASSERT_TRUE(disk().allocate(file, 4 * kBlock));
  EXPECT_EQ(contents(disk(), file), std::vector<std::byte>(4 * kBlock));
  const AlignedBuffer data(kBlock, 1);
  ASSERT_EQ(write_and_wait(disk(), file, 3 * kBlock, data.bytes()), kBlock);
  ASSERT_TRUE(disk().allocate(file, kBlock));
  ASSERT_TRUE(disk().allocate(file, 0));
  EXPECT_EQ(disk().size(file).value(), 4 * kBlock);
  std::vector<std::byte> last(kBlock);
  ASSERT_EQ(disk().read(file, 3 * kBlock, last).value(), kBlock);
  EXPECT_EQ(last, data.copy());
}

TEST_P(DiskConformance, TruncateSetsTheSizeAndForgetsWhatWasAbove) {
  const FileId file = create("a");
  const AlignedBuffer data(4 * kBlock, 1);
  ASSERT_EQ(write_and_wait(disk(), file, 0, data.bytes()), 4 * kBlock);
  ASSERT_TRUE(disk().truncate(file, kBlock + 100));
  EXPECT_EQ(disk().size(file).value(), kBlock + 100);
  ASSERT_TRUE(disk().truncate(file, 3 * kBlock));
  std::vector<std::byte> expected = data.copy();
  expected.resize(kBlock + 100);
  expected.resize(3 * kBlock);
  EXPECT_EQ(contents(disk(), file), expected);
  ASSERT_TRUE(disk().truncate(file, 0));
  EXPECT_EQ(disk().size(file).value(), 0u);
}

TEST_P(DiskConformance, RenameReplacesAndKeepsTheBytes) {
  const FileId file = create("a.tmp");
  ASSERT_TRUE(disk().write_synced(file, 0, std::as_bytes(std::span("new"))));
  const FileId old = create("a");
  ASSERT_TRUE(disk().write_synced(old, 0, std::as_bytes(std::span("older"))));
  ASSERT_TRUE(disk().rename(path("a.tmp"), path("a")));
  ASSERT_TRUE(disk().sync_directory(rig().directory()));
  EXPECT_THAT(disk().list(rig().directory()).value(), ElementsAre("a"));
  const FileId renamed = disk().open(path("a"), OpenMode::read).value();
  EXPECT_EQ(disk().size(renamed).value(), 4u);
  // The replaced file lives on in those who have it open.
  EXPECT_EQ(disk().size(old).value(), 6u);
  EXPECT_EQ(code_of(disk().rename(path("no"), path("b"))), ErrorCode::not_found);
}

TEST_P(DiskConformance, AFileCanBeUsedAfterItsNameIsGone) {
  const FileId file = create("a");
  ASSERT_TRUE(disk().unlink(path("a")));
  EXPECT_EQ(code_of(disk().unlink(path("a"))), ErrorCode::not_found);
  EXPECT_THAT(disk().list(rig().directory()).value(), ElementsAre());
  const AlignedBuffer data(kBlock, 1);
  EXPECT_EQ(write_and_wait(disk(), file, 0, data.bytes()), kBlock);
  EXPECT_EQ(sync_and_wait(disk(), file), 0);
  EXPECT_EQ(contents(disk(), file), data.copy());
  disk().close(file);
}

TEST_P(DiskConformance, DirectoriesAreMadeListedAndRemoved) {
  ASSERT_TRUE(disk().make_directories(path("t/0")));
  ASSERT_TRUE(disk().make_directories(path("t/0")));
  ASSERT_TRUE(disk().make_directories(path("t/1/")));
  for (const char* name : {"t/9.log", "t/10.log", "t/0/x"}) disk().close(create(name));
  EXPECT_THAT(disk().list(path("t")).value(), ElementsAre("0", "1", "10.log", "9.log"));
  EXPECT_EQ(code_of(disk().list(path("no"))), ErrorCode::not_found);
  EXPECT_EQ(code_of(disk().sync_directory(path("no"))), ErrorCode::not_found);
  EXPECT_EQ(code_of(disk().remove_directory(path("t/0"))), ErrorCode::exists);
  EXPECT_EQ(code_of(disk().make_directories(path("t/9.log"))), ErrorCode::exists);
  ASSERT_TRUE(disk().unlink(path("t/0/x")));
  ASSERT_TRUE(disk().remove_directory(path("t/0")));
  EXPECT_EQ(code_of(disk().remove_directory(path("t/0"))), ErrorCode::not_found);
  ASSERT_TRUE(disk().sync_directory(path("t")));
  EXPECT_THAT(disk().list(path("t")).value(), ElementsAre("1", "10.log", "9.log"));
}

TEST_P(DiskConformance, OnlyOneHolderHasTheLock) {
  const FileId file = create("a");
  ASSERT_TRUE(disk().lock(file));
  ASSERT_TRUE(disk().lock(file)) << "its own lock is not in the way";
  const std::unique_ptr<Disk> other = rig().another();
  const FileId others = other->open(path("a"), OpenMode::read_write).value();
  const Status refused = other->lock(others);
  ASSERT_EQ(code_of(refused), ErrorCode::in_use);
  EXPECT_THAT(refused.error().message(), HasSubstr(path("a")));
  const FileId second = disk().open(path("a"), OpenMode::read_write).value();
  EXPECT_EQ(code_of(disk().lock(second)), ErrorCode::in_use);
  disk().close(file);
  ASSERT_TRUE(other->lock(others));
  EXPECT_EQ(code_of(disk().lock(second)), ErrorCode::in_use);
  other->close(others);
  ASSERT_TRUE(disk().lock(second));
}

TEST_P(DiskConformance, AClientsDescriptorCanOnlyRead) {
  const FileId file = create("a");
  const AlignedBuffer data(2 * kBlock, 1);
  ASSERT_EQ(write_and_wait(disk(), file, 0, data.bytes()), 2 * kBlock);
  const UniqueFd client = std::move(disk().open_for_client(path("a")).value());
  void* const mapped = ::mmap(nullptr, 2 * kBlock, PROT_READ, MAP_SHARED, client.get(), 0);
  ASSERT_NE(mapped, MAP_FAILED);
  EXPECT_EQ(std::memcmp(mapped, data.bytes().data(), 2 * kBlock), 0);
  EXPECT_NE(::mprotect(mapped, 2 * kBlock, PROT_READ | PROT_WRITE), 0);
  ::munmap(mapped, 2 * kBlock);
  EXPECT_LT(::write(client.get(), "x", 1), 0);
  EXPECT_NE(::ftruncate(client.get(), 0), 0);
  EXPECT_NE(::fcntl(client.get(), F_GETFD) & FD_CLOEXEC, 0);

  // The lock is on a description of its own: another description sees it.
  const std::string again = "/proc/self/fd/" + std::to_string(client.get());
  const UniqueFd other(::open(again.c_str(), O_RDONLY | O_CLOEXEC));
  struct flock query {};
  query.l_type = F_WRLCK;
  ASSERT_EQ(::fcntl(other.get(), F_OFD_GETLK, &query), 0);
  EXPECT_EQ(query.l_type, F_RDLCK);
  EXPECT_EQ(code_of(disk().open_for_client(path("no"))), ErrorCode::not_found);
}

TEST_P(DiskConformance, AFullDiskPushesBackAndRecovers) {
  if (!rig().limit_room(kRoom)) GTEST_SKIP() << "cannot limit the room on this file system";
  EXPECT_LE(disk().free_bytes(rig().directory()).value(), kRoom);
  const FileId file = create("a");
  ASSERT_TRUE(disk().allocate(file, kBlock));
  const Status refused = disk().allocate(file, 2 * kRoom);
  ASSERT_EQ(code_of(refused), ErrorCode::would_block);
  EXPECT_THAT(refused.error().message(), HasSubstr("free space"));
  EXPECT_EQ(disk().size(file).value(), kBlock);

  const FileId filler = create("filler");
  ASSERT_TRUE(disk().allocate(filler, disk().free_bytes(rig().directory()).value() / kBlock * kBlock));
  const AlignedBuffer data(16 * kBlock, 1);
  EXPECT_EQ(write_and_wait(disk(), file, 64 * kBlock, data.bytes()), -ENOSPC);
  EXPECT_EQ(code_of(disk().write_synced(file, 64 * kBlock, data.bytes())), ErrorCode::would_block);
  EXPECT_EQ(write_and_wait(disk(), file, 0, data.bytes().first(kBlock)), kBlock) << "its blocks were reserved";

  disk().close(filler);
  ASSERT_TRUE(disk().unlink(path("filler")));
  EXPECT_EQ(write_and_wait(disk(), file, 64 * kBlock, data.bytes()), 16 * kBlock);
  EXPECT_TRUE(disk().allocate(file, 100 * kBlock));
}

TEST_P(DiskConformance, ManyFilesComeAndGo) {
  for (int round = 0; round < 3; ++round) {
    std::set<FileId> open;
    for (int i = 0; i < 20; ++i) EXPECT_TRUE(open.insert(create("f" + std::to_string(i))).second);
    for (const FileId file : open) disk().close(file);
    for (int i = 0; i < 20; ++i) ASSERT_TRUE(disk().unlink(path("f" + std::to_string(i))));
  }
  EXPECT_THAT(disk().list(rig().directory()).value(), ElementsAre());
}

TEST_P(DiskConformance, FeaturesNameTheBackend) {
  disk().close(create("a"));
  const DiskFeatures features = disk().features();
  EXPECT_THAT(features.backend, testing::AnyOf("io_uring", "pwrite", "simulated"));
  EXPECT_EQ(features.why_not.empty(), features.direct && features.registered_buffers);
}

MakeDisk uring_disk(bool direct, bool registered) {
  return uring({.queue_depth = kRigQueueDepth, .direct_io = direct, .register_buffers = registered});
}

Result<std::unique_ptr<Disk>> pwrite_disk() {
  SLUICE_ASSIGN(std::unique_ptr<Disk> disk, PwriteDisk::create({.queue_depth = kRigQueueDepth}));
  return disk;
}

SimDisk::Options sim_options(std::uint64_t seed, std::uint32_t delay) {
  return {.seed = seed, .queue_depth = kRigQueueDepth, .delay_reaps_max = delay};
}

// Twice the queue: two copies share it.
Result<std::unique_ptr<Disk>> pwrite_for_mirrors() {
  SLUICE_ASSIGN(std::unique_ptr<Disk> disk, PwriteDisk::create({.queue_depth = 2 * kRigQueueDepth}));
  return disk;
}
const UringDisk::Options kUringForMirrors{.queue_depth = 2 * kRigQueueDepth};

SimDisk::Options sim_for_mirrors(std::uint64_t seed, std::uint32_t delay) {
  return {.seed = seed, .queue_depth = 2 * kRigQueueDepth, .delay_reaps_max = delay};
}

INSTANTIATE_TEST_SUITE_P(
    All, DiskConformance,
    testing::Values(
        Backend{"uring", [] { return make_posix_rig(testing::TempDir(), uring_disk(true, true)); }},
        Backend{"uring_buffered", [] { return make_posix_rig(testing::TempDir(), uring_disk(false, true)); }},
        Backend{"uring_unregistered", [] { return make_posix_rig(testing::TempDir(), uring_disk(true, false)); }},
        Backend{"uring_tmpfs", [] { return make_posix_rig("/dev/shm", uring_disk(true, true)); }},
        Backend{"uring_small_tmpfs", [] { return make_posix_rig("/dev/shm", uring_disk(true, true), kRoom); }},
        Backend{"pwrite", [] { return make_posix_rig(testing::TempDir(), pwrite_disk); }},
        Backend{"pwrite_small_tmpfs", [] { return make_posix_rig("/dev/shm", pwrite_disk, kRoom); }},
        Backend{"simulated", [] { return make_sim_rig(sim_options(1, 3)); }},
        Backend{"simulated_slow", [] { return make_sim_rig(sim_options(2, 20)); }},
        Backend{"simulated_at_once", [] { return make_sim_rig(sim_options(3, 0)); }},
        Backend{"mirrors_uring",
                [] { return make_mirror_rig(make_posix_rig(testing::TempDir(), uring(kUringForMirrors)), nullptr); }},
        Backend{"mirrors_small_tmpfs",
                [] {
                  return make_mirror_rig(make_posix_rig("/dev/shm", pwrite_for_mirrors, kRoom),
                                         make_posix_rig("/dev/shm", pwrite_for_mirrors, 2 * kRoom));
                }},
        Backend{"mirrors_second_smaller",
                [] {
                  return make_mirror_rig(make_posix_rig("/dev/shm", uring(kUringForMirrors), 2 * kRoom),
                                         make_posix_rig("/dev/shm", uring(kUringForMirrors), kRoom));
                }},
        Backend{"mirrors_simulated", [] { return make_mirror_rig(make_sim_rig(sim_for_mirrors(1, 3)), nullptr); }},
        Backend{"mirrors_simulated_slow",
                [] { return make_mirror_rig(make_sim_rig(sim_for_mirrors(2, 20)), nullptr); }}),
    [](const testing::TestParamInfo<Backend>& backend) { return backend.param.name; });

}  // namespace
}  // namespace sluice::io
