// From memory to stable storage: when, how often, and what a failure does.
#include <set>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/daemon/spill/spill_rig.h"

namespace sluice::spill::test {
namespace {

using core::Durability;

TEST(Writer, OneSyncServesAllThatWaitForIt) {
  SpillRig rig(RigOptions::of(Durability::sync));
  ring::Appended last;
  for (int i = 0; i < 200; ++i) last = rig.send(1 + static_cast<std::uint32_t>(i % 4), "message");
  rig.settle(false);
  EXPECT_GE(rig.partition().durable(), last.end);
  EXPECT_EQ(rig.control().durable.load(), rig.partition().durable().value);
  EXPECT_LE(rig.disk->syncs, 2u);
  EXPECT_EQ(rig.lose_power_and_recover().payloads.size(), 200u);
}

TEST(Writer, AnAsyncTopicSyncsAtItsIntervalAndNotBefore) {
  SpillRig rig(RigOptions::of(Durability::async));
  const ring::Appended sent = rig.send(1, "message");
  const std::uint64_t due = rig.now_ns + 5'000'000;
  rig.settle(false);
  EXPECT_EQ(rig.work().deadline_ns, due);
  rig.now_ns = due - 1;
  rig.settle(false);
  EXPECT_EQ(rig.disk->syncs, 0u);
  rig.now_ns = due;
  rig.settle(false);
  EXPECT_EQ(rig.disk->syncs, 1u);
  EXPECT_EQ(rig.partition().durable(), sent.end);
  EXPECT_EQ(rig.work().deadline_ns, 0u);
}

TEST(Writer, AFlushDoesNotWaitForTheInterval) {
  SpillRig rig(RigOptions::of(Durability::async));
  const ring::Appended sent = rig.send(1, "message");
  rig.partition().flush_now();
  rig.settle(false);
  EXPECT_EQ(rig.partition().durable(), sent.end);
}

TEST(Writer, AFlushThatProducersWaitForRoomWithBeginsAtOnce) {
  SpillRig rig(RigOptions::of(Durability::async));
  rig.fill(1, 1000);
  rig.settle(false);
  EXPECT_GE(rig.partition().durable(), Position(kSegmentSizeMin));
  EXPECT_GT(rig.fill(1, 1000), 0u);
}

// Else a ring would be full, and the disk idle, before the first of it is durable.
TEST(Writer, ALongFlushIsSyncedInSteps) {
  RigOptions options = RigOptions::of(Durability::async);
  options.topic.slots = 64;
  SpillRig rig(options);
  for (int turn = 0; turn < 64; ++turn) {
    rig.fill(1, 1000);
    rig.partition().do_work(rig.now_ns);  // more room; the disk answers nothing yet
  }
  const Position target = rig.partition().frontier();
  ASSERT_GT(target, Position(32 * kSegmentSizeMin));
  rig.partition().flush_now();
  while (rig.partition().durable() == Position(0)) {
    rig.reap();
    ASSERT_TRUE(rig.work().progressed);
  }
  EXPECT_LT(rig.partition().durable(), target);
  rig.settle(false);
  EXPECT_EQ(rig.partition().durable(), target);
}

TEST(Writer, AnIdlePartitionAsksForNothing) {
  SpillRig rig(RigOptions::of(Durability::async));
  rig.settle();
  EXPECT_EQ(rig.work().deadline_ns, 0u);
  EXPECT_FALSE(rig.work().progressed);
  EXPECT_EQ(rig.disk->syncs, 0u);
}

class Fault : public testing::TestWithParam<io::SimFault> {};

TEST_P(Fault, PoisonsAndNothingIsCalledDurableFromThenOn) {
  SpillRig rig(RigOptions::of(Durability::sync));
  rig.send(1, "safe");
  rig.settle();
  const Position durable = rig.partition().durable();
  rig.send(1, "doubtful");
  rig.disk->sim().inject(GetParam(), 1);
  rig.settle();
  EXPECT_EQ(rig.partition().gate(), layout::Gate::poisoned);
  EXPECT_FALSE(rig.partition().reason().empty());
  ring::Appended appended;
  EXPECT_EQ(rig.producer(1).append({bytes("refused"), {}, 0}, appended), ring::AppendResult::gate_closed);
  const std::uint32_t syncs = rig.disk->syncs;
  rig.advance(10'000'000'000);
  rig.settle();
  EXPECT_EQ(rig.partition().durable(), durable);
  EXPECT_EQ(rig.control().durable.load(), durable.value);
  EXPECT_EQ(rig.disk->syncs, syncs) << "a failed sync is never tried again and believed";
}

INSTANTIATE_TEST_SUITE_P(Writer, Fault, testing::Values(io::SimFault::write, io::SimFault::sync));

TEST(Writer, ShortWritesAreCompleted) {
  SpillRig rig(RigOptions::of(Durability::sync));
  const ring::Appended sent = rig.send(1, std::string(12'000, 'x'));
  rig.disk->sim().inject(io::SimFault::short_write, 2);
  rig.settle();
  EXPECT_EQ(rig.partition().gate(), layout::Gate::open);
  EXPECT_EQ(rig.partition().durable(), sent.end);
  EXPECT_EQ(rig.lose_power_and_recover().payloads.size(), 1u);
}

// It can be read back, and that proves nothing.
TEST(Writer, WhatAFailedSyncHasLeftUnknownIsNotDurableAfterARestartEither) {
  SpillRig rig(RigOptions::of(Durability::async));
  rig.send(1, "durable");
  rig.settle();
  const Position durable = rig.partition().durable();
  rig.disk->sim().inject(io::SimFault::sync, 1);
  const ring::Appended unknown = rig.send(1, "unknown");
  rig.settle();
  ASSERT_EQ(rig.partition().gate(), layout::Gate::poisoned);
  rig.kill_and_adopt_poisoned();
  EXPECT_EQ(rig.partition().frontier(), unknown.end) << "it was found";
  EXPECT_EQ(rig.partition().durable(), durable);
  EXPECT_EQ(rig.control().durable.load(), durable.value);
  EXPECT_EQ(rig.partition().gate(), layout::Gate::poisoned);
}

TEST(Writer, AWriteThatStaysShortPoisons) {
  SpillRig rig(RigOptions::of(Durability::sync));
  rig.send(1, std::string(12'000, 'x'));
  rig.disk->sim().inject(io::SimFault::short_write);
  rig.settle();
  EXPECT_EQ(rig.partition().gate(), layout::Gate::poisoned);
}

TEST(Writer, AFullDiskIsBackPressureAndHealsByItself) {
  SpillRig rig(RigOptions::of(Durability::sync));
  const ring::Appended safe = rig.send(1, "safe");
  rig.settle();
  rig.disk->sim().media()->set_capacity(0);
  std::uint32_t sent = 1;
  for (int i = 0; i < 50; ++i) {
    sent += rig.fill(1, 4000);
    rig.settle();
  }
  EXPECT_EQ(rig.partition().gate(), layout::Gate::open);
  EXPECT_FALSE(rig.partition().reason().empty());
  EXPECT_GT(rig.work().deadline_ns, rig.now_ns);
  const Position held = rig.partition().durable();
  EXPECT_GE(held, safe.end);
  EXPECT_LT(held, rig.partition().frontier());
  rig.disk->sim().media()->set_capacity(std::uint64_t{1} << 40);
  rig.now_ns = rig.work().deadline_ns;
  rig.settle();
  EXPECT_TRUE(rig.partition().everything_durable());
  EXPECT_TRUE(rig.partition().reason().empty());
  EXPECT_GT(rig.fill(1, 4000), 0u);
  EXPECT_GE(rig.lose_power_and_recover().payloads.size(), sent);
}

TEST(Writer, WhatIsWrittenBecomesDurableWhileTheNextFileFindsNoRoom) {
  RigOptions options = RigOptions::of(Durability::async);
  options.segments_per_file = 1;
  SpillRig rig(options);
  rig.send(1, "first file");
  rig.settle();
  rig.disk->sim().media()->set_capacity(0);
  for (int i = 0; i < 9; ++i) {
    rig.fill(1, 4000);
    rig.settle();
  }
  // The second file was made ahead; the third is not to be had.
  EXPECT_EQ(rig.partition().durable().value % kSegmentSizeMin, 0u);
  EXPECT_GE(rig.partition().durable(), Position(kSegmentSizeMin));
  EXPECT_LT(rig.partition().durable(), rig.partition().frontier());
}

TEST(Writer, AWriteThatFindsNoRoomIsTriedAgain) {
  SpillRig rig(RigOptions::of(Durability::sync));
  const ring::Appended sent = rig.send(1, "message");
  rig.disk->sim().inject(io::SimFault::write, 2, ENOSPC);
  rig.settle();
  EXPECT_EQ(rig.partition().gate(), layout::Gate::open);
  EXPECT_TRUE(rig.partition().is_idle());
  for (int i = 0; i < 3; ++i) {
    rig.advance(200'000'000);
    rig.settle();
  }
  EXPECT_EQ(rig.partition().durable(), sent.end);
}

class Queue : public testing::TestWithParam<std::uint32_t> {};

// Several files in one sync round, over a queue that takes fewer requests than there are files.
TEST_P(Queue, EveryFileIsSyncedBeforeAnythingInItIsDurable) {
  RigOptions options = RigOptions::of(Durability::async);
  options.segments_per_file = 1;
  options.queue_depth = GetParam();
  SpillRig rig(options);
  std::uint32_t sent = 0;
  for (int i = 0; i < 12; ++i) {
    sent += rig.fill(1, 3000);
    rig.settle();
  }
  EXPECT_GT(rig.partition().durable(), Position(6 * kSegmentSizeMin));
  const auto recovered = rig.lose_power_and_recover();
  EXPECT_TRUE(recovered.report.damaged.empty());
  EXPECT_EQ(recovered.payloads.size(), sent);
}

INSTANTIATE_TEST_SUITE_P(Writer, Queue, testing::Values(1u, 2u, 64u));

// Whole blocks are written up to the middle of a record: that far is written, and not durable.
TEST(Writer, DurableIsAlwaysTheEndOfARecord) {
  RigOptions options = RigOptions::of(Durability::async);
  options.delay_reaps_max = 6;
  options.flush_interval_ns = 2'000'000;
  SpillRig rig(options);
  std::set<std::uint64_t> ends{0};
  for (std::uint64_t i = 0; i < 3'000; ++i) {
    const std::string text(i * 2'654'435'761 % 5'900, 'x');
    ring::Appended appended;
    if (rig.producer(1).append({bytes(text), {}, 0}, appended) == ring::AppendResult::ok)
      ends.insert(appended.end.value);
    rig.work();
    rig.reap();
    rig.advance(700'000);
    const std::uint64_t durable = rig.partition().durable().value;
    ASSERT_TRUE(ends.contains(durable) || durable % kSegmentSizeMin == 0) << durable;
  }
  EXPECT_GT(rig.partition().durable(), Position(20 * kSegmentSizeMin));
  rig.settle();
  EXPECT_TRUE(rig.partition().everything_durable());
  EXPECT_EQ(rig.partition().gate(), layout::Gate::open);
}

TEST(Writer, APartialBlockIsWrittenAgainAsItFills) {
  SpillRig rig(RigOptions::of(Durability::sync));
  for (int i = 0; i < 100; ++i) {
    const ring::Appended sent = rig.send(1, "m" + std::to_string(i));
    rig.settle();
    ASSERT_EQ(rig.partition().durable(), sent.end);
  }
  const auto recovered = rig.lose_power_and_recover();
  ASSERT_EQ(recovered.payloads.size(), 100u);
  for (std::size_t i = 0; i < 100; ++i) EXPECT_EQ(recovered.payloads[i], "m" + std::to_string(i));
}

}  // namespace
}  // namespace sluice::spill::test
