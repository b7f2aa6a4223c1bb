// What a group gives to the store: all that has changed and is durable, and all of it again if it was refused.
#include "tests/daemon/delivery/delivery_rig.h"

namespace sluice::delivery {
namespace {

TEST(GroupSave, WhatTheStoreRefusedIsGivenAgain) {
  DeliveryRig rig;
  const Position failed = rig.logs.produce(rig.topic, 0, "a");
  const Position acked = rig.logs.produce(rig.topic, 0, "b");
  rig.logs.produce(rig.topic, 0, "c");
  rig.join();
  rig.say(core::Verb::nack, failed, "not now");
  rig.say(core::Verb::ack, acked);
  rig.medium.fail_next(ErrorCode::io);
  EXPECT_FALSE(rig.save());
  EXPECT_TRUE(rig.group().dirty());
  EXPECT_TRUE(rig.stored().cursors.empty());
  ASSERT_TRUE(rig.save());
  EXPECT_FALSE(rig.group().dirty());
  const store::GroupState stored = rig.stored();
  ASSERT_EQ(stored.cursors.size(), 1u);
  EXPECT_EQ(stored.cursors[0].settled, (std::vector<std::pair<Position, Position>>{{acked, acked + kFakeRecordSize}}));
  ASSERT_EQ(stored.pending.size(), 1u);
  EXPECT_EQ(stored.pending[0].position, failed);
  EXPECT_EQ(stored.pending[0].failed, 1u);
  EXPECT_EQ(stored.pending[0].reason, "not now");
}

TEST(GroupSave, WhatIsNotDurableIsKeptForLater) {
  DeliveryRig rig;
  const Position first = rig.logs.produce(rig.topic, 0, "a");
  rig.logs.hold_syncs();
  const Position second = rig.logs.produce(rig.topic, 0, "b");
  rig.join();
  rig.say(core::Verb::nack, second);
  core::CellWords words;
  words.acked = second + kFakeRecordSize;
  rig.group().machine().progress(kMember, 0, words, second + kFakeRecordSize, rig.now.ns);
  ASSERT_TRUE(rig.save());
  ASSERT_EQ(rig.stored().cursors.size(), 1u);
  EXPECT_EQ(rig.stored().cursors[0].cursor, first + kFakeRecordSize);
  EXPECT_TRUE(rig.stored().pending.empty());
  EXPECT_TRUE(rig.group().dirty());
  rig.logs.sync();
  ASSERT_TRUE(rig.save());
  EXPECT_EQ(rig.stored().cursors[0].cursor, second + kFakeRecordSize);
  EXPECT_EQ(rig.stored().pending.size(), 1u);
  EXPECT_FALSE(rig.group().dirty());
}

TEST(GroupSave, ADaemonThatIsNewGoesOnWhereTheStoreSaysAndBringsARetryInItsTime) {
  DeliveryRig rig;
  const Position failed = rig.logs.produce(rig.topic, 0, "a");
  const Position next = rig.logs.produce(rig.topic, 0, "b");
  rig.join();
  rig.say(core::Verb::nack, failed);
  core::CellWords words;
  words.acked = next;
  rig.group().machine().progress(kMember, 0, words, rig.logs.end(rig.topic, 0).value(), rig.now.ns);
  ASSERT_TRUE(rig.save());
  rig.now = {5, rig.now.wall_ns + 400'000};  // another boot's clock; 0.6 ms are left of its delay
  rig.start();
  EXPECT_EQ(rig.group().machine().acks(rig.place()).cursor(), next);
  EXPECT_EQ(rig.group().machine().acks(rig.place()).pending().at(failed).due_ns, 5u + 600'000u);
}

// What came by reference is settled without its record's end.
TEST(GroupSave, ACursorWithinARecordGoesOnWithTheNextOne) {
  DeliveryRig rig(1, core::GroupMode::shared);
  const Position first = rig.logs.produce(rig.topic, 0, "1");
  const Position second = rig.logs.produce(rig.topic, 0, "2");
  store::GroupSave save;
  save.group = rig.group().record().id;
  save.cursors.push_back({{rig.topic, 0}, first + 1, {}});
  ASSERT_TRUE(rig.store().save_groups({save}));
  rig.start();
  EXPECT_EQ(rig.group().machine().acks(rig.place()).cursor(), second);
  EXPECT_EQ(rig.group().machine().next(rig.place()), second);
}

}  // namespace
}  // namespace sluice::delivery
