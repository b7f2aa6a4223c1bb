// Several copies of a directory behind one disk, as main opens them for the bus (daemon/main/storage.h): each root
// locked, prepared if it is good, and its disk's completions watched by the bus thread.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "daemon/io/mirror_disk.h"
#include "shm/base/fd.h"
#include "shm/base/result.h"

namespace sluice::bus {

struct CopySet {
  // Of the roots, by path. That of a copy which fails is given back, so that its disk can be unmounted.
  std::shared_ptr<std::map<std::string, UniqueFd>> locks;
  std::unique_ptr<io::MirrorDisk> disk;
  // Whether a root is on the file system that it was on, or on one of its own: not a mount point without its disk.
  // Locks it again.
  std::function<Status(const std::string& root)> may_fill;
};

// The first root is the one that callers name paths below. Errors: those of a start (daemon/io/mirror_set.h).
using OpenCopySet = std::function<Result<CopySet>(const std::vector<std::string>& roots)>;

}  // namespace sluice::bus
