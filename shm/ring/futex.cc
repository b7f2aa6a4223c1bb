#include "shm/ring/futex.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <climits>
#include <cstdint>
#include <ctime>

#include "shm/base/clock.h"
#include "shm/base/limits.h"

namespace sluice::ring {
namespace {

constexpr long kFutexWaitvSyscall = 449;  // not in Debian 12's libc headers for every architecture

timespec to_timespec(std::uint64_t ns) {
  return {static_cast<time_t>(ns / 1'000'000'000), static_cast<long>(ns % 1'000'000'000)};
}

std::uint32_t* address_of(const std::atomic<std::uint32_t>& word) {
  return reinterpret_cast<std::uint32_t*>(const_cast<std::atomic<std::uint32_t>*>(&word));
}

}  // namespace

void futex_wait(const std::atomic<std::uint32_t>& word, std::uint32_t expected, std::uint64_t timeout_ns) {
  const timespec timeout = to_timespec(timeout_ns);
  ::syscall(SYS_futex, address_of(word), FUTEX_WAIT, expected, &timeout, nullptr, 0);
}

void futex_wait_any(std::span<const FutexWait> words, std::uint64_t timeout_ns) {
  if (words.size() == 1) return futex_wait(*words[0].word, words[0].expected, timeout_ns);
  futex_waitv waiters[kFutexWaitersMax] = {};
  const std::size_t count = std::min<std::size_t>(words.size(), kFutexWaitersMax);
  for (std::size_t i = 0; i < count; ++i) {
    waiters[i].uaddr = reinterpret_cast<std::uintptr_t>(address_of(*words[i].word));
    waiters[i].val = words[i].expected;
    waiters[i].flags = FUTEX_32;
  }
  // futex_waitv takes an absolute deadline.
  const timespec deadline = to_timespec(monotonic_ns() + timeout_ns);
  ::syscall(kFutexWaitvSyscall, waiters, static_cast<unsigned>(count), 0, &deadline, CLOCK_MONOTONIC);
}

void futex_wake_all(const std::atomic<std::uint32_t>& word) {
  ::syscall(SYS_futex, address_of(word), FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0);
}

}  // namespace sluice::ring
