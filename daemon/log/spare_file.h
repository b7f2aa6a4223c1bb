// A log file that retention took, kept for a while to become the next one: a device takes bytes over blocks that were
// written before more quickly than into new ones, each of which the file system has to note as written.
//
// Its former bytes stay. They never pass for records of their new place, for a record's checksum covers its position:
// logs without checksums keep no spare. That the end of the data may be followed by them is said by the file itself:
// layout::kFormerUseMark, in each segment that was not begun.
//
// Owner: PartitionLog, on the bus thread.
//
// Invariants
//  1. It has a temporary name (<former base>.log.tmp), so a start removes it, and the daemon's lock.
//  2. Nobody reads it: no client held a lock when it was taken, and none can get it since.
//  3. It gets a log file's name when the first block of each of its segments is blank and durable, and its former name
//     was durably gone before that.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "daemon/io/disk.h"
#include "daemon/log/log_file.h"
#include "daemon/log/partition_log.h"
#include "shm/base/types.h"

namespace sluice::log {

// One that nobody needed for so long is removed: what was to go is to be gone.
inline constexpr std::uint64_t kSpareKeptNs = 10'000'000'000;

class SpareFile {
 public:
  // Takes the log file of `base` (whole, without damage, closed) out of the log. False: it is as before, and the
  // caller's to remove. It can be used once the directory was synced: confirm().
  bool offer(io::Disk& disk, const LogOptions& options, Position base, std::uint64_t wall_ns);
  void confirm() { confirmed_ = static_cast<bool>(handle_); }
  // The log file of that base, made of it, as create_log_file() gives it. Nothing: there is none, or it did not become
  // one, and is gone.
  std::optional<FileHandle> take(io::Disk& disk, const LogOptions& options, Position base);
  void drop(io::Disk& disk);
  void drop_unneeded(io::Disk& disk, std::uint64_t wall_ns);
  // Bytes that it takes.
  std::uint64_t size() const { return handle_ ? size_ : 0; }

 private:
  static Status rename_blank(io::Disk& disk, const LogOptions& options, const FileHandle& file, const std::string& from,
                             Position base);

  std::string path_;
  FileHandle handle_;
  std::uint64_t size_ = 0;
  std::uint64_t since_wall_ns_ = 0;
  bool confirmed_ = false;
};

}  // namespace sluice::log
