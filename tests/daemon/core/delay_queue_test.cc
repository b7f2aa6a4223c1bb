#include "daemon/core/delay_queue.h"

#include <algorithm>
#include <map>
#include <random>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace sluice::core {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

DelayQueue settled_queue() {
  DelayQueue queue;
  queue.settle();
  return queue;
}

// Delivers what is due, at positions from `ref` on, and meets it.
std::vector<std::uint64_t> deliver(DelayQueue& queue, std::uint64_t now_ns, Position& ref) {
  std::vector<std::uint64_t> positions;
  while (const auto due = queue.due(now_ns)) {
    queue.sent(ref);
    EXPECT_TRUE(queue.met(ref, due->position));
    positions.push_back(due->position.value);
    ref = ref + 64;
  }
  return positions;
}

TEST(DelayQueue, GivesEachAtItsTimeAndNotBeforeInTheOrderOfTimes) {
  DelayQueue queue = settled_queue();
  queue.note({300, Position(64)});
  queue.note({100, Position(128)});
  queue.note({300, Position(192)});
  queue.note({200, Position(256)});
  Position ref(10'000);
  EXPECT_EQ(queue.next_due_ns(), 100u);
  EXPECT_THAT(deliver(queue, 99, ref), IsEmpty());
  EXPECT_THAT(deliver(queue, 100, ref), ElementsAre(128));
  EXPECT_THAT(deliver(queue, 299, ref), ElementsAre(256));
  EXPECT_THAT(deliver(queue, 1000, ref), ElementsAre(64, 192)) << "of the same time the one that was sent first";
  EXPECT_EQ(queue.size(), 0u);
  EXPECT_FALSE(queue.next_due_ns());
}

TEST(DelayQueue, ManyAreEachDeliveredOnceExactlyAtTheirTimes) {
  std::mt19937_64 random(7);
  DelayQueue queue = settled_queue();
  std::multimap<std::uint64_t, std::uint64_t> truth;
  for (std::uint64_t i = 1; i <= 20'000; ++i) {
    const std::uint64_t due = random() % 1000;
    queue.note({due, Position(i * 64)});
    truth.emplace(due, i * 64);
  }
  Position ref(1'000'000'000);
  for (std::uint64_t now = 0; now < 1000; ++now) {
    std::vector<std::uint64_t> expected;
    for (auto [at, end] = truth.equal_range(now); at != end; ++at) expected.push_back(at->second);
    ASSERT_EQ(deliver(queue, now, ref), expected) << now;
  }
  EXPECT_EQ(queue.size(), 0u);
}

TEST(DelayQueue, ARefThatWasOverwrittenIsSentAgain) {
  DelayQueue queue = settled_queue();
  queue.note({1, Position(64)});
  queue.sent(Position(640));
  EXPECT_FALSE(queue.due(5));
  queue.passed(Position(640));
  EXPECT_FALSE(queue.due(5)) << "the scan stands before it";
  queue.passed(Position(704));
  ASSERT_TRUE(queue.due(5));
  EXPECT_EQ(queue.size(), 1u);
}

TEST(DelayQueue, KnowsARefOfItsOwnByPlaceAndMeaning) {
  DelayQueue queue = settled_queue();
  queue.note({1, Position(64)});
  queue.note({9, Position(128)});
  EXPECT_FALSE(queue.met(Position(600), Position(128))) << "nobody has sent that one";
  queue.sent(Position(640));
  EXPECT_FALSE(queue.met(Position(640), Position(128)));
  EXPECT_TRUE(queue.met(Position(640), Position(64)));
  EXPECT_FALSE(queue.met(Position(704), Position(64))) << "it has ended";
}

TEST(DelayQueue, NothingIsDueUntilTheRefsOfTheDaemonBeforeWereMet) {
  DelayQueue queue;
  queue.note({1, Position(64)});
  queue.note({2, Position(128)});
  EXPECT_TRUE(queue.met(Position(192), Position(64)));
  EXPECT_TRUE(queue.met(Position(256), Position(8192))) << "of a message that an older snapshot has ended";
  EXPECT_FALSE(queue.due(100));
  queue.settle();
  Position ref(320);
  EXPECT_THAT(deliver(queue, 100, ref), ElementsAre(128));
}

TEST(DelayQueue, NamesTheLowestPositionThatIsNeeded) {
  DelayQueue queue = settled_queue();
  EXPECT_FALSE(queue.oldest());
  queue.note({5, Position(64)});
  queue.note({1, Position(128)});
  queue.note({3, Position(192)});
  Position ref(640);
  EXPECT_EQ(queue.oldest(), Position(64));
  deliver(queue, 1, ref);
  EXPECT_EQ(queue.oldest(), Position(64));
  ASSERT_TRUE(queue.due(4));
  queue.sent(ref);
  ASSERT_TRUE(queue.due(5));
  queue.sent(ref + 64);
  EXPECT_EQ(queue.oldest(), Position(64)) << "sent, and its ref not met";
  EXPECT_TRUE(queue.met(ref, Position(192)));
  EXPECT_EQ(queue.oldest(), Position(64));
  EXPECT_TRUE(queue.met(ref + 64, Position(64)));
  EXPECT_FALSE(queue.oldest());
}

TEST(DelayQueue, ASaveHoldsWhatIsNewAndWhatIsLate) {
  DelayQueue queue = settled_queue();
  queue.note({10, Position(64)});
  queue.note({30, Position(128)});
  Position ref(640);
  deliver(queue, 10, ref);
  DelaySnapshot first = queue.snapshot(Position(704));
  EXPECT_THAT(first.delays, ElementsAre(Delay{30, Position(128)}));
  EXPECT_EQ(first.done, (Delay{10, Position(64)}));
  queue.saved(Position(704), queue.changes());
  EXPECT_FALSE(queue.changed_since_save());
  queue.note({5, Position(768)});
  EXPECT_TRUE(queue.changed_since_save());
  const DelaySnapshot second = queue.snapshot(Position(832));
  EXPECT_THAT(second.delays, IsEmpty()) << "the other one was saved before";
  EXPECT_THAT(second.late, ElementsAre(Delay{5, Position(768)}));
}

// Random traffic; at random points the daemon dies, and the next one starts from what was saved and the records behind
// it: what waits is always what was noted and has no ref.
TEST(DelayQueue, WhateverWaitsIsFoundAgainAfterAnyRestart) {
  for (std::uint64_t seed = 0; seed < 200; ++seed) {
    std::mt19937_64 random(seed);
    struct Record {
      Position at;
      bool is_ref;
      Delay delay;
    };
    std::vector<Record> log;
    std::map<Position, Delay> truth;  // waiting
    DelaySnapshot stored;
    DelayQueue queue = settled_queue();
    Position end(64);
    std::uint64_t now = 0;
    const auto save = [&](bool stores) {
      const DelaySnapshot taken = queue.snapshot(end);
      if (!stores) return;
      std::vector<Delay> delays = stored.delays;
      delays.insert(delays.end(), taken.delays.begin(), taken.delays.end());
      stored = taken;
      stored.delays = std::move(delays);
      queue.saved(end, queue.changes());
    };
    for (int step = 0; step < 400; ++step) {
      const std::uint64_t what = random() % 100;
      if (what < 60) {
        const Delay delay{now + random() % 50, end};
        log.push_back({end, false, delay});
        truth[end] = delay;
        queue.note(delay);
        end = end + 64;
      } else if (what < 80) {
        now += random() % 10;
        while (const auto due = queue.due(now)) {
          queue.sent(end);
          log.push_back({end, true, *due});
          ASSERT_TRUE(truth.erase(due->position)) << "delivered twice, seed " << seed;
          ASSERT_TRUE(queue.met(end, due->position));
          end = end + 64;
        }
        for (const auto& [position, delay] : truth) ASSERT_GT(delay.due_ns, now) << "seed " << seed;
      } else if (what < 92) {
        save(random() % 4 != 0);
      } else {
        queue = DelayQueue();
        queue.restore(stored);
        for (const Record& record : log) {
          if (record.at < stored.upto) continue;
          if (record.is_ref)
            queue.met(record.at, record.delay.position);
          else
            queue.note(record.delay);
        }
        if (random() % 2 == 0) queue.settle();
        const DelaySnapshot copy = queue.snapshot(end);
        queue.settle();
        ASSERT_EQ(copy, queue.snapshot(end)) << "settled or not, it says the same, seed " << seed;
        ASSERT_EQ(queue.size(), truth.size()) << "seed " << seed;
        ASSERT_EQ(queue.oldest(), truth.empty() ? std::nullopt : std::optional(truth.begin()->first));
      }
    }
    now = 1'000'000;
    Position ref = end;
    std::vector<std::uint64_t> rest = deliver(queue, now, ref);
    std::sort(rest.begin(), rest.end());
    std::vector<std::uint64_t> expected;
    for (const auto& [position, delay] : truth) expected.push_back(position.value);
    ASSERT_EQ(rest, expected) << "seed " << seed;
  }
}

}  // namespace
}  // namespace sluice::core
