// The application's database as the conformance suite sees it: SQLite and PostgreSQL behind one interface, each test
// with an empty one of its own.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <ostream>
#include <random>
#include <string>
#include <vector>

#include "shm/base/result.h"
#include "sluice/ledger/ledger.h"

namespace sluice::ledger {

// An application's connection. One thread. Destroying it cuts the connection: what was not committed is rolled back.
class Session {
 public:
  virtual ~Session() = default;
  virtual Connection& connection() = 0;
  virtual Status execute(const std::string& sql) = 0;
  // The way that the documents advise.
  virtual Status begin() = 0;
  // The first column of each row, as the server writes it.
  virtual Result<std::vector<std::string>> column(const std::string& sql) = 0;

  Status commit() { return execute("COMMIT"); }
  Status rollback() { return execute("ROLLBACK"); }
  // The one number that a query answers.
  Result<std::int64_t> number(const std::string& sql);
  // Inside a transaction of its own, which is committed if `body` succeeds and rolled back otherwise.
  Status transaction(const std::function<Status()>& body);
};

class Database {
 public:
  virtual ~Database() = default;
  virtual Result<std::unique_ptr<Session>> connect() = 0;
  // Cuts a connection that another thread may be using, where the server can do that. True if one was cut.
  virtual bool cut_one(std::mt19937& random) = 0;
  // Waits until a session waits for another one's transaction; at once where that cannot be seen.
  virtual void await_blocked() = 0;
};

struct Kind {
  const char* name;
  Result<std::unique_ptr<Database>> (*make)();
};
inline void PrintTo(const Kind& kind, std::ostream* out) { *out << kind.name; }

Result<std::unique_ptr<Database>> make_sqlite();
Result<std::unique_ptr<Database>> make_postgres();
// As behind a pooler: no statement is kept.
Result<std::unique_ptr<Database>> make_postgres_unprepared();

}  // namespace sluice::ledger
