#include "daemon/store/reserve.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>

#include "shm/base/clock.h"
#include "shm/base/fd.h"

namespace sluice::store {

void Reserve::fill() {
  missing_ = !try_fill();
  if (missing_) retry_at_ns_ = monotonic_ns() + kReserveRetryNs;
}

void Reserve::fill_again() {
  if (missing_ && monotonic_ns() >= retry_at_ns_) fill();
}

bool Reserve::try_fill() const {
  if (size() >= kReserveSize) return true;
  const UniqueFd file(::open(path_.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0640));
  if (!file) return false;
  struct statvfs about {};
  if (::fstatvfs(file.get(), &about) != 0) return false;
  if (static_cast<std::uint64_t>(about.f_bavail) * about.f_frsize < 2 * kReserveSize) return false;
  // A file system that has no such call would have it written, and a hole is no reserve.
  return ::fallocate(file.get(), 0, 0, static_cast<off_t>(kReserveSize)) == 0;
}

std::uint64_t Reserve::size() const {
  struct stat about {};
  if (::stat(path_.c_str(), &about) != 0) return 0;
  const auto backed = static_cast<std::uint64_t>(about.st_blocks) * 512;
  return std::min(static_cast<std::uint64_t>(about.st_size), backed);
}

bool Reserve::spend() {
  const std::uint64_t left = size();
  missing_ = true;
  retry_at_ns_ = monotonic_ns() + kReserveRetryNs;
  if (left == 0) return false;
  const UniqueFd file(::open(path_.c_str(), O_WRONLY | O_CLOEXEC | O_NOFOLLOW));
  if (!file) return false;
  if (::ftruncate(file.get(), static_cast<off_t>(left - std::min(left, kReserveStep))) != 0) return false;
  // A journalling file system gives freed blocks out again once it has noted that they are free.
  return ::fsync(file.get()) == 0;
}

}  // namespace sluice::store
