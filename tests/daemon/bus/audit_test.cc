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

}  // namespace
}  // namespace sluice::bus
