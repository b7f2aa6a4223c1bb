// The daemon, put together: directory, store, disk, bus, control server, and the threads they run on.
//
// Threads: "sluice-bus" runs the bus loop, "sluice-control" the control server; the caller of run() waits for signals.
// Start order: data directory → store → disk → bus (recovery) → socket → ready. Stop order: bus drained → server →
// store. The socket listens before the recovery, so that a second daemon is refused at once and clients wait instead of
// failing.
#pragma once

#include "daemon/main/config.h"
#include "shm/base/result.h"

namespace sluice::daemon {

// Runs until SIGTERM or SIGINT and returns sluiced's exit code: 0 clean stop · 2 configuration · 3 directory or socket
// in use · 4 refused by the system · 7 data that it will not touch. Errors have been logged.
int run(const Config& config);

// The exit code of an error at start.
int exit_code(const Error& error);

}  // namespace sluice::daemon
