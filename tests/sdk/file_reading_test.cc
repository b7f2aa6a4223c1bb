#include <algorithm>
#include <functional>
#include <vector>

#include <gtest/gtest.h>

#include "tests/sdk/sdk_rig.h"

namespace sluice::test {
namespace {

// Sends `count` numbered messages of about `size` bytes, retiring segments to the file as the ring fills.
std::vector<Receipt> send_through(Rig& rig, internal::ProducerCore& producer, int count, std::size_t size) {
  std::vector<Receipt> receipts;
  for (int i = 0; i < count;) {
    auto sent = send(producer, std::to_string(i) + ":" + std::string(size, 'p'));
    if (sent) {
      receipts.push_back(*sent);
      ++i;
    } else {
      rig.bus->retire(0);
    }
  }
  return receipts;
}

int number_of(const Message& message) { return std::stoi(std::string(message.text())); }

TEST(FileReading, OneThatStartsLateReadsFromTheFileOnIntoMemory) {
  Rig rig;
  auto producer = rig.producer({.name = {}, .send_timeout = 0ms});
  send_through(rig, *producer, 2000, 500);
  auto reader = rig.reader_from(From::earliest());
  for (int i = 0; i < 2000; ++i) {
    const auto message = reader->next(0ms);
    ASSERT_TRUE(message) << i << ": " << message.error().message();
    ASSERT_EQ(number_of(*message), i);
  }
  EXPECT_EQ(reader->next(0ms).error().code(), ErrorCode::timed_out);
  EXPECT_GT(reader->counters().from_files, 1000u);
  EXPECT_LT(reader->counters().from_files, 2000u);
  EXPECT_EQ(reader->counters().gaps + reader->counters().repeats + reader->counters().corrupt, 0u);
  EXPECT_TRUE(reader->at_initial_end());
  EXPECT_EQ(rig.bus->pins_standing(), 0u);
}

TEST(FileReading, AReaderThatFallsBehindWhileMemoryMovesOnMissesNothing) {
  Rig rig;
  auto producer = rig.producer({.name = {}, .send_timeout = 0ms});
  auto reader = rig.reader();
  int next = 0;
  int sent = 0;
  while (sent < 3000) {
    for (int i = 0; i < 700 && sent < 3000; ++i) {
      while (!send(*producer, std::to_string(sent) + ":" + std::string(300, 'p'))) rig.bus->retire(0);
      ++sent;
    }
    for (int i = 0; i < 300; ++i) {
      const auto message = reader->next(0ms);
      if (message) {
        ASSERT_EQ(number_of(*message), next++);
      }
    }
  }
  while (auto message = reader->next(0ms)) ASSERT_EQ(number_of(*message), next++);
  EXPECT_EQ(next, 3000);
  EXPECT_GT(reader->counters().from_files, 0u);
}

TEST(FileReading, OneThatRestedInASegmentThatHasLeftMemoryReadsOnInTheFile) {
  Rig rig;
  auto producer = rig.producer({.name = {}, .send_timeout = 0ms});
  auto reader = rig.reader();
  send_through(rig, *producer, 10, 500);
  for (int i = 0; i < 10; ++i) ASSERT_EQ(number_of(reader->next(0ms).value()), i);
  ASSERT_EQ(reader->next(0ms).error().code(), ErrorCode::timed_out);
  ASSERT_EQ(rig.bus->pins_standing(), 0u) << "its slot may be used again";
  send_through(rig, *producer, 2000, 500);  // several times through each slot, with records at the same offsets
  for (int i = 0; i < 2000; ++i) {
    const auto message = reader->next(0ms);
    ASSERT_TRUE(message) << i << ": " << message.error().message();
    ASSERT_EQ(number_of(*message), i);
  }
  EXPECT_GT(reader->counters().from_files, 1000u);
  EXPECT_EQ(reader->counters().gaps + reader->counters().repeats + reader->counters().corrupt, 0u);
}

TEST(FileReading, APositionInTheFileSnapsToTheNextRecord) {
  Rig rig;
  auto producer = rig.producer({.name = {}, .send_timeout = 0ms});
  const auto receipts = send_through(rig, *producer, 1000, 500);
  auto reader = rig.reader_from(From::position(0, receipts[200].position + 64));
  EXPECT_EQ(number_of(reader->next(0ms).value()), 201);
  ASSERT_TRUE(reader->seek(LocalBus::kTopic, 0, receipts[10].position));
  EXPECT_EQ(number_of(reader->next(0ms).value()), 10);
}

TEST(FileReading, ADamagedRecordIsReportedAndTheRestIsServed) {
  Rig rig;
  auto producer = rig.producer({.name = {}, .send_timeout = 0ms});
  const auto receipts = send_through(rig, *producer, 1000, 500);
  rig.bus->damage_file(0, receipts[5].position + 100, 0xee);
  rig.bus->damage_file(0, receipts[7].position + 9, 0xee);  // its sequence
  auto reader = rig.reader_from(From::earliest());
  int received = 0;
  while (auto message = reader->next(0ms)) {
    EXPECT_NE(number_of(*message), 5);
    EXPECT_NE(number_of(*message), 7);
    ++received;
  }
  EXPECT_EQ(received, 998);
  EXPECT_EQ(reader->counters().corrupt, 2u);
}

// The daemon has the bytes on another copy: the reader waits for them, and sees nothing of it.
TEST(FileReading, WhatTheDaemonMendsIsReadAsIfNothingHadBeen) {
  Rig rig;
  auto producer = rig.producer({.name = {}, .send_timeout = 0ms});
  const auto receipts = send_through(rig, *producer, 1000, 500);
  const std::uint64_t segment_size = rig.bus->control(0).segment_size;
  struct Flip {
    Position reported, at;
    std::uint8_t good;
  };
  const auto good = [&](Position at) {
    std::uint8_t byte = 0;
    rig.bus->read_file(0, at, byte);
    return byte;
  };
  const Position header = Position(segment_size) + 30;
  const std::vector<Flip> flips = {{receipts[5].position, receipts[5].position + 100, good(receipts[5].position + 100)},
                                   {receipts[9].position, receipts[9].position, good(receipts[9].position)},
                                   {Position(segment_size), header, good(header)}};
  rig.bus->damage_file(0, flips[0].at, 0xee);
  rig.bus->damage_file(0, flips[1].at, 0);  // state: free
  rig.bus->damage_file(0, flips[2].at, 0xee);
  std::vector<Position> asked;
  rig.bus->set_mender([&](Position position) {
    asked.push_back(position);
    for (const Flip& flip : flips)
      if (flip.reported == position) rig.bus->damage_file(0, flip.at, flip.good);
    return asked.size() % 2 != 0;  // it takes a while
  });
  auto reader = rig.reader_from(From::earliest());
  for (int i = 0; i < 1000; ++i) ASSERT_EQ(number_of(reader->next(5s).value()), i);
  EXPECT_EQ(asked.size(), 6u);
  EXPECT_EQ(reader->counters().gaps + reader->counters().repeats + reader->counters().corrupt, 0u);
}

// It asks once; then it passes over the one record, as the daemon says where the next intact one is.
TEST(FileReading, WhatTheDaemonCannotMendIsReportedAndPassedOver) {
  Rig rig;
  auto producer = rig.producer({.name = {}, .send_timeout = 0ms});
  const auto receipts = send_through(rig, *producer, 1000, 500);
  rig.bus->damage_file(0, receipts[3].position, 0);  // state: free
  rig.bus->damage_file(0, receipts[7].position + 100, 0xee);
  int asked = 0;
  rig.bus->set_mender([&](Position position) {
    ++asked;
    if (position == receipts[3].position) rig.bus->quarantine(position, receipts[4].position);
    return false;
  });
  auto reader = rig.reader_from(From::earliest());
  std::vector<int> numbers;
  while (auto message = reader->next(0ms)) numbers.push_back(number_of(*message));
  EXPECT_EQ(numbers.size(), 998u);
  EXPECT_EQ(std::count(numbers.begin(), numbers.end(), 3) + std::count(numbers.begin(), numbers.end(), 7), 0);
  EXPECT_EQ(asked, 2);
  EXPECT_EQ(reader->counters().corrupt, 2u);
}

TEST(FileReading, ABrokenChainOrSegmentHeaderCostsOneSegment) {
  Rig rig;
  auto producer = rig.producer({.name = {}, .send_timeout = 0ms});
  const auto receipts = send_through(rig, *producer, 1500, 500);
  const std::uint64_t segment_size = rig.bus->control(0).segment_size;
  rig.bus->damage_file(0, Position(segment_size) + 30, 0xee);  // in the second segment's header
  rig.bus->damage_file(0, receipts[3].position, 0);            // state: free
  auto reader = rig.reader_from(From::earliest());
  std::vector<int> numbers;
  while (auto message = reader->next(0ms)) numbers.push_back(number_of(*message));
  EXPECT_EQ(reader->counters().corrupt, 2u);
  ASSERT_GT(numbers.size(), 1000u);
  EXPECT_EQ(numbers[2], 2);
  EXPECT_GE(receipts[static_cast<std::size_t>(numbers[3])].position, Position(2 * segment_size));
  EXPECT_EQ(numbers.back(), 1499);
}

TEST(FileReading, WhatRetentionTookIsCountedAndIsNoGap) {
  Rig rig;
  auto producer = rig.producer({.name = {}, .send_timeout = 0ms});
  auto reader = rig.reader();
  send_through(rig, *producer, 10, 500);
  EXPECT_EQ(number_of(reader->next(0ms).value()), 0);
  send_through(rig, *producer, 1500, 500);
  const Position earliest(3 * rig.bus->control(0).segment_size);
  rig.bus->set_trimmed(0, earliest);
  std::size_t received = 0;
  while (auto message = reader->next(0ms)) ++received;
  EXPECT_GT(received, 1000u);
  EXPECT_GT(reader->counters().expired_bytes, 100'000u);
  EXPECT_EQ(reader->counters().gaps, 0u);
}

TEST(FileReading, AMessageFromAFileKeepsItsBytesWhenTheReaderHasGoneOn) {
  Rig rig;
  auto producer = rig.producer({.name = {}, .send_timeout = 0ms});
  send_through(rig, *producer, 1000, 500);
  auto reader = rig.reader_from(From::earliest());
  const Message kept = reader->next(0ms).value();
  while (reader->next(0ms)) {
  }
  reader.reset();
  EXPECT_EQ(number_of(kept), 0);
  EXPECT_TRUE(kept.valid());
}

TEST(FileReading, AMessageLargerThanAReadAheadStepIsReadWhole) {
  Rig rig({.segment_size = 16 * 1024 * 1024});
  auto producer = rig.producer({.name = {}, .send_timeout = 0ms});
  const std::size_t size = producer->payload_size_max() - 100;
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(send(*producer, std::to_string(i) + ":" + std::string(size, 'L')));
  ASSERT_TRUE(send(*producer, "3:" + std::string(size, 'L')));
  rig.bus->retire(0);
  auto reader = rig.reader_from(From::earliest());
  for (int i = 0; i < 4; ++i) ASSERT_EQ(number_of(reader->next(0ms).value()), i);
  EXPECT_GE(reader->counters().from_files, 3u);
}

}  // namespace
}  // namespace sluice::test
