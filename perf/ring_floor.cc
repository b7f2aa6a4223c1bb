#include "perf/ring_floor.h"

#include <x86intrin.h>

#include <algorithm>
#include <cstring>

#include "shm/base/clock.h"
#include "shm/ring/adaptive_lag.h"

namespace sluice::perf {

std::uint64_t cycles() { return __rdtsc(); }

double cycles_per_ns() {
  static const double rate = [] {
    const std::uint64_t start_ns = monotonic_ns();
    const std::uint64_t start = cycles();
    while (monotonic_ns() - start_ns < 20'000'000) {
    }
    return static_cast<double>(cycles() - start) / static_cast<double>(monotonic_ns() - start_ns);
  }();
  return rate;
}

Percentiles percentiles(std::vector<std::uint64_t>& samples) {
  if (samples.empty()) return {};
  std::sort(samples.begin(), samples.end());
  const auto at = [&](double part) {
    return static_cast<double>(samples[static_cast<std::size_t>(part * static_cast<double>(samples.size() - 1))]) /
           cycles_per_ns();
  };
  return {at(0.50), at(0.99)};
}

Percentiles ping(PingPong& line, std::uint32_t rounds) {
  std::vector<std::uint64_t> samples;
  samples.reserve(rounds);
  for (std::uint32_t i = 0; i < rounds; ++i) {
    const std::uint64_t start = cycles();
    // release, acquire: the two sides of one hand-over, as a ring's commit and read are.
    line.turn.store(1, std::memory_order_release);
    while (line.turn.load(std::memory_order_acquire) != 0) ring::cpu_pause();
    samples.push_back(cycles() - start);
  }
  return percentiles(samples);
}

void pong(PingPong& line, std::uint32_t rounds) {
  for (std::uint32_t i = 0; i < rounds; ++i) {
    while (line.turn.load(std::memory_order_acquire) != 1) ring::cpu_pause();
    line.turn.store(0, std::memory_order_release);
  }
}

double copy_bytes_per_s() {
  constexpr std::size_t kSize = 1 << 20;
  constexpr std::uint32_t kCopies = 60;
  static std::vector<char> from(kSize, 'a');
  static std::vector<char> to(kSize, 'b');
  std::memcpy(to.data(), from.data(), kSize);
  const std::uint64_t start_ns = monotonic_ns();
  for (std::uint32_t i = 0; i < kCopies; ++i) {
    from[i] = static_cast<char>(i);
    std::memcpy(to.data(), from.data(), kSize);
    asm volatile("" : : "r"(to.data()) : "memory");
  }
  return static_cast<double>(kSize) * kCopies * 1e9 / static_cast<double>(monotonic_ns() - start_ns);
}

}  // namespace sluice::perf
