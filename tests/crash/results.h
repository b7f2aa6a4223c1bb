// Rounds of a fault driver: how many, from which seed, until when; and the results file in which long runs add up.
//
// A round is one use of a fault, and everything random in it follows from its seed. The default suite runs a fixed
// range of seeds, within a budget of time. A long run (long_run()) goes on where the results file of earlier ones ends,
// until the goal is reached or its budget is spent: start it again to go on.
//
//   SLUICE_RESULTS=PATH   the results file: one JSON object a line, {"driver", "seed_first", "rounds", "counts"}
//   SLUICE_BUDGET=N       seconds, in place of a long run's own budget
//   SLUICE_SEED=N         one round, with that seed: what a failure prints to replay it
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>

namespace sluice::test {

using Counts = std::map<std::string, std::uint64_t>;

struct RoundsPlan {
  std::string driver;  // its name in the results file
  std::uint64_t rounds = 0;
  std::uint64_t long_goal = 0;  // of all long runs together
  // No round begins later. The budget says how many there are, never whether they pass.
  std::uint64_t budget_seconds = 0;
  std::uint64_t long_budget_seconds = 720;
};

// Runs rounds until the plan is done or one has failed (a GoogleTest failure), prints the sums, and fails if there was
// no round at all. `round` gets its seed and adds to the counts; it may stand for several seeds: it returns how many.
void run_rounds(const RoundsPlan& plan, const std::function<std::uint64_t(std::uint64_t seed, Counts& counts)>& round);

}  // namespace sluice::test
