#include "daemon/io/pwrite_disk.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "shm/base/assert.h"

namespace sluice::io {

Result<std::unique_ptr<PwriteDisk>> PwriteDisk::create(Options options) {
  SLUICE_TRY(check_queue_depth(options.queue_depth));
  UniqueFd event(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!event) return fail(system_error(errno, "making the eventfd of the disk queue"));
  return std::unique_ptr<PwriteDisk>(new PwriteDisk(std::move(options), std::move(event)));
}

PwriteDisk::PwriteDisk(Options options, UniqueFd event)
    : PosixDisk(options.direct_io), options_(std::move(options)), event_(std::move(event)) {}

bool PwriteDisk::submit(const Request& request) {
  if (requests_.size() >= options_.queue_depth) return false;
  ++at(request.file).in_flight;
  requests_.push_back(request);
  static_cast<void>(::eventfd_write(event_.get(), 1) == 0);
  return true;
}

bool PwriteDisk::submit_write(FileId file, std::uint64_t offset, std::span<const std::byte> bytes,
                              std::uint64_t token) {
  check_write(file, offset, bytes);
  return submit(Request{file, token, offset, bytes});
}

bool PwriteDisk::submit_sync(FileId file, std::uint64_t token) {
  SLUICE_ASSERT(at(file).mode != OpenMode::read);
  return submit(Request{file, token, 0, {}});
}

std::size_t PwriteDisk::reap(std::span<Completion> into) {
  std::size_t count = 0;
  while (count < into.size() && !requests_.empty()) {
    const Request request = requests_.front();
    requests_.pop_front();
    OpenFile& file = at(request.file);
    std::int64_t result = 0;
    do {
      result = request.bytes.empty() ? ::fdatasync(file.write_fd())
                                     : ::pwrite(file.write_fd(), request.bytes.data(), request.bytes.size(),
                                                static_cast<off_t>(request.offset));
    } while (result < 0 && errno == EINTR);
    --file.in_flight;
    into[count++] = Completion{request.token, result < 0 ? -errno : result};
  }
  if (requests_.empty()) {
    eventfd_t signals = 0;
    static_cast<void>(::eventfd_read(event_.get(), &signals) == 0);
  }
  return count;
}

DiskFeatures PwriteDisk::features() const {
  DiskFeatures features;
  features.backend = "pwrite";
  features.direct = direct();
  features.why_not = options_.why_not_uring.empty() ? "io_uring: not asked for" : options_.why_not_uring;
  if (!direct_why_not().empty()) features.why_not += "; " + direct_why_not();
  return features;
}

}  // namespace sluice::io
