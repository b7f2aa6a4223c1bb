// An ordered group's member: hands out what its partitions hold, and says in its cells and outcomes what was settled.
#include <gtest/gtest.h>

#include "tests/sdk/allocation_counter.h"
#include "tests/sdk/group_rig.h"

namespace sluice::test {
namespace {

using layout::OutcomeVerb;
using Texts = std::vector<std::string>;

TEST(Consumer, JoinsWithWhatItIsTold) {
  GroupRig rig;
  ConsumerOptions options;
  options.mode = GroupMode::shared;
  options.tag = "red";
  options.from = From::earliest();
  options.in_flight_max = 7;
  auto consumer = rig.consumer(options);
  const internal::JoinGroup& joined = rig.group.joined();
  EXPECT_EQ(joined.group, "billing");
  EXPECT_EQ(joined.mode, GroupMode::shared);
  EXPECT_EQ(joined.topics, Texts{LocalBus::kTopic});
  EXPECT_EQ(joined.tag, "red");
  EXPECT_EQ(joined.from.kind, From::Kind::earliest);
  EXPECT_EQ(joined.in_flight_max, 7u);
  EXPECT_FALSE(joined.must_exist);
  EXPECT_EQ(consumer->member(), rig.group.member());
  consumer.reset();
  EXPECT_EQ(rig.group.leaves(), 1u);
}

TEST(Consumer, NamesWhatItIsAssignedAndReadsFromItsStartOn) {
  GroupRig rig({.partitions = 2});
  MessageOptions to;
  to.partition = 1;
  const std::vector<Receipt> receipts = rig.send_numbers(0, 5, to);
  rig.group.assign(1, receipts[2].position);
  auto consumer = rig.consumer();
  EXPECT_EQ(texts_of(take_all(*consumer)), (Texts{"2", "3", "4"}));
  const std::vector<std::pair<std::string, PartitionNumber>> assigned{{LocalBus::kTopic, 1}};
  EXPECT_EQ(consumer->assignments(), assigned);
  EXPECT_EQ(rig.rebalances, Texts{"assigned 1"});
  EXPECT_EQ(consumer->counters().messages, 3u);
  EXPECT_EQ(consumer->counters().bytes, 3u);
}

TEST(Consumer, TheCellSaysWhatIsInHandAndHowFarEverythingIsSettled) {
  GroupRig rig;
  const std::vector<Receipt> receipts = rig.send_numbers(0, 3);
  rig.group.assign(0, receipts[0].position);
  auto consumer = rig.consumer();
  const layout::AssignmentCell& cell = rig.group.cell(0);
  EXPECT_EQ(cell.acked.load(), receipts[0].position.value);
  EXPECT_EQ(cell.oldest.load() + cell.newest.load() + cell.in_flight.load(), 0u);
  const Delivery first = consumer->next(0ms).value();
  const Delivery second = consumer->next(0ms).value();
  EXPECT_EQ(cell.oldest.load(), receipts[0].position.value);
  EXPECT_EQ(cell.newest.load(), receipts[1].position.value);
  EXPECT_EQ(cell.in_flight.load(), 2u);
  EXPECT_EQ(cell.acked.load(), receipts[0].position.value);
  ASSERT_TRUE(consumer->ack(first));
  EXPECT_EQ(cell.acked.load(), receipts[1].position.value);
  EXPECT_EQ(cell.oldest.load(), receipts[1].position.value);
  EXPECT_EQ(cell.settled.load(), 1u);
  ASSERT_TRUE(consumer->ack(second));
  EXPECT_EQ(cell.acked.load(), receipts[1].end.value);
  EXPECT_EQ(cell.oldest.load(), 0u);
  EXPECT_EQ(cell.in_flight.load(), 0u);
  EXPECT_EQ(cell.settled.load(), 2u);
  EXPECT_TRUE(rig.group.read_outcomes().empty()) << "acks in order need no outcome";
  EXPECT_EQ(consumer->counters().acked, 2u);
}

TEST(Consumer, AnAckOutOfOrderIsAnOutcomeUntilTheOldestIsSettled) {
  GroupRig rig;
  const std::vector<Receipt> receipts = rig.send_numbers(0, 3);
  rig.group.assign(0);
  auto consumer = rig.consumer();
  const std::vector<Delivery> taken = take_all(*consumer);
  ASSERT_TRUE(consumer->ack(taken[1]));
  EXPECT_EQ(rig.group.cell(0).acked.load(), receipts[0].position.value);
  const auto outcomes = rig.group.read_outcomes();
  ASSERT_EQ(outcomes.size(), 1u);
  EXPECT_EQ(outcomes[0].verb, OutcomeVerb::ack);
  EXPECT_EQ(outcomes[0].target, receipts[1].position.value);
  EXPECT_EQ(outcomes[0].argument, receipts[1].end.value);
  EXPECT_EQ(outcomes[0].place, 0u);
  EXPECT_EQ(outcomes[0].generation, 101u);
  ASSERT_TRUE(consumer->ack(taken[0]));
  EXPECT_EQ(rig.group.cell(0).acked.load(), receipts[2].position.value) << "over the second one too";
  EXPECT_EQ(consumer->ack(taken[0]).error().code(), ErrorCode::conflict) << "settled already";
  EXPECT_EQ(consumer->counters().stale, 1u);
}

TEST(Consumer, AcksUpToAMessageSettleWhatWasHandedOutBefore) {
  GroupRig rig;
  const std::vector<Receipt> receipts = rig.send_numbers(0, 4);
  rig.group.assign(0);
  auto consumer = rig.consumer();
  const std::vector<Delivery> taken = take_all(*consumer);
  ASSERT_TRUE(consumer->ack(taken[1]));
  ASSERT_TRUE(consumer->ack_up_to(taken[2]));
  EXPECT_EQ(rig.group.cell(0).acked.load(), receipts[3].position.value);
  EXPECT_EQ(rig.group.cell(0).in_flight.load(), 1u);
  EXPECT_EQ(consumer->in_hand(), 1u);
  EXPECT_EQ(consumer->ack(taken[0]).error().code(), ErrorCode::conflict);
  EXPECT_TRUE(consumer->ack(std::span(&taken[3], 1)));
  EXPECT_EQ(rig.group.cell(0).acked.load(), receipts[3].end.value);
}

TEST(Consumer, ANackIsInTheRingBeforeAckedPassesIt) {
  GroupRig rig;
  const std::vector<Receipt> receipts = rig.send_numbers(0, 3);
  rig.group.assign(0);
  auto consumer = rig.consumer();
  const std::vector<Delivery> taken = take_all(*consumer);
  ASSERT_TRUE(consumer->nack(taken[0], Duration(-1), "no such customer, and a reason that needs more than one entry"));
  ASSERT_TRUE(consumer->nack(taken[1], 5ms, {}));
  ASSERT_TRUE(consumer->reject(taken[2], std::string(300, 'r')));
  const auto outcomes = rig.group.read_outcomes();
  ASSERT_EQ(outcomes.size(), 3u);
  EXPECT_EQ(outcomes[0].verb, OutcomeVerb::nack);
  EXPECT_EQ(outcomes[0].argument, layout::kDelayByPolicy);
  EXPECT_EQ(outcomes[0].target, receipts[0].position.value);
  EXPECT_EQ(outcomes[0].reason, "no such customer, and a reason that needs more than one entry");
  EXPECT_EQ(outcomes[1].argument, 5'000'000u);
  EXPECT_EQ(outcomes[2].verb, OutcomeVerb::reject);
  EXPECT_EQ(outcomes[2].reason, std::string(kReasonSizeMax, 'r'));
  EXPECT_EQ(rig.group.cell(0).acked.load(), receipts[2].end.value);
  EXPECT_EQ(rig.group.cell(0).in_flight.load(), 0u);
  EXPECT_EQ(consumer->counters().nacked, 3u);
}

TEST(Consumer, ExtendNamesTheMessageAndKeepsItInHand) {
  GroupRig rig;
  const std::vector<Receipt> receipts = rig.send_numbers(0, 1);
  rig.group.assign(0);
  auto consumer = rig.consumer();
  const Delivery delivery = consumer->next(0ms).value();
  ASSERT_TRUE(consumer->extend(delivery, 2s));
  const auto outcomes = rig.group.read_outcomes();
  ASSERT_EQ(outcomes.size(), 1u);
  EXPECT_EQ(outcomes[0].verb, OutcomeVerb::extend);
  EXPECT_EQ(outcomes[0].target, receipts[0].position.value);
  EXPECT_EQ(outcomes[0].argument, 2'000'000'000u);
  EXPECT_TRUE(consumer->ack(delivery));
  EXPECT_EQ(consumer->extend(delivery, 2s).error().code(), ErrorCode::conflict);
}

TEST(Consumer, NoMoreIsHandedOutThanItsLimit) {
  GroupRig rig;
  rig.send_numbers(0, 5);
  rig.group.assign(0);
  ConsumerOptions options;
  options.in_flight_max = 2;
  auto consumer = rig.consumer(options);
  std::vector<Delivery> taken = take_all(*consumer);
  EXPECT_EQ(texts_of(taken), (Texts{"0", "1"}));
  ASSERT_TRUE(consumer->ack(taken[1]));
  EXPECT_EQ(text_of(consumer->next(0ms)), "2");
  EXPECT_EQ(text_of(consumer->next(0ms)), "timed_out");
}

TEST(Consumer, PollHandsOutUpToACountAndAcksMayComeFromWithin) {
  GroupRig rig;
  const std::vector<Receipt> receipts = rig.send_numbers(0, 5);
  rig.group.assign(0);
  auto consumer = rig.consumer();
  Texts seen;
  const auto handler = [&](const Delivery& one) {
    seen.emplace_back(one.message().text());
    EXPECT_TRUE(consumer->ack(one));
  };
  EXPECT_EQ(consumer->poll(3, 0ms, handler).value(), 3u);
  EXPECT_EQ(consumer->poll(9, 0ms, handler).value(), 2u);
  EXPECT_EQ(consumer->poll(9, 0ms, handler).value(), 0u);
  EXPECT_EQ(seen, (Texts{"0", "1", "2", "3", "4"}));
  EXPECT_EQ(rig.group.cell(0).acked.load(), receipts[4].end.value);
}

TEST(Consumer, WhatIsNotForTheGroupIsSettledByItself) {
  GroupRig rig;
  MessageOptions red;
  red.tag = "red";
  rig.send_numbers(0, 3);
  const Receipt wanted = send(*rig.sender, "red", red).value();
  const std::vector<Receipt> others = rig.send_numbers(3, 6);
  rig.group.assign(0);
  ConsumerOptions options;
  options.tag = "red";
  auto consumer = rig.consumer(options);
  const Delivery delivery = consumer->next(0ms).value();
  EXPECT_EQ(delivery.message().text(), "red");
  EXPECT_EQ(text_of(consumer->next(0ms)), "timed_out");
  EXPECT_LE(rig.group.cell(0).acked.load(), wanted.position.value) << "it is not settled yet";
  ASSERT_TRUE(consumer->ack(delivery));
  EXPECT_EQ(rig.group.cell(0).acked.load(), others.back().end.value);
  const std::vector<Receipt> more = rig.send_numbers(6, 8);
  EXPECT_EQ(text_of(consumer->next(0ms)), "timed_out");
  EXPECT_EQ(rig.group.cell(0).acked.load(), more.back().end.value) << "with nothing in hand it follows the log";
}

TEST(Consumer, SkipsWhatTheAssignmentCallsSettledAndTellsTheCountsOfRepeats) {
  GroupRig rig;
  const std::vector<Receipt> receipts = rig.send_numbers(0, 6);
  internal::Assignment& assignment = rig.group.assign(0);
  assignment.settled = {{receipts[4].position, receipts[4].end}, {receipts[1].position, receipts[2].end}};
  assignment.repeats = {{receipts[5].position, 3, 2}, {receipts[3].position, 1, 0}};
  auto consumer = rig.consumer();
  const std::vector<Delivery> taken = take_all(*consumer);
  EXPECT_EQ(texts_of(taken), (Texts{"0", "3", "5"}));
  EXPECT_EQ(taken[0].delivered(), 1u);
  EXPECT_EQ(taken[1].delivered(), 2u);
  EXPECT_EQ(taken[1].failed(), 0u);
  EXPECT_EQ(taken[2].delivered(), 4u);
  EXPECT_EQ(taken[2].failed(), 2u);
  EXPECT_EQ(consumer->counters().repeated, 2u);
  ASSERT_TRUE(consumer->ack(taken[0]));
  EXPECT_EQ(rig.group.cell(0).acked.load(), receipts[3].position.value) << "over the settled ones";
}

TEST(Consumer, BelowCarefulUntilOneMessageAtATimeIsInHand) {
  GroupRig rig({.partitions = 2});
  MessageOptions to;
  to.partition = 1;
  rig.send_numbers(10, 12, to);
  to.partition = 0;
  const std::vector<Receipt> receipts = rig.send_numbers(0, 4, to);
  rig.group.assign(0).careful_until = receipts[2].position;
  rig.group.assign(1);
  auto consumer = rig.consumer();
  const Delivery first = consumer->next(0ms).value();
  EXPECT_EQ(first.message().text(), "0");
  EXPECT_EQ(text_of(consumer->next(0ms)), "timed_out") << "of the other partition neither";
  ASSERT_TRUE(consumer->ack(first));
  const Delivery second = consumer->next(0ms).value();
  EXPECT_EQ(second.message().text(), "1");
  EXPECT_EQ(text_of(consumer->next(0ms)), "timed_out");
  ASSERT_TRUE(consumer->ack(second));
  EXPECT_EQ(texts_of(take_all(*consumer)), (Texts{"2", "3", "10", "11"})) << "from there on as ever";
}

TEST(Consumer, ASuspectIsHandedOutOnlyOnceNothingElseIsInHand) {
  GroupRig rig({.partitions = 2});
  MessageOptions to;
  to.partition = 0;
  rig.send_numbers(0, 1, to);
  rig.group.assign(0);
  auto consumer = rig.consumer();
  const Delivery other = consumer->next(0ms).value();
  to.partition = 1;
  const std::vector<Receipt> suspects = rig.send_numbers(10, 11, to);
  rig.group.assign(1).careful_until = suspects[0].end;
  rig.group.publish_assignments();
  EXPECT_EQ(text_of(consumer->next(10ms)), "timed_out");
  ASSERT_TRUE(consumer->ack(other));
  EXPECT_EQ(text_of(consumer->next(10ms)), "10");
}

TEST(Consumer, GapsAndDamageAreCountedAndTold) {
  GroupRig rig;
  std::vector<LossEvent::Kind> events;
  ConsumerOptions options;
  options.on_loss = [&](const LossEvent& event) { events.push_back(event.kind); };
  const std::vector<Receipt> receipts = rig.send_numbers(0, 3);
  rig.bus->retire(0);
  rig.bus->damage_file(0, receipts[1].position + layout::kRecordHeaderSize, 0xff);
  rig.group.assign(0);
  auto consumer = rig.consumer(options);
  EXPECT_EQ(texts_of(take_all(*consumer)), (Texts{"0", "2"}));
  EXPECT_EQ(consumer->counters().gaps, 1u);
  EXPECT_EQ(consumer->counters().corrupt, 1u);
  EXPECT_EQ(events, (std::vector<LossEvent::Kind>{LossEvent::Kind::corrupt, LossEvent::Kind::gap}));
}

TEST(Consumer, AnOldestMessageThatIsKeptHoldsUpNobodyElse) {
  GroupRig rig({.segment_size = 1 << 20, .slots = 8});
  rig.group.assign(0);
  auto consumer = rig.consumer();
  rig.send_numbers(0, 1);
  const Delivery kept = consumer->next(0ms).value();
  for (int i = 1; i < 20'000; ++i) {
    rig.send_numbers(i, i + 1);
    const Delivery next = consumer->next(0ms).value();
    ASSERT_EQ(next.message().text(), std::to_string(i));
    ASSERT_TRUE(consumer->ack(next)) << "also once the daemon reads no outcomes";
  }
  EXPECT_EQ(rig.group.cell(0).in_flight.load(), 1u);
  ASSERT_TRUE(consumer->ack(kept));
  EXPECT_EQ(rig.group.cell(0).settled.load(), 20'000u);
}

TEST(Consumer, TheSteadyStateAllocatesNothing) {
  GroupRig rig({.segment_size = 1 << 20, .slots = 8});
  rig.group.assign(0);
  auto consumer = rig.consumer();
  rig.send_numbers(0, 3000);
  for (int i = 0; i < 1000; ++i) ASSERT_TRUE(consumer->ack(consumer->next(0ms).value()));
  const std::uint64_t before = allocations();
  for (int i = 0; i < 500; ++i) {
    const Delivery first = *consumer->next(0ms);
    const Delivery second = *consumer->next(0ms);
    ASSERT_TRUE(consumer->ack(second));
    ASSERT_TRUE(consumer->ack(first));
  }
  EXPECT_EQ(allocations(), before);
}

TEST(Consumer, EachCallIsProgressAndChangesWakeADaemonThatAskedForThem) {
  GroupRig rig;
  rig.group.assign(0);
  auto consumer = rig.consumer();
  const std::uint64_t before = rig.group.region().progress.load();
  EXPECT_EQ(text_of(consumer->next(0ms)), "timed_out");
  EXPECT_GT(rig.group.region().progress.load(), before);
  rig.send_numbers(0, 1);
  rig.group.region().daemon_armed.store(1);
  const Delivery delivery = consumer->next(0ms).value();
  EXPECT_EQ(rig.group.region().daemon_armed.load(), 0u) << "it is in hand";
  rig.group.region().daemon_armed.store(1);
  ASSERT_TRUE(consumer->ack(delivery));
  EXPECT_EQ(rig.group.region().daemon_armed.load(), 0u);
}

TEST(Consumer, ClosingStoresWhatWasSettledAndLeaves) {
  GroupRig rig;
  rig.send_numbers(0, 2);
  rig.group.assign(0);
  auto consumer = rig.consumer();
  const Delivery delivery = consumer->next(0ms).value();
  ASSERT_TRUE(consumer->close());
  EXPECT_EQ(rig.group.saves(), 1u);
  EXPECT_EQ(rig.group.leaves(), 1u);
  EXPECT_EQ(text_of(consumer->next(0ms)), "closed");
  EXPECT_EQ(consumer->ack(delivery).error().code(), ErrorCode::conflict);
  EXPECT_EQ(delivery.message().text(), "0") << "what is held can still be read";
  consumer.reset();
  EXPECT_EQ(rig.group.leaves(), 1u);
}

}  // namespace
}  // namespace sluice::test
