#include "sdk/readiness.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <utility>

#include "shm/base/limits.h"

namespace sluice::internal {
namespace {

Status add(int set, int fd) {
  epoll_event event{};
  event.events = EPOLLIN;
  if (::epoll_ctl(set, EPOLL_CTL_ADD, fd, &event) == 0) return {};
  return fail(system_error(errno, "making a consumer's descriptor"));
}

void read_out(int fd) {
  std::uint64_t count = 0;
  if (fd >= 0) static_cast<void>(::read(fd, &count, sizeof count) == sizeof count);
}

}  // namespace

Result<Readiness> Readiness::make() {
  Readiness made;
  made.epoll_ = UniqueFd(::epoll_create1(EPOLL_CLOEXEC));
  made.own_ = UniqueFd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  made.timer_ = UniqueFd(::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK));
  if (!made.epoll_ || !made.own_ || !made.timer_) return fail(system_error(errno, "making a consumer's descriptor"));
  SLUICE_TRY(add(made.fd(), made.own_.get()));
  SLUICE_TRY(add(made.fd(), made.timer_.get()));
  return made;
}

Status Readiness::watch(int member_fd) {
  // Its description stays open elsewhere, so closing the duplicate is not enough.
  if (member_) static_cast<void>(::epoll_ctl(fd(), EPOLL_CTL_DEL, member_.get(), nullptr));
  member_ = UniqueFd(member_fd < 0 ? -1 : ::fcntl(member_fd, F_DUPFD_CLOEXEC, 0));
  if (!member_) return {};
  // It is drained by our reads, which must not wait.
  static_cast<void>(::fcntl(member_.get(), F_SETFL, ::fcntl(member_.get(), F_GETFL) | O_NONBLOCK));
  return add(fd(), member_.get());
}

void Readiness::drain() {
  read_out(member_.get());
  read_out(own_.get());
  itimerspec once{};
  once.it_value.tv_sec = kSleepNsMax / 1'000'000'000;
  once.it_value.tv_nsec = kSleepNsMax % 1'000'000'000;
  // Setting it takes back what has expired.
  static_cast<void>(::timerfd_settime(timer_.get(), 0, &once, nullptr));
}

void Readiness::kick() {
  const std::uint64_t one = 1;
  static_cast<void>(::write(own_.get(), &one, sizeof one) == sizeof one);
}

}  // namespace sluice::internal
