#include "shm/base/checksum.h"

#include <array>
#include <numeric>
#include <string_view>
#include <vector>

#include <gtest/gtest.h>

namespace sluice {
namespace {

// Bit by bit, straight from the polynomial: what every faster path must equal.
std::uint32_t reference_crc(std::uint32_t crc, const void* data, std::size_t size) {
  constexpr std::uint32_t kCastagnoliReflected = 0x82f6'3b78;
  const auto* bytes = static_cast<const unsigned char*>(data);
  crc = ~crc;
  for (std::size_t i = 0; i < size; ++i) {
    crc ^= bytes[i];
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) != 0 ? kCastagnoliReflected : 0);
  }
  return ~crc;
}

std::vector<unsigned char> pattern(std::size_t size) {
  std::vector<unsigned char> bytes(size);
  std::uint32_t state = 12345;
  for (auto& byte : bytes) {
    state = state * 1664525 + 1013904223;
    byte = static_cast<unsigned char>(state >> 24);
  }
  return bytes;
}

TEST(Checksum, KnownVectorsOfRfc3720) {
  std::array<unsigned char, 32> bytes{};
  EXPECT_EQ(crc32c(0, bytes.data(), bytes.size()), 0x8a91'36aau);
  bytes.fill(0xff);
  EXPECT_EQ(crc32c(0, bytes.data(), bytes.size()), 0x62a8'ab43u);
  std::iota(bytes.begin(), bytes.end(), static_cast<unsigned char>(0));
  EXPECT_EQ(crc32c(0, bytes.data(), bytes.size()), 0x46dd'794eu);
  std::iota(bytes.rbegin(), bytes.rend(), static_cast<unsigned char>(0));
  EXPECT_EQ(crc32c(0, bytes.data(), bytes.size()), 0x113f'db5cu);
  const std::array<unsigned char, 48> iscsi_read = {
      0x01, 0xc0, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
      0x14, 0x00, 0x00, 0x00, 0x00, 0x00, 0x04, 0x00, 0x00, 0x00, 0x00, 0x14, 0x00, 0x00, 0x00, 0x18,
      0x28, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x02, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00};
  EXPECT_EQ(crc32c(0, iscsi_read.data(), iscsi_read.size()), 0xd996'3a56u);
}

TEST(Checksum, KnownVectorsInText) {
  constexpr std::string_view kDigits = "123456789";
  EXPECT_EQ(crc32c(0, kDigits.data(), kDigits.size()), 0xe306'9283u);
  EXPECT_EQ(crc32c_long(0, kDigits.data(), kDigits.size()), 0xe306'9283u);
}

TEST(Checksum, NothingLeavesTheRunningValueAsItIs) {
  EXPECT_EQ(crc32c(0, nullptr, 0), 0u);
  EXPECT_EQ(crc32c(0x1234'5678, nullptr, 0), 0x1234'5678u);
  EXPECT_EQ(crc32c_long(0x1234'5678, nullptr, 0), 0x1234'5678u);
}

TEST(Checksum, ShortAndLongPathAgreeAtEveryLengthAroundTheLimit) {
  const auto bytes = pattern(3 * kChecksumInlineSizeMax);
  for (std::size_t size = 0; size <= bytes.size(); ++size) {
    const std::uint32_t expected = reference_crc(0, bytes.data(), size);
    ASSERT_EQ(crc32c(0, bytes.data(), size), expected) << size;
    ASSERT_EQ(crc32c_long(0, bytes.data(), size), expected) << size;
  }
}

TEST(Checksum, AnyAlignmentGivesTheSame) {
  const auto bytes = pattern(1024);
  for (std::size_t start = 0; start < 16; ++start) {
    for (const std::size_t size : {1u, 7u, 63u, 255u, 256u, 257u, 900u}) {
      ASSERT_EQ(crc32c(7, bytes.data() + start, size), reference_crc(7, bytes.data() + start, size));
    }
  }
}

TEST(Checksum, FeedingInPiecesGivesTheSame) {
  const auto bytes = pattern(2000);
  const std::uint32_t whole = crc32c(0, bytes.data(), bytes.size());
  for (const std::size_t cut : {1u, 8u, 255u, 256u, 257u, 1000u, 1999u}) {
    EXPECT_EQ(crc32c(crc32c(0, bytes.data(), cut), bytes.data() + cut, bytes.size() - cut), whole) << cut;
  }
}

TEST(Checksum, OneWordEqualsItsEightBytes) {
  const std::uint64_t word = 0x0123'4567'89ab'cdef;
  EXPECT_EQ(crc32c_u64(99, word), reference_crc(99, &word, sizeof word));
}

}  // namespace
}  // namespace sluice
