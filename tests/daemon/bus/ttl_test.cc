// A topic's time to live, as the daemon applies it: to what it hands out by reference, and to a group's lag.
#include <filesystem>

#include <gtest/gtest.h>

#include "daemon/bus/bus_logs.h"
#include "shm/base/clock.h"
#include "shm/base/limits.h"
#include "tests/daemon/bus/bus_rig.h"

namespace sluice::bus {
namespace {

constexpr std::uint64_t kHour = 3600ull * 1'000'000'000;

struct TtlRig : BusRig {
  explicit TtlRig(std::uint64_t ttl_ns, core::Durability durability = core::Durability::async) {
    core::TopicConfig config;
    config.durability = durability;
    config.segment_size = kSegmentSizeMin;
    config.slots = 4;
    config.message_ttl_ns = ttl_ns;
    create_topic(config);
    wall_ns = realtime_ns();
  }

  Position send_aged(TestProducer& sender, std::uint64_t age_ns, std::size_t size = 0) {
    const std::vector<std::byte> payload(size, std::byte{7});
    ring::Appended appended;
    while (sender.appender->append({payload, {}, realtime_coarse_ns() - age_ns}, appended) != ring::AppendResult::ok)
      work();
    return appended.position;
  }
  void set_ttl(std::uint64_t ttl_ns) {
    const TestClient client = attach();
    core::TopicChange change;
    change.message_ttl_ns = ttl_ns;
    ASSERT_TRUE(bus().alter_topic(client.id, kTopic, change));
  }
  TopicId topic() { return BusLogs(bus()).topics().front().id; }
  std::vector<Position> handed_out() {
    std::vector<Position> positions;
    BusLogs logs(bus());
    const auto walk = logs.walk(topic(), 0, Position(0), 1000, {});
    if (!walk) {
      ADD_FAILURE() << walk.error().message();
      return positions;
    }
    for (const delivery::LogRecord& record : walk->records) positions.push_back(record.position);
    return positions;
  }
  std::uint64_t lag() {
    BusLogs logs(bus());
    return logs.count(topic(), 0, Position(0), *logs.end(topic(), 0)).value();
  }
};

using Positions = std::vector<Position>;

TEST(BusTtl, WhatIsTooOldIsNotHandedOutAndIsNoLag) {
  TtlRig rig(kHour);
  const TestClient client = rig.attach();
  TestProducer sender = rig.produce(client);
  const Position old = rig.send_aged(sender, kHour + 1'000'000'000);
  const Position fresh = rig.send_aged(sender, kHour / 2);
  rig.work();
  EXPECT_EQ(rig.handed_out(), (Positions{fresh}));
  EXPECT_EQ(rig.lag(), 1u);
  EXPECT_TRUE(BusLogs(rig.bus()).read(rig.topic(), 0, old)) << "it is in the log, for a dead letter or who looks at it";
  EXPECT_EQ(rig.counts_of(sender.id).data, 2u) << "nothing was lost";
  EXPECT_TRUE(rig.audit().holds);
}

TEST(BusTtl, IsKeptOverRestartsOfEveryKindAndHoldsAtOnceWhereItIsAltered) {
  TtlRig rig(kHour);
  TestClient client = rig.attach();
  TestProducer sender = rig.produce(client);
  const Position old = rig.send_aged(sender, 2 * kHour);
  const Position fresh = rig.send_aged(sender, 0);
  rig.work();
  const auto& control = *sender.control.at<layout::ControlRegion>();
  EXPECT_EQ(control.message_ttl_ns.load(), kHour);
  rig.set_ttl(3 * kHour);
  EXPECT_EQ(control.message_ttl_ns.load(), 3 * kHour);
  EXPECT_EQ(rig.handed_out(), (Positions{old, fresh}));
  rig.kill_and_keep();
  rig.work();
  EXPECT_EQ(rig.handed_out(), (Positions{old, fresh}));
  rig.set_ttl(kHour);
  EXPECT_EQ(rig.handed_out(), (Positions{fresh}));
  rig.stop_and_start();
  rig.work();
  EXPECT_EQ(rig.handed_out(), (Positions{fresh}));
  rig.set_ttl(0);
  EXPECT_EQ(rig.handed_out(), (Positions{old, fresh}));
}

TEST(BusTtl, ADelayedMessageLivesFromItsDeliveryOn) {
  TtlRig rig(kHour);
  const TestClient client = rig.attach();
  TestProducer sender = rig.produce(client);
  Position position;
  ASSERT_TRUE(sender.send_delayed(rig.wall_ns + kHour, 10, position));  // with a time of long ago
  rig.work();
  EXPECT_EQ(rig.handed_out(), Positions());
  rig.wall_ns += kHour;
  rig.work();
  EXPECT_EQ(rig.handed_out().size(), 1u);
}

TEST(BusTtl, OfAVolatileTopicToo) {
  TtlRig rig(kHour, core::Durability::volatile_);
  const TestClient client = rig.attach();
  TestProducer sender = rig.produce(client);
  rig.send_aged(sender, 2 * kHour);
  const Position fresh = rig.send_aged(sender, 0);
  rig.work();
  EXPECT_EQ(rig.handed_out(), (Positions{fresh}));
  EXPECT_EQ(rig.lag(), 1u);
}

// A group that was away for long: what has expired meanwhile may be nearly all of the log.
TEST(BusTtl, WholeFilesThatHaveExpiredAreNotRead) {
  TtlRig rig(kHour);
  const TestClient client = rig.attach();
  TestProducer sender = rig.produce(client);
  constexpr std::size_t kSize = 8000;
  for (int i = 0; i < 100; ++i) rig.send_aged(sender, 2 * kHour, kSize);  // six files of two segments
  Positions fresh;
  for (int i = 0; i < 3; ++i) fresh.push_back(rig.send_aged(sender, 0, kSize));
  rig.work();
  const std::string second = rig.folder() + "/data/topics/" + BusRig::kTopic + "/0/00000000000000131072.log";
  ASSERT_TRUE(std::filesystem::remove(second)) << "who reads it fails";
  EXPECT_EQ(rig.handed_out(), fresh);
  EXPECT_EQ(rig.lag(), 3u);
}

}  // namespace
}  // namespace sluice::bus
