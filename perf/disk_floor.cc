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
constexpr unsigned kInFlight = 2;

using Buffer = std::unique_ptr<char, void (*)(void*)>;

Result<double> sequential(int fd, char* buffer, double seconds) {
  io_uring ring;
  if (const int error = io_uring_queue_init(8, &ring, 0); error != 0)
    return fail(system_error(-error, "measuring the disk's bandwidth: io_uring"));
  const std::uint64_t start = monotonic_ns();
  const std::uint64_t end = start + static_cast<std::uint64_t>(seconds * 1e9);
  std::uint64_t written = 0;
  std::uint64_t submitted = 0;
  int failed = 0;
  unsigned in_flight = 0;
  while (failed == 0 && (monotonic_ns() < end || in_flight > 0)) {
    while (in_flight < kInFlight && monotonic_ns() < end) {
      io_uring_prep_write(io_uring_get_sqe(&ring), fd, buffer, kChunk, submitted % kFileSize);
      submitted += kChunk;
      ++in_flight;
    }
    io_uring_submit_and_wait(&ring, 1);
    io_uring_cqe* cqe = nullptr;
    while (io_uring_peek_cqe(&ring, &cqe) == 0) {
      if (cqe->res != static_cast<int>(kChunk)) failed = cqe->res < 0 ? -cqe->res : EIO;
      written += kChunk;
      --in_flight;
      io_uring_cqe_seen(&ring, cqe);
    }
  }
  io_uring_queue_exit(&ring);
  if (failed != 0 || ::fdatasync(fd) != 0)
    return fail(system_error(failed != 0 ? failed : errno, "measuring the disk's bandwidth"));
  return static_cast<double>(written) * 1e9 / static_cast<double>(monotonic_ns() - start);
}

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

}  // namespace

Result<DiskFloor> measure_disk_floor(const std::string& directory, double seconds) {
  const std::string path = directory + "/sluice-perf-floor.tmp";
  UniqueFd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_DIRECT | O_CLOEXEC, 0600));
  if (!fd) return fail(system_error(errno, "making " + path + " to measure the disk"));
  ::unlink(path.c_str());
  Buffer buffer(static_cast<char*>(std::aligned_alloc(4096, kChunk)), std::free);
  std::memset(buffer.get(), 'f', kChunk);
  // Written through once: blocks that were never written are dearer.
  for (std::uint64_t offset = 0; offset < kFileSize; offset += kChunk)
    if (::pwrite(fd.get(), buffer.get(), kChunk, static_cast<off_t>(offset)) != static_cast<ssize_t>(kChunk))
      return fail(system_error(errno, "filling " + path));
  if (::fdatasync(fd.get()) != 0) return fail(system_error(errno, "syncing " + path));
  DiskFloor floor;
  SLUICE_ASSIGN(floor.sequential_bytes_per_s, sequential(fd.get(), buffer.get(), seconds));
  SLUICE_ASSIGN(floor.sync_4k_p50_ns, synchronous(fd.get(), buffer.get(), 4096, seconds));
  SLUICE_ASSIGN(floor.sync_256k_p50_ns, synchronous(fd.get(), buffer.get(), 256 * 1024, seconds));
  return floor;
}

}  // namespace sluice::perf
