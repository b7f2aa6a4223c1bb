// What becomes of messages that fail, on a simulated clock.
#include "tests/daemon/core/delivery_rig.h"

namespace sluice::core {
namespace {

TEST(Retry, ComesExactlyWhenTheListSaysAndIsParkedAfterMaxAttempts) {
  DeliveryRig rig(group(GroupMode::shared));
  rig.join();
  rig.offer(1);
  EXPECT_EQ(rig.delivered.at(0).delivered, 1u);
  EXPECT_EQ(rig.delivered.at(0).failed, 0u);
  rig.by_slot(rig.take_delivered().at(0), Verb::nack, kByPolicy, "first");
  rig.pass(10 * kMs - 1);
  EXPECT_TRUE(rig.delivered.empty());
  rig.pass(1);
  ASSERT_EQ(rig.delivered.size(), 1u);
  EXPECT_EQ(rig.delivered[0].delivered, 2u);
  EXPECT_EQ(rig.delivered[0].failed, 1u);
  rig.by_slot(rig.take_delivered().at(0), Verb::nack);
  rig.pass(20 * kMs - 1);
  EXPECT_TRUE(rig.delivered.empty());
  rig.pass(1);
  rig.by_slot(rig.take_delivered().at(0), Verb::nack, kByPolicy, "last");
  ASSERT_EQ(rig.parked.size(), 1u);
  EXPECT_EQ(rig.pending(Position(100)).delivered, 3u);
  EXPECT_EQ(rig.pending(Position(100)).failed, 3u);
  EXPECT_EQ(rig.pending(Position(100)).reason, "last");
  rig.machine.parked(place(0), Position(100));
  rig.machine.parked(place(0), Position(100));
  rig.pass(100'000 * kMs);
  EXPECT_EQ(rig.parked.size(), 1u);
  EXPECT_TRUE(rig.delivered.empty());
  EXPECT_EQ(rig.machine.deadline_ns(), 0u);
}

TEST(Retry, ExponentialOnesStayWithinTheirBounds) {
  GroupConfig config = group(GroupMode::shared);
  config.max_attempts = 6;
  config.backoff.steps_ns.clear();
  config.backoff.first_ns = 100 * kMs;
  config.backoff.max_ns = 400 * kMs;
  DeliveryRig rig(config);
  rig.join();
  rig.offer(50);
  for (const std::uint64_t most : {100, 200, 400, 400}) {
    const std::vector<Deliver> failed = rig.take_delivered();
    ASSERT_EQ(failed.size(), 50u);
    for (const Deliver& delivery : failed) rig.by_slot(delivery, Verb::nack);
    rig.pass(most * kMs / 2 - 1);
    EXPECT_TRUE(rig.delivered.empty());
    rig.pass(most * kMs / 4 + 1);
    EXPECT_FALSE(rig.delivered.empty());  // spread
    EXPECT_LT(rig.delivered.size(), 50u);
    rig.pass(most * kMs / 4);
  }
}

TEST(Retry, ANacksOwnDelayIsExact) {
  DeliveryRig rig(group(GroupMode::shared));
  rig.join();
  rig.offer(2);
  const std::vector<Deliver> first = rig.take_delivered();
  rig.by_slot(first.at(0), Verb::nack, 777 * kMs);
  rig.by_slot(first.at(1), Verb::nack, 0);
  ASSERT_EQ(rig.delivered.size(), 1u);
  EXPECT_EQ(rig.delivered[0].position, first[1].position);
  rig.by_slot(rig.take_delivered().at(0), Verb::ack);
  rig.pass(777 * kMs - 1);
  EXPECT_TRUE(rig.delivered.empty());
  rig.pass(1);
  EXPECT_EQ(rig.delivered.size(), 1u);
}

TEST(Retry, ARejectParksAtOnceAndOnce) {
  DeliveryRig rig(group(GroupMode::shared));
  rig.join();
  rig.offer(1);
  const Deliver delivery = rig.take_delivered().at(0);
  rig.by_slot(delivery, Verb::reject, 0, "bad");
  rig.by_slot(delivery, Verb::reject, 0, "bad");
  EXPECT_EQ(rig.parked.size(), 1u);
  EXPECT_EQ(rig.pending(Position(100)).reason, "bad");
  EXPECT_EQ(rig.cursor(), Position(110));
}

TEST(Retry, OneThatWaitsTakesNoRoom) {
  DeliveryRig rig(group(GroupMode::shared));
  rig.join(1);
  rig.offer(1);
  EXPECT_EQ(rig.machine.wanted(place(0)), 0u);
  rig.by_slot(rig.take_delivered().at(0), Verb::nack);
  EXPECT_EQ(rig.machine.wanted(place(0)), 1u);
  rig.offer(1);
  // Due, and nobody has room: it waits for it without a deadline of its own.
  rig.pass(10 * kMs);
  ASSERT_EQ(rig.delivered.size(), 1u);
  EXPECT_GT(rig.machine.deadline_ns(), rig.now_ns);
  rig.by_slot(rig.take_delivered().at(0), Verb::ack);
  ASSERT_EQ(rig.delivered.size(), 1u);
  EXPECT_EQ(rig.delivered[0].position, Position(100));
}

TEST(Retry, NoOneGetsMoreThanItsLimit) {
  DeliveryRig rig(group(GroupMode::shared));
  rig.join(3);
  rig.join(2);
  EXPECT_EQ(rig.machine.wanted(place(0)), 5u);
  rig.offer(50);
  EXPECT_EQ(rig.delivered.size(), 5u);
  EXPECT_EQ(rig.machine.next(place(0)), Position(150));  // the rest another time
  EXPECT_EQ(rig.machine.slots_out(1).size(), 3u);
  EXPECT_EQ(rig.machine.slots_out(2).size(), 2u);
}

TEST(AckTimeout, AMessageWithoutOutcomeFailsAndALateOutcomeIsRefused) {
  DeliveryRig rig(group(GroupMode::shared));
  rig.join();
  rig.offer(1);
  const Deliver first = rig.take_delivered().at(0);
  rig.pass(1'000 * kMs - 1);
  EXPECT_TRUE(rig.withdrawn.empty());
  rig.pass(1);
  ASSERT_EQ(rig.withdrawn.size(), 1u);
  EXPECT_EQ(rig.withdrawn[0].stamp, first.stamp);
  rig.by_slot(first, Verb::ack);
  EXPECT_EQ(rig.pending(Position(100)).failed, 1u);
  rig.pass(10 * kMs);
  ASSERT_EQ(rig.delivered.size(), 1u);
  rig.by_slot(first, Verb::ack);  // of the slot that it has again, under another stamp
  EXPECT_TRUE(rig.is_pending(Position(100)));
  rig.by_slot(rig.take_delivered().at(0), Verb::ack);
  EXPECT_FALSE(rig.is_pending(Position(100)));
}

TEST(AckTimeout, ExtendMovesItLaterAndSooner) {
  DeliveryRig rig(group(GroupMode::shared));
  rig.join();
  rig.offer(3);
  const std::vector<Deliver> out = rig.take_delivered();
  rig.by_slot(out.at(0), Verb::extend, 5'000 * kMs);
  rig.by_slot(out.at(1), Verb::extend, 10 * kMs);
  rig.by_slot(out.at(1), Verb::extend, 20 * kMs);
  rig.pass(20 * kMs - 1);
  EXPECT_TRUE(rig.withdrawn.empty());
  rig.pass(1);
  ASSERT_EQ(rig.withdrawn.size(), 1u);
  EXPECT_EQ(rig.withdrawn[0].position, out[1].position);
  rig.pass(980 * kMs);
  ASSERT_EQ(rig.withdrawn.size(), 3u - 1u);
  EXPECT_EQ(rig.withdrawn[1].position, out[2].position);
  rig.machine.alive(1, 1, rig.now_ns);
  EXPECT_EQ(rig.machine.stamp_of(1, out[0].slot), out[0].stamp);
}

TEST(AckTimeout, CountsForWhatIsReadDirectlyAndGoesOnceForEach) {
  DeliveryRig rig(group(GroupMode::ordered));
  rig.join();
  rig.say(0, Position(100), Position(100), Position(120), 3);
  rig.pass(1'000 * kMs - 1);
  EXPECT_TRUE(rig.withdrawn.empty());
  rig.pass(1);
  ASSERT_EQ(rig.withdrawn.size(), 1u);
  EXPECT_EQ(rig.withdrawn[0].stamp, 0u);
  EXPECT_EQ(rig.withdrawn[0].position, Position(100));
  rig.by_cell(0, Verb::ack, Position(100), 110);  // late
  EXPECT_TRUE(rig.is_pending(Position(100)));
  // Its retry is settled while its reader still has it in its list: it does not time out again.
  rig.pass(10 * kMs);
  rig.by_slot(rig.take_delivered().at(0), Verb::ack);
  rig.pass(50'000 * kMs);
  EXPECT_EQ(rig.withdrawn.size(), 1u);
  EXPECT_FALSE(rig.is_pending(Position(100)));
}

TEST(AckTimeout, ExtendMovesThatOfADirectMessageToo) {
  DeliveryRig rig(group(GroupMode::ordered));
  rig.join();
  rig.say(0, Position(100), Position(100), Position(100));
  rig.by_cell(0, Verb::extend, Position(100), 10 * kMs);
  rig.by_cell(0, Verb::extend, Position(100), 3'000 * kMs);
  rig.pass(3'000 * kMs - 1);
  EXPECT_TRUE(rig.withdrawn.empty());
  rig.by_cell(0, Verb::extend, Position(100), 50 * kMs);
  rig.pass(50 * kMs);
  EXPECT_EQ(rig.withdrawn.size(), 1u);
}

TEST(AckTimeout, AShorterOneOfTheConfigurationCountsForWhatIsHandedOutFromThenOn) {
  DeliveryRig rig(group(GroupMode::shared));
  rig.join();
  rig.offer(1);
  GroupConfig shorter = group(GroupMode::shared);
  shorter.ack_timeout_ns = 100 * kMs;
  rig.machine.set_config(shorter);
  rig.offer(1);
  rig.pass(100 * kMs);
  ASSERT_EQ(rig.withdrawn.size(), 1u);
  EXPECT_EQ(rig.withdrawn[0].position, Position(110));
}

TEST(Bounds, OneThatIsInHandForLongKeepsNoOthersInMemory) {
  GroupConfig config = group(GroupMode::shared);
  config.ack_timeout_ns = 1'000'000 * kMs;
  DeliveryRig rig(config);
  rig.join(1'000);
  rig.offer(1);
  const Deliver slow = rig.take_delivered().at(0);
  for (std::uint32_t sent = 0; sent < kFlightsMax; sent += 500) {
    EXPECT_FALSE(rig.is_pending(slow.position));
    rig.offer(500);
    for (const Deliver& delivery : rig.take_delivered()) rig.by_slot(delivery, Verb::ack);
  }
  rig.offer(500);
  ASSERT_TRUE(rig.is_pending(slow.position));
  EXPECT_EQ(rig.pending(slow.position).state, PendingState::out);
  EXPECT_GT(rig.cursor(), slow.position);
  rig.by_slot(slow, Verb::ack);
  EXPECT_FALSE(rig.is_pending(slow.position));
}

TEST(Bounds, AnOrderedPartitionInWhichTooManyWaitIsReadNoFurther) {
  DeliveryRig rig(group(GroupMode::ordered));
  const MemberId member = rig.join(4'000);
  const std::uint64_t generation = rig.machine.assignment(place(0))->generation;
  const auto nack = [&](std::uint64_t number) {
    Outcome outcome;
    outcome.verb = Verb::nack;
    outcome.target = 100 + 10 * number;
    outcome.argument = number < kPendingMax / 2 + 10 ? 1'000 * kMs : 500'000 * kMs;
    outcome.generation = static_cast<std::uint32_t>(generation);
    rig.machine.outcome(member, outcome, rig.now_ns);
  };
  for (std::uint64_t i = 0; i + 1 < kPendingMax; ++i) nack(i);
  rig.act();
  EXPECT_TRUE(rig.wanted_back.empty());
  EXPECT_FALSE(rig.machine.view(place(0)).full);
  nack(kPendingMax - 1);
  rig.act();
  ASSERT_EQ(rig.wanted_back.size(), 1u);
  EXPECT_TRUE(rig.machine.view(place(0)).full);
  rig.give_back(0, Position(100 + 10 * std::uint64_t{kPendingMax}));
  EXPECT_EQ(rig.owner(0), member);
  EXPECT_TRUE(rig.machine.assignment(place(0))->blocked);
  rig.now_ns += 1'000 * kMs;
  rig.machine.tick(rig.now_ns);
  rig.act();
  while (rig.unblocked.empty()) {
    const std::vector<Deliver> retries = rig.take_delivered();
    ASSERT_FALSE(retries.empty());
    for (const Deliver& delivery : retries) {
      Outcome outcome;
      outcome.by_slot = true;
      outcome.index = delivery.slot;
      outcome.target = delivery.stamp;
      rig.machine.outcome(member, outcome, rig.now_ns);
    }
    rig.act();
  }
  EXPECT_FALSE(rig.machine.assignment(place(0))->blocked);
  EXPECT_LT(rig.machine.acks(place(0)).pending().size(), kPendingMax / 2);
}

}  // namespace
}  // namespace sluice::core
