// Strict groups: what a message that waits for its retry holds back.
#include "tests/daemon/core/delivery_rig.h"

namespace sluice::core {
namespace {

constexpr std::uint64_t kKey = 77;

TEST(StrictByKey, FollowersComeBehindTheRetryInOrderAndThenTheKeyIsFree) {
  DeliveryRig rig(group(GroupMode::ordered, Strict::key));
  rig.join();
  rig.by_cell(0, Verb::nack, Position(100), kByPolicy, kKey);
  EXPECT_EQ(rig.machine.assignment(place(0))->blocked_keys, (std::vector<std::uint64_t>{kKey}));
  rig.by_cell(0, Verb::defer, Position(110), kKey);
  rig.by_cell(0, Verb::defer, Position(130), kKey);
  rig.by_cell(0, Verb::nack, Position(120), kByPolicy, 5);  // another key
  rig.pass(10 * kMs);
  std::vector<Deliver> out = rig.take_delivered();
  ASSERT_EQ(out.size(), 2u);
  EXPECT_EQ(out[0].position, Position(100));
  EXPECT_EQ(out[1].position, Position(120));
  rig.by_slot(out[0], Verb::nack);
  rig.pass(20 * kMs);
  out = rig.take_delivered();
  ASSERT_EQ(out.size(), 1u);
  for (const std::uint64_t position : {100, 110, 130}) {
    EXPECT_TRUE(rig.unblocked.empty());
    EXPECT_EQ(out.at(0).position, Position(position));
    rig.by_slot(out[0], Verb::ack);
    out = rig.take_delivered();
  }
  ASSERT_EQ(rig.unblocked.size(), 1u);
  EXPECT_EQ(rig.unblocked[0].key_hash, kKey);
}

TEST(StrictByKey, TwoThatHaveFailedGoOnInTheOrderOfTheLog) {
  DeliveryRig rig(group(GroupMode::ordered, Strict::key));
  rig.join();
  rig.by_cell(0, Verb::nack, Position(110), 1 * kMs, kKey);
  rig.by_cell(0, Verb::nack, Position(100), 50 * kMs, kKey);
  rig.pass(49 * kMs);
  EXPECT_TRUE(rig.delivered.empty());
  rig.pass(1 * kMs);
  ASSERT_EQ(rig.delivered.size(), 1u);
  EXPECT_EQ(rig.delivered[0].position, Position(100));
  rig.by_slot(rig.take_delivered().at(0), Verb::ack);
  ASSERT_EQ(rig.delivered.size(), 1u);
  EXPECT_EQ(rig.delivered[0].position, Position(110));
}

TEST(StrictByKey, AFollowerKeepsItsOwnDelay) {
  DeliveryRig rig(group(GroupMode::ordered, Strict::key));
  rig.join();
  rig.by_cell(0, Verb::nack, Position(100), 1 * kMs, kKey);
  rig.by_cell(0, Verb::nack, Position(110), 100 * kMs, kKey);
  rig.pass(1 * kMs);
  rig.by_slot(rig.take_delivered().at(0), Verb::ack);
  rig.pass(98 * kMs);
  EXPECT_TRUE(rig.delivered.empty());
  rig.pass(1 * kMs);
  EXPECT_EQ(rig.delivered.size(), 1u);
}

TEST(StrictByKey, AParkedMessageLetsItsFollowersOn) {
  DeliveryRig rig(group(GroupMode::ordered, Strict::key));
  rig.join();
  rig.by_cell(0, Verb::nack, Position(100), 1 * kMs, kKey);
  rig.by_cell(0, Verb::defer, Position(110), kKey);
  rig.pass(1 * kMs);
  rig.by_slot(rig.take_delivered().at(0), Verb::reject);
  ASSERT_EQ(rig.delivered.size(), 1u);
  EXPECT_EQ(rig.delivered[0].position, Position(110));
}

TEST(StrictByKey, OneThatIsDeferredTooLateIsTheNextOneItself) {
  DeliveryRig rig(group(GroupMode::ordered, Strict::key));
  rig.join();
  rig.by_cell(0, Verb::nack, Position(100), 0, kKey);
  rig.by_slot(rig.take_delivered().at(0), Verb::ack);
  EXPECT_EQ(rig.unblocked.size(), 1u);
  rig.by_cell(0, Verb::defer, Position(110), kKey);
  ASSERT_EQ(rig.delivered.size(), 1u);
  rig.by_slot(rig.take_delivered().at(0), Verb::ack);
  EXPECT_EQ(rig.unblocked.size(), 2u);
}

TEST(StrictByKey, TheNextOwnerIsToldWhichKeysAreBlocked) {
  DeliveryRig rig(group(GroupMode::ordered, Strict::key));
  rig.join();
  rig.by_cell(0, Verb::nack, Position(100), kByPolicy, kKey);
  rig.by_cell(0, Verb::defer, Position(110), kKey);
  rig.leave(1, Ending::died);
  const MemberId second = rig.join();
  const AssignmentView view = rig.machine.assignment(place(0)).value();
  EXPECT_EQ(view.blocked_keys, (std::vector<std::uint64_t>{kKey}));
  EXPECT_EQ(view.settled.size(), 2u);
  rig.by_cell(0, Verb::defer, Position(120), kKey);
  rig.pass(10 * kMs);
  for (const std::uint64_t position : {100, 110, 120}) {
    const Deliver delivery = rig.take_delivered().at(0);
    EXPECT_EQ(delivery.member, second);
    EXPECT_EQ(delivery.position, Position(position));
    rig.by_slot(delivery, Verb::ack);
  }
}

TEST(StrictByKey, OneThatTimedOutInItsReadersHandsBlocksItsKeyOnceThatIsKnown) {
  DeliveryRig rig(group(GroupMode::ordered, Strict::key));
  rig.join();
  rig.say(0, Position(100), Position(100), Position(100));
  rig.pass(1'000 * kMs);
  ASSERT_EQ(rig.withdrawn.size(), 1u);
  rig.machine.set_key(place(0), Position(100), kKey);
  rig.by_cell(0, Verb::defer, Position(110), kKey);
  rig.act();
  rig.pass(10 * kMs);
  ASSERT_EQ(rig.delivered.size(), 1u);
  EXPECT_EQ(rig.delivered[0].position, Position(100));
}

TEST(StrictByPartition, OneAfterTheOtherAndThenThePartitionIsFree) {
  DeliveryRig rig(group(GroupMode::ordered, Strict::partition), 2);
  rig.join();
  rig.by_cell(0, Verb::nack, Position(110), 1 * kMs);
  rig.by_cell(0, Verb::nack, Position(100), 2 * kMs);
  EXPECT_TRUE(rig.machine.assignment(place(0))->blocked);
  EXPECT_FALSE(rig.machine.assignment(place(1))->blocked);
  rig.pass(2 * kMs);
  ASSERT_EQ(rig.delivered.size(), 1u);
  EXPECT_EQ(rig.delivered[0].position, Position(100));
  rig.by_slot(rig.take_delivered().at(0), Verb::ack);
  EXPECT_TRUE(rig.unblocked.empty());
  rig.by_slot(rig.take_delivered().at(0), Verb::ack);
  ASSERT_EQ(rig.unblocked.size(), 1u);
  EXPECT_EQ(rig.unblocked[0].key_hash, 0u);
  EXPECT_FALSE(rig.machine.assignment(place(0))->blocked);
}

TEST(StrictByKey, WhatWaitsBehindEachOtherDoesSoAfterARestart) {
  DeliveryRig rig(group(GroupMode::ordered, Strict::key), 0);
  AckState& acks = rig.machine.restore(place(0), Position(200));
  Pending pending;
  pending.key_hash = kKey;
  for (const std::uint64_t position : {130, 110, 120}) {
    pending.deferred = position != 110;
    acks.restore(Position(position), pending);
  }
  rig.machine.restored(0, rig.now_ns);
  rig.join();
  for (const std::uint64_t position : {110, 120, 130}) {
    const std::vector<Deliver> out = rig.take_delivered();
    ASSERT_EQ(out.size(), 1u);
    EXPECT_EQ(out[0].position, Position(position));
    rig.by_slot(out[0], Verb::ack);
  }
}

TEST(NotStrict, ARetryHoldsNothingBack) {
  DeliveryRig rig(group(GroupMode::ordered));
  rig.join();
  rig.by_cell(0, Verb::nack, Position(100), kByPolicy, kKey);
  const AssignmentView view = rig.machine.assignment(place(0)).value();
  EXPECT_TRUE(view.blocked_keys.empty());
  EXPECT_FALSE(view.blocked);
}

}  // namespace
}  // namespace sluice::core
