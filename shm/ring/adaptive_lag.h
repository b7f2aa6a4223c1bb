// Pacing of a spinning consumer. One that looks again at once after each record meets the producer on every line: both
// run at the speed of the line's travel. Letting the producer run ahead a few microseconds brings several records per
// look. Owner: one reader thread.
#pragma once

#include <cstdint>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace sluice::ring {

inline void cpu_pause() {
#if defined(__x86_64__)
  _mm_pause();
#endif
}

class AdaptiveLag {
 public:
  // After a look that found `records` (0: nothing): waits if the stream has been coming one by one.
  void after_look(std::uint32_t records) {
    if (records == 0) {
      // A quiet log: the next record is a message of its own, and wants no delay.
      if (++empty_looks_ > kQuietLooks) singles_ = 0;
      cpu_pause();
      return;
    }
    singles_ = records == 1 && empty_looks_ <= kQuietLooks ? singles_ + 1 : 0;
    empty_looks_ = 0;
    if (singles_ >= kSinglesMin) {
      for (std::uint32_t i = 0; i < kLagPauses; ++i) cpu_pause();
    }
  }

 private:
  static constexpr std::uint32_t kSinglesMin = 4;    // records found one by one in a row
  static constexpr std::uint32_t kQuietLooks = 64;   // empty looks that make a stream quiet
  static constexpr std::uint32_t kLagPauses = 100;   // about 2–4 µs
  std::uint32_t singles_ = 0;
  std::uint32_t empty_looks_ = 0;
};

}  // namespace sluice::ring
