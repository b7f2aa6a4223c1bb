// Result and Error: how every fallible call of Sluice answers.
//
// An Error says what its receiver does next (its code), what the system said (its errno, 0 if none), and in one or two
// lines what was being done, to what, why it failed and what to do. Public: installed with the SDK.
// Thread safety: values; no shared state.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include <tl/expected.hpp>

// What a program outside libsluice.so may link to; everything else stays inside (-fvisibility=hidden).
#define SLUICE_EXPORT __attribute__((visibility("default")))

namespace sluice {

// Each code names what the caller does next. The command's exit codes (docs: sluice(1)) follow from it.
enum class ErrorCode : std::uint8_t {
  invalid = 1,    // the call itself is wrong: mend it
  no_daemon,      // nobody answers on the socket: start the daemon, or wait for the reconnect
  permission,     // refused: ask the operator
  quota,          // a named limit is reached: use less
  too_large,      // the message is above the topic's limit: split it
  not_found,      // no such topic, partition, position, …
  exists,         // it is there already
  conflict,       // another decision stands
  would_block,    // no room now: back off, or wait
  timed_out,      // waited as long as asked: the outcome of a send is unknown
  unknown,        // a receipt whose memory was lost: it may or may not be delivered
  claim_expired,  // the claim was aborted (deadline, fence): send again
  fenced,         // a newer holder of this producer name exists: stop
  revoked,        // the session was ended by the daemon: reconnect
  closed,         // the object is closed, or the topic deleted
  io,             // the disk failed: the partition is poisoned until an operator has looked
  corrupt,        // bytes that cannot be right, with their place
  no_memory,      // memory for slots, descriptors or mappings is refused
  in_use,         // the data directory or socket belongs to another daemon
  version,        // a format or protocol that this build does not know: not touched
  internal,       // a defect of Sluice: report it
};

// The code's name as scripts see it: "would_block".
SLUICE_EXPORT std::string_view name(ErrorCode code);

class SLUICE_EXPORT Error {
 public:
  Error(ErrorCode code, std::string context, int system_errno = 0)
      : code_(code), errno_(system_errno), context_(std::move(context)) {}

  ErrorCode code() const { return code_; }
  // The system's errno, 0 if no system call was involved.
  int system_errno() const { return errno_; }
  const std::string& context() const { return context_; }
  // "opening /var/…/0.log: No such file or directory (not_found)"
  std::string message() const;

 private:
  ErrorCode code_;
  int errno_;
  std::string context_;
};

// A class of its own, for an alias cannot be [[nodiscard]].
template <typename T>
class [[nodiscard]] Result : public tl::expected<T, Error> {
 public:
  using tl::expected<T, Error>::expected;
};
// For calls that return nothing but success.
using Status = Result<void>;

inline tl::unexpected<Error> fail(ErrorCode code, std::string context, int system_errno = 0) {
  return tl::unexpected<Error>(Error(code, std::move(context), system_errno));
}
inline tl::unexpected<Error> fail(Error error) { return tl::unexpected<Error>(std::move(error)); }

// The Error of a failed system call: the code follows from the errno (ENOENT → not_found, EACCES → permission,
// ENOMEM → no_memory, ENOSPC → would_block, anything else → io).
SLUICE_EXPORT Error system_error(int system_errno, std::string context);

}  // namespace sluice

// Evaluates a Result or Status, and returns its error from the enclosing function if it failed.
#define SLUICE_TRY(expression)                                                        \
  do {                                                                                \
    if (auto sluice_try_result = (expression); !sluice_try_result)                    \
      return ::tl::unexpected<::sluice::Error>(std::move(sluice_try_result).error()); \
  } while (false)

#define SLUICE_CONCAT_INNER(a, b) a##b
#define SLUICE_CONCAT(a, b) SLUICE_CONCAT_INNER(a, b)
// SLUICE_ASSIGN(auto x, call()): declares x with the value of a Result, or returns its error.
#define SLUICE_ASSIGN(declaration, expression) \
  SLUICE_ASSIGN_INNER(SLUICE_CONCAT(sluice_assign_, __LINE__), declaration, expression)
#define SLUICE_ASSIGN_INNER(temporary, declaration, expression)                           \
  auto temporary = (expression);                                                          \
  if (!temporary) return ::tl::unexpected<::sluice::Error>(std::move(temporary).error()); \
  declaration = std::move(*temporary)
