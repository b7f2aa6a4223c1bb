// A daemon that is new, or was away: the member comes back and goes on with what it holds.
#include <thread>

#include <gtest/gtest.h>

#include "tests/sdk/group_rig.h"

namespace sluice::test {
namespace {

using layout::OutcomeVerb;
using Texts = std::vector<std::string>;

// A daemon that is new, over memory that was kept.
void restart(GroupRig& rig) {
  rig.bus->hang_up();
  rig.group.forget_member();
  rig.bus->resume();
}

TEST(ConsumerRejoin, WhileTheDaemonIsAwayReadingAndAckingGoOn) {
  GroupRig rig;
  rig.bus->set_memory_kept();
  rig.group.assign(0);
  auto consumer = rig.consumer();
  rig.bus->hang_up();
  const std::vector<Receipt> receipts = rig.send_numbers(0, 2);
  ASSERT_TRUE(consumer->ack(consumer->next(0ms).value()));
  ASSERT_TRUE(consumer->ack(consumer->next(0ms).value()));
  EXPECT_EQ(text_of(consumer->next(5ms)), "timed_out");
  EXPECT_EQ(rig.group.cell(0).acked.load(), receipts[1].end.value);
  EXPECT_EQ(rig.group.joins(), 1u);
}

TEST(ConsumerRejoin, WithoutKeptMemoryADaemonThatStaysAwayIsAnError) {
  GroupRig rig;
  rig.group.assign(0);
  auto consumer = rig.consumer();
  rig.bus->hang_up();
  EXPECT_EQ(text_of(consumer->next(5ms)), "no_daemon");
}

TEST(ConsumerRejoin, TheSameDaemonIsJoinedOnce) {
  GroupRig rig;
  rig.send_numbers(0, 1);
  rig.group.assign(0);
  auto consumer = rig.consumer();
  const Delivery held = consumer->next(0ms).value();
  rig.bus->hang_up();
  rig.bus->resume();
  EXPECT_EQ(text_of(consumer->next(5ms)), "timed_out");
  EXPECT_EQ(rig.group.joins(), 1u);
  EXPECT_EQ(rig.rebalances, Texts{"assigned 0"});
  EXPECT_TRUE(consumer->ack(held));
}

TEST(ConsumerRejoin, ADaemonThatIsNewIsToldWhatIsHeldAndItGoesOn) {
  GroupRig rig;
  const std::vector<Receipt> receipts = rig.send_numbers(0, 3);
  rig.group.assign(0);
  auto consumer = rig.consumer();
  const std::vector<Delivery> taken = take_all(*consumer);
  ASSERT_TRUE(consumer->ack(taken[0]));
  ASSERT_TRUE(consumer->ack(taken[2]));
  restart(rig);
  EXPECT_EQ(text_of(consumer->next(5ms)), "timed_out");
  ASSERT_EQ(rig.group.joins(), 2u);
  const auto& held = rig.group.joined().held_partitions;
  ASSERT_EQ(held.size(), 1u);
  EXPECT_EQ(held[0].topic, LocalBus::kTopicId);
  EXPECT_EQ(held[0].acked, receipts[1].position);
  EXPECT_EQ(held[0].oldest, receipts[1].position);
  EXPECT_EQ(held[0].newest, receipts[2].position);
  const auto outcomes = rig.group.read_outcomes();
  ASSERT_EQ(outcomes.size(), 1u) << "what was acked out of order is told again";
  EXPECT_EQ(outcomes[0].target, receipts[2].position.value);
  const layout::AssignmentCell& cell = rig.group.cell(0);
  EXPECT_EQ(cell.acked.load(), receipts[1].position.value);
  EXPECT_EQ(cell.oldest.load(), receipts[1].position.value);
  EXPECT_EQ(cell.newest.load(), receipts[2].position.value);
  EXPECT_EQ(cell.in_flight.load(), 1u);
  rig.send_numbers(3, 4);
  EXPECT_EQ(text_of(consumer->next(0ms)), "3") << "it goes on where it was";
  ASSERT_TRUE(consumer->ack(taken[1]));
  EXPECT_GE(cell.acked.load(), receipts[2].end.value);
  EXPECT_EQ(rig.rebalances, Texts{"assigned 0"});
}

TEST(ConsumerRejoin, WhatMayNotBeStoredIsToldAgainAndAckedLiesBelowItUntilThen) {
  GroupRig rig;
  const std::vector<Receipt> receipts = rig.send_numbers(0, 2);
  rig.group.assign(0);
  auto consumer = rig.consumer();
  ASSERT_TRUE(consumer->nack(consumer->next(0ms).value(), 7ms, "why"));
  ASSERT_TRUE(consumer->ack(consumer->next(0ms).value()));
  rig.group.read_outcomes();  // read, and lost before it was stored
  restart(rig);
  EXPECT_EQ(text_of(consumer->next(5ms)), "timed_out");
  EXPECT_EQ(rig.group.joined().held_partitions.at(0).acked, receipts[0].position);
  const auto outcomes = rig.group.read_outcomes();
  ASSERT_EQ(outcomes.size(), 1u);
  EXPECT_EQ(outcomes[0].verb, OutcomeVerb::nack);
  EXPECT_EQ(outcomes[0].target, receipts[0].position.value);
  EXPECT_EQ(outcomes[0].argument, 7'000'000u);
  EXPECT_EQ(outcomes[0].reason, "why");
  EXPECT_EQ(rig.group.cell(0).acked.load(), receipts[1].end.value);
}

TEST(ConsumerRejoin, WhatOthersHaveSettledMeanwhileIsPassedOver) {
  GroupRig rig;
  const std::vector<Receipt> receipts = rig.send_numbers(0, 4);
  internal::Assignment& assignment = rig.group.assign(0);
  auto consumer = rig.consumer();
  ASSERT_TRUE(consumer->ack(consumer->next(0ms).value()));
  rig.bus->hang_up();
  rig.group.forget_member();
  assignment.start = receipts[3].position;
  rig.bus->resume();
  EXPECT_EQ(text_of(consumer->next(50ms)), "3");
  EXPECT_EQ(rig.rebalances, Texts{"assigned 0"});
}

TEST(ConsumerRejoin, WhatWasWithdrawnMayNotBeStoredEither) {
  GroupRig rig;
  const std::vector<Receipt> receipts = rig.send_numbers(0, 2);
  rig.group.assign(0);
  auto consumer = rig.consumer();
  const std::vector<Delivery> taken = take_all(*consumer);
  layout::DeliverySlot slot{};
  slot.kind = static_cast<std::uint32_t>(layout::DeliveryKind::withdrawn);
  slot.topic_id = LocalBus::kTopicId.value;
  slot.position = receipts[0].position.value;
  rig.group.refer(slot);
  rig.group.publish();
  ASSERT_TRUE(consumer->ack(taken[1]));
  EXPECT_EQ(consumer->ack(taken[0]).error().code(), ErrorCode::conflict);
  EXPECT_TRUE(rig.group.read_outcomes().empty()) << "the daemon knows";
  EXPECT_EQ(rig.group.cell(0).acked.load(), receipts[1].end.value);
  restart(rig);
  EXPECT_EQ(text_of(consumer->next(5ms)), "timed_out");
  EXPECT_EQ(rig.group.joined().held_partitions.at(0).acked, receipts[0].position);
  const auto outcomes = rig.group.read_outcomes();
  ASSERT_EQ(outcomes.size(), 1u);
  EXPECT_EQ(outcomes[0].verb, OutcomeVerb::nack);
  EXPECT_EQ(outcomes[0].target, receipts[0].position.value);
  EXPECT_EQ(outcomes[0].argument, layout::kDelayByPolicy);
}

TEST(ConsumerRejoin, WhatIsNotAssignedAgainIsLost) {
  GroupRig rig({.partitions = 2});
  MessageOptions to;
  to.partition = 1;
  rig.send_numbers(0, 1, to);
  rig.group.assign(0);
  rig.group.assign(1);
  auto consumer = rig.consumer();
  const Delivery held = consumer->next(0ms).value();
  rig.bus->hang_up();
  rig.group.take_back(1);
  rig.group.forget_member();
  rig.bus->resume();
  EXPECT_EQ(text_of(consumer->next(5ms)), "timed_out");
  EXPECT_EQ(rig.group.joined().held_partitions.size(), 1u) << "the cell said so before";
  EXPECT_EQ(consumer->ack(held).error().code(), ErrorCode::conflict);
  EXPECT_EQ(rig.rebalances.back(), "lost 1");
}

TEST(ConsumerRejoin, TheNewDaemonsListDecides) {
  GroupRig rig;
  rig.send_numbers(0, 1);
  rig.group.assign(0);
  auto consumer = rig.consumer();
  const Delivery held = consumer->next(0ms).value();
  rig.bus->hang_up();
  rig.group.forget_member();
  rig.group.forget_assignments();
  rig.bus->resume();
  EXPECT_EQ(text_of(consumer->next(5ms)), "timed_out");
  EXPECT_EQ(rig.group.joined().held_partitions.size(), 1u);
  EXPECT_EQ(consumer->ack(held).error().code(), ErrorCode::conflict);
  EXPECT_EQ(consumer->in_hand(), 0u);
  EXPECT_EQ(rig.rebalances.back(), "lost 0");
}

// A seek that it has not heard of: what it holds is of a time before.
TEST(ConsumerRejoin, APartitionThatWasSoughtMeanwhileIsReadAnewWhateverIsInHand) {
  GroupRig rig;
  const std::vector<Receipt> receipts = rig.send_numbers(0, 2);
  internal::Assignment& assignment = rig.group.assign(0);
  assignment.seeks = 3;
  auto consumer = rig.consumer();
  const std::vector<Delivery> taken = take_all(*consumer);
  ASSERT_TRUE(consumer->ack(taken[1]));
  rig.bus->hang_up();
  rig.group.forget_member();
  assignment.seeks = 4;
  assignment.start = receipts[0].position;
  rig.bus->resume();
  EXPECT_EQ(text_of(consumer->next(50ms)), "0");
  EXPECT_EQ(text_of(consumer->next(0ms)), "1");
  ASSERT_EQ(rig.group.joined().held_partitions.size(), 1u);
  EXPECT_EQ(rig.group.joined().held_partitions[0].seeks, 3u);
  EXPECT_EQ(rig.rebalances, (Texts{"assigned 0", "lost 0", "assigned 0"}));
  EXPECT_EQ(consumer->ack(taken[0]).error().code(), ErrorCode::conflict);
}

TEST(ConsumerRejoin, AReferenceFromBehindASeekIsHandedOutWhateverWasAnsweredBefore) {
  GroupRig rig;
  rig.group.name_topic(LocalBus::kTopicId, LocalBus::kTopic);
  const std::vector<Receipt> receipts = rig.send_numbers(0, 1);
  auto consumer = rig.consumer();
  rig.group.refer_to(0, receipts[0].position);
  const Delivery held = consumer->next(0ms).value();
  restart(rig);
  EXPECT_EQ(text_of(consumer->next(5ms)), "timed_out");
  ASSERT_TRUE(consumer->ack(held));
  ASSERT_EQ(rig.group.joined().held_messages.size(), 1u);
  EXPECT_EQ(rig.group.joined().held_messages[0].seeks, 0u);
  layout::DeliverySlot slot{};
  slot.position = receipts[0].position.value;
  slot.argument = 1;  // of seeks
  slot.kind = static_cast<std::uint32_t>(layout::DeliveryKind::message);
  slot.topic_id = LocalBus::kTopicId.value;
  rig.group.refer(slot);
  EXPECT_EQ(text_of(consumer->next(0ms)), "0");
  EXPECT_TRUE(rig.group.read_outcomes().empty());
}

TEST(ConsumerRejoin, TheEpochOfAMessageIsAskedForOnceAndAgainBehindAForcedSeek) {
  GroupRig rig;
  rig.group.assign(0);
  auto consumer = rig.consumer();
  const auto epoch_at = [&](std::uint64_t position, PartitionNumber partition = 0) {
    return consumer->epoch({LocalBus::kTopicId, partition, Position(position)}).value();
  };
  rig.group.epoch_starts = {{Position(100), 2}, {Position(200), 5}};
  EXPECT_EQ(epoch_at(150), 0u) << "the region says that nothing was ever forced";
  EXPECT_EQ(rig.group.epoch_calls, 0u);
  rig.group.region().epoch.store(5);
  EXPECT_EQ(epoch_at(99), 0u);
  EXPECT_EQ(epoch_at(100), 2u);
  EXPECT_EQ(epoch_at(199), 2u);
  EXPECT_EQ(epoch_at(200), 5u);
  EXPECT_EQ(rig.group.epoch_calls, 1u);
  EXPECT_EQ(epoch_at(200, 1), 5u);
  EXPECT_EQ(rig.group.epoch_calls, 2u);
  rig.group.epoch_starts = {{Position(50), 6}};
  rig.group.region().epoch.store(6);
  EXPECT_EQ(epoch_at(200), 6u);
  rig.bus->hang_up();
  EXPECT_EQ(epoch_at(60), 6u) << "it is known";
}

TEST(ConsumerRejoin, ReferencesInHandGoOnUnderTheSlotTheyAreHandedOutInAgain) {
  GroupRig rig;
  rig.group.name_topic(LocalBus::kTopicId, LocalBus::kTopic);
  const std::vector<Receipt> receipts = rig.send_numbers(0, 4);
  auto consumer = rig.consumer();
  for (int i = 0; i < 4; ++i) rig.group.refer_to(0, receipts[static_cast<std::size_t>(i)].position, 3, 2);
  const Delivery read = consumer->next(0ms).value();
  const Delivery unread = consumer->next(0ms).value();
  const Delivery held = consumer->next(0ms).value();
  ASSERT_TRUE(consumer->ack(read));
  rig.group.read_outcomes();
  ASSERT_TRUE(consumer->nack(unread, 9ms, "told to nobody"));
  restart(rig);
  ASSERT_TRUE(consumer->ack_sync(1s));
  EXPECT_EQ(text_of(consumer->next(0ms)), "timed_out") << "what only waited is the daemon's again";
  const auto& told = rig.group.joined().held_messages;
  ASSERT_EQ(told.size(), 2u);
  EXPECT_EQ(told[0].position, receipts[1].position);
  EXPECT_EQ(told[1].position, receipts[2].position);
  EXPECT_EQ(told[1].delivered, 3u);
  EXPECT_EQ(told[1].failed, 2u);
  EXPECT_TRUE(told[1].started);
  const std::uint64_t stamp = rig.group.refer_to(0, receipts[2].position, 3, 2);
  const std::uint64_t answered = rig.group.refer_to(0, receipts[1].position, 3, 2);
  rig.group.refer_to(0, receipts[3].position, 3, 2);
  EXPECT_EQ(text_of(consumer->next(0ms)), "3") << "not handed out twice";
  EXPECT_EQ(rig.group.region().started[0].load(), stamp);
  ASSERT_TRUE(consumer->ack(held));
  const auto outcomes = rig.group.read_outcomes();
  ASSERT_EQ(outcomes.size(), 2u);
  EXPECT_EQ(outcomes[0].verb, OutcomeVerb::nack);
  EXPECT_EQ(outcomes[0].target, answered);
  EXPECT_EQ(outcomes[0].reason, "told to nobody");
  EXPECT_EQ(outcomes[1].verb, OutcomeVerb::ack);
  EXPECT_EQ(outcomes[1].target, stamp);
}

TEST(ConsumerRejoin, AReferenceThatIsAnsweredBeforeItIsHandedOutAgainIsAnsweredThen) {
  GroupRig rig;
  rig.group.name_topic(LocalBus::kTopicId, LocalBus::kTopic);
  const std::vector<Receipt> receipts = rig.send_numbers(0, 1);
  auto consumer = rig.consumer();
  rig.group.refer_to(0, receipts[0].position);
  const Delivery held = consumer->next(0ms).value();
  restart(rig);
  EXPECT_EQ(text_of(consumer->next(5ms)), "timed_out");
  ASSERT_TRUE(consumer->ack(held));
  EXPECT_TRUE(rig.group.read_outcomes().empty());
  const std::uint64_t stamp = rig.group.refer_to(0, receipts[0].position);
  EXPECT_EQ(text_of(consumer->next(0ms)), "timed_out");
  const auto outcomes = rig.group.read_outcomes();
  ASSERT_EQ(outcomes.size(), 1u);
  EXPECT_EQ(outcomes[0].target, stamp);
  EXPECT_EQ(outcomes[0].verb, OutcomeVerb::ack);
}

TEST(ConsumerRejoin, ANackOfAReferenceThatWasReadAndMayNotBeStoredIsToldAgain) {
  GroupRig rig;
  rig.group.name_topic(LocalBus::kTopicId, LocalBus::kTopic);
  const std::vector<Receipt> receipts = rig.send_numbers(0, 2);
  auto consumer = rig.consumer();
  for (const Receipt& receipt : receipts) rig.group.refer_to(0, receipt.position, 2, 1);
  ASSERT_TRUE(consumer->nack(consumer->next(0ms).value(), 7ms, "why"));
  ASSERT_TRUE(consumer->reject(consumer->next(0ms).value(), "never"));
  rig.group.read_outcomes();  // read, and lost before they were stored
  restart(rig);
  EXPECT_EQ(text_of(consumer->next(5ms)), "timed_out");
  const auto& told = rig.group.joined().held_messages;
  ASSERT_EQ(told.size(), 2u);
  EXPECT_EQ(told[0].position, receipts[0].position);
  EXPECT_EQ(told[0].delivered, 2u);
  EXPECT_EQ(told[0].failed, 1u);
  const std::uint64_t first = rig.group.refer_to(0, receipts[0].position, 2, 1);
  const std::uint64_t second = rig.group.refer_to(0, receipts[1].position, 2, 1);
  EXPECT_EQ(text_of(consumer->next(0ms)), "timed_out") << "the application has answered already";
  const auto outcomes = rig.group.read_outcomes();
  ASSERT_EQ(outcomes.size(), 2u);
  EXPECT_EQ(outcomes[0].verb, OutcomeVerb::nack);
  EXPECT_EQ(outcomes[0].target, first);
  EXPECT_EQ(outcomes[0].argument, 7'000'000u);
  EXPECT_EQ(outcomes[0].reason, "why");
  EXPECT_EQ(outcomes[1].verb, OutcomeVerb::reject);
  EXPECT_EQ(outcomes[1].target, second);
  restart(rig);
  EXPECT_EQ(text_of(consumer->next(5ms)), "timed_out");
  EXPECT_EQ(rig.group.joined().held_messages.size(), 2u) << "as long as they may not be stored";
}

TEST(ConsumerRejoin, TheNextDeliveryOfWhatTheDaemonKnowsToHaveFailedGoesToTheApplication) {
  GroupRig rig;
  rig.group.name_topic(LocalBus::kTopicId, LocalBus::kTopic);
  const std::vector<Receipt> receipts = rig.send_numbers(0, 1);
  auto consumer = rig.consumer();
  rig.group.refer_to(0, receipts[0].position, 2, 1);
  ASSERT_TRUE(consumer->nack(consumer->next(0ms).value(), 7ms, {}));
  rig.group.read_outcomes();
  restart(rig);
  EXPECT_EQ(text_of(consumer->next(5ms)), "timed_out");
  rig.group.refer_to(0, receipts[0].position, 3, 2);
  auto again = consumer->next(0ms);
  ASSERT_EQ(text_of(again), "0");
  EXPECT_EQ(again->failed(), 2u);
  EXPECT_TRUE(rig.group.read_outcomes().empty());
  EXPECT_TRUE(consumer->ack(*again));
}

TEST(ConsumerRejoin, OfTwoNacksOfOneMessageTheOneThatTheDaemonDoesNotKnowIsTold) {
  GroupRig rig;
  rig.group.name_topic(LocalBus::kTopicId, LocalBus::kTopic);
  const std::vector<Receipt> receipts = rig.send_numbers(0, 1);
  auto consumer = rig.consumer();
  for (std::uint32_t failed = 0; failed < 2; ++failed) {
    rig.group.refer_to(0, receipts[0].position, failed + 1, failed);
    ASSERT_TRUE(consumer->nack(consumer->next(0ms).value(), 7ms, {}));
  }
  rig.group.read_outcomes();
  restart(rig);
  EXPECT_EQ(text_of(consumer->next(5ms)), "timed_out");
  rig.group.refer_to(0, receipts[0].position, 2, 1);
  EXPECT_EQ(text_of(consumer->next(0ms)), "timed_out");
  EXPECT_EQ(rig.group.read_outcomes().size(), 1u);
}

TEST(ConsumerRejoin, InReplacedMemoryItGoesOnWithWhatIsInHand) {
  GroupRig rig;
  rig.group.assign(0);
  auto consumer = rig.consumer();
  const std::vector<Receipt> receipts = rig.send_numbers(0, 2);
  rig.bus->retire(0);
  const Delivery held = consumer->next(0ms).value();
  rig.group.forget_member();
  rig.bus->replace();
  rig.sender = rig.producer();
  rig.send_numbers(2, 3);
  EXPECT_EQ(text_of(consumer->next(1s)), "1") << "from the file";
  EXPECT_EQ(text_of(consumer->next(1s)), "2") << "from the new memory";
  EXPECT_EQ(rig.group.joins(), 2u);
  EXPECT_EQ(held.message().text(), "0");
  EXPECT_TRUE(consumer->ack(held));
  EXPECT_EQ(rig.group.cell(0).acked.load(), receipts[1].position.value);
  EXPECT_EQ(rig.rebalances, Texts{"assigned 0"});
}

TEST(ConsumerRejoin, AJoinThatGetsNoAnswerIsTriedAgain) {
  GroupRig rig;
  rig.bus->set_memory_kept();
  rig.group.assign(0);
  auto consumer = rig.consumer();
  rig.group.refuse_joins(1);
  restart(rig);
  EXPECT_EQ(text_of(consumer->next(0ms)), "timed_out");
  EXPECT_EQ(rig.group.joins(), 1u);
  std::thread late([&] {
    while (rig.group.joins() < 2) std::this_thread::sleep_for(1ms);
  });
  EXPECT_EQ(text_of(consumer->next(500ms)), "timed_out");
  late.join();
}

TEST(ConsumerRejoin, ADaemonThatComesBetweenAJoinAndItsListIsJoinedToo) {
  GroupRig rig;
  rig.send_numbers(0, 2);
  rig.group.assign(0);
  rig.group.forget_joined(2);
  auto consumer = rig.consumer();
  EXPECT_EQ(rig.group.joins(), 3u);
  EXPECT_EQ(text_of(consumer->next(0ms)), "0");
  rig.group.forget_joined(2);  // one is asked whether it knows the member
  restart(rig);
  EXPECT_EQ(text_of(consumer->next(5s)), "1") << "the group is not taken for deleted";
  EXPECT_EQ(text_of(consumer->next(500ms)), "timed_out");
  EXPECT_EQ(rig.group.joins(), 5u);
}

TEST(ConsumerRejoin, ASleeperIsWokenByTheDaemonThatIsBack) {
  GroupRig rig;
  rig.group.assign(0);
  ConsumerOptions options;
  options.wait = WaitStrategy::sleep;
  auto consumer = rig.consumer(options);
  std::thread daemon([&] {
    std::this_thread::sleep_for(20ms);
    restart(rig);
    while (rig.group.joins() < 2) std::this_thread::sleep_for(1ms);
    rig.send_numbers(0, 1);
  });
  EXPECT_EQ(text_of(consumer->next(30s)), "0");
  daemon.join();
}

TEST(ConsumerRejoin, AckSyncJoinsADaemonThatIsNewFirst) {
  GroupRig rig;
  rig.send_numbers(0, 1);
  rig.group.assign(0);
  auto consumer = rig.consumer();
  ASSERT_TRUE(consumer->ack(consumer->next(0ms).value()));
  restart(rig);
  EXPECT_TRUE(consumer->ack_sync(1s));
  EXPECT_EQ(rig.group.joins(), 2u);
  EXPECT_EQ(rig.group.saves(), 1u);
}

}  // namespace
}  // namespace sluice::test
