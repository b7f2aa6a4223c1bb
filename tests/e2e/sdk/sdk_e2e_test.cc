// The public SDK against a real daemon: what is sent is read, in every way that the headers promise.
#include <sys/wait.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "sluice/sluice.h"
#include "tests/crash/daemon_process.h"

namespace sluice::test {
namespace {

using namespace std::chrono_literals;

class SdkE2e : public ::testing::Test {
 protected:
  void SetUp() override { ASSERT_TRUE(daemon.start()) << daemon.log_tail(); }

  Client connect() {
    ConnectOptions options;
    options.socket = daemon.socket();
    auto client = Client::connect(options);
    if (!client) throw std::runtime_error(client.error().message());
    return std::move(*client);
  }
  static TopicConfig topic(std::string name, std::uint32_t partitions = 1) {
    TopicConfig config;
    config.name = std::move(name);
    config.partitions = partitions;
    return config;
  }
  static ReaderOptions from(From place) {
    ReaderOptions options;
    options.from = place;
    return options;
  }

  TestDaemon daemon;
};

std::vector<std::string> read_texts(Reader& reader, std::size_t count) {
  std::vector<std::string> texts;
  while (texts.size() < count) {
    const auto message = reader.next(10s);
    if (!message) {
      ADD_FAILURE() << message.error().message() << " after " << texts.size();
      break;
    }
    texts.emplace_back(message->text());
  }
  return texts;
}

TEST_F(SdkE2e, TheExampleOfTheReadmeRuns) {
  ::setenv("SLUICE_SOCKET", daemon.socket().c_str(), 1);
  const int status = std::system(SLUICE_EXAMPLE_HELLO);
  ::unsetenv("SLUICE_SOCKET");
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status << "\n" << daemon.log_tail();
}

TEST_F(SdkE2e, AMessageArrivesWithKeyTagHeadersAndAddress) {
  Client client = connect();
  ASSERT_TRUE(client.create_topic(topic("orders", 4)));
  Reader reader = client.reader({"orders"}).value();
  Producer producer = client.producer("orders").value();
  const std::pair<std::string_view, std::string_view> headers[] = {{"trace", "t-1"}};
  MessageOptions options;
  options.key = "customer-42";
  options.tag = "new";
  options.headers = headers;
  const Receipt receipt = producer.send("an order", options).value();
  const Message message = reader.next(10s).value();
  EXPECT_EQ(message.text(), "an order");
  EXPECT_EQ(message.key(), "customer-42");
  EXPECT_EQ(message.tag(), "new");
  EXPECT_EQ(message.header("trace"), "t-1");
  EXPECT_EQ(message.partition(), receipt.partition);
  EXPECT_EQ(message.position(), receipt.position);
}

TEST_F(SdkE2e, FourPartitionsKeepEachKeysOrderWithTwoProducersAtOnce) {
  Client client = connect();
  ASSERT_TRUE(client.create_topic(topic("keys", 4)));
  Reader reader = client.reader({"keys"}).value();
  constexpr int kPerKey = 5000;
  const auto produce = [&](char which) {
    Producer producer = client.producer("keys").value();
    for (int i = 0; i < kPerKey; ++i) {
      for (const char digit : {'0', '1', '2'}) {
        const std::string key = {which, digit};
        MessageOptions options;
        options.key = key;
        ASSERT_TRUE(producer.send(std::to_string(i), options));
      }
    }
  };
  std::thread first(produce, 'a');
  std::thread second(produce, 'b');
  std::map<std::string, int> next;
  for (int received = 0; received < kPerKey * 6;) {
    const auto polled = reader.poll(1000, 10s, [&](const Message& message) {
      ASSERT_EQ(std::stoi(std::string(message.text())), next[std::string(message.key())]++);
    });
    ASSERT_TRUE(polled && *polled > 0);
    received += static_cast<int>(*polled);
  }
  first.join();
  second.join();
  EXPECT_EQ(next.size(), 6u);
  EXPECT_EQ(reader.counters().gaps + reader.counters().repeats + reader.counters().corrupt, 0u);
}

TEST_F(SdkE2e, ClaimsBatchesAndAbortsArriveAsTheyShould) {
  Client client = connect();
  ASSERT_TRUE(client.create_topic(topic("places")));
  Reader reader = client.reader({"places"}).value();
  Producer producer = client.producer("places").value();
  {
    Claim claim = producer.claim(5).value();
    std::memcpy(claim.payload().data(), "claim", 5);
    ASSERT_TRUE(claim.commit());
    const Claim dropped = producer.claim(100).value();
  }
  const std::string_view texts[] = {"one", "two"};
  const std::span<const std::byte> batch[] = {std::as_bytes(std::span(texts[0])), std::as_bytes(std::span(texts[1]))};
  ASSERT_TRUE(producer.send_batch(batch));
  EXPECT_EQ(read_texts(reader, 3), (std::vector<std::string>{"claim", "one", "two"}));
  EXPECT_EQ(reader.counters().gaps, 0u);
}

TEST_F(SdkE2e, AClaimPastItsDeadlineIsAbortedAndSendsFlowOn) {
  Client client = connect();
  TopicConfig config = topic("deadline");
  config.claim_deadline = 100ms;
  ASSERT_TRUE(client.create_topic(config));
  Reader reader = client.reader({"deadline"}).value();
  Producer stopped = client.producer("deadline").value();
  Producer other = client.producer("deadline").value();
  Claim claim = stopped.claim(10).value();
  ASSERT_TRUE(other.send("behind"));
  EXPECT_EQ(reader.next(10s).value().text(), "behind");
  EXPECT_EQ(claim.commit().error().code(), ErrorCode::claim_expired);
  ASSERT_TRUE(stopped.send("again"));
  EXPECT_EQ(reader.next(10s).value().text(), "again");
  EXPECT_EQ(reader.counters().gaps, 0u);
}

TEST_F(SdkE2e, FlushAndSyncSendsReturnWhenTheMessagesAreDurable) {
  Client client = connect();
  ASSERT_TRUE(client.create_topic(topic("async")));
  Producer producer = client.producer("async").value();
  Receipt receipt;
  for (int i = 0; i < 1000; ++i) receipt = producer.send("x").value();
  ASSERT_TRUE(producer.flush());
  EXPECT_EQ(producer.state(receipt), ReceiptState::durable);
  TopicConfig sync = topic("sync");
  sync.durability = Durability::sync;
  ASSERT_TRUE(client.create_topic(sync));
  Producer sender = client.producer("sync").value();
  for (int i = 0; i < 20; ++i) {
    receipt = sender.send("y").value();
    EXPECT_EQ(sender.state(receipt), ReceiptState::durable);
  }
  receipt = sender.send_async("z").value();
  EXPECT_TRUE(sender.wait(receipt));
}

TEST_F(SdkE2e, ANamedProducerGetsItsPlaceBackAndFencesTheOlderHolder) {
  Client client = connect();
  ASSERT_TRUE(client.create_topic(topic("named")));
  ProducerOptions options;
  options.name = "loader";
  Producer older = client.producer("named", options).value();
  MessageOptions with;
  with.bookmark = "line 3";
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(older.send("x", with));
  Client other = connect();
  Producer newer = other.producer("named", options).value();
  ASSERT_EQ(newer.last_sent().size(), 1u);
  EXPECT_EQ(newer.last_sent()[0].sequence, Sequence(3));
  EXPECT_EQ(newer.last_sent()[0].bookmark, "line 3");
  EXPECT_EQ(newer.send("y").value().sequence, Sequence(4));
  EXPECT_EQ(older.send("stale").error().code(), ErrorCode::fenced);
  Reader reader = client.reader({"named"}, from(From::earliest())).value();
  EXPECT_EQ(read_texts(reader, 4), (std::vector<std::string>{"x", "x", "x", "y"}));
  EXPECT_FALSE(reader.next(50ms));
}

TEST_F(SdkE2e, OneThatStartsLateReadsFromFilesOnIntoMemory) {
  Client client = connect();
  TopicConfig config = topic("late");
  config.segment_size = 256 * 1024;
  config.slots = 4;
  ASSERT_TRUE(client.create_topic(config));
  Producer producer = client.producer("late").value();
  constexpr int kCount = 20000;
  const std::string filler(500, 'f');
  std::vector<Receipt> receipts;
  for (int i = 0; i < kCount; ++i) receipts.push_back(producer.send(std::to_string(i) + ":" + filler).value());
  Reader reader = client.reader({"late"}, from(From::earliest())).value();
  for (int i = 0; i < kCount; ++i) {
    const auto message = reader.next(10s);
    ASSERT_TRUE(message) << i << ": " << message.error().message();
    ASSERT_EQ(std::stoi(std::string(message->text())), i);
  }
  EXPECT_GT(reader.counters().from_files, 0u);
  EXPECT_LT(reader.counters().from_files, static_cast<std::uint64_t>(kCount));
  EXPECT_EQ(reader.counters().gaps + reader.counters().repeats + reader.counters().corrupt, 0u);
  EXPECT_TRUE(reader.at_initial_end());
  ASSERT_TRUE(reader.seek("late", 0, receipts[100].position));
  EXPECT_EQ(std::stoi(std::string(reader.next(10s).value().text())), 100);
}

TEST_F(SdkE2e, ReadersStartAtATimeAndFilterByTag) {
  Client client = connect();
  TopicConfig config = topic("times");
  config.time_mode = TimeMode::precise;
  ASSERT_TRUE(client.create_topic(config));
  Producer producer = client.producer("times").value();
  std::uint64_t middle = 0;
  for (int i = 0; i < 100; ++i) {
    if (i == 50) {
      std::this_thread::sleep_for(5ms);
      middle = static_cast<std::uint64_t>(
          std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::system_clock::now().time_since_epoch())
              .count());
      std::this_thread::sleep_for(5ms);
    }
    MessageOptions options;
    options.tag = i % 10 == 5 ? "five" : "other";
    ASSERT_TRUE(producer.send(std::to_string(i), options));
  }
  Reader timed = client.reader({"times"}, from(From::time(middle))).value();
  EXPECT_EQ(timed.next(10s).value().text(), "50");
  ReaderOptions tagged = from(From::earliest());
  tagged.tag = "five";
  Reader fives = client.reader({"times"}, tagged).value();
  EXPECT_EQ(read_texts(fives, 3), (std::vector<std::string>{"5", "15", "25"}));
}

TEST_F(SdkE2e, AVolatileTopicWaitsForItsReader) {
  Client client = connect();
  TopicConfig config = topic("volatile");
  config.durability = Durability::volatile_;
  config.segment_size = 64 * 1024;
  config.slots = 4;
  ASSERT_TRUE(client.create_topic(config));
  Reader reader = client.reader({"volatile"}).value();
  std::thread sender([&] {
    Producer producer = client.producer("volatile").value();
    for (int i = 0; i < 5000; ++i) ASSERT_TRUE(producer.send(std::to_string(i) + std::string(200, ' ')));
  });
  for (int i = 0; i < 5000; ++i) {
    const auto message = reader.next(10s);
    ASSERT_TRUE(message) << i << ": " << message.error().message();
    ASSERT_EQ(std::stoi(std::string(message->text())), i);
  }
  sender.join();
  EXPECT_EQ(reader.counters().gaps, 0u);
}

TEST_F(SdkE2e, AddedPartitionsAreWrittenAndRead) {
  Client client = connect();
  ASSERT_TRUE(client.create_topic(topic("grows")));
  Producer producer = client.producer("grows").value();
  Reader reader = client.reader({"grows"}).value();
  ASSERT_TRUE(producer.send("first"));
  TopicChange change;
  change.partitions = 3;
  ASSERT_TRUE(client.alter_topic("grows", change));
  MessageOptions options;
  options.partition = 2;
  ASSERT_TRUE(producer.send("second", options));
  EXPECT_EQ(read_texts(reader, 1), (std::vector<std::string>{"first"}));
  EXPECT_EQ(reader.next(15s).value().text(), "second");
}

TEST_F(SdkE2e, ErrorsSayWhatToDo) {
  Client client = connect();
  EXPECT_EQ(client.producer("absent").error().code(), ErrorCode::not_found);
  EXPECT_EQ(client.reader({"absent"}).error().code(), ErrorCode::not_found);
  ASSERT_TRUE(client.create_topic(topic("errors")));
  EXPECT_EQ(client.create_topic(topic("errors")).error().code(), ErrorCode::exists);
  Producer producer = client.producer("errors").value();
  EXPECT_EQ(producer.send(std::string(producer.payload_size_max() + 1, 'x')).error().code(), ErrorCode::too_large);
  Reader reader = client.reader({"errors"}).value();
  ASSERT_TRUE(client.delete_topic("errors"));
  EXPECT_EQ(producer.send("x").error().code(), ErrorCode::closed);
  EXPECT_EQ(reader.next(10s).error().code(), ErrorCode::closed);
}

}  // namespace
}  // namespace sluice::test
