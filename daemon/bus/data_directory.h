// The directory that a daemon keeps everything in: who has it, what its format is, where things are.
//
//   <dir>/lock                  flock(LOCK_EX) for the daemon's life: one writer per directory
//   <dir>/format                "sluice data format 1\n"; a newer one is refused and not touched
//   <dir>/store.db              daemon/store
//   <dir>/topics/<topic>/<n>/   daemon/log
//   <dir>/topics/.deleted-<id>  of a deleted topic, until its files are removed
//   <dir>/mirrored/             topics that have mirrors of their own (topic_mirrors.h)
//   <dir>/mirror.state          with mirrors: which copies are good (daemon/io/mirror_state.h)
// A mirror holds the same under its own root.
#pragma once

#include <string>
#include <utility>

#include "daemon/io/disk.h"
#include "shm/base/fd.h"
#include "shm/base/result.h"
#include "shm/base/types.h"

namespace sluice::bus {

class DataDirectory {
 public:
  // Makes what is missing. in_use (another daemon has it), version, permission, io.
  static Result<DataDirectory> open(const std::string& path);
  // The same in two steps, for a data directory with mirrors: each copy's root is locked before anything is looked at,
  // and prepared once it is known to be good.
  static Result<UniqueFd> lock(const std::string& root);
  static Status prepare(const std::string& root);
  explicit DataDirectory(std::string path) : path_(std::move(path)) {}

  const std::string& path() const { return path_; }
  std::string store_path() const { return path_ + "/store.db"; }
  std::string topic_path(const std::string& topic) const { return path_ + "/topics/" + topic; }
  std::string partition_path(const std::string& topic, PartitionNumber partition) const {
    return topic_path(topic) + "/" + std::to_string(partition);
  }
  std::string deleted_path(TopicId id) const { return path_ + "/topics/.deleted-" + std::to_string(id.value); }
  // Sets the topic's files aside; they go when remove_deleted is called and nothing has them open.
  Status set_aside(io::Disk& disk, const std::string& topic, TopicId id) const;
  // Removes log and index files of deleted topics; leaves anything else, and says so.
  Status remove_deleted(io::Disk& disk) const;

 private:
  std::string path_;
  UniqueFd lock_;  // of open(); else its maker holds it
};

}  // namespace sluice::bus
