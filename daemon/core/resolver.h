// What a resolver is: a command that says what became of a producer group's transactions when none of its producers
// lives. Pure values, checked in one place.
// Thread safety: values.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "shm/base/result.h"

namespace sluice::core {

inline constexpr std::size_t kResolversMax = 64;
inline constexpr std::size_t kResolverWordsMax = 64;        // of a command, its path included
inline constexpr std::size_t kResolverWordSizeMax = 4096;   // bytes of each
inline constexpr std::size_t kResolverRunsMax = 4;          // at a time, in one daemon
inline constexpr std::size_t kResolverRunsPerGroupMax = 2;  // so that one that hangs leaves room for the others
inline constexpr std::uint64_t kResolverTimeoutNsDefault = 10'000'000'000;
inline constexpr std::uint64_t kResolverTimeoutNsMin = 100'000'000;
inline constexpr std::uint64_t kResolverTimeoutNsMax = 600'000'000'000;

struct ResolverConfig {
  std::string group;                 // of producers; its whole name
  std::vector<std::string> command;  // an absolute path, and its arguments; no shell
  std::uint64_t timeout_ns = kResolverTimeoutNsDefault;
  bool operator==(const ResolverConfig&) const = default;
};

// invalid, with the reason.
Status check(const ResolverConfig& resolver);
// Each of them, their number, and that a group has one.
Status check(const std::vector<ResolverConfig>& resolvers);

}  // namespace sluice::core
