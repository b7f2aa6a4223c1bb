#include <thread>

#include <gtest/gtest.h>

#include "tests/sdk/sdk_rig.h"

namespace sluice::test {
namespace {

TEST(Reconnect, SendsPauseAtTheHangUpAndGoOnAfterIt) {
  Rig rig;
  auto producer = rig.producer();
  const ProducerId id = producer->id();
  ASSERT_TRUE(send(*producer, "before"));
  rig.bus->hang_up();
  std::thread daemon([&] {
    std::this_thread::sleep_for(20ms);
    rig.bus->resume();
  });
  EXPECT_EQ(send(*producer, "after").value().sequence, Sequence(2));
  EXPECT_EQ(producer->id(), id) << "resumed keeps everything";
  daemon.join();
}

TEST(Reconnect, WhereMemoryOutlivesTheDaemonMessagesGoOnWithoutIt) {
  Rig rig;
  rig.bus->set_memory_kept();
  auto producer = rig.producer({.name = {}, .send_timeout = 20ms});
  auto reader = rig.reader();
  ASSERT_TRUE(send(*producer, "before"));
  rig.bus->hang_up();
  EXPECT_EQ(send(*producer, "meanwhile").value().sequence, Sequence(2));
  EXPECT_EQ(drain(*reader), (std::vector<std::string>{"before", "meanwhile"}));
  EXPECT_EQ(reader->next(5ms).error().code(), ErrorCode::timed_out);
  EXPECT_EQ(producer->counters().daemon_waits, 0u);
  EXPECT_EQ(producer->counters().back_pressure, 0u);
  while (send(*producer, std::string(8000, 'x'))) {
  }
  EXPECT_GT(producer->counters().back_pressure, 0u);
  rig.bus->resume();
  EXPECT_EQ(producer->counters().daemon_waits, 0u);
  rig.bus->replace();
  ASSERT_TRUE(send(*producer, "new"));
  EXPECT_EQ(producer->counters().daemon_waits, 1u);
}

TEST(Reconnect, ADaemonThatStaysAwayIsAnErrorWithinTheTimeout) {
  Rig rig;
  auto producer = rig.producer({.name = {}, .send_timeout = 20ms});
  auto reader = rig.reader();
  rig.bus->hang_up();
  EXPECT_EQ(send(*producer, "x").error().code(), ErrorCode::no_daemon);
  EXPECT_EQ(reader->next(20ms).error().code(), ErrorCode::no_daemon);
}

TEST(Reconnect, AfterAReplacementTheProducerIsANewOneAndReportsTheOldOnce) {
  Rig rig;
  auto producer = rig.producer();
  const ProducerId old_id = producer->id();
  ASSERT_TRUE(send(*producer, "1"));
  ASSERT_TRUE(send(*producer, "2"));
  rig.bus->replace();
  EXPECT_EQ(send(*producer, "3").value().sequence, Sequence(1));
  EXPECT_NE(producer->id(), old_id);
  ASSERT_EQ(rig.bus->reports().size(), 1u);
  EXPECT_EQ(rig.bus->reports()[0].producer, old_id);
  EXPECT_EQ(rig.bus->reports()[0].sequence, Sequence(2));
  ASSERT_TRUE(send(*producer, "4"));
  EXPECT_EQ(rig.bus->reports().size(), 1u);
}

TEST(Reconnect, AProducerThatEndsAfterItsMemoryWasLostReportsItFirst) {
  Rig rig;
  auto producer = rig.producer();
  const ProducerId id = producer->id();
  ASSERT_TRUE(send(*producer, "lost"));
  rig.bus->replace();
  producer.reset();
  ASSERT_EQ(rig.bus->reports().size(), 1u);
  EXPECT_EQ(rig.bus->reports()[0].producer, id);
  EXPECT_EQ(rig.bus->reports()[0].sequence, Sequence(1));
  auto other = rig.producer();
  ASSERT_TRUE(send(*other, "nobody to tell"));
  rig.bus->hang_up();
  other.reset();
  EXPECT_EQ(rig.bus->reports().size(), 1u);
}

TEST(Reconnect, ReceiptsOfTheLostMemoryAreDurableIfThatWasKnownElseUnknown) {
  Rig rig;
  auto producer = rig.producer();
  const Receipt safe = send(*producer, "safe").value();
  const Receipt lost = send(*producer, "lost").value();
  rig.bus->set_durable(0, safe.end);
  rig.bus->replace();
  EXPECT_EQ(producer->state(safe), ReceiptState::durable);
  EXPECT_EQ(producer->state(lost), ReceiptState::unknown);
  EXPECT_EQ(producer->flush(1s).error().code(), ErrorCode::unknown);
  EXPECT_TRUE(producer->flush(1s)) << "told once";
  const Receipt fresh = send(*producer, "fresh").value();
  EXPECT_EQ(producer->state(fresh), ReceiptState::committed);
  EXPECT_EQ(producer->state(safe), ReceiptState::durable);
  EXPECT_EQ(producer->state(lost), ReceiptState::unknown);
  EXPECT_TRUE(producer->wait(safe, 0ms));
  EXPECT_EQ(producer->wait(lost, 1s).error().code(), ErrorCode::unknown);
}

TEST(Reconnect, AClaimInLostMemoryCannotBeCommitted) {
  Rig rig;
  auto producer = rig.producer();
  ASSERT_TRUE(producer->claim(10, {}));
  rig.bus->replace();
  EXPECT_EQ(producer->commit().error().code(), ErrorCode::claim_expired);
  EXPECT_TRUE(send(*producer, "again"));
}

TEST(Reconnect, ASyncSenderThatWaitsWhenTheMemoryIsLostGetsUnknown) {
  Rig rig({.flags = layout::kTopicFlagDurable | layout::kTopicFlagSync});
  auto producer = rig.producer();
  std::thread daemon([&] {
    std::this_thread::sleep_for(30ms);
    rig.bus->replace();
  });
  EXPECT_EQ(send(*producer, "x").error().code(), ErrorCode::unknown);
  daemon.join();
}

TEST(Reconnect, AReaderGoesOnAtItsPlaceInTheNewMemory) {
  Rig rig({.partitions = 2});
  auto producer = rig.producer({.name = {}, .send_timeout = 1s});
  auto reader = rig.reader_from(From::earliest());
  MessageOptions to;
  to.partition = 1;
  ASSERT_TRUE(send(*producer, "kept in the file", to));
  rig.bus->retire(1);
  ASSERT_TRUE(send(*producer, "lost, but read before", to));
  EXPECT_EQ(drain(*reader).size(), 2u);
  const Message held = [&] {
    EXPECT_TRUE(send(*producer, "held", to));
    return reader->next(0ms).value();
  }();
  rig.bus->replace();
  ASSERT_TRUE(send(*producer, "in the new memory", to));
  EXPECT_EQ(reader->next(1s).value().text(), "in the new memory");
  EXPECT_EQ(held.text(), "held") << "its old mapping lives as long as it does";
  EXPECT_EQ(reader->counters().gaps + reader->counters().repeats, 0u);
}

TEST(Reconnect, AReaderThatSleepsIsWokenByTheReplacement) {
  Rig rig;
  ReaderOptions options;
  options.wait = WaitStrategy::sleep;
  auto reader = rig.reader(options);
  auto producer = rig.producer();
  std::thread daemon([&] {
    std::this_thread::sleep_for(20ms);
    rig.bus->replace();
    EXPECT_TRUE(send(*producer, "hello again"));
  });
  EXPECT_EQ(reader->next(10s).value().text(), "hello again");
  daemon.join();
}

// The mapping is what the daemon takes for a living client: one that nobody uses any more must go.
TEST(Reconnect, AReaderThatEndsWhileTheDaemonIsAwayLetsItsMemoryGo) {
  Rig rig;
  const std::weak_ptr<internal::SessionMemory> lost = rig.bus->memory();
  auto reader = rig.reader();
  rig.bus->hang_up();
  reader.reset();
  rig.bus->replace();
  EXPECT_TRUE(lost.expired());
}

TEST(Reconnect, ACursorWhoseReaderCouldNotBeClosedIsNobodyElses) {
  Rig rig;
  auto reader = rig.reader();
  rig.bus->hang_up();
  reader.reset();
  rig.bus->resume();
  auto next = rig.reader();
  EXPECT_EQ(rig.bus->session_region().cursors[0].position.load(), ~std::uint64_t{0}) << "nothing waits for it";
  EXPECT_NE(rig.bus->session_region().cursors[1].position.load(), ~std::uint64_t{0});
}

TEST(Reconnect, ALateReaderGetsWhatTheFilesOfTheLostMemoryHold) {
  Rig rig;
  auto producer = rig.producer();
  ASSERT_TRUE(send(*producer, "old"));
  rig.bus->retire(0);
  ASSERT_TRUE(send(*producer, "not synced"));
  rig.bus->replace();
  ASSERT_TRUE(send(*producer, "new"));
  auto reader = rig.reader_from(From::earliest());
  EXPECT_EQ(drain(*reader), (std::vector<std::string>{"old", "new"}));
  EXPECT_EQ(reader->counters().corrupt, 0u);
}

}  // namespace
}  // namespace sluice::test
