// The topics that have mirrors of their own: each has its log files in several directories behind a disk of its own,
// whichever copies the data directory has. The store knows them as it knows every topic.
//
//   <dir>/mirrored/<topic>-<id>/   the first copy; the same below each mirror of the data directory
//   <mirror>/<topic>-<id>/         below each directory that the topic names
// Each of these is laid out as a data directory without a store (data_directory.h), with a mirror.state.
//
// Owner: the bus thread.
//
// Invariants
//  1. A directory that is made for a topic was not there before, lies below one of the mirror_roots, and apart from the
//     data directory and its mirrors.
//  2. A copy on a disk where the daemon's own copy is stale is stale too, so that the disk can be unmounted, and is
//     filled after the daemon's.
//  3. What a deleted topic has left goes with it, or at the next start; what no topic has set aside is never removed.
// Lifetimes: whatever has files open on one of these disks goes before it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "daemon/bus/copy_set.h"
#include "daemon/bus/data_directory.h"
#include "daemon/bus/mirror_keeper.h"
#include "daemon/core/topic.h"
#include "daemon/io/disk.h"
#include "shm/base/result.h"
#include "shm/base/types.h"

namespace sluice::bus {

inline constexpr std::size_t kMirroredTopicsMax = 64;  // each has a queue of requests at the kernel

struct TopicMirrorSettings {
  std::vector<std::string> roots;  // a topic's mirrors lie in one of these; empty: none may have any
  std::uint64_t retry_ns = 30'000'000'000;
  OpenCopySet open;
};

class TopicMirrors {
 public:
  // The data directory and its disk; they outlive it.
  TopicMirrors(TopicMirrorSettings settings, const DataDirectory& directory, io::Disk& disk);

  // Whether a new topic may have the mirrors that it names. Errors: permission, invalid, quota.
  Status check(const core::TopicConfig& config) const;
  // Before its partitions are opened; nothing for a topic without mirrors. `fresh`: it was created just now. Errors:
  // exists, and those of a start with mirrors.
  Status open(const core::TopicRecord& record, bool fresh);
  // The topic was deleted, its files set aside, and nothing of it is open any more.
  void remove(TopicId topic);
  // What deleted topics have left. Before any topic is opened.
  void remove_leftovers(const std::vector<core::TopicRecord>& topics) const;

  // Where a topic's files are: its own, or the data directory and the daemon's disk.
  const DataDirectory& directory_of(TopicId topic) const;
  io::Disk& disk_of(TopicId topic) const;

  bool empty() const { return own_.empty(); }
  // visit(TopicId, io::MirrorDisk&)
  template <typename Visit>
  void for_each(Visit visit) const {
    for (const auto& [id, own] : own_) visit(id, *own->set.disk);
  }

  // Fills what is stale. True: it did something.
  bool do_work(std::uint64_t now_ns);
  // When it wants to be called next, monotonic ns; 0: not before something happens.
  std::uint64_t deadline_ns() const;
  void stop();
  bool is_idle() const;

 private:
  struct Own {
    std::string topic;
    DataDirectory directory;
    CopySet set;
    std::unique_ptr<MirrorKeeper> keeper;
  };

  std::size_t daemon_copies() const;
  std::vector<std::string> daemon_roots() const;
  std::vector<std::string> roots_of(const core::TopicRecord& record) const;
  Status may_fill(const Own& own, const std::string& root) const;
  void follow_daemon(Own& own) const;
  void remove_leftover(const std::string& root) const;
  static void remove_copies(CopySet set);

  const TopicMirrorSettings settings_;
  const DataDirectory& directory_;
  io::Disk& disk_;
  std::map<TopicId, std::unique_ptr<Own>> own_;
};

}  // namespace sluice::bus
