#include "daemon/log/log_file.h"

#include <array>
#include <cstddef>
#include <cstdio>

#include "shm/base/failpoint.h"
#include "shm/base/limits.h"

namespace sluice::log {
namespace {

constexpr std::size_t kDigits = 20;
constexpr std::string_view kLogSuffix = ".log";
constexpr std::string_view kIndexSuffix = ".idx";
constexpr std::string_view kTemporarySuffix = ".tmp";

std::string path_of(const std::string& directory, Position base, std::string_view suffix) {
  std::array<char, kDigits + 1> digits{};
  std::snprintf(digits.data(), digits.size(), "%020llu", static_cast<unsigned long long>(base.value));
  return directory + '/' + digits.data() + std::string(suffix);
}

bool parse_digits(std::string_view text, std::uint64_t& value) {
  value = 0;
  for (const char digit : text) {
    if (digit < '0' || digit > '9') return false;
    const auto number = static_cast<std::uint64_t>(digit - '0');
    if (value > (UINT64_MAX - number) / 10) return false;
    value = value * 10 + number;
  }
  return true;
}

// A leftover of that name is from an attempt that failed: nothing was ever written to it.
Result<FileHandle> create_afresh(io::Disk& disk, const std::string& path) {
  auto created = open_file(disk, path, io::OpenMode::create);
  if (created || created.error().code() != ErrorCode::exists) return created;
  SLUICE_TRY(disk.unlink(path));
  return open_file(disk, path, io::OpenMode::create);
}

}  // namespace

ParsedName parse_name(std::string_view name, std::uint64_t segment_size) {
  ParsedName parsed;
  if (name.size() <= kDigits || !parse_digits(name.substr(0, kDigits), parsed.base.value)) return parsed;
  if (parsed.base.value % segment_size != 0) return parsed;
  const std::string_view suffix = name.substr(kDigits);
  if (suffix == kLogSuffix) parsed.kind = NameKind::log;
  if (suffix == kIndexSuffix) parsed.kind = NameKind::index;
  if (suffix == ".log.tmp" || suffix == ".idx.tmp") parsed.kind = NameKind::temporary;
  if (suffix == ".log.torn" || suffix == ".idx.torn") parsed.kind = NameKind::torn;
  return parsed;
}

std::string log_path(const std::string& directory, Position base) { return path_of(directory, base, kLogSuffix); }
std::string index_path(const std::string& directory, Position base) { return path_of(directory, base, kIndexSuffix); }

std::string temporary_path(const std::string& path) { return path + std::string(kTemporarySuffix); }

Result<FileHandle> open_file(io::Disk& disk, const std::string& path, io::OpenMode mode) {
  SLUICE_ASSIGN(const io::FileId id, disk.open(path, mode));
  return FileHandle(disk, id);
}

Result<FileHandle> create_log_file(io::Disk& disk, const std::string& directory, Position base, std::uint64_t size) {
  const std::string path = log_path(directory, base);
  const std::string temporary = temporary_path(path);
  SLUICE_ASSIGN(FileHandle file, create_afresh(disk, temporary));
  const auto fill = [&]() -> Status {
    SLUICE_TRY(disk.lock(file.id()));
    SLUICE_TRY(disk.allocate(file.id(), size));
    // Writing the first block syncs the file's size and blocks with it.
    static constexpr std::array<std::byte, kDirectIoAlignment> kZeros{};
    SLUICE_TRY(disk.write_synced(file.id(), 0, kZeros));
    return disk.rename(temporary, path);
  };
  if (Status filled = fill(); !filled) {
    file.reset();
    static_cast<void>(disk.unlink(temporary).has_value());
    return fail(std::move(filled).error());
  }
  SLUICE_FAILPOINT("log.file_renamed");
  SLUICE_TRY(disk.sync_directory(directory));
  return file;
}

Status replace_file(io::Disk& disk, const std::string& directory, const std::string& path,
                    std::span<const std::byte> bytes) {
  const std::string temporary = temporary_path(path);
  {
    SLUICE_ASSIGN(const FileHandle file, create_afresh(disk, temporary));
    if (Status written = disk.write_synced(file.id(), 0, bytes); !written) {
      static_cast<void>(disk.unlink(temporary).has_value());
      return written;
    }
  }
  SLUICE_TRY(disk.rename(temporary, path));
  return disk.sync_directory(directory);
}

}  // namespace sluice::log
