#include "sdk/cli/exit_code.h"

namespace sluice::cli {

ExitCode exit_code(ErrorCode code) {
  switch (code) {
    case ErrorCode::invalid: return kExitUsage;
    case ErrorCode::no_daemon: return kExitNoDaemon;
    case ErrorCode::permission:
    case ErrorCode::quota:
    case ErrorCode::too_large:
    case ErrorCode::no_memory:
    case ErrorCode::revoked:
    case ErrorCode::version: return kExitRefused;
    case ErrorCode::not_found:
    case ErrorCode::closed: return kExitNotFound;
    // Sent again, each of these may succeed.
    case ErrorCode::would_block:
    case ErrorCode::timed_out:
    case ErrorCode::unknown:
    case ErrorCode::claim_expired: return kExitBackPressure;
    case ErrorCode::io:
    case ErrorCode::corrupt:
    case ErrorCode::internal: return kExitIo;
    case ErrorCode::exists:
    case ErrorCode::conflict:
    case ErrorCode::fenced:
    case ErrorCode::in_use: return kExitConflict;
  }
  return kExitIo;
}

std::string_view advice(ErrorCode code) {
  switch (code) {
    case ErrorCode::permission: return "ask the operator: the socket's group, or the topic's publishers and consumers";
    case ErrorCode::version: return "use the sluice that came with the daemon";
    case ErrorCode::io: return "look at sluice doctor, sluice topic describe and the daemon's log";
    case ErrorCode::unknown: return "it may be delivered or not: read the topic before sending it again";
    case ErrorCode::internal: return "this is a defect of Sluice: please report it";
    default: return {};
  }
}

}  // namespace sluice::cli
