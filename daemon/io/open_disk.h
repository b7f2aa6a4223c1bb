// The best Disk that this machine allows: io_uring, or plain writes where it is refused.
#pragma once

#include <memory>

#include "daemon/io/disk.h"
#include "daemon/io/uring_disk.h"
#include "shm/base/result.h"

namespace sluice::io {

// Which one it became, and why, is in its features(). Fails as UringDisk::create, but never with permission.
Result<std::unique_ptr<Disk>> open_disk(UringDisk::Options options);

}  // namespace sluice::io
