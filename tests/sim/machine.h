// What outlives a daemon in a simulation: the disk's media, the store's, the clock, the dice, and what is true.
// Owner: the simulation's one thread.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "daemon/core/topic.h"
#include "daemon/io/sim_disk.h"
#include "daemon/store/sim_store.h"
#include "tests/sim/memory.h"
#include "tests/sim/truth.h"

namespace sluice::sim {

// What a seed chooses once.
struct Scenario {
  core::TopicConfig topic;
  std::uint32_t segments_per_file = 2;
  std::uint64_t flush_interval_ns = 0;
  std::uint64_t checkpoint_segments = 1;
  std::uint32_t queue_depth = 64;
  std::uint32_t delay_reaps_max = 3;
  std::uint32_t producers = 3;
  std::uint32_t lives = 3;
  bool tight_disk = false;   // runs full now and then
  bool faulty_disk = false;  // a write or sync may fail
};

struct Variant {
  bool mirrored = false;      // two copies, of which one at a time is unlucky
  bool keeps_memory = false;  // most lives leave it to the next one
  bool delays = false;        // some messages are delayed; the others' seeds run as they would without
  bool operator==(const Variant&) const = default;
};

struct Machine {
  Machine(std::uint64_t seed_number, bool tell, Variant variant);
  std::uint64_t below(std::uint64_t limit) { return random.below(limit); }
  // True once in `n`.
  bool one_in(std::uint64_t n) { return random.below(n) == 0; }
  void tell(const std::string& what) const;

  const std::uint64_t seed;
  const bool verbose;
  const bool mirrored;
  const bool keeps_memory;
  const bool delays;
  io::SimRandom random;
  const Scenario scenario;
  std::shared_ptr<io::SimMedia> media;
  store::SimStoreMedium store;
  std::unique_ptr<Memory> memory;                           // that a life has left, until the next one takes it
  std::vector<Truth> truths;                                // by partition
  std::map<std::string, std::vector<ProducerId>> attaches;  // of producer names: the last one is the holder
  // Holders that were fenced in some partitions, and then a life ended before their successor was attached in all: what
  // they sent above the fence counts for their name after a restart.
  std::set<ProducerId> half_fenced;
  std::size_t victim = 0;  // the copy that everything but power losses happens to
  bool mirrors_made = false;
  std::uint64_t now_ns = 1'000'000'000;
  // What the run reached, so that a test can say that it reached it.
  struct Reached {
    std::uint64_t messages = 0;
    std::uint64_t expired = 0;
    std::uint64_t repaired = 0;
    std::uint64_t fences = 0;
    std::uint64_t power_losses = 0;
    std::uint64_t losses_in_recovery = 0;
    std::uint64_t kills = 0;
    std::uint64_t clean_stops = 0;
    std::uint64_t poisoned = 0;
    std::uint64_t full_disks = 0;
    std::uint64_t file_reads = 0;
    std::uint64_t cut_messages = 0;
    // With mirrors.
    std::uint64_t rotten_bits = 0;
    std::uint64_t mended = 0;  // segments
    std::uint64_t stale = 0;
    std::uint64_t filled = 0;
    // With kept memory.
    std::uint64_t adoptions = 0;
    std::uint64_t killed_in_adoption = 0;
    std::uint64_t stops_that_leave = 0;
    // With delays.
    std::uint64_t delayed = 0;          // sent
    std::uint64_t waiting_found = 0;    // by recoveries, and by adoptions
    std::uint64_t delivered_found = 0;  // refs that these met
  } reached;
};

inline const std::vector<std::string> kMirrorRoots = {"/data", "/mirror"};

// Runs one seed from its first life to its last. Throws Failure.
void run_seed(Machine& machine);

}  // namespace sluice::sim
