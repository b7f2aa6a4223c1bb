// What the daemon keeps its data in: the directory, the disk and the store, each in as many copies as there are
// mirrors.
//
// Owner: main; used on the bus thread once it runs. Order of a start with mirrors: the lock of every root, then which
// copies are good (daemon/io/mirror_set.h), and only then anything else looks into them.
// `storage` stays where it is: what is made here refers to it.
// Lifetimes: in the order of the members; `store` goes first.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "daemon/bus/data_directory.h"
#include "daemon/io/disk.h"
#include "daemon/io/mirror_disk.h"
#include "daemon/main/config.h"
#include "daemon/store/mirror_store.h"
#include "daemon/store/store.h"
#include "shm/base/fd.h"
#include "shm/base/result.h"

namespace sluice::daemon {

struct Storage {
  // Of the roots, by path. That of a copy which fails is given back, so that its disk can be unmounted.
  std::map<std::string, UniqueFd> locks;
  std::optional<bus::DataDirectory> directory;
  std::unique_ptr<io::Disk> disk;
  std::unique_ptr<store::Copies> copies;  // with mirrors
  std::unique_ptr<store::Store> store;
  store::MirrorStore* mirror_store = nullptr;  // `store`, with mirrors
  // Whether a root is on the file system that it was on, or on one of its own: not a mount point without its disk.
  // Locks it again.
  std::function<Status(const std::string& root)> may_fill;
};

// Directory and disk; the store is left to open_store(), so that the socket can be taken between.
Status open_storage(const Config& config, Storage& storage);
Status open_store(Storage& storage);

}  // namespace sluice::daemon
