// The bus thread's loop and its inbox: runs do_work() while there is work, and sleeps on descriptors when there is
// none.
//
//   work ── no progress ──▶ arm (raise the flag in every bell, barrier) ── work once more ── no progress ──▶ sleep
//
// While it was busy a moment ago it naps (kNapNs at most; only who is out of room, crosses a segment or waits for
// `durable` wakes it), so that a stream of commits costs no wake-ups. After kBusyNs without work it sleeps until
// somebody commits, a descriptor is ready, a deadline passes, or kDaemonSleepNsMax: an idle daemon does nothing.
//
// Thread safety: post() and stop() from any thread; run() on the bus thread.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>

#include "daemon/bus/bus.h"
#include "daemon/session/bus_interface.h"
#include "shm/base/fd.h"

namespace sluice::bus {

inline constexpr std::size_t kInboxMax = 65536;  // closures waiting

class BusLoop final : public session::BusPoster {
 public:
  // no_memory: descriptors are refused.
  // `wake`: the eventfd of the daemon before, if clients still hold that; else a new one is made.
  static Result<std::unique_ptr<BusLoop>> create(io::Disk& disk, UniqueFd wake = {});

  // From here on the bus thread wakes while it is readable; what makes it so is taken down by a turn of the bus. It
  // goes when it is closed.
  Status watch(int fd);

  bool post(std::function<void(session::BusInterface&)> call) override;
  bool has_ended() const override;
  // The eventfd that wakes the bus thread: clients get a copy.
  int wake_fd() const { return wake_.get(); }
  // Runs until stop() was called and everything is drained (or kDrainNsMax have passed).
  Status run(Bus& bus);
  void stop();
  // Has it turn once, if it sleeps. Any thread.
  void wake();
  // Grows by itself while the bus thread works, at least every kDaemonSleepNsMax. Any thread.
  std::uint64_t turns() const { return turns_.load(std::memory_order_relaxed); }

 private:
  BusLoop() = default;
  bool run_inbox(Bus& bus);
  void sleep(Bus& bus, bool busy, std::uint64_t deadline_ns);
  void wait(std::uint64_t timeout_ns);

  UniqueFd wake_;
  UniqueFd epoll_;
  std::atomic<bool> stop_{false};
  std::atomic<std::uint64_t> turns_{0};
  mutable std::mutex mutex_;  // guards the two below
  std::deque<std::function<void(session::BusInterface&)>> inbox_;
  bool closed_ = false;
};

}  // namespace sluice::bus
