// Members that die or hang: what is charged, what comes again and how; and members that are slow.
#include "tests/daemon/core/delivery_rig.h"

namespace sluice::core {
namespace {

constexpr Position kKiller{500};

TEST(Death, OneMessageInHandIsChargedWithIt) {
  DeliveryRig rig(group(GroupMode::shared));
  const MemberId first = rig.join(1);
  rig.offer(1);
  rig.leave(first, Ending::died, {rig.take_delivered().at(0).slot});
  rig.join();
  rig.pass(10 * kMs);
  ASSERT_EQ(rig.delivered.size(), 1u);
  EXPECT_EQ(rig.delivered[0].failed, 1u);
  EXPECT_EQ(rig.delivered[0].delivered, 2u);
  EXPECT_TRUE(rig.delivered[0].alone);
}

TEST(Death, WhatWasNotBegunIsNeitherChargedNorSuspectedNorCounted) {
  DeliveryRig rig(group(GroupMode::shared));
  const MemberId first = rig.join();
  rig.offer(3);
  const std::vector<Deliver> out = rig.take_delivered();
  rig.leave(first, Ending::died, {out.at(0).slot});
  rig.join();
  ASSERT_EQ(rig.delivered.size(), 2u);
  for (const Deliver& delivery : rig.delivered) {
    EXPECT_NE(delivery.position, out[0].position);
    EXPECT_EQ(delivery.delivered, 1u);
    EXPECT_EQ(delivery.failed, 0u);
    EXPECT_FALSE(delivery.alone);
  }
}

TEST(Death, OfOneWhoLeavesNothingIsCharged) {
  DeliveryRig rig(group(GroupMode::shared));
  const MemberId first = rig.join();
  rig.offer(1);
  rig.leave(first, Ending::left, {rig.take_delivered().at(0).slot});
  rig.join();
  ASSERT_EQ(rig.delivered.size(), 1u);
  EXPECT_EQ(rig.delivered[0].failed, 0u);
  EXPECT_FALSE(rig.delivered[0].alone);
}

TEST(Death, TheMessageThatKillsIsFoundAndParkedAndNoneOfItsNeighbours) {
  DeliveryRig rig(group(GroupMode::shared));
  rig.join();
  rig.offer(100);
  std::uint32_t deaths = 0;
  std::set<std::uint32_t> slots;
  for (const Deliver& delivery : rig.take_delivered()) slots.insert(delivery.slot);
  rig.leave(rig.last_member, Ending::died, slots);
  rig.join();
  std::uint32_t acked = 0;
  while (rig.parked.empty()) {
    if (rig.delivered.empty()) rig.pass(1 * kMs);
    const std::vector<Deliver> now = rig.take_delivered();
    EXPECT_LE(now.size(), 1u);  // one at a time
    for (const Deliver& delivery : now) {
      EXPECT_TRUE(delivery.alone);
      if (delivery.position != kKiller) {
        rig.by_slot(delivery, Verb::ack);
        ++acked;
        continue;
      }
      ASSERT_LT(++deaths, 10u);
      rig.leave(rig.last_member, Ending::died, {delivery.slot});
      rig.join();
    }
  }
  while (acked < 99) {
    for (const Deliver& delivery : rig.take_delivered()) {
      rig.by_slot(delivery, Verb::ack);
      ++acked;
    }
  }
  EXPECT_EQ(deaths, rig.machine.config().max_attempts);
  ASSERT_EQ(rig.parked.size(), 1u);
  EXPECT_EQ(rig.parked[0].position, kKiller);
  EXPECT_EQ(rig.machine.acks(place(0)).pending().size(), 1u);
}

TEST(Death, InAnOrderedGroupTheMessageThatKillsIsFoundByReadingCarefully) {
  DeliveryRig rig(group(GroupMode::ordered));
  rig.join();
  rig.say(0, Position(100), Position(100), Position(1090), 100);
  rig.leave(rig.last_member, Ending::died);
  std::uint32_t deaths = 0;
  Position read(100);
  while (rig.parked.empty()) {
    rig.join();
    const AssignmentView view = rig.machine.assignment(place(0)).value();
    EXPECT_EQ(view.careful_until, Position(1091));
    EXPECT_EQ(view.start, std::min(read, kKiller));
    for (read = view.start; read < kKiller; read = read + 10) rig.say(0, read + 10);
    rig.say(0, kKiller, kKiller, kKiller);
    ASSERT_LT(++deaths, 10u);
    rig.leave(rig.last_member, Ending::died);
  }
  EXPECT_EQ(deaths, rig.machine.config().max_attempts);
  EXPECT_EQ(rig.parked[0].position, kKiller);
  rig.join();
  const AssignmentView view = rig.machine.assignment(place(0)).value();
  ASSERT_EQ(view.settled.size(), 1u);  // the next owner does not read it
  EXPECT_EQ(view.settled[0].begin, kKiller);
}

TEST(Death, SuspectsAreHandedOutOneAtATimeInTheWholeGroup) {
  DeliveryRig rig(group(GroupMode::shared));
  const MemberId first = rig.join(5);
  rig.offer(5);
  std::set<std::uint32_t> begun;
  for (const Deliver& delivery : rig.take_delivered())
    if (begun.size() < 3) begun.insert(delivery.slot);
  rig.leave(first, Ending::died, begun);
  rig.join();
  rig.join();
  const auto alone = [](const Deliver& delivery) { return delivery.alone; };
  const std::vector<Deliver> out = rig.take_delivered();
  EXPECT_EQ(out.size(), 3u);
  EXPECT_EQ(std::count_if(out.begin(), out.end(), alone), 1);
  rig.by_slot(*std::find_if(out.begin(), out.end(), alone), Verb::nack);
  // It has not killed: its retry is as any other's.
  EXPECT_EQ(rig.delivered.size(), 1u);
  EXPECT_TRUE(rig.take_delivered().at(0).alone);
  rig.pass(10 * kMs);
  ASSERT_EQ(rig.delivered.size(), 1u);
  EXPECT_FALSE(rig.delivered[0].alone);
}

TEST(Hung, AMemberThatDoesNotGoOnLosesEverything) {
  GroupConfig config = group(GroupMode::ordered);
  config.member_timeout_ns = 500 * kMs;
  DeliveryRig rig(config, 2);
  const MemberId first = rig.join();
  rig.by_cell(1, Verb::nack, Position(100), 0);
  ASSERT_EQ(rig.delivered.size(), 1u);
  const Deliver reference = rig.take_delivered().at(0);
  rig.pass(499 * kMs);
  rig.machine.alive(first, 1, rig.now_ns);
  rig.pass(499 * kMs);
  EXPECT_TRUE(rig.ended.empty());
  EXPECT_TRUE(rig.machine.hung(rig.now_ns).empty());
  EXPECT_EQ(rig.machine.hung(rig.now_ns + 1 * kMs), (std::vector<MemberId>{first}));
  rig.pass(1 * kMs);
  ASSERT_EQ(rig.ended.size(), 1u);
  EXPECT_EQ(rig.owner(0), 0u);
  EXPECT_EQ(rig.owner(1), 0u);
  rig.by_slot(reference, Verb::ack);
  EXPECT_EQ(rig.pending(Position(100), 1).failed, 2u);
}

TEST(Hung, AMemberWithNothingInHandMayBeSilentForEver) {
  DeliveryRig rig(group(GroupMode::ordered));
  rig.join();
  EXPECT_EQ(rig.machine.deadline_ns(), 0u);
  rig.now_ns += 1'000'000'000 * kMs;
  rig.machine.tick(rig.now_ns);
  rig.act();
  EXPECT_TRUE(rig.ended.empty());
  // Its time begins with its first message.
  rig.say(0, Position(100), Position(100), Position(100));
  EXPECT_TRUE(rig.machine.hung(rig.now_ns).empty());
}

TEST(SlowMember, WhatItHasNotBegunIsTheOthersAndDoesNotComeBackToIt) {
  DeliveryRig rig(group(GroupMode::shared));
  const MemberId slow = rig.join(10);
  const MemberId fast = rig.join(10);
  rig.offer(20);
  std::vector<Deliver> of_slow;
  for (const Deliver& delivery : rig.take_delivered()) {
    if (delivery.member == slow)
      of_slow.push_back(delivery);
    else
      rig.by_slot(delivery, Verb::ack);
  }
  ASSERT_EQ(of_slow.size(), 10u);
  for (std::size_t i = 1; i < of_slow.size(); ++i) rig.machine.recalled(slow, of_slow[i].slot, rig.now_ns);
  EXPECT_EQ(rig.machine.deadline_ns(), rig.now_ns);
  rig.pass(0);
  const std::vector<Deliver> again = rig.take_delivered();
  EXPECT_EQ(again.size(), 9u);
  for (const Deliver& delivery : again) {
    EXPECT_EQ(delivery.member, fast);
    EXPECT_EQ(delivery.delivered, 1u);  // nobody had begun it
  }
  EXPECT_EQ(rig.machine.wanted(place(0)), 1u);
  rig.by_slot(of_slow[0], Verb::ack);  // it goes on
  EXPECT_EQ(rig.machine.wanted(place(0)), 11u);
}

}  // namespace
}  // namespace sluice::core
