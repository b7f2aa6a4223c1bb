// Which partition belongs to whom in an ordered group, on a simulated clock.
#include "tests/daemon/core/delivery_rig.h"

namespace sluice::core {
namespace {

void expect_even(const std::map<MemberId, std::uint32_t>& loads, std::size_t members) {
  EXPECT_EQ(loads.size(), members);
  std::uint32_t least = UINT32_MAX;
  std::uint32_t most = 0;
  for (const auto& [member, load] : loads) {
    least = std::min(least, load);
    most = std::max(most, load);
  }
  EXPECT_LE(most - least, 1u);
}

TEST(Assignment, OneThatJoinsTakesItsShareAndNothingElseMoves) {
  DeliveryRig rig(group(GroupMode::ordered), 10);
  rig.join();
  rig.join();
  rig.settle_down();
  expect_even(rig.loads(10), 2);
  std::map<PartitionNumber, MemberId> before;
  for (PartitionNumber partition = 0; partition < 10; ++partition) before[partition] = rig.owner(partition);
  const MemberId third = rig.join();
  rig.settle_down();
  expect_even(rig.loads(10), 3);
  for (const auto& [partition, owner] : before)
    EXPECT_TRUE(rig.owner(partition) == owner || rig.owner(partition) == third);
}

TEST(Assignment, WhatALeaverHadIsSharedOutAndNothingElseMoves) {
  DeliveryRig rig(group(GroupMode::ordered), 9);
  for (int i = 0; i < 3; ++i) rig.join();
  rig.settle_down();
  std::map<PartitionNumber, MemberId> before;
  for (PartitionNumber partition = 0; partition < 9; ++partition) before[partition] = rig.owner(partition);
  rig.wanted_back.clear();
  rig.leave(2);
  EXPECT_TRUE(rig.wanted_back.empty());
  expect_even(rig.loads(9), 2);
  for (const auto& [partition, owner] : before) EXPECT_TRUE(owner == 2 || rig.owner(partition) == owner);
}

TEST(Assignment, StaysEvenWhoeverComesAndGoesBeforeAnythingWasGivenBack) {
  DeliveryRig rig(group(GroupMode::ordered), 13);
  for (int i = 0; i < 5; ++i) rig.join();
  rig.leave(2);  // partitions were promised to it
  rig.leave(4, Ending::died);
  rig.join();
  rig.leave(1);
  rig.settle_down();
  expect_even(rig.loads(13), 3);
}

TEST(Assignment, OnlyWhoHasSubscribedToATopicGetsItsPartitions) {
  DeliveryRig rig(group(GroupMode::ordered), 4);
  for (PartitionNumber partition = 0; partition < 4; ++partition)
    rig.machine.add(place(partition, kOtherTopic), Position(100), rig.now_ns);
  const MemberId one = rig.join(10, {kTopic});
  EXPECT_EQ(rig.owner(0, kOtherTopic), 0u);
  const MemberId both = rig.join(10, {kTopic, kOtherTopic});
  rig.settle_down();
  for (PartitionNumber partition = 0; partition < 4; ++partition) {
    EXPECT_EQ(rig.owner(partition), one);
    EXPECT_EQ(rig.owner(partition, kOtherTopic), both);
  }
  rig.machine.set_topics(both, {kTopic}, rig.now_ns);
  rig.act();
  rig.settle_down();
  EXPECT_EQ(rig.owner(0, kOtherTopic), 0u);
  expect_even(rig.loads(4), 2);
}

TEST(Assignment, PartitionsThatAreAddedGoToThoseWithFewest) {
  DeliveryRig rig(group(GroupMode::ordered), 3);
  rig.join();
  rig.join();
  rig.settle_down();
  rig.wanted_back.clear();
  for (PartitionNumber partition = 3; partition < 7; ++partition)
    rig.machine.add(place(partition), Position(100), rig.now_ns);
  rig.act();
  EXPECT_TRUE(rig.wanted_back.empty());
  expect_even(rig.loads(7), 2);
}

TEST(Assignment, WhatIsGivenBackIsTheOthersAtOnce) {
  DeliveryRig rig(group(GroupMode::ordered), 2);
  const MemberId first = rig.join();
  const MemberId second = rig.join();
  ASSERT_EQ(rig.wanted_back.size(), 1u);
  const PartitionNumber moving = rig.machine.place_of_cell(first, rig.wanted_back[0].cell)->partition;
  rig.say(moving, Position(150), Position(150), Position(160), 2);
  EXPECT_EQ(rig.owner(moving), first);
  rig.give_back(moving, Position(170));
  EXPECT_EQ(rig.owner(moving), second);
  EXPECT_EQ(rig.machine.assignment(place(moving))->start, Position(170));
  EXPECT_EQ(rig.machine.assignment(place(moving))->careful_until, Position(0));
}

TEST(Assignment, WhatIsNotGivenBackInTimeIsTakenAndNobodyIsCharged) {
  DeliveryRig rig(group(GroupMode::ordered), 2);
  const MemberId first = rig.join();
  const MemberId second = rig.join();
  const WantBack want = rig.wanted_back.at(0);
  const PartitionNumber moving = rig.machine.place_of_cell(first, want.cell)->partition;
  rig.machine.set_config([] {
    GroupConfig config = group(GroupMode::ordered);
    config.ack_timeout_ns = 60'000 * kMs;
    return config;
  }());
  rig.say(moving, Position(150), Position(150), Position(150));
  rig.pass(kHandOverNsMax - 1);
  EXPECT_EQ(rig.owner(moving), first);
  rig.pass(1);
  EXPECT_EQ(rig.owner(moving), second);
  EXPECT_TRUE(rig.machine.assignment(place(moving))->repeats.empty());
  // Its late words are another's partition.
  rig.by_cell(first, want.cell, want.generation, Verb::ack, Position(150), 200);
  rig.machine.progress(first, want.cell, {Position(500), Position(0), Position(0), 0, want.generation, 0}, kEnd,
                       rig.now_ns);
  rig.act();
  EXPECT_EQ(rig.cursor(moving), Position(150));
  EXPECT_FALSE(rig.machine.acks(place(moving)).is_settled(Position(150)));
}

TEST(Assignment, OutcomesOfAnEarlierGenerationAreRefused) {
  DeliveryRig rig(group(GroupMode::ordered));
  const MemberId member = rig.join();
  const AssignmentView before = rig.machine.assignment(place(0)).value();
  rig.machine.seek(place(0), Position(100), rig.now_ns);
  rig.act();
  const AssignmentView after = rig.machine.assignment(place(0)).value();
  EXPECT_EQ(after.member, member);  // a seek moves nothing
  EXPECT_GT(after.generation, before.generation);
  for (const Verb verb : {Verb::ack, Verb::nack, Verb::reject, Verb::defer})
    rig.by_cell(member, before.cell, before.generation, verb, Position(110), 120, 5);
  EXPECT_FALSE(rig.is_pending(Position(110)));
  EXPECT_FALSE(rig.machine.acks(place(0)).is_settled(Position(110)));
}

TEST(Assignment, WordsThatCannotBeTrueAreMadeHarmless) {
  DeliveryRig rig(group(GroupMode::ordered));
  rig.join();
  rig.say(0, Position(200));
  rig.say(0, Position(150));  // back
  EXPECT_EQ(rig.cursor(), Position(200));
  rig.say(0, Position(UINT64_MAX), Position(5), Position(UINT64_MAX), UINT32_MAX);
  EXPECT_EQ(rig.cursor(), kEnd);
  EXPECT_EQ(rig.machine.view(MemberId{1}).in_flight, 0u);
  rig.leave(1, Ending::died);
}

TEST(Assignment, APausedGroupTakesEverythingBackInItsMembersTimeAndResumesEvenly) {
  DeliveryRig rig(group(GroupMode::ordered), 4);
  rig.join();
  rig.join();
  rig.settle_down();
  rig.by_cell(0, Verb::nack, Position(100));
  rig.say(1, Position(100), Position(100), Position(100));
  rig.machine.pause(true, rig.now_ns);
  rig.act();
  EXPECT_EQ(rig.wanted_back.size(), 4u);
  rig.pass(900 * kMs);  // its retry has come due
  EXPECT_TRUE(rig.delivered.empty());
  EXPECT_NE(rig.owner(1), 0u);
  for (PartitionNumber partition = 0; partition < 4; ++partition) rig.give_back(partition, Position(110));
  EXPECT_EQ(rig.loads(4), (std::map<MemberId, std::uint32_t>{{0, 4}}));
  rig.machine.pause(false, rig.now_ns);
  rig.act();
  expect_even(rig.loads(4), 2);
  EXPECT_EQ(rig.delivered.size(), 1u);
}

TEST(Assignment, AThousandPartitionsAreSharedOutAmongAHundredMembers) {
  DeliveryRig rig(group(GroupMode::ordered), 1'000);
  for (int i = 0; i < 100; ++i) rig.join();
  rig.settle_down();
  expect_even(rig.loads(1'000), 100);
}

TEST(Assignment, TellsTheNextOwnerWhatWasHandedOutAndNotSettled) {
  DeliveryRig rig(group(GroupMode::ordered));
  const MemberId first = rig.join();
  rig.say(0, Position(120), Position(120), Position(150));
  rig.leave(first);
  rig.join();
  EXPECT_EQ(rig.machine.assignment(place(0))->handed_out, std::vector{Position(151)});
  rig.say(0, Position(130), Position(130), Position(140));
  rig.leave(rig.last_member, Ending::died);
  rig.join();
  EXPECT_EQ(rig.machine.assignment(place(0))->handed_out, (std::vector{Position(151), Position(141)}));
  rig.say(0, Position(160));
  rig.leave(rig.last_member);
  rig.join();
  EXPECT_TRUE(rig.machine.assignment(place(0))->handed_out.empty()) << "all of it is settled";
}

}  // namespace
}  // namespace sluice::core
