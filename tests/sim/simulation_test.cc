// Deterministic simulation of the durable path: ring, spill, log, recovery and audit as they are, over a simulated
// disk, store and clock; power losses, kills, deaths, stalls and full disks from the dice of a seed.
//
//   sim_test                     the default number of seeds
//   sim_test --seeds=N --from=M  so many, from that one on (SLUICE_TEST_LONG=1: 100,000)
//   sim_test --seed=N            one, and tells what happens
#include <signal.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include <gtest/gtest.h>
#include <spdlog/spdlog.h>

#include "tests/sim/machine.h"

namespace sluice::sim {
namespace {

constexpr std::uint64_t kSeedsDefault = 2'000;
constexpr std::uint64_t kSeedsLong = 100'000;

std::uint64_t seeds = kSeedsDefault;
std::uint64_t from = 1;
bool only_one = false;
std::string program;
char replay[512];

void set_replay(std::uint64_t seed) {
  std::snprintf(replay, sizeof replay, "replay it with: %s --seed=%llu\n", program.c_str(),
                static_cast<unsigned long long>(seed));
}

// An assertion of the code under test aborts: the seed must be told all the same.
void on_abort(int) {
  [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, replay, std::strlen(replay));
  ::signal(SIGABRT, SIG_DFL);
}

TEST(Simulation, KeepsWhatAReceiptHasPromised) {
  Machine::Reached sum;
  for (std::uint64_t seed = from; seed < from + seeds; ++seed) {
    set_replay(seed);
    Machine machine(seed, only_one);
    try {
      run_seed(machine);
    } catch (const Failure& failure) {
      FAIL() << "seed " << seed << ": " << failure.what() << "\n" << replay;
    }
    const Machine::Reached& reached = machine.reached;
    sum.messages += reached.messages;
    sum.expired += reached.expired;
    sum.repaired += reached.repaired;
    sum.fences += reached.fences;
    sum.power_losses += reached.power_losses;
    sum.losses_in_recovery += reached.losses_in_recovery;
    sum.kills += reached.kills;
    sum.clean_stops += reached.clean_stops;
    sum.poisoned += reached.poisoned;
    sum.full_disks += reached.full_disks;
    sum.file_reads += reached.file_reads;
    sum.cut_messages += reached.cut_messages;
  }
  std::printf(
      "seeds %llu: messages %llu, cut by power losses %llu; power losses %llu, and in recoveries %llu; kills %llu, "
      "clean "
      "stops %llu; claims expired %llu, of the dead %llu; fences %llu; poisoned %llu; full disks %llu; reads from "
      "files %llu\n",
      static_cast<unsigned long long>(seeds), static_cast<unsigned long long>(sum.messages),
      static_cast<unsigned long long>(sum.cut_messages), static_cast<unsigned long long>(sum.power_losses),
      static_cast<unsigned long long>(sum.losses_in_recovery), static_cast<unsigned long long>(sum.kills),
      static_cast<unsigned long long>(sum.clean_stops), static_cast<unsigned long long>(sum.expired),
      static_cast<unsigned long long>(sum.repaired), static_cast<unsigned long long>(sum.fences),
      static_cast<unsigned long long>(sum.poisoned), static_cast<unsigned long long>(sum.full_disks),
      static_cast<unsigned long long>(sum.file_reads));
  if (only_one || seeds < kSeedsDefault) return;
  // A simulation in which nothing happens proves nothing.
  EXPECT_GT(sum.messages, 100'000u);
  for (const std::uint64_t count :
       {sum.cut_messages, sum.power_losses, sum.losses_in_recovery, sum.kills, sum.clean_stops, sum.expired,
        sum.repaired, sum.fences, sum.poisoned, sum.full_disks, sum.file_reads})
    EXPECT_GT(count, 50u);
}

}  // namespace

bool take_number(const char* argument, const char* flag, std::uint64_t& into) {
  const std::size_t size = std::strlen(flag);
  if (std::strncmp(argument, flag, size) != 0) return false;
  into = std::strtoull(argument + size, nullptr, 10);
  return true;
}

void take_arguments(int argc, char** argv) {
  program = argv[0];
  const char* wants_long = std::getenv("SLUICE_TEST_LONG");
  if (wants_long != nullptr && std::strcmp(wants_long, "1") == 0) seeds = kSeedsLong;
  for (int i = 1; i < argc; ++i) {
    take_number(argv[i], "--seeds=", seeds);
    take_number(argv[i], "--from=", from);
    if (take_number(argv[i], "--seed=", from)) {
      only_one = true;
      seeds = 1;
    }
  }
}

}  // namespace sluice::sim

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  sluice::sim::take_arguments(argc, argv);
  spdlog::set_level(sluice::sim::only_one ? spdlog::level::debug : spdlog::level::off);
  ::signal(SIGABRT, sluice::sim::on_abort);
  return RUN_ALL_TESTS();
}
