// Memory that outlives its daemon: the next one reads the slots, and goes on, or says what does not hold together.
#include "shm/ring/kept_slots.h"

#include <algorithm>
#include <functional>
#include <vector>

#include <gtest/gtest.h>

#include "shm/layout/segment.h"
#include "tests/shm/ring/test_partition.h"

namespace sluice::ring::test {
namespace {

constexpr std::uint64_t kSegment = kSegmentSizeMin;
constexpr TopicId kTopic(7);
constexpr PartitionNumber kPartition = 3;
constexpr Incarnation kIncarnation(99);

Result<KeptSlots> read(const TestPartition& partition, Position resume = Position(0)) {
  return read_kept_slots(partition.memory, kTopic, kPartition, kIncarnation, resume);
}

// The daemon after the one that `partition` began with, whose slots nobody uses any more.
SlotManager adopt(TestPartition& partition, Position resume = Position(0)) {
  return SlotManager(partition.memory, partition.pins, partition.backing, kTopic, kPartition, kIncarnation,
                     read(partition, resume).value());
}

TEST(KeptSlots, the_next_daemon_goes_on_where_the_last_one_was) {
  TestPartition partition;
  for (int i = 0; i < 3; ++i) partition.slots.prepare_step(Position(0));
  Appender appender = partition.appender(1, 0);
  const std::uint64_t sent = fill(appender);
  SlotManager next = adopt(partition);
  EXPECT_EQ(next.prepared(), partition.slots.prepared());
  EXPECT_EQ(next.first_ready(), partition.slots.first_ready());
  EXPECT_EQ(next.next_segment(), partition.slots.next_segment());
  EXPECT_EQ(next.counts().free, 1u);
  while (next.prepare_step(Position(0))) {
  }
  EXPECT_GT(fill(appender), 0u);
  Walker walker(partition, 1, Position(0));
  std::vector<Seen> seen = walker.all();
  ASSERT_GT(seen.size(), sent);
  for (std::size_t i = 0; i < seen.size(); ++i) EXPECT_EQ(seen[i].sequence, i + 1);
}

// A reader holds a segment that the last daemon had retired: which slot it lies in is not in the table any more.
TEST(KeptSlots, what_a_pin_may_hold_is_not_written_over) {
  TestPartition partition;
  partition.prepare_all();
  Appender appender = partition.appender(1, 0);
  fill(appender);
  std::uint32_t slot = 99;
  ASSERT_EQ(pin_segment(partition.memory, partition.pins.cell(1), SegmentNumber(1), slot), Presence::here);
  const std::byte* base = partition.memory.slot_base(slot);
  const std::vector<std::byte> before(base, base + kSegment);
  partition.slots.retire_first();
  partition.slots.retire_first();
  SlotManager next = adopt(partition, Position(2 * kSegment));
  EXPECT_GE(next.counts().limbo, 1u);
  while (next.prepare_step(Position(0))) {
  }
  EXPECT_TRUE(std::equal(before.begin(), before.end(), base));
  partition.pins.cell(1).store(0, std::memory_order_release);
  EXPECT_GE(next.release_unpinned(), 1u);
  EXPECT_EQ(next.counts().limbo, 0u);
  while (next.prepare_step(Position(0))) {
  }
  EXPECT_EQ(next.counts().ready, 4u);
}

// The last daemon died between taking a segment out of the table and moving the tail past it.
TEST(KeptSlots, a_retiring_that_was_cut_off_is_finished) {
  TestPartition partition;
  partition.prepare_all();
  Appender appender = partition.appender(1, 0);
  Appended appended;
  ASSERT_EQ(appender.append({bytes("x"), {}, 0}, appended), AppendResult::ok);
  auto& entry = partition.control().slot_table[0];
  const layout::SlotEntry ready{entry.load()};
  entry.store(layout::SlotEntry::make(ready.segment(), ready.slot(), layout::SlotState::retiring).bits);
  const SlotManager next = adopt(partition, Position(kSegment));
  EXPECT_EQ(next.first_ready(), SegmentNumber(1));
  EXPECT_GE(partition.memory.log->tail.load(), kSegment);
}

TEST(KeptSlots, what_does_not_hold_together_is_told) {
  struct Damage {
    const char* what;
    std::function<void(TestPartition&)> apply;
    Position resume;
  };
  const auto header = [](TestPartition& partition, std::uint64_t segment) {
    return reinterpret_cast<layout::SegmentHeader*>(
        partition.memory.slot_base(partition.slots.slot_of(SegmentNumber(segment))));
  };
  const std::vector<Damage> damages = {
      {"two segments in one slot",
       [](TestPartition& p) {
         const layout::SlotEntry first{p.control().slot_table[0].load()};
         p.control().slot_table[1].store(
             layout::SlotEntry::make(SegmentNumber(1), first.slot(), layout::SlotState::ready).bits);
       },
       {}},
      {"a slot that is not there",
       [](TestPartition& p) {
         p.control().slot_table[0].store(layout::SlotEntry::make(SegmentNumber(0), 4, layout::SlotState::ready).bits);
       },
       {}},
      {"a gap",
       [](TestPartition& p) {
         p.control().slot_table[1].store(
             layout::SlotEntry::make(SegmentNumber(1), 1, layout::SlotState::retiring).bits);
       },
       {}},
      {"a prepared end outside", [](TestPartition& p) { p.control().prepared.store(9 * kSegment); }, {}},
      {"a header of another incarnation", [&](TestPartition& p) { header(p, 1)->incarnation = 98; }, {}},
      {"a header with a flipped bit", [&](TestPartition& p) { header(p, 2)->segment_number ^= 1; }, {}},
      {"positions that are gone", [](TestPartition& p) { p.slots.retire_first(); }, Position(64)},
      {"positions that never were", [](TestPartition&) {}, Position(5 * kSegment)},
  };
  for (const Damage& damage : damages) {
    TestPartition partition;
    partition.prepare_all();
    damage.apply(partition);
    const auto kept = read(partition, damage.resume);
    ASSERT_FALSE(kept) << damage.what;
    EXPECT_EQ(kept.error().code(), ErrorCode::corrupt) << damage.what;
  }
}

}  // namespace
}  // namespace sluice::ring::test
