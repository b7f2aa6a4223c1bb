// How a reader or consumer waits while nothing is there: it spins, then sleeps on every word that could bring
// something.
//
// The owner is given as a Waiting object, which the loop asks in this order:
//   Status attend()                       the connection and whatever else is looked at now and then
//   Look look(bool thorough)              thorough: no hints
//   Error take_error()                    why a look has failed
//   std::uint32_t take_found()            records since it was asked last
//   void rest()                           nothing is held any more
//   void announce(words, bound_ns)        raises the flags of who would have news; adds the words to sleep on
//   bool has_changed()                    what attend() looks at is different by now: do not sleep
//   std::uint64_t sleep_bound_ns()
//   Status after_timeout()                what the caller is told
//
// Owner: one thread. Invariant: a sleep comes only after every flag was raised, the barrier passed, and all was looked
// at again in full.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "sdk/bus_link.h"
#include "sdk/partition_stream.h"
#include "shm/base/clock.h"
#include "shm/base/limits.h"
#include "shm/base/result.h"
#include "shm/ring/adaptive_lag.h"
#include "shm/ring/bell.h"
#include "shm/ring/futex.h"
#include "sluice/reader.h"

namespace sluice::internal {

inline std::uint64_t nanoseconds(Duration duration) {
  return duration.count() > 0 ? static_cast<std::uint64_t>(duration.count()) : 0;
}
inline std::uint64_t deadline_after(std::uint64_t now, std::uint64_t timeout_ns) {
  return timeout_ns > ~now ? ~std::uint64_t{0} : now + timeout_ns;
}

// Words to sleep on. Those that one call cannot wait for are left out, and looked at again soon.
class SleepWords {
 public:
  SleepWords() { words_.reserve(kFutexWaitersMax); }
  void clear() { words_.clear(); }
  void add(const ring::FutexWait& word, std::uint64_t& bound_ns) {
    if (words_.size() < kFutexWaitersMax)
      words_.push_back(word);
    else
      bound_ns = std::min(bound_ns, kManyWordsNs);
  }
  void sleep(std::uint64_t timeout_ns) const { ring::futex_wait_any(words_, timeout_ns); }

 private:
  static constexpr std::uint64_t kManyWordsNs = 10'000'000;
  std::vector<ring::FutexWait> words_;
};

class WaitLoop {
 public:
  WaitLoop(const BusLink& link, WaitStrategy strategy, Duration spin_time, std::uint64_t& sleeps)
      : link_(link), strategy_(strategy), spin_time_(spin_time), sleeps_(sleeps) {}

  // Until there is a record, `timeout_ns` has passed (0: one look), or nothing can come any more.
  template <typename Waiting>
  Status wait(Waiting& waiting, std::uint64_t timeout_ns) {
    const std::uint64_t start = monotonic_ns();
    const std::uint64_t deadline = deadline_after(start, timeout_ns);
    std::uint64_t spin_until = start;
    if (strategy_ == WaitStrategy::spin) spin_until = deadline;
    if (strategy_ == WaitStrategy::spin_then_sleep) spin_until = deadline_after(start, nanoseconds(spin_time_));
    Status status;
    for (std::uint32_t looks = 0;; ++looks) {
      if (looks % kLooksPerClock == 0) SLUICE_TRY(waiting.attend());
      const Look found = waiting.look(false);
      if (found == Look::record) return {};
      if (found == Look::failed) return fail(waiting.take_error());
      if (found == Look::nothing) {
        lag_.after_look(waiting.take_found());
        if (timeout_ns == 0) break;
      }
      if (looks % kLooksPerClock != 0 && spin_until != start) continue;
      const std::uint64_t now = monotonic_ns();
      if (now >= deadline && timeout_ns != 0) break;
      if (found == Look::nothing && now >= spin_until && sleep(waiting, deadline, status)) return status;
    }
    waiting.rest();
    return waiting.after_timeout();
  }

 private:
  // Empty looks between two looks at the clock while spinning.
  static constexpr std::uint32_t kLooksPerClock = 32;

  // True if the wait is over: a record was found, or `status` says why not.
  template <typename Waiting>
  bool sleep(Waiting& waiting, std::uint64_t deadline_ns, Status& status) {
    words_.clear();
    std::uint64_t bound = ring::sleep_bound_ns();
    // acquire: pairs with BusLink::changed(); the connection is looked at behind it.
    const std::uint32_t change = link_.change_word().load(std::memory_order_acquire);
    words_.add({&link_.change_word(), change}, bound);
    status = waiting.attend();
    if (!status) return true;
    waiting.rest();
    waiting.announce(words_, bound);
    ring::Bell::barrier();
    if (waiting.has_changed()) return false;
    const Look found = waiting.look(true);
    if (found == Look::record) return true;
    if (found == Look::failed) {
      status = fail(waiting.take_error());
      return true;
    }
    if (found == Look::more) return false;
    waiting.rest();
    bound = std::min(bound, waiting.sleep_bound_ns());
    const std::uint64_t now = monotonic_ns();
    if (now >= deadline_ns) return false;
    ++sleeps_;
    words_.sleep(std::min(bound, deadline_ns - now));
    return false;
  }

  // Constant.
  const BusLink& link_;
  const WaitStrategy strategy_;
  const Duration spin_time_;
  // The owner's thread.
  std::uint64_t& sleeps_;
  ring::AdaptiveLag lag_;
  SleepWords words_;
};

// What a wait that has found nothing answers.
inline Status nothing_came(const BusLink& link) {
  if (!BusLink::online(link.word())) {
    // While the daemon is away and its memory goes on, no message is all that there is to say.
    const bool goes_on = link.memory_kept() && link.state() != ConnectionState::closed;
    if (Status health = goes_on ? Status() : link.health(); !health)
      return fail(health.error().code(), "waiting for a message: " + health.error().context());
  }
  return fail(ErrorCode::timed_out, "no message yet");  // short: fits into the string itself, for those who poll
}

}  // namespace sluice::internal
