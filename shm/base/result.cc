#include "shm/base/result.h"

#include <cerrno>
#include <system_error>

namespace sluice {

std::string_view name(ErrorCode code) {
  switch (code) {
    case ErrorCode::invalid: return "invalid";
    case ErrorCode::no_daemon: return "no_daemon";
    case ErrorCode::permission: return "permission";
    case ErrorCode::quota: return "quota";
    case ErrorCode::too_large: return "too_large";
    case ErrorCode::not_found: return "not_found";
    case ErrorCode::exists: return "exists";
    case ErrorCode::conflict: return "conflict";
    case ErrorCode::would_block: return "would_block";
    case ErrorCode::timed_out: return "timed_out";
    case ErrorCode::unknown: return "unknown";
    case ErrorCode::claim_expired: return "claim_expired";
    case ErrorCode::fenced: return "fenced";
    case ErrorCode::revoked: return "revoked";
    case ErrorCode::closed: return "closed";
    case ErrorCode::io: return "io";
    case ErrorCode::corrupt: return "corrupt";
    case ErrorCode::no_memory: return "no_memory";
    case ErrorCode::in_use: return "in_use";
    case ErrorCode::version: return "version";
    case ErrorCode::internal: return "internal";
  }
  return "unnamed";
}

std::string Error::message() const {
  std::string text = context_;
  if (errno_ != 0) text += ": " + std::generic_category().message(errno_);
  text += " (";
  text += name(code_);
  text += ')';
  return text;
}

Error system_error(int system_errno, std::string context) {
  ErrorCode code = ErrorCode::io;
  switch (system_errno) {
    case ENOENT: code = ErrorCode::not_found; break;
    case EACCES:
    case EPERM: code = ErrorCode::permission; break;
    case EEXIST: code = ErrorCode::exists; break;
    case ENOMEM:
    case EMFILE:
    case ENFILE: code = ErrorCode::no_memory; break;
    case ENOSPC:
    case EDQUOT: code = ErrorCode::would_block; break;
    case ETIMEDOUT: code = ErrorCode::timed_out; break;
    default: break;
  }
  return Error(code, std::move(context), system_errno);
}

}  // namespace sluice
