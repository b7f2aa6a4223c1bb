// The keeper: a small process that is the daemon's parent where no service manager has a file-descriptor store. It
// holds the descriptors that the daemon gives it, starts the daemon again when it has died, hands them back to it, and
// passes signals on.
//
// It speaks systemd's protocols (sd_notify: FDSTORE, FDSTOREREMOVE, BARRIER, READY, WATCHDOG; sd_listen_fds), so the
// daemon cannot tell it from systemd. Only its own child is listened to. One thread.
//
//   SIGTERM, SIGINT  the daemon stops, then the keeper ends with its exit code
//   SIGHUP           to the daemon
//   daemon ends by itself: started again, from the same path (so a newer binary in its place takes over); given up when
//   kStartsFailedMax starts in a row did not get ready, or the very first did not.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace sluice::keep {

inline constexpr std::uint32_t kStartsFailedMax = 20;
// A daemon that says nothing for so long is killed and started again.
inline constexpr std::uint64_t kKeeperWatchdogUs = 30'000'000;

struct KeeperOptions {
  std::string binary;                  // absolute path of the daemon
  std::vector<std::string> arguments;  // argv, the first one included
  std::uint64_t watchdog_us = kKeeperWatchdogUs;
};

// Returns the exit code to end with. Call it before any thread is started.
int run_keeper(const KeeperOptions& options);

}  // namespace sluice::keep
