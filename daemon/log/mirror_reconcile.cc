#include "daemon/log/mirror_reconcile.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <utility>

#include "daemon/log/index.h"
#include "daemon/log/log_file.h"
#include "daemon/log/recovery_look.h"
#include "daemon/log/segment_scan.h"
#include "shm/base/limits.h"
#include "shm/layout/record.h"
#include "shm/layout/segment.h"

namespace sluice::log {
namespace {

constexpr std::uint64_t kChunkSize = 1024 * 1024;

// One copy of the directory.
struct Copy {
  std::size_t number = 0;  // of the mirrors
  LogOptions options;      // with its directory
  DirectoryLook look;
  std::unique_ptr<SegmentBuffer> buffer;
  bool lost = false;  // marked stale meanwhile

  FileLook* find(Position base) {
    const auto found =
        std::find_if(look.files.begin(), look.files.end(), [base](const FileLook& f) { return f.base == base; });
    return found == look.files.end() ? nullptr : &*found;
  }
};

// An intact record of a segment: offsets in the segment.
struct Piece {
  std::uint64_t begin = 0;
  std::uint64_t size = 0;
  bool operator==(const Piece&) const = default;
};

bool is_zero(std::span<const std::byte> bytes) {
  return std::all_of(bytes.begin(), bytes.end(), [](std::byte b) { return b == std::byte{0}; });
}

class Reconciler {
 public:
  Reconciler(io::MirrorDisk& mirrors, const LogOptions& options, Position scan_from, MirrorRepairs& repairs)
      : mirrors_(mirrors), disk_(mirrors.inner()), options_(options), scan_from_(scan_from), repairs_(repairs) {}

  Status run() {
    SLUICE_TRY(look_at_all());
    std::set<Position> bases;
    for (const Copy& copy : copies_)
      for (const FileLook& file : copy.look.files) bases.insert(file.base);
    for (const Position base : bases) SLUICE_TRY(reconcile_file(base));
    return remove_temporaries();
  }

  Status mend(Position base, SegmentNumber segment) {
    SLUICE_TRY(open_one_on_all(base));
    std::erase_if(copies_, [&](Copy& copy) { return copy.find(base) == nullptr; });
    return copies_.size() < 2 ? Status() : reconcile_segment(base, segment);
  }

 private:
  Status look_at_all();
  void take_good_copies();
  Status open_one_on_all(Position base);
  Status give_up(Copy& copy, const Error& error);
  template <typename Body>
  Status on(Copy& copy, Body body);
  template <typename Body>
  Status on_each(Body body);
  std::size_t left() const;

  Status reconcile_file(Position base);
  Status agree_on_index(Position base);
  Status write_raw_index(Copy& copy, Position base, std::span<const std::byte> bytes);
  Status give_length(Position base);
  Status copy_file(const Copy& from, Copy& to, Position base);
  Status copy_whole_file(const Copy& from, Copy& to, Position base);
  Result<std::uint64_t> copy_bytes(const FileHandle& source, const FileHandle& target, std::uint64_t at, bool sparse);
  Status open_all(Position base);
  SegmentNumber first_segment(Position base) const;
  std::uint64_t used_segments(Position base);
  Status reconcile_segment(Position base, SegmentNumber segment);
  std::vector<Piece> intact_pieces(Copy& copy, SegmentNumber segment, bool& has_header);
  bool start_segment(Copy& copy, SegmentNumber segment);
  Status agree_on_header(SegmentNumber segment, std::map<Copy*, std::vector<Piece>>& pieces);
  Status write_header(Copy& copy, const Copy& source, SegmentNumber segment);
  Status patch(Copy& copy, Position base, std::uint64_t segment_offset, const std::vector<Piece>& chosen,
               const std::vector<Copy*>& sources, const std::vector<Piece>& has);
  Status remove_temporaries();
  void tell(const Copy& copy, const std::string& path, std::uint64_t bytes, const std::string& what);

  io::MirrorDisk& mirrors_;
  io::Disk& disk_;
  const LogOptions& options_;
  const Position scan_from_;
  MirrorRepairs& repairs_;
  std::vector<Copy> copies_;
  std::optional<IndexContent> index_;  // of the file at hand: what the copies agreed on
};

std::size_t Reconciler::left() const {
  return static_cast<std::size_t>(
      std::count_if(copies_.begin(), copies_.end(), [](const Copy& copy) { return !copy.lost; }));
}

// What a copy's own disk refuses is that copy's end, but for the last one's.
Status Reconciler::give_up(Copy& copy, const Error& error) {
  if (error.code() == ErrorCode::in_use || error.code() == ErrorCode::version || left() == 1) return fail(error);
  copy.lost = true;
  copy.look = {};
  return mirrors_.mark_stale(copy.number, error.message());
}

template <typename Body>
Status Reconciler::on(Copy& copy, Body body) {
  if (copy.lost) return {};
  Status done = body();
  return done ? done : give_up(copy, done.error());
}

template <typename Body>
Status Reconciler::on_each(Body body) {
  for (Copy& copy : copies_) SLUICE_TRY(on(copy, [&] { return body(copy); }));
  return {};
}

void Reconciler::tell(const Copy& copy, const std::string& path, std::uint64_t bytes, const std::string& what) {
  repairs_.bytes += bytes;
  const std::string line = mirrors_.path_at(copy.number, path) + ": " + what + " from another copy";
  if (repairs_.told.empty() || repairs_.told.back() != line) repairs_.told.push_back(line);
}

void Reconciler::take_good_copies() {
  for (std::size_t number = 0; number < mirrors_.copy_count(); ++number) {
    if (!mirrors_.is_good(number)) continue;
    Copy& copy = copies_.emplace_back();
    copy.number = number;
    copy.options = options_;
    copy.options.directory = mirrors_.path_at(number, options_.directory);
    copy.buffer = std::make_unique<SegmentBuffer>(disk_, options_.segment_size);
  }
}

// Without a lock: nobody writes in a segment that is complete.
Status Reconciler::open_one_on_all(Position base) {
  take_good_copies();
  return on_each([&](Copy& copy) -> Status {
    FileLook file;
    file.base = base;
    file.path = log_path(copy.options.directory, base);
    auto opened = open_file(disk_, file.path, io::OpenMode::read_write);
    if (!opened && opened.error().code() == ErrorCode::not_found) return {};
    if (!opened) return fail(opened.error());
    file.file = std::move(*opened);
    SLUICE_ASSIGN(file.size, disk_.size(file.file.id()));
    copy.look.files.push_back(std::move(file));
    return {};
  });
}

Status Reconciler::look_at_all() {
  take_good_copies();
  return on_each([&](Copy& copy) -> Status {
    SLUICE_TRY(disk_.make_directories(copy.options.directory));
    SLUICE_ASSIGN(copy.look, look(disk_, copy.options, scan_from_));
    return {};
  });
}

Status Reconciler::reconcile_file(Position base) {
  SLUICE_TRY(agree_on_index(base));
  SLUICE_TRY(give_length(base));
  const bool closed = index_ && index_->closed;
  if (closed && scan_from_ >= index_->closed->data_end) return {};
  SLUICE_TRY(open_all(base));
  const Position end = closed ? index_->closed->data_end : base + used_segments(base) * options_.segment_size;
  for (SegmentNumber segment = first_segment(base); segment.value * options_.segment_size < end.value;
       segment = segment.next())
    SLUICE_TRY(reconcile_segment(base, segment));
  return {};
}

// ---- index

// The one that knows most: a closed one before all others, then the one with the most entries.
Status Reconciler::agree_on_index(Position base) {
  index_.reset();
  Copy* best = nullptr;
  const auto rank = [](const IndexContent& i) { return std::pair(i.closed.has_value(), i.entries); };
  for (Copy& copy : copies_) {
    const FileLook* const file = copy.lost ? nullptr : copy.find(base);
    if (file == nullptr || !file->index.present) continue;
    if (best == nullptr || rank(file->index) > rank(best->find(base)->index)) best = &copy;
  }
  if (best == nullptr) return {};
  // look() takes the closing entry of a file that is too short away: give_length() mends the file, so it stands.
  SLUICE_ASSIGN(index_, read_index(disk_, best->options.directory, index_key(options_, base)));
  std::vector<std::byte> bytes;
  const std::string path = index_path(best->options.directory, base);
  SLUICE_ASSIGN(const FileHandle handle, open_file(disk_, path, io::OpenMode::read));
  SLUICE_ASSIGN(const std::uint64_t size, disk_.size(handle.id()));
  bytes.resize(size);
  SLUICE_ASSIGN(const std::size_t got, disk_.read(handle.id(), 0, bytes));
  bytes.resize(got);
  for (Copy& copy : copies_)
    if (&copy != best) SLUICE_TRY(on(copy, [&] { return write_raw_index(copy, base, bytes); }));
  return {};
}

Status Reconciler::write_raw_index(Copy& copy, Position base, std::span<const std::byte> bytes) {
  const std::string path = index_path(copy.options.directory, base);
  {
    auto opened = open_file(disk_, path, io::OpenMode::read);
    if (!opened && opened.error().code() != ErrorCode::not_found) return fail(opened.error());
    if (opened) {
      SLUICE_ASSIGN(const std::uint64_t size, disk_.size(opened->id()));
      std::vector<std::byte> there(size == bytes.size() ? size : 0);
      SLUICE_ASSIGN(const std::size_t got, disk_.read(opened->id(), 0, there));
      if (got == bytes.size() && std::equal(there.begin(), there.end(), bytes.begin())) return {};
    }
  }
  const FileLook* const file = copy.find(base);
  if (file != nullptr && file->index.garbled) {
    // It may be bytes that got there by mistake: kept.
    std::string aside = path + ".torn";
    SLUICE_ASSIGN(const std::vector<std::string> names, disk_.list(copy.options.directory));
    const auto taken = [&](const std::string& p) {
      return std::find(names.begin(), names.end(), p.substr(p.rfind('/') + 1)) != names.end();
    };
    for (int n = 2; taken(aside); ++n) aside = path + ".torn." + std::to_string(n);
    SLUICE_TRY(disk_.rename(path, aside));
  }
  SLUICE_TRY(replace_file(disk_, copy.options.directory, path, bytes));
  tell(copy, index_path(options_.directory, base), bytes.size(), "written");
  return {};
}

// ---- presence and length

// Every copy has the file, as long as the longest of them: what one lacks is copied.
Status Reconciler::give_length(Position base) {
  Copy* longest = nullptr;
  for (Copy& copy : copies_) {
    const FileLook* const file = copy.lost ? nullptr : copy.find(base);
    if (file != nullptr && (longest == nullptr || file->size > longest->find(base)->size)) longest = &copy;
  }
  if (longest == nullptr) return {};
  const std::uint64_t size = longest->find(base)->size;
  return on_each([&](Copy& copy) -> Status {
    const FileLook* const file = copy.find(base);
    if (file != nullptr && file->size == size) return {};
    return copy_file(*longest, copy, base);
  });
}

// What a file lacks at its end, or the whole of it. A file that is there grows chunk by chunk, each synced, so that its
// length says how far this got; one that is not there gets its name when it is complete.
Status Reconciler::copy_file(const Copy& from, Copy& to, Position base) {
  FileLook* there = to.find(base);
  if (there == nullptr) return copy_whole_file(from, to, base);
  SLUICE_ASSIGN(const FileHandle source, open_file(disk_, log_path(from.options.directory, base), io::OpenMode::read));
  SLUICE_ASSIGN(const FileHandle target, open_file(disk_, there->path, io::OpenMode::read_write));
  const std::uint64_t had = there->size;
  SLUICE_ASSIGN(there->size, copy_bytes(source, target, had, false));
  tell(to, log_path(options_.directory, base), there->size - had, "its end copied");
  return {};
}

Status Reconciler::copy_whole_file(const Copy& from, Copy& to, Position base) {
  const FileLook& original = *copies_[static_cast<std::size_t>(&from - copies_.data())].find(base);
  const std::string path = log_path(to.options.directory, base);
  const std::string temporary = path + ".tmp";
  if (Status gone = disk_.unlink(temporary); !gone && gone.error().code() != ErrorCode::not_found) return gone;
  FileLook made;
  made.kind = original.kind;
  made.base = base;
  made.path = path;
  made.size = original.size;
  made.used_segments = original.used_segments;
  SLUICE_ASSIGN(const FileHandle source, open_file(disk_, original.path, io::OpenMode::read));
  SLUICE_ASSIGN(made.file, open_file(disk_, temporary, io::OpenMode::create));
  SLUICE_TRY(disk_.lock(made.file.id()));
  SLUICE_TRY(disk_.allocate(made.file.id(), made.size));
  // A file that is all zeros is synced at its length by that.
  const std::vector<std::byte> zeros(std::min<std::uint64_t>(made.size, kDirectIoAlignment));
  if (!zeros.empty()) SLUICE_TRY(disk_.write_synced(made.file.id(), 0, zeros));
  SLUICE_TRY(copy_bytes(source, made.file, 0, true));
  SLUICE_TRY(disk_.rename(temporary, path));
  SLUICE_TRY(disk_.sync_directory(to.options.directory));
  tell(to, log_path(options_.directory, base), made.size, "copied");
  auto& files = to.look.files;
  files.insert(std::find_if(files.begin(), files.end(), [base](const FileLook& f) { return f.base > base; }),
               std::move(made));
  return {};
}

// From `at` to the source's end; returns where that is. `sparse`: the target is zero already.
Result<std::uint64_t> Reconciler::copy_bytes(const FileHandle& source, const FileHandle& target, std::uint64_t at,
                                             bool sparse) {
  std::vector<std::byte> chunk(kChunkSize);
  for (;;) {
    SLUICE_ASSIGN(const std::size_t got, disk_.read(source.id(), at, chunk));
    if (got == 0) return at;
    const std::span<const std::byte> bytes = std::span(chunk).first(got);
    if (!sparse || !is_zero(bytes)) SLUICE_TRY(disk_.write_synced(target.id(), at, bytes));
    at += got;
  }
}

Status Reconciler::open_all(Position base) {
  return on_each([&](Copy& copy) -> Status {
    FileLook& file = *copy.find(base);
    if (file.file) return {};
    SLUICE_ASSIGN(file.file, open_file(disk_, file.path, io::OpenMode::read_write));
    return {};
  });
}

// ---- segments

// As recovery does: segments with an index entry need no look, unless the caller wants to see their records.
SegmentNumber Reconciler::first_segment(Position base) const {
  SegmentNumber first(base.value / options_.segment_size);
  const SegmentNumber wanted(scan_from_.value / options_.segment_size);
  if (!index_) return first;
  if (index_->closed) return std::max(first, wanted);
  for (const SegmentSummary& entry : index_->segments) {
    if (entry.segment != first || first >= wanted) break;
    first = first.next();
  }
  return first;
}

// Segments of the file whose header is not zero on some copy, up to the last of them.
std::uint64_t Reconciler::used_segments(Position base) {
  std::uint64_t used = 0;
  for (Copy& copy : copies_)
    if (!copy.lost) used = std::max(used, copy.find(base)->used_segments);
  return used;
}

bool Reconciler::start_segment(Copy& copy, SegmentNumber segment) {
  const Position start(segment.value * options_.segment_size);
  const auto before = std::find_if(copy.look.files.rbegin(), copy.look.files.rend(),
                                   [&](const FileLook& file) { return file.base <= start; });
  if (before == copy.look.files.rend() || !before->file) return false;
  const std::uint64_t offset = start - before->base;
  copy.buffer->start(before->file.id(), offset, before->size > offset ? before->size - offset : 0);
  return true;
}

// A segment that cannot be read has no intact record there: it is written anew, which may mend its sectors.
std::vector<Piece> Reconciler::intact_pieces(Copy& copy, SegmentNumber segment, bool& has_header) {
  std::vector<Piece> pieces;
  has_header = false;
  if (!start_segment(copy, segment)) return pieces;
  const Position start(segment.value * options_.segment_size);
  const auto loaded = copy.buffer->load(layout::kSegmentHeaderSize);
  if (!loaded || !*loaded) return pieces;
  layout::SegmentHeader header;
  has_header = layout::read_segment_header(copy.buffer->at(0), options_.topic, options_.partition, segment, header) ==
               layout::SegmentCheck::ok;
  if (!has_header) return pieces;
  const auto note = [&](Position position, const layout::RecordFields& fields, std::span<const std::byte>) {
    pieces.push_back({position - start, fields.claim.span_size()});
  };
  // Everything must be there, so that the search for intact records goes on behind each place where one is not.
  const auto outcome = SegmentScan(*copy.buffer, copy.options).run(segment, start + options_.segment_size, start, note);
  if (!outcome) pieces.clear();
  return pieces;
}

Status Reconciler::agree_on_header(SegmentNumber segment, std::map<Copy*, std::vector<Piece>>& pieces) {
  Copy* source = nullptr;
  std::vector<Copy*> without;
  for (Copy& copy : copies_) {
    if (copy.lost) continue;
    bool has_header = false;
    pieces[&copy] = intact_pieces(copy, segment, has_header);
    if (!has_header) without.push_back(&copy);
    if (has_header && source == nullptr) source = &copy;
  }
  if (source == nullptr) {
    pieces.clear();
    return {};
  }
  for (Copy* copy : without) {
    SLUICE_TRY(on(*copy, [&] { return write_header(*copy, *source, segment); }));
    if (copy->lost) {
      pieces.erase(copy);
      continue;
    }
    bool has_header = false;
    pieces[copy] = intact_pieces(*copy, segment, has_header);
  }
  return {};
}

Status Reconciler::write_header(Copy& copy, const Copy& source, SegmentNumber segment) {
  const Position start(segment.value * options_.segment_size);
  const auto file = std::find_if(copy.look.files.rbegin(), copy.look.files.rend(),
                                 [&](const FileLook& f) { return f.base <= start; });
  SLUICE_TRY(disk_.write_synced(file->file.id(), start - file->base,
                                std::span(source.buffer->at(0), layout::kSegmentHeaderSize)));
  tell(copy, log_path(options_.directory, file->base), layout::kSegmentHeaderSize, "records repaired");
  return {};
}

Status Reconciler::reconcile_segment(Position base, SegmentNumber segment) {
  std::map<Copy*, std::vector<Piece>> pieces;
  SLUICE_TRY(agree_on_header(segment, pieces));
  // From the left, whatever holds anywhere; where records of two copies overlap, the one that begins first.
  std::vector<Piece> chosen;
  std::vector<Copy*> sources;
  std::map<Copy*, std::size_t> next;
  for (std::uint64_t at = layout::kSegmentHeaderSize; at < options_.segment_size;) {
    const Piece* first = nullptr;
    Copy* source = nullptr;
    for (Copy& copy : copies_) {
      const auto has = pieces.find(&copy);
      if (has == pieces.end()) continue;
      std::size_t& index = next[&copy];
      while (index < has->second.size() && has->second[index].begin < at) ++index;
      if (index == has->second.size()) continue;
      const Piece& piece = has->second[index];
      if (first != nullptr && piece.begin >= first->begin) continue;
      first = &piece;
      source = &copy;
    }
    if (first == nullptr) break;
    chosen.push_back(*first);
    sources.push_back(source);
    at = first->begin + first->size;
  }
  const std::uint64_t offset = Position(segment.value * options_.segment_size) - base;
  for (auto& [copy, has] : pieces)
    SLUICE_TRY(on(*copy, [&] { return patch(*copy, base, offset, chosen, sources, has); }));
  return {};
}

// Writes what `copy` has not, neighbours of one source in one go.
Status Reconciler::patch(Copy& copy, Position base, std::uint64_t segment_offset, const std::vector<Piece>& chosen,
                         const std::vector<Copy*>& sources, const std::vector<Piece>& has) {
  std::size_t own = 0;
  std::optional<Piece> run;
  const Copy* run_source = nullptr;
  const auto write_run = [&]() -> Status {
    if (!run) return {};
    SLUICE_TRY(disk_.write_synced(copy.find(base)->file.id(), segment_offset + run->begin,
                                  std::span(run_source->buffer->at(run->begin), run->size)));
    tell(copy, log_path(options_.directory, base), run->size, "records repaired");
    run.reset();
    return {};
  };
  for (std::size_t i = 0; i < chosen.size(); ++i) {
    const Piece& piece = chosen[i];
    while (own < has.size() && has[own].begin < piece.begin) ++own;
    const bool same = sources[i] == &copy ||
                      (own < has.size() && has[own] == piece &&
                       std::memcmp(copy.buffer->at(piece.begin), sources[i]->buffer->at(piece.begin), piece.size) == 0);
    if (same) continue;
    if (run && run_source == sources[i] && run->begin + run->size == piece.begin) {
      run->size += piece.size;
      continue;
    }
    SLUICE_TRY(write_run());
    run = piece;
    run_source = sources[i];
  }
  return write_run();
}

// Recovery sees the first copy's names alone.
Status Reconciler::remove_temporaries() {
  return on_each([&](Copy& copy) -> Status {
    if (copy.look.temporaries.empty()) return {};
    for (const std::string& path : copy.look.temporaries) {
      Status gone = disk_.unlink(path);
      if (!gone && gone.error().code() != ErrorCode::not_found) return gone;
    }
    return disk_.sync_directory(copy.options.directory);
  });
}

}  // namespace

Status reconcile(io::MirrorDisk& mirrors, const LogOptions& options, Position scan_from, MirrorRepairs& repairs) {
  if (mirrors.good_count() < 2) return {};
  return Reconciler(mirrors, options, scan_from, repairs).run();
}

Status mend_segment(io::MirrorDisk& mirrors, const LogOptions& options, Position base, SegmentNumber segment,
                    MirrorRepairs& repairs) {
  if (mirrors.good_count() < 2) return {};
  return Reconciler(mirrors, options, Position(), repairs).mend(base, segment);
}

}  // namespace sluice::log
