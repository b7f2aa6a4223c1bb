#include "daemon/log/segment_scrub.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>
#include <span>
#include <utility>

#include "daemon/io/mirror_disk.h"
#include "daemon/log/log_file.h"
#include "daemon/log/mirror_reconcile.h"
#include "daemon/log/segment_scan.h"
#include "shm/base/assert.h"
#include "shm/base/limits.h"

namespace sluice::log {

struct SegmentScrub::Copy {
  std::size_t number = 0;  // of the mirrors
  std::string directory;
  std::string path;
  FileHandle file;
  std::uint64_t size = 0;
  bool missing = false;
  bool in_the_making = false;  // `file` has a temporary name yet
  std::unique_ptr<SegmentBuffer> buffer;
  std::unique_ptr<SegmentScan> scan;
  bool begun = false;
  std::optional<Error> unreadable;
  SegmentOutcome outcome;
};

SegmentScrub::SegmentScrub(io::Disk& disk, LogOptions options, ScrubFile file, SegmentNumber segment)
    : disk_(disk.mirrors() == nullptr ? disk : disk.mirrors()->inner()),
      mirrors_(disk.mirrors()),
      options_(std::move(options)),
      file_(file),
      segment_(segment),
      offset_(Position(segment.value * options_.segment_size) - file.base),
      size_(std::min(options_.segment_size, file.end - file.base - offset_)) {
  SLUICE_ASSERT(file.end > file.base + offset_);
}

SegmentScrub::~SegmentScrub() {
  for (const auto& copy : copies_) {
    copy->file.reset();
    if (copy->in_the_making) static_cast<void>(disk_.unlink(temporary_path(copy->path)).has_value());
  }
}

Result<bool> SegmentScrub::step() {
  drop_lost_copies();
  switch (stage_) {
    case Stage::open:
      SLUICE_TRY(open_all());
      outcome_.copies = copies_.size();
      outcome_.bytes = copies_.empty() ? 0 : size_;
      at_copy_ = 0;
      stage_ = copies_.empty() ? Stage::done : Stage::lengthen;
      break;
    case Stage::lengthen: {
      SLUICE_ASSIGN(const bool same_length, lengthen_some());
      if (same_length) begin_reading();
      break;
    }
    case Stage::read:
      if (read_some()) {
        stage_ = Stage::check;
        at_copy_ = 0;
      }
      break;
    case Stage::check: {
      SLUICE_ASSIGN(const bool checked, check_some());
      if (checked) {
        stage_ = Stage::compare;
        at_copy_ = 1;
        at_ = 0;
      }
      break;
    }
    case Stage::compare: {
      SLUICE_ASSIGN(const bool compared, compare_some());
      if (compared) SLUICE_TRY(judge());
      break;
    }
    case Stage::done: break;
  }
  return stage_ == Stage::done;
}

ScrubOutcome SegmentScrub::take_outcome() {
  SLUICE_ASSERT(stage_ == Stage::done);
  return std::move(outcome_);
}

// What a copy's own disk refuses is that copy's end, but for the last one's. A lack of room or descriptors is none.
Status SegmentScrub::give_up(const Copy& copy, const Error& error) {
  const ErrorCode code = error.code();
  if (code == ErrorCode::would_block || code == ErrorCode::no_memory || code == ErrorCode::quota) return fail(error);
  if (mirrors_ == nullptr || !mirrors_->is_good(copy.number) || mirrors_->good_count() == 1) return fail(error);
  return mirrors_->mark_stale(copy.number, error.message());
}

// A disk that failed can be unmounted when nothing on it is open any more. What was begun begins anew without it.
void SegmentScrub::drop_lost_copies() {
  if (mirrors_ == nullptr || stage_ == Stage::done) return;
  const auto dropped = std::erase_if(copies_, [&](const auto& copy) { return !mirrors_->is_good(copy->number); });
  if (dropped == 0) return;
  outcome_.copies = copies_.size();
  if (copies_.empty()) {
    stage_ = Stage::done;
  } else if (stage_ != Stage::lengthen) {
    begin_reading();
  }
}

// ---- presence and length

Status SegmentScrub::open_all() {
  const std::size_t count = mirrors_ == nullptr ? 1 : mirrors_->copy_count();
  for (std::size_t number = 0; number < count; ++number) {
    if (mirrors_ != nullptr && !mirrors_->is_good(number)) continue;
    auto copy = std::make_unique<Copy>();
    copy->number = number;
    copy->directory = mirrors_ == nullptr ? options_.directory : mirrors_->path_at(number, options_.directory);
    copy->path = log_path(copy->directory, file_.base);
    if (Status opened = open_one(*copy); !opened) {
      SLUICE_TRY(give_up(*copy, opened.error()));
      continue;
    }
    copies_.push_back(std::move(copy));
  }
  return {};
}

Status SegmentScrub::open_one(Copy& copy) {
  auto opened = open_file(disk_, copy.path, mirrors_ == nullptr ? io::OpenMode::read : io::OpenMode::read_write);
  if (!opened && opened.error().code() == ErrorCode::not_found) {
    // What is still written to has lost its name there, and what goes to it is lost with the next start.
    if (!file_.closed || mirrors_ == nullptr) return fail(opened.error());
    copy.missing = true;
    return {};
  }
  if (!opened) return fail(opened.error());
  copy.file = std::move(*opened);
  SLUICE_ASSIGN(copy.size, disk_.size(copy.file.id()));
  return {};
}

SegmentScrub::Copy* SegmentScrub::longest() {
  Copy* longest = nullptr;
  for (const auto& copy : copies_)
    if (!copy->missing && (longest == nullptr || copy->size > longest->size)) longest = copy.get();
  return longest;
}

// A closed file is as long on every copy as on the one where it is longest. One that is there grows from its end; one
// that is not gets its name when it is complete.
Result<bool> SegmentScrub::lengthen_some() {
  Copy* const from = longest();
  if (!file_.closed || from == nullptr) return true;
  const auto shorter = std::find_if(copies_.begin(), copies_.end(),
                                    [&](const auto& copy) { return copy->missing || copy->size < from->size; });
  if (shorter == copies_.end()) return true;
  Copy& copy = **shorter;
  std::vector<std::byte> bytes(std::min(kScrubStepSize, from->size - copy.size));
  const Result<std::size_t> got = disk_.read(from->file.id(), copy.size, bytes);
  // Its segments are mended one by one as far as they can be read somewhere.
  if (!got && !copy.missing && !copy.in_the_making) return true;
  const auto grow = [&]() -> Status {
    if (!got) return fail(got.error());
    if (*got != bytes.size()) return fail(ErrorCode::io, "copying " + from->path + ": it became shorter meanwhile");
    if (copy.missing) SLUICE_TRY(make_missing(copy, *from));
    SLUICE_TRY(disk_.write_synced(copy.file.id(), copy.size, bytes));
    copy.size += *got;
    outcome_.mended_bytes += *got;
    return copy.size == from->size ? finish_growing(copy) : Status();
  };
  if (const Status grown = grow(); !grown) SLUICE_TRY(give_up(copy, grown.error()));
  return false;
}

Status SegmentScrub::make_missing(Copy& copy, const Copy& from) {
  const std::string temporary = temporary_path(copy.path);
  if (Status gone = disk_.unlink(temporary); !gone && gone.error().code() != ErrorCode::not_found) return gone;
  SLUICE_ASSIGN(copy.file, open_file(disk_, temporary, io::OpenMode::create));
  copy.in_the_making = true;
  copy.missing = false;
  return disk_.allocate(copy.file.id(), from.size);
}

Status SegmentScrub::finish_growing(Copy& copy) {
  outcome_.told.push_back(copy.path + (copy.in_the_making ? ": copied" : ": its end copied") + " from another copy");
  if (!copy.in_the_making) return {};
  SLUICE_TRY(disk_.rename(temporary_path(copy.path), copy.path));
  copy.in_the_making = false;
  return disk_.sync_directory(copy.directory);
}

// ---- reading, checking, comparing

void SegmentScrub::begin_reading() {
  stage_ = Stage::read;
  at_copy_ = 0;
  at_ = 0;
  differs_ = false;
  for (const auto& copy : copies_) {
    copy->begun = false;
    copy->unreadable.reset();
    copy->outcome = {};
    if (copy->buffer == nullptr)
      copy->buffer = std::make_unique<SegmentBuffer>(disk_, options_.segment_size, kScrubStepSize);
    copy->buffer->start(copy->file.id(), offset_, copy->size > offset_ ? copy->size - offset_ : 0);
    copy->scan = std::make_unique<SegmentScan>(*copy->buffer, options_);
  }
}

// A chunk of a copy, one copy after the other.
bool SegmentScrub::read_some() {
  Copy& copy = *copies_[at_copy_];
  const std::uint64_t had = copy.buffer->loaded();
  if (!copy.unreadable && had < size_) {
    const auto loaded = copy.buffer->load(std::min(had + 1, size_));
    if (!loaded) copy.unreadable = loaded.error();
    if (loaded && *loaded) return false;
  }
  return ++at_copy_ == copies_.size();
}

Result<bool> SegmentScrub::check_some() {
  Copy& copy = *copies_[at_copy_];
  if (!copy.unreadable) {
    if (!std::exchange(copy.begun, true)) SLUICE_TRY(copy.scan->begin(segment_, file_.base + offset_ + size_));
    SLUICE_ASSIGN(const bool ended, copy.scan->walk(kScrubStepSize, Position(~std::uint64_t{0}), {}));
    if (!ended) return false;
    copy.outcome = copy.scan->take_outcome();
  }
  // The others are compared with a copy that is whole; only if none is, each is looked at by itself.
  if (!mended_ && is_whole(copy)) {
    std::swap(copies_[0], copies_[at_copy_]);
    return true;
  }
  return ++at_copy_ == copies_.size();
}

Result<bool> SegmentScrub::compare_some() {
  const Copy& first = *copies_[0];
  if (at_copy_ >= copies_.size() || mended_ || !is_whole(first)) return true;
  const Copy& other = *copies_[at_copy_];
  const std::uint64_t size = std::min(kScrubStepSize, size_ - at_);
  if (other.unreadable || other.buffer->loaded() < size_ ||
      std::memcmp(first.buffer->at(at_), other.buffer->at(at_), size) != 0) {
    differs_ = true;
    return true;
  }
  at_ += size;
  if (at_ < size_) return false;
  at_ = 0;
  return ++at_copy_ == copies_.size();
}

bool SegmentScrub::is_whole(const Copy& copy) const { return damaged_bytes(copy) == 0; }

std::uint64_t SegmentScrub::damaged_bytes(const Copy& copy) const {
  if (copy.unreadable) return size_ + 1;
  std::uint64_t bytes = 0;
  for (const Damage& range : copy.outcome.damaged) bytes += range.end - range.begin;
  return bytes;
}

// ---- the outcome

Status SegmentScrub::judge() {
  const bool wrong = differs_ || !is_whole(*copies_[0]);
  if (wrong && !mended_ && copies_.size() > 1) {
    mended_ = true;
    MirrorRepairs repairs;
    SLUICE_TRY(mend_segment(*mirrors_, options_, file_.base, segment_, repairs));
    outcome_.mended_bytes += repairs.bytes;
    outcome_.told.insert(outcome_.told.end(), repairs.told.begin(), repairs.told.end());
    drop_lost_copies();
    for (const auto& copy : copies_) {
      SLUICE_ASSIGN(copy->size, disk_.size(copy->file.id()));
    }
    if (!copies_.empty()) begin_reading();
    return {};
  }
  const auto best = std::min_element(copies_.begin(), copies_.end(), [&](const auto& a, const auto& b) {
    return damaged_bytes(*a) < damaged_bytes(*b);
  });
  if (mended_) {
    for (const auto& copy : copies_)
      if (damaged_bytes(*copy) > damaged_bytes(**best))
        SLUICE_TRY(give_up(
            *copy, Error(ErrorCode::io, "mending " + copy->path + ": what was written anew cannot be read back" +
                                            (copy->unreadable ? ": " + copy->unreadable->context() : ""))));
  }
  if ((*best)->unreadable) outcome_.unreadable = (*best)->unreadable->message();
  outcome_.damaged = std::move((*best)->outcome.damaged);
  stage_ = Stage::done;
  return {};
}

}  // namespace sluice::log
