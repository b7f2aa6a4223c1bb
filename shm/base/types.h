// The numbers of a log, as types that do not mix. Explicit conversion only; to_underlying() is `.value`.
// Public: installed with the SDK. No dependencies.
#pragma once

#include <compare>
#include <cstdint>
#include <functional>

namespace sluice {

// Tag makes the type; units are the tag's. Trivially copyable, no invariants.
template <typename Tag, typename Underlying>
struct Strong {
  using underlying_type = Underlying;
  Underlying value = 0;

  constexpr Strong() = default;
  constexpr explicit Strong(Underlying v) : value(v) {}
  constexpr auto operator<=>(const Strong&) const = default;
};

// Byte position in a partition's log. Never used twice.
struct Position : Strong<Position, std::uint64_t> {
  using Strong::Strong;
  constexpr Position operator+(std::uint64_t bytes) const { return Position(value + bytes); }
  constexpr Position operator-(std::uint64_t bytes) const { return Position(value - bytes); }
  // Bytes from `other` to this position.
  constexpr std::uint64_t operator-(Position other) const { return value - other.value; }
};
// position / segment size.
struct SegmentNumber : Strong<SegmentNumber, std::uint64_t> {
  using Strong::Strong;
  constexpr SegmentNumber next() const { return SegmentNumber(value + 1); }
};
// Contiguous per producer and partition, from 1. 0 is "none yet".
struct Sequence : Strong<Sequence, std::uint64_t> {
  using Strong::Strong;
  constexpr Sequence next() const { return Sequence(value + 1); }
};
// One attach of one producer object. Never reused. 0 is the daemon itself.
struct ProducerId : Strong<ProducerId, std::uint32_t> {
  using Strong::Strong;
};
// Never reused, also not after the topic's deletion.
struct TopicId : Strong<TopicId, std::uint32_t> {
  using Strong::Strong;
};
// One life of the bus's memory.
struct Incarnation : Strong<Incarnation, std::uint64_t> {
  using Strong::Strong;
};
// An attached client.
struct SessionId : Strong<SessionId, std::uint64_t> {
  using Strong::Strong;
};
using PartitionNumber = std::uint32_t;  // index of a partition in its topic, from 0

}  // namespace sluice

template <typename T>
requires requires {
  typename T::underlying_type;
  T{}.value;
}
struct std::hash<T> {
  std::size_t operator()(const T& v) const noexcept { return std::hash<typename T::underlying_type>{}(v.value); }
};
