// One connection to the application's database, as the ledger uses it. sqlite.h and postgres.h have one each; nobody
// else needs to look in here.
//
// Owner: the application, on the thread that uses the connection itself.
// Invariants
//  1. It never begins, commits or rolls back: the transaction is the application's.
//  2. A statement is prepared at its first run, and kept as long as this object.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "sluice/result.h"

namespace sluice::ledger {

enum class Dialect : std::uint8_t { sqlite, postgres };

using Parameter = std::variant<std::monostate, std::int64_t, std::string_view, std::span<const std::byte>>;
using Cell = std::variant<std::monostate, std::int64_t, std::string>;
struct Answer {
  std::uint64_t changed = 0;  // rows inserted, updated or deleted
  std::vector<std::vector<Cell>> rows;
};

class SLUICE_EXPORT Connection {
 public:
  Connection() = default;
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;
  virtual ~Connection();

  virtual Dialect dialect() const = 0;
  // A transaction is open and has not failed. invalid: none is open · would_block: it has failed · closed: the
  // connection is lost.
  virtual Status require_transaction() const = 0;
  // One statement, with parameters $1, $2, …. Errors as in ledger.h.
  virtual Result<Answer> run(const std::string& sql, std::span<const Parameter> parameters) = 0;
};

}  // namespace sluice::ledger
