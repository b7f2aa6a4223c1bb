#include "shm/layout/trailer.h"

#include <cstring>
#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "shm/base/limits.h"

namespace sluice::layout {
namespace {

TEST(Trailer, NothingAddedIsNoTrailer) {
  TrailerBuilder builder;
  EXPECT_TRUE(builder.finish().empty());
}

TEST(Trailer, EverythingComesBack) {
  TrailerBuilder builder;
  ASSERT_TRUE(builder.key("k1"));
  ASSERT_TRUE(builder.tag("urgent"));
  ASSERT_TRUE(builder.header("content-type", "text/plain"));
  ASSERT_TRUE(builder.header("empty", ""));
  ASSERT_TRUE(builder.bookmark("offset=42"));
  builder.reference(Position(128));
  builder.due(5);
  builder.expiry(6);
  builder.fence({ProducerId(1), ProducerId(2), Sequence(3)});
  const auto bytes = builder.finish();
  EXPECT_EQ(bytes.size() % 4, 0u);
  EXPECT_EQ(as_text(find_entry(bytes, TrailerType::key)), "k1");
  EXPECT_EQ(as_text(find_entry(bytes, TrailerType::tag)), "urgent");
  EXPECT_EQ(as_text(find_entry(bytes, TrailerType::bookmark)), "offset=42");
  EXPECT_EQ(as_u64(find_entry(bytes, TrailerType::reference)), 128u);
  EXPECT_EQ(as_u64(find_entry(bytes, TrailerType::due)), 5u);
  EXPECT_EQ(as_u64(find_entry(bytes, TrailerType::expiry)), 6u);
  const auto fence = as_fence(find_entry(bytes, TrailerType::fence));
  ASSERT_TRUE(fence);
  EXPECT_EQ(fence->old_id, ProducerId(1));
  EXPECT_EQ(fence->new_id, ProducerId(2));
  EXPECT_EQ(fence->next_sequence, Sequence(3));

  std::vector<std::pair<std::string, std::string>> headers;
  TrailerReader reader(bytes);
  while (auto entry = reader.next()) {
    if (entry->type != TrailerType::header) continue;
    const auto header = as_header(entry->bytes);
    ASSERT_TRUE(header);
    headers.emplace_back(header->first, header->second);
  }
  EXPECT_FALSE(reader.broken());
  ASSERT_EQ(headers.size(), 2u);
  EXPECT_EQ(headers[0], std::pair(std::string("content-type"), std::string("text/plain")));
  EXPECT_EQ(headers[1], std::pair(std::string("empty"), std::string()));
}

TEST(Trailer, AnEmptyEntryIsNotAMissingOne) {
  TrailerBuilder builder;
  ASSERT_TRUE(builder.tag(""));
  const auto bytes = builder.finish();
  EXPECT_NE(find_entry(bytes, TrailerType::tag).data(), nullptr);
  EXPECT_EQ(find_entry(bytes, TrailerType::key).data(), nullptr);
}

TEST(Trailer, ClearStartsAfresh) {
  TrailerBuilder builder;
  ASSERT_TRUE(builder.key("first"));
  static_cast<void>(builder.finish());
  builder.clear();
  EXPECT_TRUE(builder.finish().empty());
  ASSERT_TRUE(builder.key("second"));
  EXPECT_EQ(as_text(find_entry(builder.finish(), TrailerType::key)), "second");
}

TEST(Trailer, EachLimitHoldsAndIsNamed) {
  TrailerBuilder builder;
  ASSERT_TRUE(builder.key(std::string(kKeySizeMax, 'k')));
  ASSERT_TRUE(builder.tag(std::string(kTagSizeMax, 't')));
  ASSERT_TRUE(builder.bookmark(std::string(kBookmarkSizeMax, 'b')));
  const std::size_t before = builder.finish().size();
  for (const auto& refused :
       {builder.key(std::string(kKeySizeMax + 1, 'k')), builder.tag(std::string(256, 't')),
        builder.bookmark(std::string(kBookmarkSizeMax + 1, 'b')), builder.header("h", std::string(65536, 'v'))}) {
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code(), ErrorCode::too_large);
  }
  EXPECT_EQ(builder.header("", "v").error().code(), ErrorCode::invalid);
  EXPECT_EQ(builder.header(std::string(65534, 'n'), "").error().code(), ErrorCode::invalid);
  EXPECT_EQ(builder.finish().size(), before) << "a refused entry leaves the trailer as it was";
}

TEST(Trailer, HeadersAreLimitedInNumber) {
  TrailerBuilder builder;
  for (std::uint32_t i = 0; i < kHeadersMax; ++i) ASSERT_TRUE(builder.header("n", "v"));
  EXPECT_EQ(builder.header("n", "v").error().code(), ErrorCode::too_large);
  builder.clear();
  EXPECT_TRUE(builder.header("n", "v"));
}

TEST(Trailer, TheDaemonsOwnEntriesFitAFullTrailer) {
  TrailerBuilder builder;
  // Fills it to the last byte that a caller may take: 4 (size) + 4 (entry) + 2 (name size) + 1 (name) + value.
  const std::size_t value = kTrailerSizeMax - kTrailerDaemonReserve - 11;
  ASSERT_EQ(builder.header("n", std::string(value + 1, 'v')).error().code(), ErrorCode::too_large);
  ASSERT_TRUE(builder.header("n", std::string(value, 'v')));
  EXPECT_EQ(builder.tag("").error().code(), ErrorCode::too_large);
  builder.reference(Position(1));
  builder.due(2);
  builder.expiry(3);
  builder.fence({ProducerId(1), ProducerId(2), Sequence(3)});
  const auto bytes = builder.finish();
  EXPECT_LE(bytes.size(), kTrailerSizeMax);
  EXPECT_EQ(as_u64(find_entry(bytes, TrailerType::reference)), 1u);
  EXPECT_TRUE(as_fence(find_entry(bytes, TrailerType::fence)));
}

TEST(Trailer, AnUnknownTypeIsPassedOver) {
  TrailerBuilder builder;
  ASSERT_TRUE(builder.key("k"));
  ASSERT_TRUE(builder.tag("t"));
  const auto built = builder.finish();
  std::vector<std::byte> bytes(built.begin(), built.end());
  bytes[4] = std::byte{200};
  EXPECT_EQ(find_entry(bytes, TrailerType::key).data(), nullptr);
  EXPECT_EQ(as_text(find_entry(bytes, TrailerType::tag)), "t");
}

TEST(Trailer, BrokenEntriesEndTheWalk) {
  const auto walk = [](std::vector<std::byte> bytes) {
    TrailerReader reader(bytes);
    while (reader.next()) {
    }
    return reader.broken();
  };
  const auto b = [](auto... values) { return std::vector<std::byte>{static_cast<std::byte>(values)...}; };
  EXPECT_FALSE(walk({}));
  EXPECT_FALSE(walk(b(4, 0, 0, 0)));
  EXPECT_TRUE(walk(b(6, 0, 0, 0, 1, 0))) << "no room for an entry's header";
  EXPECT_TRUE(walk(b(8, 0, 0, 0, 1, 0, 1, 0))) << "an entry longer than the trailer";
  EXPECT_TRUE(walk(b(8, 0, 0, 0, 1, 0, 0xff, 0xff)));
  EXPECT_FALSE(walk(b(8, 0, 0, 0, 1, 0, 0, 0)));
}

TEST(Trailer, ValuesOfAWrongSizeAreNothing) {
  const std::vector<std::byte> bytes(9, std::byte{1});
  EXPECT_FALSE(as_u64(bytes));
  EXPECT_FALSE(as_fence(bytes));
  EXPECT_FALSE(as_header(std::span(bytes).first(1)));
  EXPECT_FALSE(as_header(bytes)) << "a name of 257 bytes in 9";
}

TEST(Trailer, RandomBytesNeverLeadOutside) {
  std::mt19937_64 random(4);
  for (int round = 0; round < 50'000; ++round) {
    std::vector<std::byte> bytes(random() % 64);
    for (auto& byte : bytes) byte = static_cast<std::byte>(random() % 12);
    TrailerReader reader(bytes);
    std::size_t entries = 0;
    while (auto entry = reader.next()) {
      ASSERT_GE(entry->bytes.data(), bytes.data());
      ASSERT_LE(entry->bytes.data() + entry->bytes.size(), bytes.data() + bytes.size());
      static_cast<void>(as_header(entry->bytes));
      ASSERT_LE(++entries, bytes.size());
    }
  }
}

}  // namespace
}  // namespace sluice::layout
