// Messages that the daemon hands out by reference: shared groups, and every further delivery.
#include <thread>

#include <gtest/gtest.h>

#include "tests/sdk/allocation_counter.h"
#include "tests/sdk/group_rig.h"

namespace sluice::test {
namespace {

using layout::OutcomeVerb;
using Texts = std::vector<std::string>;

struct SharedRig : GroupRig {
  explicit SharedRig(BusShape shape = {}) : GroupRig(shape) {
    group.config.mode = GroupMode::shared;
    for (PartitionNumber i = 0; i < shape.partitions; ++i) group.name_topic(LocalBus::kTopicId, LocalBus::kTopic, i);
  }
};

TEST(ConsumerReference, OneThatTheDaemonHasTakenBackIsNotHandedOutAndItsSlotIsFree) {
  SharedRig rig;
  const std::vector<Receipt> receipts = rig.send_numbers(0, 3);
  auto consumer = rig.consumer();
  std::uint64_t not_begun = rig.group.refer_to(0, receipts[0].position, 1, 0) | layout::kOffered;
  rig.group.refer_to(0, receipts[1].position, 1, 0);
  ASSERT_TRUE(rig.group.region().started[0].compare_exchange_strong(not_begun, layout::kRecalled));
  EXPECT_EQ(consumer->next(0ms).value().message().text(), "1") << "the first one is another's";
  EXPECT_EQ(text_of(consumer->next(0ms)), "timed_out");
  EXPECT_TRUE(rig.group.read_outcomes().empty());
}

// The daemon takes one back, and uses its slot again, while the member has not begun, or not even read of it.
TEST(ConsumerReference, OneWhoseSlotIsUsedAgainIsNotHandedOutAndTheNextOneInItIsOnce) {
  SharedRig rig;
  const std::vector<Receipt> receipts = rig.send_numbers(0, 4);
  auto consumer = rig.consumer();
  layout::MemberRegion& region = rig.group.region();
  const auto use_again = [&](std::uint32_t slot, Position position, std::uint64_t stamp) {
    region.slots[slot].stamp = stamp;
    region.slots[slot].position = position.value;
    region.started[slot].store(stamp | layout::kOffered);
  };
  const auto publish = [&](std::uint32_t slot) {
    region.ring[region.delivered.load() % kDeliverySlotsMax] = slot;
    region.delivered.fetch_add(1);
    rig.group.publish();
  };
  // Read of, and not begun: the second entry is not there yet when the application asks.
  rig.group.refer_to(0, receipts[0].position, 1, 0);
  rig.group.refer_to(0, receipts[1].position, 1, 0);
  const Delivery first = consumer->next(0ms).value();
  use_again(1, receipts[2].position, 77);
  EXPECT_EQ(text_of(consumer->next(0ms)), "timed_out") << "it is another's";
  publish(1);
  const auto second = consumer->next(0ms);
  ASSERT_EQ(text_of(second), "2");
  EXPECT_EQ(region.started[1].load(), 77u);
  // Not even read of.
  rig.group.refer_to(0, receipts[1].position, 1, 0);
  use_again(2, receipts[3].position, 78);
  publish(2);
  const auto third = consumer->next(0ms);
  ASSERT_EQ(text_of(third), "3");
  EXPECT_EQ(text_of(consumer->next(0ms)), "timed_out") << "once";
  // While the daemon writes it.
  rig.group.refer_to(0, receipts[1].position, 1, 0);
  region.started[3].store(0);
  EXPECT_EQ(text_of(consumer->next(0ms)), "timed_out");
  EXPECT_EQ(consumer->counters().corrupt, 0u);
  for (const Delivery& delivery : {first, *second, *third}) EXPECT_TRUE(consumer->ack(delivery));
  EXPECT_EQ(rig.group.read_outcomes().size(), 3u);
}

TEST(ConsumerReference, IsReadInPlaceAndAnsweredByItsSlotAndStamp) {
  SharedRig rig;
  const std::vector<Receipt> receipts = rig.send_numbers(0, 3);
  auto consumer = rig.consumer();
  EXPECT_EQ(text_of(consumer->next(0ms)), "timed_out") << "nothing is read directly";
  const std::uint64_t second = rig.group.refer_to(0, receipts[2].position, 1, 0);
  const std::uint64_t first = rig.group.refer_to(0, receipts[0].position, 3, 2);
  const Delivery two = consumer->next(0ms).value();
  EXPECT_EQ(two.message().text(), "2");
  EXPECT_EQ(two.delivered(), 1u);
  EXPECT_EQ(rig.group.region().started[0].load(), second);
  EXPECT_EQ(rig.group.region().started[1].load(), first | layout::kOffered) << "the application has not begun with it";
  const Delivery zero = consumer->next(0ms).value();
  EXPECT_EQ(zero.message().text(), "0");
  EXPECT_EQ(zero.delivered(), 3u);
  EXPECT_EQ(zero.failed(), 2u);
  EXPECT_EQ(rig.group.region().taken.load(), 2u);
  ASSERT_TRUE(consumer->nack(zero, 1ms, "later"));
  ASSERT_TRUE(consumer->ack(two));
  const auto outcomes = rig.group.read_outcomes();
  ASSERT_EQ(outcomes.size(), 2u);
  EXPECT_EQ(outcomes[0].verb, OutcomeVerb::nack);
  EXPECT_EQ(outcomes[0].target, first);
  EXPECT_EQ(outcomes[0].place, 1 | layout::kPlaceIsSlot);
  EXPECT_EQ(outcomes[0].argument, 1'000'000u);
  EXPECT_EQ(outcomes[0].reason, "later");
  EXPECT_EQ(outcomes[1].verb, OutcomeVerb::ack);
  EXPECT_EQ(outcomes[1].target, second);
  EXPECT_EQ(outcomes[1].place, 0 | layout::kPlaceIsSlot);
  EXPECT_EQ(consumer->ack(two).error().code(), ErrorCode::conflict);
  EXPECT_EQ(consumer->counters().repeated, 1u);
  EXPECT_EQ(consumer->counters().gaps + consumer->counters().repeats, 0u) << "references go back and forth";
}

TEST(ConsumerReference, IsFoundInLogFilesToo) {
  SharedRig rig;
  const std::vector<Receipt> receipts = rig.send_numbers(0, 5);
  rig.bus->retire(0);
  const std::vector<Receipt> later = rig.send_numbers(5, 7);
  auto consumer = rig.consumer();
  for (const int i : {3, 1, 4}) rig.group.refer_to(0, receipts[static_cast<std::size_t>(i)].position);
  rig.group.refer_to(0, later[1].position);
  rig.group.refer_to(0, receipts[0].position);
  EXPECT_EQ(texts_of(take_all(*consumer)), (Texts{"3", "1", "4", "6", "0"}));
}

TEST(ConsumerReference, OneWhoseRecordIsGoneIsRejectedWithItsReason) {
  SharedRig rig;
  const std::vector<Receipt> receipts = rig.send_numbers(0, 3);
  rig.bus->retire(0);
  rig.bus->set_trimmed(0,
                       rig.bus->control(0).durable.load() == 0 ? Position(0) : Position(rig.bus->control(0).durable));
  const std::vector<Receipt> later = rig.send_numbers(3, 4);
  auto consumer = rig.consumer();
  const std::uint64_t gone = rig.group.refer_to(0, receipts[1].position);
  rig.group.refer_to(0, later[0].position);
  rig.group.refer_to(0, later[0].position + 8);
  EXPECT_EQ(texts_of(take_all(*consumer)), Texts{"3"});
  const auto outcomes = rig.group.read_outcomes();
  ASSERT_EQ(outcomes.size(), 2u);
  EXPECT_EQ(outcomes[0].verb, OutcomeVerb::reject);
  EXPECT_EQ(outcomes[0].target, gone);
  EXPECT_FALSE(outcomes[0].reason.empty());
  EXPECT_EQ(outcomes[1].verb, OutcomeVerb::reject) << "no record can start there";
  EXPECT_EQ(consumer->counters().expired_bytes, 0u);
}

// Between its hand-out by the daemon, or a delivery that failed, and this one.
TEST(ConsumerReference, OneThatHasExpiredMeanwhileIsCountedAndAckedUnseen) {
  SharedRig rig;
  MessageOptions options;
  options.expire_after = 1ns;
  const Receipt own = rig.send_numbers(0, 1, options).front();
  const Receipt next_to_it = rig.send_numbers(1, 2, options).front();
  const Receipt fresh = rig.send_numbers(2, 3).front();
  std::this_thread::sleep_for(20ms);
  auto consumer = rig.consumer();
  const std::uint64_t first = rig.group.refer_to(0, own.position);
  const std::uint64_t second = rig.group.refer_to(0, next_to_it.position);
  rig.group.refer_to(0, fresh.position);
  EXPECT_EQ(texts_of(take_all(*consumer)), Texts{"2"});
  auto outcomes = rig.group.read_outcomes();
  ASSERT_EQ(outcomes.size(), 2u);
  EXPECT_EQ(outcomes[0].verb, OutcomeVerb::ack);
  EXPECT_EQ(outcomes[0].target, first);
  EXPECT_EQ(outcomes[1].verb, OutcomeVerb::ack);
  EXPECT_EQ(outcomes[1].target, second);
  EXPECT_EQ(consumer->counters().expired_messages, 2u);
  // By the topic's time to live as by its own.
  rig.bus->control(0).message_ttl_ns = 1;
  std::this_thread::sleep_for(20ms);
  rig.group.refer_to(0, fresh.position);
  EXPECT_EQ(text_of(consumer->next(20ms)), "timed_out");
  outcomes = rig.group.read_outcomes();
  ASSERT_EQ(outcomes.size(), 1u);
  EXPECT_EQ(outcomes[0].verb, OutcomeVerb::ack);
  EXPECT_EQ(consumer->counters().expired_messages, 3u);
}

TEST(ConsumerReference, OfATopicThatTheListNamesLaterWaitsForTheList) {
  GroupRig rig;
  const std::vector<Receipt> receipts = rig.send_numbers(0, 1);
  auto consumer = rig.consumer();
  rig.group.name_topic(LocalBus::kTopicId, LocalBus::kTopic);
  rig.group.refer_to(0, receipts[0].position);
  EXPECT_EQ(text_of(consumer->next(1s)), "0");
  layout::DeliverySlot unknown{};
  unknown.kind = static_cast<std::uint32_t>(layout::DeliveryKind::message);
  unknown.topic_id = 99;
  rig.group.refer(unknown);
  EXPECT_EQ(text_of(consumer->next(20ms)), "timed_out");
  const auto outcomes = rig.group.read_outcomes();
  ASSERT_EQ(outcomes.size(), 1u);
  EXPECT_EQ(outcomes[0].verb, OutcomeVerb::nack) << "it comes again, when the member may know more";
}

TEST(ConsumerReference, ASuspectIsAloneInHand) {
  SharedRig rig;
  const std::vector<Receipt> receipts = rig.send_numbers(0, 3);
  auto consumer = rig.consumer();
  rig.group.refer_to(0, receipts[0].position);
  layout::DeliverySlot suspect{};
  suspect.kind = static_cast<std::uint32_t>(layout::DeliveryKind::message);
  suspect.topic_id = LocalBus::kTopicId.value;
  suspect.position = receipts[1].position.value;
  suspect.alone = 1;
  rig.group.refer(suspect);
  rig.group.refer_to(0, receipts[2].position);
  const Delivery before = consumer->next(0ms).value();
  EXPECT_EQ(text_of(consumer->next(0ms)), "timed_out") << "it waits until nothing is in hand";
  ASSERT_TRUE(consumer->ack(before));
  const Delivery alone = consumer->next(0ms).value();
  EXPECT_EQ(alone.message().text(), "1");
  EXPECT_EQ(text_of(consumer->next(0ms)), "timed_out") << "nothing is handed out beside it";
  ASSERT_TRUE(consumer->ack(alone));
  EXPECT_EQ(text_of(consumer->next(0ms)), "2");
}

TEST(ConsumerReference, WhatIsWithdrawnAnswersConflictAndItsSlotComesBack) {
  SharedRig rig;
  const std::vector<Receipt> receipts = rig.send_numbers(0, 3);
  ConsumerOptions options;
  options.in_flight_max = 1;
  auto consumer = rig.consumer(options);
  const std::uint64_t first = rig.group.refer_to(0, receipts[0].position);
  const std::uint64_t second = rig.group.refer_to(0, receipts[1].position);
  rig.group.refer_to(0, receipts[2].position);
  const Delivery late = consumer->next(0ms).value();
  rig.group.withdraw(first);
  rig.group.withdraw(second);
  EXPECT_EQ(consumer->ack(late).error().code(), ErrorCode::conflict);
  EXPECT_EQ(consumer->counters().stale, 1u);
  EXPECT_EQ(text_of(consumer->next(0ms)), "2") << "it fills no place, and what still waited is not handed out";
  const auto outcomes = rig.group.read_outcomes();
  ASSERT_EQ(outcomes.size(), 2u);
  for (const Outcome& one : outcomes) EXPECT_EQ(one.verb, OutcomeVerb::nack);
}

TEST(ConsumerReference, ASlotThatComesAgainBeforeItsAnswerIsRefused) {
  SharedRig rig;
  const std::vector<Receipt> receipts = rig.send_numbers(0, 2);
  auto consumer = rig.consumer();
  rig.group.refer_to(0, receipts[0].position);
  const Delivery held = consumer->next(0ms).value();
  layout::MemberRegion& region = rig.group.region();
  region.slots[0].stamp = 77;
  region.slots[0].position = receipts[1].position.value;
  region.started[0].store(77 | layout::kOffered);
  region.ring[1] = 0;
  region.delivered.store(2);
  rig.group.publish();
  EXPECT_EQ(text_of(consumer->next(0ms)), "timed_out");
  EXPECT_EQ(consumer->counters().corrupt, 1u);
  EXPECT_TRUE(consumer->ack(held));
}

TEST(ConsumerReference, HostileIndexesKindsAndCountsAreRefused) {
  SharedRig rig;
  const std::vector<Receipt> receipts = rig.send_numbers(0, 1);
  auto consumer = rig.consumer();
  layout::MemberRegion& region = rig.group.region();
  region.ring[0] = kDeliverySlotsMax;
  region.ring[1] = 0xffff'ffff;
  region.ring[2] = 5;
  region.slots[5].kind = 99;
  region.started[5].store(layout::kOffered);
  region.delivered.store(3);
  rig.group.publish();
  EXPECT_EQ(text_of(consumer->next(0ms)), "timed_out");
  EXPECT_EQ(consumer->counters().corrupt, 3u);
  region.outcomes_read.store(~std::uint64_t{0});
  rig.group.withdraw(12345);  // no such delivery
  EXPECT_EQ(text_of(consumer->next(0ms)), "timed_out");
  region.delivered.store(1'000'000);
  rig.group.publish();
  EXPECT_EQ(text_of(consumer->next(0ms)), "timed_out");
  EXPECT_EQ(text_of(consumer->next(0ms)), "timed_out");
  EXPECT_EQ(rig.group.joins(), 2u) << "a ring that cannot be is left for a new one";
  rig.group.refer_to(0, receipts[0].position);
  EXPECT_EQ(text_of(consumer->next(0ms)), "0");
}

TEST(ConsumerReference, ARetryGoesBeforeWhatIsReadDirectlyAndEndsTheFirstDelivery) {
  GroupRig rig;
  const std::vector<Receipt> receipts = rig.send_numbers(0, 3);
  rig.group.assign(0);
  auto consumer = rig.consumer();
  const Delivery timed_out = consumer->next(0ms).value();
  rig.group.refer_to(0, receipts[0].position, 2, 1);
  const Delivery again = consumer->next(0ms).value();
  EXPECT_EQ(again.message().text(), "0");
  EXPECT_EQ(again.failed(), 1u);
  EXPECT_EQ(consumer->ack(timed_out).error().code(), ErrorCode::conflict);
  EXPECT_EQ(consumer->in_hand(), 1u);
  EXPECT_EQ(rig.group.cell(0).in_flight.load(), 0u);
  EXPECT_TRUE(consumer->ack(again));
  EXPECT_EQ(texts_of(take_all(*consumer)), (Texts{"1", "2"}));
}

TEST(ConsumerReference, AMessageThatWasReadDirectlyIsWithdrawnByItsPosition) {
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
  EXPECT_EQ(consumer->ack(taken[0]).error().code(), ErrorCode::conflict);
  EXPECT_TRUE(consumer->ack(taken[1]));
  EXPECT_TRUE(rig.group.read_outcomes().empty());
  EXPECT_EQ(rig.group.cell(0).acked.load(), receipts[1].end.value);
}

TEST(ConsumerReference, AckUpToCountsReferencesInTheOrderOfTheHandOut) {
  GroupRig rig;
  const std::vector<Receipt> receipts = rig.send_numbers(0, 4);
  rig.group.assign(0, receipts[2].position);
  auto consumer = rig.consumer();
  rig.group.refer_to(0, receipts[0].position);
  const Delivery early = consumer->next(0ms).value();
  const Delivery two = consumer->next(0ms).value();
  rig.group.refer_to(0, receipts[1].position);
  const Delivery late = consumer->next(0ms).value();
  const Delivery three = consumer->next(0ms).value();
  EXPECT_EQ(late.message().text(), "1");
  ASSERT_TRUE(consumer->ack_up_to(two));
  EXPECT_EQ(consumer->in_hand(), 2u);
  EXPECT_EQ(consumer->ack(early).error().code(), ErrorCode::conflict);
  ASSERT_TRUE(consumer->ack_up_to(late));
  EXPECT_EQ(consumer->in_hand(), 1u) << "not the one behind it";
  EXPECT_TRUE(consumer->ack(three));
}

TEST(ConsumerReference, SlotsAreUsedAgainAndTheSteadyStateAllocatesNothing) {
  SharedRig rig;
  const std::vector<Receipt> receipts = rig.send_numbers(0, 100);
  auto consumer = rig.consumer();
  const auto round = [&] {
    for (const Receipt& one : receipts) rig.group.refer_to(0, one.position, 1, 0);
    for (std::size_t i = 0; i < receipts.size(); ++i) {
      ASSERT_TRUE(consumer->ack(*consumer->next(0ms)));
    }
    rig.group.region().outcomes_read.store(rig.group.region().outcomes_written.load());
  };
  for (int i = 0; i < 50; ++i) round();
  const std::uint64_t before = allocations();
  for (int i = 0; i < 50; ++i) round();
  EXPECT_EQ(allocations(), before);
  EXPECT_EQ(consumer->counters().acked, 10'000u);
}

TEST(ConsumerReference, ASleeperIsWokenByOne) {
  SharedRig rig;
  const std::vector<Receipt> receipts = rig.send_numbers(0, 1);
  ConsumerOptions options;
  options.wait = WaitStrategy::sleep;
  auto consumer = rig.consumer(options);
  std::thread daemon([&] {
    while (rig.group.region().asleep.load() == 0) std::this_thread::yield();
    rig.group.refer_to(0, receipts[0].position);
  });
  EXPECT_EQ(text_of(consumer->next(30s)), "0");
  daemon.join();
  EXPECT_GE(consumer->counters().sleeps, 1u);
  EXPECT_EQ(rig.group.region().asleep.load(), 0u);
}

}  // namespace
}  // namespace sluice::test
