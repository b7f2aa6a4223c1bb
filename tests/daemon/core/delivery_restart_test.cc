// Seeks, dead letters that are handed out again, and a daemon that is new.
#include "tests/daemon/core/delivery_rig.h"

namespace sluice::core {
namespace {

constexpr TopicId kLetters{9};

MemberJoin joining(std::uint32_t in_flight_max = 100) {
  MemberJoin join;
  join.topics = {kTopic};
  join.in_flight_max = in_flight_max;
  return join;
}

TEST(Seek, NothingThatWasInHandOrPendingCountsAnyMore) {
  DeliveryRig rig(group(GroupMode::shared));
  rig.join();
  rig.offer(4);
  const std::vector<Deliver> out = rig.take_delivered();
  rig.by_slot(out.at(0), Verb::ack);
  rig.by_slot(out.at(1), Verb::nack);
  rig.by_slot(out.at(2), Verb::reject);
  rig.machine.seek(place(0), Position(100), rig.now_ns);
  rig.act();
  ASSERT_EQ(rig.withdrawn.size(), 1u);
  EXPECT_EQ(rig.withdrawn[0].stamp, out[3].stamp);
  rig.by_slot(out[3], Verb::ack);
  EXPECT_EQ(rig.cursor(), Position(100));
  rig.pass(100 * kMs);
  EXPECT_TRUE(rig.delivered.empty());  // its retry is forgotten
  // All but the one that is being parked is handed out again.
  rig.offer(4);
  EXPECT_EQ(rig.delivered.size(), 3u);
  rig.machine.parked(place(0), Position(120));
  for (const Deliver& delivery : rig.take_delivered()) rig.by_slot(delivery, Verb::ack);
  EXPECT_EQ(rig.cursor(), Position(140));
  EXPECT_EQ(rig.parked.size(), 1u);
}

TEST(Seek, LetsASuspectGoAndTheNextOneCome) {
  DeliveryRig rig(group(GroupMode::shared), 2);
  rig.join();
  rig.offer(1, 0);
  rig.offer(1, 1);
  std::set<std::uint32_t> begun;
  for (const Deliver& delivery : rig.take_delivered()) begun.insert(delivery.slot);
  rig.leave(1, Ending::died, begun);
  rig.join();
  ASSERT_EQ(rig.delivered.size(), 1u);
  const Place first = rig.take_delivered()[0].place;
  rig.machine.seek(first, Position(200), rig.now_ns);
  rig.act();
  ASSERT_EQ(rig.delivered.size(), 1u);
  EXPECT_NE(rig.delivered[0].place, first);
}

TEST(Remove, WhatWasOutOfAPartitionIsWithdrawn) {
  DeliveryRig rig(group(GroupMode::shared), 2);
  rig.join();
  rig.offer(2);
  rig.by_slot(rig.take_delivered().at(0), Verb::nack);
  rig.machine.remove(place(0), rig.now_ns);
  rig.act();
  EXPECT_EQ(rig.withdrawn.size(), 1u);
  rig.pass(1'000 * kMs);
  EXPECT_TRUE(rig.delivered.empty());
}

TEST(Redrive, GoesToAnyMemberAndIsSettledByItsAck) {
  DeliveryRig rig(group(GroupMode::ordered));
  rig.join();
  EXPECT_TRUE(rig.machine.redrive({kLetters, 0}, Position(64), 5, rig.now_ns + 7 * kMs));
  EXPECT_FALSE(rig.machine.redrive({kLetters, 0}, Position(64), 5, rig.now_ns));
  rig.pass(7 * kMs - 1);
  EXPECT_TRUE(rig.delivered.empty());
  rig.pass(1);
  ASSERT_EQ(rig.delivered.size(), 1u);
  EXPECT_TRUE(rig.machine.by_reference_only({kLetters, 0}));
  rig.by_slot(rig.take_delivered().at(0), Verb::ack);
  EXPECT_TRUE(rig.machine.acks({kLetters, 0}).pending().empty());
  EXPECT_EQ(rig.owner(0, kLetters), 0u);
}

TEST(Redrive, OneThatFailsAgainIsParkedAgainWithItsLetterKnown) {
  DeliveryRig rig(group(GroupMode::ordered));
  rig.join();
  rig.machine.redrive({kLetters, 0}, Position(64), 5, rig.now_ns);
  rig.pass(0);
  for (int i = 0; i < 3; ++i) {
    rig.by_slot(rig.take_delivered().at(0), Verb::nack, 1 * kMs);
    if (i < 2) rig.pass(1 * kMs);
  }
  ASSERT_EQ(rig.parked.size(), 1u);
  const auto& pending = rig.machine.acks({kLetters, 0}).pending();
  EXPECT_EQ(pending.at(Position(64)).letter, 5u);
  rig.machine.parked({kLetters, 0}, Position(64));
  EXPECT_TRUE(pending.empty());
  EXPECT_TRUE(rig.machine.redrive({kLetters, 0}, Position(64), 5, rig.now_ns));
}

TEST(Redrive, OneThatIsTakenBackIsNotDelivered) {
  DeliveryRig rig(group(GroupMode::ordered));
  rig.join();
  rig.machine.redrive({kLetters, 0}, Position(64), 5, rig.now_ns);
  rig.machine.parked({kLetters, 0}, Position(64));  // it could not be noted
  rig.pass(1 * kMs);
  EXPECT_TRUE(rig.delivered.empty());
  EXPECT_EQ(rig.machine.deadline_ns(), 0u);
}

TEST(Rejoin, MembersGoOnWithWhatTheyHoldAndNobodyGetsItMeanwhile) {
  DeliveryRig rig(group(GroupMode::ordered), 0);
  for (PartitionNumber partition = 0; partition < 4; ++partition)
    rig.machine.restore(place(partition), Position(100)).restore({});
  rig.machine.restored(2, rig.now_ns);
  MemberJoin first = joining();
  first.held_partitions = {{place(1), {Position(150), Position(160), Position(170), 0, 0, 2}},
                           {place(2), {Position(90), Position(0), Position(0), 0, 0, 0}}};
  rig.machine.join(11, first, rig.now_ns);
  rig.act();
  EXPECT_EQ(rig.loads(4), (std::map<MemberId, std::uint32_t>{{0, 2}, {11, 2}}));
  EXPECT_EQ(rig.machine.assignment(place(1))->start, Position(150));
  EXPECT_EQ(rig.machine.assignment(place(2))->start, Position(100));
  EXPECT_EQ(rig.machine.view(MemberId{11}).in_flight, 2u);
  MemberJoin second = joining();
  second.held_partitions = {{place(3), {}}, {place(1), {Position(500), Position(0), Position(0), 0, 0, 0}}};
  rig.machine.join(12, second, rig.now_ns);
  rig.act();
  // Both are back: the rest is shared out. What was another's is no more.
  EXPECT_EQ(rig.owner(1), 11u);
  EXPECT_EQ(rig.cursor(1), Position(150));
  EXPECT_EQ(rig.owner(3), 12u);
  EXPECT_EQ(rig.owner(0), 12u);
}

TEST(Rejoin, ThoseThatDoNotComeBackAreNotWaitedForLonger) {
  DeliveryRig rig(group(GroupMode::ordered), 0);
  rig.machine.restore(place(0), Position(100));
  rig.machine.restored(2, rig.now_ns);
  rig.machine.join(11, joining(), rig.now_ns);
  rig.act();
  rig.pass(kRejoinNsMax - 1);
  EXPECT_EQ(rig.owner(0), 0u);
  rig.pass(1);
  EXPECT_EQ(rig.owner(0), 11u);
}

TEST(Rejoin, ReferencesStayInTheHandsThatHoldThem) {
  DeliveryRig rig(group(GroupMode::shared), 0);
  AckState& acks = rig.machine.restore(place(0), Position(100));
  Pending retry;
  retry.delivered = 2;
  retry.failed = 1;
  acks.restore(Position(90), retry);
  rig.machine.restored(2, rig.now_ns);
  MemberJoin holder = joining(2);
  holder.held_messages = {{place(0), Position(90), {2, 1}},
                          {place(0), Position(120), {1, 0}},
                          {place(0), Position(130), {1, 0}},   // more than it may hold
                          {place(0), Position(50), {1, 0}},    // settled
                          {place(5), Position(100), {1, 0}}};  // not there
  rig.machine.join(11, holder, rig.now_ns);
  rig.act();
  const std::vector<Deliver> held = rig.take_delivered();
  ASSERT_EQ(held.size(), 2u);
  EXPECT_EQ(held[0].position, Position(90));
  EXPECT_EQ(held[0].delivered, 2u);
  EXPECT_EQ(held[1].position, Position(120));
  EXPECT_EQ(held[1].delivered, 1u);
  EXPECT_EQ(rig.machine.wanted(place(0)), 0u);  // the other one is waited for
  rig.machine.join(12, joining(), rig.now_ns);
  rig.act();
  rig.offer(4);  // 100, 110, 120, 130
  std::vector<Position> others;
  for (const Deliver& delivery : rig.take_delivered()) {
    EXPECT_EQ(delivery.member, 12u);
    others.push_back(delivery.position);
    rig.by_slot(delivery, Verb::ack);
  }
  EXPECT_EQ(others, (std::vector<Position>{Position(100), Position(110), Position(130)}));
  rig.by_slot(held[1], Verb::ack);
  rig.by_slot(held[0], Verb::ack);
  EXPECT_EQ(rig.cursor(), Position(140));
  EXPECT_TRUE(rig.machine.acks(place(0)).pending().empty());
}

TEST(Rejoin, AHeldDeliveryThatFailedAlreadyIsOverAndItsRetryComesWhenItIsDue) {
  DeliveryRig rig(group(GroupMode::shared), 0);
  Pending retry;
  retry.delivered = 1;
  retry.failed = 1;
  retry.due_ns = rig.now_ns + 30 * kMs;
  rig.machine.restore(place(0), Position(100)).restore(Position(90), retry);
  rig.machine.restored(1, rig.now_ns);
  MemberJoin holder = joining();
  holder.held_messages = {{place(0), Position(90), {1, 0}}};
  rig.machine.join(11, holder, rig.now_ns);
  rig.act();
  EXPECT_TRUE(rig.take_delivered().empty());
  rig.pass(30 * kMs);
  ASSERT_EQ(rig.delivered.size(), 1u);
  EXPECT_EQ(rig.delivered[0].delivered, 2u);
  EXPECT_EQ(rig.delivered[0].failed, 1u);
}

TEST(Parking, OneWhoseLetterIsNotNotedStaysPendingAndIsSettledOnceItIs) {
  DeliveryRig rig(group(GroupMode::shared));
  rig.join();
  rig.offer(1);
  rig.by_slot(rig.take_delivered().at(0), Verb::reject);
  const Pending before = rig.machine.acks(place(0)).pending().at(Position(100));
  rig.machine.parked(place(0), Position(100));
  rig.machine.not_parked(place(0), Position(100), before);
  EXPECT_EQ(rig.machine.acks(place(0)).changed().count(Position(100)), 1u);
  EXPECT_EQ(rig.machine.acks(place(0)).pending().at(Position(100)).state, PendingState::parking);
  rig.machine.check_invariants();
  rig.machine.parked(place(0), Position(100));
  EXPECT_TRUE(rig.machine.acks(place(0)).pending().empty());
  EXPECT_EQ(rig.cursor(), Position(110));
}

TEST(Restore, ARetryThatIsAckedBeforeTheLogIsReadUpToItDoesNotComeAgain) {
  DeliveryRig rig(group(GroupMode::shared), 0);
  rig.machine.restore(place(0), Position(100)).restore(Position(110), Pending{});
  rig.machine.restored(0, rig.now_ns);
  rig.join();
  rig.by_slot(rig.take_delivered().at(0), Verb::ack);
  rig.offer(3);
  std::vector<Position> positions;
  for (const Deliver& delivery : rig.take_delivered()) positions.push_back(delivery.position);
  EXPECT_EQ(positions, (std::vector<Position>{Position(100), Position(120)}));
}

TEST(Restore, WhatIsSettledAheadOfTheLogStaysSoInWhatIsSaved) {
  DeliveryRig rig(group(GroupMode::shared), 0);
  rig.machine.restore(place(0), Position(100)).restore({{Position(110), Position(140)}});
  rig.machine.restored(0, rig.now_ns);
  rig.join();
  rig.offer(2);  // of three that are settled one was looked at
  const std::vector<PositionSpan> spans = rig.machine.settled_above(place(0));
  ASSERT_FALSE(spans.empty());
  EXPECT_EQ(spans.front().begin, Position(110));
  EXPECT_EQ(spans.back().end, Position(140));
}

TEST(Restore, WhatWasBeingParkedIsParkedAgainAndWhatWaitedKeepsItsTime) {
  DeliveryRig rig(group(GroupMode::ordered), 0);
  AckState& acks = rig.machine.restore(place(0), Position(200));
  Pending pending;
  pending.state = PendingState::parking;
  acks.restore(Position(110), pending);
  pending.state = PendingState::out;
  pending.due_ns = rig.now_ns + 30 * kMs;
  acks.restore(Position(120), pending);
  rig.machine.restored(0, rig.now_ns);
  rig.join();
  ASSERT_EQ(rig.parked.size(), 1u);
  EXPECT_EQ(rig.parked[0].position, Position(110));
  rig.pass(30 * kMs - 1);
  EXPECT_TRUE(rig.delivered.empty());
  rig.pass(1);
  EXPECT_EQ(rig.delivered.size(), 1u);
}

}  // namespace
}  // namespace sluice::core
