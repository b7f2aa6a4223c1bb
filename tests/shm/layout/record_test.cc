#include "shm/layout/record.h"

#include <array>
#include <cstring>
#include <random>
#include <string>
#include <string_view>

#include <gtest/gtest.h>

#include "shm/base/limits.h"
#include "shm/layout/trailer.h"

namespace sluice::layout {
namespace {

constexpr std::uint32_t kSegmentChecksum = 0x1234'abcd;
constexpr Position kPosition(4096 + 64);

// Room for one record, as it lies in a segment.
struct alignas(64) Memory {
  std::array<std::byte, 4096> bytes{};
  std::byte* at() { return bytes.data(); }
};

// Writes a committed record as a producer does, and returns its span.
std::uint64_t write(std::byte* at, std::string_view payload, std::span<const std::byte> trailer) {
  const std::uint64_t span = record_span(payload.size(), trailer.size());
  RecordFields fields;
  fields.claim = ClaimWord::make(ProducerId(7), span / kRecordAlignment, RecordKind::data, !trailer.empty(),
                                 RecordState::committed);
  fields.sequence = Sequence(11);
  fields.time_ns = 1'700'000'000'000'000'000;
  fields.payload_size = static_cast<std::uint32_t>(payload.size());
  fields.checksum = record_checksum(content_checksum(payload.data(), payload.size(), trailer.data(), trailer.size()),
                                    fields, kPosition, kSegmentChecksum);
  std::memcpy(at + kRecordHeaderSize, payload.data(), payload.size());
  if (!trailer.empty()) std::memcpy(at + trailer_offset(payload.size()), trailer.data(), trailer.size());
  auto* header = reinterpret_cast<RecordHeader*>(at);
  header->sequence = fields.sequence.value;
  header->time_ns = fields.time_ns;
  header->payload_size = fields.payload_size;
  header->checksum = fields.checksum;
  header->claim.store(fields.claim.bits, std::memory_order_release);
  return span;
}

void set_claim(std::byte* at, std::uint64_t bits) { std::memcpy(at, &bits, sizeof bits); }
void set_payload_size(std::byte* at, std::uint32_t size) { std::memcpy(at + 24, &size, sizeof size); }

TEST(Record, ThirtyTwoBytesOfPayloadAreOneCacheLine) {
  EXPECT_EQ(record_span(0, 0), 64u);
  EXPECT_EQ(record_span(32, 0), 64u);
  EXPECT_EQ(record_span(33, 0), 128u);
  EXPECT_EQ(record_span(20, 8), 64u);
  EXPECT_EQ(record_span(32, 8), 128u);
  EXPECT_EQ(trailer_offset(0), 32u);
  EXPECT_EQ(trailer_offset(1), 40u);
  EXPECT_EQ(trailer_offset(8), 40u);
  EXPECT_EQ(trailer_offset(0xffff'ffff), 32u + 0x1'0000'0000u);
}

TEST(Record, WhatWasWrittenIsReadBack) {
  Memory memory;
  TrailerBuilder builder;
  ASSERT_TRUE(builder.key("customer-7"));
  const auto trailer = builder.finish();
  const std::uint64_t span = write(memory.at(), "hello, world", trailer);
  RecordFields fields;
  ASSERT_EQ(read_header(memory.at(), 4096, fields), HeaderCheck::record);
  EXPECT_EQ(fields.claim.span_size(), span);
  EXPECT_EQ(fields.sequence, Sequence(11));
  EXPECT_EQ(fields.payload_size, 12u);
  const std::uint32_t size = trailer_size(memory.at(), fields);
  EXPECT_EQ(size, trailer.size());
  EXPECT_TRUE(checksum_matches(memory.at(), fields, size, kPosition, kSegmentChecksum));
}

TEST(Record, BytesOfAnotherPlaceOrSegmentDoNotPass) {
  Memory memory;
  write(memory.at(), "payload", {});
  RecordFields fields;
  ASSERT_EQ(read_header(memory.at(), 4096, fields), HeaderCheck::record);
  EXPECT_FALSE(checksum_matches(memory.at(), fields, 0, kPosition + 64, kSegmentChecksum));
  EXPECT_FALSE(checksum_matches(memory.at(), fields, 0, kPosition, kSegmentChecksum + 1));
}

TEST(Record, NoSingleFlippedBitPasses) {
  Memory memory;
  TrailerBuilder builder;
  ASSERT_TRUE(builder.tag("t"));
  const std::string payload(40, 'p');  // ends at 72, a multiple of 8: the record has no padding before its trailer
  const auto trailer = builder.finish();
  write(memory.at(), payload, trailer);
  const std::size_t covered = trailer_offset(payload.size()) + trailer.size();
  for (std::size_t bit = 0; bit < covered * 8; ++bit) {
    memory.bytes[bit / 8] ^= static_cast<std::byte>(1u << (bit % 8));
    RecordFields fields;
    bool passes = read_header(memory.at(), 4096, fields) == HeaderCheck::record;
    if (passes) {
      const std::uint32_t size = trailer_size(memory.at(), fields);
      passes = size != kTrailerSizeInvalid && checksum_matches(memory.at(), fields, size, kPosition, kSegmentChecksum);
    }
    ASSERT_FALSE(passes) << "bit " << bit;
    memory.bytes[bit / 8] ^= static_cast<std::byte>(1u << (bit % 8));
  }
}

TEST(Record, AHeaderSaysWhatItsStateIs) {
  Memory memory;
  RecordFields fields;
  EXPECT_EQ(read_header(memory.at(), 4096, fields), HeaderCheck::free);
  const auto word = [](RecordKind kind, RecordState state) {
    return ClaimWord::make(ProducerId(1), 2, kind, false, state).bits;
  };
  set_claim(memory.at(), word(RecordKind::data, RecordState::claimed));
  EXPECT_EQ(read_header(memory.at(), 4096, fields), HeaderCheck::claimed);
  EXPECT_EQ(fields.claim.span_size(), 128u);
  set_claim(memory.at(), word(RecordKind::data, RecordState::aborted));
  EXPECT_EQ(read_header(memory.at(), 4096, fields), HeaderCheck::skip);
  set_claim(memory.at(), word(RecordKind::pad, RecordState::committed));
  EXPECT_EQ(read_header(memory.at(), 4096, fields), HeaderCheck::skip);
  set_claim(memory.at(), word(RecordKind::fence, RecordState::committed));
  EXPECT_EQ(read_header(memory.at(), 4096, fields), HeaderCheck::record);
}

TEST(Record, ImpossibleWordsAreCorrupt) {
  Memory memory;
  RecordFields fields;
  for (const std::uint64_t bits : {std::uint64_t{1}, ~std::uint64_t{0}, std::uint64_t{0x104}, std::uint64_t{0x162},
                                   std::uint64_t{0xff'ffff'02}, std::uint64_t{1} << 32}) {
    set_claim(memory.at(), bits);
    EXPECT_EQ(read_header(memory.at(), 4096, fields), HeaderCheck::corrupt) << std::hex << bits;
  }
  set_claim(memory.at(), ClaimWord::make(ProducerId(1), 2, RecordKind::data, false, RecordState::committed).bits);
  EXPECT_EQ(read_header(memory.at(), 64, fields), HeaderCheck::corrupt) << "a span past the room";
  EXPECT_EQ(read_header(memory.at(), 63, fields), HeaderCheck::corrupt) << "no room for a record at all";
  EXPECT_EQ(read_header(memory.at(), 0, fields), HeaderCheck::corrupt);
}

TEST(Record, SizesThatDoNotFitTheSpanAreFound) {
  Memory memory;
  RecordFields fields;
  const auto claim = [&](bool trailer) {
    set_claim(memory.at(), ClaimWord::make(ProducerId(1), 2, RecordKind::data, trailer, RecordState::committed).bits);
  };
  claim(false);
  set_payload_size(memory.at(), 96);
  EXPECT_EQ(read_header(memory.at(), 4096, fields), HeaderCheck::record);
  for (const std::uint32_t size : {97u, 128u, 0x7fff'ffffu, 0xffff'ffe0u, 0xffff'ffffu}) {
    set_payload_size(memory.at(), size);
    EXPECT_EQ(read_header(memory.at(), 4096, fields), HeaderCheck::bad_sizes) << size;
  }
  claim(true);
  set_payload_size(memory.at(), 88);
  EXPECT_EQ(read_header(memory.at(), 4096, fields), HeaderCheck::record) << "room for a trailer's size field";
  set_payload_size(memory.at(), 89);
  EXPECT_EQ(read_header(memory.at(), 4096, fields), HeaderCheck::bad_sizes);
}

TEST(Record, ATrailerMustLieInItsSpan) {
  Memory memory;
  RecordFields fields;
  set_claim(memory.at(), ClaimWord::make(ProducerId(1), 2, RecordKind::data, true, RecordState::committed).bits);
  set_payload_size(memory.at(), 8);
  const auto size_with = [&](std::uint32_t value) {
    std::memcpy(memory.at() + trailer_offset(8), &value, sizeof value);
    EXPECT_EQ(read_header(memory.at(), 4096, fields), HeaderCheck::record);
    return trailer_size(memory.at(), fields);
  };
  EXPECT_EQ(size_with(4), 4u);
  EXPECT_EQ(size_with(88), 88u);
  for (const std::uint32_t bad : {0u, 1u, 5u, 92u, kTrailerSizeMax + 4, 0xffff'fffcu, 0xffff'ffffu})
    EXPECT_EQ(size_with(bad), kTrailerSizeInvalid) << bad;
}

TEST(Record, RandomHeadersNeverReadOutsideTheirRoom) {
  // The memory ends where the room does: AddressSanitizer sees a read behind it.
  std::mt19937_64 random(20);
  for (int round = 0; round < 100'000; ++round) {
    const std::uint64_t units = 1 + random() % 8;
    auto* heap = new (std::align_val_t{64}) std::byte[units * 64];
    for (std::uint64_t i = 0; i < units * 64; i += 8) {
      const std::uint64_t word = random();
      std::memcpy(heap + i, &word, 8);
    }
    if (round % 2 == 0) {
      set_claim(heap, ClaimWord::make(ProducerId(1), 1 + random() % 9, static_cast<RecordKind>(random() % 6),
                                      random() % 2 == 0, static_cast<RecordState>(1 + random() % 3))
                          .bits);
      set_payload_size(heap, static_cast<std::uint32_t>(random() % 600));
    }
    RecordFields fields;
    if (read_header(heap, units * 64, fields) == HeaderCheck::record) {
      ASSERT_LE(fields.claim.span_size(), units * 64);
      const std::uint32_t size = trailer_size(heap, fields);
      if (size != kTrailerSizeInvalid) {
        static_cast<void>(checksum_matches(heap, fields, size, kPosition, kSegmentChecksum));
        TrailerReader reader(std::span(heap + trailer_offset(fields.payload_size), size));
        while (auto entry = reader.next()) ASSERT_LE(entry->bytes.size(), size);
      }
    }
    ::operator delete[](heap, std::align_val_t{64});
  }
}

}  // namespace
}  // namespace sluice::layout
