#include "daemon/log/partition_log.h"

#include <algorithm>
#include <array>
#include <utility>

#include "daemon/log/index.h"
#include "daemon/log/log_file.h"
#include "daemon/log/recovery.h"
#include "daemon/log/recovery_look.h"
#include "daemon/log/references.h"
#include "daemon/log/segment_scan.h"
#include "daemon/log/spare_file.h"
#include "shm/base/assert.h"
#include "shm/base/failpoint.h"
#include "shm/base/limits.h"
#include "shm/layout/segment.h"

namespace sluice::log {
namespace {

// Index entries are written this many at a time: a start after a crash scans at most so many segments more.
constexpr std::size_t kIndexBatch = 8;
// Files whose data is complete stay open for this many files more, for a sync that may still be asked for.
constexpr std::size_t kCompleteFilesOpen = 2;

std::string at_position(Position position) { return "position " + std::to_string(position.value); }

// Ascending and apart: what touches `range` becomes one with it.
void add_damage(std::vector<Damage>& known, Damage range) {
  const auto touches = [&](const Damage& other) { return other.begin <= range.end && range.begin <= other.end; };
  for (const Damage& other : known) {
    if (!touches(other)) continue;
    range.begin = std::min(range.begin, other.begin);
    range.end = std::max(range.end, other.end);
  }
  std::erase_if(known, touches);
  known.insert(std::find_if(known.begin(), known.end(), [&](const Damage& other) { return other.begin > range.begin; }),
               range);
}

// One log file. `closed` (its index is final) follows from complete data and written entries, and never goes back.
struct LogFile {
  Position base;
  std::uint64_t size = 0;  // of the file, bytes
  Position data_end;       // a closed file's; an open one's follows from the durable position
  bool recovered = false;  // from an earlier start: gets no more data
  bool closed = false;
  std::uint64_t records = 0;
  std::uint64_t time_max_ns = 0;
  Position referred_from = kRefersToNothing;
  std::vector<Damage> damaged;
  FileHandle handle;    // open for writing
  bool reused = false;  // former bytes may follow its data
  // Of a file of this start.
  std::vector<SegmentSummary> summaries;
  std::size_t summaries_written = 0;
  bool index_broken = false;  // a write of it failed: what is there now is not known, and recovery makes it anew

  Position file_end() const { return base + size; }
  Position limit(Position durable) const { return recovered ? data_end : std::clamp(durable, base, file_end()); }
};

class FilePartitionLog final : public PartitionLog {
 public:
  // `free_from`: no file may be made below it.
  FilePartitionLog(io::Disk& disk, LogOptions options, Recovered recovered, Position free_from);

  Result<WriteTarget> target(Position position) override;
  Status prepare_next(Position position) override;
  std::vector<io::FileId> files_between(Position from, Position to) const override;
  void set_durable(Position position) override { durable_ = std::max(durable_, position); }
  Status add_summary(const SegmentSummary& summary) override;
  Result<std::uint64_t> records_between(SegmentNumber first, SegmentNumber last) const override;
  Position lowest_referred(Position from) const override;

  Located locate(Position position) const override;
  Result<UniqueFd> open_for_client(const Located& located) override { return disk_.open_for_client(located.path); }
  Result<std::size_t> read(Position position, std::span<std::byte> into) override;
  Position earliest() const override;
  Position end() const override { return durable_; }
  Position segment_at_time(std::uint64_t time_ns) const override;
  std::vector<ScrubFile> scrub_files() const override;
  bool has_file(Position base) const override;
  Status quarantine(Position base, const std::vector<Damage>& damage) override;
  std::uint64_t damaged_bytes() const override;
  const LogOptions& options() const override { return options_; }
  std::uint64_t file_bytes() const override;
  std::uint64_t file_count() const override { return files_.size(); }

  Result<Trimmed> retain(const RetentionLimits& limits, std::uint64_t wall_ns, Position keep_from) override;
  Status close() override;

 private:
  void write_on(OpenFile open);
  LogFile* covering(Position position);
  const LogFile* at_or_before(Position position) const;
  Position next_data(std::size_t index) const;
  static Position past_damage(const LogFile& file, Position position);
  Position segment_at_time_in_index(const LogFile& file, std::uint64_t time_ns) const;
  Status make_file(Position base);
  void take_summary(LogFile& file, SegmentSummary summary);
  Status write_summaries(LogFile& file, bool closing, Position data_end);
  Status finish_complete_files();
  bool may_go(const LogFile& file, Position keep_from) const;
  std::size_t count_over(const RetentionLimits& limits, std::uint64_t wall_ns, Position keep_from) const;
  Status remove_oldest(std::uint64_t wall_ns);
  Result<bool> nothing_behind(const LogFile& file, Position position);
  Result<bool> no_record_behind(const LogFile& file, Position position);
  Status close_file(LogFile& file);
  Status sum_up_last_segment(LogFile& file, Position data_end);
  std::uint64_t segments_up_to(const LogFile& file, Position data_end) const;
  Position segment_start(Position position) const {
    return Position(position.value / options_.segment_size * options_.segment_size);
  }
  Position segment_start(SegmentNumber segment) const { return Position(segment.value * options_.segment_size); }

  io::Disk& disk_;
  const LogOptions options_;
  const Position free_from_;
  std::vector<LogFile> files_;  // ascending, not overlapping
  Position durable_;
  std::uint64_t time_max_ns_ = 0;
  SpareFile spare_;
  FileHandle read_handle_;  // the file that read() used last
  Position read_base_;
};

FilePartitionLog::FilePartitionLog(io::Disk& disk, LogOptions options, Recovered recovered, Position free_from)
    : disk_(disk), options_(std::move(options)), free_from_(free_from), durable_(recovered.end) {
  for (ClosedFile& closed : recovered.files) {
    LogFile& file = files_.emplace_back();
    file.base = closed.base;
    file.size = closed.size;
    file.data_end = closed.data_end;
    file.recovered = true;
    file.closed = true;
    file.records = closed.records;
    file.time_max_ns = closed.time_max_ns;
    file.referred_from = closed.referred_from;
    file.damaged = std::move(closed.damaged);
    time_max_ns_ = std::max(time_max_ns_, file.time_max_ns);
  }
  for (OpenFile& open : recovered.open) write_on(std::move(open));
}

void FilePartitionLog::write_on(OpenFile open) {
  LogFile& file = files_.emplace_back();
  file.base = open.base;
  file.size = full_file_size(options_);
  file.handle = std::move(open.handle);
  file.reused = open.reused;
  file.damaged = std::move(open.damaged);
  file.summaries = std::move(open.summaries);
  for (const SegmentSummary& summary : file.summaries) {
    file.records += summary.records;
    time_max_ns_ = std::max(time_max_ns_, summary.time_max_ns);
  }
  file.time_max_ns = time_max_ns_;
  file.referred_from = referred_from(file.summaries, options_.segment_size);
  file.summaries_written = file.summaries.size();
  // Entries are appended by their number; where there are others between them, recovery makes the index anew.
  file.index_broken = !open.index_written || !file.damaged.empty();
}

// ---- writing

LogFile* FilePartitionLog::covering(Position position) {
  for (auto file = files_.rbegin(); file != files_.rend(); ++file)
    if (!file->recovered && file->base <= position && position < file->file_end()) return &*file;
  return nullptr;
}

Status FilePartitionLog::make_file(Position base) {
  const std::string doing = "making a log file of " + options_.name + " at " + at_position(base);
  const Position free_from = files_.empty() ? free_from_
                                            : std::max(free_from_, files_.back().recovered ? files_.back().data_end
                                                                                           : files_.back().file_end());
  if (base < free_from)
    return fail(ErrorCode::conflict,
                doing + ": positions below " + std::to_string(free_from.value) + " are used already: start above them");
  LogFile file;
  file.base = base;
  file.size = full_file_size(options_);
  if (auto reused = spare_.take(disk_, options_, base)) {
    file.handle = std::move(*reused);
    file.reused = true;
  } else {
    auto created = create_log_file(disk_, options_.directory, base, file.size);
    if (!created) {
      Error error = std::move(created).error();
      return fail(error.code(), doing + ": " + error.context(), error.system_errno());
    }
    file.handle = std::move(*created);
  }
  files_.push_back(std::move(file));
  return {};
}

Result<WriteTarget> FilePartitionLog::target(Position position) {
  LogFile* file = covering(position);
  if (file == nullptr) {
    SLUICE_TRY(make_file(segment_start(position)));
    file = &files_.back();
  }
  if (!file->handle)
    return fail(ErrorCode::internal,
                "writing " + options_.name + " at " + at_position(position) + ": everything there is durable already");
  return WriteTarget{file->handle.id(), position - file->base, file->file_end() - position, file->reused};
}

Status FilePartitionLog::prepare_next(Position position) {
  SLUICE_TRY(finish_complete_files());
  const LogFile* file = covering(position);
  if (file == nullptr) return make_file(segment_start(position));
  if (file != &files_.back()) return {};
  return make_file(file->file_end());
}

std::vector<io::FileId> FilePartitionLog::files_between(Position from, Position to) const {
  std::vector<io::FileId> ids;
  for (const LogFile& file : files_)
    if (file.handle && file.base < to && from < file.file_end()) ids.push_back(file.handle.id());
  return ids;
}

Status FilePartitionLog::add_summary(const SegmentSummary& summary) {
  LogFile* file = covering(segment_start(summary.segment));
  if (file == nullptr || file->closed)
    return fail(ErrorCode::internal, "indexing segment " + std::to_string(summary.segment.value) + " of " +
                                         options_.name + ": no open log file holds it");
  take_summary(*file, summary);
  if (file->summaries.size() - file->summaries_written >= kIndexBatch)
    SLUICE_TRY(write_summaries(*file, false, Position()));
  return finish_complete_files();
}

void FilePartitionLog::take_summary(LogFile& file, SegmentSummary summary) {
  time_max_ns_ = summary.time_max_ns = std::max(time_max_ns_, summary.time_max_ns);
  file.summaries.push_back(summary);
  file.records += summary.records;
  file.time_max_ns = time_max_ns_;
  file.referred_from = std::min(file.referred_from, referred_from({&summary, 1}, options_.segment_size));
}

// A full disk is no error here: the entries are written later, or made again by a scan.
Status FilePartitionLog::write_summaries(LogFile& file, bool closing, Position data_end) {
  if (file.index_broken) return {};
  IndexContent added;
  added.segments.assign(file.summaries.begin() + static_cast<std::ptrdiff_t>(file.summaries_written),
                        file.summaries.end());
  if (closing) added.closed = IndexClosed{data_end, file.records, file.time_max_ns};
  if (added.segments.empty() && !closing) return {};
  Status written =
      append_index(disk_, options_.directory, index_key(options_, file.base), file.summaries_written, added);
  if (!written && written.error().code() == ErrorCode::would_block) return {};
  if (!written) {
    file.index_broken = true;
    return written;
  }
  file.summaries_written = file.summaries.size();
  file.closed = closing;
  return {};
}

// A file whose last segment is durable and summed up gets no more data: its index says so, and it is closed in the end.
Status FilePartitionLog::finish_complete_files() {
  for (std::size_t i = 0; i < files_.size(); ++i) {
    LogFile& file = files_[i];
    if (file.recovered || durable_ < file.file_end()) continue;
    const bool summed_up = file.summaries.size() == options_.segments_per_file;
    if (!file.closed && summed_up) SLUICE_TRY(write_summaries(file, true, file.file_end()));
    if (i + kCompleteFilesOpen < files_.size()) file.handle.reset();
  }
  return {};
}

// ---- reading

const LogFile* FilePartitionLog::at_or_before(Position position) const {
  const auto above = std::upper_bound(files_.begin(), files_.end(), position,
                                      [](Position p, const LogFile& file) { return p < file.base; });
  return above == files_.begin() ? nullptr : &*std::prev(above);
}

// The first position that can be read in files_[index] or behind; the log's end if there is none.
Position FilePartitionLog::next_data(std::size_t index) const {
  for (; index < files_.size(); ++index) {
    const Position first = past_damage(files_[index], files_[index].base);
    if (first < files_[index].limit(durable_)) return first;
  }
  return durable_;
}

// `position`, or the end of the damaged range that it lies in.
Position FilePartitionLog::past_damage(const LogFile& file, Position position) {
  for (const Damage& damage : file.damaged)
    if (damage.begin <= position && position < damage.end) position = damage.end;
  return position;
}

Located FilePartitionLog::locate(Position position) const {
  Located located;
  if (position >= durable_) return located;
  const LogFile* file = at_or_before(position);
  const Position good = file == nullptr ? position : past_damage(*file, position);
  if (file == nullptr || good >= file->limit(durable_)) {
    const auto behind = file == nullptr ? 0 : static_cast<std::size_t>(file - files_.data()) + 1;
    located.next = next_data(behind);
    if (located.next < durable_) located.kind = Located::Kind::skip;
    return located;
  }
  if (good != position) {
    located.kind = Located::Kind::skip;
    located.next = good;
    return located;
  }
  located.kind = Located::Kind::file;
  located.path = log_path(options_.directory, file->base);
  located.file_base = file->base;
  located.data_end = file->limit(durable_);
  for (const Damage& damage : file->damaged)
    if (damage.begin > position) located.data_end = std::min(located.data_end, damage.begin);
  return located;
}

Result<std::size_t> FilePartitionLog::read(Position position, std::span<std::byte> into) {
  const Located located = locate(position);
  if (located.kind == Located::Kind::above) return std::size_t{0};
  if (located.kind == Located::Kind::skip)
    return fail(ErrorCode::not_found, "reading " + options_.name + " at " + at_position(position) +
                                          ": nothing is kept there; the next data is at " + at_position(located.next));
  if (!read_handle_ || read_base_ != located.file_base) {
    SLUICE_ASSIGN(read_handle_, open_file(disk_, located.path, io::OpenMode::read));
    read_base_ = located.file_base;
  }
  const std::uint64_t room = located.data_end - position;
  return disk_.read(read_handle_.id(), position - located.file_base,
                    into.first(std::min<std::uint64_t>(into.size(), room)));
}

Position FilePartitionLog::earliest() const { return next_data(0); }

// The first segment of a recovered file whose running maximum reaches the time; its start if the index is not to be
// had.
Position FilePartitionLog::segment_at_time_in_index(const LogFile& file, std::uint64_t time_ns) const {
  const auto index = read_index(disk_, options_.directory, index_key(options_, file.base));
  if (!index) return file.base;
  for (const SegmentSummary& summary : index->segments)
    if (summary.time_max_ns >= time_ns) return std::max(file.base, segment_start(summary.segment));
  return file.base;
}

Position FilePartitionLog::segment_at_time(std::uint64_t time_ns) const {
  for (const LogFile& file : files_) {
    const Position data_end = file.limit(durable_);
    if (data_end == file.base) continue;
    if (file.recovered) {
      if (file.time_max_ns >= time_ns) return segment_at_time_in_index(file, time_ns);
      continue;
    }
    // The running maximum is known up to the last summary; what stands behind that may be of any time.
    Position summed_up = file.base;
    for (const SegmentSummary& summary : file.summaries) {
      if (summary.time_max_ns >= time_ns) return segment_start(summary.segment);
      summed_up = segment_start(summary.segment.next());
    }
    if (summed_up < data_end) return summed_up;
  }
  return durable_;
}

Position FilePartitionLog::lowest_referred(Position from) const {
  Position lowest = kRefersToNothing;
  for (const LogFile& file : files_)
    if ((file.recovered ? file.data_end : file.file_end()) > from) lowest = std::min(lowest, file.referred_from);
  return lowest;
}

Result<std::uint64_t> FilePartitionLog::records_between(SegmentNumber first, SegmentNumber last) const {
  const auto sum = [&](const std::vector<SegmentSummary>& summaries) {
    std::uint64_t records = 0;
    for (const SegmentSummary& summary : summaries)
      if (summary.segment >= first && summary.segment < last) records += summary.records;
    return records;
  };
  std::uint64_t records = 0;
  for (const LogFile& file : files_) {
    if (file.file_end() <= segment_start(first) || file.base >= segment_start(last)) continue;
    if (!file.recovered) {
      records += sum(file.summaries);
    } else if (file.base >= segment_start(first) && file.file_end() <= segment_start(last)) {
      records += file.records;
    } else {
      SLUICE_ASSIGN(const IndexContent index, read_index(disk_, options_.directory, index_key(options_, file.base)));
      records += sum(index.segments);
    }
  }
  return records;
}

// ---- damage that is found while the log is open

std::vector<ScrubFile> FilePartitionLog::scrub_files() const {
  std::vector<ScrubFile> found;
  for (const LogFile& file : files_) {
    const bool closed = file.closed && !file.handle;
    const Position limit = file.limit(durable_);
    const Position end = closed ? limit : segment_start(limit);
    if (end > file.base) found.push_back({file.base, end, closed});
  }
  return found;
}

bool FilePartitionLog::has_file(Position base) const {
  const LogFile* const file = at_or_before(base);
  return file != nullptr && file->base == base;
}

Status FilePartitionLog::quarantine(Position base, const std::vector<Damage>& damage) {
  SLUICE_ASSERT(has_file(base));
  LogFile& file = files_[static_cast<std::size_t>(at_or_before(base) - files_.data())];
  const std::vector<Damage> before = file.damaged;
  for (const Damage& range : damage) add_damage(file.damaged, range);
  if (file.damaged == before) return {};
  IndexContent content;
  if (file.closed) {
    SLUICE_ASSIGN(content, read_index(disk_, options_.directory, index_key(options_, base)));
  } else {
    content.segments = file.summaries;
    file.summaries_written = file.summaries.size();
    file.index_broken = true;  // entries are appended by their number: recovery makes the rest anew
  }
  content.damaged = file.damaged;
  return write_index(disk_, options_.directory, index_key(options_, base), content);
}

std::uint64_t FilePartitionLog::damaged_bytes() const {
  std::uint64_t bytes = 0;
  for (const LogFile& file : files_)
    for (const Damage& damage : file.damaged) bytes += damage.end - damage.begin;
  return bytes;
}

std::uint64_t FilePartitionLog::file_bytes() const {
  std::uint64_t bytes = spare_.size();
  for (const LogFile& file : files_) bytes += file.size;
  return bytes;
}

// ---- retention

// The file that holds the durable end stays even behind newer ones: of those a power loss may leave nothing, and then
// no start could tell any more how far the log was durable.
bool FilePartitionLog::may_go(const LogFile& file, Position keep_from) const {
  const bool newest = &file == &files_.back();
  const Position end = file.recovered ? file.data_end : file.file_end();
  return !newest && end < durable_ && end <= keep_from;
}

Status FilePartitionLog::remove_oldest(std::uint64_t wall_ns) {
  LogFile& file = files_.front();
  file.handle.reset();
  if (read_base_ == file.base) read_handle_.reset();
  const bool whole = file.size == full_file_size(options_) && file.damaged.empty();
  if (!whole || !spare_.offer(disk_, options_, file.base, wall_ns))
    SLUICE_TRY(disk_.unlink(log_path(options_.directory, file.base)));
  SLUICE_FAILPOINT("log.file_removed");
  Status index_gone = disk_.unlink(index_path(options_.directory, file.base));
  files_.erase(files_.begin());
  if (!index_gone && index_gone.error().code() != ErrorCode::not_found) return index_gone;
  return {};
}

// How many of the oldest files the limits would take.
std::size_t FilePartitionLog::count_over(const RetentionLimits& limits, std::uint64_t wall_ns,
                                         Position keep_from) const {
  std::uint64_t bytes = file_bytes() - spare_.size();
  std::size_t count = 0;
  for (; count < files_.size() && may_go(files_[count], keep_from); ++count) {
    const LogFile& file = files_[count];
    const bool too_much = limits.bytes != 0 && bytes > limits.bytes;
    const bool too_old = limits.age_ns != 0 && file.time_max_ns != 0 && wall_ns > limits.age_ns &&
                         file.time_max_ns < wall_ns - limits.age_ns;
    if (!too_much && !too_old) break;
    bytes -= file.size;
  }
  return count;
}

// A ref is as old as its delivery, what it means may be far older, and is to be read for as long as the ref. Refs in
// files that only such refs keep keep nothing: else a topic that always delays would never lose a file.
Result<Trimmed> FilePartitionLog::retain(const RetentionLimits& limits, std::uint64_t wall_ns, Position keep_from) {
  Trimmed trimmed;
  spare_.drop_unneeded(disk_, wall_ns);
  const std::size_t over = count_over(limits, wall_ns, keep_from);
  keep_from = std::min(keep_from, limits.needed_from);
  for (std::size_t i = over; i < files_.size(); ++i) keep_from = std::min(keep_from, files_[i].referred_from);
  while (trimmed.files < over && may_go(files_.front(), keep_from)) {
    trimmed.records += files_.front().records;
    ++trimmed.files;
    SLUICE_TRY(remove_oldest(wall_ns));
  }
  if (trimmed.files != 0) {
    SLUICE_TRY(disk_.sync_directory(options_.directory));
    spare_.confirm();
  }
  trimmed.trimmed = earliest();
  return trimmed;
}

// ---- closing

// Among the bytes of its former use the log ends where no record of this place is.
Result<bool> FilePartitionLog::no_record_behind(const LogFile& file, Position position) {
  const SegmentNumber segment(position.value / options_.segment_size);
  const std::uint64_t offset = segment_start(segment) - file.base;
  SegmentBuffer buffer(disk_, options_.segment_size);
  buffer.start(file.handle.id(), offset, file.size - offset);
  SLUICE_ASSIGN(const SegmentOutcome outcome, SegmentScan(buffer, options_).run(segment, position, position, {}));
  return outcome.stopped == position;
}

// True if the log surely ends at `position`: a free word, or an empty segment header.
Result<bool> FilePartitionLog::nothing_behind(const LogFile& file, Position position) {
  if (position == file.file_end()) return true;
  if (file.reused && position != segment_start(position)) return no_record_behind(file, position);
  std::array<std::byte, layout::kSegmentHeaderSize> bytes{};
  SLUICE_ASSIGN(const std::size_t got, disk_.read(file.handle.id(), position - file.base, bytes));
  const auto zero = [](std::byte b) { return b == std::byte{0}; };
  return std::all_of(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(got), zero);
}

std::uint64_t FilePartitionLog::segments_up_to(const LogFile& file, Position data_end) const {
  return layout::align_up(data_end - file.base, options_.segment_size) / options_.segment_size;
}

// The segment that the log ends in was not complete, so nobody has summed it up. If more than that is missing, the next
// start does it.
Status FilePartitionLog::sum_up_last_segment(LogFile& file, Position data_end) {
  const std::uint64_t segments = segments_up_to(file, data_end);
  if (file.summaries.size() + 1 != segments) return {};
  const SegmentNumber last((data_end.value - 1) / options_.segment_size);
  const std::uint64_t offset = segment_start(last) - file.base;
  SegmentBuffer buffer(disk_, options_.segment_size);
  buffer.start(file.handle.id(), offset, file.size - offset);
  SLUICE_ASSIGN(const SegmentOutcome outcome, SegmentScan(buffer, options_).run(last, data_end, data_end, {}));
  if (!outcome.damaged.empty()) return {};
  take_summary(file, {last, outcome.records, outcome.time_max_ns, outcome.refers_back});
  return {};
}

// What is not durable is left to recovery: only a file that surely ends where it is durable is cut and closed.
Status FilePartitionLog::close_file(LogFile& file) {
  const Position data_end = file.limit(durable_);
  SLUICE_ASSIGN(const bool ends, nothing_behind(file, data_end));
  if (!ends) {
    file.handle.reset();
    return {};
  }
  // The first file of this life stays, if only for its base: positions from there on may have been given out.
  const bool made_ahead = &file != &files_.front() && !std::prev(&file)->recovered;
  if (data_end == file.base && made_ahead) {
    file.handle.reset();
    SLUICE_TRY(disk_.unlink(log_path(options_.directory, file.base)));
    file.size = 0;
    return disk_.sync_directory(options_.directory);
  }
  SLUICE_ASSIGN(file.size, cut_log_file(disk_, file.handle.id(), file.base, data_end));
  SLUICE_TRY(sum_up_last_segment(file, data_end));
  const bool summed_up = file.summaries.size() == segments_up_to(file, data_end);
  SLUICE_TRY(write_summaries(file, summed_up, data_end));
  file.data_end = data_end;
  file.recovered = true;
  file.handle.reset();
  return {};
}

Status FilePartitionLog::close() {
  read_handle_.reset();
  spare_.drop(disk_);
  SLUICE_TRY(finish_complete_files());
  for (auto file = files_.rbegin(); file != files_.rend(); ++file) {
    if (file->recovered || file->closed) {
      file->handle.reset();
      continue;
    }
    if (!file->handle) continue;
    SLUICE_TRY(close_file(*file));
  }
  std::erase_if(files_, [](const LogFile& file) { return file.size == 0; });
  return {};
}

}  // namespace

Result<std::unique_ptr<PartitionLog>> PartitionLog::open(io::Disk& disk, LogOptions options, Position scan_from,
                                                         const RecordVisitor& visitor, RecoveryReport& report) {
  SLUICE_ASSERT(options.segment_size != 0 && options.segment_size % kDirectIoAlignment == 0);
  SLUICE_ASSERT(options.segments_per_file != 0);
  SLUICE_ASSIGN(Recovered recovered, recover(disk, options, scan_from, visitor, report));
  // Positions of this life that are not on disk yet are free still where its memory was kept.
  const Position free_from = options.memory_kept ? recovered.end : report.used_end;
  return std::unique_ptr<PartitionLog>(
      std::make_unique<FilePartitionLog>(disk, std::move(options), std::move(recovered), free_from));
}

}  // namespace sluice::log
