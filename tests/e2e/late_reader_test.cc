// A reader that comes late: much more has gone through a ring than the ring holds, and a producer still publishes. It
// reads everything from position 0, out of log files and on into live memory, without a gap and without a repeat.
#include <atomic>
#include <cstdio>
#include <cstring>
#include <string>
#include <thread>

#include <gtest/gtest.h>

#include "tests/crash/daemon_process.h"

namespace sluice::test {
namespace {

using namespace std::chrono_literals;

constexpr std::size_t kMessageSize = 8000;

// A message: its number, then bytes that follow from it.
void fill(std::string& payload, std::uint64_t number) {
  std::memset(payload.data(), static_cast<int>(number % 251), payload.size());
  std::memcpy(payload.data(), &number, sizeof number);
}

void produce(Client client, std::uint64_t first, std::uint64_t count, const std::atomic<bool>& stop,
             std::atomic<std::uint64_t>& sent, std::string& wrong) {
  ProducerOptions options;
  options.send_timeout = std::chrono::seconds(kHangSeconds);
  auto producer = client.producer("orders", options);
  if (!producer) {
    wrong = producer.error().message();
    return;
  }
  std::string payload(kMessageSize, '\0');
  for (std::uint64_t number = first; count == 0 ? !stop.load() : number < first + count; ++number) {
    fill(payload, number);
    auto receipt = producer->send(payload);
    if (!receipt) {
      wrong = receipt.error().message();
      return;
    }
    sent.store(number + 1);
    if (count == 0) std::this_thread::sleep_for(50us);  // so that the reader catches up with it
  }
  if (const Status flushed = producer->flush(std::chrono::seconds(kHangSeconds)); !flushed)
    wrong = flushed.error().message();
}

TEST(LateReader, ReadsFromPositionZeroIntoLiveMemory) {
  const std::uint64_t ring_size = (long_run() ? 64u : 16u) * 1024u * 1024u;
  const std::uint64_t volume = long_run() ? 2ull << 30 : 256ull << 20;
  TestDaemon daemon;
  ASSERT_TRUE(daemon.start()) << daemon.log_tail();
  Client client = daemon.connect("late");
  TopicConfig config;
  config.name = "orders";
  config.slots = 8;
  config.segment_size = ring_size / config.slots;
  const Status made = client.create_topic(config);
  ASSERT_TRUE(made.has_value()) << made.error().message();

  const std::uint64_t before = volume / kMessageSize;
  std::atomic<bool> stop = false;
  std::atomic<std::uint64_t> sent = 0;
  std::string wrong;
  produce(daemon.connect("early"), 0, before, stop, sent, wrong);
  ASSERT_EQ("", wrong);
  std::thread live([&] { produce(daemon.connect("live"), before, 0, stop, sent, wrong); });

  ReaderOptions options;
  options.from = From::position(0, Position(0));
  auto reader = client.reader({"orders"}, options);
  ASSERT_TRUE(reader.has_value()) << reader.error().message();
  std::uint64_t next = 0, from_memory_after_files = 0;
  std::uint64_t last_position = 0;
  std::string failure;
  std::string expected(kMessageSize, '\0');
  // Goes on until it has read a good part of what was sent while it was reading, out of memory.
  while (failure.empty() && from_memory_after_files < 2000) {
    const std::uint64_t files = reader->counters().from_files;
    auto handled = reader->poll(64, 5s, [&](const Message& message) {
      fill(expected, next);
      if (message.text() != expected) {
        std::uint64_t found = 0;
        std::memcpy(&found, message.text().data(), std::min(sizeof found, message.text().size()));
        if (failure.empty())
          failure = message.address().to_string() + ": message " + std::to_string(found) + " instead of " +
                    std::to_string(next);
      }
      if (next != 0 && message.position().value <= last_position && failure.empty())
        failure = message.address().to_string() + ": not behind the one before";
      last_position = message.position().value;
      ++next;
    });
    if (!handled) failure = handled.error().message() + " " + wrong;
    if (handled && next > before && reader->counters().from_files == files) from_memory_after_files += *handled;
  }
  stop.store(true);
  live.join();
  EXPECT_EQ("", failure) << daemon.log_tail();
  EXPECT_EQ("", wrong);
  while (failure.empty() && next < sent.load()) {
    auto message = reader->next(10s);
    ASSERT_TRUE(message.has_value()) << message.error().message();
    fill(expected, next);
    ASSERT_EQ(expected, message->text());
    ++next;
  }
  const ReaderCounters& counters = reader->counters();
  std::printf("  %llu messages, %llu of them from files\n", static_cast<unsigned long long>(counters.messages),
              static_cast<unsigned long long>(counters.from_files));
  EXPECT_EQ(next, counters.messages);
  EXPECT_EQ(0u, counters.gaps + counters.repeats + counters.corrupt + counters.expired_bytes);
  // What the ring cannot have held must have come from files, and the end must have come from memory.
  EXPECT_GE(counters.from_files, (volume - ring_size) / (kMessageSize + 64) / 2);
  EXPECT_LT(counters.from_files, counters.messages);
  auto audit = client.audit("orders");
  ASSERT_TRUE(audit.has_value()) << audit.error().message();
  EXPECT_TRUE(audit->holds);
  EXPECT_EQ(0, daemon.stop());
}

}  // namespace
}  // namespace sluice::test
