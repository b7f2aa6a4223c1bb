#include "shm/layout/segment.h"

#include <array>
#include <cstring>

#include <gtest/gtest.h>

#include "shm/base/checksum.h"

namespace sluice::layout {
namespace {

const std::byte* bytes_of(const SegmentHeader& header) { return reinterpret_cast<const std::byte*>(&header); }
SegmentHeader sample() {
  return make_segment_header(TopicId(5), 2, SegmentNumber(77), Incarnation(3), Position(4096), true);
}

TEST(SegmentHeader, WhatWasMadeIsReadBack) {
  const SegmentHeader made = sample();
  SegmentHeader read;
  ASSERT_EQ(read_segment_header(bytes_of(made), TopicId(5), 2, SegmentNumber(77), read), SegmentCheck::ok);
  EXPECT_EQ(read.incarnation, 3u);
  EXPECT_EQ(read.durable_position, 4096u);
  EXPECT_EQ(read.flags, kSegmentFlagChecksums);
  EXPECT_EQ(std::memcmp(&made.magic, "SLUCSEG1", 8), 0);
}

TEST(SegmentHeader, AnotherPlaceIsCorrupt) {
  const SegmentHeader made = sample();
  SegmentHeader read;
  EXPECT_EQ(read_segment_header(bytes_of(made), TopicId(6), 2, SegmentNumber(77), read), SegmentCheck::corrupt);
  EXPECT_EQ(read_segment_header(bytes_of(made), TopicId(5), 3, SegmentNumber(77), read), SegmentCheck::corrupt);
  EXPECT_EQ(read_segment_header(bytes_of(made), TopicId(5), 2, SegmentNumber(78), read), SegmentCheck::corrupt);
}

TEST(SegmentHeader, AllZeroIsEmpty) {
  const std::array<std::byte, 64> zero{};
  SegmentHeader read;
  EXPECT_EQ(read_segment_header(zero.data(), read), SegmentCheck::empty);
}

TEST(SegmentHeader, NoSingleFlippedBitPasses) {
  SegmentHeader made = sample();
  auto* bytes = reinterpret_cast<unsigned char*>(&made);
  for (std::size_t bit = 0; bit < sizeof made * 8; ++bit) {
    bytes[bit / 8] = static_cast<unsigned char>(bytes[bit / 8] ^ (1u << (bit % 8)));
    SegmentHeader read;
    EXPECT_EQ(read_segment_header(bytes_of(made), read), SegmentCheck::corrupt) << bit;
    bytes[bit / 8] = static_cast<unsigned char>(bytes[bit / 8] ^ (1u << (bit % 8)));
  }
}

TEST(SegmentHeader, ANewerVersionIsToldApartFromDamage) {
  SegmentHeader made = sample();
  made.version = kSegmentVersion + 1;
  SegmentHeader read;
  EXPECT_EQ(read_segment_header(bytes_of(made), read), SegmentCheck::corrupt) << "the version's bits are rotten";
  made.checksum = crc32c(0, &made, offsetof(SegmentHeader, checksum));
  EXPECT_EQ(read_segment_header(bytes_of(made), read), SegmentCheck::newer_version);
}

}  // namespace
}  // namespace sluice::layout
