#include "daemon/log/index.h"

#include <gtest/gtest.h>

#include "daemon/io/sim_disk.h"
#include "daemon/log/log_file.h"
#include "shm/base/checksum.h"
#include "tests/daemon/log/log_rig.h"

namespace sluice::log {
namespace {

class Index : public testing::Test {
 protected:
  void SetUp() override { ASSERT_TRUE(disk_.make_directories("/d")); }

  IndexContent sample() const {
    IndexContent content;
    content.segments = {{SegmentNumber(8), 10, 100}, {SegmentNumber(9), 20, 200, 10}};
    content.damaged = {{key_.base + 64, key_.base + 128, DamageReason::checksum}};
    content.closed = IndexClosed{key_.base + 2 * kRigSegmentSize, 30, 200};
    return content;
  }
  IndexContent read() {
    auto content = read_index(disk_, "/d", key_);
    EXPECT_TRUE(content);
    return content ? *content : IndexContent{};
  }

  io::SimDisk disk_{{}};
  const IndexKey key_{TopicId(7), 1, Position(8 * kRigSegmentSize), kRigSegmentSize, kRigSegmentsPerFile};
  const std::string path_ = index_path("/d", key_.base);
};

TEST_F(Index, AMissingOneIsEmpty) {
  const IndexContent content = read();
  EXPECT_FALSE(content.present);
  EXPECT_FALSE(content.intact);
  EXPECT_TRUE(content.segments.empty());
}

TEST_F(Index, WhatWasWrittenIsReadBack) {
  ASSERT_TRUE(write_index(disk_, "/d", key_, sample()));
  disk_.power_loss();
  const IndexContent content = read();
  EXPECT_TRUE(content.intact);
  EXPECT_EQ(content.entries, 4u);
  ASSERT_EQ(content.segments.size(), 2u);
  EXPECT_EQ(content.segments[1].segment, SegmentNumber(9));
  EXPECT_EQ(content.segments[1].records, 20u);
  EXPECT_EQ(content.segments[1].time_max_ns, 200u);
  EXPECT_EQ(content.segments[1].refers_back, 10u) << "down to the first segment";
  EXPECT_EQ(content.segments[0].refers_back, 0u);
  EXPECT_EQ(content.damaged, sample().damaged);
  ASSERT_TRUE(content.closed);
  EXPECT_EQ(content.closed->data_end, key_.base + 2 * kRigSegmentSize);
}

TEST_F(Index, AppendedEntriesFollow) {
  IndexContent first;
  first.segments = {{SegmentNumber(8), 1, 1}};
  IndexContent second;
  second.segments = {{SegmentNumber(9), 2, 2}};
  ASSERT_TRUE(append_index(disk_, "/d", key_, 0, first));
  ASSERT_TRUE(append_index(disk_, "/d", key_, 1, second));
  const IndexContent content = read();
  EXPECT_TRUE(content.intact);
  ASSERT_EQ(content.segments.size(), 2u);
  EXPECT_FALSE(content.closed);
}

TEST_F(Index, ASegmentThatRefersToWhereNoneIsEndsIt) {
  IndexContent content;
  content.segments = {{SegmentNumber(8), 1, 1}, {SegmentNumber(9), 2, 2, 11}};
  ASSERT_TRUE(write_index(disk_, "/d", key_, content));
  EXPECT_FALSE(read().intact);
  EXPECT_EQ(read().segments.size(), 1u);
}

TEST_F(Index, AnEntryThatDoesNotHoldEndsIt) {
  ASSERT_TRUE(write_index(disk_, "/d", key_, sample()));
  const auto good = read_file(disk_, path_);
  for (std::size_t bit = 0; bit < good.size() * 8; ++bit) {
    auto bad = good;
    bad[bit / 8] ^= static_cast<std::byte>(1u << (bit % 8));
    write_file(disk_, path_, bad);
    const IndexContent content = read();
    EXPECT_FALSE(content.intact);
    const std::size_t entry = bit / 8 < 64 ? 0 : (bit / 8 - 64) / 32;
    EXPECT_EQ(content.entries, entry) << "bit " << bit;
    EXPECT_FALSE(content.closed);
  }
}

TEST_F(Index, ACutOneGivesItsWholeEntries) {
  ASSERT_TRUE(write_index(disk_, "/d", key_, sample()));
  auto bytes = read_file(disk_, path_);
  for (std::size_t size = bytes.size(); size-- > 0;) {
    bytes.resize(size);
    write_file(disk_, path_, bytes);
    const IndexContent content = read();
    EXPECT_EQ(content.entries, size < 64 ? 0 : (size - 64) / 32);
    EXPECT_FALSE(content.closed);
  }
}

TEST_F(Index, OneOfAnotherFileDoesNotPass) {
  ASSERT_TRUE(write_index(disk_, "/d", key_, sample()));
  IndexKey other = key_;
  other.base = Position(0);
  write_file(disk_, index_path("/d", other.base), read_file(disk_, path_));
  auto content = read_index(disk_, "/d", other);
  ASSERT_TRUE(content);
  EXPECT_FALSE(content->present);
}

TEST_F(Index, EntriesThatCannotBeAboutThisFileEndIt) {
  IndexContent content;
  content.segments = {{SegmentNumber(8), 1, 1}, {SegmentNumber(20), 1, 1}};
  ASSERT_TRUE(write_index(disk_, "/d", key_, content));
  EXPECT_EQ(read().segments.size(), 1u);
}

TEST_F(Index, ANewerVersionIsRefused) {
  ASSERT_TRUE(write_index(disk_, "/d", key_, sample()));
  auto bytes = read_file(disk_, path_);
  bytes[8] = std::byte{2};
  const std::uint32_t checksum = crc32c(0, bytes.data(), 60);
  std::memcpy(bytes.data() + 60, &checksum, sizeof checksum);
  write_file(disk_, path_, bytes);
  const auto content = read_index(disk_, "/d", key_);
  ASSERT_FALSE(content);
  EXPECT_EQ(content.error().code(), ErrorCode::version);
}

}  // namespace
}  // namespace sluice::log
