// run(): handlers on the calling thread and on threads of a pool.
#include <map>
#include <mutex>
#include <set>
#include <thread>

#include <gtest/gtest.h>

#include "sdk/handler_loop.h"
#include "tests/sdk/group_rig.h"

namespace sluice::test {
namespace {

using layout::OutcomeVerb;
using Texts = std::vector<std::string>;

struct RunRig : GroupRig {
  explicit RunRig(BusShape shape = {}) : GroupRig(shape) {}

  Status run(internal::ConsumerCore& consumer, const Handler& handler, RunOptions options = {}) {
    return internal::HandlerLoop(consumer, handler, options, stopping).run();
  }
  void stop(internal::ConsumerCore& consumer) {
    stopping = true;
    consumer.interrupt();
  }

  std::atomic<bool> stopping{false};
};

TEST(ConsumerRun, SettlesAsTheHandlerSaysUntilItIsStopped) {
  RunRig rig;
  const std::vector<Receipt> receipts = rig.send_numbers(0, 4);
  rig.group.assign(0);
  auto consumer = rig.consumer();
  Texts seen;
  const Status status = rig.run(*consumer, [&](const Delivery& delivery) -> Status {
    seen.emplace_back(delivery.message().text());
    if (seen.size() == 4) rig.stop(*consumer);
    if (seen.size() == 2) return fail(ErrorCode::io, "the database is away");
    if (seen.size() == 3) return fail(ErrorCode::invalid, "no number");
    return {};
  });
  EXPECT_TRUE(status);
  EXPECT_EQ(seen, (Texts{"0", "1", "2", "3"}));
  EXPECT_EQ(rig.group.cell(0).acked.load(), receipts[3].end.value);
  const auto outcomes = rig.group.read_outcomes();
  ASSERT_EQ(outcomes.size(), 2u);
  EXPECT_EQ(outcomes[0].verb, OutcomeVerb::nack);
  EXPECT_EQ(outcomes[0].argument, layout::kDelayByPolicy);
  EXPECT_NE(outcomes[0].reason.find("the database is away"), std::string::npos);
  EXPECT_EQ(outcomes[1].verb, OutcomeVerb::reject);
  EXPECT_NE(outcomes[1].reason.find("no number"), std::string::npos);
  EXPECT_FALSE(rig.stopping) << "run() can be called again";
}

TEST(ConsumerRun, StopFromAnotherThreadWakesItWhileItSleeps) {
  for (const std::uint32_t concurrency : {1U, 3U}) {
    RunRig rig;
    rig.group.assign(0);
    ConsumerOptions options;
    options.wait = WaitStrategy::sleep;
    auto consumer = rig.consumer(options);
    std::thread other([&] {
      while (rig.group.region().asleep.load() == 0) std::this_thread::yield();
      rig.stop(*consumer);
    });
    EXPECT_TRUE(rig.run(*consumer, [](const Delivery&) { return Status(); }, {.concurrency = concurrency}));
    other.join();
  }
}

TEST(ConsumerRun, AnErrorEndsIt) {
  RunRig rig;
  rig.group.assign(0);
  auto consumer = rig.consumer();
  rig.group.delete_group();
  rig.group.end_member();
  for (const std::uint32_t concurrency : {1U, 2U}) {
    const Status status = rig.run(*consumer, [](const Delivery&) { return Status(); }, {.concurrency = concurrency});
    ASSERT_FALSE(status);
    EXPECT_EQ(status.error().code(), ErrorCode::closed);
  }
}

TEST(ConsumerRun, ADaemonThatIsAwayDoesNot) {
  RunRig rig;
  rig.group.assign(0);
  auto consumer = rig.consumer();
  std::thread other([&] {
    rig.bus->hang_up();
    std::this_thread::sleep_for(50ms);
    rig.bus->resume();
    rig.send_numbers(0, 1);
  });
  EXPECT_TRUE(rig.run(*consumer, [&](const Delivery&) {
    rig.stop(*consumer);
    return Status();
  }));
  other.join();
}

TEST(ConsumerRun, MessagesOfAKeyAreHandledInOrderAndOthersBesideThem) {
  RunRig rig({.segment_size = 1 << 20, .slots = 8});
  rig.group.assign(0);
  auto consumer = rig.consumer();
  constexpr int kMessages = 400;
  std::vector<Receipt> receipts;
  for (int i = 0; i < kMessages; ++i)
    receipts.push_back(rig.send_keyed(std::to_string(i), std::string(1, static_cast<char>('a' + i % 5))));
  std::mutex mutex;
  std::map<std::string, int> last;
  std::set<std::string> running;
  std::size_t beside = 0;
  int handled = 0;
  const Status status = rig.run(*consumer,
                                [&](const Delivery& delivery) {
                                  const std::string key(delivery.message().key());
                                  const int number = std::stoi(std::string(delivery.message().text()));
                                  {
                                    const std::lock_guard lock(mutex);
                                    EXPECT_TRUE(running.insert(key).second) << "one at a time";
                                    EXPECT_TRUE(!last.contains(key) || last[key] < number);
                                    last[key] = number;
                                    beside = std::max(beside, running.size());
                                  }
                                  std::this_thread::sleep_for(std::chrono::microseconds(200));
                                  const std::lock_guard lock(mutex);
                                  running.erase(key);
                                  if (++handled == kMessages) rig.stop(*consumer);
                                  return Status();
                                },
                                {.concurrency = 4});
  EXPECT_TRUE(status);
  EXPECT_EQ(handled, kMessages);
  EXPECT_GT(beside, 1u);
  EXPECT_EQ(rig.group.cell(0).acked.load(), receipts.back().end.value);
  EXPECT_EQ(consumer->in_hand(), 0u);
}

TEST(ConsumerRun, WhatWasTakenIsHandledToItsEnd) {
  RunRig rig;
  rig.group.assign(0);
  auto consumer = rig.consumer();
  for (int i = 0; i < 50; ++i) rig.send_keyed(std::to_string(i), std::to_string(i));
  std::atomic<int> handled{0};
  EXPECT_TRUE(rig.run(*consumer,
                      [&](const Delivery&) {
                        if (handled++ == 0) rig.stop(*consumer);
                        return Status();
                      },
                      {.concurrency = 2}));
  EXPECT_EQ(consumer->in_hand(), 0u);
  EXPECT_LT(handled, 50);
  EXPECT_EQ(static_cast<int>(consumer->counters().acked), handled);
}

TEST(ConsumerRun, WhileAHandlerRunsItsTimeoutIsRenewed) {
  for (const std::uint32_t concurrency : {1U, 2U}) {
    for (const bool auto_extend : {true, false}) {
      RunRig rig;
      rig.group.config.ack_timeout = 60ms;
      const std::vector<Receipt> receipts = rig.send_numbers(0, 1);
      rig.group.assign(0);
      auto consumer = rig.consumer();
      const std::uint64_t progress = rig.group.region().progress.load();
      const auto handler = [&](const Delivery&) {
        const auto until = std::chrono::steady_clock::now() + (auto_extend ? 60s : 200ms);
        while (rig.group.peek_outcomes().size() < 3 && std::chrono::steady_clock::now() < until)
          std::this_thread::sleep_for(1ms);
        rig.stop(*consumer);
        return Status();
      };
      EXPECT_TRUE(rig.run(*consumer, handler, {.concurrency = concurrency, .auto_extend = auto_extend}));
      const auto outcomes = rig.group.read_outcomes();
      if (!auto_extend) {
        EXPECT_TRUE(outcomes.empty());
        continue;
      }
      ASSERT_GE(outcomes.size(), 3u);
      for (const Outcome& one : outcomes) {
        EXPECT_EQ(one.verb, OutcomeVerb::extend);
        EXPECT_EQ(one.target, receipts[0].position.value);
        EXPECT_EQ(one.argument, 60'000'000u);
      }
      EXPECT_GE(rig.group.region().progress.load(), progress + 3) << "it is not hung";
    }
  }
}

TEST(ConsumerRun, StrictByKeyWhatWasTakenBehindAFailureIsDeferredNotHandled) {
  RunRig rig;
  rig.group.config.strict = Strict::key;
  rig.group.assign(0);
  auto consumer = rig.consumer();
  std::vector<Receipt> receipts;
  for (int i = 0; i < 6; ++i) receipts.push_back(rig.send_keyed(std::to_string(i), "a"));
  const Receipt other = rig.send_keyed("other", "b");
  std::mutex mutex;
  Texts handled;
  EXPECT_TRUE(rig.run(*consumer,
                      [&](const Delivery& delivery) -> Status {
                        const std::lock_guard lock(mutex);
                        handled.emplace_back(delivery.message().text());
                        if (handled.back() == "other") rig.stop(*consumer);
                        if (handled.size() == 1) return fail(ErrorCode::io, "not now");
                        return {};
                      },
                      {.concurrency = 3}));
  EXPECT_EQ(handled, (Texts{"0", "other"}));
  const auto outcomes = rig.group.read_outcomes();
  ASSERT_GE(outcomes.size(), 6u);
  EXPECT_EQ(outcomes[0].verb, OutcomeVerb::nack);
  for (std::size_t i = 1; i < 6; ++i) {
    EXPECT_EQ(outcomes[i].verb, OutcomeVerb::defer);
    EXPECT_EQ(outcomes[i].target, receipts[i].position.value);
  }
  EXPECT_EQ(rig.group.cell(0).acked.load(), other.end.value);
}

TEST(ConsumerRun, StrictByPartitionOneMessageOfAPartitionIsHandledAtATime) {
  RunRig rig;
  rig.group.config.strict = Strict::partition;
  rig.group.assign(0);
  auto consumer = rig.consumer();
  for (int i = 0; i < 6; ++i) rig.send_keyed(std::to_string(i), std::to_string(i));
  std::atomic<int> running{0};
  std::atomic<int> handled{0};
  EXPECT_TRUE(rig.run(*consumer,
                      [&](const Delivery&) {
                        EXPECT_EQ(running++, 0);
                        std::this_thread::sleep_for(1ms);
                        --running;
                        if (++handled == 6) rig.stop(*consumer);
                        return Status();
                      },
                      {.concurrency = 3}));
  EXPECT_EQ(handled, 6);
}

}  // namespace
}  // namespace sluice::test
