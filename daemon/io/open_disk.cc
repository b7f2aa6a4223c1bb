#include "daemon/io/open_disk.h"

#include <utility>

#include "daemon/io/pwrite_disk.h"

namespace sluice::io {

Result<std::unique_ptr<Disk>> open_disk(UringDisk::Options options) {
  Result<std::unique_ptr<UringDisk>> uring = UringDisk::create(options);
  if (uring) return std::unique_ptr<Disk>(std::move(*uring));
  const ErrorCode code = uring.error().code();
  // Its memory may be refused too (locked memory, before kernel 5.12): pwrite needs none.
  if (code != ErrorCode::permission && code != ErrorCode::no_memory) return fail(std::move(uring).error());
  SLUICE_ASSIGN(std::unique_ptr<PwriteDisk> plain, PwriteDisk::create({.queue_depth = options.queue_depth,
                                                                       .direct_io = options.direct_io,
                                                                       .why_not_uring = uring.error().message()}));
  return std::unique_ptr<Disk>(std::move(plain));
}

}  // namespace sluice::io
