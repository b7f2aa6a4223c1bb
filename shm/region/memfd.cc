#include "shm/region/memfd.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <string>

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U
#endif

namespace sluice::region {
namespace {

constexpr int kSeals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;

std::string text(std::string_view doing, std::string_view what) {
  std::string result(doing);
  result += ' ';
  result += what;
  return result;
}

Result<UniqueFd> reopen(int fd, int flags, std::string_view what) {
  const std::string path = "/proc/self/fd/" + std::to_string(fd);
  UniqueFd fresh(::open(path.c_str(), flags | O_CLOEXEC));
  if (!fresh) {
    const int error = errno;
    return fail(system_error(error, text("opening a further descriptor of", what) + " through " + path +
                                        (error == ENOENT ? " (is /proc mounted?)" : "")));
  }
  return fresh;
}

// fallocate with its interruptions; memory that is not there is no_memory, whatever the kernel calls it.
Status change_backing(int fd, int mode, std::uint64_t offset, std::uint64_t size, std::string what) {
  while (::fallocate(fd, mode, static_cast<off_t>(offset), static_cast<off_t>(size)) != 0) {
    const int error = errno;
    if (error == EINTR) continue;
    what += ", " + std::to_string(size) + " bytes at offset " + std::to_string(offset);
    if (error == ENOSPC || error == ENOMEM) {
      return fail(ErrorCode::no_memory, what + ": free memory, or configure fewer or smaller slots", error);
    }
    return fail(system_error(error, std::move(what)));
  }
  return {};
}

}  // namespace

Result<UniqueFd> create_memfd(const std::string& name, std::uint64_t size) {
  if (size == 0) return fail(ErrorCode::invalid, "making the memory region " + name + ": its size is 0");
  // Newer kernels want it said that the region is never executed; older ones do not know the flag.
  UniqueFd fd(::memfd_create(name.c_str(), MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL));
  if (!fd && errno == EINVAL) fd = UniqueFd(::memfd_create(name.c_str(), MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!fd) return fail(system_error(errno, text("making the memory region", name)));
  if (::fchmod(fd.get(), 0600) != 0) return fail(system_error(errno, text("restricting the memory region", name)));
  if (::ftruncate(fd.get(), static_cast<off_t>(size)) != 0) {
    return fail(system_error(errno, text("sizing the memory region", name) + " to " + std::to_string(size) + " bytes"));
  }
  if (::fcntl(fd.get(), F_ADD_SEALS, kSeals) != 0) {
    return fail(system_error(errno, text("sealing the memory region", name)));
  }
  return fd;
}

Result<UniqueFd> reopen_read_only(int fd, std::string_view what) { return reopen(fd, O_RDONLY, what); }

Result<UniqueFd> reopen_read_write(int fd, std::string_view what) { return reopen(fd, O_RDWR, what); }

Result<UniqueFd> duplicate(int fd, std::string_view what) {
  UniqueFd copy(::fcntl(fd, F_DUPFD_CLOEXEC, 0));
  if (!copy) {
    const int error = errno;
    return fail(system_error(error, text("duplicating the descriptor of", what) +
                                        (error == EMFILE ? ": raise the limit of open files (ulimit -n)" : "")));
  }
  return copy;
}

Result<std::uint64_t> file_size(int fd, std::string_view what) {
  struct stat status {};
  if (::fstat(fd, &status) != 0) return fail(system_error(errno, text("asking for the size of", what)));
  return static_cast<std::uint64_t>(status.st_size);
}

Status check_memfd(int fd, std::uint64_t size, std::string_view what) {
  const int seals = ::fcntl(fd, F_GET_SEALS);
  if (seals < 0) {
    return fail(ErrorCode::corrupt, text("checking the descriptor of", what) + ": it is no memfd: refused", errno);
  }
  if ((seals & kSeals) != kSeals) {
    return fail(ErrorCode::corrupt,
                text("checking the descriptor of", what) + ": it is not sealed against shrinking: refused");
  }
  SLUICE_ASSIGN(const std::uint64_t found, file_size(fd, what));
  if (size != 0 && found != size) {
    return fail(ErrorCode::corrupt, text("checking the descriptor of", what) + ": it has " + std::to_string(found) +
                                        " bytes instead of " + std::to_string(size) + ": refused");
  }
  return {};
}

Status allocate(int fd, std::uint64_t offset, std::uint64_t size, std::string_view what) {
  return change_backing(fd, FALLOC_FL_KEEP_SIZE, offset, size, text("backing with memory", what));
}

Status punch_hole(int fd, std::uint64_t offset, std::uint64_t size, std::string_view what) {
  return change_backing(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, size,
                        text("giving back memory of", what));
}

}  // namespace sluice::region
