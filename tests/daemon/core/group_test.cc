#include "daemon/core/group.h"

#include <gtest/gtest.h>

namespace sluice::core {
namespace {

GroupConfig good() {
  GroupConfig config;
  config.name = "billing";
  return config;
}

template <typename Change>
bool is_refused(Change change) {
  GroupConfig config = good();
  change(config);
  const Status status = check(config);
  return !status && status.error().code() == ErrorCode::invalid;
}

TEST(Backoff, AListIsExactAndItsLastStepStandsForAllLaterOnes) {
  Backoff backoff;
  backoff.steps_ns = {5, 70, 900};
  for (const std::uint64_t dice : {0ull, 1ull, ~0ull}) {
    EXPECT_EQ(backoff.delay_ns(1, dice), 5u);
    EXPECT_EQ(backoff.delay_ns(2, dice), 70u);
    EXPECT_EQ(backoff.delay_ns(3, dice), 900u);
    EXPECT_EQ(backoff.delay_ns(1'000'000, dice), 900u);
  }
}

TEST(Backoff, WithoutAListItDoublesUpToItsMaximumSpreadOverTheUpperHalf) {
  Backoff backoff;
  backoff.first_ns = 100;
  backoff.max_ns = 1'000;
  const std::uint64_t whole[] = {100, 200, 400, 800, 1'000, 1'000};
  for (std::uint32_t failed = 1; failed <= 6; ++failed) {
    std::uint64_t least = UINT64_MAX;
    std::uint64_t most = 0;
    for (std::uint64_t dice = 0; dice < 2'000; ++dice) {
      least = std::min(least, backoff.delay_ns(failed, dice));
      most = std::max(most, backoff.delay_ns(failed, dice));
    }
    EXPECT_EQ(most, whole[failed - 1]);
    EXPECT_EQ(least, whole[failed - 1] / 2);
  }
  EXPECT_LE(backoff.delay_ns(4'000'000'000u, 0), 1'000u);
}

TEST(Backoff, TheLargestDelaysDoNotOverflow) {
  Backoff backoff;
  backoff.first_ns = UINT64_MAX / 2 + 1;
  backoff.max_ns = UINT64_MAX;
  EXPECT_EQ(backoff.delay_ns(64, 0), UINT64_MAX);
}

TEST(GroupCheck, TakesWhatIsRightAndNamesWhatIsNot) {
  EXPECT_TRUE(check(good()));
  EXPECT_TRUE(is_refused([](GroupConfig& config) { config.name = ""; }));
  EXPECT_TRUE(is_refused([](GroupConfig& config) { config.name = ".hidden"; }));
  EXPECT_TRUE(is_refused([](GroupConfig& config) { config.name = "a/b"; }));
  EXPECT_TRUE(is_refused([](GroupConfig& config) { config.name = std::string(kGroupNameSizeMax + 1, 'a'); }));
  EXPECT_TRUE(is_refused([](GroupConfig& config) { config.ack_timeout_ns = 9'999'999; }));
  EXPECT_TRUE(is_refused([](GroupConfig& config) { config.member_timeout_ns = 0; }));
  EXPECT_TRUE(is_refused([](GroupConfig& config) { config.max_attempts = 0; }));
  EXPECT_TRUE(is_refused([](GroupConfig& config) { config.backoff.steps_ns.assign(kBackoffStepsMax + 1, 1); }));
  EXPECT_TRUE(is_refused([](GroupConfig& config) { config.backoff.steps_ns = {UINT64_MAX}; }));
  EXPECT_TRUE(is_refused([](GroupConfig& config) { config.backoff.first_ns = 0; }));
  EXPECT_TRUE(is_refused([](GroupConfig& config) { config.backoff.first_ns = config.backoff.max_ns + 1; }));
  EXPECT_TRUE(is_refused([](GroupConfig& config) {
    config.mode = GroupMode::shared;
    config.strict = Strict::key;
  }));
  GroupConfig longest = good();
  longest.name = std::string(kGroupNameSizeMax, 'a');
  EXPECT_TRUE(check(longest));
}

TEST(GroupChange, ChangesWhatItNamesAndIsCheckedAsAWhole) {
  GroupChange change;
  change.max_attempts = 5;
  change.hold = true;
  GroupConfig wanted = good();
  wanted.max_attempts = 5;
  wanted.hold = true;
  EXPECT_EQ(apply(good(), change).value(), wanted);
  change.strict = Strict::key;
  GroupConfig shared = good();
  shared.mode = GroupMode::shared;
  EXPECT_FALSE(apply(shared, change));
}

TEST(GroupPatterns, AStarStandsForAnyCharactersAndAllElseForItself) {
  EXPECT_TRUE(matches("orders", "orders"));
  EXPECT_FALSE(matches("orders", "orders.eu"));
  EXPECT_TRUE(matches("orders.*", "orders.eu"));
  EXPECT_TRUE(matches("orders.*", "orders."));
  EXPECT_FALSE(matches("orders.*", "orders"));
  EXPECT_TRUE(matches("*", "anything"));
  EXPECT_TRUE(matches("a*b*c", "aXbYbZc"));
  EXPECT_FALSE(matches("a*b*c", "aXbYbZ"));
  EXPECT_TRUE(matches("**", ""));
  EXPECT_FALSE(matches("a.b*", "aXb"));
}

TEST(GroupPatterns, DeadLettersAreNamedInFullOnly) {
  EXPECT_FALSE(matches("*", "dlq.billing"));
  EXPECT_FALSE(matches("dlq.*", "dlq.billing"));
  EXPECT_TRUE(matches("dlq.billing", "dlq.billing"));
  EXPECT_EQ(dead_letter_topic("billing"), "dlq.billing");
  EXPECT_EQ(dead_letter_group("dlq.billing"), "billing");
  EXPECT_EQ(dead_letter_group("billing"), "");
}

TEST(GroupPatterns, WhatCannotNameATopicIsRefused) {
  EXPECT_TRUE(check_pattern("orders.*"));
  EXPECT_FALSE(check_pattern(""));
  EXPECT_FALSE(check_pattern("a b"));
  EXPECT_FALSE(check_pattern(std::string(kTopicNameSizeMax + 1, '*')));
}

}  // namespace
}  // namespace sluice::core
