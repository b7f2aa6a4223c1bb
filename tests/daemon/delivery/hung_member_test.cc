// Members that are alive and do not go on: the rules end them.
#include "tests/daemon/delivery/delivery_rig.h"

namespace sluice::delivery {
namespace {

class HungMember : public testing::TestWithParam<core::GroupMode> {
 protected:
  // A member with a region, and one message in its hands.
  void SetUp() override {
    auto region = Member::create(kMember, SessionId(1), {}).value();
    mapping_ = region::Mapping::map(region->hand_out_region()->get(), region::Access::read_write, "a member").value();
    core::MemberJoin join;
    join.topics = {rig_.topic};
    join.in_flight_max = 10;
    rig_.group().join(std::move(region), {"orders"}, "billing", 0, std::move(join), rig_.now);
    const Position position = rig_.logs.produce(rig_.topic, 0, "m");
    rig_.turn();
    if (GetParam() == core::GroupMode::ordered) read(position);
    rig_.turn();
    ASSERT_EQ(rig_.group().machine().view(kMember).in_flight, 1u);
  }
  void read(Position position) {
    const auto assigned = rig_.group().machine().assignment(rig_.place());
    ASSERT_TRUE(assigned && assigned->member == kMember);
    layout::AssignmentCell& cell = region().cells[assigned->cell];
    cell.acked = cell.oldest = cell.newest = position.value;
    cell.in_flight = 1;
    cell.accepted = assigned->generation;
    rig_.now.ns += 20'000'000;  // its words are looked at now and then
  }
  layout::MemberRegion& region() { return *mapping_.at<layout::MemberRegion>(); }
  void expect_ended() {
    EXPECT_TRUE(rig_.group().members().empty());
    EXPECT_FALSE(rig_.group().machine().is_member(kMember));
    EXPECT_EQ(region().ended, 1u);
    EXPECT_EQ(rig_.group().take_ended(), std::vector<core::MemberId>{kMember}) << "told once";
  }

  DeliveryRig rig_{1, GetParam()};
  region::Mapping mapping_;
};

TEST_P(HungMember, IsEndedByTheMemberTimeout) {
  // No ack timeout comes before it.
  core::GroupChange change;
  change.ack_timeout_ns = 10 * kMemberTimeoutNsDefault;
  store::GroupRecord record = rig_.group().record();
  record.config = core::apply(record.config, change).value();
  rig_.group().set_record(std::move(record));
  rig_.now.ns += kMemberTimeoutNsDefault + 1;
  rig_.turn();
  expect_ended();
}

TEST_P(HungMember, EndsWithItsSessionThoughItLives) {
  rig_.group().leave(kMember, core::Ending::hung, rig_.now);
  expect_ended();
}

INSTANTIATE_TEST_SUITE_P(InBothModes, HungMember, testing::Values(core::GroupMode::ordered, core::GroupMode::shared),
                         [](const testing::TestParamInfo<core::GroupMode>& mode) {
                           return mode.param == core::GroupMode::ordered ? "Ordered" : "Shared";
                         });

}  // namespace
}  // namespace sluice::delivery
