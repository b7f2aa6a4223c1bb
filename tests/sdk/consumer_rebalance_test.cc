// Assignments that come and go while a member runs.
#include <gtest/gtest.h>

#include "tests/sdk/group_rig.h"

namespace sluice::test {
namespace {

using Texts = std::vector<std::string>;

MessageOptions to(PartitionNumber partition) {
  MessageOptions options;
  options.partition = partition;
  return options;
}

TEST(ConsumerRebalance, ANewAssignmentIsReadWithoutAskingForItBefore) {
  GroupRig rig({.partitions = 2});
  rig.group.assign(0);
  auto consumer = rig.consumer();
  rig.send_numbers(0, 2, to(1));
  EXPECT_EQ(text_of(consumer->next(0ms)), "timed_out");
  const std::uint32_t lists = rig.group.lists();
  for (int i = 0; i < 10; ++i) EXPECT_EQ(text_of(consumer->next(0ms)), "timed_out");
  EXPECT_EQ(rig.group.lists(), lists) << "the daemon is asked when something has changed";
  rig.group.assign(1);
  rig.group.publish_assignments();
  EXPECT_EQ(text_of(consumer->next(1s)), "0");
  EXPECT_EQ(rig.rebalances, (Texts{"assigned 0", "assigned 1"}));
  EXPECT_EQ(consumer->counters().rebalances, 2u);
}

TEST(ConsumerRebalance, WhatIsWantedBackIsGivenBackOnceNothingOfItIsInHand) {
  GroupRig rig({.partitions = 2});
  const std::vector<Receipt> receipts = rig.send_numbers(0, 3, to(0));
  rig.send_numbers(10, 12, to(1));
  rig.group.assign(0);
  rig.group.assign(1);
  ConsumerOptions options;
  options.in_flight_max = 1;
  auto consumer = rig.consumer(options);
  const Delivery held = consumer->next(0ms).value();
  EXPECT_EQ(held.message().text(), "0");
  rig.group.want_back(0);
  EXPECT_EQ(text_of(consumer->next(0ms)), "timed_out");
  EXPECT_EQ(text_of(consumer->next(0ms)), "timed_out");
  EXPECT_EQ(rig.rebalances.back(), "revoked 0");
  EXPECT_EQ(rig.group.cell(0).released.load(), 0u) << "one is still in hand";
  EXPECT_EQ(consumer->assignments().size(), 2u);
  ASSERT_TRUE(consumer->ack(held));
  EXPECT_EQ(rig.group.cell(0).released.load(), 101u) << "without another call";
  EXPECT_EQ(rig.group.cell(0).acked.load(), receipts[0].end.value);
  EXPECT_EQ(consumer->assignments().size(), 1u);
  EXPECT_EQ(text_of(consumer->next(0ms)), "10") << "no more of the other";
  // The list still has it until the daemon has looked: it must not be taken up again.
  rig.group.publish_assignments();
  EXPECT_EQ(text_of(consumer->next(0ms)), "timed_out");
  rig.group.take_back(0);
  EXPECT_EQ(text_of(consumer->next(0ms)), "timed_out");
  EXPECT_EQ(rig.rebalances, (Texts{"assigned 0", "assigned 1", "revoked 0"}));
  EXPECT_EQ(rig.group.cell(0).acked.load(), receipts[0].end.value);
}

TEST(ConsumerRebalance, WithNothingInHandItIsGivenBackBehindTheCallback) {
  GroupRig rig;
  rig.group.assign(0);
  auto consumer = rig.consumer();
  EXPECT_EQ(text_of(consumer->next(0ms)), "timed_out");
  rig.group.want_back(0);
  EXPECT_EQ(text_of(consumer->next(1ms)), "timed_out");
  EXPECT_EQ(text_of(consumer->next(0ms)), "timed_out");
  EXPECT_EQ(rig.rebalances, (Texts{"assigned 0", "revoked 0"}));
  EXPECT_EQ(rig.group.cell(0).released.load(), 101u);
}

TEST(ConsumerRebalance, OneThatIsWantedBackBeforeItWasTakenUpIsGivenBackUnread) {
  GroupRig rig({.partitions = 2});
  rig.group.assign(0);
  auto consumer = rig.consumer();
  const std::vector<Receipt> receipts = rig.send_numbers(0, 2, to(1));
  rig.group.assign(1, receipts[1].position);
  rig.group.cell(1).generation.store(102 | layout::kWantedBack);
  rig.group.cell(1).acked.store(999'999);  // of an earlier generation
  rig.group.publish_assignments();
  EXPECT_EQ(text_of(consumer->next(1ms)), "timed_out");
  EXPECT_EQ(rig.group.cell(1).released.load(), 102u);
  EXPECT_EQ(rig.group.cell(1).acked.load(), receipts[1].position.value);
  EXPECT_EQ(rig.rebalances, Texts{"assigned 0"});
}

TEST(ConsumerRebalance, WhatIsTakenBackIsLostAndItsOutcomesAreRefused) {
  GroupRig rig({.partitions = 2});
  rig.send_numbers(0, 2, to(0));
  rig.send_numbers(10, 12, to(1));
  rig.group.assign(0);
  rig.group.assign(1);
  auto consumer = rig.consumer();
  const std::vector<Delivery> taken = take_all(*consumer);
  ASSERT_EQ(texts_of(taken), (Texts{"0", "1", "10", "11"}));
  rig.group.take_back(0);
  const std::uint64_t acked = rig.group.cell(0).acked.load();
  EXPECT_EQ(consumer->ack(taken[0]).error().code(), ErrorCode::conflict) << "at once, without a next()";
  EXPECT_EQ(consumer->nack(taken[1], Duration(-1), {}).error().code(), ErrorCode::conflict);
  EXPECT_EQ(rig.group.cell(0).acked.load(), acked);
  EXPECT_TRUE(rig.group.read_outcomes().empty());
  EXPECT_EQ(consumer->in_hand(), 2u);
  EXPECT_TRUE(consumer->ack(taken[2]));
  EXPECT_EQ(text_of(consumer->next(0ms)), "timed_out");
  EXPECT_EQ(rig.rebalances.back(), "lost 0");
  EXPECT_EQ(consumer->counters().stale, 2u);
}

TEST(ConsumerRebalance, AnotherGenerationOfThePartitionStartsAnew) {
  GroupRig rig;
  const std::vector<Receipt> receipts = rig.send_numbers(0, 3);
  rig.group.assign(0);
  auto consumer = rig.consumer();
  const std::vector<Delivery> taken = take_all(*consumer);
  ASSERT_EQ(taken.size(), 3u);
  rig.group.take_back(0);
  rig.group.assign(0, receipts[1].position);
  rig.group.publish_assignments();
  EXPECT_EQ(consumer->ack(taken[2]).error().code(), ErrorCode::conflict);
  EXPECT_EQ(texts_of(take_all(*consumer)), (Texts{"1", "2"}));
  EXPECT_EQ(rig.rebalances, (Texts{"assigned 0", "lost 0", "assigned 0"}));
  EXPECT_EQ(consumer->ack(taken[1]).error().code(), ErrorCode::conflict) << "an old delivery settles no new one";
}

TEST(ConsumerRebalance, AMemberThatWasEndedLosesEverythingAndJoinsAgain) {
  GroupRig rig;
  rig.send_numbers(0, 2);
  rig.group.assign(0);
  auto consumer = rig.consumer();
  const Delivery held = consumer->next(0ms).value();
  rig.group.end_member();
  EXPECT_EQ(consumer->ack(held).error().code(), ErrorCode::conflict);
  EXPECT_EQ(rig.group.joins(), 1u);
  EXPECT_EQ(text_of(consumer->next(1s)), "0");
  EXPECT_EQ(rig.group.joins(), 2u);
  EXPECT_TRUE(rig.group.joined().held_partitions.empty());
  EXPECT_TRUE(rig.group.joined().must_exist);
  EXPECT_EQ(rig.rebalances, (Texts{"assigned 0", "lost 0", "assigned 0"}));
}

TEST(ConsumerRebalance, AGroupThatWasDeletedClosesTheConsumer) {
  GroupRig rig;
  rig.group.assign(0);
  auto consumer = rig.consumer();
  rig.group.delete_group();
  rig.group.end_member();
  EXPECT_EQ(text_of(consumer->next(1s)), "closed");
  EXPECT_EQ(text_of(consumer->next(1s)), "closed");
  EXPECT_EQ(rig.group.joins(), 1u);
}

TEST(ConsumerRebalance, AssignmentsThatCannotBeAreRefused) {
  GroupRig rig({.partitions = 3});
  rig.send_numbers(0, 1, to(0));
  rig.send_numbers(10, 11, to(1));
  rig.group.assign(0);
  rig.group.assign(1).cell = 0;                // named twice
  rig.group.assign(2).cell = kMemberCellsMax;  // outside
  auto consumer = rig.consumer();
  EXPECT_EQ(rig.group.cell(0).generation.load(), 102u);
  EXPECT_EQ(texts_of(take_all(*consumer)), Texts{"10"}) << "the one whose generation is in the cell";
}

TEST(ConsumerRebalance, ATopicThatIsDeniedIsToldOnceAndTheOthersGoOn) {
  GroupRig rig({.partitions = 2});
  rig.group.assign(0);
  rig.group.assign(1);
  auto consumer = rig.consumer();
  rig.bus->set_gate(0, layout::Gate::denied);
  EXPECT_EQ(text_of(consumer->next(0ms)), "permission");
  rig.send_numbers(0, 1, to(1));
  EXPECT_EQ(text_of(consumer->next(0ms)), "0");
  EXPECT_EQ(text_of(consumer->next(0ms)), "timed_out");
}

TEST(ConsumerRebalance, APartitionThatCannotBeOpenedNowIsTriedAgain) {
  GroupRig rig;
  rig.send_numbers(0, 1);
  rig.group.assign(0);
  rig.bus->refuse_reads(1);
  auto consumer = rig.consumer();
  EXPECT_TRUE(consumer->assignments().empty());
  EXPECT_EQ(text_of(consumer->next(10s)), "0");
}

}  // namespace
}  // namespace sluice::test
