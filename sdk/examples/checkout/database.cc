#include "database.h"

#include <csignal>
#include <utility>

namespace checkout {
namespace {

constexpr int kBusyMs = 30'000;
std::string crash_step;  // set once, by main()

sluice::Error error_of(sqlite3* database, const std::string& doing) {
  return {sluice::ErrorCode::would_block, doing + ": " + sqlite3_errmsg(database)};
}

}  // namespace

sluice::Result<Database> open(const std::string& path) {
  sqlite3* raw = nullptr;
  const int result = sqlite3_open(path.c_str(), &raw);
  Database database(raw);
  if (result != SQLITE_OK) return sluice::fail(error_of(raw, "opening " + path));
  sqlite3_busy_timeout(raw, kBusyMs);
  SLUICE_TRY(run(raw, "PRAGMA journal_mode = WAL"));
  SLUICE_TRY(run(raw, "PRAGMA synchronous = FULL"));
  return database;
}

sluice::Result<std::string> run(sqlite3* database, const std::string& sql, const std::vector<std::string>& values) {
  sqlite3_stmt* statement = nullptr;
  if (sqlite3_prepare_v2(database, sql.c_str(), -1, &statement, nullptr) != SQLITE_OK)
    return sluice::fail(error_of(database, sql));
  int index = 0;
  for (const std::string& value : values)
    sqlite3_bind_text(statement, ++index, value.c_str(), static_cast<int>(value.size()), SQLITE_TRANSIENT);
  std::string first;
  int result = sqlite3_step(statement);
  if (result == SQLITE_ROW) {
    if (const auto* text = reinterpret_cast<const char*>(sqlite3_column_text(statement, 0))) first = text;
    while (result == SQLITE_ROW) result = sqlite3_step(statement);
  }
  sqlite3_finalize(statement);
  if (result != SQLITE_DONE) return sluice::fail(error_of(database, sql));
  return first;
}

void crash_at(const std::string& name) { crash_step = name; }
void step(const std::string& name) {
  if (name == crash_step) ::raise(SIGKILL);
}

}  // namespace checkout
