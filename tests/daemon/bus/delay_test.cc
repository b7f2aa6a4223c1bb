// Delayed messages over restarts of every kind: each that was sent has one ref once its time has come, and waits
// before.
#include <algorithm>
#include <functional>
#include <map>
#include <random>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "shm/base/clock.h"
#include "shm/base/limits.h"
#include "tests/daemon/bus/bus_rig.h"

namespace sluice::bus {
namespace {

constexpr std::uint64_t kSecond = 1'000'000'000;

core::TopicConfig small(core::Durability durability) {
  core::TopicConfig config;
  config.durability = durability;
  config.segment_size = kSegmentSizeMin;
  config.slots = 4;
  return config;
}

TEST(BusDelay, WhatWaitsIsTheSameAfterARestartOfEveryKind) {
  BusRig rig;
  rig.create_topic();
  TestClient client = rig.attach();
  TestProducer sender = rig.produce(client);
  Position position;
  for (std::uint64_t i = 1; i <= 5; ++i) ASSERT_TRUE(sender.send_delayed(rig.wall_ns + i * kSecond, 10, position));
  rig.work();
  const auto waits = [&](std::uint64_t count, std::uint64_t next) {
    EXPECT_EQ(rig.partition().delayed, count);
    EXPECT_EQ(rig.partition().next_due_ns, next);
  };
  waits(5, rig.wall_ns + kSecond);
  rig.kill_and_keep();
  rig.work();
  waits(5, rig.wall_ns + kSecond);
  rig.wall_ns += kSecond;
  rig.work();
  waits(4, rig.wall_ns + kSecond);
  rig.stop_and_keep();
  rig.work();
  waits(4, rig.wall_ns + kSecond);
  rig.kill_and_start();
  rig.work();
  waits(4, rig.wall_ns + kSecond);
  rig.wall_ns += 2 * kSecond;
  rig.work();
  waits(2, rig.wall_ns + kSecond);
  rig.stop_and_start();
  waits(2, rig.wall_ns + kSecond);
  EXPECT_EQ(rig.partition().records, 5u);
  EXPECT_TRUE(rig.audit().holds);
  EXPECT_EQ(rig.counts_of(sender.id).delayed, 5u);
}

TEST(BusDelay, ATopicWithoutDelaysSaysThatNoneWait) {
  BusRig rig;
  rig.create_topic();
  EXPECT_EQ(rig.partition().delayed, 0u);
  EXPECT_EQ(rig.partition().next_due_ns, 0u);
}

// The daemon died between the append of a ref and its note: the ref is found in memory, and is not appended twice.
TEST(BusDelay, ARefThatWasAppendedAndNotCountedIsNotAppendedAgain) {
  BusRig rig;
  rig.create_topic();
  TestClient client = rig.attach();
  TestProducer sender = rig.produce(client);
  Position position;
  ASSERT_TRUE(sender.send_delayed(rig.wall_ns + kSecond, 10, position));
  rig.work();
  rig.wall_ns += kSecond;
  rig.turns(1);
  rig.kill_and_keep();
  rig.work();
  rig.stop_and_start();
  EXPECT_EQ(rig.refs_on_disk(), (std::map<Position, int>{{position, 1}}));
}

TEST(BusDelay, MemoryBehindAnOpenClaimIsLookedAtBeforeAnythingIsDue) {
  BusRig rig;
  rig.create_topic();
  TestClient client = rig.attach();
  TestProducer sender = rig.produce(client);
  TestProducer slow = rig.produce(client, 1);
  Position position;
  ASSERT_TRUE(sender.send_delayed(rig.wall_ns + kSecond, 10, position));
  rig.work();
  ring::OpenClaim claim;
  ASSERT_EQ(slow.appender->claim(8, 0, layout::RecordKind::data, claim), ring::AppendResult::ok);
  rig.wall_ns += kSecond;
  rig.work();  // the ref stands behind the claim
  rig.kill_and_keep();
  rig.turns(20);
  ring::Appended appended;
  ASSERT_EQ(slow.appender->commit(claim, 8, {}, 0, appended), ring::AppendResult::ok);
  rig.work();
  EXPECT_EQ(rig.partition().delayed, 0u);
  rig.stop_and_start();
  EXPECT_EQ(rig.refs_on_disk(), (std::map<Position, int>{{position, 1}}));
}

// A message that was delayed for longer than its topic keeps messages. The file that holds it is as old as can be.
struct OldMessageRig : BusRig {
  OldMessageRig() {
    core::TopicConfig config = small(core::Durability::async);
    config.retention_time_ns = 3600 * kSecond;
    create_topic(config);
    wall_ns = realtime_ns() - 60 * kSecond;
  }
  // By a producer that comes and goes.
  void fill(std::uint64_t time_ns) {
    const TestClient client = attach();
    TestProducer sender = produce(client);
    fill(sender, time_ns);
  }
  void fill(TestProducer& sender, std::uint64_t time_ns) {
    const std::vector<std::byte> payload(8000, std::byte{7});
    ring::Appended appended;
    for (int i = 0; i < 50; ++i)  // three files
      while (sender.appender->append({payload, {}, time_ns}, appended) != ring::AppendResult::ok) work();
    work_long();
  }
  // Some rounds of retention: one takes a checkpoint, the next may take what that has counted.
  void work_long() {
    work();
    turns(100);
    work();
  }
  void age_all() {
    const TestClient client = attach();
    core::TopicChange change;
    change.retention_time_ns = 1;
    ASSERT_TRUE(bus().alter_topic(client.id, kTopic, change));
    work_long();
  }
};

TEST(BusDelay, TheFileOfAMessageStaysForAsLongAsThatOfItsRef) {
  for (const auto& restart : std::vector<std::function<void(OldMessageRig&)>>{
           [](OldMessageRig&) {}, [](OldMessageRig& rig) { rig.kill_and_start(); },
           [](OldMessageRig& rig) { rig.stop_and_start(); }, [](OldMessageRig& rig) { rig.kill_and_keep(); },
           [](OldMessageRig& rig) { rig.stop_and_keep(); }}) {
    OldMessageRig rig;
    Position message;
    {
      const TestClient client = rig.attach();
      TestProducer sender = rig.produce(client);
      ASSERT_TRUE(sender.send_delayed(rig.wall_ns + kSecond, 10, message));
    }
    rig.fill(1);
    EXPECT_EQ(rig.partition().earliest, Position(0)) << "it waits";
    rig.wall_ns += kSecond;
    rig.work_long();
    ASSERT_EQ(rig.partition().delayed, 0u);
    EXPECT_EQ(rig.partition().earliest, Position(0)) << "nobody had the time to read it";
    restart(rig);
    rig.fill(realtime_ns());
    EXPECT_EQ(rig.partition().earliest, Position(0));
    restart(rig);
    rig.fill(realtime_ns());
    EXPECT_EQ(rig.partition().earliest, Position(0));
    rig.age_all();
    EXPECT_GT(rig.partition().earliest, message);
  }
}

TEST(BusDelay, WhatNoRefMeansGoesWithItsAge) {
  OldMessageRig rig;
  const TestClient client = rig.attach();
  TestProducer sender = rig.produce(client);
  rig.fill(sender, 1);
  Position message;
  ASSERT_TRUE(sender.send_delayed(rig.wall_ns + kSecond, 10, message));
  rig.fill(sender, 1);
  rig.wall_ns += kSecond;
  rig.fill(sender, realtime_ns());
  const Position earliest = rig.partition().earliest;
  EXPECT_GT(earliest, Position(2 * kSegmentSizeMin));
  EXPECT_LE(earliest, message);
}

class BusDelayTest : public testing::TestWithParam<int> {};

TEST_P(BusDelayTest, EachIsDeliveredOnceHoweverOftenTheDaemonDies) {
  std::mt19937_64 random(static_cast<std::uint64_t>(GetParam()));
  BusRig rig;
  rig.create_topic(small(GetParam() % 2 == 0 ? core::Durability::async : core::Durability::sync));
  std::map<Position, std::uint64_t> due;  // of all that were sent
  std::optional<TestClient> client = rig.attach();
  std::optional<TestProducer> sender = rig.produce(*client);
  std::vector<ProducerId> producers{sender->id};
  std::uint64_t sent = 0;
  for (int step = 0; step < 50; ++step) {
    for (std::uint64_t i = random() % 40; i != 0; --i) {
      const std::uint64_t at = rig.wall_ns + random() % (20 * kSecond);
      Position position;
      if (random() % 3 == 0) {
        sender->appender->append({{}, {}, 1}, *std::make_unique<ring::Appended>());
      } else if (sender->send_delayed(at, random() % 3000, position)) {
        due[position] = at;
        ++sent;
      }
    }
    rig.wall_ns += random() % kSecond;
    const std::uint64_t next = random() % 10;
    if (next < 4) rig.work();
    if (next == 4 || next == 5) rig.turns(1 + random() % 3);
    if (next == 6 || next == 7) rig.kill_and_keep();
    if (next == 8) rig.stop_and_keep();
    if (next != 9) continue;
    // Lost memory: what was on disk goes on; who was attached comes back as somebody else.
    rig.work();
    sender.reset();
    client.reset();
    if (random() % 2 == 0)
      rig.kill_and_start();
    else
      rig.stop_and_start();
    client.emplace(rig.attach());
    sender.emplace(rig.produce(*client));
    producers.push_back(sender->id);
  }
  rig.work();
  std::uint64_t waiting = 0;
  for (const auto& [position, at] : due) waiting += at > rig.wall_ns ? 1 : 0;
  EXPECT_EQ(rig.partition().delayed, waiting);
  rig.wall_ns += 20 * kSecond;
  rig.work();
  EXPECT_EQ(rig.partition().delayed, 0u);
  std::uint64_t counted = 0;
  for (const ProducerId id : producers) counted += rig.counts_of(id).delayed;
  EXPECT_EQ(counted, sent);
  EXPECT_TRUE(rig.audit().holds);
  sender.reset();
  rig.stop_and_start();
  std::map<Position, int> expected;
  for (const auto& [position, at] : due) expected[position] = 1;
  EXPECT_EQ(rig.refs_on_disk(), expected);
}
INSTANTIATE_TEST_SUITE_P(Seeds, BusDelayTest, testing::Range(0, 16));

}  // namespace
}  // namespace sluice::bus
