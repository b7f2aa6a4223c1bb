// A bus that dies and is started again over the memory that it left.
#include <algorithm>
#include <map>
#include <random>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "daemon/bus/kept_audit.h"
#include "daemon/bus/kept_state.h"
#include "shm/base/limits.h"
#include "shm/layout/regions.h"
#include "tests/daemon/bus/bus_rig.h"

namespace sluice::bus {
namespace {

core::TopicConfig small(core::Durability durability) {
  core::TopicConfig config;
  config.durability = durability;
  config.segment_size = kSegmentSizeMin;
  config.slots = 4;
  return config;
}

core::Durability durability_of(int n) {
  return n % 3 == 0 ? core::Durability::async : n % 3 == 1 ? core::Durability::sync : core::Durability::volatile_;
}

// As much as there is room for; says how much that was.
std::uint64_t send_some(TestProducer& producer, std::uint32_t count, std::size_t size) {
  const std::vector<std::byte> payload(size, std::byte{7});
  std::uint64_t sent = 0;
  ring::Appended appended;
  while (sent < count && producer.appender->append({payload, {}, 1}, appended) == ring::AppendResult::ok) ++sent;
  return sent;
}

TEST(Continuity, AProducerGoesOnWithoutNoticing) {
  BusRig rig;
  rig.create_topic();
  TestClient client = rig.attach();
  TestProducer sender = rig.produce(client);
  sender.send(5);
  rig.kill_and_keep();
  sender.send(5);
  rig.work();
  EXPECT_EQ(rig.counts_of(sender.id).data, 10u);
  EXPECT_TRUE(rig.audit().holds);
  EXPECT_GT(rig.produce(client, 1).id, sender.id) << "its session is known, and no id is given twice";
}

// The counts were saved up to the start of the new memory, and the log still ends in the old one's.
TEST(Continuity, AStopBeforeTheFirstMessageOfANewMemoryIsNoDamage) {
  BusRig rig;
  rig.create_topic();
  {
    TestClient client = rig.attach();
    rig.produce(client).send(5);
    rig.work();
  }
  rig.kill_and_start();
  TestClient client = rig.attach();
  TestProducer sender = rig.produce(client);
  rig.stop_and_keep();
  sender.send(2);
  rig.work();
  EXPECT_EQ(rig.counts_of(sender.id).data, 2u) << "its memory goes on";
  EXPECT_TRUE(rig.audit().holds);
}

class ContinuityTest : public testing::TestWithParam<int> {};

// Whatever was committed is counted exactly once, however often the daemon dies and wherever it stood.
TEST_P(ContinuityTest, NothingIsLostAndNothingCountedTwice) {
  std::mt19937_64 random(static_cast<std::uint64_t>(GetParam()));
  const core::Durability durability = durability_of(GetParam());
  BusRig rig;
  rig.create_topic(small(durability));
  TestClient client = rig.attach();
  std::vector<TestProducer> senders;
  std::vector<std::uint64_t> sent(3, 0);
  for (std::uint32_t i = 0; i < 3; ++i) senders.push_back(rig.produce(client, i));
  for (int step = 0; step < 60; ++step) {
    const std::size_t i = random() % senders.size();
    const auto count = static_cast<std::uint32_t>(random() % 60);
    sent[i] += send_some(senders[i], count, random() % 3000);
    const std::uint64_t next = random() % 8;
    if (next < 4) rig.work();
    if (next == 4) rig.turns(1 + random() % 3);
    if (next >= 6) rig.kill_and_keep();
    if (next == 5 && random() % 4 == 0) rig.stop_and_keep();
  }
  rig.work();
  for (std::size_t i = 0; i < senders.size(); ++i) EXPECT_EQ(rig.counts_of(senders[i].id).data, sent[i]) << i;
  const session::AuditReport report = rig.audit();
  EXPECT_TRUE(report.holds);
  if (durability == core::Durability::volatile_) return;
  rig.kill_and_start();
  EXPECT_TRUE(rig.audit().holds);
  for (std::size_t i = 0; i < senders.size(); ++i) EXPECT_EQ(rig.counts_of(senders[i].id).data, sent[i]) << i;
}
INSTANTIATE_TEST_SUITE_P(Seeds, ContinuityTest, testing::Range(0, 60));

TEST(Continuity, AnOpenClaimOfTheLivingStays) {
  BusRig rig;
  rig.create_topic();
  TestClient client = rig.attach();
  TestProducer sender = rig.produce(client);
  ring::OpenClaim claim;
  ASSERT_EQ(sender.appender->claim(8, 0, layout::RecordKind::data, claim), ring::AppendResult::ok);
  rig.kill_and_keep();
  rig.work();
  ring::Appended appended;
  EXPECT_EQ(sender.appender->commit(claim, 8, {}, 0, appended), ring::AppendResult::ok);
  rig.work();
  EXPECT_EQ(rig.counts_of(sender.id).data, 1u);
}

TEST(Continuity, AClientThatDiedMeanwhileIsRepaired) {
  BusRig rig;
  rig.create_topic();
  TestClient dying = rig.attach();
  TestClient living = rig.attach();
  TestProducer victim = rig.produce(dying);
  TestProducer other = rig.produce(living);
  ring::OpenClaim claim;
  ASSERT_EQ(victim.appender->claim(8, 0, layout::RecordKind::data, claim), ring::AppendResult::ok);
  other.send(3);
  const SessionId id = dying.id;
  rig.kill_and_keep();
  dying.region = {};
  EXPECT_THAT(rig.bus().disconnected_sessions(), testing::IsSupersetOf({id, living.id}));
  EXPECT_TRUE(rig.bus().on_peer(id, session::PeerEvent::look));
  EXPECT_FALSE(rig.bus().on_peer(living.id, session::PeerEvent::look));
  rig.work();
  EXPECT_EQ(rig.counts_of(victim.id).aborted, 1u);
  EXPECT_EQ(rig.counts_of(other.id).data, 3u);
  EXPECT_EQ(rig.keeper().names().count(session_fd_name(id)), 0u);
}

TEST(Continuity, ASessionIsResumedByItsTokenAndKeepsItsReaders) {
  BusRig rig;
  rig.create_topic(small(core::Durability::volatile_));
  TestClient client = rig.attach();
  session::OpenReader open{BusRig::kTopic, {{0, 3}}};
  const std::uint64_t reader = rig.bus().open_reader(client.id, open).value().id;
  rig.kill_and_keep();
  session::HelloRequest hello;
  hello.peer = client.peer;
  hello.resume_token = client.token;
  const session::Welcome welcome = rig.bus().attach(std::move(hello)).value();
  EXPECT_TRUE(welcome.resumed);
  EXPECT_EQ(welcome.session, client.id);
  // Its cursor holds the ring: nothing is dropped or overwritten before it was read.
  client.region.at<layout::SessionRegion>()->cursors[3].position.store(0);
  TestProducer sender = rig.produce(client);
  const std::uint64_t sent = send_some(sender, 1000, 1000);
  rig.work();
  EXPECT_EQ(send_some(sender, 1000, 1000), 0u);
  EXPECT_LT(sent, 1000u);
  EXPECT_TRUE(rig.bus().close_reader(client.id, reader));
  rig.work();
  EXPECT_GT(send_some(sender, 1000, 1000), 0u);
}

TEST(Continuity, AFenceAndANameOutliveTheDaemon) {
  BusRig rig;
  rig.create_topic();
  TestClient first = rig.attach();
  TestProducer old = rig.produce(first, 0, "till-1");
  old.send(2);
  TestClient second = rig.attach();
  TestProducer fresh = rig.produce(second, 0, "till-1");
  fresh.send(1);
  old.send(1);  // above its fence
  rig.kill_and_keep();
  fresh.send(1);
  old.send(1);
  rig.work();
  EXPECT_EQ(rig.counts_of(old.id).data, 2u);
  EXPECT_EQ(rig.counts_of(old.id).fenced, 2u);
  EXPECT_EQ(rig.counts_of(fresh.id).data, 2u);
  TestClient third = rig.attach();
  EXPECT_EQ(rig.produce(third, 0, "till-1").appender->next_sequence(), Sequence(5));
}

// Nothing of all this is in the store's counts when the next daemon starts, nor when the one after it does.
TEST(Continuity, FormerHoldersOfANameAreCountedRightOverTwoRestarts) {
  BusRig rig;
  rig.create_topic();
  TestClient client = rig.attach();
  TestProducer first = rig.produce(client, 0, "till-1");
  first.send(2);
  TestProducer second = rig.produce(client, 1, "till-1");
  second.send(3);
  rig.work();
  TestProducer third = rig.produce(client, 2, "till-1");
  third.send(1);
  rig.kill_and_keep();
  rig.kill_and_keep();
  rig.work();
  EXPECT_EQ(rig.counts_of(second.id).data, 3u);
  EXPECT_EQ(rig.counts_of(third.id).sequence_first, Sequence(6));
  EXPECT_TRUE(rig.audit().holds);
}

// What the old holder sent last is in memory alone when the next daemon starts.
TEST(Continuity, ANewHolderGoesOnBehindWhatIsNotOnDiskYet) {
  BusRig rig;
  rig.create_topic();
  TestClient client = rig.attach();
  TestProducer old = rig.produce(client, 0, "till-1");
  old.send(2);
  rig.work();
  old.send(3);
  TestProducer fresh = rig.produce(client, 1, "till-1");
  rig.kill_and_keep();
  fresh.send(1);
  rig.work();
  EXPECT_EQ(rig.counts_of(old.id).data, 5u);
  EXPECT_EQ(rig.counts_of(fresh.id).sequence_first, Sequence(6));
  EXPECT_TRUE(rig.audit().holds);
}

// After lost memory positions begin above what is on disk, and nothing was sent to this one before the stop.
TEST(Continuity, AnIdlePartitionsMemoryIsKeptOverAStop) {
  BusRig rig;
  rig.create_topic();
  {
    TestClient client = rig.attach();
    rig.produce(client).send(3);
    rig.work();
  }
  rig.kill_and_start();
  TestClient client = rig.attach();
  rig.stop_and_keep();
  EXPECT_TRUE(rig.bus().describe_topic(client.id, BusRig::kTopic)) << "its session is known";
}

// A stop that ends before a stuck claim does: what a new holder was told lies behind it, and is lost with the memory.
TEST(Continuity, AStopSavesNothingThatANewHolderWasToldOfTooEarly) {
  BusRig rig;
  rig.create_topic();
  TestClient client = rig.attach();
  TestProducer old = rig.produce(client, 0, "till-1");
  TestProducer stuck = rig.produce(client, 1);
  old.send(2);
  ring::OpenClaim claim;
  ASSERT_EQ(stuck.appender->claim(8, 0, layout::RecordKind::data, claim), ring::AppendResult::ok);
  old.send(3);
  EXPECT_EQ(rig.produce(client, 2, "till-1").appender->next_sequence(), Sequence(6));
  rig.stop_and_start();
  TestClient other = rig.attach();
  EXPECT_EQ(rig.produce(other, 0, "till-1").appender->next_sequence(), Sequence(3));
}

TEST(Continuity, WhatBelongsToADeletedTopicIsDropped) {
  BusRig rig;
  rig.create_topic();
  const TestClient client = rig.attach();
  EXPECT_EQ(rig.keeper().names().count("l1"), 1u);
  ASSERT_TRUE(rig.bus().delete_topic(client.id, BusRig::kTopic));
  EXPECT_EQ(rig.keeper().names().count("l1"), 0u);
  rig.kill_and_keep();
  EXPECT_FALSE(rig.bus().describe_topic(client.id, BusRig::kTopic));
}

TEST(Continuity, WithoutOneOfItsRegionsAllMemoryIsLetGo) {
  BusRig rig;
  rig.create_topic();
  TestClient client = rig.attach();
  TestProducer sender = rig.produce(client);
  sender.send(4);
  rig.work();
  sender.send(3);  // not on disk
  rig.keeper().drop("b1");
  rig.kill_and_keep();
  EXPECT_FALSE(rig.bus().describe_topic(client.id, BusRig::kTopic)) << "its session has ended";
  EXPECT_EQ(rig.counts_of(sender.id).data, 4u);
  const TestClient other = rig.attach();
  const auto checks = rig.bus().doctor(other.id, true).value();
  EXPECT_TRUE(std::any_of(checks.begin(), checks.end(), [](const session::DoctorCheck& check) {
    return check.detail.find("b1 was not handed back") != std::string::npos;
  }));
}

TEST(Continuity, ANewerLayoutIsRefusedAndNotTouched) {
  BusRig rig;
  rig.create_topic();
  keep::Inheritance inherited = rig.keeper().inheritance();
  region::Mapping table =
      region::Mapping::map(inherited.at("table").get(), region::Access::read_write, "the table").value();
  table.at<layout::RegionHeader>()->version = layout::kRegionVersion + 1;
  const std::set<std::string> held = rig.keeper().names();
  EXPECT_EQ(rig.try_kill_and_keep().error().code(), ErrorCode::version);
  EXPECT_EQ(rig.keeper().names(), held);
  table.at<layout::RegionHeader>()->version = layout::kRegionVersion;
  EXPECT_TRUE(rig.try_kill_and_keep());
}

TEST(Continuity, AFullStoreIsAClearError) {
  BusRig rig;
  rig.create_topic();
  rig.keeper().set_capacity(rig.keeper().held() + 1);
  TestClient client = rig.attach();
  session::HelloRequest hello;
  hello.peer = client.peer;
  EXPECT_EQ(rig.bus().attach(std::move(hello)).error().code(), ErrorCode::quota);
  core::TopicRequest request;
  request.config.name = "more";
  EXPECT_EQ(rig.bus().create_topic(client.id, std::move(request)).error().code(), ErrorCode::quota);
  EXPECT_FALSE(rig.bus().describe_topic(client.id, "more"));
  core::TopicChange change;
  change.partitions = 4;
  EXPECT_EQ(rig.bus().alter_topic(client.id, BusRig::kTopic, change).error().code(), ErrorCode::quota);
  EXPECT_EQ(rig.bus().describe_topic(client.id, BusRig::kTopic)->partitions.size(), 1u);
}

// The room was there when it was asked for, and is gone half-way.
TEST(Continuity, PartitionsThatCannotBeKeptAreTakenBack) {
  BusRig rig;
  rig.create_topic();
  TestClient client = rig.attach();
  core::TopicChange change;
  change.partitions = 4;
  rig.keeper().refuse_after(5);
  EXPECT_EQ(rig.bus().alter_topic(client.id, BusRig::kTopic, change).error().code(), ErrorCode::io);
  EXPECT_EQ(rig.bus().describe_topic(client.id, BusRig::kTopic)->partitions.size(), 1u);
  rig.keeper().refuse_after(UINT64_MAX);
  TestProducer sender = rig.produce(client);
  sender.send(3);
  rig.work();
  ASSERT_TRUE(rig.bus().alter_topic(client.id, BusRig::kTopic, change));
  EXPECT_EQ(rig.bus().describe_topic(client.id, BusRig::kTopic)->partitions.size(), 4u);
  rig.kill_and_keep();
  EXPECT_EQ(rig.bus().describe_topic(client.id, BusRig::kTopic)->partitions.size(), 4u);
  EXPECT_EQ(rig.counts_of(sender.id).data, 3u);
}

// It had handed regions over, and noted none of them: the next start makes them anew, under the same names.
TEST(Continuity, AStartThatDiedBeforeItHadNotedItsRegionsCostsNothingLater) {
  BusRig rig;
  rig.create_topic();
  rig.work();
  rig.keeper().refuse_after(4);  // eventfd, table, and two regions
  EXPECT_FALSE(rig.try_kill_and_start());
  rig.keeper().refuse_after(UINT64_MAX);
  rig.kill_and_keep();
  TestClient client = rig.attach();
  TestProducer sender = rig.produce(client);
  sender.send(3);
  rig.kill_and_keep();
  rig.work();
  EXPECT_EQ(rig.counts_of(sender.id).data, 3u) << "its memory goes on";
}

TEST(Continuity, ABusWithMorePartitionsThanCanBeKeptGoesOnWithoutAndSaysSo) {
  BusRig rig;
  core::TopicConfig config;
  config.partitions = 8;
  rig.create_topic(config);
  rig.keeper().set_capacity(16);
  rig.keeper().drop_all_but({});
  rig.kill_and_keep();
  const TestClient client = rig.attach();
  const auto checks = rig.bus().doctor(client.id, true).value();
  EXPECT_TRUE(std::any_of(checks.begin(), checks.end(), [](const session::DoctorCheck& check) {
    return check.detail.find("memory will not outlive this daemon") != std::string::npos;
  }));
  EXPECT_EQ(rig.keeper().held(), 0u);
}

// As daemons wrote them before transactors were noted.
TEST(KeptState, ASessionWithoutTransactorsIsReadAndSaysSo) {
  keep::KeptTable table = keep::KeptTable::create(Incarnation(7)).value();
  KeptState state;
  state.incarnation = Incarnation(7);
  ASSERT_TRUE(note_bus(table, state));
  EXPECT_TRUE(read_state(table)->has_transactors);
  session::SessionTable sessions{Incarnation(7)};
  session::Session* const session = sessions.create({}, "shop", true).value();
  session->add_transactor(ProducerId(5), "orders");
  ASSERT_TRUE(note_session(table, *session));
  const auto read = read_state(table);
  EXPECT_TRUE(read->has_transactors);
  EXPECT_EQ(read->sessions.at(0).transactors, (std::map<ProducerId, std::string>{{ProducerId(5), "orders"}}));
  const auto entry = std::find_if(table.entries().begin(), table.entries().end(),
                                  [&](const auto& one) { return one.second.find("\"token\"") != std::string::npos; });
  ASSERT_NE(entry, table.entries().end());
  auto json = nlohmann::json::parse(entry->second);
  json.erase("transactors");
  ASSERT_TRUE(table.put(entry->first, json.dump()));
  const auto older = read_state(table);
  ASSERT_TRUE(older) << older.error().message();
  EXPECT_FALSE(older->has_transactors);
  EXPECT_EQ(older->sessions.size(), 1u);
}

TEST(KeptAudit, ACheckpointComesBackAndACutOneIsTold) {
  spill::Checkpoint checkpoint;
  checkpoint.upto = Position(4096);
  core::AuditRow row;
  row.producer = ProducerId(3);
  row.name = std::string("a\0b", 3);
  row.counts.sequence_first = Sequence(1);
  row.counts.sequence_last = Sequence(5);
  row.counts.data = 4;
  row.counts.aborted = 1;
  checkpoint.rows = {row, core::AuditRow{}};
  checkpoint.bookmarks = {{ProducerId(3), {Sequence(5), "mark"}}};
  checkpoint.halves.decided = 9;
  checkpoint.halves.late = {Position(64), Position(192)};
  const std::string bytes = encode_checkpoint(checkpoint);
  const spill::Checkpoint read = decode_checkpoint(bytes).value();
  EXPECT_EQ(read.upto, checkpoint.upto);
  EXPECT_EQ(read.rows, checkpoint.rows);
  EXPECT_EQ(read.halves, checkpoint.halves);
  ASSERT_EQ(read.bookmarks.size(), 1u);
  EXPECT_EQ(read.bookmarks[0].second.bookmark, "mark");
  for (std::size_t size = 0; size < bytes.size(); ++size)
    EXPECT_EQ(decode_checkpoint(bytes.substr(0, size)).error().code(), ErrorCode::corrupt) << size;
  EXPECT_EQ(decode_checkpoint(bytes + "x").error().code(), ErrorCode::corrupt);
}

}  // namespace
}  // namespace sluice::bus
