// Loss detection: each producer's sequence numbers in a partition are contiguous; a gap is a loss, a step back a
// repeat.
//
// Owner: one reader, one partition. Aborted claims use up one number each, and are told here as they are passed. The
// first number seen of a producer is where its row starts: a reader may begin anywhere. Producer ids come out of shared
// memory and are never reused: above kProducersTrackedMax of them all rows start anew.
#pragma once

#include <cstdint>
#include <unordered_map>

#include "shm/base/limits.h"
#include "shm/base/types.h"

namespace sluice::ring {

class Continuity {
 public:
  enum class Verdict : std::uint8_t { first, next, gap, repeat };

  // `expected` is set on gap and repeat.
  Verdict on_record(ProducerId producer, Sequence sequence, Sequence& expected) {
    if (producer != last_producer_ || next_ == nullptr) find(producer);
    const std::uint64_t next = *next_;
    if (sequence.value == next) {
      *next_ = next + 1;
      return Verdict::next;
    }
    if (next == 0) {
      *next_ = sequence.value + 1;
      return Verdict::first;
    }
    expected = Sequence(next);
    if (sequence.value < next) return Verdict::repeat;
    *next_ = sequence.value + 1;
    return Verdict::gap;
  }
  void on_abort(ProducerId producer) {
    if (producer != last_producer_ || next_ == nullptr) find(producer);
    if (*next_ != 0) ++*next_;
  }
  void clear() {
    expected_.clear();
    next_ = nullptr;
  }

 private:
  void find(ProducerId producer) {
    if (expected_.size() >= kProducersTrackedMax && !expected_.contains(producer)) expected_.clear();
    last_producer_ = producer;
    next_ = &expected_[producer];  // nodes of an unordered_map stay where they are
  }
  std::unordered_map<ProducerId, std::uint64_t> expected_;  // 0: not seen yet
  ProducerId last_producer_;
  std::uint64_t* next_ = nullptr;
};

}  // namespace sluice::ring
