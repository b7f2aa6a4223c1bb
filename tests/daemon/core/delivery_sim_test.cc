// Deterministic simulation of delivery: the machine on a simulated clock, members that settle, fail, stop, die and come
// back, a daemon that restarts from what was saved, all from the dice of a seed; checked against what is true of each
// message.
//
//   delivery_sim_test                     the default number of seeds (SLUICE_TEST_LONG=1: 200,000)
//   delivery_sim_test --seeds=N --from=M  so many, from that one on
//   delivery_sim_test --seed=N            one, and tells what happens
#include <signal.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include <gtest/gtest.h>

#include "tests/daemon/core/delivery_world.h"

namespace sluice::core::sim {
namespace {

constexpr std::uint64_t kSeedsDefault = 10'000;
constexpr std::uint64_t kSeedsLong = 200'000;
constexpr std::uint64_t kSteps = 500;

std::uint64_t seeds = kSeedsDefault;
std::uint64_t from = 1;
bool only_one = false;
std::string program;
char replay[512];

// An assertion of the code under test aborts: the seed must be told all the same.
void on_abort(int) {
  [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, replay, std::strlen(replay));
  ::signal(SIGABRT, SIG_DFL);
}

void add(World::Reached& sum, const World::Reached& reached) {
  sum.messages += reached.messages;
  sum.deaths += reached.deaths;
  sum.hung += reached.hung;
  sum.restarts += reached.restarts;
  sum.seeks += reached.seeks;
  sum.timeouts += reached.timeouts;
  sum.parked += reached.parked;
  sum.redriven += reached.redriven;
  sum.refused += reached.refused;
  sum.suspects += reached.suspects;
  sum.deferred += reached.deferred;
  sum.hand_overs += reached.hand_overs;
  sum.recalled += reached.recalled;
  sum.retaken += reached.retaken;
  sum.refused_saves += reached.refused_saves;
  sum.lost_seeks += reached.lost_seeks;
}

void print(const World::Reached& sum) {
  const auto number = [](std::uint64_t value) { return static_cast<unsigned long long>(value); };
  std::printf(
      "seeds %llu: messages %llu; deaths %llu, hung %llu; restarts %llu, taken over by them %llu; seeks %llu, "
      "lost with the daemon %llu; saves refused %llu; withdrawn %llu; parked %llu, redriven %llu; outcomes refused "
      "%llu; suspects %llu; deferred %llu; hand-overs "
      "%llu; recalled %llu\n",
      number(seeds), number(sum.messages), number(sum.deaths), number(sum.hung), number(sum.restarts),
      number(sum.retaken), number(sum.seeks), number(sum.lost_seeks), number(sum.refused_saves), number(sum.timeouts),
      number(sum.parked), number(sum.redriven), number(sum.refused), number(sum.suspects), number(sum.deferred),
      number(sum.hand_overs), number(sum.recalled));
}

TEST(DeliverySimulation, LosesNothingAndBreaksNoPromiseWhateverHappens) {
  World::Reached sum;
  for (std::uint64_t seed = from; seed < from + seeds; ++seed) {
    std::snprintf(replay, sizeof replay, "replay it with: %s --seed=%llu\n", program.c_str(),
                  static_cast<unsigned long long>(seed));
    try {
      World world(seed, only_one);
      world.run(kSteps);
      add(sum, world.reached());
    } catch (const Broken& broken) {
      FAIL() << "seed " << seed << ": " << broken.what() << "\n" << replay;
    }
  }
  print(sum);
  if (seeds < kSeedsDefault) return;
  // A simulation in which nothing happens proves nothing.
  EXPECT_GT(sum.messages, 50'000u);
  for (const std::uint64_t reached :
       {sum.deaths, sum.hung, sum.restarts, sum.retaken, sum.seeks, sum.timeouts, sum.parked, sum.redriven, sum.refused,
        sum.suspects, sum.deferred, sum.hand_overs, sum.recalled, sum.refused_saves, sum.lost_seeks})
    EXPECT_GT(reached, 200u);
}

bool take_number(const char* argument, const char* flag, std::uint64_t& into) {
  const std::size_t size = std::strlen(flag);
  if (std::strncmp(argument, flag, size) != 0) return false;
  into = std::strtoull(argument + size, nullptr, 10);
  return true;
}

}  // namespace

void take_arguments(int argc, char** argv) {
  program = argv[0];
  const char* wants_long = std::getenv("SLUICE_TEST_LONG");
  if (wants_long != nullptr && std::strcmp(wants_long, "1") == 0) seeds = kSeedsLong;
  for (int i = 1; i < argc; ++i) {
    take_number(argv[i], "--seeds=", seeds);
    take_number(argv[i], "--from=", from);
    if (!take_number(argv[i], "--seed=", from)) continue;
    only_one = true;
    seeds = 1;
  }
}

}  // namespace sluice::core::sim

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  sluice::core::sim::take_arguments(argc, argv);
  ::signal(SIGABRT, sluice::core::sim::on_abort);
  return RUN_ALL_TESTS();
}
