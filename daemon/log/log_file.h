// Names of a partition's files, and how a log file comes to be.
//
// Owner: the bus thread, through PartitionLog. Names are the only state on disk that says which positions a file holds,
// so they are strict: twenty decimal digits, a multiple of the segment size.
//
// Invariants
//  1. A file that has a log file's name was allocated at its whole length and synced before it got that name, and the
//  name
//     is durable when create_log_file returns.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "daemon/io/disk.h"
#include "shm/base/result.h"
#include "shm/base/types.h"

namespace sluice::log {

enum class NameKind : std::uint8_t {
  log,        // <base>.log
  index,      // <base>.idx
  temporary,  // <base>.log.tmp, <base>.idx.tmp: made, and not given its name
  torn,       // <base>.log.torn, <base>.idx.torn: set aside by an earlier recovery
  other,      // not ours
};
struct ParsedName {
  NameKind kind = NameKind::other;
  Position base;
};
ParsedName parse_name(std::string_view name, std::uint64_t segment_size);

std::string log_path(const std::string& directory, Position base);
std::string index_path(const std::string& directory, Position base);
// The name that a file has before it gets that one.
std::string temporary_path(const std::string& path);

// An open file that is closed with its owner. Moves only. No request on it may be in flight then.
class FileHandle {
 public:
  FileHandle() = default;
  FileHandle(io::Disk& disk, io::FileId id) : disk_(&disk), id_(id) {}
  FileHandle(FileHandle&& other) noexcept : disk_(std::exchange(other.disk_, nullptr)), id_(other.id_) {}
  FileHandle& operator=(FileHandle&& other) noexcept {
    if (this != &other) {
      reset();
      disk_ = std::exchange(other.disk_, nullptr);
      id_ = other.id_;
    }
    return *this;
  }
  ~FileHandle() { reset(); }

  explicit operator bool() const { return disk_ != nullptr; }
  io::FileId id() const { return id_; }
  void reset() {
    if (disk_ != nullptr) std::exchange(disk_, nullptr)->close(id_);
  }

 private:
  io::Disk* disk_ = nullptr;
  io::FileId id_;
};

Result<FileHandle> open_file(io::Disk& disk, const std::string& path, io::OpenMode mode);

// Makes the log file of that base, `size` bytes of zeros. would_block: the disk is full, nothing is left behind.
Result<FileHandle> create_log_file(io::Disk& disk, const std::string& directory, Position base, std::uint64_t size);

// Replaces a small file as a whole: after a crash there is the old one or the new one.
Status replace_file(io::Disk& disk, const std::string& directory, const std::string& path,
                    std::span<const std::byte> bytes);

}  // namespace sluice::log
