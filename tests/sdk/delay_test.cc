// Delayed messages and expiry at the two ends: what a producer writes, and what a reader makes of it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "shm/base/clock.h"
#include "shm/base/limits.h"
#include "tests/sdk/sdk_rig.h"

namespace sluice::test {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

Receipt send_delayed(internal::ProducerCore& producer, std::string_view text, std::string_view key = {}) {
  MessageOptions options;
  options.delay = 1h;
  options.key = key;
  return send(producer, text, options).value();
}

TEST(Delay, AReaderGetsItWhereItsRefStandsAndNotBefore) {
  Rig rig;
  auto producer = rig.producer();
  auto reader = rig.reader_from(From::earliest());
  const Receipt later = send_delayed(*producer, "later", "k");
  ASSERT_TRUE(send(*producer, "now"));
  EXPECT_THAT(drain(*reader), ElementsAre("now"));
  const Position ref = rig.bus->append_ref(0, later.position);
  ASSERT_TRUE(send(*producer, "after"));
  const auto message = reader->next(0ms);
  ASSERT_TRUE(message);
  EXPECT_EQ(message->text(), "later");
  EXPECT_EQ(message->key(), "k");
  EXPECT_EQ(message->position(), ref);
  EXPECT_EQ(message->sequence(), later.sequence);
  EXPECT_EQ(message->producer(), producer->id());
  EXPECT_THAT(drain(*reader), ElementsAre("after"));
  EXPECT_EQ(reader->counters().gaps + reader->counters().repeats + reader->counters().corrupt, 0u);
}

TEST(Delay, ItsBytesStayWhileTheMessageLives) {
  Rig rig;
  auto producer = rig.producer();
  auto reader = rig.reader_from(From::earliest());
  const Receipt later = send_delayed(*producer, "kept");
  const std::string filler(8000, 'x');
  for (int i = 0; i < 12; ++i) ASSERT_TRUE(send(*producer, filler));
  rig.bus->append_ref(0, later.position);
  Message kept;
  while (auto message = reader->next(0ms))
    if (message->text() == "kept") kept = *message;
  ASSERT_EQ(kept.text(), "kept") << "from another segment of memory";
  EXPECT_EQ(rig.bus->pins_standing(), 1u) << "the segment of the bytes, and none for the reader";
  rig.bus->retire(0);
  for (int i = 0; i < 20; ++i) {
    if (!send(*producer, filler)) break;
    rig.bus->prepare(0);
  }
  EXPECT_EQ(kept.text(), "kept");
  EXPECT_TRUE(kept.valid());
  kept = Message();
  EXPECT_EQ(rig.bus->pins_standing(), 0u);
}

TEST(Delay, IsFoundInTheLogFileOnceItHasLeftMemory) {
  Rig rig;
  auto producer = rig.producer();
  std::vector<Receipt> later;
  for (int i = 0; i < 100; ++i) later.push_back(send_delayed(*producer, std::to_string(i)));
  for (int i = 0; i < 3; ++i) rig.bus->retire(0);
  auto reader = rig.reader_from(From::latest());
  for (int i = 99; i >= 0; --i) rig.bus->append_ref(0, later[static_cast<std::size_t>(i)].position);
  const std::vector<std::string> texts = drain(*reader);
  ASSERT_EQ(texts.size(), 100u);
  EXPECT_EQ(texts.front(), "99");
  EXPECT_EQ(texts.back(), "0");
  EXPECT_EQ(reader->counters().from_files, 100u);
  EXPECT_EQ(rig.bus->locates(), 1u) << "the file stays mapped";
}

TEST(Delay, IsDeliveredAfterTheMemoryWasReplaced) {
  Rig rig;
  auto producer = rig.producer();
  auto reader = rig.reader_from(From::earliest());
  const Receipt later = send_delayed(*producer, "later");
  rig.bus->retire(0);
  rig.bus->replace();
  EXPECT_THAT(drain(*reader), IsEmpty());
  rig.bus->append_ref(0, later.position);
  EXPECT_THAT(drain(*reader, 50ms), ElementsAre("later"));
}

TEST(Delay, WaitsForWhatIsBetweenMemoryAndFile) {
  Rig rig;
  auto producer = rig.producer();
  const Receipt later = send_delayed(*producer, "later");
  rig.bus->retire(0);
  auto reader = rig.reader_from(From::latest());
  rig.bus->append_ref(0, later.position);
  ASSERT_TRUE(send(*producer, "behind"));
  rig.bus->hang_up();
  EXPECT_THAT(drain(*reader), IsEmpty()) << "nobody to ask, and nothing may overtake it";
  rig.bus->resume();
  EXPECT_THAT(drain(*reader, 50ms), ElementsAre("later", "behind"));
}

TEST(Delay, NoneIsLostWhileTheReaderMayPinNothingMore) {
  Rig rig;
  auto producer = rig.producer();
  auto reader = rig.reader();
  rig.bus->append_ref(0, send_delayed(*producer, "later").position);
  std::vector<std::unique_ptr<internal::ProducerCore>> others;  // each has a pin of the session's
  while (auto other = internal::ProducerCore::open(rig.bus, LocalBus::kTopic, {})) others.push_back(std::move(*other));
  others.pop_back();  // one for the reader's own segment
  const auto refused = reader->next(0ms);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), ErrorCode::quota);
  others.pop_back();
  EXPECT_THAT(drain(*reader), ElementsAre("later"));
}

TEST(Delay, WhatRetentionHasTakenCountsAsExpired) {
  Rig rig;
  auto producer = rig.producer();
  const Receipt later = send_delayed(*producer, "later");
  rig.bus->retire(0);
  auto reader = rig.reader_from(From::latest());
  rig.bus->set_trimmed(0, Position(kSegmentSizeMin));
  rig.bus->append_ref(0, later.position);
  ASSERT_TRUE(send(*producer, "behind"));
  EXPECT_THAT(drain(*reader, 10ms), ElementsAre("behind"));
  EXPECT_EQ(reader->counters().expired_messages, 1u);
  EXPECT_EQ(reader->counters().corrupt, 0u);
}

TEST(Delay, ADamagedOneIsReportedOnceItIsDamagedOnEveryCopy) {
  Rig rig;
  auto producer = rig.producer();
  const Receipt later = send_delayed(*producer, "later");
  rig.bus->retire(0);
  rig.bus->damage_file(0, later.position + 33, 0xff);
  std::vector<LossEvent> events;
  ReaderOptions options;
  options.on_loss = [&](const LossEvent& event) { events.push_back(event); };
  auto reader = rig.reader(options);
  std::vector<Position> asked;
  rig.bus->set_mender([&](Position at) {
    asked.push_back(at);
    return asked.size() < 3;
  });
  const Position ref = rig.bus->append_ref(0, later.position);
  ASSERT_TRUE(send(*producer, "behind"));
  EXPECT_THAT(drain(*reader, 50ms), ElementsAre("behind"));
  EXPECT_EQ(asked.size(), 3u);
  EXPECT_EQ(asked.front(), later.position);
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events.front().kind, LossEvent::Kind::corrupt);
  EXPECT_EQ(events.front().address.position, ref);
}

TEST(Delay, AReaderByTimeStartsAtTheRefsTime) {
  Rig rig({.time_mode = layout::TimeMode::precise});
  auto producer = rig.producer();
  const Receipt later = send_delayed(*producer, "later");
  ASSERT_TRUE(send(*producer, "early"));
  const std::uint64_t middle = realtime_ns();
  while (realtime_coarse_ns() <= middle) {
  }
  rig.bus->append_ref(0, later.position);
  auto reader = rig.reader_from(From::time(middle));
  EXPECT_THAT(drain(*reader), ElementsAre("later")) << "it was sent before, and came then";
}

TEST(Delay, ABatchAndAClaimAreDelayedToo) {
  Rig rig;
  auto producer = rig.producer();
  auto reader = rig.reader_from(From::earliest());
  MessageOptions options;
  options.deliver_at_ns = realtime_ns() + 1'000'000'000;
  const std::vector<std::span<const std::byte>> texts = {bytes_of("a"), bytes_of("b")};
  const Receipt batch = producer->send_batch(texts, options).value();
  auto payload = producer->claim(1, options).value();
  payload[0] = std::byte{'c'};
  const Receipt claimed = producer->commit().value();
  EXPECT_THAT(drain(*reader), IsEmpty());
  rig.bus->append_ref(0, claimed.position);
  rig.bus->append_ref(0, batch.position);
  EXPECT_THAT(drain(*reader), ElementsAre("c", "a"));
}

TEST(Delay, TagsFilterDelayedMessagesAsAnyOther) {
  Rig rig;
  auto producer = rig.producer();
  ReaderOptions tagged;
  tagged.tag = "b";
  auto reader = rig.reader(tagged);
  MessageOptions options;
  options.delay = 1h;
  options.tag = "a";
  const Receipt a = send(*producer, "a", options).value();
  options.tag = "b";
  const Receipt b = send(*producer, "b", options).value();
  rig.bus->append_ref(0, a.position);
  rig.bus->append_ref(0, b.position);
  EXPECT_THAT(drain(*reader), ElementsAre("b"));
}

// ---- references that cannot be right

TEST(Delay, AReferenceThatLeadsNowhereIsReportedAndPassedOver) {
  Rig rig;
  auto producer = rig.producer();
  ReaderOptions options;
  std::vector<Position> corrupt;
  options.on_loss = [&](const LossEvent& event) { corrupt.push_back(event.address.position); };
  auto reader = rig.reader(options);
  const Receipt plain = send(*producer, "plain").value();
  const Receipt later = send_delayed(*producer, "later");
  std::vector<Position> refs;
  const auto refer = [&](Position to, ProducerId producer_id = ProducerId(0)) {
    refs.push_back(rig.bus->append_ref(0, to, producer_id));
  };
  refer(plain.position);                    // a message that did not wait
  refer(later.position + 32);               // into the middle of one
  refer(later.position + 64);               // behind it: the first of these refs
  refer(refs.front());                      // a ref
  refer(later.end + 64 * 4);                // itself, or what comes behind
  refer(later.end + 64 * 64);               // what was never used
  refer(Position(~std::uint64_t{0} - 63));  // far out
  refer(Position(0));                       // a segment's header
  refer(later.position, producer->id());    // not the daemon's
  ASSERT_TRUE(send(*producer, "behind"));
  EXPECT_THAT(drain(*reader), ElementsAre("plain", "behind"));
  EXPECT_EQ(corrupt, refs);
  EXPECT_EQ(reader->counters().corrupt, refs.size());
  rig.bus->append_ref(0, later.position);
  EXPECT_THAT(drain(*reader), ElementsAre("later"));
}

TEST(Delay, AHostileReferenceIntoALogFileIsReportedAndPassedOver) {
  Rig rig;
  auto producer = rig.producer();
  const std::string big(5000, 'x');
  const Receipt plain = send(*producer, big).value();
  rig.bus->retire(0);
  auto reader = rig.reader_from(From::latest());
  rig.bus->append_ref(0, plain.position);
  rig.bus->append_ref(0, plain.position + 64);             // a payload
  rig.bus->append_ref(0, Position(kSegmentSizeMin - 64));  // a pad
  ASSERT_TRUE(send(*producer, "behind"));
  EXPECT_THAT(drain(*reader, 50ms), ElementsAre("behind"));
  EXPECT_EQ(reader->counters().corrupt, 3u);
}

// ---- what a producer may ask for

TEST(Delay, IsRefusedWhereItCannotBe) {
  Rig rig;
  auto producer = rig.producer();
  const auto refused = [&](const MessageOptions& options) {
    const auto sent = send(*producer, "x", options);
    return !sent && sent.error().code() == ErrorCode::invalid;
  };
  MessageOptions options;
  options.delay = Duration(kDelayNsMax) + 1s;
  EXPECT_TRUE(refused(options));
  options.delay = -1s;
  EXPECT_TRUE(refused(options));
  options.delay = 1s;
  options.deliver_at_ns = 5;
  EXPECT_TRUE(refused(options));
  options = {};
  options.deliver_at_ns = realtime_ns() + kDelayNsMax + 1'000'000'000;
  EXPECT_TRUE(refused(options));
  options = {};
  options.expire_after = -1s;
  EXPECT_TRUE(refused(options));
  options = {};
  options.delay = Duration(kDelayNsMax);
  EXPECT_FALSE(refused(options));
}

TEST(Delay, AVolatileTopicTakesNone) {
  Rig rig({.flags = layout::kTopicFlagChecksums});
  auto producer = rig.producer();
  MessageOptions options;
  options.delay = 1s;
  const auto sent = send(*producer, "x", options);
  ASSERT_FALSE(sent);
  EXPECT_EQ(sent.error().code(), ErrorCode::invalid);
  EXPECT_THAT(sent.error().message(), testing::HasSubstr("volatile"));
}

// ---- expiry

// Until the clock that readers look at has passed the present: after its next tick it may still be behind the precise
// one.
void wait_for_coarse_clock() {
  const std::uint64_t now = realtime_ns();
  while (realtime_coarse_ns() <= now) {
  }
}

TEST(Expiry, AReaderPassesOverWhatIsTooOldAndCountsIt) {
  Rig rig;
  auto producer = rig.producer();
  auto reader = rig.reader();
  MessageOptions options;
  options.key = "k";
  options.expire_after = 1ns;
  ASSERT_TRUE(send(*producer, "old", options));
  options.expire_after = 1h;
  ASSERT_TRUE(send(*producer, "fresh", options));
  wait_for_coarse_clock();
  EXPECT_THAT(drain(*reader), ElementsAre("fresh"));
  EXPECT_EQ(reader->counters().expired_messages, 1u);
  EXPECT_EQ(reader->counters().gaps, 0u) << "it is accounted for";
}

TEST(Expiry, CountsFromTheDeliveryOfADelayedMessage) {
  Rig rig;
  auto producer = rig.producer();
  auto reader = rig.reader();
  MessageOptions options;
  options.deliver_at_ns = realtime_ns() + 3'600'000'000'000;
  options.expire_after = 1ns;
  const Receipt early = send(*producer, "an hour and a nanosecond from now", options).value();
  options.deliver_at_ns = 1;
  const Receipt late = send(*producer, "was due long ago, sent now", options).value();
  wait_for_coarse_clock();
  rig.bus->append_ref(0, early.position);
  rig.bus->append_ref(0, late.position);
  EXPECT_THAT(drain(*reader), ElementsAre("an hour and a nanosecond from now"));
  EXPECT_EQ(reader->counters().expired_messages, 1u);
}

// ---- the topic's time to live

TEST(TopicTtl, AReaderPassesOverWhatIsOlderAndCountsIt) {
  Rig rig;
  auto producer = rig.producer();
  auto reader = rig.reader();
  rig.bus->control(0).message_ttl_ns = 1;
  ASSERT_TRUE(send(*producer, "old"));
  wait_for_coarse_clock();
  EXPECT_THAT(drain(*reader), IsEmpty());
  EXPECT_EQ(reader->counters().expired_messages, 1u);
  rig.bus->control(0).message_ttl_ns = 3'600'000'000'000;
  ASSERT_TRUE(send(*producer, "fresh"));
  EXPECT_THAT(drain(*reader), ElementsAre("fresh"));
  rig.bus->control(0).message_ttl_ns = 0;
  auto late = rig.reader_from(From::earliest());
  EXPECT_THAT(drain(*late), ElementsAre("old", "fresh")) << "what has expired is not deleted";
  EXPECT_EQ(reader->counters().gaps + reader->counters().corrupt, 0u) << "it is accounted for";
}

TEST(TopicTtl, TheEarlierOfItAndAMessagesOwnExpiryCounts) {
  Rig rig;
  auto producer = rig.producer();
  auto reader = rig.reader();
  MessageOptions options;
  options.expire_after = 1h;
  rig.bus->control(0).message_ttl_ns = 1;
  ASSERT_TRUE(send(*producer, "the topic's", options));
  wait_for_coarse_clock();
  EXPECT_THAT(drain(*reader), IsEmpty());
  rig.bus->control(0).message_ttl_ns = 3'600'000'000'000;
  options.expire_after = 1ns;
  ASSERT_TRUE(send(*producer, "its own", options));
  wait_for_coarse_clock();
  EXPECT_THAT(drain(*reader), IsEmpty());
  EXPECT_EQ(reader->counters().expired_messages, 2u);
}

TEST(TopicTtl, CountsFromTheDeliveryOfADelayedMessage) {
  Rig rig;
  auto producer = rig.producer();
  auto reader = rig.reader();
  const Receipt later = send_delayed(*producer, "later");
  wait_for_coarse_clock();
  const std::uint64_t waited = realtime_coarse_ns();
  while (realtime_coarse_ns() < waited + 50'000'000) {
  }
  rig.bus->control(0).message_ttl_ns = 40'000'000;
  rig.bus->append_ref(0, later.position);
  EXPECT_THAT(drain(*reader), ElementsAre("later")) << "it has waited for longer than it may live";
  auto late = rig.reader_from(From::earliest());
  rig.bus->control(0).message_ttl_ns = 1;
  wait_for_coarse_clock();
  EXPECT_THAT(drain(*late), IsEmpty());
  EXPECT_EQ(late->counters().expired_messages, 1u);
}

TEST(TopicTtl, AMessageWithoutATimeStays) {
  BusShape shape;
  shape.time_mode = layout::TimeMode::none;
  Rig rig(shape);
  auto producer = rig.producer();
  auto reader = rig.reader();
  rig.bus->control(0).message_ttl_ns = 1;
  ASSERT_TRUE(send(*producer, "timeless"));
  EXPECT_THAT(drain(*reader), ElementsAre("timeless"));
}

}  // namespace
}  // namespace sluice::test
