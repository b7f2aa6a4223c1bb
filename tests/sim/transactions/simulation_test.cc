// Deterministic simulation of transactions: the whole bus as it is, over a simulated disk, store and clock;
// applications that begin transactions, answer checks, hang and die, an operator, and daemons that are killed at any
// step, stopped, or lose their power, from the dice of a seed.
//
//   transaction_sim_test                     the default number of seeds (SLUICE_TEST_LONG=1: 200,000)
//   transaction_sim_test --seeds=N --from=M  so many, from that one on
//   transaction_sim_test --seed=N            one, and tells what happens
#include <malloc.h>
#include <signal.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include <gtest/gtest.h>
#include <spdlog/spdlog.h>

#include "tests/sim/transactions/world.h"

namespace sluice::transactions::sim {
namespace {

constexpr std::uint64_t kSeedsDefault = 10'000;
constexpr std::uint64_t kSeedsLong = 200'000;

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

using Reached = World::Reached;
struct Named {
  const char* name;
  std::uint64_t Reached::*count;
};
// What a run came to, as it is told.
constexpr Named kReached[] = {
    {"transactions", &Reached::transactions},
    {"halves committed", &Reached::committed},
    {"rolled back", &Reached::rolled_back},
    {"lost with memory", &Reached::lost},
    {"lives", &Reached::lives},
    {"kills", &Reached::kills},
    {"of them inside a step", &Reached::kills_at_points},
    {"power losses", &Reached::power_losses},
    {"stops", &Reached::stops},
    {"memory kept", &Reached::adoptions},
    {"ended while they started", &Reached::died_in_start},
    {"starts refused", &Reached::refused_starts},
    {"stores failed", &Reached::store_failures},
    {"commits refused", &Reached::refused_commits},
    {"applications died", &Reached::deaths},
    {"hung", &Reached::hung},
    {"checks answered", &Reached::checks},
    {"parked", &Reached::parked},
    {"decided by hand", &Reached::by_hand},
    {"told what stood", &Reached::told_later},
    {"refused for their halves or acks", &Reached::conflicts},
    {"inputs", &Reached::inputs},
    {"lost with memory", &Reached::inputs_lost},
    {"transactions with inputs", &Reached::with_inputs},
    {"inputs acked by a commit", &Reached::acked_by_commit},
    {"acked plainly", &Reached::acked_plainly},
    {"nacked", &Reached::nacks},
    {"handed out again", &Reached::redelivered},
    {"refused for their acks", &Reached::acks_refused},
    {"partitions that moved", &Reached::rebalances},
    {"members that joined again", &Reached::rejoins},
};

TEST(TransactionSimulation, IsAllOrNothingByTheFirstAnswerWhoeverDiesAndWhen) {
  Reached sum;
  for (std::uint64_t seed = from; seed < from + seeds; ++seed) {
    std::snprintf(replay, sizeof replay, "replay it with: %s --seed=%llu\n", program.c_str(),
                  static_cast<unsigned long long>(seed));
    try {
      World world(seed, only_one);
      world.run();
      for (const Named& one : kReached) sum.*one.count += world.reached.*one.count;
    } catch (const Broken& broken) {
      FAIL() << "seed " << seed << ": " << broken.what() << "\n" << replay;
    }
  }
  std::printf("seeds %llu", static_cast<unsigned long long>(seeds));
  for (const Named& one : kReached) std::printf("; %s %llu", one.name, static_cast<unsigned long long>(sum.*one.count));
  std::printf("\n");
  if (seeds < kSeedsDefault) return;
  // A simulation in which nothing happens proves nothing.
  for (const Named& one : kReached) EXPECT_GT(sum.*one.count, 200u) << one.name;
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
  spdlog::set_level(only_one ? spdlog::level::debug : spdlog::level::off);
}

}  // namespace sluice::transactions::sim

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  // Simulated files come and go: giving their pages back to the kernel costs more than all else.
  ::mallopt(M_MMAP_THRESHOLD, 32 << 20);
  ::mallopt(M_TRIM_THRESHOLD, 512 << 20);
  sluice::transactions::sim::take_arguments(argc, argv);
  ::signal(SIGABRT, sluice::transactions::sim::on_abort);
  return RUN_ALL_TESTS();
}
