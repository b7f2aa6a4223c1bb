// SLUICE_ASSERT stays on in every build and aborts. One condition each. For our own invariants only: never for bytes
// that another process or a disk can change (those are copied, checked, and answered with ErrorCode::corrupt).
#pragma once

namespace sluice {
[[noreturn]] void assertion_failed(const char* condition, const char* file, int line) noexcept;
}  // namespace sluice

#define SLUICE_ASSERT(condition)                                  \
  do {                                                            \
    if (!(condition)) [[unlikely]]                                \
      ::sluice::assertion_failed(#condition, __FILE__, __LINE__); \
  } while (false)
