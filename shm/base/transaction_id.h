// The name of a transaction. Public: installed with the SDK.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "types.h"  // beside it, where it is installed too

namespace sluice {

inline constexpr std::size_t kAcksPerTransactionMax = 65'536;

// The transactor (one attach of one TransactionalProducer, an id of the producers' kind) and its number there, from 1.
// Never used twice. 0: none.
struct TransactionId : Strong<TransactionId, std::uint64_t> {
  using Strong::Strong;
  static constexpr TransactionId make(ProducerId transactor, std::uint32_t number) {
    return TransactionId(std::uint64_t{transactor.value} << 32 | number);
  }
  constexpr ProducerId transactor() const { return ProducerId(static_cast<std::uint32_t>(value >> 32)); }
  constexpr std::uint32_t number() const { return static_cast<std::uint32_t>(value); }
};

// As people see it: "17-3".
inline std::string to_text(TransactionId id) {
  return std::to_string(id.transactor().value) + "-" + std::to_string(id.number());
}

// What becomes of a transaction: the answer to a check-back, a resolution.
enum class Verdict : std::uint8_t { unknown = 0, commit = 1, rollback = 2 };

}  // namespace sluice
