#include "shm/region/mapping.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <string>

#include <boost/interprocess/exceptions.hpp>

#include "shm/base/assert.h"

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif

namespace sluice::region {
namespace {

namespace ipc = boost::interprocess;

// What mapped_region asks of a thing that it maps.
class BorrowedFile {
 public:
  explicit BorrowedFile(int fd) : fd_(fd) {}
  ipc::mapping_handle_t get_mapping_handle() const { return ipc::ipcdetail::mapping_handle_from_file_handle(fd_); }

 private:
  int fd_;
};

// A size of 0 stands for all of it.
std::string range_text(std::string_view doing, std::string_view what, std::size_t offset, std::size_t size) {
  std::string result(doing);
  result += ' ';
  result += what;
  if (size != 0) result += ", " + std::to_string(size) + " bytes at offset " + std::to_string(offset);
  return result;
}

Status populate(const Mapping& mapping, int advice, std::size_t offset, std::size_t size, std::string_view what) {
  static const auto kPageSize = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  if (size == 0) return {};
  if (offset >= mapping.size() || size > mapping.size() - offset) {
    return fail(ErrorCode::invalid, range_text("populating", what, offset, size) + ": outside of the mapping");
  }
  const std::size_t start = offset / kPageSize * kPageSize;
  const std::size_t length = offset + size - start;
  while (::madvise(mapping.data() + start, length, advice) != 0) {
    const int error = errno;
    if (error == EINTR || error == EAGAIN) continue;
    std::string context = range_text("reading in", what, offset, size);
    if (error == EFAULT || error == EHWPOISON) {
      return fail(ErrorCode::io, context + ": the pages cannot be read; the disk or the memory behind them failed",
                  error);
    }
    return fail(system_error(error, std::move(context)));
  }
  return {};
}

}  // namespace

Result<Mapping> Mapping::map(int fd, Access access, std::string_view what, std::uint64_t offset, std::size_t size) {
  Mapping result;
  try {
    const ipc::mode_t mode = access == Access::read_only ? ipc::read_only : ipc::read_write;
    result.region_ = ipc::mapped_region(BorrowedFile(fd), mode, static_cast<ipc::offset_t>(offset), size);
  } catch (const ipc::interprocess_exception& exception) {
    const int error = exception.get_native_error();
    std::string context = range_text("mapping", what, offset, size);
    if (error == 0) return fail(ErrorCode::invalid, context + ": " + exception.what());
    return fail(system_error(error, std::move(context)));
  }
  if (::madvise(result.data(), result.size(), MADV_DONTFORK) != 0) {
    return fail(system_error(errno, range_text("keeping from forked children", what, offset, size)));
  }
  return result;
}

Status Mapping::populate_read(std::size_t offset, std::size_t size, std::string_view what) const {
  return populate(*this, MADV_POPULATE_READ, offset, size, what);
}

Status Mapping::populate_write(std::size_t offset, std::size_t size, std::string_view what) const {
  return populate(*this, MADV_POPULATE_WRITE, offset, size, what);
}

}  // namespace sluice::region
