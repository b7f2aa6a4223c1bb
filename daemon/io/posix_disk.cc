#include "daemon/io/posix_disk.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <string>
#include <system_error>
#include <utility>

#include "daemon/io/disk_error.h"
#include "shm/base/assert.h"
#include "shm/base/limits.h"

namespace sluice::io {

namespace {

// Clients get descriptors from the daemon; nobody else needs to reach the files by name.
constexpr mode_t kFileMode = 0600;
constexpr mode_t kDirectoryMode = 0700;
// A removed file of that many bytes is freed on another thread.
constexpr off_t kFreedAsideSizeMin = 16 * 1024 * 1024;

// Repeats a system call that a signal interrupted.
template <typename Call>
auto uninterrupted(Call call) {
  decltype(call()) result;
  do {
    result = call();
  } while (result < 0 && errno == EINTR);
  return result;
}

std::string parent_of(const std::string& path) { return std::filesystem::path(path).parent_path().string(); }

// Without a trailing slash, so that parent_of() is the directory that holds it.
std::string without_trailing_slash(std::string path) {
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  return path;
}

Status write_fully(int fd, std::uint64_t offset, std::span<const std::byte> bytes, const std::string& path) {
  const std::string doing = "writing " + std::to_string(bytes.size()) + " bytes at " + std::to_string(offset) + " of ";
  while (!bytes.empty()) {
    const ssize_t written =
        uninterrupted([&] { return ::pwrite(fd, bytes.data(), bytes.size(), static_cast<off_t>(offset)); });
    if (written < 0) return fail(disk_error(errno, doing + path));
    if (written == 0) return fail(ErrorCode::io, doing + path + ": the file system takes no bytes and gives no reason");
    bytes = bytes.subspan(static_cast<std::size_t>(written));
    offset += static_cast<std::uint64_t>(written);
  }
  return {};
}

Result<bool> is_directory(const std::string& path) {
  struct stat about {};
  if (::stat(path.c_str(), &about) != 0) return fail(disk_error(errno, "looking at " + path));
  return S_ISDIR(about.st_mode);
}

// Empty if direct writes with our alignment are fine; else the reason. Kernels before 6.1 do not say: then the open
// flag's acceptance stands.
std::string direct_alignment_complaint([[maybe_unused]] int fd) {
#if defined(STATX_DIOALIGN)
  struct statx about {};
  if (::statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &about) != 0 || (about.stx_mask & STATX_DIOALIGN) == 0) return {};
  if (about.stx_dio_offset_align == 0) return "the file system does not do direct I/O on it";
  const std::uint64_t needed = std::max(about.stx_dio_offset_align, about.stx_dio_mem_align);
  if (needed > kDirectIoAlignment) return "direct I/O needs an alignment of " + std::to_string(needed) + " bytes there";
#endif
  return {};
}

}  // namespace

PosixDisk::OpenFile& PosixDisk::at(FileId file) {
  SLUICE_ASSERT(file.value >= 1 && file.value <= files_.size());
  OpenFile& found = files_[file.value - 1];
  SLUICE_ASSERT(static_cast<bool>(found.buffered));
  return found;
}

Status PosixDisk::check_queue_depth(std::uint32_t depth) {
  if (depth >= 1 && depth <= kQueueDepthMax) return {};
  return fail(ErrorCode::invalid, "setting up the disk with a queue depth of " + std::to_string(depth) +
                                      ": it must be 1 to " + std::to_string(kQueueDepthMax));
}

void PosixDisk::check_write(FileId file, std::uint64_t offset, std::span<const std::byte> bytes) {
  SLUICE_ASSERT(at(file).mode != OpenMode::read);
  SLUICE_ASSERT(offset % kDirectIoAlignment == 0);
  SLUICE_ASSERT(reinterpret_cast<std::uintptr_t>(bytes.data()) % kDirectIoAlignment == 0);
  SLUICE_ASSERT(bytes.size() % kDirectIoAlignment == 0);
  SLUICE_ASSERT(!bytes.empty());
  SLUICE_ASSERT(bytes.size() <= kDiskWriteSizeMax);
}

Result<FileId> PosixDisk::open(const std::string& path, OpenMode mode) {
  int flags = O_CLOEXEC | (mode == OpenMode::read ? O_RDONLY : O_RDWR);
  if (mode == OpenMode::create) flags |= O_CREAT | O_EXCL;
  OpenFile file;
  file.mode = mode;
  file.path = path;
  file.buffered = UniqueFd(uninterrupted([&] { return ::open(path.c_str(), flags, kFileMode); }));
  if (!file.buffered) {
    return fail(disk_error(errno, (mode == OpenMode::create ? "creating " : "opening ") + path));
  }
  if (mode != OpenMode::read) {
    if (Status direct = open_direct(file); !direct) {
      if (mode == OpenMode::create) ::unlink(path.c_str());
      return fail(std::move(direct).error());
    }
  }
  if (unused_.empty()) {
    files_.emplace_back();
    unused_.push_back(static_cast<std::uint32_t>(files_.size() - 1));
  }
  const std::uint32_t index = unused_.back();
  unused_.pop_back();
  files_[index] = std::move(file);
  return FileId(index + 1);
}

// A second open, never O_CREAT | O_DIRECT in one: that leaves a file behind where O_DIRECT is refused.
Status PosixDisk::open_direct(OpenFile& file) {
  if (!use_direct_) {
    give_up_direct(file, "turned off by configuration");
    return {};
  }
  UniqueFd direct(uninterrupted([&] { return ::open(file.path.c_str(), O_RDWR | O_DIRECT | O_CLOEXEC); }));
  if (!direct) {
    if (errno != EINVAL && errno != EOPNOTSUPP) {
      return fail(disk_error(errno, "opening " + file.path + " for direct I/O"));
    }
    give_up_direct(file, "the file system refuses O_DIRECT");
    return {};
  }
  struct stat ours {};
  struct stat theirs {};
  if (::fstat(file.buffered.get(), &ours) != 0 || ::fstat(direct.get(), &theirs) != 0) {
    return fail(disk_error(errno, "looking at " + file.path));
  }
  if (ours.st_dev != theirs.st_dev || ours.st_ino != theirs.st_ino) {
    return fail(ErrorCode::in_use, "opening " + file.path +
                                       ": it was replaced by another file meanwhile (something else works in the data "
                                       "directory: stop it)");
  }
  if (std::string complaint = direct_alignment_complaint(direct.get()); !complaint.empty()) {
    give_up_direct(file, complaint);
    return {};
  }
  direct_seen_ = true;
  file.direct = std::move(direct);
  return {};
}

void PosixDisk::give_up_direct(const OpenFile& file, const std::string& why) {
  if (direct_why_not_.empty()) direct_why_not_ = "no O_DIRECT for " + file.path + ": " + why;
}

void PosixDisk::close(FileId file) {
  OpenFile& closing = at(file);
  SLUICE_ASSERT(closing.in_flight == 0);
  closing = OpenFile{};
  unused_.push_back(file.value - 1);
}

Result<std::uint64_t> PosixDisk::size(FileId file) {
  const OpenFile& open_file = at(file);
  struct stat about {};
  if (::fstat(open_file.buffered.get(), &about) != 0) {
    return fail(disk_error(errno, "asking for the size of " + open_file.path));
  }
  return static_cast<std::uint64_t>(about.st_size);
}

Status PosixDisk::allocate(FileId file, std::uint64_t size) {
  const OpenFile& open_file = at(file);
  SLUICE_ASSIGN(const std::uint64_t size_before, this->size(file));
  if (size == 0) return {};
  int error = 0;
  do {
    // Falls back by itself to touching every block where the file system has no fallocate.
    error = ::posix_fallocate(open_file.buffered.get(), 0, static_cast<off_t>(size));
  } while (error == EINTR);
  if (error == 0) return {};
  // A part may have been reserved, and the size moved; give it back.
  static_cast<void>(::ftruncate(open_file.buffered.get(), static_cast<off_t>(size_before)) == 0);
  return fail(disk_error(error, "reserving " + std::to_string(size) + " bytes for " + open_file.path));
}

Status PosixDisk::truncate(FileId file, std::uint64_t size) {
  const OpenFile& open_file = at(file);
  if (uninterrupted([&] { return ::ftruncate(open_file.buffered.get(), static_cast<off_t>(size)); }) != 0) {
    return fail(disk_error(errno, "setting the size of " + open_file.path + " to " + std::to_string(size)));
  }
  return {};
}

Result<std::size_t> PosixDisk::read(FileId file, std::uint64_t offset, std::span<std::byte> into) {
  const OpenFile& open_file = at(file);
  std::size_t done = 0;
  while (done < into.size()) {
    const ssize_t got = uninterrupted([&] {
      return ::pread(open_file.buffered.get(), into.data() + done, into.size() - done,
                     static_cast<off_t>(offset + done));
    });
    if (got < 0) {
      return fail(disk_error(errno, "reading " + std::to_string(into.size()) + " bytes at " + std::to_string(offset) +
                                        " of " + open_file.path));
    }
    if (got == 0) break;
    done += static_cast<std::size_t>(got);
  }
  return done;
}

Status PosixDisk::write_synced(FileId file, std::uint64_t offset, std::span<const std::byte> bytes) {
  const OpenFile& open_file = at(file);
  SLUICE_TRY(write_fully(open_file.buffered.get(), offset, bytes, open_file.path));
  if (uninterrupted([&] { return ::fdatasync(open_file.buffered.get()); }) != 0) {
    return fail(disk_error(errno, "syncing " + open_file.path));
  }
  return {};
}

Status PosixDisk::write_blocks_synced(FileId file, std::span<const std::uint64_t> offsets,
                                      std::span<const std::byte> block) {
  const OpenFile& open_file = at(file);
  for (const std::uint64_t offset : offsets)
    SLUICE_TRY(write_fully(open_file.buffered.get(), offset, block, open_file.path));
  if (uninterrupted([&] { return ::fdatasync(open_file.buffered.get()); }) != 0)
    return fail(disk_error(errno, "syncing " + open_file.path));
  return {};
}

Result<bool> PosixDisk::is_unread(FileId file) {
  const OpenFile& open_file = at(file);
  struct flock whole {};
  whole.l_type = F_WRLCK;
  whole.l_whence = SEEK_SET;
  if (uninterrupted([&] { return ::fcntl(open_file.buffered.get(), F_OFD_GETLK, &whole); }) != 0)
    return fail(disk_error(errno, "asking who reads " + open_file.path));
  return whole.l_type == F_UNLCK;
}

Status PosixDisk::lock(FileId file) {
  const OpenFile& open_file = at(file);
  if (uninterrupted([&] { return ::flock(open_file.write_fd(), LOCK_EX | LOCK_NB); }) == 0) return {};
  return fail(disk_error(errno, "locking " + open_file.path));
}

Status PosixDisk::rename(const std::string& from, const std::string& to) {
  if (::rename(from.c_str(), to.c_str()) != 0) return fail(disk_error(errno, "renaming " + from + " to " + to));
  return {};
}

Status PosixDisk::unlink(const std::string& path) {
  // A large file's blocks are freed with its last descriptor, somewhere else; the room is there a little later.
  UniqueFd last(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  struct stat what {};
  const bool large = last && ::fstat(last.get(), &what) == 0 && what.st_size >= kFreedAsideSizeMin;
  if (::unlink(path.c_str()) != 0) return fail(disk_error(errno, "removing " + path));
  if (large) closer_.close(std::move(last));
  return {};
}

Status PosixDisk::make_directories(const std::string& path) {
  const std::string name = without_trailing_slash(path);
  const std::string parent = parent_of(name);
  int error = ::mkdir(name.c_str(), kDirectoryMode) == 0 ? 0 : errno;
  if (error == ENOENT && parent != name && !parent.empty()) {
    SLUICE_TRY(make_directories(parent));
    error = ::mkdir(name.c_str(), kDirectoryMode) == 0 ? 0 : errno;
  }
  if (error == 0) return sync_directory(parent);
  // A read-only file system says EROFS and a root directory EISDIR, even for what exists.
  const Result<bool> exists = is_directory(name);
  if (!exists || !*exists) return fail(disk_error(error, "making the directory " + name));
  // Whoever made it may have died before its sync. Best effort: the parent of the data directory may not be ours to
  // open.
  static_cast<void>(sync_directory(parent).has_value());
  return {};
}

Status PosixDisk::remove_directory(const std::string& path) {
  if (::rmdir(path.c_str()) != 0) return fail(disk_error(errno, "removing the directory " + path));
  return {};
}

Status PosixDisk::sync_directory(const std::string& path) {
  const UniqueFd directory(uninterrupted([&] { return ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC); }));
  if (!directory) return fail(disk_error(errno, "opening the directory " + path));
  if (uninterrupted([&] { return ::fsync(directory.get()); }) != 0) {
    return fail(disk_error(errno, "syncing the directory " + path));
  }
  return {};
}

Result<std::vector<std::string>> PosixDisk::list(const std::string& path) {
  std::error_code error;
  std::vector<std::string> names;
  std::filesystem::directory_iterator entries(path, error);
  while (!error && entries != std::filesystem::directory_iterator()) {
    names.push_back(entries->path().filename().string());
    entries.increment(error);
  }
  if (error) return fail(disk_error(error.value(), "listing the directory " + path));
  std::sort(names.begin(), names.end());
  return names;
}

Result<UniqueFd> PosixDisk::open_for_client(const std::string& path) {
  UniqueFd client(uninterrupted([&] { return ::open(path.c_str(), O_RDONLY | O_CLOEXEC); }));
  if (!client) return fail(disk_error(errno, "opening " + path + " for a client"));
  struct flock whole {};
  whole.l_type = F_RDLCK;
  whole.l_whence = SEEK_SET;
  if (uninterrupted([&] { return ::fcntl(client.get(), F_OFD_SETLK, &whole); }) == 0) return client;
  return fail(disk_error(errno == EACCES ? EAGAIN : errno, "taking a client's read lock on " + path));
}

Result<std::uint64_t> PosixDisk::free_bytes(const std::string& path) {
  struct statvfs about {};
  if (::statvfs(path.c_str(), &about) != 0) return fail(disk_error(errno, "asking for the free space at " + path));
  return static_cast<std::uint64_t>(about.f_bavail) * about.f_frsize;
}

}  // namespace sluice::io
