#include "daemon/log/spare_file.h"

#include <array>
#include <cstddef>
#include <cstring>
#include <utility>
#include <vector>

#include "daemon/log/recovery_look.h"
#include "shm/base/failpoint.h"
#include "shm/base/limits.h"
#include "shm/layout/segment.h"

namespace sluice::log {

bool SpareFile::offer(io::Disk& disk, const LogOptions& options, Position base, std::uint64_t wall_ns) {
  if (handle_ || !options.checksums) return false;
  const std::string path = log_path(options.directory, base);
  auto opened = open_file(disk, path, io::OpenMode::read_write);
  if (!opened || !disk.lock(opened->id())) return false;
  const auto unread = disk.is_unread(opened->id());
  if (!unread || !*unread) return false;
  std::string temporary = temporary_path(path);
  if (!disk.rename(path, temporary)) return false;
  path_ = std::move(temporary);
  handle_ = std::move(*opened);
  size_ = full_file_size(options);
  since_wall_ns_ = wall_ns;
  confirmed_ = false;
  return true;
}

std::optional<FileHandle> SpareFile::take(io::Disk& disk, const LogOptions& options, Position base) {
  if (!handle_ || !confirmed_) return std::nullopt;
  FileHandle file = std::move(handle_);
  if (!rename_blank(disk, options, file, path_, base)) {
    file.reset();  // a disk that fails says so again where a new one is made
    static_cast<void>(disk.unlink(path_).has_value());
    return std::nullopt;
  }
  return file;
}

Status SpareFile::rename_blank(io::Disk& disk, const LogOptions& options, const FileHandle& file,
                               const std::string& from, Position base) {
  std::array<std::byte, kDirectIoAlignment> blank{};
  std::memcpy(blank.data() + layout::kSegmentHeaderSize, &layout::kFormerUseMark, sizeof layout::kFormerUseMark);
  std::vector<std::uint64_t> offsets;
  for (std::uint32_t i = 0; i < options.segments_per_file; ++i) offsets.push_back(i * options.segment_size);
  SLUICE_TRY(disk.write_blocks_synced(file.id(), offsets, blank));
  SLUICE_FAILPOINT("log.spare_blank");
  SLUICE_TRY(disk.rename(from, log_path(options.directory, base)));
  SLUICE_FAILPOINT("log.file_renamed");
  return disk.sync_directory(options.directory);
}

void SpareFile::drop(io::Disk& disk) {
  if (!handle_) return;
  handle_.reset();
  static_cast<void>(disk.unlink(path_).has_value());
}

void SpareFile::drop_unneeded(io::Disk& disk, std::uint64_t wall_ns) {
  if (wall_ns > since_wall_ns_ && wall_ns - since_wall_ns_ > kSpareKeptNs) drop(disk);
}

}  // namespace sluice::log
