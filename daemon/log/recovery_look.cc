#include "daemon/log/recovery_look.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "shm/layout/record.h"
#include "shm/layout/segment.h"

namespace sluice::log {
namespace {

class Looker {
 public:
  Looker(io::Disk& disk, const LogOptions& options, Position scan_from)
      : disk_(disk), options_(options), scan_from_(scan_from) {}

  Result<DirectoryLook> run() {
    SLUICE_ASSIGN(const std::vector<std::string> names, disk_.list(options_.directory));
    std::vector<Position> indexes;
    for (const std::string& entry : names) {
      const ParsedName parsed = parse_name(entry, options_.segment_size);
      const std::string path = options_.directory + '/' + entry;
      switch (parsed.kind) {
        case NameKind::log: SLUICE_TRY(look_at_log(parsed.base)); break;
        case NameKind::index: indexes.push_back(parsed.base); break;
        case NameKind::temporary: SLUICE_TRY(look_at_temporary(path)); break;
        case NameKind::torn: look_.set_aside.push_back({parsed.base, path}); break;
        case NameKind::other: look_.unparsed.push_back(path); break;
      }
    }
    for (const Position base : indexes) SLUICE_TRY(look_at_index(base));
    find_lives();
    std::sort(look_.claims.begin(), look_.claims.end());
    return std::move(look_);
  }

 private:
  // Files come in ascending order: list() is sorted, and the digits are fixed in number.
  Status look_at_log(Position base) {
    FileLook file;
    file.base = base;
    file.path = log_path(options_.directory, base);
    SLUICE_ASSIGN(file.index, read_index(disk_, options_.directory, index_key(options_, base)));
    SLUICE_ASSIGN(file.file, open_file(disk_, file.path, io::OpenMode::read_write));
    SLUICE_ASSIGN(file.size, disk_.size(file.file.id()));
    file.indexed_end = base;
    if (file.index.closed) claim_by_index(file, file.index.closed->data_end);
    if (file.index.closed && file.size >= file.index.closed->data_end - base) {
      file.kind = FileLook::Kind::closed;
      if (scan_from_ >= file.index.closed->data_end) file.file.reset();
    } else {
      SLUICE_TRY(disk_.lock(file.file.id()));
      SLUICE_TRY(look_at_headers(file));
    }
    look_.files.push_back(std::move(file));
    return {};
  }

  Status look_at_headers(FileLook& file) {
    bool ours = !file.index.segments.empty() || file.index.closed;
    for (std::uint32_t i = 0; i < options_.segments_per_file; ++i) {
      std::array<std::byte, layout::kSegmentHeaderSize + sizeof layout::kFormerUseMark> bytes{};
      const std::uint64_t offset = i * options_.segment_size;
      if (offset >= file.size) break;
      // What lies behind the file's end reads as zeros here.
      SLUICE_TRY(disk_.read(file.file.id(), offset, bytes));
      SLUICE_TRY(take_header(file, i, bytes.data(), ours));
    }
    for (const SegmentSummary& entry : file.index.segments) {
      Position end(entry.segment.next().value * options_.segment_size);
      if (file.index.closed) end = std::min(end, file.index.closed->data_end);
      claim_by_index(file, end);
    }
    // The file is shorter than its index says: something was lost, and it is not closed any more.
    if (file.index.closed) file.index.closed.reset();
    file.kind = ours ? FileLook::Kind::ours : file.used_segments == 0 ? FileLook::Kind::blank : FileLook::Kind::foreign;
    return {};
  }

  void claim_by_index(FileLook& file, Position end) {
    file.indexed_end = std::max(file.indexed_end, end);
    look_.claims.push_back(end);
  }

  Status take_header(FileLook& file, std::uint32_t index, const std::byte* bytes, bool& ours) {
    const Position start = file.base + index * options_.segment_size;
    layout::SegmentHeader header;
    const layout::SegmentCheck check = layout::read_segment_header(
        bytes, options_.topic, options_.partition, SegmentNumber(start.value / options_.segment_size), header);
    if (check == layout::SegmentCheck::newer_version)
      return fail(ErrorCode::version, "opening the log of " + options_.name + ": " + file.path +
                                          " has segments of version " + std::to_string(header.version) +
                                          ", this build knows " + std::to_string(layout::kSegmentVersion) +
                                          ": use the newer sluiced; nothing was changed");
    if (check == layout::SegmentCheck::empty) {
      std::uint64_t mark = 0;
      std::memcpy(&mark, bytes + layout::kSegmentHeaderSize, sizeof mark);
      file.reused |= mark == layout::kFormerUseMark;
      return {};
    }
    file.used_segments = index + 1;
    const bool possible =
        header.durable_position <= start.value && header.durable_position % layout::kRecordAlignment == 0;
    if (check != layout::SegmentCheck::ok || !possible) return {};
    ours = true;
    look_.claims.push_back(Position(header.durable_position));
    if (!file.first_incarnation) file.first_incarnation = header.incarnation;
    file.last_incarnation = header.incarnation;
    return {};
  }

  // Its maker may still be allocating it.
  Status look_at_temporary(const std::string& path) {
    SLUICE_ASSIGN(const FileHandle file, open_file(disk_, path, io::OpenMode::read_write));
    SLUICE_TRY(disk_.lock(file.id()));
    look_.temporaries.push_back(path);
    return {};
  }

  Status look_at_index(Position base) {
    const bool has_log =
        std::any_of(look_.files.begin(), look_.files.end(), [&](const FileLook& file) { return file.base == base; });
    if (has_log) return {};
    SLUICE_ASSIGN(const IndexContent index, read_index(disk_, options_.directory, index_key(options_, base)));
    auto& list = index.present ? look_.orphans : look_.unparsed;
    list.push_back(index_path(options_.directory, base));
    return {};
  }

  // A file that does not continue the one before it, or was written by another life, was made by a start that had
  // recovered everything below it. A start's first file may be blank (its first write was lost): those that continue it
  // begin no life of their own, and what lies below them is not known to be recovered.
  void find_lives() {
    const FileLook* before = nullptr;
    bool blank_began = false;
    for (FileLook& file : look_.files) {
      const bool whole_blank = file.kind == FileLook::Kind::blank && file.size >= full_file_size(options_);
      if (!file.has_data() && !whole_blank) continue;
      const bool continues = before != nullptr && file.base - before->base == full_file_size(options_);
      const bool same = before == nullptr || !before->last_incarnation || !file.first_incarnation ||
                        *before->last_incarnation == *file.first_incarnation;
      const bool begins = before != nullptr && (!continues || !same);
      if (file.has_data()) {
        file.begins_life = begins || blank_began;
        if (begins) look_.claims.push_back(file.base);
      }
      blank_began = whole_blank && (begins || blank_began);
      before = &file;
    }
  }

  io::Disk& disk_;
  const LogOptions& options_;
  const Position scan_from_;
  DirectoryLook look_;
};

}  // namespace

std::uint64_t full_file_size(const LogOptions& options) { return options.segment_size * options.segments_per_file; }

IndexKey index_key(const LogOptions& options, Position base) {
  return {options.topic, options.partition, base, options.segment_size, options.segments_per_file};
}

Result<DirectoryLook> look(io::Disk& disk, const LogOptions& options, Position scan_from) {
  return Looker(disk, options, scan_from).run();
}

}  // namespace sluice::log
