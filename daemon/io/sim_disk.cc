#include "daemon/io/sim_disk.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "daemon/io/disk_error.h"
#include "shm/base/assert.h"
#include "shm/base/limits.h"

namespace sluice::io {

namespace {

Error power_is_off_error(const std::string& doing) {
  return Error(ErrorCode::io, doing + ": the simulated machine has no power", EIO);
}

Error lost_handle_error(const std::string& doing) {
  return Error(ErrorCode::io, doing + " a file that was opened before the simulated power loss: open it again", EBADF);
}

Status copy_to_memfd(const SparseBytes& bytes, int memfd, const std::string& path) {
  const std::string doing = "copying " + path + " for a client";
  if (::ftruncate(memfd, static_cast<off_t>(bytes.size())) != 0) return fail(disk_error(errno, doing));
  for (const auto& [number, block] : bytes.blocks()) {
    const std::uint64_t offset = number * kSimBlockSize;
    const std::size_t size = static_cast<std::size_t>(std::min<std::uint64_t>(kSimBlockSize, bytes.size() - offset));
    const ssize_t written = ::pwrite(memfd, block.data(), size, static_cast<off_t>(offset));
    if (written != static_cast<ssize_t>(size)) return fail(disk_error(written < 0 ? errno : EIO, doing));
  }
  return {};
}

}  // namespace

SimDisk::SimDisk(Options options) : SimDisk(options, std::make_shared<SimMedia>(options.seed)) {}

SimDisk::SimDisk(Options options, std::shared_ptr<SimMedia> media)
    : options_(options),
      media_(std::move(media)),
      // Another sequence than the media's from the same seed.
      random_(options.seed ^ 0x5de1u),
      delay_reaps_max_(options.delay_reaps_max),
      life_(media_->lives()) {
  SLUICE_ASSERT(options.queue_depth >= 1);
  SLUICE_ASSERT(options.queue_depth <= kQueueDepthMax);
}

SimDisk::~SimDisk() {
  notice_power_loss();
  for (const auto& [id, file] : files_) {
    std::vector<SimFile::ChangeNumber> in_flight;
    for (const Request& request : requests_) {
      // Without power nothing lands any more; what was under way is for power_loss() to decide.
      if (request.file == id && request.kind == Request::Kind::write && !off_) in_flight.push_back(request.change);
    }
    media_->orphan_handle(file.handle, in_flight);
  }
}

// ---- controls

void SimDisk::inject(SimFault fault, std::uint32_t times, int error, std::string below) {
  faults_[static_cast<std::size_t>(fault)] = Injected{times, error, std::move(below)};
}

void SimDisk::break_below(std::string below, int error) {
  broken_error_ = below.empty() ? 0 : error;
  broken_below_ = std::move(below);
}

Status SimDisk::check_works(const std::string& doing, const std::string& path) const {
  if (is_broken(path)) return fail(disk_error(broken_error_, doing));
  return {};
}

void SimDisk::heal() { faults_.fill(Injected{}); }

int SimDisk::take_fault(SimFault fault, const std::string& path) {
  Injected& injected = faults_[static_cast<std::size_t>(fault)];
  if (injected.times == 0 || !path.starts_with(injected.below)) return 0;
  if (injected.times != kSimForever) --injected.times;
  return injected.error;
}

void SimDisk::cut_power_after(std::uint64_t operations) {
  notice_power_loss();
  cut_after_ = operations;
}

bool SimDisk::power_is_off() {
  notice_power_loss();
  return off_;
}

void SimDisk::power_loss() {
  media_->power_loss();
  notice_power_loss();
}

void SimDisk::notice_power_loss() {
  if (life_ == media_->lives()) return;
  life_ = media_->lives();
  off_ = false;
  cut_after_ = 0;
  first_file_of_life_ = next_file_;
  files_.clear();
  requests_.clear();
}

bool SimDisk::power_goes_now() {
  if (off_ || cut_after_ == 0) return false;
  off_ = --cut_after_ == 0;
  return off_;
}

// Runs a changing call, unless there is no power; during the one at which it goes, a coin decides.
template <typename Call>
Status SimDisk::change(const std::string& doing, const std::string& path, Call call) {
  notice_power_loss();
  if (off_) return fail(power_is_off_error(doing));
  SLUICE_TRY(check_works(doing, path));
  if (!power_goes_now()) return call();
  if (random_.coin()) static_cast<void>(call().has_value());
  return fail(power_is_off_error(doing));
}

// ---- files

SimDisk::OpenFile* SimDisk::find(FileId file) {
  notice_power_loss();
  SLUICE_ASSERT(file.value >= 1 && file.value < next_file_);
  if (file.value < first_file_of_life_) return nullptr;
  const auto found = files_.find(file);
  SLUICE_ASSERT(found != files_.end());
  return &found->second;
}

SimDisk::OpenFile& SimDisk::writable(FileId file) {
  OpenFile* const found = find(file);
  SLUICE_ASSERT(found != nullptr);
  SLUICE_ASSERT(found->mode != OpenMode::read);
  return *found;
}

Result<FileId> SimDisk::open(const std::string& path, OpenMode mode) {
  notice_power_loss();
  SimNodeId node;
  if (mode == OpenMode::create) {
    if (const int error = take_fault(SimFault::create, path); error != 0) {
      return fail(disk_error(error, "creating " + path));
    }
    SLUICE_TRY(change("creating " + path, path, [&]() -> Status {
      SLUICE_ASSIGN(node, media_->create_file(path));
      return {};
    }));
  } else {
    if (off_) return fail(power_is_off_error("opening " + path));
    SLUICE_TRY(check_works("opening " + path, path));
    SLUICE_ASSIGN(node, media_->find_file(path));
  }
  const FileId id(next_file_++);
  files_.emplace(id, OpenFile{node, media_->open_handle(node), mode, 0, path});
  return id;
}

void SimDisk::close(FileId file) {
  OpenFile* const closing = find(file);
  if (closing == nullptr) return;
  SLUICE_ASSERT(closing->in_flight == 0);
  media_->close_handle(closing->handle);
  files_.erase(file);
}

Result<std::uint64_t> SimDisk::size(FileId file) {
  OpenFile* const found = find(file);
  if (found == nullptr) return fail(lost_handle_error("asking for the size of"));
  if (off_) return fail(power_is_off_error("asking for the size of " + found->path));
  SLUICE_TRY(check_works("asking for the size of " + found->path, found->path));
  return media_->file(found->node).size();
}

Status SimDisk::allocate(FileId file, std::uint64_t size) {
  OpenFile* const found = find(file);
  if (found == nullptr) return fail(lost_handle_error("reserving bytes for"));
  SLUICE_ASSERT(found->mode != OpenMode::read);
  const std::string doing = "reserving " + std::to_string(size) + " bytes for " + found->path;
  if (const int error = take_fault(SimFault::allocate, found->path); error != 0) return fail(disk_error(error, doing));
  return change(doing, found->path, [&]() -> Status {
    if (!media_->reserve(found->node, size)) return fail(disk_error(ENOSPC, doing));
    return {};
  });
}

Status SimDisk::truncate(FileId file, std::uint64_t size) {
  OpenFile* const found = find(file);
  if (found == nullptr) return fail(lost_handle_error("setting the size of"));
  SLUICE_ASSERT(found->mode != OpenMode::read);
  SimFile& content = media_->file(found->node);
  SLUICE_ASSERT(!content.in_flight_overlaps(size, std::numeric_limits<std::uint64_t>::max() - size));
  return change("setting the size of " + found->path, found->path, [&]() -> Status {
    content.truncate(size);
    return {};
  });
}

Result<std::size_t> SimDisk::read(FileId file, std::uint64_t offset, std::span<std::byte> into) {
  OpenFile* const found = find(file);
  if (found == nullptr) return fail(lost_handle_error("reading"));
  if (off_) return fail(power_is_off_error("reading " + found->path));
  SLUICE_TRY(check_works("reading " + found->path, found->path));
  if (const int error = take_fault(SimFault::read, found->path); error != 0) {
    return fail(disk_error(error, "reading " + std::to_string(into.size()) + " bytes at " + std::to_string(offset) +
                                      " of " + found->path));
  }
  return media_->file(found->node).current().read(offset, into);
}

Status SimDisk::write_synced(FileId file, std::uint64_t offset, std::span<const std::byte> bytes) {
  OpenFile* const found = find(file);
  if (found == nullptr) return fail(lost_handle_error("writing"));
  SLUICE_ASSERT(found->mode != OpenMode::read);
  SimFile& content = media_->file(found->node);
  SLUICE_ASSERT(!content.in_flight_overlaps(offset, bytes.size()));
  const std::string doing =
      "writing " + std::to_string(bytes.size()) + " bytes at " + std::to_string(offset) + " of " + found->path;
  if (off_) return fail(power_is_off_error(doing));
  SLUICE_TRY(check_works(doing, found->path));
  if (!media_->has_room_for_write(found->node, offset, bytes.size())) return fail(disk_error(ENOSPC, doing));
  const SimFile::ChangeNumber written = content.begin_write(offset, bytes);
  if (const int error = take_fault(SimFault::write_synced, found->path); error != 0) {
    content.complete_failed(written, random_);
    content.abandon(content.syncable());
    return fail(disk_error(error, doing));
  }
  content.complete(written, bytes.size());
  if (power_goes_now()) return fail(power_is_off_error(doing));
  content.make_durable(content.syncable());
  return {};
}

Status SimDisk::lock(FileId file) {
  OpenFile* const found = find(file);
  if (found == nullptr) return fail(lost_handle_error("locking"));
  if (off_) return fail(power_is_off_error("locking " + found->path));
  SLUICE_TRY(check_works("locking " + found->path, found->path));
  media_->tick();
  if (media_->lock(found->handle)) return {};
  return fail(disk_error(EWOULDBLOCK, "locking " + found->path));
}

// ---- directories

Status SimDisk::rename(const std::string& from, const std::string& to) {
  return change("renaming " + from + " to " + to, from, [&] { return media_->rename(from, to); });
}

Status SimDisk::unlink(const std::string& path) {
  return change("removing " + path, path, [&] { return media_->unlink(path); });
}

Status SimDisk::make_directories(const std::string& path) {
  return change("making the directory " + path, path, [&] { return media_->make_directories(path); });
}

Status SimDisk::remove_directory(const std::string& path) {
  return change("removing the directory " + path, path, [&] { return media_->remove_directory(path); });
}

Status SimDisk::sync_directory(const std::string& path) {
  const std::string doing = "syncing the directory " + path;
  if (const int error = take_fault(SimFault::sync_directory, path); error != 0) return fail(disk_error(error, doing));
  return change(doing, path, [&] { return media_->sync_directory(path); });
}

Result<std::vector<std::string>> SimDisk::list(const std::string& path) {
  notice_power_loss();
  if (off_) return fail(power_is_off_error("listing the directory " + path));
  SLUICE_TRY(check_works("listing the directory " + path, path));
  return media_->list(path);
}

Result<UniqueFd> SimDisk::open_for_client(const std::string& path) {
  notice_power_loss();
  const std::string doing = "opening " + path + " for a client";
  if (off_) return fail(power_is_off_error(doing));
  SLUICE_TRY(check_works(doing, path));
  SLUICE_ASSIGN(const SimNodeId node, media_->find_file(path));
  const UniqueFd memory(::memfd_create("sluice-simulated-file", MFD_CLOEXEC));
  if (!memory) return fail(disk_error(errno, doing));
  SLUICE_TRY(copy_to_memfd(media_->file(node).current(), memory.get(), path));
  // A description of its own, so that it cannot be mapped writable.
  const std::string again = "/proc/self/fd/" + std::to_string(memory.get());
  UniqueFd client(::open(again.c_str(), O_RDONLY | O_CLOEXEC));
  if (!client) return fail(disk_error(errno, doing));
  struct flock whole {};
  whole.l_type = F_RDLCK;
  whole.l_whence = SEEK_SET;
  if (::fcntl(client.get(), F_OFD_SETLK, &whole) != 0) return fail(disk_error(errno, doing));
  return client;
}

Result<std::uint64_t> SimDisk::free_bytes(const std::string& path) {
  notice_power_loss();
  if (off_) return fail(power_is_off_error("asking for the free space at " + path));
  SLUICE_TRY(check_works("asking for the free space at " + path, path));
  if (!media_->list(path)) SLUICE_TRY(media_->find_file(path));
  return media_->free_blocks() * kSimBlockSize;
}

// ---- data

std::uint32_t SimDisk::register_memory(std::span<std::byte> memory) {
  if (memory.empty() || registrations_.size() >= kRegistrationsMax) return 0;
  registrations_.insert(next_registration_);
  return next_registration_++;
}

void SimDisk::unregister_memory(std::uint32_t registration) {
  if (registration == 0) return;
  SLUICE_ASSERT(registrations_.erase(registration) == 1);
}

SimDisk::Request& SimDisk::add_request(FileId file, std::uint64_t token) {
  Request request;
  request.file = file;
  request.token = token;
  request.due_reap = reaps_ + 1 + random_.below(std::uint64_t{delay_reaps_max_} + 1);
  requests_.push_back(std::move(request));
  return requests_.back();
}

bool SimDisk::submit_write(FileId file, std::uint64_t offset, std::span<const std::byte> bytes, std::uint64_t token) {
  SLUICE_ASSERT(offset % kDirectIoAlignment == 0);
  SLUICE_ASSERT(reinterpret_cast<std::uintptr_t>(bytes.data()) % kDirectIoAlignment == 0);
  SLUICE_ASSERT(bytes.size() % kDirectIoAlignment == 0);
  SLUICE_ASSERT(!bytes.empty());
  SLUICE_ASSERT(bytes.size() <= kDiskWriteSizeMax);
  OpenFile& target = writable(file);
  if (requests_.size() >= options_.queue_depth) return false;
  ++target.in_flight;
  Request& request = add_request(file, token);
  if (off_) return true;
  SimFile& content = media_->file(target.node);
  SLUICE_ASSERT(!content.in_flight_overlaps(offset, bytes.size()));
  request.kind = Request::Kind::write;
  request.bytes = bytes;
  request.error = is_broken(target.path) ? broken_error_ : take_fault(SimFault::write, target.path);
  if (request.error == 0) request.is_short = take_fault(SimFault::short_write, target.path) != 0;
  if (request.error == 0 && !media_->has_room_for_write(target.node, offset, bytes.size())) request.error = ENOSPC;
  request.change = content.begin_write(offset, bytes);
  static_cast<void>(power_goes_now());
  return true;
}

bool SimDisk::submit_sync(FileId file, std::uint64_t token) {
  OpenFile& target = writable(file);
  if (requests_.size() >= options_.queue_depth) return false;
  ++target.in_flight;
  Request& request = add_request(file, token);
  if (off_) return true;
  request.kind = Request::Kind::sync;
  request.error = is_broken(target.path) ? broken_error_ : take_fault(SimFault::sync, target.path);
  request.covered = media_->file(target.node).syncable();
  static_cast<void>(power_goes_now());
  return true;
}

// The index of one of the requests that are due, by chance; requests_.size() if none is.
std::size_t SimDisk::pick_due() {
  std::vector<std::size_t> due;
  for (std::size_t index = 0; index < requests_.size(); ++index) {
    if (off_ || requests_[index].due_reap <= reaps_) due.push_back(index);
  }
  return due.empty() ? requests_.size() : due[random_.below(due.size())];
}

std::size_t SimDisk::reap(std::span<Completion> into) {
  notice_power_loss();
  ++reaps_;
  media_->tick();
  std::size_t count = 0;
  while (count < into.size()) {
    const std::size_t picked = pick_due();
    if (picked == requests_.size()) break;
    Request request = std::move(requests_[picked]);
    requests_.erase(requests_.begin() + static_cast<std::ptrdiff_t>(picked));
    into[count++] = finish(std::move(request));
  }
  return count;
}

Completion SimDisk::finish(Request request) {
  OpenFile* const file = find(request.file);
  SLUICE_ASSERT(file != nullptr);
  SLUICE_ASSERT(file->in_flight > 0);
  --file->in_flight;
  if (off_ || request.kind == Request::Kind::dead) return Completion{request.token, -EIO};
  if (request.error == 0 && is_broken(file->path)) request.error = broken_error_;
  const std::int64_t result =
      request.kind == Request::Kind::write ? finish_write(request, *file) : finish_sync(request, *file);
  // The caller never hears of what ended when the power went.
  return Completion{request.token, power_goes_now() ? -EIO : result};
}

std::int64_t SimDisk::finish_write(const Request& request, OpenFile& file) {
  SimFile& content = media_->file(file.node);
  const std::span<const std::byte> submitted = content.bytes_of(request.change);
  // Invariant 4 of disk.h: the caller left them alone.
  SLUICE_ASSERT(std::equal(submitted.begin(), submitted.end(), request.bytes.begin(), request.bytes.end()));
  if (request.error == ENOSPC) {
    content.complete(request.change, 0);
    return -ENOSPC;
  }
  if (request.error != 0) {
    content.complete_failed(request.change, random_);
    return -request.error;
  }
  std::uint64_t size = submitted.size();
  if (request.is_short) size = random_.below(size / kSimSectorSize) * kSimSectorSize;
  content.complete(request.change, size);
  return static_cast<std::int64_t>(size);
}

std::int64_t SimDisk::finish_sync(const Request& request, OpenFile& file) {
  SimFile& content = media_->file(file.node);
  if (request.error != 0) {
    content.abandon(request.covered);
    return -request.error;
  }
  content.make_durable(request.covered);
  return 0;
}

DiskFeatures SimDisk::features() const {
  DiskFeatures features;
  features.backend = "simulated";
  features.direct = true;
  features.registered_buffers = true;
  return features;
}

}  // namespace sluice::io
