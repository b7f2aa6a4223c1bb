// The daemon's side: preparing, retiring, pins, reuse.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "shm/base/failpoint.h"
#include "tests/shm/ring/test_partition.h"

namespace sluice::ring::test {
namespace {

constexpr std::uint64_t kSegment = kSegmentSizeMin;

TEST(Reclaim, a_ring_goes_round_many_times_without_loss) {
  TestPartition partition({.flags = layout::kTopicFlagChecksums});
  Appender appender = partition.appender(1, 0);
  Walker walker(partition, 1, Position(0), true);
  std::uint64_t sent = 0, read = 0;
  for (int lap = 0; lap < 40; ++lap) {
    partition.prepare_all();
    Appended appended;
    for (int i = 0; i < 150; ++i) {
      const std::string text = text_of(sent, 1 + (sent * 71) % 1500);
      if (appender.append({bytes(text), {}, 0}, appended) != AppendResult::ok) break;
      ++sent;
    }
    for (const auto& s : walker.all()) {
      ASSERT_EQ(s.result, ScanResult::record);
      ASSERT_EQ(s.payload, text_of(read, 1 + (read * 71) % 1500));
      ASSERT_EQ(s.sequence, ++read);
    }
    while (partition.slots.first_ready() < partition.memory.segment_of(walker.position()))
      partition.slots.retire_first();
  }
  EXPECT_EQ(read, sent);
  EXPECT_GT(appender.local_end().value, 16 * kSegment);
}

TEST(Reclaim, a_pinned_slot_stays_in_limbo_until_it_is_let_go) {
  TestPartition partition;
  partition.prepare_all();
  Appender appender = partition.appender(1, 0);
  fill(appender);
  std::uint32_t slot = 99;
  ASSERT_EQ(pin_segment(partition.memory, partition.pins.cell(1), SegmentNumber(0), slot), Presence::here);
  const std::byte* base = partition.memory.slot_base(slot);
  const std::vector<std::byte> before(base, base + kSegment);
  partition.slots.retire_first();
  EXPECT_EQ(partition.slots.counts().limbo, 1u);
  EXPECT_EQ(partition.prepare_all(), 0u);
  partition.slots.retire_first();  // another one is free at once, and is used
  EXPECT_EQ(partition.slots.counts().free, 1u);
  EXPECT_EQ(partition.prepare_all(), 1u);
  EXPECT_NE(partition.slots.slot_of(SegmentNumber(4)), slot);
  EXPECT_EQ(partition.slots.release_unpinned(), 0u);
  EXPECT_TRUE(std::equal(before.begin(), before.end(), base));
  partition.pins.cell(1).store(0, std::memory_order_release);
  EXPECT_EQ(partition.slots.release_unpinned(), 1u);
  EXPECT_EQ(partition.prepare_all(), 1u);
  EXPECT_EQ(partition.slots.slot_of(SegmentNumber(5)), slot);
}

TEST(Reclaim, a_pin_of_another_partition_or_segment_holds_nothing) {
  TestPartition partition;
  partition.prepare_all();
  partition.pins.cell(1).store(layout::pin_word(6, SegmentNumber(0)));
  partition.pins.cell(2).store(layout::pin_word(5, SegmentNumber(1)));
  partition.slots.retire_first();
  EXPECT_EQ(partition.slots.counts().limbo, 0u);
}

TEST(Reclaim, the_slot_of_an_expired_claim_waits_for_its_owner) {
  TestPartition partition;
  partition.prepare_all();
  Appender slow = partition.appender(1, 0);
  Appender quick = partition.appender(2, 1);
  OpenClaim claim;
  ASSERT_EQ(slow.claim(64, 0, layout::RecordKind::data, claim), AppendResult::ok);
  fill(quick);
  ASSERT_TRUE(partition.expire(claim.position));
  partition.slots.retire_first();
  EXPECT_EQ(partition.slots.counts().limbo, 1u);
  EXPECT_EQ(partition.prepare_all(), 0u);
  std::memset(claim.payload(), 'z', 64);  // into a slot that is still the segment's
  Appended appended;
  EXPECT_EQ(slow.commit(claim, 64, {}, 0, appended), AppendResult::claim_expired);
  EXPECT_EQ(partition.slots.release_unpinned(), 1u);
  EXPECT_EQ(partition.prepare_all(), 1u);
  ASSERT_EQ(slow.append({bytes("again"), {}, 0}, appended), AppendResult::ok);
  EXPECT_EQ(appended.position.value >> 16, 4u);
}

#if defined(SLUICE_FAILPOINTS)
// At the first hit of `window`: everything is retired and its slots are reused, by a daemon that has not seen the pin
// in `cell` (as if it were still in its writer's store buffer). `keep_tail`: the log's tail stays where it was.
class Overtaken {
 public:
  Overtaken(TestPartition& partition, std::string_view window, std::uint32_t cell, bool keep_tail) {
    failpoint::set_handler([&partition, window, cell, keep_tail, done = false](std::string_view name) mutable {
      if (name != window || std::exchange(done, true)) return;
      const std::uint64_t pin = partition.pins.cell(cell).exchange(0);
      const std::uint64_t tail = partition.memory.log->tail.load();
      for (int i = 0; i < 4; ++i) partition.slots.retire_first();
      partition.prepare_all();
      if (keep_tail) partition.memory.log->tail.store(tail);
      partition.pins.cell(cell).store(pin);
    });
  }
  ~Overtaken() { failpoint::set_handler({}); }
};

TEST(Reclaim, a_producer_whose_pin_came_too_late_claims_nothing_in_the_reused_slot) {
  for (const bool known_segment : {true, false})
    for (const bool keep_tail : {true, false}) {
      TestPartition partition;
      partition.prepare_all();
      Appender appender = partition.appender(1, 0);
      Appended appended;
      if (known_segment) {
        ASSERT_EQ(appender.append({bytes("before"), {}, 0}, appended), AppendResult::ok);
      }
      {
        Overtaken overtaken(partition, "ring.pinned", 0, keep_tail);
        ASSERT_EQ(appender.append({bytes("after"), {}, 0}, appended), AppendResult::ok);
      }
      EXPECT_EQ(appended.position, Position(4 * kSegment + layout::kSegmentHeaderSize));
      EXPECT_EQ(Walker(partition, 1, Position(4 * kSegment)).payloads(), std::vector<std::string>{"after"});
    }
}

TEST(Reclaim, a_reader_whose_pin_came_too_late_is_told_that_the_segment_is_gone) {
  TestPartition partition;
  partition.prepare_all();
  Overtaken overtaken(partition, "ring.reader_pinned", 1, false);
  std::uint32_t slot = 0;
  EXPECT_EQ(pin_segment(partition.memory, partition.pins.cell(1), SegmentNumber(2), slot), Presence::gone);
  EXPECT_EQ(partition.pins.cell(1).load(), 0u);
}
#endif

TEST(Reclaim, the_last_slot_freed_is_the_first_reused) {
  TestPartition partition;
  partition.prepare_all();
  const std::uint32_t first = partition.slots.slot_of(SegmentNumber(0));
  const std::uint32_t second = partition.slots.slot_of(SegmentNumber(1));
  partition.slots.retire_first();
  partition.slots.retire_first();
  partition.prepare_all();
  EXPECT_EQ(partition.slots.slot_of(SegmentNumber(4)), second);
  EXPECT_EQ(partition.slots.slot_of(SegmentNumber(5)), first);
}

TEST(Reclaim, a_quick_consumer_needs_two_slots_only) {
  TestPartition partition({.slots = 8});
  Appender appender = partition.appender(1, 0);
  Appended appended;
  for (int i = 0; i < 5000; ++i) {
    const Position wanted = appender.local_end() + partition.slots.lookahead();
    while (partition.slots.prepared() < wanted && partition.slots.prepare_step(Position(0))) {
    }
    ASSERT_EQ(appender.append({bytes(text_of(1, 700)), {}, 0}, appended), AppendResult::ok);
    while (partition.slots.first_ready() < partition.memory.segment_of(appended.end)) partition.slots.retire_first();
  }
  EXPECT_LE(partition.slots.backed_bytes(), 4 * kSegment);
}

TEST(Reclaim, presence_says_not_yet_here_and_gone) {
  TestPartition partition;
  partition.prepare_all();
  auto& cell = partition.pins.cell(1);
  std::uint32_t slot = 0;
  EXPECT_EQ(pin_segment(partition.memory, cell, SegmentNumber(0), slot), Presence::here);
  EXPECT_EQ(cell.load(), layout::pin_word(5, SegmentNumber(0)));
  EXPECT_EQ(pin_segment(partition.memory, cell, SegmentNumber(4), slot), Presence::not_yet);
  EXPECT_EQ(cell.load(), 0u);
  partition.slots.retire_first();
  EXPECT_EQ(pin_segment(partition.memory, cell, SegmentNumber(0), slot), Presence::gone);  // retiring
  EXPECT_EQ(pin_segment(partition.memory, cell, SegmentNumber(4), slot), Presence::not_yet);
  EXPECT_EQ(cell.load(), 0u);
  partition.prepare_all();
  EXPECT_EQ(pin_segment(partition.memory, cell, SegmentNumber(0), slot), Presence::gone);  // its entry is another's
  EXPECT_EQ(pin_segment(partition.memory, cell, SegmentNumber(4), slot), Presence::here);
}

TEST(Reclaim, retiring_moves_the_tail_so_that_a_late_producer_finds_the_log) {
  TestPartition partition;
  partition.prepare_all();
  Appender dead = partition.appender(1, 0);
  fill(dead);
  partition.memory.log->tail.store(0);  // as if all of its owner's moves were yet to come
  partition.slots.retire_first();
  EXPECT_EQ(partition.memory.log->tail.load(), kSegment);
  partition.slots.retire_first();
  EXPECT_EQ(partition.memory.log->tail.load(), 2 * kSegment);
  partition.prepare_all();
  Appender late = partition.appender(2, 1);
  Appended appended;
  ASSERT_EQ(late.append({bytes("x"), {}, 0}, appended), AppendResult::ok);
  EXPECT_EQ(appended.position, Position(4 * kSegment + layout::kSegmentHeaderSize));
}

TEST(Reclaim, a_reused_slot_shows_nothing_of_its_last_segment) {
  TestPartition partition;
  partition.prepare_all();
  Appender appender = partition.appender(1, 0);
  fill(appender);
  partition.slots.retire_first();
  partition.prepare_all();
  const std::byte* base = partition.at(Position(4 * kSegment));
  for (std::uint64_t i = layout::kSegmentHeaderSize; i < kSegment; ++i) ASSERT_EQ(base[i], std::byte{0}) << i;
  layout::SegmentHeader header;
  EXPECT_EQ(layout::read_segment_header(base, TopicId(7), 3, SegmentNumber(4), header), layout::SegmentCheck::ok);
  EXPECT_EQ(header.checksum, partition.slots.segment_checksum(SegmentNumber(4)));
}

TEST(Reclaim, memory_refused_stops_preparing_says_why_and_recovers) {
  TestPartition partition({.segment_size = 1 << 20});
  partition.backing.limit = 3 * kPrepareStepSize;
  EXPECT_EQ(partition.prepare_all(), 3u);
  ASSERT_FALSE(partition.slots.error());
  EXPECT_EQ(partition.slots.error().error().code(), ErrorCode::no_memory);
  EXPECT_EQ(partition.slots.prepared(), Position(3 * kPrepareStepSize));
  EXPECT_EQ(partition.slots.backed_bytes(), 3 * kPrepareStepSize);
  partition.backing.limit = UINT64_MAX;
  EXPECT_EQ(partition.prepare_all(), 13u);
  EXPECT_TRUE(partition.slots.error());
  EXPECT_EQ(partition.control().prepared.load(), 4u << 20);
}

TEST(Reclaim, memory_is_backed_once_per_slot) {
  TestPartition partition;
  partition.prepare_all();
  for (int i = 0; i < 20; ++i) {
    partition.slots.retire_first();
    partition.prepare_all();
  }
  EXPECT_EQ(partition.backing.backed, 4 * kSegment);
}

TEST(Reclaim, a_segment_closed_early_is_zero_to_its_end_and_the_log_goes_on) {
  TestPartition partition({.segment_size = 1 << 20});
  partition.prepare_all();
  for (int i = 0; i < 4; ++i) {  // the second lap starts, with old bytes above prepared
    std::memset(partition.at(Position(std::uint64_t(i) << 20)) + 64, 0xee, (1 << 20) - 64);
  }
  for (int i = 0; i < 4; ++i) partition.slots.retire_first();
  ASSERT_TRUE(partition.slots.prepare_step(Position(0)));
  const std::byte* base = partition.at(Position(4u << 20));
  partition.slots.retire_first();
  EXPECT_EQ(partition.slots.prepared(), Position(5u << 20));
  for (std::uint64_t i = 64; i < (1 << 20); ++i) ASSERT_EQ(base[i], std::byte{0}) << i;
  ASSERT_TRUE(partition.slots.prepare_step(Position(0)));
  Appender appender = partition.appender(1, 0);
  Appended appended;
  ASSERT_EQ(appender.append({bytes("on"), {}, 0}, appended), AppendResult::ok);
  EXPECT_EQ(appended.position, Position((5u << 20) + layout::kSegmentHeaderSize));
}

TEST(Reclaim, preparing_wakes_who_waits_for_room) {
  TestPartition partition;
  Appender appender = partition.appender(1, 0);
  const std::uint32_t count = appender.arm_room();
  EXPECT_EQ(partition.memory.bell->flags.load(), layout::kBellSleepers);
  partition.prepare_all();
  EXPECT_EQ(partition.memory.bell->flags.load(), 0u);
  EXPECT_EQ(partition.memory.bell->count.load(), count + 1);
  appender.sleep_room(count, 1'000'000'000);  // returns at once: the count has moved
}

}  // namespace
}  // namespace sluice::ring::test
