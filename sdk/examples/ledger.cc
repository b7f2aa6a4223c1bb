// Bills orders, each exactly once: the bill and the ledger's note are in one transaction of a SQLite database.
//   sluice_example_ledger DATABASE POSITION AMOUNT     as if the message at orders/0@POSITION had been delivered
#include "sluice/ledger/ledger.h"

#include <sqlite3.h>

#include <cstdio>
#include <cstdlib>
#include <string>

#include "sluice/ledger/sqlite.h"

using namespace sluice::ledger;

static sluice::Status execute(sqlite3* database, const std::string& sql) {
  if (sqlite3_exec(database, sql.c_str(), nullptr, nullptr, nullptr) == SQLITE_OK) return {};
  return sluice::fail(sluice::ErrorCode::would_block, sql + ": " + sqlite3_errmsg(database));
}

static sluice::Status make_tables(sqlite3* database, SqliteConnection& connection) {
  SLUICE_TRY(execute(database, "BEGIN IMMEDIATE"));
  SLUICE_TRY(migrate(connection));
  SLUICE_TRY(execute(database, "CREATE TABLE IF NOT EXISTS bills (amount INTEGER NOT NULL)"));
  return execute(database, "COMMIT");
}

// What a handler does. Success: ack the message. An error: roll back and nack, and it comes again.
static sluice::Result<Outcome> bill(sqlite3* database, Ledger& ledger, const MessageKey& key, long amount) {
  SLUICE_TRY(execute(database, "BEGIN IMMEDIATE"));
  SLUICE_ASSIGN(const Record seen, ledger.record(key));
  if (seen.outcome == Outcome::first)
    SLUICE_TRY(execute(database, "INSERT INTO bills VALUES (" + std::to_string(amount) + ")"));
  SLUICE_TRY(execute(database, "COMMIT"));
  return seen.outcome;
}

static sluice::Result<Outcome> run(sqlite3* database, const MessageKey& key, long amount) {
  SqliteConnection connection(database);
  SLUICE_TRY(make_tables(database, connection));
  SLUICE_ASSIGN(Ledger ledger, Ledger::open(connection));
  return bill(database, ledger, key, amount);
}

int main(int argc, char** argv) {
  sqlite3* database = nullptr;
  if (argc != 4 || sqlite3_open(argv[1], &database) != SQLITE_OK) return 2;
  sqlite3_busy_timeout(database, 10'000);
  const MessageKey key{"billing", 0, sluice::TopicId(1), 0, sluice::Position(std::strtoull(argv[2], nullptr, 10))};
  const auto outcome = run(database, key, std::strtol(argv[3], nullptr, 10));
  sqlite3_close(database);  // rolls back what was not committed
  if (!outcome) return std::fprintf(stderr, "ledger: %s\n", outcome.error().message().c_str()), 1;
  std::puts(*outcome == Outcome::first ? "billed" : "billed before");
  return 0;
}
