// How far a group is behind, and how fast it goes.
#include "daemon/delivery/lag.h"

#include "tests/daemon/delivery/delivery_rig.h"

namespace sluice::delivery {
namespace {

constexpr std::uint64_t kSecond = 1'000'000'000;

TEST(Lag, CountsWhatIsNotSettledAndTellsApartWhereItIs) {
  DeliveryRig rig(1, core::GroupMode::shared);
  Rates rates;
  rig.logs.set_time(rig.now.wall_ns - 20 * kSecond);
  const Position first = rig.logs.produce(rig.topic, 0, "0");
  rig.logs.set_time(rig.now.wall_ns - 5 * kSecond);
  for (int i = 1; i < 10; ++i) rig.logs.produce(rig.topic, 0, std::to_string(i));
  core::DeliveryMachine& machine = rig.group().machine();
  rig.join();
  std::vector<core::LogItem> items;
  for (std::uint64_t i = 0; i < 4; ++i)
    items.push_back({first + i * kFakeRecordSize, first + (i + 1) * kFakeRecordSize, 0});
  machine.offer(rig.place(), items, items.back().end, rig.now.ns);
  const std::vector<std::uint32_t> slots = machine.slots_out(kMember);
  ASSERT_EQ(slots.size(), 4u);
  const auto say = [&](std::uint32_t slot, core::Verb verb) {
    core::Outcome outcome;
    outcome.verb = verb;
    outcome.by_slot = true;
    outcome.index = slot;
    outcome.target = machine.stamp_of(kMember, slot);
    outcome.argument = core::kByPolicy;
    machine.outcome(kMember, outcome, rig.now.ns);
  };
  const TopicView view = *rig.logs.find(rig.topic);
  const auto info = [&] { return partition_info(rig.group(), rig.place(), view, rig.logs, rates, rig.now); };
  EXPECT_EQ(info().lag_messages, 10u);
  EXPECT_EQ(info().lag_bytes, 10 * kFakeRecordSize);
  EXPECT_EQ(info().in_flight, 4u);
  EXPECT_EQ(info().ready, 6u);
  EXPECT_EQ(info().oldest_age_ns, 20 * kSecond);
  say(slots[2], core::Verb::ack);  // above the cursor
  EXPECT_EQ(info().cursor, first);
  EXPECT_EQ(info().lag_messages, 9u);
  EXPECT_EQ(info().in_flight, 3u);
  EXPECT_EQ(info().ready, 6u);
  say(slots[0], core::Verb::nack);  // the cursor passes it, and it waits
  EXPECT_EQ(info().retrying, 1u);
  EXPECT_EQ(info().lag_messages, 9u);
  EXPECT_EQ(info().oldest_age_ns, 20 * kSecond);
  say(slots[1], core::Verb::ack);
  EXPECT_EQ(info().cursor, first + 3 * kFakeRecordSize);
  EXPECT_EQ(info().lag_messages, 8u);
  EXPECT_EQ(info().in_flight, 1u);
}

TEST(Lag, OfAGroupThatIsOfflineIsCountedFromTheLog) {
  DeliveryRig rig;
  Rates rates;
  for (int i = 0; i < 3; ++i) rig.logs.produce(rig.topic, 0, "m");
  const session::GroupPartitionInfo info =
      partition_info(rig.group(), rig.place(), *rig.logs.find(rig.topic), rig.logs, rates, rig.now);
  EXPECT_EQ(info.lag_messages, 3u);
  EXPECT_EQ(info.ready, 3u);
  EXPECT_EQ(info.member, 0u);
}

TEST(Rates, FollowWhatIsCountedAndForgetWhatIsLongAgo) {
  Rates rates;
  const core::Place place{TopicId(1), 0};
  rates.update(1, place, 0, 0, kSecond);
  double before = 0;
  for (std::uint64_t second = 2; second < 60; ++second) {
    const double now = rates.update(1, place, second * 1000, second * 10, second * kSecond).produced.per_s;
    EXPECT_GE(now, before) << second;
    before = now;
  }
  EXPECT_NEAR(before, 1000, 10);
  EXPECT_NEAR(rates.update(1, place, 59'000, 590, 59 * kSecond).consumed.per_s, 10, 0.1);
  EXPECT_LT(rates.update(1, place, 59'000, 590, 120 * kSecond).produced.per_s, 1);
}

}  // namespace
}  // namespace sluice::delivery
