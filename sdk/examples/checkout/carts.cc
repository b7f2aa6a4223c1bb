#include "carts.h"

#include <utility>

#include "sluice/ledger/bus.h"
#include "sluice/ledger/ledger.h"
#include "sluice/ledger/sqlite.h"

namespace checkout {
namespace {

constexpr const char* kGroup = "checkout.carts";
// How often the goods were taken out: 1 for each order, if all is well.
constexpr const char* kTables =
    "CREATE TABLE IF NOT EXISTS cleared (order_id TEXT PRIMARY KEY, goods TEXT NOT NULL, times INTEGER NOT NULL)";

using sluice::ledger::Ledger;
using sluice::ledger::Outcome;
using sluice::ledger::SqliteConnection;

sluice::Result<Ledger> open_ledger(sqlite3* database, SqliteConnection& connection) {
  SLUICE_TRY(run(database, "BEGIN IMMEDIATE"));
  SLUICE_TRY(migrate(connection));
  SLUICE_TRY(run(database, kTables));
  SLUICE_TRY(run(database, "COMMIT"));
  return Ledger::open(connection);
}

sluice::Status clear(sqlite3* database, Ledger& ledger, const sluice::ledger::MessageKey& key,
                     const std::string& text) {
  const std::string order = text.substr(0, text.find(' '));
  SLUICE_TRY(run(database, "BEGIN IMMEDIATE"));
  SLUICE_ASSIGN(const auto seen, ledger.record(key));
  if (seen.outcome == Outcome::first)
    SLUICE_TRY(run(database,
                   "INSERT INTO cleared VALUES (?, ?, 1) ON CONFLICT (order_id) DO UPDATE SET times = times + 1",
                   {order, text.substr(order.size())}));
  step("before-cart-database");
  SLUICE_TRY(run(database, "COMMIT"));
  step("after-cart-database");
  return {};
}

// Rows of messages that never come again.
sluice::Status forget(sluice::Client& client, sqlite3* database, Ledger& ledger) {
  const auto horizon = sluice::ledger::horizon_of(client, kGroup, "orders", 0);
  if (!horizon) return sluice::fail(horizon.error());
  for (;;) {
    SLUICE_TRY(run(database, "BEGIN IMMEDIATE"));
    SLUICE_ASSIGN(const auto forgotten, ledger.forget(*horizon));
    SLUICE_TRY(run(database, "COMMIT"));
    if (!forgotten.more) return {};
  }
}

}  // namespace

sluice::Status clear_carts(sluice::Client& client, const std::string& path, sluice::Duration idle) {
  SLUICE_ASSIGN(const Database database, open(path));
  SqliteConnection connection(database.get());
  SLUICE_ASSIGN(Ledger ledger, open_ledger(database.get(), connection));
  sluice::ConsumerOptions options;
  options.group = kGroup;
  options.from = sluice::From::earliest();
  SLUICE_ASSIGN(sluice::Consumer consumer, client.consumer({"orders"}, std::move(options)));
  for (;;) {
    const auto delivery = consumer.next(idle);
    if (!delivery && delivery.error().code() == sluice::ErrorCode::timed_out)
      return forget(client, database.get(), ledger);
    if (!delivery) return sluice::fail(delivery.error());
    SLUICE_ASSIGN(const auto key, sluice::ledger::key_of(consumer, *delivery));
    if (const auto cleared = clear(database.get(), ledger, key, std::string(delivery->message().text())); !cleared) {
      SLUICE_TRY(run(database.get(), "ROLLBACK"));
      SLUICE_TRY(consumer.nack(*delivery, {}, cleared.error().message()));
      continue;
    }
    // Taken from it meanwhile: then it comes again somewhere, and the ledger knows.
    static_cast<void>(consumer.ack(*delivery));
  }
}

}  // namespace checkout
