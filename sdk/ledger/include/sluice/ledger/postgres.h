// The ledger over PostgreSQL, through libpq. Any isolation level will do; of READ COMMITTED, the default, a repeat that
// comes at the same time waits for the first to end, where the others answer would_block.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "sluice/ledger/connection.h"

struct pg_conn;

namespace sluice::ledger {

// Behind a pooler that gives each transaction another server connection, statements cannot be kept.
enum class Prepare : std::uint8_t { once, never };

// Lifetimes: belongs to one life of the connection: make another one after PQreset(). It must go before PQfinish(),
// which it leaves to the application.
class SLUICE_EXPORT PostgresConnection final : public Connection {
 public:
  explicit PostgresConnection(pg_conn* connection, Prepare prepare = Prepare::once);
  ~PostgresConnection() override;

  Dialect dialect() const override { return Dialect::postgres; }
  Status require_transaction() const override;
  Result<Answer> run(const std::string& sql, std::span<const Parameter> parameters) override;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace sluice::ledger
