#include <sqlite3.h>
#include <stdlib.h>

#include <filesystem>
#include <utility>

#include "shm/base/assert.h"
#include "sluice/ledger/sqlite.h"
#include "tests/ledger/database.h"

namespace sluice::ledger {
namespace {

namespace fs = std::filesystem;

constexpr int kBusyTimeoutMs = 20'000;

class SqliteSession final : public Session {
 public:
  explicit SqliteSession(sqlite3* database) : database_(database) {
    connection_ = std::make_unique<SqliteConnection>(database);
  }
  ~SqliteSession() override {
    connection_.reset();
    SLUICE_ASSERT(sqlite3_close(database_) == SQLITE_OK);
  }
  Connection& connection() override { return *connection_; }
  Status begin() override { return execute("BEGIN IMMEDIATE"); }
  Status execute(const std::string& sql) override {
    if (sqlite3_exec(database_, sql.c_str(), nullptr, nullptr, nullptr) != SQLITE_OK) return fail(error(sql));
    return {};
  }
  Result<std::vector<std::string>> column(const std::string& sql) override {
    std::vector<std::string> rows;
    const auto take = [](void* out, int, char** cells, char**) {
      static_cast<std::vector<std::string>*>(out)->emplace_back(cells[0] == nullptr ? "NULL" : cells[0]);
      return 0;
    };
    if (sqlite3_exec(database_, sql.c_str(), take, &rows, nullptr) != SQLITE_OK) return fail(error(sql));
    return rows;
  }

 private:
  Error error(const std::string& sql) const {
    return Error(ErrorCode::would_block, sql + ": " + sqlite3_errmsg(database_));
  }

  sqlite3* database_;
  std::unique_ptr<SqliteConnection> connection_;
};

class SqliteDatabase final : public Database {
 public:
  explicit SqliteDatabase(fs::path directory) : directory_(std::move(directory)) {}
  ~SqliteDatabase() override { fs::remove_all(directory_); }
  Result<std::unique_ptr<Session>> connect() override {
    sqlite3* database = nullptr;
    const std::string path = (directory_ / "app.db").string();
    if (sqlite3_open(path.c_str(), &database) != SQLITE_OK) return fail(ErrorCode::io, "opening " + path);
    sqlite3_busy_timeout(database, kBusyTimeoutMs);
    std::unique_ptr<Session> session = std::make_unique<SqliteSession>(database);
    // Nothing here loses power.
    SLUICE_TRY(session->execute("PRAGMA journal_mode = WAL"));
    SLUICE_TRY(session->execute("PRAGMA synchronous = OFF"));
    return session;
  }
  bool cut_one(std::mt19937&) override { return false; }
  void await_blocked() override {}

 private:
  fs::path directory_;
};

}  // namespace

Result<std::unique_ptr<Database>> make_sqlite() {
  std::string pattern = (fs::temp_directory_path() / "sluice-ledger-XXXXXX").string();
  if (mkdtemp(pattern.data()) == nullptr) return fail(system_error(errno, "making " + pattern));
  return std::unique_ptr<Database>(std::make_unique<SqliteDatabase>(pattern));
}

}  // namespace sluice::ledger
