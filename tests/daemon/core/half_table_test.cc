#include "daemon/core/half_table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace sluice::core {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

constexpr ProducerId kProducer{7};

Half half(std::uint64_t position, std::uint32_t number = 1) {
  return {Position(position), TransactionId::make(ProducerId(9), number), kProducer, true, 5, "shop"};
}

HalfTable settled_table() {
  HalfTable table;
  table.settle();
  return table;
}

std::vector<std::uint64_t> deliver(HalfTable& table, Position& ref) {
  std::vector<std::uint64_t> positions;
  while (const auto due = table.due()) {
    table.sent(ref);
    EXPECT_TRUE(table.met(ref, *due));
    positions.push_back(due->value);
    ref = ref + 64;
  }
  return positions;
}

TEST(HalfTable, AnOpenHalfIsNotDueAndIsNeeded) {
  HalfTable table = settled_table();
  EXPECT_FALSE(table.oldest());
  table.note(half(640));
  table.note(half(704, 2));
  EXPECT_FALSE(table.due());
  EXPECT_EQ(table.oldest(), Position(640));
  EXPECT_THAT(table.open(), ElementsAre(half(640), half(704, 2)));
}

TEST(HalfTable, CommittedOnesAreDeliveredInTheOrderOfTheDecisions) {
  HalfTable table = settled_table();
  for (std::uint64_t position = 64; position <= 256; position += 64) table.note(half(position));
  ASSERT_TRUE(table.decide(Position(192), true, 1));
  ASSERT_TRUE(table.decide(Position(64), true, 2));
  ASSERT_TRUE(table.decide(Position(256), true, 2));
  ASSERT_TRUE(table.decide(Position(128), false, 3));
  Position ref(1000 * 64);
  EXPECT_THAT(deliver(table, ref), ElementsAre(192, 64, 256));
  EXPECT_EQ(table.size(), 0u);
}

TEST(HalfTable, ADecisionCountsOnce) {
  HalfTable table = settled_table();
  table.note(half(64));
  EXPECT_TRUE(table.decide(Position(64), true, 1));
  EXPECT_FALSE(table.decide(Position(64), false, 2));
  EXPECT_FALSE(table.decide(Position(128), true, 3)) << "no half stands there";
  EXPECT_EQ(table.due(), Position(64));
}

TEST(HalfTable, ARefThatTheScanHasPassedWithoutMeetingItIsAppendedAgain) {
  HalfTable table = settled_table();
  table.note(half(64));
  table.note(half(128, 2));
  ASSERT_TRUE(table.decide(Position(64), true, 1));
  ASSERT_TRUE(table.decide(Position(128), true, 2));
  table.sent(Position(640));
  table.sent(Position(704));
  EXPECT_FALSE(table.due());
  EXPECT_FALSE(table.met(Position(704), Position(64))) << "the ref there means another";
  EXPECT_EQ(table.due(), Position(64)) << "the one at 640 was passed";
  EXPECT_FALSE(table.met(Position(768), Position(64))) << "nobody has appended that";
  EXPECT_EQ(table.waiting(), 2u);
}

TEST(HalfTable, UnsettledNothingIsDueAndRefsOfADaemonBeforeCount) {
  HalfTable table;
  table.note(half(64));
  table.note(half(128, 2));
  table.note(half(192, 3));
  EXPECT_TRUE(table.met(Position(640), Position(64)));
  EXPECT_TRUE(table.met(Position(704), Position(9999))) << "a delayed message's, for all it knows";
  ASSERT_TRUE(table.decide(Position(64), true, 1));
  ASSERT_TRUE(table.decide(Position(128), true, 2));
  EXPECT_FALSE(table.due());
  table.settle();
  EXPECT_EQ(table.due(), Position(128));
  EXPECT_EQ(table.size(), 2u) << "the open one and the one that is due";
}

TEST(HalfTable, ASnapshotHasWhatIsNewAndWhatHasEndedSinceTheLastOne) {
  HalfTable table = settled_table();
  table.note(half(64));
  table.note(half(128, 2));
  table.note(half(192, 3));
  const std::uint64_t first_changes = table.changes();
  const HalfSnapshot first = table.snapshot();
  EXPECT_THAT(first.added, ElementsAre(half(64), half(128, 2), half(192, 3)));
  EXPECT_THAT(first.ended, IsEmpty());
  ASSERT_TRUE(table.decide(Position(64), false, 5));
  table.note(half(256, 4));
  table.saved(first_changes);
  const HalfSnapshot second = table.snapshot();
  EXPECT_THAT(second.added, ElementsAre(half(256, 4)));
  EXPECT_THAT(second.ended, ElementsAre(Position(64)));
  EXPECT_EQ(second.decided, 5u);
  EXPECT_TRUE(table.changed_since_save());
  table.saved(table.changes());
  EXPECT_FALSE(table.changed_since_save());
  EXPECT_THAT(table.snapshot().added, IsEmpty());
}

// A daemon that dies before its snapshot leaves counts that have it, and a log that does not say so.
TEST(HalfTable, OneRolledBackWithoutAnOrderIsNamedUntilASnapshotHasIt) {
  HalfTable before = settled_table();
  before.note(half(64));
  before.note(half(128, 2));
  ASSERT_TRUE(before.decide(Position(64), false, 0));
  EXPECT_THAT(before.late(), ElementsAre(Position(64)));

  HalfTable after;
  after.restore({{half(64), half(128, 2)}, {}, 0, before.late()}, Position(640));
  EXPECT_FALSE(after.note(half(64))) << "as recovery meets it again";
  after.settle();
  EXPECT_THAT(after.open(), ElementsAre(half(128, 2)));
  EXPECT_FALSE(after.decide(Position(64), false, 0)) << "it would be counted again";
  EXPECT_THAT(after.late(), ElementsAre(Position(64))) << "for the daemon behind this one";
  EXPECT_THAT(after.snapshot().ended, ElementsAre(Position(64)));
  after.saved(after.changes());
  EXPECT_THAT(after.late(), IsEmpty());
}

// Its row in the store would keep the decision for ever.
TEST(HalfTable, OneThatWasDecidedAndIsNotThereHasEndedOnceEverythingWasMet) {
  HalfTable table;
  table.note(half(64));
  EXPECT_FALSE(table.decide(Position(128), false, 3));
  EXPECT_THAT(table.snapshot().ended, IsEmpty()) << "it may come";
  table.settle();
  EXPECT_THAT(table.snapshot().ended, ElementsAre(Position(128)));
  EXPECT_TRUE(table.changed_since_save());
}

TEST(HalfTable, ACommittedOneStaysInTheStoreUntilItsRefWasMet) {
  HalfTable table = settled_table();
  table.note(half(64));
  table.saved(table.changes());
  ASSERT_TRUE(table.decide(Position(64), true, 1));
  table.sent(Position(640));
  EXPECT_THAT(table.snapshot().ended, IsEmpty());
  ASSERT_TRUE(table.met(Position(640), Position(64)));
  EXPECT_THAT(table.snapshot().ended, ElementsAre(Position(64)));
}

TEST(HalfTable, ASnapshotOfAnUnsettledTableCountsTheRefsThatWereMet) {
  HalfTable table;
  table.restore({{half(64)}, {}, 0, {}}, Position(1000));
  ASSERT_TRUE(table.decide(Position(64), true, 1));
  ASSERT_TRUE(table.met(Position(640), Position(64)));
  EXPECT_THAT(table.snapshot().ended, ElementsAre(Position(64)));
  EXPECT_FALSE(table.settled());
}

TEST(HalfTable, ADecisionThatTheRestoredAuditKnowsIsNotCountedAgain) {
  HalfTable table;
  table.restore({{half(64), half(128, 2)}, {}, 10, {}}, Position(1000));
  EXPECT_TRUE(table.decide(Position(64), true, 10)->is_counted);
  EXPECT_FALSE(table.decide(Position(128), true, 11)->is_counted);
}

TEST(HalfTable, OneThatCameTooLateForItsTransactionIsCountedWhateverTheAuditKnows) {
  HalfTable table;
  HalfSnapshot snapshot;
  snapshot.added = {half(64)};
  snapshot.decided = 5;
  table.restore(snapshot, Position(1000));
  table.settle();
  EXPECT_FALSE(table.decide(Position(64), false, 0)->is_counted);
  EXPECT_EQ(table.decided(), 5u);
}

// A snapshot that was taken behind the decision, and in front of the half.
TEST(HalfTable, ADecisionOnAHalfThatTheRestoredAuditHasNotSeenIsCounted) {
  HalfTable table;
  HalfSnapshot snapshot;
  snapshot.decided = 5;
  table.restore(snapshot, Position(1000));
  table.note(half(1024));
  EXPECT_FALSE(table.decide(Position(1024), false, 5)->is_counted);
}

TEST(HalfTable, OneThatWasDecidedBeforeItIsMetIsNeverOpen) {
  HalfTable table;
  EXPECT_FALSE(table.decide(Position(64), false, 1));
  EXPECT_FALSE(table.decide(Position(128), true, 2));
  const auto decided = table.note(half(64));
  ASSERT_TRUE(decided);
  EXPECT_FALSE(decided->commit || decided->is_counted);
  ASSERT_TRUE(table.note(half(128, 2)));
  EXPECT_THAT(table.open(), IsEmpty());
  table.settle();
  EXPECT_EQ(table.due(), Position(128));
}

}  // namespace
}  // namespace sluice::core
