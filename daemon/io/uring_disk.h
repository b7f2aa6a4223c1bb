// A Disk over one io_uring: O_DIRECT where the file system has it, registered buffers where memlock allows them.
//
// Owner: the bus thread. create() may run on another thread before that one starts.
//
// Invariants
//  1. At most `queue_depth` requests are accepted and not reaped, so neither queue of the ring can overflow.
//  2. A request is in exactly one place: waiting to be handed over (queued_), in the kernel, or answered without the
//     kernel (failed_, after io_uring_enter itself was refused; from then on every request is answered that way).
//  3. Memory that is registered is never registered twice: registrations do not overlap.
// Lifetimes: the destructor waits for what the kernel has; what was not handed over by then never happens. The files of
// this disk are closed after that.
//
// The kernel runs completions in the context of the thread that submitted, so a blocking call of the bus thread may
// return EINTR without any signal handler having run: look again, then reap().
#pragma once

#include <liburing.h>

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "daemon/io/disk.h"
#include "daemon/io/posix_disk.h"
#include "shm/base/fd.h"
#include "shm/base/result.h"

namespace sluice::io {

class UringDisk final : public PosixDisk {
 public:
  struct Options {
    std::uint32_t queue_depth = kQueueDepthDefault;  // requests, 1 to kQueueDepthMax
    bool direct_io = true;                           // false: through the page cache
    bool register_buffers = true;                    // false: the kernel pins memory anew for each write
  };

  // Fails with permission where io_uring is not allowed (a container's seccomp profile, sysctl), no_memory, or invalid.
  static Result<std::unique_ptr<UringDisk>> create(Options options);
  ~UringDisk() override;
  UringDisk(const UringDisk&) = delete;
  UringDisk& operator=(const UringDisk&) = delete;

  std::uint32_t register_memory(std::span<std::byte> memory) override;
  void unregister_memory(std::uint32_t registration) override;
  bool submit_write(FileId file, std::uint64_t offset, std::span<const std::byte> bytes, std::uint64_t token) override;
  bool submit_sync(FileId file, std::uint64_t token) override;
  std::size_t reap(std::span<Completion> into) override;
  int completion_fd() const override { return event_.get(); }
  DiskFeatures features() const override;

 private:
  struct Request {
    std::uint64_t token = 0;
    FileId file;
  };
  struct Failed {
    std::uint32_t request = 0;
    int error = 0;
  };
  struct Registration {
    std::size_t size = 0;
    std::uint32_t index = 0;  // in the kernel's table; registration number − 1
  };

  explicit UringDisk(Options options);
  Status start();
  Status init_ring();
  void init_registration();

  // nullptr: this request was answered already, because the ring does not work any more.
  io_uring_sqe* begin_request(FileId file, std::uint64_t token);
  bool full() const { return idle_requests_.empty(); }
  bool covering_registration(std::span<const std::byte> bytes, std::uint32_t& index) const;
  bool hand_over();
  void fail_queued(int error);
  Completion finish(std::uint32_t request, std::int64_t result);
  void raise_signal();
  void take_signal_down();

  const Options options_;
  io_uring ring_{};
  bool ring_open_ = false;
  UniqueFd event_;

  std::vector<Request> requests_;             // index = user data in the ring
  std::vector<std::uint32_t> idle_requests_;  // indices
  std::deque<std::uint32_t> queued_;          // in submission order
  std::deque<Failed> failed_;
  int broken_errno_ = 0;  // why the ring does not work any more; 0: it does

  bool table_registered_ = false;
  std::map<std::uintptr_t, Registration> registrations_;  // by first address
  std::vector<std::uint32_t> free_registrations_;         // indices
  std::string register_why_not_;
};

}  // namespace sluice::io
