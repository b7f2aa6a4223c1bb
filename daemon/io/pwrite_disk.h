// A Disk by plain pwrite and fdatasync, for where io_uring is not allowed (containers' seccomp profiles, sysctl).
//
// Owner: the bus thread. Each request is carried out inside reap(), which waits for the device: slower than io_uring,
// and the same in every other respect.
//
// Invariants
//  1. Requests are carried out in the order of submission, each before its completion is returned.
//  2. completion_fd() is readable while requests wait, so that a sleeping owner comes to reap() them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <span>
#include <string>

#include "daemon/io/disk.h"
#include "daemon/io/posix_disk.h"
#include "shm/base/fd.h"
#include "shm/base/result.h"

namespace sluice::io {

class PwriteDisk final : public PosixDisk {
 public:
  struct Options {
    std::uint32_t queue_depth = kQueueDepthDefault;  // requests, 1 to kQueueDepthMax
    bool direct_io = true;                           // false: through the page cache
    std::string why_not_uring = {};                  // for features()
  };

  static Result<std::unique_ptr<PwriteDisk>> create(Options options);

  // Nothing to register: 0.
  std::uint32_t register_memory(std::span<std::byte>) override { return 0; }
  void unregister_memory(std::uint32_t) override {}
  bool submit_write(FileId file, std::uint64_t offset, std::span<const std::byte> bytes, std::uint64_t token) override;
  bool submit_sync(FileId file, std::uint64_t token) override;
  std::size_t reap(std::span<Completion> into) override;
  int completion_fd() const override { return event_.get(); }
  DiskFeatures features() const override;

 private:
  struct Request {
    FileId file;
    std::uint64_t token = 0;
    std::uint64_t offset = 0;
    std::span<const std::byte> bytes;  // empty: a sync
  };

  PwriteDisk(Options options, UniqueFd event);
  bool submit(const Request& request);

  const Options options_;
  UniqueFd event_;
  std::deque<Request> requests_;
};

}  // namespace sluice::io
