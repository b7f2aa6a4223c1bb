// The public SDK while the daemon is killed, stopped and started again.
#include <chrono>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "sluice/sluice.h"
#include "tests/crash/daemon_process.h"

namespace sluice::test {
namespace {

using namespace std::chrono_literals;

Client connect(const TestDaemon& daemon) {
  ConnectOptions options;
  options.socket = daemon.socket();
  auto client = Client::connect(options);
  if (!client) throw std::runtime_error(client.error().message());
  return std::move(*client);
}

TopicConfig topic(std::string name, Durability durability) {
  TopicConfig config;
  config.name = std::move(name);
  config.durability = durability;
  return config;
}

ReaderOptions from_earliest() {
  ReaderOptions options;
  options.from = From::earliest();
  return options;
}

TEST(SdkRestart, WithoutADaemonConnectSaysSo) {
  ConnectOptions options;
  options.socket = "/nowhere/sluice.sock";
  EXPECT_EQ(Client::connect(options).error().code(), ErrorCode::no_daemon);
}

TEST(SdkRestart, WhatAReceiptCalledDurableIsThereAfterAKillAndBothSidesGoOn) {
  TestDaemon daemon;
  ASSERT_TRUE(daemon.start()) << daemon.log_tail();
  Client client = connect(daemon);
  ASSERT_TRUE(client.create_topic(topic("safe", Durability::sync)));
  Producer producer = client.producer("safe").value();
  Reader live = client.reader({"safe"}).value();
  std::set<std::string> durable;
  std::set<std::string> received;
  int number = 0;
  for (int round = 0; round < 3; ++round) {
    for (int i = 0; i < 50; ++i, ++number) {
      const std::string text = std::to_string(number);
      if (producer.send(text)) durable.insert(text);
    }
    ASSERT_TRUE(producer.send_async("undecided " + std::to_string(round)));
    while (auto message = live.next(20ms)) received.emplace(message->text());
    daemon.kill();
    const std::string text = "first after start " + std::to_string(round);
    Result<Receipt> sent = tl::unexpected(Error(ErrorCode::internal, "not sent yet"));
    std::thread sender([&] {
      // Sent before the hang-up was noticed it went to memory that is lost: unknown, and the application's to send
      // again.
      do {
        sent = producer.send(text);
      } while (!sent && sent.error().code() == ErrorCode::unknown);
    });
    std::this_thread::sleep_for(50ms);
    const bool started = daemon.start();
    sender.join();
    ASSERT_TRUE(started) << daemon.log_tail();
    ASSERT_TRUE(sent) << sent.error().message();
    durable.insert(text);
  }
  while (auto message = live.next(1s)) received.emplace(message->text());
  EXPECT_EQ(live.counters().repeats + live.counters().corrupt, 0u);
  for (const std::string& text : durable) EXPECT_TRUE(received.contains(text)) << text;
  Reader late = client.reader({"safe"}, from_earliest()).value();
  std::set<std::string> found;
  while (!late.at_initial_end()) {
    if (auto message = late.next(100ms)) found.emplace(message->text());
  }
  for (const std::string& text : durable) EXPECT_TRUE(found.contains(text)) << text;
}

TEST(SdkRestart, ACleanStopKeepsEverything) {
  TestDaemon daemon;
  ASSERT_TRUE(daemon.start()) << daemon.log_tail();
  Client client = connect(daemon);
  ASSERT_TRUE(client.create_topic(topic("kept", Durability::async)));
  Producer producer = client.producer("kept").value();
  for (int i = 0; i < 1000; ++i) ASSERT_TRUE(producer.send(std::to_string(i)));
  EXPECT_EQ(daemon.stop(), 0) << daemon.log_tail();
  ASSERT_TRUE(daemon.start()) << daemon.log_tail();
  Reader reader = client.reader({"kept"}, from_earliest()).value();
  for (int i = 0; i < 1000; ++i) {
    const auto message = reader.next(10s);
    ASSERT_TRUE(message) << i << ": " << message.error().message();
    ASSERT_EQ(message->text(), std::to_string(i));
  }
  EXPECT_TRUE(producer.send("1000"));
  EXPECT_EQ(reader.next(10s).value().text(), "1000");
  EXPECT_EQ(reader.counters().gaps + reader.counters().repeats + reader.counters().corrupt, 0u);
}

TEST(SdkRestart, ASendThatWaitsForTheDaemonTooLongIsNoDaemon) {
  TestDaemon daemon;
  ASSERT_TRUE(daemon.start()) << daemon.log_tail();
  Client client = connect(daemon);
  ASSERT_TRUE(client.create_topic(topic("away", Durability::async)));
  ProducerOptions options;
  options.send_timeout = 200ms;
  Producer producer = client.producer("away", options).value();
  ASSERT_TRUE(producer.send("x"));
  daemon.kill();
  // The hang-up is noticed within moments; what is sent before that is committed to memory, and lost with it.
  Result<Receipt> sent = producer.send("y");
  for (int i = 0; i < 200 && sent; ++i) {
    std::this_thread::sleep_for(10ms);
    sent = producer.send("y");
  }
  ASSERT_FALSE(sent);
  EXPECT_EQ(sent.error().code(), ErrorCode::no_daemon) << sent.error().message();
}

}  // namespace
}  // namespace sluice::test
