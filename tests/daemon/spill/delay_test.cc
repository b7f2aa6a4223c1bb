// Delayed messages in a partition: when their refs are appended, and which refs count.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/daemon/spill/spill_rig.h"

namespace sluice::spill::test {
namespace {

using core::Durability;
using testing::ElementsAre;
using testing::IsEmpty;

constexpr std::uint64_t kSecond = 1'000'000'000;

TEST(PartitionDelay, ARefIsAppendedAtItsTimeAndThePartitionAsksToBeWokenThen) {
  SpillRig rig(RigOptions::of(Durability::sync));
  const ring::Appended second = rig.send_delayed(1, "second", rig.wall_ns() + 2 * kSecond);
  const ring::Appended first = rig.send_delayed(1, "first", rig.wall_ns() + kSecond);
  rig.settle();
  EXPECT_THAT(rig.refs(), IsEmpty());
  EXPECT_EQ(rig.partition().delays().size(), 2u);
  const std::uint64_t due = rig.now_ns + kSecond;
  EXPECT_EQ(rig.work().deadline_ns, due);
  rig.now_ns = due - 1;
  EXPECT_EQ(rig.work().deadline_ns, due);
  EXPECT_THAT(rig.refs(), IsEmpty());
  rig.now_ns = due;
  rig.settle();
  EXPECT_THAT(rig.refs(), ElementsAre(first.position));
  rig.advance(kSecond);
  rig.settle();
  EXPECT_THAT(rig.refs(), ElementsAre(first.position, second.position));
  EXPECT_EQ(rig.partition().delays().size(), 0u);
  EXPECT_EQ(rig.audit(1).delayed, 2u);
  EXPECT_EQ(rig.audit(1).data, 0u);
  EXPECT_TRUE(rig.partition().audit().holds());
  EXPECT_THAT(rig.audit(0), core::AuditCounts()) << "a ref is nobody's message";
}

TEST(PartitionDelay, TheRefIsOnDiskAsTheMessageIs) {
  SpillRig rig(RigOptions::of(Durability::sync));
  const ring::Appended message = rig.send_delayed(1, "text", rig.wall_ns());
  rig.settle();
  const SpillRig::Recovered recovered = rig.lose_power_and_recover();
  ASSERT_EQ(recovered.seen.size(), 2u);
  EXPECT_EQ(recovered.seen[0].position, message.position);
  EXPECT_EQ(recovered.seen[1].fields.claim.kind(), layout::RecordKind::ref);
  EXPECT_THAT(recovered.payloads, ElementsAre("text", ""));
}

TEST(PartitionDelay, OneWithoutATimeIsDueAtOnce) {
  SpillRig rig(RigOptions::of(Durability::async));
  ring::Appended appended;
  ASSERT_EQ(rig.producer(1).append({bytes("x"), {}, 0}, appended, layout::RecordKind::delayed), ring::AppendResult::ok);
  rig.settle();
  EXPECT_THAT(rig.refs(), ElementsAre(appended.position));
}

TEST(PartitionDelay, ATimeFarBeyondEveryClockIsWaitedFor) {
  SpillRig rig(RigOptions::of(Durability::async));
  rig.send_delayed(1, "never", ~std::uint64_t{0});
  rig.settle();
  EXPECT_EQ(rig.partition().delays().next_due_ns(), core::kDueNsMax);
  EXPECT_LE(rig.work().deadline_ns, rig.now_ns + kDaemonSleepNsMax) << "the wall clock may be set";
}

TEST(PartitionDelay, WhatIsDueAndHasNoRoomComesWhenThereIsSome) {
  SpillRig rig(RigOptions::of(Durability::sync));
  const ring::Appended message = rig.send_delayed(1, "text", rig.wall_ns() + kSecond);
  rig.settle();
  while (rig.fill(1, 8000) + rig.fill(1, 8) != 0) rig.work();  // whose writes do not come back
  rig.advance(2 * kSecond);
  rig.work();
  EXPECT_THAT(rig.refs(), IsEmpty());
  const WorkResult blocked = rig.work();
  EXPECT_GT(blocked.deadline_ns, rig.now_ns);
  EXPECT_LT(blocked.deadline_ns, rig.now_ns + kSecond);
  rig.settle();
  EXPECT_THAT(rig.refs(), ElementsAre(message.position));
}

TEST(PartitionDelay, ManyThatAreDueTogetherComeInOrderAndInTurns) {
  RigOptions options = RigOptions::of(Durability::async);
  options.topic.segment_size = 1024 * 1024;
  SpillRig rig(options);
  std::vector<Position> expected;
  const std::uint64_t due = rig.wall_ns() + kSecond;
  for (int i = 0; i < 6000; ++i) expected.push_back(rig.send_delayed(1, "x", due).position);
  rig.settle();
  rig.advance(kSecond);
  EXPECT_TRUE(rig.work().progressed);
  EXPECT_LT(rig.refs().size(), expected.size()) << "others have their turn in between";
  rig.settle();
  EXPECT_EQ(rig.refs(), expected);
}

TEST(PartitionDelay, NothingIsAppendedBehindAClosedGate) {
  SpillRig rig(RigOptions::of(Durability::async));
  rig.send_delayed(1, "text", rig.wall_ns());
  rig.partition().close_gate(layout::Gate::closing);
  rig.settle();
  EXPECT_THAT(rig.refs(), IsEmpty());
  EXPECT_EQ(rig.work().deadline_ns, 0u);
  EXPECT_EQ(rig.partition().checkpoint_now().delays.delays.size(), 1u) << "the next daemon does it";
}

TEST(PartitionDelay, WhatAFencedProducerSentDoesNotWait) {
  SpillRig rig(RigOptions::of(Durability::sync));
  ASSERT_TRUE(rig.partition().fence(ProducerId(1), ProducerId(2)));
  rig.send_delayed(1, "text", rig.wall_ns());
  rig.settle();
  EXPECT_EQ(rig.audit(1).fenced, 1u);
  EXPECT_THAT(rig.refs(), IsEmpty());
}

TEST(PartitionDelay, ARefThatThisDaemonHasNotAppendedIsQuarantined) {
  SpillRig rig(RigOptions::of(Durability::sync));
  const ring::Appended message = rig.send_delayed(1, "text", rig.wall_ns() + kSecond);
  const ring::Appended plain = rig.send(1, "plain");
  rig.settle();
  for (const Position reference : {message.position, plain.position, Position(0), Position(~std::uint64_t{0})}) {
    rig.send_ref(0, reference);
    rig.send_ref(1, reference);
  }
  rig.settle();
  EXPECT_EQ(rig.partition().counters().corrupt_records, 8u);
  EXPECT_EQ(rig.partition().delays().size(), 1u) << "it still waits";
  rig.advance(kSecond);
  rig.settle();
  EXPECT_EQ(rig.partition().delays().size(), 0u);
  std::size_t refs = 0;
  for (const Seen& seen : rig.lose_power_and_recover().seen)
    refs += seen.result == ring::ScanResult::record && seen.fields.claim.kind() == layout::RecordKind::ref ? 1 : 0;
  EXPECT_EQ(refs, 1u) << "the others are aborts on disk";
}

TEST(PartitionDelay, ARefThatAProducerHasWrittenOverIsAppendedAgain) {
  SpillRig rig(RigOptions::of(Durability::sync));
  const ring::Appended message = rig.send_delayed(1, "text", rig.wall_ns() + kSecond);
  rig.settle();
  rig.advance(kSecond);
  const Position ref = rig.partition().frontier();
  ASSERT_TRUE(rig.work().progressed);
  ASSERT_THAT(rig.refs(), ElementsAre(message.position));
  rig.header_at(ref)->checksum ^= 1;
  rig.settle();
  EXPECT_EQ(rig.partition().counters().corrupt_records, 1u);
  EXPECT_THAT(rig.refs(), ElementsAre(message.position)) << "the damaged one is none";
  EXPECT_EQ(rig.partition().delays().size(), 0u);
}

TEST(PartitionDelay, AVolatileTopicTakesNone) {
  SpillRig rig(RigOptions::of(Durability::volatile_));
  rig.send_delayed(1, "text", 0);
  rig.send(1, "plain");
  rig.settle();
  EXPECT_EQ(rig.audit(1).quarantined, 1u);
  EXPECT_EQ(rig.audit(1).data, 1u);
  EXPECT_EQ(rig.partition().delays().size(), 0u);
}

TEST(PartitionDelay, RetentionKeepsTheFileOfWhatWaits) {
  RigOptions options = RigOptions::of(Durability::sync);
  options.segments_per_file = 1;
  SpillRig rig(options);
  const std::string big(8000, 'x');
  for (int i = 0; i < 20; ++i) rig.send(1, big), rig.settle();
  const ring::Appended message = rig.send_delayed(1, "text", rig.wall_ns() + kSecond);
  for (int i = 0; i < 40; ++i) rig.send(1, big), rig.settle();
  const log::RetentionLimits limits{1, 0};
  ASSERT_TRUE(rig.partition().retain(limits, rig.wall_ns(), rig.partition().durable()));
  const Position kept(message.position.value / kSegmentSizeMin * kSegmentSizeMin);
  EXPECT_EQ(rig.partition().earliest(), kept) << "what lies before it goes";
  rig.advance(kSecond);
  rig.settle();
  const auto retain = [&] { ASSERT_TRUE(rig.partition().retain(limits, rig.wall_ns(), rig.partition().durable())); };
  retain();
  EXPECT_EQ(rig.partition().earliest(), kept) << "its ref is in the newest segment, and is to be read yet";
  for (int i = 0; i < 10; ++i) rig.send(1, big), rig.settle();
  retain();
  EXPECT_GT(rig.partition().earliest(), kept) << "the file of its ref is over the limit";
}

// Segments that are complete and not durable yet: the log does not know of their refs.
TEST(PartitionDelay, RetentionKeepsWhatARefMeansThatIsNotDurable) {
  RigOptions options = RigOptions::of(Durability::async);
  options.segments_per_file = 1;
  SpillRig rig(options);
  const std::string big(8000, 'x');
  const ring::Appended message = rig.send_delayed(1, "text", rig.wall_ns() + kSecond);
  for (int i = 0; i < 40; ++i) rig.send(1, big), rig.settle();
  rig.advance(kSecond);
  rig.work();
  for (int i = 0; i < 9; ++i) rig.send(1, big);
  rig.work();
  ASSERT_EQ(rig.partition().delays().size(), 0u) << "the ref was met";
  ASSERT_GT(rig.partition().frontier() - rig.partition().durable(), kSegmentSizeMin);
  ASSERT_TRUE(rig.partition().retain({1, 0}, rig.wall_ns(), rig.partition().durable()));
  EXPECT_LE(rig.partition().earliest(), message.position);
}

}  // namespace
}  // namespace sluice::spill::test
