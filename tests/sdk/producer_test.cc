#include <map>
#include <thread>

#include <gtest/gtest.h>

#include "sdk/partitioner.h"
#include "tests/sdk/allocation_counter.h"
#include "tests/sdk/sdk_rig.h"

namespace sluice::test {
namespace {

TEST(Producer, WhatIsSentIsReadInOrderWithAllOfItsParts) {
  Rig rig;
  auto reader = rig.reader();
  auto producer = rig.producer();
  const std::pair<std::string_view, std::string_view> headers[] = {{"trace", "t-1"}, {"empty", ""}};
  MessageOptions options;
  options.key = "k";
  options.tag = "urgent";
  options.headers = headers;
  options.bookmark = "line 7";
  const Receipt receipt = send(*producer, "first", options).value();
  ASSERT_TRUE(send(*producer, ""));
  const Message message = reader->next(0ms).value();
  EXPECT_EQ(message.text(), "first");
  EXPECT_EQ(message.key(), "k");
  EXPECT_EQ(message.tag(), "urgent");
  EXPECT_EQ(message.bookmark(), "line 7");
  EXPECT_EQ(message.header("trace"), "t-1");
  EXPECT_EQ(message.header("empty"), "");
  EXPECT_EQ(message.header("absent"), std::nullopt);
  std::vector<std::string> names;
  for (const auto& [name, value] : message.headers()) names.emplace_back(name);
  EXPECT_EQ(names, (std::vector<std::string>{"trace", "empty"}));
  EXPECT_EQ(message.position(), receipt.position);
  EXPECT_EQ(message.producer(), producer->id());
  EXPECT_EQ(message.sequence(), Sequence(1));
  EXPECT_NE(message.time_ns(), 0u);
  EXPECT_EQ(message.address().to_string(), "orders/0@" + std::to_string(receipt.position.value));
  EXPECT_TRUE(message.valid());
  EXPECT_EQ(reader->next(0ms).value().text(), "");
  EXPECT_EQ(reader->next(0ms).error().code(), ErrorCode::timed_out);
}

TEST(Producer, AKeyAlwaysGoesToThePartitionOfItsHash) {
  Rig rig({.partitions = 4});
  auto producer = rig.producer();
  for (int i = 0; i < 100; ++i) {
    const std::string key = "key" + std::to_string(i);
    MessageOptions options;
    options.key = key;
    EXPECT_EQ(send(*producer, "x", options).value().partition, internal::partition_of_key(key, 4));
  }
  MessageOptions chosen;
  chosen.partition = 3;
  chosen.key = "key0";
  EXPECT_EQ(send(*producer, "x", chosen).value().partition, 3u);
  chosen.partition = 4;
  EXPECT_EQ(send(*producer, "x", chosen).error().code(), ErrorCode::not_found);
}

TEST(Producer, WithoutAKeyAllPartitionsGetTheirShare) {
  Rig rig({.partitions = 4});
  auto producer = rig.producer();
  std::map<PartitionNumber, int> counts;
  for (int i = 0; i < 512; ++i) ++counts[send(*producer, "x").value().partition];
  EXPECT_EQ(counts.size(), 4u);
  for (const auto& [partition, count] : counts) EXPECT_EQ(count, 128);
}

TEST(Producer, ABatchBecomesVisibleAtOnceWithConsecutiveSequences) {
  Rig rig;
  auto reader = rig.reader();
  auto producer = rig.producer();
  const std::span<const std::byte> payloads[] = {bytes_of("one"), bytes_of("two"), bytes_of("three")};
  const Receipt receipt = producer->send_batch(payloads, {}).value();
  EXPECT_EQ(receipt.sequence, Sequence(1));
  ASSERT_TRUE(send(*producer, "four"));
  EXPECT_EQ(drain(*reader), (std::vector<std::string>{"one", "two", "three", "four"}));
  EXPECT_EQ(reader->counters().gaps + reader->counters().repeats, 0u);
  EXPECT_EQ(producer->send_batch({}, {}).error().code(), ErrorCode::invalid);
}

TEST(Producer, AClaimIsFilledInPlaceAndOnlyACommitShowsIt) {
  Rig rig;
  auto reader = rig.reader();
  auto producer = rig.producer();
  const std::span<std::byte> payload = producer->claim(5, {}).value();
  ASSERT_EQ(payload.size(), 5u);
  EXPECT_EQ(send(*producer, "meanwhile").error().code(), ErrorCode::invalid);
  std::memcpy(payload.data(), "hello", 5);
  EXPECT_EQ(reader->next(0ms).error().code(), ErrorCode::timed_out);
  ASSERT_TRUE(producer->commit());
  ASSERT_TRUE(producer->claim(64, {}));
  producer->abort();
  ASSERT_TRUE(send(*producer, "after"));
  EXPECT_EQ(drain(*reader), (std::vector<std::string>{"hello", "after"}));
  EXPECT_EQ(reader->counters().gaps, 0u);
  EXPECT_EQ(producer->commit().error().code(), ErrorCode::invalid);
}

TEST(Producer, AFullRingIsWouldBlockOrAWaitUpToTheTimeout) {
  Rig rig;
  auto impatient = rig.producer({.name = {}, .send_timeout = 0ms});
  auto patient = rig.producer({.name = {}, .send_timeout = 50ms});
  const std::string text(4096, 'x');
  Result<Receipt> last = send(*impatient, text);
  int sent = 0;
  for (; last; ++sent) last = send(*impatient, text);
  EXPECT_EQ(last.error().code(), ErrorCode::would_block);
  EXPECT_GT(sent, 50);
  const Error full = send(*patient, text).error();
  EXPECT_EQ(full.code(), ErrorCode::timed_out);
  EXPECT_NE(full.message().find("the disk is broken"), std::string::npos) << "the daemon's reason: " << full.message();
  rig.bus->retire(0);
  EXPECT_TRUE(send(*patient, text));
}

TEST(Producer, OneThatWaitsForRoomGoesOnWhenThereIsSome) {
  Rig rig;
  auto producer = rig.producer();
  auto filler = rig.producer({.name = {}, .send_timeout = 0ms});
  const std::string text(8192, 'x');
  while (send(*filler, text)) {
  }
  std::thread sender([&] { EXPECT_TRUE(send(*producer, text)); });
  std::this_thread::sleep_for(20ms);
  rig.bus->retire(0);
  sender.join();
}

TEST(Producer, AMessageAboveTheLimitIsTooLargeAndOneAtItIsSent) {
  Rig rig;
  auto reader = rig.reader();
  auto producer = rig.producer();
  const std::string fits(producer->payload_size_max(), 'f');
  EXPECT_TRUE(send(*producer, fits));
  const auto refused = send(*producer, fits + "!");
  EXPECT_EQ(refused.error().code(), ErrorCode::too_large);
  EXPECT_NE(refused.error().message().find("orders/0"), std::string::npos);
  EXPECT_EQ(drain(*reader).size(), 1u);
}

TEST(Producer, EachClosedGateHasItsError) {
  Rig rig;
  auto producer = rig.producer({.name = {}, .send_timeout = 20ms});
  rig.bus->set_gate(0, layout::Gate::poisoned);
  const auto poisoned = send(*producer, "x");
  EXPECT_EQ(poisoned.error().code(), ErrorCode::io);
  EXPECT_NE(poisoned.error().message().find("the disk is broken"), std::string::npos);
  rig.bus->set_gate(0, layout::Gate::deleted);
  EXPECT_EQ(send(*producer, "x").error().code(), ErrorCode::closed);
  rig.bus->set_gate(0, layout::Gate::denied);
  EXPECT_EQ(send(*producer, "x").error().code(), ErrorCode::permission);
  rig.bus->set_gate(0, layout::Gate::closing);
  EXPECT_EQ(send(*producer, "x").error().code(), ErrorCode::no_daemon);
  rig.bus->set_gate(0, layout::Gate::open);
  EXPECT_TRUE(send(*producer, "x"));
}

TEST(Producer, AFencedHolderStops) {
  Rig rig;
  auto producer = rig.producer({.name = "loader"});
  const Receipt receipt = send(*producer, "x").value();
  rig.bus->add_fence(0, producer->id(), receipt.end);
  EXPECT_EQ(send(*producer, "y").error().code(), ErrorCode::fenced);
}

TEST(Producer, OnASyncTopicSendReturnsWhenItIsDurable) {
  Rig rig({.flags = layout::kTopicFlagDurable | layout::kTopicFlagSync});
  auto producer = rig.producer({.name = {}, .send_timeout = 50ms});
  EXPECT_EQ(send(*producer, "nobody syncs").error().code(), ErrorCode::unknown);
  const Receipt receipt = producer->send(bytes_of("later"), {}, false).value();
  EXPECT_EQ(producer->state(receipt), ReceiptState::committed);
  const Error slow = producer->wait(receipt, 10ms).error();
  EXPECT_EQ(slow.code(), ErrorCode::timed_out);
  EXPECT_NE(slow.message().find("the disk is broken"), std::string::npos) << "the daemon's reason: " << slow.message();
  std::thread daemon([&] {
    std::this_thread::sleep_for(20ms);
    rig.bus->set_durable(0, Position(rig.bus->control(0).segment_size));
  });
  EXPECT_TRUE(producer->flush(10s));
  daemon.join();
  EXPECT_EQ(producer->state(receipt), ReceiptState::durable);
  EXPECT_TRUE(send(*producer, "already below the watermark"));
}

TEST(Producer, OnAVolatileTopicNothingIsEverDurable) {
  Rig rig({.flags = 0});
  auto producer = rig.producer();
  const Receipt receipt = send(*producer, "x").value();
  EXPECT_EQ(producer->wait(receipt, 10ms).error().code(), ErrorCode::invalid);
  EXPECT_TRUE(producer->flush(0ms));
}

TEST(Producer, AddedPartitionsAreFoundWhenOneIsNamed) {
  Rig rig;
  auto producer = rig.producer();
  rig.bus->add_partition();
  MessageOptions options;
  options.partition = 1;
  EXPECT_EQ(send(*producer, "x", options).value().partition, 1u);
}

TEST(Producer, TheSteadyStateOfSendAndReadAllocatesNothing) {
  Rig rig({.partitions = 2});
  auto producer = rig.producer();
  auto reader = rig.reader();
  MessageOptions options;
  options.key = "a key";
  options.tag = "tag";
  std::size_t received = 0;
  const auto count = [&](const Message& message) { received += message.text().size() == 11 ? 1 : 0; };
  const std::function<void(const Message&)> handler = count;
  std::uint64_t before = 0;
  for (int round = 0; round < 60; ++round) {
    if (round == 10) before = allocations();
    for (int i = 0; i < 20; ++i) {
      ASSERT_TRUE(producer->send(bytes_of("hello world"), options, true));
      ASSERT_TRUE(producer->send(bytes_of("hello world"), {}, true));
    }
    for (int i = 0; i < 10; ++i) {
      const auto message = reader->next(0ms);
      ASSERT_TRUE(message);
      count(*message);
    }
    while (reader->poll(1000, 0ms, handler).value() != 0) {
    }
  }
  EXPECT_EQ(allocations() - before, 0u);
  EXPECT_EQ(received, 60u * 40);
}

}  // namespace
}  // namespace sluice::test
