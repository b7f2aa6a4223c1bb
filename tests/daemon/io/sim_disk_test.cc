// The simulated disk itself: order, faults, processes that die. Power losses are in sim_disk_power_test.cc.
#include "daemon/io/sim_disk.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/daemon/io/disk_rig.h"

namespace sluice::io {
namespace {

using testing::HasSubstr;

constexpr std::size_t kBlock = kDirectIoAlignment;

class SimDiskTest : public testing::Test {
 protected:
  SimDiskTest() : disk_(SimDisk::Options{.seed = 1}) { file_ = disk_.open("/a", OpenMode::create).value(); }
  std::int64_t write(std::uint64_t block, const AlignedBuffer& data) {
    return write_and_wait(disk_, file_, block * kBlock, data.bytes());
  }

  SimDisk disk_;
  FileId file_;
  const AlignedBuffer one_{kBlock, 1};
  const AlignedBuffer two_{kBlock, 2};
};

// The tokens in the order of their completion, and how many reaps it took.
std::pair<std::vector<std::uint64_t>, int> completion_order(std::uint64_t seed, std::uint32_t delay) {
  SimDisk disk({.seed = seed, .delay_reaps_max = delay});
  const FileId file = disk.open("/a", OpenMode::create).value();
  const AlignedBuffer data(kBlock, 1);
  for (std::uint64_t i = 0; i < 32; ++i) EXPECT_TRUE(disk.submit_write(file, i * kBlock, data.bytes(), i));
  std::vector<std::uint64_t> order;
  std::array<Completion, 8> into;
  int reaps = 0;
  while (order.size() < 32) {
    ++reaps;
    const std::size_t count = disk.reap(into);
    for (std::size_t i = 0; i < count; ++i) order.push_back(into[i].token);
  }
  return {order, reaps};
}

TEST(SimDiskOrder, CompletionsComeLateAndInAnyOrder) {
  std::vector<std::uint64_t> submitted(32);
  for (std::size_t i = 0; i < submitted.size(); ++i) submitted[i] = i;
  const auto [order, reaps] = completion_order(1, 30);
  EXPECT_NE(order, submitted);
  EXPECT_THAT(order, testing::UnorderedElementsAreArray(submitted));
  EXPECT_GT(reaps, 4);
  EXPECT_EQ(completion_order(1, 0).second, 4) << "8 a reap, none late";
}

TEST(SimDiskOrder, TheSeedDecidesTheOrder) {
  EXPECT_EQ(completion_order(7, 5), completion_order(7, 5));
  EXPECT_NE(completion_order(7, 5), completion_order(8, 5));
}

TEST_F(SimDiskTest, ChangingABufferInFlightIsFound) {
  AlignedBuffer data(kBlock, 1);
  ASSERT_TRUE(disk_.submit_write(file_, 0, data.bytes(), 1));
  data.bytes()[kBlock - 1] ^= std::byte{1};
  EXPECT_THAT(assertion_of([&] { wait_for(disk_, 1); }), HasSubstr("submitted"));
}

TEST_F(SimDiskTest, OverlappingWritesInFlightAreFound) {
  const AlignedBuffer wide(2 * kBlock, 1);
  ASSERT_TRUE(disk_.submit_write(file_, kBlock, wide.bytes(), 1));
  EXPECT_THAT(assertion_of([&] { disk_.submit_write(file_, 2 * kBlock, one_.bytes(), 2); }), HasSubstr("overlaps"));
  EXPECT_THAT(assertion_of(
                  [&] { static_cast<void>(disk_.write_synced(file_, 2 * kBlock, one_.bytes().first(9)).has_value()); }),
              HasSubstr("overlaps"));
  EXPECT_THAT(assertion_of([&] { static_cast<void>(disk_.truncate(file_, 0).has_value()); }), HasSubstr("overlaps"));
  EXPECT_TRUE(disk_.submit_write(file_, 0, one_.bytes(), 2));
  EXPECT_TRUE(disk_.submit_write(file_, 3 * kBlock, one_.bytes(), 3));
}

TEST_F(SimDiskTest, UsingAClosedFileIsFound) {
  disk_.close(file_);
  EXPECT_THAT(assertion_of([&] { disk_.close(file_); }), HasSubstr("files_"));
}

TEST_F(SimDiskTest, InjectedWriteErrorsComeAsOftenAsAsked) {
  ASSERT_EQ(write(0, one_), kBlock);
  disk_.inject(SimFault::write, 2);
  EXPECT_EQ(write(0, two_), -EIO);
  EXPECT_EQ(write(0, two_), -EIO);
  EXPECT_EQ(write(0, two_), kBlock);
  disk_.inject(SimFault::write);
  for (int i = 0; i < 20; ++i) EXPECT_EQ(write(0, one_), -EIO);
  disk_.heal();
  EXPECT_EQ(write(0, one_), kBlock);
  EXPECT_EQ(contents(disk_, file_), one_.copy());
}

TEST_F(SimDiskTest, FailedWriteLeavesEachSectorOldOrNew) {
  ASSERT_EQ(write(0, one_), kBlock);
  disk_.inject(SimFault::write, 1);
  ASSERT_EQ(write(0, two_), -EIO);
  const std::vector<std::byte> found = contents(disk_, file_);
  int changed = 0;
  for (std::size_t at = 0; at < kBlock; at += kSimSectorSize) {
    const bool is_new = std::memcmp(&found[at], two_.bytes().data() + at, kSimSectorSize) == 0;
    EXPECT_TRUE(is_new || std::memcmp(&found[at], one_.bytes().data() + at, kSimSectorSize) == 0);
    changed += is_new;
  }
  EXPECT_GT(changed, 0) << "with this seed";
  EXPECT_LT(changed, 8) << "with this seed";
}

TEST_F(SimDiskTest, ShortWriteLeavesAPrefix) {
  ASSERT_EQ(write(0, one_), kBlock);
  disk_.inject(SimFault::short_write, 1);
  const std::int64_t written = write(0, two_);
  ASSERT_GE(written, 0);
  ASSERT_LT(written, static_cast<std::int64_t>(kBlock));
  std::vector<std::byte> expected = one_.copy();
  std::copy_n(two_.bytes().begin(), written, expected.begin());
  EXPECT_EQ(contents(disk_, file_), expected);
}

TEST_F(SimDiskTest, EveryOtherOperationCanBeMadeToFail) {
  std::vector<std::byte> into(8);
  disk_.inject(SimFault::sync, 1);
  EXPECT_EQ(sync_and_wait(disk_, file_), -EIO);
  EXPECT_EQ(sync_and_wait(disk_, file_), 0);
  disk_.inject(SimFault::read, 1);
  EXPECT_EQ(disk_.read(file_, 0, into).error().code(), ErrorCode::io);
  EXPECT_TRUE(disk_.read(file_, 0, into));
  disk_.inject(SimFault::write_synced, 1);
  EXPECT_EQ(disk_.write_synced(file_, 0, into).error().code(), ErrorCode::io);
  EXPECT_TRUE(disk_.write_synced(file_, 0, into));
  disk_.inject(SimFault::create, 1, ENOSPC);
  EXPECT_EQ(disk_.open("/b", OpenMode::create).error().code(), ErrorCode::would_block);
  EXPECT_TRUE(disk_.open("/b", OpenMode::create));
  disk_.inject(SimFault::allocate, 1, ENOSPC);
  EXPECT_EQ(disk_.allocate(file_, kBlock).error().code(), ErrorCode::would_block);
  EXPECT_TRUE(disk_.allocate(file_, kBlock));
  disk_.inject(SimFault::sync_directory, 1);
  EXPECT_EQ(disk_.sync_directory("/").error().code(), ErrorCode::io);
  EXPECT_TRUE(disk_.sync_directory("/"));
}

TEST_F(SimDiskTest, RotChangesOneBit) {
  ASSERT_EQ(write(0, one_), kBlock);
  ASSERT_EQ(sync_and_wait(disk_, file_), 0);
  ASSERT_TRUE(disk_.media()->flip_bit("/a", 100, 3));
  std::vector<std::byte> expected = one_.copy();
  expected[100] ^= std::byte{8};
  EXPECT_EQ(contents(disk_, file_), expected);
  EXPECT_EQ(disk_.media()->durable_bytes("/a").value(), expected);
  EXPECT_EQ(disk_.media()->flip_bit("/no", 0, 0).error().code(), ErrorCode::not_found);
}

TEST_F(SimDiskTest, RoomComesBackWithTheLastUser) {
  disk_.media()->set_capacity(16 * kBlock);
  ASSERT_TRUE(disk_.allocate(file_, 12 * kBlock));
  EXPECT_EQ(disk_.free_bytes("/").value(), 4 * kBlock);
  ASSERT_TRUE(disk_.unlink("/a"));
  EXPECT_EQ(disk_.free_bytes("/").value(), 4 * kBlock) << "still open";
  disk_.close(file_);
  EXPECT_EQ(disk_.free_bytes("/").value(), 16 * kBlock);
}

TEST_F(SimDiskTest, WritesOfADeadProcessLandLaterAndHoldItsLock) {
  int landed_late = 0;
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    auto dead = std::make_unique<SimDisk>(SimDisk::Options{.seed = seed, .delay_reaps_max = 50});
    const std::shared_ptr<SimMedia> media = dead->media();
    const FileId file = dead->open("/a", OpenMode::create).value();
    ASSERT_TRUE(dead->lock(file));
    ASSERT_TRUE(dead->submit_write(file, 0, one_.bytes(), 1));
    ASSERT_TRUE(dead->submit_write(file, kBlock, two_.bytes(), 2));
    std::array<Completion, 4> into;
    ASSERT_LT(dead->reap(into), 2u) << "with this seed";
    dead.reset();

    SimDisk successor({.seed = seed}, media);
    const FileId same = successor.open("/a", OpenMode::read_write).value();
    int attempts = 0;
    while (!successor.lock(same)) {
      landed_late += contents(successor, same).size() < 2 * kBlock;
      ASSERT_LT(++attempts, 100);
    }
    EXPECT_EQ(media->orphaned_writes(), 0u);
    std::vector<std::byte> expected = one_.copy();
    expected.insert(expected.end(), two_.bytes().begin(), two_.bytes().end());
    EXPECT_EQ(contents(successor, same), expected);
  }
  EXPECT_GT(landed_late, 0);
}

TEST_F(SimDiskTest, LockOfADeadProcessWithNothingInFlightIsFreeAtOnce) {
  const std::shared_ptr<SimMedia> media = disk_.media();
  {
    SimDisk dead({.seed = 2}, media);
    const FileId file = dead.open("/a", OpenMode::read_write).value();
    ASSERT_TRUE(dead.lock(file));
    EXPECT_EQ(disk_.lock(file_).error().code(), ErrorCode::in_use);
  }
  EXPECT_TRUE(disk_.lock(file_));
}

}  // namespace
}  // namespace sluice::io
