#include "daemon/log/recovery.h"

#include <algorithm>
#include <array>
#include <optional>
#include <utility>

#include "daemon/log/log_file.h"
#include "daemon/log/mirror_reconcile.h"
#include "daemon/log/recovery_look.h"
#include "daemon/log/references.h"
#include "daemon/log/segment_scan.h"
#include "shm/base/failpoint.h"
#include "shm/base/limits.h"
#include "shm/layout/record.h"
#include "shm/layout/segment.h"

namespace sluice::log {
namespace {

// How far behind the end torn bytes are looked for: what they are is only reported.
constexpr std::uint64_t kTailScanMax = 8 * 1024 * 1024;
constexpr std::uint64_t kChunkSize = 1024 * 1024;

// What the scan found about one file, and what is to be done with it.
struct FilePlan {
  enum class Action : std::uint8_t {
    keep,       // closed already, or complete: nothing of it is cut
    cut,        // at data_end
    remove,     // nothing of it is below the end
    set_aside,  // as remove, but bytes are in it that nobody can name
    leave,      // not served, not touched
    write_on,   // whole, with the log's end in it or behind it
  };
  Action action = Action::keep;
  Position data_end;
  std::uint64_t records = 0;
  std::uint64_t time_max_ns = 0;
  bool write_index = false;
};

// Whether something of the file is served.
bool stays(const FilePlan& plan) {
  return plan.action == FilePlan::Action::keep || plan.action == FilePlan::Action::cut ||
         plan.action == FilePlan::Action::write_on;
}

class Recovery {
 public:
  Recovery(io::Disk& disk, const LogOptions& options, Position scan_from, const RecordVisitor& visitor,
           RecoveryReport& report)
      : disk_(disk),
        options_(options),
        scan_from_(scan_from),
        visitor_(visitor),
        report_(report),
        buffer_(disk, options.segment_size) {}

  Result<Recovered> run();

 private:
  // What of a file must be there, and what may follow it.
  struct Bounds {
    Position must_reach;
    Position range_end;
    bool life_ends = false;  // the file was cut by an earlier recovery, whose closing of the index is lost
  };

  Status scan_all();
  Status scan_one(std::size_t index);
  Status plan_blank(std::size_t index);
  bool continues(std::size_t index) const;
  bool is_of_kept_memory(const FileLook& file) const;
  bool may_write_on(std::size_t index) const;
  Status scan_closed(std::size_t index);
  Status scan_open(std::size_t index);
  Result<std::optional<Position>> scan_segments(std::size_t index, SegmentNumber first, Position must_reach,
                                                Position range_end);
  void find_missing_files();
  void find_unserved();
  Result<Bounds> bounds_of(std::size_t index);
  const FileLook* next_with_data(std::size_t index) const;
  Position bound() const { return look_.claims.empty() ? Position() : look_.claims.back(); }
  SegmentNumber first_to_scan(const FileLook& file) const;
  Result<std::uint64_t> last_byte_behind(const FileLook& file, Position from);
  void note_end(Position end);

  Status apply();
  Status apply_one(FileLook& file, FilePlan& plan);
  Status keep_open(FileLook& file);
  Status sync_file(const FileLook& file);
  Status remove_file(FileLook& file);
  Status remove_index(const FileLook& file);
  Status set_aside(FileLook& file);
  bool is_taken(const std::string& aside) const;
  std::string free_aside(const std::string& path) const;
  Status set_index_aside(const FileLook& file);
  Result<bool> save_index(FileLook& file);
  Recovered result();

  io::Disk& disk_;
  const LogOptions& options_;
  const Position scan_from_;
  const RecordVisitor& visitor_;
  RecoveryReport& report_;
  SegmentBuffer buffer_;
  DirectoryLook look_;
  std::vector<FilePlan> plans_;  // of look_.files, same order
  bool ended_ = false;           // the log's end is found: what follows is torn
  Position end_;
  std::uint64_t time_max_ns_ = 0;  // running maximum over the files walked over
  std::vector<Damage> lost_;       // damage that no file's index can hold
  std::vector<OpenFile> open_;     // that are written on
};

Result<Recovered> Recovery::run() {
  report_ = {};
  SLUICE_TRY(disk_.make_directories(options_.directory));
  SLUICE_ASSIGN(look_, look(disk_, options_, scan_from_));
  plans_.resize(look_.files.size());
  SLUICE_TRY(scan_all());
  find_missing_files();
  find_unserved();
  SLUICE_FAILPOINT("recovery.scanned");
  SLUICE_TRY(apply());
  SLUICE_FAILPOINT("recovery.applied");
  return result();
}

// ---- scan: nothing is changed

Status Recovery::scan_all() {
  // Its first segment was begun at least: a start that chose this base gave positions of it out.
  for (const SetAside& torn : look_.set_aside) note_end(torn.base + options_.segment_size);
  for (std::size_t i = 0; i < look_.files.size(); ++i) SLUICE_TRY(scan_one(i));
  end_ = std::max(end_, bound());
  note_end(end_);
  report_.end = end_;
  return {};
}

void Recovery::note_end(Position end) { report_.used_end = std::max(report_.used_end, end); }

Status Recovery::scan_one(std::size_t index) {
  const FileLook& file = look_.files[index];
  note_end(file.base + file.used_segments * options_.segment_size);
  switch (file.kind) {
    case FileLook::Kind::closed: return scan_closed(index);
    case FileLook::Kind::blank: return plan_blank(index);
    case FileLook::Kind::foreign: plans_[index].action = FilePlan::Action::leave; return {};
    case FileLook::Kind::ours: break;
  }
  if (!ended_) return scan_open(index);
  if (may_write_on(index)) {
    plans_[index].action = FilePlan::Action::write_on;
    plans_[index].data_end = file.base;
    return {};
  }
  // Behind the end, and nothing names a position of it as durable.
  plans_[index].action = FilePlan::Action::remove;
  SLUICE_ASSIGN(const std::uint64_t bytes, last_byte_behind(file, file.base));
  report_.torn_bytes += bytes;
  return {};
}

// Still whole, and of the memory that goes on. One of a lost memory may be whole too, where the recovery that ended it
// had no room on the disk to say so: what goes on behind it lies in other files.
bool Recovery::is_of_kept_memory(const FileLook& file) const {
  return options_.memory_kept && file.size == full_file_size(options_) && file.base >= options_.memory_start;
}

// Whether it was made ahead of need, behind the file that the log ends in or as its life's first.
bool Recovery::may_write_on(std::size_t index) const {
  const FileLook& file = look_.files[index];
  if (!is_of_kept_memory(file) || file.base < end_) return false;
  const bool first = index == 0 || plans_[index - 1].action != FilePlan::Action::write_on;
  return first || file.base == look_.files[index - 1].base + full_file_size(options_);
}

const FileLook* Recovery::next_with_data(std::size_t index) const {
  for (std::size_t i = index + 1; i < look_.files.size(); ++i)
    if (look_.files[i].has_data()) return &look_.files[i];
  return nullptr;
}

Status Recovery::plan_blank(std::size_t index) {
  const FileLook& file = look_.files[index];
  FilePlan& plan = plans_[index];
  plan.data_end = file.base;
  if (may_write_on(index)) {
    plan.action = FilePlan::Action::write_on;
    ended_ = true;
    return {};
  }
  SLUICE_ASSIGN(const std::uint64_t bytes, last_byte_behind(file, file.base));
  // What an earlier recovery made of a start that wrote nothing; its index is lost.
  const bool mark = bytes == 0 && file.size == kDirectIoAlignment && !continues(index);
  // Data of a file before it reaches above its base: no start made it there.
  const bool stray = end_ > file.base;
  if (stray || (bound() > file.base && !mark)) {
    plan.action = FilePlan::Action::leave;
    return {};
  }
  // Made ahead of need, or its first write was lost with the power.
  report_.torn_bytes += bytes;
  if (bytes != 0) {
    ended_ = true;
    plan.action = FilePlan::Action::set_aside;
    note_end(file.base + layout::align_up(bytes, options_.segment_size));
  } else if (continues(index)) {
    ended_ = true;
    plan.action = FilePlan::Action::remove;
  } else {
    // A start chose its base, so everything below was recovered, and positions from there on may have been given out.
    plan.action = FilePlan::Action::cut;
    plan.write_index = true;
    plan.records = 0;
    plan.time_max_ns = time_max_ns_;
    end_ = std::max(end_, file.base);
    // Still whole: no recovery has seen it, so what goes on behind it is of that same start, and its beginning is lost.
    if (file.size >= full_file_size(options_)) ended_ = true;
  }
  return {};
}

// Whether the life that made the file before this one made this one too: one that an earlier recovery has cut goes on
// nowhere.
bool Recovery::continues(std::size_t index) const {
  std::optional<std::size_t> before;
  for (std::size_t i = 0; i < index; ++i) {
    const FileLook& file = look_.files[i];
    if (file.has_data() || (file.kind == FileLook::Kind::blank && file.size >= full_file_size(options_))) before = i;
  }
  if (!before || look_.files[*before].size < full_file_size(options_)) return false;
  const FileLook& file = look_.files[*before];
  const Position full_end = file.base + full_file_size(options_);
  // Where this recovery finds the end, the file may have gone on.
  const bool cut = file.has_data() && !ended_ && plans_[*before].data_end < full_end;
  return look_.files[index].base == full_end && !cut;
}

Status Recovery::scan_closed(std::size_t index) {
  FileLook& file = look_.files[index];
  FilePlan& plan = plans_[index];
  const IndexClosed closed = *file.index.closed;
  plan.data_end = closed.data_end;
  // Two histories in one directory: files do not overlap, so this one is served up to the next one.
  if (const FileLook* next = next_with_data(index)) plan.data_end = std::min(plan.data_end, next->base);
  note_end(closed.data_end);
  end_ = std::max(end_, plan.data_end);
  if (scan_from_ < plan.data_end) {
    const std::vector<Damage> known = file.index.damaged;
    const Position from = std::max(scan_from_, file.base);
    SLUICE_ASSIGN(const auto stopped, scan_segments(index, SegmentNumber(from.value / options_.segment_size),
                                                    plan.data_end, plan.data_end));
    static_cast<void>(stopped);
    file.index.closed = closed;
    plan.write_index = file.index.damaged != known;
  }
  plan.records = closed.records;
  plan.time_max_ns = closed.time_max_ns;
  time_max_ns_ = std::max(time_max_ns_, closed.time_max_ns);
  return {};
}

Result<Recovery::Bounds> Recovery::bounds_of(std::size_t index) {
  const FileLook& file = look_.files[index];
  const FileLook* next = next_with_data(index);
  Bounds bounds;
  // Of a closed file no incarnation is known: a file before it that is not whole was cut.
  bounds.life_ends =
      next != nullptr &&
      (next->begins_life || (next->kind == FileLook::Kind::closed && file.size < full_file_size(options_)));
  bounds.range_end = file.base + full_file_size(options_);
  if (next != nullptr) bounds.range_end = std::min(bounds.range_end, next->base);
  bounds.must_reach = std::min(file.indexed_end, bounds.range_end);
  for (const Position claim : look_.claims) {
    const bool of_next_life = bounds.life_ends && claim == next->base;
    if (claim <= bounds.range_end && !of_next_life) bounds.must_reach = std::max(bounds.must_reach, claim);
  }
  if (bounds.life_ends) {
    // It was cut at the end of its data, rounded up to a block of which the rest is zero.
    const std::uint64_t size = std::min(file.size, bounds.range_end - file.base);
    const std::uint64_t block = size == 0 ? 0 : (size - 1) / kDirectIoAlignment * kDirectIoAlignment;
    SLUICE_ASSIGN(const std::uint64_t used, last_byte_behind(file, file.base + block));
    const std::uint64_t least =
        size % kDirectIoAlignment == 0 ? block + std::max(used, std::min(size, layout::kRecordAlignment)) : size;
    bounds.must_reach =
        std::max(bounds.must_reach, std::min(bounds.range_end, file.base + layout::align_up(least, 64)));
  } else if (bound() > bounds.range_end) {
    bounds.must_reach = bounds.range_end;
  }
  return bounds;
}

// Segments from the file's start on that have an index entry need no scan, unless the caller wants to see their
// records.
SegmentNumber Recovery::first_to_scan(const FileLook& file) const {
  SegmentNumber first(file.base.value / options_.segment_size);
  const SegmentNumber wanted(scan_from_.value / options_.segment_size);
  for (const SegmentSummary& entry : file.index.segments) {
    if (entry.segment != first || first >= wanted) break;
    first = first.next();
  }
  return first;
}

// Scans from `first` on to `range_end`, and makes the index anew from there. Returns where the log stopped, if it did.
Result<std::optional<Position>> Recovery::scan_segments(std::size_t index, SegmentNumber first, Position must_reach,
                                                        Position range_end) {
  FileLook& file = look_.files[index];
  IndexContent& content = file.index;
  const std::uint64_t segment_size = options_.segment_size;
  const Position from(first.value * segment_size);
  std::erase_if(content.segments, [&](const SegmentSummary& s) { return s.segment >= first; });
  std::erase_if(content.damaged, [&](const Damage& d) { return d.begin >= from; });
  std::uint64_t time_max_ns = time_max_ns_;
  if (!content.segments.empty()) time_max_ns = std::max(time_max_ns, content.segments.back().time_max_ns);

  SegmentScan scan(buffer_, options_);
  for (SegmentNumber segment = first; segment.value * segment_size < range_end.value; segment = segment.next()) {
    const std::uint64_t offset = Position(segment.value * segment_size) - file.base;
    buffer_.start(file.file.id(), offset, file.size > offset ? file.size - offset : 0);
    SLUICE_ASSIGN(const SegmentOutcome outcome, scan.run(segment, must_reach, scan_from_, visitor_));
    report_.records += outcome.records;
    report_.bytes_read = buffer_.bytes_read();
    time_max_ns = std::max(time_max_ns, outcome.time_max_ns);
    content.damaged.insert(content.damaged.end(), outcome.damaged.begin(), outcome.damaged.end());
    const Position first_record(segment.value * segment_size + layout::kSegmentHeaderSize);
    const bool nothing = outcome.stopped && *outcome.stopped <= first_record && outcome.damaged.empty();
    if (!nothing) content.segments.push_back({segment, outcome.records, time_max_ns, outcome.refers_back});
    if (outcome.stopped) return outcome.stopped;
  }
  return std::optional<Position>();
}

Status Recovery::scan_open(std::size_t index) {
  FileLook& file = look_.files[index];
  FilePlan& plan = plans_[index];
  SLUICE_ASSIGN(const Bounds bounds, bounds_of(index));
  SLUICE_ASSIGN(const std::optional<Position> stopped,
                scan_segments(index, first_to_scan(file), bounds.must_reach, bounds.range_end));
  plan.write_index = true;
  plan.data_end = bounds.range_end;
  if (stopped && bounds.life_ends) {
    plan.data_end = *stopped;
  } else if (stopped) {
    ended_ = true;
    plan.data_end = *stopped;
    if (is_of_kept_memory(file)) {
      plan.action = FilePlan::Action::write_on;
      end_ = std::max(end_, plan.data_end);
      note_end(plan.data_end);
      return {};
    }
    plan.action = FilePlan::Action::cut;
    SLUICE_ASSIGN(const std::uint64_t bytes, last_byte_behind(file, *stopped));
    report_.torn_bytes += bytes;
    // A segment without a record is as good as one that was never begun; but the file stays, if only for its base.
    if (*stopped - file.base > options_.segment_size &&
        stopped->value % options_.segment_size == layout::kSegmentHeaderSize)
      plan.data_end = *stopped - layout::kSegmentHeaderSize;
  }
  for (const SegmentSummary& entry : file.index.segments) plan.records += entry.records;
  if (!file.index.segments.empty()) time_max_ns_ = std::max(time_max_ns_, file.index.segments.back().time_max_ns);
  plan.time_max_ns = time_max_ns_;
  end_ = std::max(end_, plan.data_end);
  note_end(plan.data_end);
  return {};
}

// How many bytes behind `from` there are up to the last one that is not zero, within kTailScanMax. What a reused file
// was written behind its data cannot be told from its former bytes: of it only headers count.
Result<std::uint64_t> Recovery::last_byte_behind(const FileLook& file, Position from) {
  std::uint64_t last = 0;
  std::vector<std::byte> chunk(kChunkSize);
  const std::uint64_t start = from - file.base;
  const std::uint64_t end = file.reused ? start : std::min(file.size, start + kTailScanMax);
  for (std::uint64_t at = start; at < end;) {
    const std::span into = std::span(chunk).first(std::min<std::uint64_t>(kChunkSize, end - at));
    SLUICE_ASSIGN(const std::size_t got, disk_.read(file.file.id(), at, into));
    if (got == 0) break;
    for (std::size_t i = got; i > 0; --i) {
      if (into[i - 1] == std::byte{0}) continue;
      last = at + i - start;
      break;
    }
    at += got;
  }
  // A segment further behind that has a header: at least that much was written.
  const std::uint64_t used = file.used_segments * options_.segment_size;
  const std::uint64_t headers_end = used == 0 ? 0 : used - options_.segment_size + layout::kSegmentHeaderSize;
  if (headers_end > std::max(start, end)) last = std::max(last, headers_end - start);
  return last;
}

// Two files of one life with a gap between them: what was there is gone.
void Recovery::find_missing_files() {
  const FileLook* before = nullptr;
  for (std::size_t i = 0; i < look_.files.size(); ++i) {
    const FileLook& file = look_.files[i];
    const Position full_end = before == nullptr ? Position() : before->base + full_file_size(options_);
    const bool adjacent = i > 0 && before == &look_.files[i - 1];
    if (before != nullptr && adjacent && file.has_data() && file.base > full_end && before->last_incarnation &&
        before->last_incarnation == file.first_incarnation && before->size >= full_file_size(options_))
      lost_.push_back({full_end, file.base, DamageReason::missing});
    if (file.has_data()) before = &file;
  }
}

// What a file stands for that is left unserved: up to the next one of which something stays, so that another start,
// which finds only those, says the same. Not what a file before it holds.
void Recovery::find_unserved() {
  Position held;
  for (std::size_t i = 0; i < look_.files.size(); ++i) {
    const FileLook& file = look_.files[i];
    const FilePlan& plan = plans_[i];
    if (stays(plan)) held = std::max(held, plan.data_end);
    if (plan.action != FilePlan::Action::leave) continue;
    Position end = file.base + full_file_size(options_);
    for (std::size_t j = i + 1; j < look_.files.size(); ++j) {
      if (stays(plans_[j])) end = std::min(end, look_.files[j].base);
    }
    const bool foreign = file.kind == FileLook::Kind::foreign;
    const Position begin = std::max(file.base, held);
    if (begin < end) lost_.push_back({begin, end, foreign ? DamageReason::unrecognised : DamageReason::missing});
    if (foreign) report_.unparsed.push_back(file.path);
    note_end(end);
  }
}

// ---- apply

Status Recovery::apply() {
  bool changed = false;
  for (const auto* list : {&look_.temporaries, &look_.orphans}) {
    for (const std::string& path : *list) {
      SLUICE_TRY(disk_.unlink(path));
      changed = true;
    }
  }
  // The newest first: what a crash leaves of it is a log that ends earlier.
  for (std::size_t i = look_.files.size(); i-- > 0;) {
    const FilePlan::Action action = plans_[i].action;
    if (action != FilePlan::Action::remove && action != FilePlan::Action::set_aside) continue;
    if (action == FilePlan::Action::remove) SLUICE_TRY(remove_file(look_.files[i]));
    if (action == FilePlan::Action::set_aside) SLUICE_TRY(set_aside(look_.files[i]));
    SLUICE_TRY(disk_.sync_directory(options_.directory));
    changed = false;
  }
  if (changed) SLUICE_TRY(disk_.sync_directory(options_.directory));
  for (std::size_t i = 0; i < look_.files.size(); ++i) SLUICE_TRY(apply_one(look_.files[i], plans_[i]));
  report_.unparsed.insert(report_.unparsed.end(), look_.unparsed.begin(), look_.unparsed.end());
  for (const SetAside& torn : look_.set_aside) report_.unparsed.push_back(torn.path);
  return {};
}

Status Recovery::apply_one(FileLook& file, FilePlan& plan) {
  bool synced = false;
  // A file that ends before its data should is kept as it is.
  if (plan.action == FilePlan::Action::cut && file.size > plan.data_end - file.base) {
    SLUICE_ASSIGN(file.size, cut_log_file(disk_, file.file.id(), file.base, plan.data_end));
    synced = true;
  }
  if (plan.action == FilePlan::Action::write_on) return keep_open(file);
  if (stays(plan) && plan.write_index) {
    if (!synced) SLUICE_TRY(sync_file(file));
    file.index.closed = IndexClosed{plan.data_end, plan.records, plan.time_max_ns};
    SLUICE_TRY(save_index(file));
  }
  file.file.reset();
  return {};
}

// Its index gets the segments that are complete; the one that the log ends in is summed up by whoever completes it.
Status Recovery::keep_open(FileLook& file) {
  SLUICE_TRY(sync_file(file));
  OpenFile& open = open_.emplace_back();
  open.base = file.base;
  open.reused = file.reused;
  std::erase_if(file.index.segments, [&](const SegmentSummary& summary) {
    const Position segment_end(summary.segment.next().value * options_.segment_size);
    if (segment_end <= end_) return false;
    if (segment_end <= end_ + options_.segment_size) report_.last_segment = {summary.records, summary.refers_back};
    return true;
  });
  file.index.closed.reset();
  SLUICE_ASSIGN(open.index_written, save_index(file));
  open.summaries = file.index.segments;
  open.damaged = file.index.damaged;
  open.handle = std::move(file.file);
  return {};
}

// What a predecessor wrote and was killed before it had synced is there to be read, and a power loss could still take
// it: nothing is called recovered before it is stable. Writing the last bytes once more syncs the whole file.
Status Recovery::sync_file(const FileLook& file) {
  if (file.size == 0) return {};
  std::array<std::byte, kDirectIoAlignment> bytes{};
  const std::uint64_t block = (file.size - 1) / kDirectIoAlignment * kDirectIoAlignment;
  SLUICE_ASSIGN(const std::size_t got, disk_.read(file.file.id(), block, bytes));
  return disk_.write_synced(file.file.id(), block, std::span(bytes).first(got));
}

Status Recovery::remove_file(FileLook& file) {
  file.file.reset();
  if (file.index.garbled) SLUICE_TRY(set_index_aside(file));
  SLUICE_TRY(disk_.unlink(file.path));
  return remove_index(file);
}

Status Recovery::remove_index(const FileLook& file) {
  Status gone = disk_.unlink(index_path(options_.directory, file.base));
  if (!gone && gone.error().code() == ErrorCode::not_found) return {};
  return gone;
}

bool Recovery::is_taken(const std::string& aside) const {
  const auto& others = look_.unparsed;
  return std::find(others.begin(), others.end(), aside) != others.end() ||
         std::any_of(look_.set_aside.begin(), look_.set_aside.end(),
                     [&](const SetAside& torn) { return torn.path == aside; });
}

// Those that earlier starts have set aside are kept too: a copy may have brought the file back since (mirrors).
std::string Recovery::free_aside(const std::string& path) const {
  std::string aside = path + ".torn";
  for (int n = 2; is_taken(aside); ++n) aside = path + ".torn." + std::to_string(n);
  return aside;
}

Status Recovery::set_aside(FileLook& file) {
  file.file.reset();
  const std::string aside = free_aside(file.path);
  if (file.index.garbled) SLUICE_TRY(set_index_aside(file));
  SLUICE_TRY(disk_.rename(file.path, aside));
  look_.set_aside.push_back({file.base, aside});
  return remove_index(file);
}

// The index can be made again, but whatever stands in its place is kept: it may be bytes that got there by mistake.
Status Recovery::set_index_aside(const FileLook& file) {
  const std::string path = index_path(options_.directory, file.base);
  const std::string aside = free_aside(path);
  SLUICE_TRY(disk_.rename(path, aside));
  look_.set_aside.push_back({file.base, aside});
  return {};
}

// The index can be made again, so a full disk does not keep the log from opening. True if it is written.
Result<bool> Recovery::save_index(FileLook& file) {
  if (file.index.garbled) SLUICE_TRY(set_index_aside(file));
  Status saved = write_index(disk_, options_.directory, index_key(options_, file.base), file.index);
  if (!saved && saved.error().code() != ErrorCode::would_block) return fail(std::move(saved).error());
  return saved.has_value();
}

Recovered Recovery::result() {
  Recovered recovered;
  recovered.end = end_;
  recovered.open = std::move(open_);
  std::vector<Damage> damaged = lost_;
  for (std::size_t i = 0; i < look_.files.size(); ++i) {
    FileLook& file = look_.files[i];
    const FilePlan& plan = plans_[i];
    if (!stays(plan)) continue;
    damaged.insert(damaged.end(), file.index.damaged.begin(), file.index.damaged.end());
    if (plan.action == FilePlan::Action::write_on) continue;
    recovered.files.push_back({file.base, plan.data_end, file.size, plan.records, plan.time_max_ns,
                               std::move(file.index.damaged),
                               referred_from(file.index.segments, options_.segment_size)});
  }
  std::sort(damaged.begin(), damaged.end(), [](const Damage& a, const Damage& b) { return a.begin < b.begin; });
  Position reported;
  for (const Damage& d : damaged) {
    // The range that a foreign file's name stands for may overlap another file.
    const Position begin = std::max(d.begin, reported);
    if (begin < d.end) report_.damaged.push_back({begin, d.end, text(d.reason)});
    reported = std::max(reported, d.end);
  }
  return recovered;
}

}  // namespace

Result<Recovered> recover(io::Disk& disk, const LogOptions& options, Position scan_from, const RecordVisitor& visitor,
                          RecoveryReport& report) {
  MirrorRepairs repairs;
  if (io::MirrorDisk* mirrors = disk.mirrors()) SLUICE_TRY(reconcile(*mirrors, options, scan_from, repairs));
  auto recovered = Recovery(disk, options, scan_from, visitor, report).run();
  report.repaired = std::move(repairs.told);
  report.repaired_bytes = repairs.bytes;
  return recovered;
}

Result<std::uint64_t> cut_log_file(io::Disk& disk, io::FileId file, Position base, Position data_end) {
  const std::uint64_t end = data_end - base;
  const std::uint64_t size = std::max<std::uint64_t>(layout::align_up(end, kDirectIoAlignment), kDirectIoAlignment);
  static constexpr std::array<std::byte, kDirectIoAlignment> kZeros{};
  SLUICE_TRY(disk.truncate(file, size));
  // Zeros behind the data; what is data stays as each copy has it (mirrors), for one of them may have rotted. Syncs the
  // new size with it, also where nothing is left to be written.
  SLUICE_TRY(disk.write_synced(file, end, std::span(kZeros).first(size - end)));
  return size;
}

}  // namespace sluice::log
