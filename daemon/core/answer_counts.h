// What those have answered who were asked what became of a transaction, and how often.
#pragma once

#include <cstdint>
#include <optional>

#include "shm/base/transaction_id.h"

namespace sluice::core {

struct AnswerCounts {
  std::uint64_t commit = 0;
  std::uint64_t rollback = 0;
  std::uint64_t unknown = 0;
  std::uint64_t none = 0;  // who was asked died, or took too long

  void count(std::optional<Verdict> verdict) {
    if (!verdict)
      ++none;
    else
      ++(*verdict == Verdict::commit ? commit : *verdict == Verdict::rollback ? rollback : unknown);
  }
};

}  // namespace sluice::core
