// Shared futexes: they work on any mapping of the same page, read-only ones included, in any process.
#pragma once

#include <atomic>
#include <cstdint>
#include <span>

namespace sluice::ring {

// Sleeps while *word == expected, at most timeout_ns. Returns on wake, change, signal or timeout alike: look again.
void futex_wait(const std::atomic<std::uint32_t>& word, std::uint32_t expected, std::uint64_t timeout_ns);

struct FutexWait {
  const std::atomic<std::uint32_t>* word = nullptr;
  std::uint32_t expected = 0;
};
// The same over several words (at most kFutexWaitersMax; more are left out, so bound the timeout).
void futex_wait_any(std::span<const FutexWait> words, std::uint64_t timeout_ns);

void futex_wake_all(const std::atomic<std::uint32_t>& word);

}  // namespace sluice::ring
