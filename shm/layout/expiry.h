// When a message has expired: one rule for all who look, readers and the daemon.
//
// The earlier of two times counts: its own (the trailer's `expiry`), and the topic's time to live, which runs from when
// consumers could first have it. That is the time of the record that stands in the order: the message's own record, or
// the ref of a delayed or transactional one.
//
// Thread safety: pure functions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "shm/layout/trailer.h"

namespace sluice::layout {

// `time_ns`: of the record that stands in the order; 0 (it has none): never. `ttl_ns` 0: the topic has none.
constexpr bool has_outlived(std::uint64_t time_ns, std::uint64_t ttl_ns, std::uint64_t now_ns) {
  return ttl_ns != 0 && time_ns != 0 && now_ns > time_ns && now_ns - time_ns >= ttl_ns;
}

inline bool has_expired(std::span<const std::byte> trailer, std::uint64_t now_ns) {
  if (trailer.empty()) return false;
  const auto expiry = as_u64(find_entry(trailer, TrailerType::expiry));
  return expiry && now_ns >= *expiry;
}

}  // namespace sluice::layout
