// Three simulated disks, /a (the data directory), /b and /c, for the tests of mirrors.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "daemon/io/mirror_disk.h"
#include "daemon/io/sim_disk.h"
#include "daemon/io/sim_random.h"
#include "shm/base/assert.h"

namespace sluice::io {

struct MirrorRig {
  explicit MirrorRig(std::uint64_t seed = 1) : random(seed), media(std::make_shared<SimMedia>(seed)) {}

  std::unique_ptr<SimDisk> another() {
    return std::make_unique<SimDisk>(SimDisk::Options{.seed = random.next(), .queue_depth = 64, .delay_reaps_max = 3},
                                     media);
  }
  Result<MirrorSet> open_set(std::vector<std::string> roots, std::vector<std::string> accept_missing = {}) {
    return open_mirror_set(*another(), {std::move(roots), std::move(accept_missing), [this] { return random.next(); }});
  }
  // A fresh process with its disk of those roots. They must open.
  void start(const std::vector<std::string>& roots, std::vector<std::string> accept_missing = {}) {
    disk.reset();
    MirrorSet set = std::move(open_set(roots, std::move(accept_missing)).value());
    std::unique_ptr<SimDisk> inner = another();
    sim = inner.get();
    stale.clear();
    disk = std::make_unique<MirrorDisk>(
        std::move(inner), std::move(set),
        MirrorDisk::Options{.queue_depth = 16,
                            .on_stale = [this](const MirrorInfo& copy) { stale.push_back(copy.root); }});
  }
  // What a state file says, as it would be read after a power loss: nothing is kept that is not durable.
  MirrorState durable_state(const std::string& root) {
    const std::vector<std::byte> bytes = media->durable_bytes(root + "/" + kMirrorStateName).value();
    SimDisk fresh({.seed = 1});
    SLUICE_ASSERT(fresh.make_directories(root).has_value());
    const FileId file = fresh.open(root + "/" + kMirrorStateName, OpenMode::create).value();
    SLUICE_ASSERT(fresh.write_synced(file, 0, bytes).has_value());
    return std::move(*read_mirror_state(fresh, root).value());
  }
  std::vector<std::string> good_in_state(const std::string& root) {
    std::vector<std::string> good;
    for (const MirrorMember& member : durable_state(root).members)
      if (member.good) good.push_back(member.path);
    return good;
  }

  SimRandom random;
  std::shared_ptr<SimMedia> media;
  SimDisk* sim = nullptr;
  std::vector<std::string> stale;  // roots, as they were reported
  std::unique_ptr<MirrorDisk> disk;
};

}  // namespace sluice::io
