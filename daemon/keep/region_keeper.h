// Whoever holds descriptors beyond the daemon's death and hands them to the next one, under their names: systemd's
// file-descriptor store, or the keeper process (keeper.h).
//
// Owner: the bus thread.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>

#include "shm/base/fd.h"
#include "shm/base/result.h"

namespace sluice::keep {

// The daemon's listening socket.
inline constexpr const char* kListenName = "listen";

// Descriptors that are held at most, whoever holds them, and the length of a name: the names come to the next daemon in
// a single environment string, and a longer one would keep it from being started.
inline constexpr std::uint64_t kHeldMax = 8192;
inline constexpr std::size_t kHeldNameMax = 14;
inline constexpr std::size_t kEnvironmentStringMax = 128 * 1024;  // the kernel's MAX_ARG_STRLEN
static_assert(kHeldMax * (kHeldNameMax + 1) + sizeof("LISTEN_FDNAMES=") <= kEnvironmentStringMax);

// What the last daemon left, by name.
using Inheritance = std::map<std::string, UniqueFd, std::less<>>;

class RegionKeeper {
 public:
  virtual ~RegionKeeper() = default;
  // Has the descriptor's description held under that name (letters and digits, kHeldNameMax). It is held once a barrier
  // behind it was passed. quota: no room; io: nobody listens.
  virtual Status keep(const std::string& name, int fd) = 0;
  virtual void drop(const std::string& name) = 0;
  virtual void drop_all_but(const std::set<std::string>& names) = 0;
  // Waits until all that was said before is done; timed_out.
  virtual Status barrier() = 0;
  // The same without waiting: the descriptor becomes readable (at its end) when it is done.
  virtual Result<UniqueFd> begin_barrier() = 0;
  // Descriptors that can be held, and are.
  virtual std::uint64_t capacity() const = 0;
  virtual std::uint64_t held() const = 0;
};

}  // namespace sluice::keep
