// The ledger over SQLite. Begin transactions with BEGIN IMMEDIATE: one that has read first may find, when it writes,
// that another has written meanwhile, and must then be rolled back (would_block).
#pragma once

#include <memory>
#include <span>
#include <string>

#include "sluice/ledger/connection.h"

struct sqlite3;

namespace sluice::ledger {

// Lifetimes: it must go before the connection is closed; the connection is not closed by it.
class SLUICE_EXPORT SqliteConnection final : public Connection {
 public:
  explicit SqliteConnection(sqlite3* database);
  ~SqliteConnection() override;

  Dialect dialect() const override { return Dialect::sqlite; }
  Status require_transaction() const override;
  Result<Answer> run(const std::string& sql, std::span<const Parameter> parameters) override;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace sluice::ledger
