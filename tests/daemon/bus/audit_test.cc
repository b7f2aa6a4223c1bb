// What the audit says outlives the daemon, and does not grow with the number of producers that ever lived.
#include <gtest/gtest.h>

#include "tests/daemon/bus/bus_rig.h"

namespace sluice::bus {
namespace {

TEST(BusAudit, WhatWasReportedAsLostIsKnownToTheNextStartThoughNothingWasWrittenSince) {
  BusRig rig;
  rig.create_topic();
  TestClient client = rig.attach();
  const ProducerId sender = rig.produce(client).id;
  rig.kill_and_start();
  client = rig.attach();
  const TopicId topic = rig.bus().describe_topic(client.id, BusRig::kTopic).value().record.id;
  ASSERT_TRUE(rig.bus().report_sequences(client.id, topic, {{0, sender, Sequence(7)}}));
  EXPECT_EQ(rig.counts_of(sender).cut, 7u);
  rig.kill_and_start();
  EXPECT_EQ(rig.counts_of(sender).cut, 7u);
  // Told again, since the answer may have been lost.
  client = rig.attach();
  ASSERT_TRUE(rig.bus().report_sequences(client.id, topic, {{0, sender, Sequence(7)}}));
  EXPECT_EQ(rig.cut(), 7u);
}

TEST(BusAudit, AReportIsKnownToTheNextStartWhileOthersSend) {
  BusRig rig;
  core::TopicConfig config;
  config.segment_size = kSegmentSizeMin;  // a checkpoint of the audit comes soon
  rig.create_topic(config);
  TestClient client = rig.attach();
  TestProducer sender = rig.produce(client);
  sender.send(3);
  rig.work();
  rig.kill_and_start();
  client = rig.attach();
  TestProducer other = rig.produce(client);
  for (int i = 0; i < 20; ++i) {
    other.send(4000);
    rig.work();
  }
  other.send(5);  // not durable yet: the report must not wait for it
  const TopicId topic = rig.bus().describe_topic(client.id, BusRig::kTopic).value().record.id;
  ASSERT_TRUE(rig.bus().report_sequences(client.id, topic, {{0, sender.id, Sequence(10)}}));
  rig.kill_and_start();
  EXPECT_EQ(rig.counts_of(sender.id).data, 3u);
  EXPECT_EQ(rig.counts_of(sender.id).cut, 7u);
  EXPECT_GE(rig.counts_of(other.id).data, 80'000u);
}

TEST(BusAudit, WhatRetentionTakesIsCountedForEver) {
  BusRig rig;
  core::TopicConfig config;
  config.segment_size = kSegmentSizeMin;
  config.retention_bytes = 1;
  rig.create_topic(config);
  TestClient client = rig.attach();
  TestProducer sender = rig.produce(client);
  for (int i = 0; i < 30; ++i) {
    sender.send(1000);
    rig.work();
  }
  const TopicId topic = rig.bus().describe_topic(client.id, BusRig::kTopic).value().record.id;
  EXPECT_EQ(rig.bus().locate(client.id, topic, 0, Position(0), false).value().kind,
            session::LocateAnswer::Kind::trimmed);
  rig.kill_and_start();
  EXPECT_EQ(rig.counts_of(sender.id).data, 30'000u);
  EXPECT_TRUE(rig.audit().holds);
}

TEST(BusAudit, AReportOnAProducerOfThisLifeCountsNothing) {
  BusRig rig;
  rig.create_topic();
  TestClient client = rig.attach();
  TestProducer sender = rig.produce(client);
  sender.send(2);
  const TopicId topic = rig.bus().describe_topic(client.id, BusRig::kTopic).value().record.id;
  ASSERT_TRUE(rig.bus().close_producer(client.id, sender.id));
  ASSERT_TRUE(rig.bus().report_sequences(client.id, topic, {{0, sender.id, Sequence(100)}}));
  EXPECT_EQ(rig.cut(), 0u);
  EXPECT_TRUE(rig.audit().holds);
}

// Each attaches, sends two messages and goes, as a command in a shell does.
void send_and_end(BusRig& rig, std::uint32_t producers) {
  for (std::uint32_t i = 0; i < producers; ++i) {
    TestClient client = rig.attach();
    rig.produce(client).send(2);
    rig.end(std::move(client));
    rig.work();
  }
}

std::uint64_t data_of(const session::AuditReport& report) {
  std::uint64_t data = 0;
  for (const session::AuditRow& row : report.rows) data += row.row.counts.data;
  return data;
}

TEST(BusAudit, DoesNotGrowWithTheProducersThatHaveEndedAndStillHolds) {
  constexpr std::uint32_t kProducers = 2 * kAuditEndedRowsMax + 10;
  BusRig rig;
  rig.create_topic();
  const TestClient client = rig.attach();
  TestProducer living = rig.produce(client);
  living.send(1);
  send_and_end(rig, kProducers);
  const session::AuditReport report = rig.audit();
  EXPECT_TRUE(report.holds);
  EXPECT_EQ(report.rows.size(), kAuditEndedRowsMax + 2) << "the living one's and the sum of the others";
  EXPECT_EQ(data_of(report), 2 * kProducers + 1);
  rig.work();
  // A kill: the snapshot of the last fold and the records behind it say the same.
  rig.kill_and_start();
  const session::AuditReport after = rig.audit();
  EXPECT_TRUE(after.holds);
  EXPECT_EQ(data_of(after), 2 * kProducers + 1);
  EXPECT_LE(after.rows.size(), 2 * kAuditEndedRowsMax + 2);
  EXPECT_EQ(rig.counts_of(living.id).data, 1u) << "its client may yet report";
}

TEST(BusAudit, AProducerThatEndsBehindAnOpenClaimIsFoldedOnceItIsCounted) {
  BusRig rig;
  rig.create_topic();
  TestClient slow = rig.attach();
  TestProducer halting = rig.produce(slow);
  ring::OpenClaim claim;
  ASSERT_EQ(halting.appender->claim(8, 0, layout::RecordKind::data, claim), ring::AppendResult::ok);
  for (std::uint32_t i = 0; i < kAuditEndedRowsMax + 1; ++i) {
    TestClient client = rig.attach();
    rig.produce(client).send(1);
    rig.end(std::move(client));
  }
  EXPECT_EQ(data_of(rig.audit()), 0u);
  ring::Appended appended;
  ASSERT_EQ(halting.appender->commit(claim, 8, {}, 0, appended), ring::AppendResult::ok);
  rig.work();
  const session::AuditReport report = rig.audit();
  EXPECT_TRUE(report.holds);
  EXPECT_EQ(data_of(report), kAuditEndedRowsMax + 2);
  EXPECT_EQ(report.rows.size(), kAuditEndedRowsMax + 2);
}

}  // namespace
}  // namespace sluice::bus
