// Bytes that a producer of the topic can write over: no crash, no read or write outside of the slot, others go on.
#include <random>

#include <gtest/gtest.h>

#include "tests/shm/ring/test_partition.h"

namespace sluice::ring::test {
namespace {

using layout::ClaimWord;
using layout::RecordKind;
using layout::RecordState;

TEST(Hostile, a_broken_chain_is_stepped_over_by_producers_and_told_to_readers) {
  const ClaimWord words[] = {
      ClaimWord::make(ProducerId(9), 0, RecordKind::data, false, RecordState::committed),          // no length
      ClaimWord::make(ProducerId(9), 1u << 20, RecordKind::data, false, RecordState::committed),   // past the segment
      ClaimWord{7},                                                                                // no such state
      ClaimWord::make(ProducerId(9), 1, static_cast<RecordKind>(9), false, RecordState::claimed),  // no such kind
      ClaimWord{~std::uint64_t{0}},
  };
  for (const ClaimWord word : words) {
    TestPartition partition;
    partition.prepare_all();
    Appender appender = partition.appender(1, 0);
    Appended appended;
    ASSERT_EQ(appender.append({bytes("before"), {}, 0}, appended), AppendResult::ok);
    partition.header_at(appended.end)->claim.store(word.bits);
    ASSERT_EQ(appender.append({bytes("behind"), {}, 0}, appended), AppendResult::ok);
    EXPECT_EQ(appended.position, Position(kSegmentSizeMin + layout::kSegmentHeaderSize));
    EXPECT_EQ(appender.broken_chains(), 1u);
    Walker walker(partition, 1, Position(0));
    EXPECT_EQ(walker.payloads().size(), 1u);
    EXPECT_EQ(walker.stopped, ScanResult::broken_chain);
  }
}

TEST(Hostile, a_record_whose_sizes_do_not_fit_is_passed_over_and_told) {
  TestPartition partition;
  partition.prepare_all();
  Appender appender = partition.appender(1, 0);
  Appended first, second;
  ASSERT_EQ(appender.append({bytes("first"), {}, 0}, first), AppendResult::ok);
  ASSERT_EQ(appender.append({bytes("second"), {}, 0}, second), AppendResult::ok);
  for (const std::uint32_t size : {33u, 65u, 0x7fff'ffffu, 0xffff'ffffu}) {
    partition.header_at(first.position)->payload_size = size;
    const auto seen = Walker(partition, 1, Position(0)).all();
    ASSERT_EQ(seen.size(), 2u);
    EXPECT_EQ(seen[0].result, ScanResult::corrupt_record);
    EXPECT_EQ(seen[0].position, first.position);
    EXPECT_EQ(seen[1].payload, "second");
  }
}

TEST(Hostile, changed_bytes_fail_the_checksum) {
  TestPartition partition({.flags = layout::kTopicFlagChecksums});
  partition.prepare_all();
  Appender appender = partition.appender(1, 0);
  Appended appended;
  const std::string text = text_of(3, 20);
  ASSERT_EQ(appender.append({bytes(text), {}, 77}, appended), AppendResult::ok);
  std::byte* record = partition.at(appended.position);
  // Every byte that is covered, but the claim word's state, kind, trailer and span (other answers) and the sizes.
  for (std::size_t i = 4; i < layout::kRecordHeaderSize + text.size(); ++i) {
    if (i >= 24 && i < 28) continue;
    record[i] ^= std::byte{1};
    const auto seen = Walker(partition, 1, Position(0), true).all();
    ASSERT_EQ(seen.size(), 1u);
    EXPECT_EQ(seen[0].result, ScanResult::corrupt_record) << i;
    record[i] ^= std::byte{1};
  }
  EXPECT_EQ(Walker(partition, 1, Position(0), true).payloads().size(), 1u);
}

TEST(Hostile, a_tail_that_lies_stops_nobody) {
  std::uint64_t sent = 0;
  for (const std::uint64_t lie : {UINT64_MAX, UINT64_MAX - 63, std::uint64_t{1} << 60, 100 * kSegmentSizeMin,
                                  4 * kSegmentSizeMin + 64, std::uint64_t{0}}) {
    TestPartition partition;
    partition.prepare_all();
    Appender appender = partition.appender(1, 0);
    Appended appended;
    ASSERT_EQ(appender.append({bytes("one"), {}, 0}, appended), AppendResult::ok);
    partition.memory.log->tail.store(lie);
    Appender other = partition.appender(2, 1);
    ASSERT_EQ(appender.append({bytes("two"), {}, 0}, appended), AppendResult::ok) << lie;
    EXPECT_EQ(appended.position, Position(128));
    ASSERT_EQ(other.append({bytes("three"), {}, 0}, appended), AppendResult::ok) << lie;
    EXPECT_EQ(Walker(partition, 2, Position(0)).payloads().size(), 3u);
    ++sent;
  }
  EXPECT_EQ(sent, 6u);
}

TEST(Hostile, a_crooked_tail_leads_to_no_crooked_record) {
  for (std::uint64_t crooked = 65; crooked < 65 + 64; crooked += 7) {
    TestPartition partition;
    partition.prepare_all();
    partition.memory.log->tail.store(kSegmentSizeMin - 128 + crooked);
    Appender appender = partition.appender(1, 0);
    Appended appended;
    ASSERT_EQ(appender.append({bytes("x"), {}, 0}, appended), AppendResult::ok);
    EXPECT_EQ(appended.position.value % 64, 0u);
  }
}

// Random words over everything that a producer can write, again and again: whatever comes of it, the ring stays within
// its slots (the address sanitizer looks on) and everything ends.
TEST(Hostile, random_words_over_the_log_crash_nothing) {
  std::mt19937_64 random(1);
  for (int round = 0; round < 300; ++round) {
    const std::uint32_t flags = round % 2 == 0 ? layout::kTopicFlagChecksums : 0u;
    TestPartition partition({.flags = flags});
    partition.prepare_all();
    Appender appender = partition.appender(1, 0);
    Appended appended;
    for (int i = 0; i < 400; ++i) {
      const std::string text = text_of(static_cast<std::uint64_t>(i), random() % 900);
      if (appender.append({bytes(text), {}, 0}, appended) == AppendResult::no_room) {
        partition.slots.retire_first();
        partition.prepare_all();
      }
      if (i % 8 != 0) continue;
      auto* words =
          reinterpret_cast<std::uint64_t*>(reinterpret_cast<std::byte*>(partition.memory.log) + layout::kLogHeaderSize);
      const std::size_t index = random() % (4 * kSegmentSizeMin / 8);
      // A word as it is, a small one, or one that looks like a claim.
      const std::uint64_t bits[] = {random(), random() % 16,
                                    ClaimWord::make(ProducerId(1), random() % 2048, RecordKind(random() % 6),
                                                    random() % 2 == 0, RecordState(random() % 4))
                                        .bits};
      words[random() % 2 == 0 ? index & ~std::size_t{7} : index] = bits[random() % 3];
      if (random() % 4 == 0) partition.memory.log->tail.store(random() >> (random() % 64));
    }
    Walker walker(partition, 1, partition.memory.start_of(partition.slots.first_ready()),
                  flags == layout::kTopicFlagChecksums);
    walker.all();
    EXPECT_EQ(partition.pins.cell(0).load(), 0u);
  }
}

}  // namespace
}  // namespace sluice::ring::test
