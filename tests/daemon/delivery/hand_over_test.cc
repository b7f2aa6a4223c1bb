// A partition that goes from one member to another: what the new one is told, and when.
#include "tests/daemon/delivery/delivery_rig.h"

namespace sluice::delivery {
namespace {

constexpr core::MemberId kNext = 8;

class HandOver : public testing::Test {
 protected:
  // A message that has failed in the hands of a member that is gone.
  void SetUp() override { failed_ = rig_.logs.produce(rig_.topic, 0, "m"); }
  void fail_and_leave() {
    rig_.join();
    rig_.say(core::Verb::nack, failed_);
    rig_.group().machine().leave(kMember, core::Ending::left, {}, rig_.now.ns);
    auto region = Member::create(kNext, SessionId(1), {}).value();
    mapping_ = region::Mapping::map(region->hand_out_region()->get(), region::Access::read_write, "a member").value();
    core::MemberJoin join;
    join.topics = {rig_.topic};
    join.in_flight_max = 10;
    rig_.group().join(std::move(region), {"orders"}, "billing", 0, std::move(join), rig_.now);
  }
  std::uint32_t changes() { return mapping_.at<layout::MemberRegion>()->assignments; }

  DeliveryRig rig_;
  Position failed_;
  region::Mapping mapping_;
};

TEST_F(HandOver, TheNextOwnerIsToldOnceWhatWaitsIsStored) {
  fail_and_leave();
  EXPECT_TRUE(rig_.group().awaits_save(kNext));
  EXPECT_TRUE(rig_.group().assignments(kNext).empty());
  rig_.turn();
  const std::uint32_t before = changes();
  ASSERT_TRUE(rig_.save());
  rig_.turn();
  EXPECT_EQ(changes(), before + 1) << "it is to ask again";
  const auto list = rig_.group().assignments(kNext);
  ASSERT_EQ(list.size(), 1u);
  EXPECT_EQ(list[0].settled.size() + (list[0].start > failed_ ? 1 : 0), 1u) << "it is not to read it";
}

TEST_F(HandOver, WhatIsNotDurableIsStoredOnceItIs) {
  rig_.logs.hold_syncs();
  failed_ = rig_.logs.produce(rig_.topic, 0, "late");
  fail_and_leave();
  ASSERT_TRUE(rig_.save());
  EXPECT_TRUE(rig_.group().assignments(kNext).empty());
  rig_.logs.sync();
  ASSERT_TRUE(rig_.save());
  EXPECT_EQ(rig_.group().assignments(kNext).size(), 1u);
}

TEST_F(HandOver, WhoHasItAlreadyKeepsItWhateverIsNotStored) {
  fail_and_leave();
  ASSERT_TRUE(rig_.save());
  ASSERT_EQ(rig_.group().assignments(kNext).size(), 1u);
  rig_.group().machine().acks(rig_.place()).touch(failed_);
  EXPECT_FALSE(rig_.group().awaits_save(kNext));
  EXPECT_EQ(rig_.group().assignments(kNext).size(), 1u);
}

}  // namespace
}  // namespace sluice::delivery
