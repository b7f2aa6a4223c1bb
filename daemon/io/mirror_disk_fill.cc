// MirrorDisk: how a stale copy becomes good again. The work itself is MirrorFill's.
#include <algorithm>
#include <string>
#include <utility>

#include "daemon/io/mirror_disk.h"
#include "shm/base/assert.h"

namespace sluice::io {

Status MirrorDisk::begin_fill(std::size_t copy) {
  SLUICE_ASSERT(!fill_);
  SLUICE_ASSERT(copies_[copy].state == CopyState::stale);
  for (OpenFile& file : files_) {
    if (!file.path.empty()) close_handles_of_lost_copies(file);
    if (file.ids[copy] != FileId())
      return fail(ErrorCode::in_use, "filling " + copies_[copy].root + ": writes to it are still in flight");
  }
  // Its own state says that it is stale, whatever it said when its disk failed, or if it is another disk.
  MirrorState state = state_;
  state.self = copies_[copy].id;
  SLUICE_TRY(inner_->make_directories(copies_[copy].root));
  SLUICE_TRY(create_mirror_state(*inner_, copies_[copy].root, state));
  fill_ = std::make_unique<MirrorFill>(*this, copy);
  return {};
}

Status MirrorDisk::finish_fill() {
  SLUICE_ASSERT(is_fill_complete());
  SLUICE_TRY(settle());
  const std::size_t filled = fill_->copy();
  MirrorState next = state_;
  ++next.generation;
  for (MirrorMember& member : next.members)
    if (member.id == copies_[filled].id) member.good = true;
  // The good ones first: a copy must never call itself good where they call it stale. One that cannot take the note has
  // failed; then nothing has changed but its own state, and the others get a newer one.
  for (std::size_t copy = 0; copy < copies_.size(); ++copy) {
    if (!is_good(copy)) continue;
    next.self = copies_[copy].id;
    Status written = write_mirror_state(*inner_, copies_[copy].root, next);
    if (written) continue;
    state_.generation = next.generation;
    if (good_count() == 1) return written;
    fail_copy(copy, written.error().message());
    SLUICE_TRY(settle());
    return written;
  }
  const std::string unreadable =
      fill_->unreadable_bytes() == 0
          ? ""
          : std::to_string(fill_->unreadable_bytes()) + " bytes could be read from no copy, and are missing in all";
  state_ = next;
  copies_[filled].state = CopyState::good;
  copies_[filled].reason = unreadable;
  fill_.reset();
  next.self = copies_[filled].id;
  if (Status written = write_mirror_state(*inner_, copies_[filled].root, next); !written) {
    SLUICE_TRY(mark_stale(filled, written.error().message()));
    return written;
  }
  return {};
}

bool MirrorDisk::end_fill(const std::string& reason) {
  SLUICE_ASSERT(fill_ != nullptr);
  fill_->fail(reason);
  if (fill_->is_busy()) return false;
  copies_[fill_->copy()].reason = fill_->failure();
  fill_.reset();
  for (OpenFile& file : files_)
    if (!file.path.empty()) close_handles_of_lost_copies(file);
  return true;
}

std::vector<FileId> MirrorDisk::files_open_for_writing() const {
  std::vector<FileId> open;
  for (std::uint32_t index = 0; index < files_.size(); ++index)
    if (!files_[index].path.empty() && files_[index].mode != OpenMode::read) open.emplace_back(index + 1);
  return open;
}

FileId MirrorDisk::open_for_writing(const std::string& path) const {
  for (const FileId file : files_open_for_writing())
    if (files_[file.value - 1].path == path) return file;
  return FileId();
}

void MirrorDisk::attach(FileId file, std::size_t copy, FileId id) {
  SLUICE_ASSERT(at(file).ids[copy] == FileId());
  at(file).ids[copy] = id;
}

bool MirrorDisk::is_written(FileId file, std::uint64_t offset, std::uint64_t size) const {
  return std::any_of(requests_.begin(), requests_.end(), [&](const Request& request) {
    return request.waiting_for != 0 && request.file == file && request.offset < offset + size &&
           offset < request.offset + request.size;
  });
}

// A file that is made now is made on the copy too, and is the same from its first byte.
void MirrorDisk::create_on_filling(OpenFile& file) {
  if (!fill_ || !fill_->failure().empty()) return;
  const std::size_t copy = fill_->copy();
  const std::string path = path_at(copy, file.path);
  const auto create = [&]() -> Status {
    SLUICE_TRY(inner_->make_directories(path.substr(0, path.rfind('/'))));
    Status gone = inner_->unlink(path);
    if (!gone && gone.error().code() != ErrorCode::not_found) return gone;
    SLUICE_ASSIGN(file.ids[copy], inner_->open(path, OpenMode::create));
    return {};
  };
  if (Status created = create(); !created) fill_->fail(created.error().message());
}

// A disk that failed can be unmounted when nothing on it is open any more.
void MirrorDisk::close_handles_of_lost_copies(OpenFile& file) {
  if (file.in_flight != 0) return;
  for (std::size_t copy = 0; copy < copies_.size(); ++copy) {
    const bool in_use = is_good(copy) || (fill_ && fill_->copy() == copy);
    if (in_use || file.ids[copy] == FileId()) continue;
    inner_->close(std::exchange(file.ids[copy], FileId()));
  }
}

}  // namespace sluice::io
