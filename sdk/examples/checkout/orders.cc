#include "orders.h"

#include <utility>

namespace checkout {
namespace {

// Whether a transaction of the bus went through here: written with the order, or by the check instead of it. Who is
// first decides, so that an order that is slow cannot be made once the check has said that there is none.
constexpr const char* kTables =
    "CREATE TABLE IF NOT EXISTS outcomes (transaction_id TEXT PRIMARY KEY, committed INTEGER NOT NULL)";
constexpr const char* kOrders = "CREATE TABLE IF NOT EXISTS orders (id TEXT PRIMARY KEY, goods TEXT NOT NULL)";

// Asked on a thread of the producer's: with a connection of its own.
sluice::Verdict look_up(const std::string& path, const std::string& transaction) {
  const auto database = open(path);
  if (!database) return sluice::Verdict::unknown;
  const auto noted = run(database->get(), "INSERT OR IGNORE INTO outcomes VALUES (?, 0)", {transaction});
  const auto found = run(database->get(), "SELECT committed FROM outcomes WHERE transaction_id = ?", {transaction});
  if (!noted || !found || found->empty()) return sluice::Verdict::unknown;
  return *found == "1" ? sluice::Verdict::commit : sluice::Verdict::rollback;
}

}  // namespace

sluice::Result<Orders> Orders::open(sluice::Client& client, const std::string& path) {
  SLUICE_ASSIGN(Database database, checkout::open(path));
  SLUICE_TRY(run(database.get(), kTables));
  SLUICE_TRY(run(database.get(), kOrders));
  sluice::TransactionalOptions options;
  options.group = "checkout.orders";
  options.check = [path](const sluice::TransactionCheck& check) { return look_up(path, to_text(check.id)); };
  SLUICE_ASSIGN(sluice::TransactionalProducer producer, client.transactional_producer(std::move(options)));
  return Orders(std::move(database), std::move(producer));
}

sluice::Status Orders::place(const std::string& order, const std::string& goods) {
  step("before-half");
  SLUICE_ASSIGN(sluice::Transaction transaction, producer_.begin());
  sluice::MessageOptions options;
  options.key = order;
  SLUICE_TRY(transaction.send("orders", order + " " + goods, options));
  SLUICE_TRY(transaction.prepare());
  step("after-half");
  sqlite3* const database = database_.get();
  SLUICE_TRY(run(database, "BEGIN IMMEDIATE"));
  const auto inserted = run(database, "INSERT INTO orders VALUES (?, ?)", {order, goods});
  const auto noted = run(database, "INSERT INTO outcomes VALUES (?, 1)", {to_text(transaction.id())});
  step("in-transaction");
  if (!inserted || !noted) {
    SLUICE_TRY(run(database, "ROLLBACK"));
    SLUICE_TRY(transaction.rollback());
    return sluice::fail(inserted ? noted.error() : inserted.error());
  }
  SLUICE_TRY(run(database, "COMMIT"));
  step("after-database");
  SLUICE_TRY(transaction.commit());
  step("after-resolve");
  return {};
}

}  // namespace checkout
