// Seeks of a group, its safe horizon and its epochs, over a bus and restarts of it; the test plays the member.
#include <optional>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "shm/base/limits.h"
#include "shm/layout/member_region.h"
#include "tests/daemon/bus/bus_rig.h"

namespace sluice::bus {
namespace {

constexpr std::uint64_t kSecond = 1'000'000'000;
constexpr const char* kGroup = "billing";

// One member of an ordered group, which has partition 0.
struct Reader {
  explicit Reader(BusRig& bus_rig) : rig(bus_rig) { join(); }

  session::GroupInterface& groups() { return rig.bus().groups(); }
  void join(std::vector<session::HeldPartition> held = {}) {
    client.emplace(rig.attach());
    session::JoinGroup request;
    request.group = kGroup;
    request.topics = {BusRig::kTopic};
    request.start.kind = core::GroupStart::Kind::earliest;
    request.held_partitions = std::move(held);
    grant = groups().join_group(client->id, std::move(request)).value();
    region.emplace(region::Mapping::map(grant.region.get(), region::Access::read_write, "member").value());
    accept();
  }
  layout::MemberRegion& shared() { return *region->at<layout::MemberRegion>(); }
  // Takes what it is assigned.
  void accept() {
    const auto list = groups().assignments(client->id, grant.member).value();
    ASSERT_EQ(list.size(), 1u);
    assignment = list.front();
    layout::AssignmentCell& cell = shared().cells[assignment.cell];
    cell.acked.store(assignment.start.value);
    cell.accepted.store(assignment.generation);
  }
  // Everything below is settled.
  void ack(Position end) {
    shared().cells[assignment.cell].acked.store(end.value);
    EXPECT_TRUE(groups().save_acks(client->id, grant.member));
  }
  void nack(Position position, Position end) {
    layout::OutcomeEntry entry{};
    entry.target = position.value;
    entry.argument = kSecond * 3600;
    entry.place = assignment.cell;
    entry.generation = static_cast<std::uint32_t>(assignment.generation);
    entry.verb = static_cast<std::uint8_t>(layout::OutcomeVerb::nack);
    const std::uint64_t written = shared().outcomes_written.load();
    shared().outcomes[written % kOutcomesMax] = entry;
    shared().outcomes_written.store(written + 1);
    ack(end);
  }
  session::SafeHorizon horizon() { return groups().safe_horizon(client->id, kGroup, BusRig::kTopic, 0).value(); }
  Result<std::vector<session::SeekResult>> seek(Position to, bool force = false, bool execute = true) {
    session::SeekGroup request;
    request.group = kGroup;
    request.to.kind = core::GroupStart::Kind::position;
    request.to.position = to;
    request.execute = execute;
    request.force = force;
    return groups().seek_group(client->id, std::move(request));
  }
  std::vector<core::EpochStart> epochs() {
    return groups().group_epochs(client->id, kGroup, assignment.topic_id, 0).value();
  }
  session::GroupInfo info() { return groups().describe_groups(client->id, kGroup).value().front(); }

  BusRig& rig;
  std::optional<TestClient> client;
  session::MemberGrant grant;
  std::optional<region::Mapping> region;
  session::Assignment assignment;
};

struct Records {
  // Of one size: where each begins, and where the last one ends.
  Records(BusRig& rig, TestProducer& producer, std::uint32_t count) {
    for (std::uint32_t i = 0; i < count; ++i) {
      positions.push_back(rig.partition().committed);
      producer.send(1);
      rig.work();
    }
    positions.push_back(rig.partition().committed);
  }
  std::vector<Position> positions;
};

struct Seek : testing::Test {
  Seek() {
    core::TopicConfig config;
    config.segment_size = kSegmentSizeMin;
    config.slots = 4;
    rig.create_topic(config);
    sender_client.emplace(rig.attach());
    sender.emplace(rig.produce(*sender_client));
  }
  BusRig rig;
  std::optional<TestClient> sender_client;
  std::optional<TestProducer> sender;
};

TEST_F(Seek, WhoWasNeverToldAHorizonIsMovedWithoutForce) {
  const Records records(rig, *sender, 4);
  Reader reader(rig);
  reader.ack(records.positions[4]);
  const auto moves = reader.seek(records.positions[1]).value();
  ASSERT_EQ(moves.size(), 1u);
  EXPECT_EQ(moves[0].from, records.positions[4]);
  EXPECT_EQ(moves[0].to, records.positions[1]);
  EXPECT_FALSE(moves[0].below_horizon);
  EXPECT_EQ(reader.info().epoch, 0u);
  EXPECT_TRUE(reader.epochs().empty());
  reader.accept();
  EXPECT_EQ(reader.assignment.start, records.positions[1]);
  EXPECT_EQ(reader.assignment.seeks, 1u);
}

TEST_F(Seek, TheHorizonIsWhatIsSettledAndStaysSaid) {
  const Records records(rig, *sender, 5);
  Reader reader(rig);
  reader.ack(records.positions[3]);
  EXPECT_EQ(reader.horizon().below, records.positions[3]);
  reader.nack(records.positions[3], records.positions[5]);
  EXPECT_EQ(reader.horizon().below, records.positions[3]) << "what waits for its retry holds it";
  EXPECT_EQ(reader.info().partitions.front().safe_horizon, records.positions[3]);
  rig.kill_and_start();
  Reader after(rig);
  EXPECT_EQ(after.horizon().below, records.positions[3]);
  EXPECT_EQ(after.info().partitions.front().safe_horizon, records.positions[3]);
}

TEST_F(Seek, BelowTheHorizonItMustBeForcedAndBeginsAnEpoch) {
  const Records records(rig, *sender, 6);
  Reader reader(rig);
  reader.ack(records.positions[4]);
  ASSERT_EQ(reader.horizon().below, records.positions[4]);
  EXPECT_TRUE(reader.seek(records.positions[2], false, false).value().front().below_horizon) << "a dry run tells";
  const auto refused = reader.seek(records.positions[2]);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), ErrorCode::conflict);
  EXPECT_EQ(reader.info().partitions.front().cursor, records.positions[4]) << "nothing has moved";
  EXPECT_TRUE(reader.seek(records.positions[5])) << "ahead needs no force";

  ASSERT_TRUE(reader.seek(records.positions[2], true));
  EXPECT_EQ(reader.shared().epoch.load(), 1u);
  EXPECT_EQ(reader.info().epoch, 1u);
  EXPECT_EQ(reader.epochs(), (std::vector<core::EpochStart>{{records.positions[2], 1}}));
  reader.accept();
  EXPECT_EQ(reader.assignment.seeks, 2u);
  session::SafeHorizon said = reader.horizon();
  EXPECT_EQ(said.epoch, 1u);
  EXPECT_EQ(said.below, records.positions[2]);
  reader.ack(records.positions[6]);
  said = reader.horizon();
  EXPECT_EQ(said.epoch, 1u);
  EXPECT_EQ(said.below, records.positions[6]);

  rig.kill_and_start();
  Reader after(rig);
  EXPECT_EQ(after.shared().epoch.load(), 1u);
  EXPECT_EQ(after.epochs(), (std::vector<core::EpochStart>{{records.positions[2], 1}}));
  ASSERT_TRUE(after.seek(records.positions[4], true));
  EXPECT_EQ(after.epochs(), (std::vector<core::EpochStart>{{records.positions[2], 1}, {records.positions[4], 2}}));
  after.accept();
  after.ack(records.positions[6]);
  said = after.horizon();
  EXPECT_EQ(said.below, records.positions[6]);
  EXPECT_EQ(said.epoch, 2u);
}

// What a member says of a time before a seek: it has not heard of it, for the daemon was away.
TEST_F(Seek, AMemberThatComesBackDoesNotUndoIt) {
  const Records records(rig, *sender, 4);
  Reader reader(rig);
  reader.ack(records.positions[4]);
  session::HeldPartition held{reader.assignment.topic_id, 0, records.positions[4], Position(), records.positions[3],
                              reader.assignment.seeks};
  ASSERT_TRUE(reader.seek(records.positions[1]));
  rig.kill_and_start();
  reader.join({held});
  EXPECT_EQ(reader.info().partitions.front().cursor, records.positions[1]);
  EXPECT_EQ(reader.assignment.start, records.positions[1]);
  // With words of a time behind it they count.
  held.acked = records.positions[2];
  held.newest = records.positions[1];
  held.seeks = reader.assignment.seeks;
  rig.kill_and_start();
  reader.join({held});
  EXPECT_EQ(reader.info().partitions.front().cursor, records.positions[2]);
}

// A message that waits is known by where it stands, and delivered further up: until then it holds the horizon.
TEST_F(Seek, ADelayedMessageHoldsTheHorizonUntilItsRefIsSettled) {
  Position delayed;
  ASSERT_TRUE(sender->send_delayed(rig.wall_ns + kSecond, 10, delayed));
  rig.work();
  const Records records(rig, *sender, 3);
  Reader reader(rig);
  reader.ack(records.positions[3]);
  EXPECT_EQ(reader.horizon().below, delayed);
  rig.wall_ns += kSecond;
  rig.work();
  const Position ref = records.positions[3];
  const Position end = rig.partition().committed;
  ASSERT_GT(end, ref) << "its ref";
  EXPECT_EQ(reader.horizon().below, delayed);
  reader.ack(end);
  EXPECT_EQ(reader.horizon().below, end);
  // Who goes back to the ref brings the message back.
  ASSERT_TRUE(reader.seek(ref, true));
  EXPECT_EQ(reader.epochs(), (std::vector<core::EpochStart>{{delayed, 1}}));
}

// Of what lies behind a group's cursor a daemon that is new has not met the refs.
TEST_F(Seek, RefsOfADaemonBeforeHoldTheHorizonToo) {
  const Records below(rig, *sender, 2);
  Position delayed;
  ASSERT_TRUE(sender->send_delayed(rig.wall_ns + kSecond, 10, delayed));
  const Records records(rig, *sender, 3);
  rig.wall_ns += kSecond;
  rig.work();
  const Position end = rig.partition().committed;
  ASSERT_GT(end, records.positions[3]) << "its ref";
  Reader reader(rig);
  reader.ack(records.positions[2]);
  for (const bool keeps : {true, false}) {
    if (keeps)
      rig.kill_and_keep();
    else
      rig.stop_and_start();
    Reader after(rig);
    EXPECT_EQ(after.assignment.start, records.positions[2]);
    EXPECT_LE(after.horizon().below, delayed) << keeps;
    if (keeps) continue;
    after.ack(end);
    EXPECT_EQ(after.horizon().below, end);
  }
}

TEST_F(Seek, AHorizonIsSaidWhereThereIsACursor) {
  const Records records(rig, *sender, 1);
  Reader reader(rig);
  const auto ask = [&](const std::string& group, const std::string& topic, PartitionNumber partition) {
    return reader.groups().safe_horizon(reader.client->id, group, topic, partition).error().code();
  };
  EXPECT_EQ(ask("none", BusRig::kTopic, 0), ErrorCode::not_found);
  EXPECT_EQ(ask(kGroup, "none", 0), ErrorCode::not_found);
  EXPECT_EQ(ask(kGroup, BusRig::kTopic, 1), ErrorCode::not_found);
}

}  // namespace
}  // namespace sluice::bus
