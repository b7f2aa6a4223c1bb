// Brings stale copies back: fills one at a time, log files and store, and has it called good when both are the same.
// One for the data directory, and one for each topic that has mirrors of its own.
//
// Owner: the bus thread, as a part of its turn. Without mirrors it does nothing.
//
//   waiting ──retry_at reached, may_fill──▶ filling ──disk and store complete──▶ good
//      ▲                                       │
//      └──────────── any error ────────────────┘
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "daemon/io/mirror_disk.h"
#include "daemon/store/mirror_store.h"
#include "shm/base/result.h"

namespace sluice::bus {

struct MirrorKeeperOptions {
  std::uint64_t retry_ns = 30'000'000'000;  // from one try to fill a copy to the next
  // Whether a root is what it should be (its disk is mounted); an error says why not.
  std::function<Status(const std::string& root)> may_fill;
};

class MirrorKeeper {
 public:
  // Both null without mirrors, the store where the copies have none. They outlive it.
  MirrorKeeper(io::MirrorDisk* disk, store::MirrorStore* store, MirrorKeeperOptions options);

  // True: it did something.
  bool do_work(std::uint64_t now_ns);
  // When it wants to be called next, monotonic ns; 0: not before something happens.
  std::uint64_t deadline_ns() const { return deadline_ns_; }
  // Ends the filling; is_idle() once nothing of it is at the disk.
  void stop() { stopping_ = true; }
  bool is_idle() const { return disk_ == nullptr || !is_filling(); }

 private:
  bool is_filling() const { return disk_->filling() < disk_->copy_count(); }
  bool begin_one(std::uint64_t now_ns);
  Status begin(std::size_t copy);
  bool go_on(std::uint64_t now_ns);
  Status finish(std::size_t copy);
  bool end(std::size_t copy, const std::string& reason, std::uint64_t now_ns);

  io::MirrorDisk* const disk_;
  store::MirrorStore* const store_;
  const MirrorKeeperOptions options_;
  std::vector<std::uint64_t> retry_at_ns_;  // by copy; 0: at once
  std::string last_failure_;                // said once
  std::uint64_t deadline_ns_ = 0;
  bool store_done_ = false;
  std::string ending_;  // why; waits for the disk
  bool stopping_ = false;
};

}  // namespace sluice::bus
