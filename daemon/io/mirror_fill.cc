#include "daemon/io/mirror_fill.h"

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <new>
#include <system_error>
#include <utility>

#include "daemon/io/mirror_disk.h"
#include "shm/base/assert.h"
#include "shm/base/limits.h"

namespace sluice::io {
namespace {

constexpr std::uint32_t kAttemptsMax = 3;  // of a write that came back short
// What lies in a root: the logs, and which format they have. The store is filled by its own means.
constexpr const char* kLogs = "/topics";
constexpr const char* kFormat = "/format";
constexpr const char* kTemporary = ".fill";

bool is_zero(std::span<const std::byte> bytes) {
  return std::all_of(bytes.begin(), bytes.end(), [](std::byte b) { return b == std::byte{0}; });
}

std::string parent_of(const std::string& path) { return path.substr(0, path.rfind('/')); }

// Of removals: it is gone, and that was to be.
Status if_there(Status status) {
  if (!status && status.error().code() == ErrorCode::not_found) return {};
  return status;
}

}  // namespace

void MirrorFill::Freed::operator()(std::byte* bytes) const { std::free(bytes); }

MirrorFill::MirrorFill(MirrorDisk& disk, std::size_t copy)
    : disk_(disk),
      copy_(copy),
      chunk_(static_cast<std::byte*>(std::aligned_alloc(kDirectIoAlignment, kFillChunkSize))) {
  if (!chunk_) throw std::bad_alloc();
  directories_.push_back(disk_.root(0) + kLogs);
  files_.push_back(disk_.root(0) + kFormat);
}

MirrorFill::~MirrorFill() {
  SLUICE_ASSERT(!in_flight_);
  end_current();
}

Disk& MirrorFill::inner() const { return disk_.inner(); }

void MirrorFill::fail(const std::string& reason) {
  if (failure_.empty()) failure_ = reason;
}

void MirrorFill::touched(const std::string& path) { touched_.insert(path); }

bool MirrorFill::on_write(FileId file, std::uint64_t offset, std::uint64_t size) {
  if (!current_ || current_->live != file || current_->writing == 0) return true;
  if (offset >= current_->at + current_->writing || current_->at >= offset + size) return true;
  current_->again_from = std::min(current_->again_from, offset);
  return false;
}

bool MirrorFill::lets_go_of(FileId file) {
  in_sync_.erase(file);
  if (!current_ || current_->live != file) return true;
  current_->live = FileId();
  if (in_flight_) {
    current_->owns_target = true;
    orphaned_ = true;
    return false;
  }
  end_current();
  return true;
}

bool MirrorFill::complete() const {
  if (!failure_.empty() || current_ || !directories_.empty() || !files_.empty() || !touched_.empty()) return false;
  const std::vector<FileId> open = disk_.files_open_for_writing();
  return std::all_of(open.begin(), open.end(), [this](FileId file) { return in_sync_.contains(file); });
}

bool MirrorFill::step() {
  if (!failure_.empty() || in_flight_) return false;
  if (!current_) return next_path();
  const std::uint64_t before = current_->at;
  if (Status gone_on = go_on(); !gone_on) {
    fail(gone_on.error().message());
    return false;
  }
  return in_flight_ || !current_ || current_->at != before;
}

// False: there is nothing to do just now.
bool MirrorFill::next_path() {
  Status taken;
  if (!files_.empty()) {
    const std::string path = std::move(files_.front());
    files_.pop_front();
    taken = take_up(path, false);
  } else if (!directories_.empty()) {
    const std::string path = std::move(directories_.back());
    directories_.pop_back();
    taken = list_directory(path);
  } else if (!touched_.empty()) {
    const std::string path = std::move(touched_.extract(touched_.begin()).value());
    taken = take_up(path, true);
  } else {
    const std::vector<FileId> open = disk_.files_open_for_writing();
    const auto waiting =
        std::find_if(open.begin(), open.end(), [this](FileId file) { return !in_sync_.contains(file); });
    if (waiting == open.end()) return false;
    const std::string path = disk_.path_of(*waiting);
    taken = take_up(path, false);
  }
  if (!taken) fail(taken.error().message());
  return failure_.empty();
}

// ---- directories

Status MirrorFill::list_directory(const std::string& path) {
  Result<std::vector<std::string>> names = disk_.list(path);
  const std::string target = disk_.path_at(copy_, path);
  // It went meanwhile: what lies there on the copy, too.
  if (!names && names.error().code() == ErrorCode::not_found) return remove_tree(target);
  if (!names) return sluice::fail(std::move(names).error());
  SLUICE_TRY(inner().make_directories(target));
  SLUICE_ASSIGN(const std::vector<std::string> there, inner().list(target));
  for (const std::string& name : there)
    if (!std::binary_search(names->begin(), names->end(), name)) SLUICE_TRY(remove_tree(target + "/" + name));
  SLUICE_TRY(inner().sync_directory(target));
  // A file of log files' names is no directory; anything else is asked.
  for (const std::string& name : *names) {
    const std::string entry = path + "/" + name;
    if (disk_.list(entry)) {
      directories_.push_back(entry);
    } else {
      files_.push_back(entry);
    }
  }
  return {};
}

// A path of the copy itself.
Status MirrorFill::remove_tree(const std::string& at_copy) {
  const Result<std::vector<std::string>> names = inner().list(at_copy);
  if (!names) return if_there(inner().unlink(at_copy));
  for (const std::string& name : *names) SLUICE_TRY(remove_tree(at_copy + "/" + name));
  return if_there(inner().remove_directory(at_copy));
}

// ---- files

Status MirrorFill::take_up(const std::string& path, bool may_be_directory) {
  const FileId live = disk_.open_for_writing(path);
  if (live != FileId() && in_sync_.contains(live)) return {};
  if (may_be_directory && disk_.list(path)) {
    directories_.push_back(path);
    return {};
  }
  const Result<FileId> source = disk_.open(path, OpenMode::read);
  if (!source && source.error().code() == ErrorCode::not_found) return remove_tree(disk_.path_at(copy_, path));
  if (!source) return sluice::fail(source.error());
  const auto take = [&]() -> Status {
    SLUICE_ASSIGN(const std::uint64_t size, disk_.size(*source));
    if (live == FileId() && size <= kFillSmallFileSize) return copy_small(path, *source, size);
    return begin_file(path, *source, size, live);
  };
  Status taken = take();
  if (!current_) disk_.close(*source);
  return taken;
}

Status MirrorFill::copy_small(const std::string& path, FileId source, std::uint64_t size) {
  const std::span<std::byte> bytes = chunk(static_cast<std::size_t>(size));
  SLUICE_ASSIGN(const std::size_t got, disk_.read(source, 0, bytes));
  const std::string target = disk_.path_at(copy_, path);
  filled_bytes_ += got;
  SLUICE_TRY(inner().make_directories(parent_of(target)));
  SLUICE_TRY(if_there(inner().unlink(target + kTemporary)));
  SLUICE_ASSIGN(const FileId made, inner().open(target + kTemporary, OpenMode::create));
  Status written = inner().write_synced(made, 0, bytes.first(got));
  inner().close(made);
  SLUICE_TRY(std::move(written));
  SLUICE_TRY(inner().rename(target + kTemporary, target));
  return inner().sync_directory(parent_of(target));
}

Result<FileId> MirrorFill::make_target(const std::string& path, std::uint64_t size) {
  SLUICE_TRY(inner().make_directories(parent_of(path)));
  SLUICE_TRY(if_there(inner().unlink(path)));
  SLUICE_ASSIGN(const FileId target, inner().open(path, OpenMode::create));
  const auto prepare = [&]() -> Status {
    SLUICE_TRY(inner().lock(target));
    return inner().allocate(target, size);
  };
  if (Status prepared = prepare(); !prepared) {
    inner().close(target);
    return sluice::fail(std::move(prepared).error());
  }
  return target;
}

Status MirrorFill::begin_file(const std::string& path, FileId source, std::uint64_t size, FileId live) {
  Current next;
  next.path = path;
  next.live = live;
  next.source = source;
  next.size = size;
  SLUICE_ASSIGN(next.target, make_target(disk_.path_at(copy_, path), size));
  if (live != FileId()) {
    disk_.attach(live, copy_, next.target);
    next.owns_target = false;
  }
  current_ = std::move(next);
  return {};
}

Status MirrorFill::go_on() {
  Current& now = *current_;
  if (now.at < now.size) return copy_chunk();
  now.writing = 0;
  const bool taken = inner().submit_sync(now.target, MirrorDisk::kFillToken);
  SLUICE_ASSERT(taken);
  in_flight_ = true;
  return {};
}

Status MirrorFill::copy_chunk() {
  Current& now = *current_;
  const auto size = static_cast<std::size_t>(std::min(kFillChunkSize, now.size - now.at));
  if (now.live != FileId() && disk_.is_written(now.live, now.at, size)) return {};
  const std::span<std::byte> bytes = chunk(size);
  const Result<std::size_t> got = disk_.read(now.source, now.at, bytes);
  // No good copy can read it: the copy is no worse without it.
  if (!got) unreadable_bytes_ += size;
  // The file was made just now, and is zero where nothing was written yet.
  const bool same = !got || (now.at >= now.untouched_from && is_zero(bytes.first(*got)));
  if (same) {
    now.at += size;
    filled_bytes_ += size;
    return {};
  }
  const std::size_t blocks = *got / kDirectIoAlignment * kDirectIoAlignment;
  if (blocks == 0) {
    SLUICE_TRY(inner().write_synced(now.target, now.at, bytes.first(*got)));
    now.at += *got;
    filled_bytes_ += *got;
    return {};
  }
  now.writing = blocks;
  now.untouched_from = std::max(now.untouched_from, now.at + blocks);
  const bool taken = inner().submit_write(now.target, now.at, bytes.first(blocks), MirrorDisk::kFillToken);
  SLUICE_ASSERT(taken);
  in_flight_ = true;
  return {};
}

void MirrorFill::on_answer(std::int64_t result) {
  SLUICE_ASSERT(in_flight_);
  SLUICE_ASSERT(current_.has_value());
  in_flight_ = false;
  Current& now = *current_;
  if (orphaned_) return end_current();
  const std::string doing = (now.writing != 0 ? "writing " : "syncing ") + disk_.path_at(copy_, now.path);
  if (result < 0) return fail(doing + ": " + std::generic_category().message(static_cast<int>(-result)));
  if (now.writing == 0) {
    if (Status synced = inner().sync_directory(parent_of(disk_.path_at(copy_, now.path)));
        !synced && synced.error().code() != ErrorCode::not_found)
      return fail(synced.error().message());
    if (now.live != FileId()) in_sync_.insert(now.live);
    return end_current();
  }
  if (result != static_cast<std::int64_t>(now.writing)) {
    if (++now.attempts > kAttemptsMax) fail(doing + ": it stays short");
    now.at = std::min(now.at, now.again_from);
  } else {
    now.at = std::min(now.at + now.writing, std::exchange(now.again_from, UINT64_MAX));
    filled_bytes_ += now.writing;
    now.attempts = 0;
  }
  now.writing = 0;
}

void MirrorFill::end_current() {
  if (!current_) return;
  disk_.close(current_->source);
  if (current_->owns_target) inner().close(current_->target);
  current_.reset();
  orphaned_ = false;
}

}  // namespace sluice::io
