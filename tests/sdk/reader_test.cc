#include <optional>
#include <thread>

#include <gtest/gtest.h>

#include "shm/base/clock.h"
#include "tests/sdk/sdk_rig.h"

namespace sluice::test {
namespace {

std::vector<Receipt> send_numbers(internal::ProducerCore& producer, int from, int to) {
  std::vector<Receipt> receipts;
  for (int i = from; i < to; ++i) receipts.push_back(send(producer, std::to_string(i)).value());
  return receipts;
}

TEST(Reader, StartsAtLatestEarliestOrAPositionThatSnapsToTheNextRecord) {
  Rig rig;
  auto producer = rig.producer();
  const std::vector<Receipt> receipts = send_numbers(*producer, 0, 5);
  auto latest = rig.reader_from(From::latest());
  auto earliest = rig.reader_from(From::earliest());
  auto exact = rig.reader_from(From::position(0, receipts[2].position));
  auto between = rig.reader_from(From::position(0, receipts[2].position + 1));
  send_numbers(*producer, 5, 6);
  EXPECT_EQ(drain(*latest), (std::vector<std::string>{"5"}));
  EXPECT_EQ(drain(*earliest).size(), 6u);
  EXPECT_EQ(drain(*exact).front(), "2");
  EXPECT_EQ(drain(*between).front(), "3");
  EXPECT_TRUE(earliest->at_initial_end());
  ASSERT_TRUE(exact->seek(LocalBus::kTopic, 0, receipts[0].position));
  EXPECT_EQ(drain(*exact).size(), 6u);
  EXPECT_EQ(exact->seek("other", 0, Position(0)).error().code(), ErrorCode::not_found);
  EXPECT_EQ(exact->counters().gaps + exact->counters().repeats, 0u);
}

TEST(Reader, StartsAtTheFirstMessageOfATimeOrLater) {
  Rig rig({.time_mode = layout::TimeMode::precise});
  auto producer = rig.producer();
  send_numbers(*producer, 0, 3);
  const std::uint64_t middle = realtime_ns();
  send_numbers(*producer, 3, 6);
  auto reader = rig.reader_from(From::time(middle));
  EXPECT_EQ(drain(*reader), (std::vector<std::string>{"3", "4", "5"}));
}

TEST(Reader, ReadsSeveralPartitionsInTurnEachInOrder) {
  Rig rig({.partitions = 4});
  auto producer = rig.producer();
  auto reader = rig.reader();
  for (int i = 0; i < 400; ++i) {
    MessageOptions options;
    options.partition = static_cast<PartitionNumber>(i % 4);
    ASSERT_TRUE(send(*producer, std::to_string(i), options));
  }
  std::vector<int> last(4, -1);
  for (const std::string& text : drain(*reader)) {
    const int number = std::stoi(text);
    EXPECT_GT(number, last[static_cast<std::size_t>(number % 4)]);
    last[static_cast<std::size_t>(number % 4)] = number;
  }
  EXPECT_EQ(last, (std::vector<int>{396, 397, 398, 399}));
  EXPECT_EQ(reader->counters().messages, 400u);
  EXPECT_EQ(rig.bus->pins_standing(), 0u) << "an idle reader holds nothing";
}

TEST(Reader, ShowsOnlyMessagesWithTheTag) {
  Rig rig;
  auto producer = rig.producer();
  ReaderOptions options;
  options.tag = "b";
  auto reader = rig.reader(options);
  for (int i = 0; i < 3000; ++i) {
    MessageOptions with;
    with.tag = i % 1000 == 7 ? "b" : "a";
    if (i % 2 == 0) with.tag = {};
    ASSERT_TRUE(send(*producer, std::to_string(i), with));
    if (i % 500 == 0) rig.bus->retire(0);
  }
  EXPECT_EQ(drain(*reader), (std::vector<std::string>{"7", "1007", "2007"}));
  EXPECT_EQ(reader->counters().gaps, 0u);
}

TEST(Reader, ASleeperIsWokenByAMessageOnAnyPartition) {
  for (const WaitStrategy wait : {WaitStrategy::sleep, WaitStrategy::spin_then_sleep, WaitStrategy::spin}) {
    Rig rig({.partitions = 3});
    auto producer = rig.producer();
    ReaderOptions options;
    options.wait = wait;
    auto reader = rig.reader(options);
    std::thread sender([&] {
      for (int i = 0; i < 3; ++i) {
        std::this_thread::sleep_for(10ms);
        MessageOptions to;
        to.partition = static_cast<PartitionNumber>(i);
        EXPECT_TRUE(send(*producer, std::to_string(i), to));
      }
    });
    for (int i = 0; i < 3; ++i) EXPECT_EQ(reader->next(10s).value().text(), std::to_string(i));
    sender.join();
    if (wait == WaitStrategy::sleep) {
      EXPECT_GE(reader->counters().sleeps, 3u);
    }
    if (wait == WaitStrategy::spin) {
      EXPECT_EQ(reader->counters().sleeps, 0u);
    }
  }
}

TEST(Reader, DurableVisibilityShowsNothingAboveTheDurableWatermark) {
  Rig rig({.flags = layout::kTopicFlagDurable | layout::kTopicFlagVisibleDurable});
  auto producer = rig.producer();
  auto reader = rig.reader_from(From::earliest());
  const std::vector<Receipt> receipts = send_numbers(*producer, 0, 3);
  EXPECT_EQ(reader->next(0ms).error().code(), ErrorCode::timed_out);
  rig.bus->set_durable(0, receipts[1].end);
  EXPECT_EQ(drain(*reader), (std::vector<std::string>{"0", "1"}));
  std::thread daemon([&] {
    std::this_thread::sleep_for(20ms);
    rig.bus->set_durable(0, receipts[2].end);
  });
  EXPECT_EQ(reader->next(10s).value().text(), "2");
  daemon.join();
}

TEST(Reader, AMessageKeepsItsSegmentInMemoryAsLongAsItLives) {
  Rig rig;
  auto producer = rig.producer();
  auto reader = rig.reader();
  ASSERT_TRUE(send(*producer, "kept"));
  std::optional<Message> kept = reader->next(0ms).value();
  const Message copy = *kept;
  const std::string filler(8000, 'x');
  for (int i = 0; i < 60; ++i) {
    ASSERT_TRUE(send(*producer, filler));
    if (i % 6 == 5) rig.bus->retire(0);
    drain(*reader);
  }
  EXPECT_EQ(kept->text(), "kept");
  EXPECT_EQ(rig.bus->pins_standing(), 1u);
  kept.reset();
  EXPECT_EQ(copy.text(), "kept");
  EXPECT_TRUE(copy.valid());
  rig.bus->session_region().revoked.store(1);
  EXPECT_FALSE(copy.valid());
}

TEST(Reader, MessagesMayBeDestroyedOnAnotherThreadAndAfterTheirReader) {
  Rig rig;
  auto producer = rig.producer();
  auto reader = rig.reader();
  ASSERT_TRUE(send(*producer, "first"));
  ASSERT_TRUE(send(*producer, "second"));
  Message first = reader->next(0ms).value();
  std::thread([other = std::move(first)]() mutable { EXPECT_EQ(other.text(), "first"); }).join();
  const Message second = reader->next(0ms).value();
  reader.reset();
  EXPECT_EQ(second.text(), "second");
  EXPECT_EQ(rig.bus->pins_standing(), 1u);
}

TEST(Reader, SequenceGapsAndRepeatsAreReportedWithTheirPlace) {
  Rig rig;
  auto producer = rig.producer();
  std::vector<LossEvent> events;
  ReaderOptions options;
  options.on_loss = [&](const LossEvent& event) { events.push_back(event); };
  auto reader = rig.reader(options);
  ASSERT_TRUE(send(*producer, "1"));
  // Another appender under the same id, as a defect or a liar would have it.
  auto liar = internal::PinLease::take(rig.bus->memory()).value();
  const auto memory = rig.bus->memory();
  const auto append = [&](std::uint64_t sequence) {
    auto grant = rig.bus->open_partitions(
        {}, true, 0,
        [&](internal::PartitionGrant granted) -> Status {
          auto maps = internal::PartitionMaps::open(granted, TopicId(7), memory, region::Access::read_write);
          ring::Appender appender((*maps)->memory(), producer->id(), liar.cell(), false, Sequence(sequence));
          ring::Appended appended;
          EXPECT_EQ(appender.append({bytes_of("forged"), {}, 1}, appended), ring::AppendResult::ok);
          return {};
        },
        0ms);
    EXPECT_TRUE(grant);
  };
  append(5);
  append(2);
  EXPECT_EQ(drain(*reader).size(), 3u);
  ASSERT_EQ(events.size(), 2u);
  EXPECT_EQ(events[0].kind, LossEvent::Kind::gap);
  EXPECT_EQ(events[0].expected, Sequence(2));
  EXPECT_EQ(events[0].found, Sequence(5));
  EXPECT_EQ(events[1].kind, LossEvent::Kind::repeat);
  EXPECT_EQ(reader->counters().gaps, 3u);
  EXPECT_EQ(reader->counters().repeats, 1u);
}

TEST(Reader, RecordsAboveAFenceAreNotDelivered) {
  Rig rig;
  auto producer = rig.producer();
  auto reader = rig.reader();
  const std::vector<Receipt> receipts = send_numbers(*producer, 0, 4);
  rig.bus->add_fence(0, producer->id(), receipts[2].position);
  EXPECT_EQ(drain(*reader), (std::vector<std::string>{"0", "1"}));
  EXPECT_EQ(reader->counters().gaps, 0u);
}

TEST(Reader, RecordsOfAnOldHolderWaitUntilItsFenceIsKnown) {
  Rig rig;
  auto producer = rig.producer();
  auto reader = rig.reader();
  ASSERT_TRUE(send(*producer, "below"));
  rig.bus->add_fence(0, producer->id(), Position(layout::kFencePending));
  EXPECT_EQ(reader->next(5ms).error().code(), ErrorCode::timed_out);
  rig.bus->control(0).fences[0].position.store(layout::kFenceNone, std::memory_order_release);
  EXPECT_EQ(reader->next(1s).value().text(), "below");
}

TEST(Reader, HostileBytesAreReportedAndPassedOver) {
  Rig rig;
  auto producer = rig.producer();
  std::vector<LossEvent> events;
  ReaderOptions options;
  options.on_loss = [&](const LossEvent& event) { events.push_back(event); };
  auto reader = rig.reader(options);
  const std::span<std::byte> payload = producer->claim(100, {}).value();
  ASSERT_TRUE(producer->commit());
  payload[50] = std::byte{1};  // after its checksum was taken
  ASSERT_TRUE(send(*producer, "good"));
  EXPECT_EQ(drain(*reader), (std::vector<std::string>{"good"}));
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0].kind, LossEvent::Kind::corrupt);
  EXPECT_EQ(events[0].address.topic, LocalBus::kTopic);
  EXPECT_EQ(reader->counters().corrupt, 1u);
}

TEST(Reader, ABrokenChainIsReportedOnceAndReadOnOnceItIsRepaired) {
  Rig rig;
  auto producer = rig.producer();
  auto reader = rig.reader();
  const std::span<std::byte> payload = producer->claim(8, {}).value();
  auto* header = reinterpret_cast<layout::RecordHeader*>(payload.data() - layout::kRecordHeaderSize);
  const std::uint64_t word = header->claim.load();
  ASSERT_TRUE(producer->commit());
  ASSERT_TRUE(send(*producer, "behind"));
  header->claim.store(~std::uint64_t{0});
  for (int i = 0; i < 3; ++i) EXPECT_EQ(reader->next(5ms).error().code(), ErrorCode::timed_out);
  EXPECT_EQ(reader->counters().corrupt, 1u);
  header->claim.store(layout::ClaimWord{word}.with_state(layout::RecordState::aborted).bits);
  EXPECT_EQ(reader->next(1s).value().text(), "behind");
}

TEST(Reader, AddedPartitionsAreReadFromTheirStart) {
  Rig rig;
  auto producer = rig.producer();
  auto reader = rig.reader();
  rig.bus->add_partition();
  MessageOptions options;
  options.partition = 1;
  ASSERT_TRUE(send(*producer, "in the new one", options));
  EXPECT_EQ(reader->next(20s).value().text(), "in the new one");
}

TEST(Reader, LearnsOfAddedPartitionsFromMemoryAndAsksOnceForThem) {
  Rig rig({.partitions = 2});
  ReaderOptions options;
  options.partitions = {0};
  auto all = rig.reader();
  auto chosen = rig.reader(options);
  EXPECT_EQ(all->next(5ms).error().code(), ErrorCode::timed_out);
  EXPECT_EQ(rig.bus->opens(), 2u);
  rig.bus->add_partition();
  rig.bus->add_partition();
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(all->next(5ms).error().code(), ErrorCode::timed_out);
    EXPECT_EQ(chosen->next(5ms).error().code(), ErrorCode::timed_out);
  }
  EXPECT_EQ(rig.bus->opens(), 3u);
  MessageOptions last;
  last.partition = 3;
  ASSERT_TRUE(send(*rig.producer(), "in the last one", last));
  EXPECT_EQ(all->next(0ms).value().text(), "in the last one");
  EXPECT_EQ(chosen->next(0ms).error().code(), ErrorCode::timed_out);
}

TEST(Reader, AddedPartitionsThatCannotBeOpenedNowAreTriedAgain) {
  Rig rig;
  auto reader = rig.reader();
  rig.bus->refuse_reads(1);
  rig.bus->add_partition();
  auto producer = rig.producer();
  MessageOptions options;
  options.partition = 1;
  ASSERT_TRUE(send(*producer, "in the new one", options));
  EXPECT_EQ(reader->next(20s).value().text(), "in the new one");
}

TEST(Reader, PublishesHowFarItHasRead) {
  Rig rig;
  auto producer = rig.producer();
  auto reader = rig.reader();
  const Receipt receipt = send(*producer, "x").value();
  EXPECT_EQ(drain(*reader).size(), 1u);
  EXPECT_EQ(rig.bus->session_region().cursors[0].position.load(), receipt.end.value);
  EXPECT_EQ(reader->position(LocalBus::kTopic, 0), receipt.end);
}

TEST(Reader, ADeletedTopicIsToldAndThenEveryCallIsClosed) {
  Rig rig;
  auto reader = rig.reader();
  rig.bus->set_gate(0, layout::Gate::deleted);
  EXPECT_EQ(reader->next(1s).error().code(), ErrorCode::closed);
  EXPECT_EQ(reader->next(0ms).error().code(), ErrorCode::closed);
}

TEST(Reader, MoreHeldSegmentsThanPinCellsAreAQuotaError) {
  Rig rig;
  auto producer = rig.producer();
  auto reader = rig.reader();
  std::vector<internal::PinLease> taken;
  while (auto lease = internal::PinLease::take(rig.bus->memory())) taken.push_back(std::move(*lease));
  ASSERT_TRUE(send(*producer, "x"));
  EXPECT_EQ(reader->next(0ms).error().code(), ErrorCode::quota);
  taken.pop_back();
  EXPECT_EQ(reader->next(0ms).value().text(), "x");
}

}  // namespace
}  // namespace sluice::test
