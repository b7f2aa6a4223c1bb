// The first word of every record: who claimed it, how long it is, what it is, and its state, in one atomic step.
//
//   bits  0–2   state     free 0 · claimed 1 · committed 2 · aborted 3
//   bit   3     trailer   1 if a trailer follows the payload
//   bits  4–7   kind      data 0 · half 1 · delayed 2 · ref 3 · fence 4 · pad 5
//   bits  8–31  span      whole length in 64-byte units, header included
//   bits 32–63  producer
//
// 0 is free: memory that was never claimed. A state only ever moves free → claimed → committed | aborted, or
// free → committed for a pad.
#pragma once

#include <cstdint>

#include "shm/base/types.h"

namespace sluice::layout {

enum class RecordState : std::uint8_t { free = 0, claimed = 1, committed = 2, aborted = 3 };
enum class RecordKind : std::uint8_t { data = 0, half = 1, delayed = 2, ref = 3, fence = 4, pad = 5 };
// A message that readers get where a ref to it stands.
constexpr bool waits_for_ref(RecordKind kind) { return kind == RecordKind::half || kind == RecordKind::delayed; }

inline constexpr std::uint64_t kRecordAlignment = 64;
inline constexpr std::uint64_t kSpanUnitsMax = (1u << 24) - 1;

struct ClaimWord {
  std::uint64_t bits = 0;

  static constexpr ClaimWord make(ProducerId producer, std::uint64_t span_units, RecordKind kind, bool trailer,
                                  RecordState state) {
    return ClaimWord{static_cast<std::uint64_t>(state) | (static_cast<std::uint64_t>(trailer) << 3) |
                     (static_cast<std::uint64_t>(kind) << 4) | (span_units << 8) |
                     (static_cast<std::uint64_t>(producer.value) << 32)};
  }
  // The kind's and state's bits as they stand: a hostile word may hold values without a name.
  constexpr RecordState state() const { return static_cast<RecordState>(bits & 7); }
  constexpr bool has_trailer() const { return (bits >> 3) & 1; }
  constexpr RecordKind kind() const { return static_cast<RecordKind>((bits >> 4) & 15); }
  constexpr std::uint64_t span_units() const { return (bits >> 8) & kSpanUnitsMax; }
  constexpr std::uint64_t span_size() const { return span_units() * kRecordAlignment; }
  constexpr ProducerId producer() const { return ProducerId(static_cast<std::uint32_t>(bits >> 32)); }

  constexpr bool is_free() const { return bits == 0; }
  constexpr bool is_claimed() const { return state() == RecordState::claimed; }
  constexpr bool is_final() const { return state() == RecordState::committed || state() == RecordState::aborted; }
  constexpr ClaimWord with_state(RecordState s) const {
    return ClaimWord{(bits & ~std::uint64_t{7}) | static_cast<std::uint64_t>(s)};
  }
  // A word that some writer of ours can have written, `room` bytes from the end of its segment.
  constexpr bool is_possible(std::uint64_t room) const {
    return bits != 0 && (bits & 7) >= 1 && (bits & 7) <= 3 && ((bits >> 4) & 15) <= 5 && span_units() != 0 &&
           span_size() <= room;
  }
  constexpr bool operator==(const ClaimWord&) const = default;
};

}  // namespace sluice::layout
