// What the daemon keeps its data in: the directory, the disk and the store, each in as many copies as there are
// mirrors.
//
// Owner: main; used on the bus thread once it runs. Order of a start with mirrors: the lock of every root, then which
// copies are good (daemon/io/mirror_set.h), and only then anything else looks into them.
// `storage` stays where it is: what is made here refers to it.
// Lifetimes: in the order of the members; `store` goes first.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "daemon/bus/copy_set.h"
#include "daemon/bus/data_directory.h"
#include "daemon/io/disk.h"
#include "daemon/main/config.h"
#include "daemon/store/mirror_store.h"
#include "daemon/store/store.h"
#include "shm/base/fd.h"
#include "shm/base/result.h"

namespace sluice::daemon {

struct Storage {
  std::shared_ptr<std::map<std::string, UniqueFd>> locks;  // of the roots (bus::CopySet)
  std::optional<bus::DataDirectory> directory;
  std::unique_ptr<io::Disk> disk;
  std::unique_ptr<store::Copies> copies;  // with mirrors
  std::unique_ptr<store::Store> store;
  store::MirrorStore* mirror_store = nullptr;               // `store`, with mirrors
  std::function<Status(const std::string& root)> may_fill;  // bus::CopySet
};

// Directory and disk; the store is left to open_store(), so that the socket can be taken between.
Status open_storage(const Config& config, Storage& storage);
Status open_store(Storage& storage);
// The copies of a topic that has mirrors of its own.
Result<bus::CopySet> open_topic_copies(const std::vector<std::string>& roots,
                                       const std::vector<std::string>& accept_missing);

}  // namespace sluice::daemon
