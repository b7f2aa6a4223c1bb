// Slots: when a segment may leave memory, and what happens when none may.
#include <gtest/gtest.h>

#include "tests/daemon/spill/spill_rig.h"

namespace sluice::spill::test {
namespace {

using core::Durability;

constexpr std::uint64_t kSegment = kSegmentSizeMin;

TEST(Memory, ADurableSegmentStaysUntilItIsDurable) {
  SpillRig rig(RigOptions::of(Durability::sync));
  std::uint32_t sent = 0;
  for (int i = 0; i < 20; ++i) {
    sent += rig.fill(1, 3000);
    rig.work();  // and no completion is taken
  }
  EXPECT_EQ(rig.partition().memory_start(), Position(0));
  EXPECT_EQ(rig.fill(1, 3000), 0u);
  for (int i = 0; i < 20; ++i) {
    rig.settle();
    sent += rig.fill(1, 3000);
  }
  rig.settle();
  EXPECT_GT(rig.partition().memory_start(), Position(0));
  EXPECT_LE(rig.partition().memory_start(), rig.partition().durable());
  EXPECT_EQ(rig.audit(1).data, sent);
}

TEST(Memory, APinnedSlotIsNotReusedAndIsLookedAtAgain) {
  SpillRig rig(RigOptions::of(Durability::sync));
  for (std::uint64_t segment = 0; segment < 3; ++segment)
    rig.pins.cell(20 + static_cast<std::uint32_t>(segment)).store(layout::pin_word(1, SegmentNumber(segment)));
  for (int i = 0; i < 20; ++i) {
    rig.fill(1, 3000);
    rig.settle();
  }
  EXPECT_EQ(rig.fill(1, 3000), 0u);
  EXPECT_GT(rig.partition().slot_counts().limbo, 0u);
  const WorkResult waiting = rig.work();
  EXPECT_FALSE(waiting.progressed);
  EXPECT_GT(waiting.deadline_ns, rig.now_ns) << "nobody says when a pin goes";
  for (std::uint32_t cell = 20; cell < 23; ++cell) rig.pins.cell(cell).store(0);
  rig.settle();
  EXPECT_GT(rig.fill(1, 3000), 0u);
}

TEST(Memory, AVolatileBlockingTopicWaitsForItsSlowestReader) {
  SpillRig rig(RigOptions::of(Durability::volatile_));
  rig.attached.cursor = Position(0);
  for (int i = 0; i < 20; ++i) {
    rig.fill(1, 3000);
    rig.settle();
  }
  EXPECT_EQ(rig.fill(1, 3000), 0u);
  EXPECT_EQ(rig.partition().memory_start(), Position(0));
  rig.attached.cursor = Position(kSegment);
  rig.settle();
  EXPECT_EQ(rig.partition().memory_start(), Position(kSegment));
  EXPECT_GT(rig.fill(1, 3000), 0u);
  EXPECT_EQ(rig.audit(1).dropped, 0u);
}

TEST(Memory, AVolatileTopicWithoutReadersKeepsTheLatest) {
  SpillRig rig(RigOptions::of(Durability::volatile_));
  std::uint32_t sent = 0;
  for (int i = 0; i < 40; ++i) {
    sent += rig.fill(1, 3000);
    rig.settle();
  }
  EXPECT_GT(rig.partition().frontier(), Position(10 * kSegment));
  EXPECT_GT(rig.partition().memory_start(), Position(0));
  EXPECT_EQ(rig.audit(1).data, sent);
  EXPECT_EQ(rig.audit(1).dropped, 0u);
}

TEST(Memory, DroppingTheOldestCountsWhatAReaderMissed) {
  RigOptions options = RigOptions::of(Durability::volatile_);
  options.topic.overflow = core::Overflow::drop_oldest;
  SpillRig rig(options);
  rig.attached.cursor = Position(0);
  std::uint32_t sent = 0;
  for (int i = 0; i < 40; ++i) {
    sent += rig.fill(1, 3000);
    rig.settle();
  }
  const core::AuditCounts counts = rig.audit(1);
  EXPECT_GT(counts.dropped, 0u);
  EXPECT_EQ(counts.data + counts.dropped, sent);
  EXPECT_TRUE(counts.sum_holds());
}

TEST(Memory, MemoryThatIsRefusedIsBackPressureAndHeals) {
  RigOptions options = RigOptions::of(Durability::async);
  options.backing_limit = 2 * kSegment;
  SpillRig rig(options);
  rig.fill(1, 3000);
  rig.work();
  EXPECT_EQ(rig.fill(1, 3000), 0u);
  EXPECT_FALSE(rig.partition().reason().empty());
  EXPECT_GT(rig.work().deadline_ns, rig.now_ns);
  EXPECT_EQ(rig.partition().gate(), layout::Gate::open);
  rig.backing.limit = UINT64_MAX;
  rig.settle();
  EXPECT_TRUE(rig.partition().reason().empty());
  EXPECT_GT(rig.fill(1, 3000), 0u);
}

}  // namespace
}  // namespace sluice::spill::test
