// Pacing of a spinning consumer. One that looks again at once after each record meets the producer on every line: both
// run at the speed of the line's travel. Letting the producer run ahead a few microseconds brings many records per
// look.
//
// A lag that brings nothing is latency for nothing (a request and its answer are single records too), so it is tried:
// kept while a look after it finds kWorthwhile records, else left off, and tried again after ever more single records.
// Where a short lag brings kDense records, a long one costs the producer even fewer meetings.
// Owner: one reader thread.
#pragma once

#include <algorithm>
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
  // After a look that found `records` (0: nothing), and has seen all there was.
  void after_look(std::uint32_t records) {
    if (records == 0) return cpu_pause();
    if (records >= kWorthwhile) {
      singles_ = 0;
      if (!lagging_) return;
      failures_ = 0;
      patience_ = kPatienceMin;
      pauses_ = records >= kDense ? kLagPausesDense : kLagPauses;
    } else if (lagging_) {
      if (++failures_ == kFailuresMax) {
        lagging_ = false;
        singles_ = 0;
        patience_ = std::min(patience_ * 2, kPatienceMax);
      }
    } else if (++singles_ == patience_) {
      lagging_ = true;
      failures_ = 0;
      pauses_ = kLagPauses;
    }
    if (lagging_) {
      for (std::uint32_t i = 0; i < pauses_; ++i) cpu_pause();
    }
  }

 private:
  static constexpr std::uint32_t kWorthwhile = 8;      // records that a look after a lag must find
  static constexpr std::uint32_t kDense = 64;          // the same, for a long lag
  static constexpr std::uint32_t kFailuresMax = 3;     // looks in a row that did not
  static constexpr std::uint32_t kPatienceMin = 16;    // looks in a row with few records before a lag is tried
  static constexpr std::uint32_t kPatienceMax = 4096;  // the same, after it has failed again and again
  static constexpr std::uint32_t kLagPauses = 128;     // about 5 µs
  static constexpr std::uint32_t kLagPausesDense = 512;
  bool lagging_ = false;
  std::uint32_t singles_ = 0;
  std::uint32_t failures_ = 0;
  std::uint32_t patience_ = kPatienceMin;
  std::uint32_t pauses_ = kLagPauses;
};

}  // namespace sluice::ring
