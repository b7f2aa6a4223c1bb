#include "tests/daemon/log/log_rig.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>

#include "daemon/log/references.h"
#include "shm/base/limits.h"
#include "shm/layout/segment.h"
#include "shm/layout/trailer.h"

namespace sluice::log {
namespace {

constexpr std::uint64_t kTokenSync = 1;
constexpr std::uint64_t kTokenWrite = 2;
constexpr std::uint64_t kChunk = 8192;
constexpr std::uint64_t kFirstTimeNs = 1'700'000'000'000'000'000;

template <typename T>
T must(Result<T> result) {
  if (!result) {
    std::fprintf(stderr, "test rig: %s\n", result.error().message().c_str());
    std::abort();
  }
  if constexpr (!std::is_void_v<T>) return std::move(*result);
}

std::string string_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

}  // namespace

LogOptions rig_options(const std::string& directory) {
  LogOptions options;
  options.directory = directory;
  options.name = "orders/0";
  options.topic = TopicId(7);
  options.partition = 0;
  options.segment_size = kRigSegmentSize;
  options.segments_per_file = kRigSegmentsPerFile;
  return options;
}

// ---- LogWriter

LogWriter::LogWriter(io::Disk& disk, PartitionLog& log, LogOptions options, std::uint64_t incarnation, Position start)
    : disk_(&disk),
      log_(&log),
      options_(std::move(options)),
      incarnation_(incarnation),
      end_(start),
      submitted_(start),
      summed_up_(start) {}

std::byte* LogWriter::at(Position position) {
  return segments_.at(SegmentNumber(position.value / options_.segment_size)).get() +
         position.value % options_.segment_size;
}

std::span<const std::byte> LogWriter::segment(SegmentNumber number) const {
  return {segments_.at(number).get(), options_.segment_size};
}

void LogWriter::begin_segment(Position start) {
  std::byte* bytes = allocate(options_.segment_size);
  const SegmentNumber number(start.value / options_.segment_size);
  segments_[number] = Segment(bytes);
  const auto header = layout::make_segment_header(options_.topic, options_.partition, number, Incarnation(incarnation_),
                                                  log_->end(), options_.checksums);
  std::memcpy(bytes, &header, sizeof header);
  segment_checksum_ = header.checksum;
  end_ = start + layout::kSegmentHeaderSize;
}

void LogWriter::put(layout::ClaimWord claim, const std::string& payload, const std::string& trailer) {
  RigRecord record;
  record.position = end_;
  record.sequence = ++sequence_;
  record.time_ns = kFirstTimeNs + end_.value * 1000;
  record.claim = claim;
  record.payload = payload;
  record.trailer = trailer;
  layout::RecordFields fields;
  fields.claim = claim;
  fields.sequence = Sequence(record.sequence);
  fields.time_ns = record.time_ns;
  fields.payload_size = static_cast<std::uint32_t>(payload.size());
  if (options_.checksums)
    fields.checksum = layout::record_checksum(
        layout::content_checksum(payload.data(), payload.size(), trailer.data(), trailer.size()), fields, end_,
        segment_checksum_);
  std::byte* to = at(end_);
  std::memcpy(to, &claim.bits, 8);
  std::memcpy(to + 8, &record.sequence, 8);
  std::memcpy(to + 16, &record.time_ns, 8);
  std::memcpy(to + 24, &fields.payload_size, 4);
  std::memcpy(to + 28, &fields.checksum, 4);
  if (!payload.empty()) std::memcpy(to + 32, payload.data(), payload.size());
  if (!trailer.empty()) std::memcpy(to + layout::trailer_offset(payload.size()), trailer.data(), trailer.size());

  SegmentSummary& summary = summaries_[SegmentNumber(end_.value / options_.segment_size)];
  summary.segment = SegmentNumber(end_.value / options_.segment_size);
  if (claim.state() == layout::RecordState::committed && claim.kind() != layout::RecordKind::pad) {
    ++summary.records;
    const auto bytes = std::as_bytes(std::span(trailer));
    summary.refers_back = std::max(summary.refers_back, refers_back(end_, fields, bytes, options_.segment_size));
    time_max_ns_ = std::max(time_max_ns_, record.time_ns);
  }
  summary.time_max_ns = time_max_ns_;
  records_.push_back(std::move(record));
  end_ = end_ + claim.span_size();
}

void LogWriter::append_pad() {
  const std::uint64_t in_segment = end_.value % options_.segment_size;
  if (in_segment == 0) return;
  const std::uint64_t rest = options_.segment_size - in_segment;
  put(layout::ClaimWord::make(ProducerId(1), rest / 64, layout::RecordKind::pad, false, layout::RecordState::committed),
      {}, {});
}

void LogWriter::make_room(std::uint64_t span) {
  const std::uint64_t in_segment = end_.value % options_.segment_size;
  if (in_segment != 0 && in_segment + span > options_.segment_size) append_pad();
  if (end_.value % options_.segment_size == 0) begin_segment(end_);
}

void LogWriter::append(const std::string& payload, const std::string& key) {
  layout::TrailerBuilder builder;
  if (!key.empty()) must(builder.key(key));
  const std::string trailer = string_of(builder.finish());
  const std::uint64_t span = layout::record_span(payload.size(), trailer.size());
  make_room(span);
  put(layout::ClaimWord::make(ProducerId(1), span / 64, layout::RecordKind::data, !trailer.empty(),
                              layout::RecordState::committed),
      payload, trailer);
}

void LogWriter::append_ref(Position reference) {
  layout::TrailerBuilder builder;
  builder.reference(reference);
  const std::string trailer = string_of(builder.finish());
  const std::uint64_t span = layout::record_span(0, trailer.size());
  make_room(span);
  put(layout::ClaimWord::make(ProducerId(0), span / 64, layout::RecordKind::ref, true, layout::RecordState::committed),
      {}, trailer);
}

void LogWriter::append_aborted(std::uint64_t span_units) {
  make_room(span_units * 64);
  put(layout::ClaimWord::make(ProducerId(1), span_units, layout::RecordKind::data, false, layout::RecordState::aborted),
      {}, {});
}

void LogWriter::append_some(std::uint64_t bytes, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  const Position until = end_ + bytes;
  while (end_ < until) {
    if (random() % 16 == 0) {
      append_aborted(1 + random() % 6);
      continue;
    }
    const std::uint64_t longest = random() % 8 == 0 ? 3000 : 300;
    std::string payload(random() % longest, '\0');
    for (char& c : payload) c = static_cast<char>(random());
    append(payload, random() % 3 == 0 ? "key-" + std::to_string(random() % 100) : std::string());
  }
}

std::byte* LogWriter::allocate(std::uint64_t size) {
  auto* memory = static_cast<std::byte*>(::operator new (size, std::align_val_t{kDirectIoAlignment}));
  std::memset(memory, 0, size);
  return memory;
}

bool LogWriter::submit_piece(const WriteTarget& target, Position from, std::uint64_t size) {
  const std::byte* bytes = at(from);
  if (from + size > end_) {
    bounces_.emplace_back(allocate(size));
    std::memcpy(bounces_.back().get(), bytes, size);
    bytes = bounces_.back().get();
  }
  while (!disk_->submit_write(target.file, target.offset, std::span(bytes, size), kTokenWrite))
    if (!drain()) return false;
  ++outstanding_;
  return true;
}

bool LogWriter::submit(Position from, Position to) {
  while (from < to) {
    auto target = log_->target(from);
    if (!target) return false;
    const std::uint64_t in_segment = from.value % options_.segment_size;
    const std::uint64_t size =
        std::min({to - from, target->room, options_.segment_size - in_segment, kChunk - in_segment % kChunk});
    if (!submit_piece(*target, from, size)) return false;
    from = from + size;
  }
  return true;
}

bool LogWriter::submit_writes(bool all) {
  if (outstanding_ != 0 && !drain()) return false;
  const Position from(submitted_.value / kDirectIoAlignment * kDirectIoAlignment);
  const Position to(all ? layout::align_up(end_.value, kDirectIoAlignment)
                        : end_.value / kDirectIoAlignment * kDirectIoAlignment);
  if (to <= from) return true;
  const bool submitted = submit(from, to);
  submitted_ = std::min(to, end_);
  return submitted;
}

void LogWriter::go_on(io::Disk& disk, PartitionLog& log) {
  disk_ = &disk;
  log_ = &log;
  submitted_ = log.end();
  summed_up_ = Position(log.end().value / options_.segment_size * options_.segment_size);
}

bool LogWriter::drain() {
  bool fine = true;
  std::array<io::Completion, 16> completions;
  while (outstanding_ != 0) {
    const std::size_t count = disk_->reap(completions);
    for (std::size_t i = 0; i < count; ++i) {
      --outstanding_;
      if (completions[i].result < 0) fine = false;
    }
  }
  bounces_.clear();
  return fine;
}

bool LogWriter::sum_up(Position durable) {
  while (summed_up_ + options_.segment_size <= durable) {
    const SegmentNumber number(summed_up_.value / options_.segment_size);
    if (!log_->add_summary(summaries_.at(number))) return false;
    summed_up_ = summed_up_ + options_.segment_size;
  }
  return true;
}

bool LogWriter::sync() {
  if (!submit_writes(true) || !drain()) return false;
  const Position durable = end_;
  for (const io::FileId file : log_->files_between(log_->end(), durable)) {
    if (!disk_->submit_sync(file, kTokenSync)) return false;
    ++outstanding_;
  }
  if (!drain()) return false;
  log_->set_durable(durable);
  return sum_up(durable);
}

// ---- reading

namespace {

class Server {
 public:
  Server(PartitionLog& log, const LogOptions& options) : log_(log), options_(options) {}

  Served run(Position from) {
    Position at = from;
    while (true) {
      const Located located = log_.locate(at);
      if (located.kind == Located::Kind::above) break;
      if (located.kind == Located::Kind::skip) {
        if (located.next <= at) {
          complain(at, "skip does not lead forward");
          break;
        }
        at = located.next;
        continue;
      }
      if (!walk(at, located)) break;
    }
    return std::move(served_);
  }

 private:
  void complain(Position at, const std::string& what) {
    served_.damage.push_back("position " + std::to_string(at.value) + ": " + what);
  }
  bool fetch(Position at, std::uint64_t size, std::vector<std::byte>& bytes) {
    bytes.resize(size);
    const auto got = log_.read(at, bytes);
    if (got && *got == size) return true;
    complain(at, got ? "fewer bytes than located" : got.error().message());
    return false;
  }
  bool enter_segment(Position at, const Located& located) {
    const Position start(at.value / options_.segment_size * options_.segment_size);
    std::array<std::byte, layout::kSegmentHeaderSize> header{};
    if (start < located.file_base) return false;
    auto got = log_.read(start, header);
    layout::SegmentHeader fields;
    const SegmentNumber number(start.value / options_.segment_size);
    const bool good = got && *got == header.size() &&
                      layout::read_segment_header(header.data(), options_.topic, options_.partition, number, fields) ==
                          layout::SegmentCheck::ok;
    if (!good) complain(start, "a segment is served whose header does not hold");
    segment_ = start;
    segment_checksum_ = fields.checksum;
    checksums_ = (fields.flags & layout::kSegmentFlagChecksums) != 0;
    return good;
  }
  // Walks up to the located data's end.
  bool walk(Position& at, const Located& located) {
    while (at < located.data_end) {
      if (at.value % options_.segment_size == 0 || at - segment_ >= options_.segment_size)
        if (!enter_segment(at, located)) return false;
      if (at.value % options_.segment_size == 0) at = at + layout::kSegmentHeaderSize;
      if (at >= located.data_end) break;
      if (!take(at, located)) return false;
    }
    return true;
  }
  bool take(Position& at, const Located& located) {
    const std::uint64_t room =
        std::min(options_.segment_size - at.value % options_.segment_size, located.data_end - at);
    std::vector<std::byte> bytes;
    if (!fetch(at, layout::kRecordAlignment, bytes)) return false;
    layout::RecordFields fields;
    const auto check = layout::read_header(bytes.data(), room, fields);
    if (check != layout::HeaderCheck::record && check != layout::HeaderCheck::skip) {
      complain(at, "a header is served that says " + std::to_string(static_cast<int>(check)));
      return false;
    }
    if (!fetch(at, fields.claim.span_size(), bytes)) return false;
    if (check == layout::HeaderCheck::skip) {
      std::memcpy(&fields.sequence.value, bytes.data() + 8, 8);
      std::memcpy(&fields.time_ns, bytes.data() + 16, 8);
      std::memcpy(&fields.checksum, bytes.data() + 28, 4);
    }
    const std::uint32_t trailer = check == layout::HeaderCheck::skip ? 0 : layout::trailer_size(bytes.data(), fields);
    const bool holds = trailer != layout::kTrailerSizeInvalid &&
                       (!checksums_ || layout::checksum_matches(bytes.data(), fields, trailer, at, segment_checksum_));
    if (!holds) {
      complain(at, "a record is served whose checksum fails");
      return false;
    }
    RigRecord record{at, fields.sequence.value, fields.time_ns, fields.claim, {}, {}};
    record.payload = string_of(std::span(bytes).subspan(layout::kRecordHeaderSize, fields.payload_size));
    if (trailer != 0)
      record.trailer = string_of(std::span(bytes).subspan(layout::trailer_offset(fields.payload_size), trailer));
    served_.records.push_back(std::move(record));
    at = at + fields.claim.span_size();
    return true;
  }

  PartitionLog& log_;
  const LogOptions& options_;
  Served served_;
  Position segment_{~std::uint64_t{0}};
  std::uint32_t segment_checksum_ = 0;
  bool checksums_ = true;
};

}  // namespace

Served serve(PartitionLog& log, const LogOptions& options, Position from) { return Server(log, options).run(from); }

Opened open_log(io::Disk& disk, const LogOptions& options, Position scan_from) {
  Opened opened;
  opened.log = must(PartitionLog::open(
      disk, options, scan_from,
      [&](Position position, const layout::RecordFields& fields, std::span<const std::byte> trailer) {
        opened.visited.push_back(
            {position, fields.sequence.value, fields.time_ns, fields.claim, {}, string_of(trailer)});
      },
      opened.report));
  return opened;
}

void forget(std::unique_ptr<PartitionLog> log) {
  static auto* const kForgotten = new std::vector<PartitionLog*>;  // reachable, so that no leak is reported
  kForgotten->push_back(log.release());
}

Position next_start(const RecoveryReport& report, const LogOptions& options) {
  constexpr std::uint64_t kRingSegments = 2;
  return Position(layout::align_up(report.used_end.value, options.segment_size) + kRingSegments * options.segment_size);
}

std::vector<std::byte> read_file(io::Disk& disk, const std::string& path) {
  const io::FileId file = must(disk.open(path, io::OpenMode::read));
  std::vector<std::byte> bytes(must(disk.size(file)));
  bytes.resize(must(disk.read(file, 0, bytes)));
  disk.close(file);
  return bytes;
}

void write_file(io::Disk& disk, const std::string& path, std::span<const std::byte> bytes) {
  auto opened = disk.open(path, io::OpenMode::read_write);
  const bool made = !opened;
  const io::FileId file = made ? must(disk.open(path, io::OpenMode::create)) : *opened;
  must(disk.truncate(file, bytes.size()));
  if (!bytes.empty()) must(disk.write_synced(file, 0, bytes));
  disk.close(file);
  if (made) must(disk.sync_directory(path.substr(0, path.rfind('/'))));
}

bool exists(io::Disk& disk, const std::string& path) {
  auto file = disk.open(path, io::OpenMode::read);
  if (file) disk.close(*file);
  return file.has_value();
}

std::vector<std::string> list_files(io::Disk& disk, const std::string& directory) { return must(disk.list(directory)); }

}  // namespace sluice::log
