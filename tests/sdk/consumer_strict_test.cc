// Groups in which a message that waits for its retry holds others back.
#include <gtest/gtest.h>

#include "sdk/partitioner.h"
#include "tests/sdk/group_rig.h"

namespace sluice::test {
namespace {

using layout::OutcomeVerb;
using Texts = std::vector<std::string>;

struct StrictRig : GroupRig {
  explicit StrictRig(Strict strict) { group.config.strict = strict; }
};

TEST(ConsumerStrict, BehindAFailedMessageOthersOfItsKeyAreDeferredUntilTheDaemonHasSeenTheLast) {
  StrictRig rig(Strict::key);
  rig.group.assign(0);
  auto consumer = rig.consumer();
  rig.send_keyed("a1", "a");
  const Delivery failed = consumer->next(0ms).value();
  ASSERT_TRUE(consumer->nack(failed, Duration(-1), {}));
  rig.send_keyed("b1", "b");
  const Receipt deferred = rig.send_keyed("a2", "a");
  rig.send_numbers(0, 1);
  std::vector<Delivery> taken = take_all(*consumer);
  EXPECT_EQ(texts_of(taken), (Texts{"b1", "0"})) << "other keys, and none, go on";
  ASSERT_TRUE(consumer->ack(taken));
  EXPECT_EQ(rig.group.cell(0).in_flight.load(), 0u) << "what was deferred is in nobody's hands";
  auto outcomes = rig.group.read_outcomes();
  ASSERT_EQ(outcomes.size(), 2u);
  EXPECT_EQ(outcomes[1].verb, OutcomeVerb::defer);
  EXPECT_EQ(outcomes[1].target, deferred.position.value);
  EXPECT_EQ(outcomes[1].argument, internal::key_hash("a"));
  const std::uint64_t read = rig.group.region().outcomes_written.load();
  const Receipt third = rig.send_keyed("a3", "a");
  take_all(*consumer);
  rig.group.unblock(0, internal::key_hash("a"), read);
  const Receipt fourth = rig.send_keyed("a4", "a");
  EXPECT_EQ(text_of(consumer->next(0ms)), "timed_out") << "the daemon did not know of the third one";
  outcomes = rig.group.read_outcomes();
  ASSERT_EQ(outcomes.size(), 2u);
  EXPECT_EQ(outcomes[0].target, third.position.value);
  EXPECT_EQ(outcomes[1].target, fourth.position.value);
  EXPECT_EQ(rig.group.cell(0).acked.load(), fourth.end.value) << "with nothing in hand";
  rig.group.unblock(0, internal::key_hash("a"), rig.group.region().outcomes_written.load());
  rig.send_keyed("a5", "a");
  EXPECT_EQ(text_of(consumer->next(0ms)), "a5");
}

TEST(ConsumerStrict, ARejectHoldsNothingBack) {
  StrictRig rig(Strict::key);
  rig.group.assign(0);
  auto consumer = rig.consumer();
  rig.send_keyed("a1", "a");
  ASSERT_TRUE(consumer->reject(consumer->next(0ms).value(), {}));
  rig.send_keyed("a2", "a");
  EXPECT_EQ(text_of(consumer->next(0ms)), "a2");
}

TEST(ConsumerStrict, WhatTimesOutOrComesByReferenceHoldsItsKeyBackToo) {
  StrictRig rig(Strict::key);
  rig.group.assign(0);
  auto consumer = rig.consumer();
  const Receipt first = rig.send_keyed("a1", "a");
  const Delivery late = consumer->next(0ms).value();
  rig.group.refer_to(0, first.position);
  const Delivery again = consumer->next(0ms).value();
  EXPECT_EQ(again.message().text(), "a1");
  rig.send_keyed("a2", "a");
  EXPECT_EQ(text_of(consumer->next(0ms)), "timed_out");
  EXPECT_EQ(rig.group.read_outcomes().at(0).verb, OutcomeVerb::defer);
}

TEST(ConsumerStrict, WithoutRoomForAnOutcomeNothingIsRead) {
  StrictRig rig(Strict::key);
  rig.group.assign(0);
  auto consumer = rig.consumer();
  rig.send_keyed("a1", "a");
  ASSERT_TRUE(consumer->nack(consumer->next(0ms).value(), Duration(-1), {}));
  rig.send_keyed("b", "b");
  const Delivery other = consumer->next(0ms).value();
  for (std::uint32_t i = 1; i < kOutcomesMax; ++i) ASSERT_TRUE(consumer->extend(other, 1s));
  const Receipt deferred = rig.send_keyed("a2", "a");
  EXPECT_EQ(text_of(consumer->next(0ms)), "timed_out");
  ASSERT_TRUE(consumer->ack(other));
  EXPECT_LE(rig.group.cell(0).acked.load(), deferred.position.value) << "it must not be passed";
  rig.group.read_outcomes();
  EXPECT_EQ(text_of(consumer->next(0ms)), "timed_out");
  EXPECT_EQ(rig.group.read_outcomes().at(0).verb, OutcomeVerb::defer);
  EXPECT_EQ(rig.group.cell(0).acked.load(), deferred.end.value);
}

TEST(ConsumerStrict, ByPartitionNothingMoreIsReadUntilTheDaemonSaysSo) {
  StrictRig rig(Strict::partition);
  rig.group.assign(0);
  auto consumer = rig.consumer();
  const std::vector<Receipt> receipts = rig.send_numbers(0, 3);
  ASSERT_TRUE(consumer->nack(consumer->next(0ms).value(), Duration(-1), {}));
  EXPECT_EQ(text_of(consumer->next(0ms)), "timed_out");
  rig.group.read_outcomes();
  rig.group.refer_to(0, receipts[0].position);
  const Delivery again = consumer->next(0ms).value();
  EXPECT_EQ(again.message().text(), "0");
  ASSERT_TRUE(consumer->nack(again, Duration(-1), {}));
  rig.group.unblock(0, 0, 1);
  EXPECT_EQ(text_of(consumer->next(0ms)), "timed_out") << "it has failed once more since";
  rig.group.read_outcomes();
  rig.group.unblock(0, 0, 2);
  EXPECT_EQ(text_of(consumer->next(0ms)), "1");
}

TEST(ConsumerStrict, ByPartitionItsReferencesGoBeforeWhatIsReadDirectly) {
  StrictRig rig(Strict::partition);
  const std::vector<Receipt> receipts = rig.send_numbers(0, 2);
  rig.group.assign(0, receipts[1].position);
  auto consumer = rig.consumer();
  rig.group.refer_to(0, receipts[0].position);
  const Delivery retry = consumer->next(0ms).value();
  EXPECT_EQ(retry.message().text(), "0");
  EXPECT_EQ(text_of(consumer->next(0ms)), "timed_out") << "it is not settled yet";
  ASSERT_TRUE(consumer->ack(retry));
  EXPECT_EQ(text_of(consumer->next(0ms)), "1");
}

TEST(ConsumerStrict, WithoutItAFailureHoldsNothingBack) {
  StrictRig rig(Strict::none);
  rig.group.assign(0);
  auto consumer = rig.consumer();
  rig.send_keyed("a1", "a");
  ASSERT_TRUE(consumer->nack(consumer->next(0ms).value(), Duration(-1), {}));
  rig.send_keyed("a2", "a");
  EXPECT_EQ(text_of(consumer->next(0ms)), "a2");
}

}  // namespace
}  // namespace sluice::test
