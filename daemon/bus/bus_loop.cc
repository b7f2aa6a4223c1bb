#include "daemon/bus/bus_loop.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <thread>
#include <utility>

#include <spdlog/spdlog.h>

#include "shm/base/clock.h"
#include "shm/base/limits.h"
#include "shm/ring/membarrier.h"

namespace sluice::bus {
namespace {

constexpr std::uint64_t kBusyNs = 10'000'000;  // naps so long after the last work
constexpr std::uint64_t kNapNs = 1'000'000;
// While a sender waits for its sync, and so long after the last one's: looks again at once instead of sleeping, for a
// wake-up takes as long as a quick device. Bounded by the last progress, so that a slow device costs no processor.
constexpr std::uint64_t kUrgentNs = 200'000;
constexpr std::uint64_t kDrainNsMax = 30'000'000'000;  // of a stop
constexpr std::size_t kInboxTurnMax = 64;              // closures run in one turn

void drain_eventfd(int fd) {
  std::uint64_t count = 0;
  [[maybe_unused]] const ssize_t size = ::read(fd, &count, sizeof count);  // non-blocking; empty is fine
}

}  // namespace

Result<std::unique_ptr<BusLoop>> BusLoop::create(io::Disk& disk, UniqueFd wake) {
  std::unique_ptr<BusLoop> loop(new BusLoop());
  loop->wake_ = wake ? std::move(wake) : UniqueFd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  loop->epoll_ = UniqueFd(::epoll_create1(EPOLL_CLOEXEC));
  if (!loop->wake_ || !loop->epoll_) return fail(system_error(errno, "making the descriptors of the bus thread"));
  SLUICE_TRY(loop->watch(loop->wake_.get()));
  if (disk.completion_fd() >= 0) SLUICE_TRY(loop->watch(disk.completion_fd()));
  return loop;
}

Status BusLoop::watch(int fd) {
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.fd = fd;
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0)
    return fail(system_error(errno, "watching a descriptor of the bus thread"));
  return {};
}

void BusLoop::wake() {
  const std::uint64_t one = 1;
  [[maybe_unused]] const ssize_t size = ::write(wake_.get(), &one, sizeof one);  // full: it is awake
}

bool BusLoop::post(std::function<void(session::BusInterface&)> call) {
  {
    const std::lock_guard lock(mutex_);
    if (closed_ || inbox_.size() >= kInboxMax) return false;
    inbox_.push_back(std::move(call));
  }
  wake();
  return true;
}

bool BusLoop::has_ended() const {
  const std::lock_guard lock(mutex_);
  return closed_;
}

void BusLoop::stop() {
  // release: pairs with the acquire in run().
  stop_.store(true, std::memory_order_release);
  wake();
}

bool BusLoop::run_inbox(Bus& bus) {
  for (std::size_t ran = 0; ran < kInboxTurnMax; ++ran) {
    std::function<void(session::BusInterface&)> call;
    {
      const std::lock_guard lock(mutex_);
      if (inbox_.empty()) return ran != 0;
      call = std::move(inbox_.front());
      inbox_.pop_front();
    }
    call(bus);
  }
  return true;
}

Status BusLoop::run(Bus& bus) {
  std::uint64_t worked_at = monotonic_ns();
  std::uint64_t urgent_at = 0;
  std::uint64_t stop_by = 0;
  for (;;) {
    turns_.fetch_add(1, std::memory_order_relaxed);
    bool progressed = run_inbox(bus);
    const std::uint64_t now = monotonic_ns();
    const TurnResult turn = bus.do_work(now);
    progressed |= turn.progressed;
    if (stop_.load(std::memory_order_acquire)) {
      if (stop_by == 0) {
        stop_by = now + kDrainNsMax;
        bus.begin_stop();
        progressed = true;
      } else if (!progressed && (bus.drained() || now > stop_by)) {
        break;
      }
    }
    if (turn.urgent) urgent_at = now;
    if (progressed)
      worked_at = now;
    else if (now - urgent_at < kUrgentNs && now - worked_at < kUrgentNs)
      std::this_thread::yield();  // to the kernel's worker that does the sync, if it wants this processor
    else
      sleep(bus, stop_by != 0 || now - worked_at < kBusyNs, turn.deadline_ns);
  }
  std::deque<std::function<void(session::BusInterface&)>> unanswered;
  {
    const std::lock_guard lock(mutex_);
    closed_ = true;
    unanswered.swap(inbox_);
  }
  unanswered.clear();
  if (!bus.drained()) spdlog::error("stopping although not everything is on disk; what a receipt called durable is");
  return bus.finish_stop();
}

void BusLoop::sleep(Bus& bus, bool busy, std::uint64_t deadline_ns) {
  bus.arm(busy ? layout::kBellDaemonNap : layout::kBellDaemon);
  // A napper is called by those who wait, behind their own locked instruction; a sleeper by every commit, which may be
  // a plain store: the membarrier orders those.
  if (busy)
    std::atomic_thread_fence(std::memory_order_seq_cst);
  else
    ring::membarrier_all();
  const std::uint64_t now = monotonic_ns();
  const TurnResult again = bus.do_work(now);
  if (!again.progressed) {
    std::uint64_t timeout = busy ? kNapNs : kDaemonSleepNsMax;
    for (const std::uint64_t deadline : {deadline_ns, again.deadline_ns})
      if (deadline != 0) timeout = std::min(timeout, deadline > now ? deadline - now : 0);
    wait(timeout);
  }
  bus.disarm();
}

void BusLoop::wait(std::uint64_t timeout_ns) {
  std::array<epoll_event, 4> events;
  const timespec timeout{static_cast<time_t>(timeout_ns / 1'000'000'000),
                         static_cast<long>(timeout_ns % 1'000'000'000)};
  if (::epoll_pwait2(epoll_.get(), events.data(), static_cast<int>(events.size()), &timeout, nullptr) > 0)
    drain_eventfd(wake_.get());
}

}  // namespace sluice::bus
