#include "sluice/ledger/sqlite.h"

#include <sqlite3.h>

#include <cstddef>
#include <string>
#include <unordered_map>
#include <utility>
#include <variant>

namespace sluice::ledger {
namespace {

constexpr int kPrimaryCode = 0xff;
// SQLITE_STATIC, whose macro casts in the old style: the parameters outlive the step.
constexpr sqlite3_destructor_type kStays = nullptr;

struct Finalize {
  void operator()(sqlite3_stmt* statement) const { sqlite3_finalize(statement); }
};
using OwnedStatement = std::unique_ptr<sqlite3_stmt, Finalize>;

// What was bound is the caller's, and a statement that is not reset holds its locks.
class Run {
 public:
  explicit Run(sqlite3_stmt* statement) : statement_(statement) {}
  Run(const Run&) = delete;
  Run& operator=(const Run&) = delete;
  ~Run() {
    sqlite3_reset(statement_);
    sqlite3_clear_bindings(statement_);
  }

 private:
  sqlite3_stmt* statement_;
};

ErrorCode code_of(int code, std::string_view text) {
  switch (code & kPrimaryCode) {
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
    case SQLITE_ABORT:
    case SQLITE_INTERRUPT:
    case SQLITE_FULL: return ErrorCode::would_block;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB: return ErrorCode::corrupt;
    case SQLITE_READONLY:
    case SQLITE_PERM:
    case SQLITE_AUTH:
    case SQLITE_CANTOPEN: return ErrorCode::permission;
    case SQLITE_NOMEM: return ErrorCode::no_memory;
    case SQLITE_TOOBIG: return ErrorCode::too_large;
    case SQLITE_IOERR: return ErrorCode::io;
    case SQLITE_ERROR:
      // It has no code of its own.
      return text.starts_with("no such table") || text.starts_with("unknown database") ? ErrorCode::not_found
             : text.starts_with("no such column")                                      ? ErrorCode::invalid
                                                                                       : ErrorCode::internal;
    default: return ErrorCode::internal;
  }
}

const char* advice(ErrorCode code) {
  switch (code) {
    case ErrorCode::would_block: return "; roll back, and handle the message again";
    case ErrorCode::not_found: return "; of the ledger's own tables: make them with ledger::migrate()";
    case ErrorCode::permission: return "; see to the permissions of the database and its directory";
    case ErrorCode::corrupt: return "; restore the database from a copy";
    case ErrorCode::io: return "; look at the disk";
    default: return "; roll back";
  }
}

int bind(sqlite3_stmt* statement, int index, const Parameter& parameter) {
  if (const auto* value = std::get_if<std::int64_t>(&parameter)) return sqlite3_bind_int64(statement, index, *value);
  if (const auto* text = std::get_if<std::string_view>(&parameter))
    return sqlite3_bind_text64(statement, index, text->empty() ? "" : text->data(), text->size(), kStays, SQLITE_UTF8);
  if (const auto* bytes = std::get_if<std::span<const std::byte>>(&parameter))
    return bytes->empty() ? sqlite3_bind_zeroblob(statement, index, 0)
                          : sqlite3_bind_blob64(statement, index, bytes->data(), bytes->size(), kStays);
  return sqlite3_bind_null(statement, index);
}

Cell cell(sqlite3_stmt* statement, int column) {
  switch (sqlite3_column_type(statement, column)) {
    case SQLITE_INTEGER: return std::int64_t{sqlite3_column_int64(statement, column)};
    case SQLITE_NULL: return std::monostate{};
    default: break;
  }
  const void* bytes = sqlite3_column_blob(statement, column);
  const int size = sqlite3_column_bytes(statement, column);
  return size == 0 ? std::string() : std::string(static_cast<const char*>(bytes), static_cast<std::size_t>(size));
}

}  // namespace

struct SqliteConnection::Impl {
  sqlite3* database;
  std::unordered_map<std::string, OwnedStatement> statements;

  Error error(int code) const {
    const std::string text = sqlite3_errmsg(database);
    const ErrorCode meaning = code_of(code, text);
    return Error(meaning, "SQLite says: " + text + advice(meaning));
  }
  Result<sqlite3_stmt*> statement(const std::string& sql) {
    OwnedStatement& kept = statements[sql];
    if (!kept) {
      sqlite3_stmt* made = nullptr;
      const int code = sqlite3_prepare_v3(database, sql.c_str(), static_cast<int>(sql.size() + 1),
                                          SQLITE_PREPARE_PERSISTENT, &made, nullptr);
      if (code != SQLITE_OK) return fail(error(code));
      kept.reset(made);
    }
    return kept.get();
  }
};

SqliteConnection::SqliteConnection(sqlite3* database) : impl_(std::make_unique<Impl>()) { impl_->database = database; }
SqliteConnection::~SqliteConnection() = default;

Status SqliteConnection::require_transaction() const {
  if (sqlite3_get_autocommit(impl_->database) == 0) return {};
  return fail(ErrorCode::invalid,
              "no transaction is open on the SQLite connection, or an error has ended it: the ledger works inside the "
              "application's: BEGIN IMMEDIATE first");
}

Result<Answer> SqliteConnection::run(const std::string& sql, std::span<const Parameter> parameters) {
  SLUICE_ASSIGN(sqlite3_stmt * statement, impl_->statement(sql));
  const Run run(statement);
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    const std::string name = "$" + std::to_string(i + 1);
    const int code = bind(statement, sqlite3_bind_parameter_index(statement, name.c_str()), parameters[i]);
    if (code != SQLITE_OK) return fail(impl_->error(code));
  }
  Answer answer;
  int code = sqlite3_step(statement);
  for (; code == SQLITE_ROW; code = sqlite3_step(statement)) {
    auto& row = answer.rows.emplace_back();
    for (int column = 0; column < sqlite3_column_count(statement); ++column) row.push_back(cell(statement, column));
  }
  if (code != SQLITE_DONE) return fail(impl_->error(code));
  if (sqlite3_stmt_readonly(statement) == 0)
    answer.changed = static_cast<std::uint64_t>(sqlite3_changes64(impl_->database));
  return answer;
}

}  // namespace sluice::ledger
