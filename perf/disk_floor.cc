#include "perf/disk_floor.h"

#include <fcntl.h>
#include <liburing.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

#include "shm/base/clock.h"
#include "shm/base/fd.h"

namespace sluice::perf {
namespace {

constexpr std::size_t kChunk = 1 << 20;
constexpr std::uint64_t kFileSize = 256ull << 20;
constexpr std::uint64_t kGrowingFileSize = 4ull << 30;
constexpr std::uint64_t kGrowingSyncEvery = 16 << 20;
constexpr unsigned kInFlight = 2;

using Buffer = std::unique_ptr<char, void (*)(void*)>;

struct Stream {
  int fd = -1;
  std::uint64_t file_size = 0;
  bool again = false;            // over the file's beginning, once its end is reached
  std::uint64_t sync_every = 0;  // bytes; 0: only at the end
};

// Writes of kChunk, kInFlight of them at a time; bytes a second until everything is synced.
class StreamRun {
 public:
  StreamRun(const Stream& stream, char* buffer) : stream_(stream), buffer_(buffer) {}

  Result<double> run(double seconds) {
    if (const int error = io_uring_queue_init(8, &ring_, 0); error != 0)
      return fail(system_error(-error, "measuring the disk's bandwidth: io_uring"));
    const std::uint64_t start = monotonic_ns();
    const std::uint64_t end = start + static_cast<std::uint64_t>(seconds * 1e9);
    do {
      submit(end);
      if (writes_ + syncs_ == 0) break;
      io_uring_submit_and_wait(&ring_, 1);
      reap();
    } while (error_ == 0);
    io_uring_queue_exit(&ring_);
    if (error_ != 0 || ::fdatasync(stream_.fd) != 0)
      return fail(system_error(error_ != 0 ? error_ : errno, "measuring the disk's bandwidth"));
    return static_cast<double>(written_) * 1e9 / static_cast<double>(monotonic_ns() - start);
  }

 private:
  void submit(std::uint64_t end) {
    const auto goes_on = [&] {
      return monotonic_ns() < end && (stream_.again || submitted_ + kChunk <= stream_.file_size);
    };
    for (; writes_ < kInFlight && goes_on(); ++writes_, submitted_ += kChunk) {
      io_uring_sqe* sqe = io_uring_get_sqe(&ring_);
      io_uring_prep_write(sqe, stream_.fd, buffer_, kChunk, submitted_ % stream_.file_size);
      io_uring_sqe_set_data64(sqe, kChunk);
    }
    if (stream_.sync_every == 0 || syncs_ != 0 || written_ < synced_ + stream_.sync_every) return;
    synced_ = written_;
    io_uring_sqe* sqe = io_uring_get_sqe(&ring_);
    io_uring_prep_fsync(sqe, stream_.fd, IORING_FSYNC_DATASYNC);
    io_uring_sqe_set_data64(sqe, 0);
    ++syncs_;
  }
  void reap() {
    io_uring_cqe* cqe = nullptr;
    while (io_uring_peek_cqe(&ring_, &cqe) == 0) {
      if (cqe->res != static_cast<int>(cqe->user_data)) error_ = cqe->res < 0 ? -cqe->res : EIO;
      written_ += cqe->user_data;
      --(cqe->user_data == 0 ? syncs_ : writes_);
      io_uring_cqe_seen(&ring_, cqe);
    }
  }

  const Stream stream_;
  char* const buffer_;
  io_uring ring_{};
  std::uint64_t submitted_ = 0;
  std::uint64_t written_ = 0;
  std::uint64_t synced_ = 0;
  unsigned writes_ = 0;  // in flight
  unsigned syncs_ = 0;
  int error_ = 0;
};

Result<double> synchronous(int fd, char* buffer, std::size_t size, double seconds) {
  std::vector<std::uint64_t> samples;
  const std::uint64_t end = monotonic_ns() + static_cast<std::uint64_t>(seconds * 1e9);
  for (std::uint64_t offset = 0; monotonic_ns() < end; offset = (offset + size) % (kFileSize / 2)) {
    const std::uint64_t start = monotonic_ns();
    if (::pwrite(fd, buffer, size, static_cast<off_t>(offset)) != static_cast<ssize_t>(size) || ::fdatasync(fd) != 0)
      return fail(system_error(errno, "measuring a synchronous write"));
    samples.push_back(monotonic_ns() - start);
  }
  std::nth_element(samples.begin(), samples.begin() + static_cast<std::ptrdiff_t>(samples.size() / 2), samples.end());
  return static_cast<double>(samples[samples.size() / 2]);
}

// A file without a name, which goes with its descriptor.
Result<UniqueFd> scratch_file(const std::string& directory) {
  const std::string path = directory + "/sluice-perf-floor.tmp";
  UniqueFd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_DIRECT | O_CLOEXEC, 0600));
  if (!fd) return fail(system_error(errno, "making " + path + " to measure the disk"));
  ::unlink(path.c_str());
  return fd;
}

Result<UniqueFd> written_file(const std::string& directory, const char* buffer) {
  SLUICE_ASSIGN(UniqueFd fd, scratch_file(directory));
  for (std::uint64_t offset = 0; offset < kFileSize; offset += kChunk)
    if (::pwrite(fd.get(), buffer, kChunk, static_cast<off_t>(offset)) != static_cast<ssize_t>(kChunk))
      return fail(system_error(errno, "filling a file in " + directory));
  if (::fdatasync(fd.get()) != 0) return fail(system_error(errno, "syncing a file in " + directory));
  return fd;
}

Result<UniqueFd> preallocated_file(const std::string& directory) {
  SLUICE_ASSIGN(UniqueFd fd, scratch_file(directory));
  if (const int error = ::posix_fallocate(fd.get(), 0, static_cast<off_t>(kGrowingFileSize)); error != 0)
    return fail(system_error(error, "preallocating a file in " + directory));
  if (::fdatasync(fd.get()) != 0) return fail(system_error(errno, "syncing a file in " + directory));
  return fd;
}

}  // namespace

Result<DiskFloor> measure_disk_floor(const std::string& directory, double seconds) {
  Buffer buffer(static_cast<char*>(std::aligned_alloc(4096, kChunk)), std::free);
  std::memset(buffer.get(), 'f', kChunk);
  DiskFloor floor;
  {
    SLUICE_ASSIGN(const UniqueFd fd, preallocated_file(directory));
    const Stream stream{fd.get(), kGrowingFileSize, false, kGrowingSyncEvery};
    SLUICE_ASSIGN(floor.growing_bytes_per_s, StreamRun(stream, buffer.get()).run(seconds));
  }
  // Written through once: blocks that were never written are dearer.
  SLUICE_ASSIGN(const UniqueFd fd, written_file(directory, buffer.get()));
  SLUICE_ASSIGN(floor.sequential_bytes_per_s, StreamRun({fd.get(), kFileSize, true, 0}, buffer.get()).run(seconds));
  SLUICE_ASSIGN(floor.sync_4k_p50_ns, synchronous(fd.get(), buffer.get(), 4096, seconds));
  SLUICE_ASSIGN(floor.sync_256k_p50_ns, synchronous(fd.get(), buffer.get(), 256 * 1024, seconds));
  return floor;
}

}  // namespace sluice::perf
