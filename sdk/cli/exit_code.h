// The exit codes of `sluice`, as scripts rely on them (sluice(1), EXIT STATUS).
// Thread safety: pure functions.
#pragma once

#include <string_view>

#include "shm/base/result.h"

namespace sluice::cli {

enum ExitCode : int {
  kExitDone = 0,
  kExitCheckFailed = 1,  // audit, doctor
  kExitUsage = 2,
  kExitNoDaemon = 3,
  kExitRefused = 4,  // permission, quota, too large
  kExitNotFound = 5,
  kExitBackPressure = 6,  // timed out, or no room: a full ring, a full disk
  kExitIo = 7,            // an I/O error in the daemon, damaged bytes
  kExitConflict = 8,      // exists already, another decision or holder stands
};

// The one place where an error becomes an exit code.
ExitCode exit_code(ErrorCode code);

// What to do, for the codes where the error's own words cannot know; empty for the others.
std::string_view advice(ErrorCode code);

}  // namespace sluice::cli
