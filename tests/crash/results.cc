#include "tests/crash/results.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <fstream>
#include <optional>
#include <utility>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "tests/crash/daemon_process.h"

namespace sluice::test {
namespace {

using Clock = std::chrono::steady_clock;

struct Earlier {
  std::uint64_t rounds = 0;
  std::uint64_t next_seed = 1;
};

std::optional<std::string> environment(const char* name) {
  const char* value = std::getenv(name);
  if (value == nullptr || *value == '\0') return std::nullopt;
  return value;
}

// What earlier runs of the driver have done. A line that a stopped run left half-written counts nothing.
Earlier read_results(const std::string& path, const std::string& driver) {
  Earlier earlier;
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    const auto entry = nlohmann::json::parse(line, nullptr, false);
    if (!entry.is_object() || entry.value("driver", "") != driver) continue;
    const std::uint64_t rounds = entry.value("rounds", std::uint64_t{0});
    earlier.rounds += rounds;
    earlier.next_seed = std::max(earlier.next_seed, entry.value("seed_first", std::uint64_t{0}) + rounds);
  }
  return earlier;
}

void append_result(const std::string& path, const std::string& driver, std::uint64_t seed, std::uint64_t rounds,
                   const Counts& counts) {
  const nlohmann::json entry = {{"driver", driver}, {"seed_first", seed}, {"rounds", rounds}, {"counts", counts}};
  std::ofstream file(path, std::ios::app);
  file << entry.dump() << std::endl;
  if (!file) ADD_FAILURE() << "appending to the results file " << path << " failed: is the folder there?";
}

std::string text_of(const Counts& counts) {
  std::string text;
  for (const auto& [name, count] : counts) text += ", " + std::to_string(count) + " " + name;
  return text;
}

}  // namespace

void run_rounds(const RoundsPlan& plan, const std::function<std::uint64_t(std::uint64_t seed, Counts& counts)>& round) {
  const auto results = environment("SLUICE_RESULTS");
  const auto chosen = environment("SLUICE_SEED");
  Earlier earlier;
  if (results && long_run()) earlier = read_results(*results, plan.driver);
  std::uint64_t wanted = plan.rounds;
  if (long_run()) wanted = plan.long_goal - std::min(plan.long_goal, earlier.rounds);
  if (chosen) wanted = 1;
  if (wanted == 0) {
    std::printf("  %s: all %llu rounds were run before, says the results file\n", plan.driver.c_str(),
                static_cast<unsigned long long>(plan.long_goal));
    return;
  }
  const std::uint64_t first = chosen ? std::strtoull(chosen->c_str(), nullptr, 10) : earlier.next_seed;
  std::uint64_t budget = long_run() ? plan.long_budget_seconds : plan.budget_seconds;
  if (const auto given = environment("SLUICE_BUDGET"); given && long_run())
    budget = std::strtoull(given->c_str(), nullptr, 10);
  const auto end = Clock::now() + std::chrono::seconds(budget);
  Counts sums;
  std::uint64_t seed = first;
  while (seed - first < wanted && (seed == first || Clock::now() < end)) {
    Counts counts;
    std::uint64_t rounds = 0;
    try {
      rounds = round(seed, counts);
    } catch (const std::exception& error) {
      ADD_FAILURE() << error.what();
    }
    if (testing::Test::HasFailure()) {
      ADD_FAILURE() << plan.driver << ": SLUICE_SEED=" << seed << " runs this round again";
      break;
    }
    if (results) append_result(*results, plan.driver, seed, rounds, counts);
    for (const auto& [name, count] : counts) sums[name] += count;
    seed += rounds;
  }
  std::printf("  %s: %llu rounds, seeds from %llu%s\n", plan.driver.c_str(),
              static_cast<unsigned long long>(seed - first), static_cast<unsigned long long>(first),
              text_of(sums).c_str());
  EXPECT_GT(seed, first) << plan.driver << ": no round was completed";
}

}  // namespace sluice::test
