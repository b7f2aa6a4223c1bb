#include "daemon/io/uring_disk.h"

#include <sys/eventfd.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <iterator>
#include <utility>

#include "shm/base/assert.h"
#include "shm/base/limits.h"

namespace sluice::io {

namespace {

std::uintptr_t address_of(const void* memory) { return reinterpret_cast<std::uintptr_t>(memory); }

std::string what_went_wrong(const char* doing, int error) { return std::string(doing) + ": " + std::strerror(error); }

Error setup_error(int error) {
  if (error == EPERM || error == EACCES || error == ENOSYS) {
    return Error(ErrorCode::permission,
                 "setting up io_uring (not allowed here: look at sysctl kernel.io_uring_disabled and the container's "
                 "seccomp profile)",
                 error);
  }
  return system_error(error, "setting up io_uring");
}

}  // namespace

Result<std::unique_ptr<UringDisk>> UringDisk::create(Options options) {
  SLUICE_TRY(check_queue_depth(options.queue_depth));
  std::unique_ptr<UringDisk> disk(new UringDisk(options));
  SLUICE_TRY(disk->start());
  return disk;
}

UringDisk::UringDisk(Options options) : PosixDisk(options.direct_io), options_(options) {}

Status UringDisk::start() {
  SLUICE_TRY(init_ring());
  event_ = UniqueFd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!event_) return fail(system_error(errno, "making the eventfd of io_uring"));
  if (const int result = io_uring_register_eventfd(&ring_, event_.get()); result < 0) {
    return fail(system_error(-result, "registering the eventfd of io_uring"));
  }
  init_registration();
  requests_.resize(options_.queue_depth);
  idle_requests_.reserve(options_.queue_depth);
  for (std::uint32_t index = options_.queue_depth; index > 0; --index) idle_requests_.push_back(index - 1);
  return {};
}

Status UringDisk::init_ring() {
  // Completions wait for our next system call instead of interrupting this thread, where the kernel can (5.19).
  io_uring_params params{};
  params.flags = IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG;
  int result = io_uring_queue_init_params(options_.queue_depth, &ring_, &params);
  if (result == -EINVAL) {
    params = {};
    result = io_uring_queue_init_params(options_.queue_depth, &ring_, &params);
  }
  if (result < 0) return fail(setup_error(-result));
  ring_open_ = true;
  // A child would share the queues' pages, and has no business with them. Best effort.
  static_cast<void>(io_uring_ring_dontfork(&ring_));
  return {};
}

void UringDisk::init_registration() {
  if (!options_.register_buffers) {
    register_why_not_ = "registered buffers: turned off by configuration";
    return;
  }
  if (const int result = io_uring_register_buffers_sparse(&ring_, kRegistrationsMax); result < 0) {
    register_why_not_ = what_went_wrong("making the table of registered buffers", -result);
    return;
  }
  table_registered_ = true;
  free_registrations_.reserve(kRegistrationsMax);
  for (std::uint32_t index = kRegistrationsMax; index > 0; --index) free_registrations_.push_back(index - 1);
}

UringDisk::~UringDisk() {
  if (!ring_open_) return;
  std::size_t in_kernel = requests_.size() - idle_requests_.size() - queued_.size() - failed_.size();
  while (in_kernel > 0) {
    io_uring_cqe* cqe = nullptr;
    const int result = io_uring_wait_cqe(&ring_, &cqe);
    if (result == -EINTR || result == -EAGAIN) continue;
    if (result < 0) break;  // the ring is beyond use; closing it lets the kernel end what it has
    io_uring_cqe_seen(&ring_, cqe);
    --in_kernel;
  }
  io_uring_queue_exit(&ring_);
}

std::uint32_t UringDisk::register_memory(std::span<std::byte> memory) {
  if (!table_registered_ || memory.empty()) return 0;
  const std::uintptr_t first = address_of(memory.data());
  const auto after = registrations_.lower_bound(first);
  const bool overlaps_next = after != registrations_.end() && after->first < first + memory.size();
  const bool overlaps_previous =
      after != registrations_.begin() && std::prev(after)->first + std::prev(after)->second.size > first;
  if (overlaps_next || overlaps_previous) return 0;
  if (free_registrations_.empty()) {
    register_why_not_ = "registering memory: the limit of " + std::to_string(kRegistrationsMax) + " is reached";
    return 0;
  }
  const std::uint32_t index = free_registrations_.back();
  const iovec range{memory.data(), memory.size()};
  const __u64 no_tag = 0;
  const int result = io_uring_register_buffers_update_tag(&ring_, index, &range, &no_tag, 1);
  if (result != 1) {
    register_why_not_ = what_went_wrong("registering memory (raise the limit of locked memory, LimitMEMLOCK=)",
                                        result < 0 ? -result : EIO);
    return 0;
  }
  free_registrations_.pop_back();
  registrations_.emplace(first, Registration{memory.size(), index});
  return index + 1;
}

void UringDisk::unregister_memory(std::uint32_t registration) {
  if (registration == 0) return;
  auto found = registrations_.begin();
  while (found != registrations_.end() && found->second.index != registration - 1) ++found;
  SLUICE_ASSERT(found != registrations_.end());
  // Requests that were prepared with this entry must find it. Those that cannot be handed over fail, with EFAULT.
  static_cast<void>(hand_over());
  const iovec nothing{nullptr, 0};
  const __u64 no_tag = 0;
  // The kernel keeps the pages for the writes that are in flight from them.
  const int result = io_uring_register_buffers_update_tag(&ring_, registration - 1, &nothing, &no_tag, 1);
  // An entry that could not be emptied is not used again: its memory may be unmapped, and something else be there soon.
  if (result == 1) free_registrations_.push_back(registration - 1);
  registrations_.erase(found);
}

bool UringDisk::covering_registration(std::span<const std::byte> bytes, std::uint32_t& index) const {
  const std::uintptr_t first = address_of(bytes.data());
  auto next = registrations_.upper_bound(first);
  if (next == registrations_.begin()) return false;
  --next;
  if (first + bytes.size() > next->first + next->second.size) return false;
  index = next->second.index;
  return true;
}

io_uring_sqe* UringDisk::begin_request(FileId file, std::uint64_t token) {
  const std::uint32_t request = idle_requests_.back();
  idle_requests_.pop_back();
  requests_[request] = Request{token, file};
  ++at(file).in_flight;
  if (broken_errno_ != 0) {
    failed_.push_back(Failed{request, broken_errno_});
    raise_signal();
    return nullptr;
  }
  io_uring_sqe* const sqe = io_uring_get_sqe(&ring_);
  SLUICE_ASSERT(sqe != nullptr);
  queued_.push_back(request);
  return sqe;
}

bool UringDisk::submit_write(FileId file, std::uint64_t offset, std::span<const std::byte> bytes, std::uint64_t token) {
  check_write(file, offset, bytes);
  if (full()) return false;
  io_uring_sqe* const sqe = begin_request(file, token);
  if (sqe == nullptr) return true;
  const OpenFile& target = at(file);
  const unsigned size = static_cast<unsigned>(bytes.size());
  std::uint32_t registered = 0;
  if (covering_registration(bytes, registered)) {
    io_uring_prep_write_fixed(sqe, target.write_fd(), bytes.data(), size, offset, static_cast<int>(registered));
  } else {
    io_uring_prep_write(sqe, target.write_fd(), bytes.data(), size, offset);
  }
  io_uring_sqe_set_data64(sqe, queued_.back());
  return true;
}

bool UringDisk::submit_sync(FileId file, std::uint64_t token) {
  const OpenFile& target = at(file);
  SLUICE_ASSERT(target.mode != OpenMode::read);
  if (full()) return false;
  io_uring_sqe* const sqe = begin_request(file, token);
  if (sqe == nullptr) return true;
  io_uring_prep_fsync(sqe, target.write_fd(), IORING_FSYNC_DATASYNC);
  io_uring_sqe_set_data64(sqe, queued_.back());
  return true;
}

// False: the kernel has no room just now, and wants to be asked again.
bool UringDisk::hand_over() {
  while (!queued_.empty()) {
    const int result = io_uring_submit(&ring_);
    if (result > 0) {
      SLUICE_ASSERT(static_cast<std::size_t>(result) <= queued_.size());
      queued_.erase(queued_.begin(), queued_.begin() + result);
    } else if (result == 0 || result == -EAGAIN || result == -EBUSY || result == -ENOMEM) {
      return false;
    } else if (result != -EINTR) {
      fail_queued(-result);
    }
  }
  return true;
}

void UringDisk::fail_queued(int error) {
  broken_errno_ = error;
  for (const std::uint32_t request : queued_) failed_.push_back(Failed{request, error});
  queued_.clear();
}

std::size_t UringDisk::reap(std::span<Completion> into) {
  const bool handed_over = hand_over();
  // Before looking: what completes after the look raises it again.
  take_signal_down();
  std::size_t count = 0;
  io_uring_cqe* cqe = nullptr;
  while (count < into.size() && io_uring_peek_cqe(&ring_, &cqe) == 0) {
    const std::uint32_t request = static_cast<std::uint32_t>(cqe->user_data);
    const std::int64_t result = cqe->res;
    io_uring_cqe_seen(&ring_, cqe);
    into[count++] = finish(request, result);
  }
  while (count < into.size() && !failed_.empty()) {
    into[count++] = finish(failed_.front().request, -failed_.front().error);
    failed_.pop_front();
  }
  if (!handed_over || !failed_.empty() || io_uring_cq_ready(&ring_) > 0) raise_signal();
  return count;
}

Completion UringDisk::finish(std::uint32_t request, std::int64_t result) {
  SLUICE_ASSERT(request < requests_.size());
  OpenFile& file = at(requests_[request].file);
  SLUICE_ASSERT(file.in_flight > 0);
  --file.in_flight;
  idle_requests_.push_back(request);
  return Completion{requests_[request].token, result};
}

void UringDisk::raise_signal() { static_cast<void>(::eventfd_write(event_.get(), 1) == 0); }

void UringDisk::take_signal_down() {
  eventfd_t count = 0;
  static_cast<void>(::eventfd_read(event_.get(), &count) == 0);
}

DiskFeatures UringDisk::features() const {
  DiskFeatures features;
  features.backend = "io_uring";
  features.direct = direct();
  features.registered_buffers = table_registered_ && register_why_not_.empty();
  features.why_not = direct_why_not();
  if (!register_why_not_.empty()) features.why_not += (features.why_not.empty() ? "" : "; ") + register_why_not_;
  if (broken_errno_ != 0) {
    features.why_not +=
        (features.why_not.empty() ? "" : "; ") + what_went_wrong("handing over requests", broken_errno_);
  }
  return features;
}

}  // namespace sluice::io
