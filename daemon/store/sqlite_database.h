// One SQLite database file as the store uses it: opened safely, statements prepared once, errors as Result.
//
// Owner: SqliteStore, on the bus thread.
//
// Invariants
//  1. WAL mode, synchronous=FULL, exclusive: nobody else has the file open, and a commit that returned is on the
//  device.
//  2. A file whose schema is newer is refused with `version`: its header is looked at before SQLite opens it, and a
//  newer
//     version that only the WAL knows is left in the WAL.
//  3. After an I/O error nothing is written or read any more (failed): whether the last transaction is in the file is
//  known
//     after the next start only.
//  4. What the system said of a failed call is passed on where SQLite knows it (Error::system_errno). A lack of
//     descriptors or memory is no_memory, and no fault of the disk; a file that could be opened for reading alone is
//     opened once more, if it may be written.
//  5. A full disk is met with the reserve (reserve.h) first, and refuses only what that has no room for.
// Lifetimes: a Statement belongs to its Database and is reset by whoever asks for it next.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "daemon/store/reserve.h"
#include "shm/base/result.h"

struct sqlite3;
struct sqlite3_stmt;

namespace sluice::store {

class Database;

// A prepared statement that is being bound, stepped and read. Parameters and columns count from 0. Unsigned 64-bit
// numbers are kept bit for bit in SQLite's signed ones.
class Statement {
 public:
  Statement(Database& database, sqlite3_stmt* statement) : database_(database), statement_(statement) {}
  Statement(const Statement&) = delete;
  Statement& operator=(const Statement&) = delete;
  ~Statement();

  template <typename... Values>
  Statement& bind(const Values&... values) {
    int index = 0;
    (bind_one(index++, values), ...);
    return *this;
  }
  void bind_one(int index, std::uint64_t value);
  void bind_one(int index, std::string_view text);
  void bind_one(int index, std::span<const std::byte> bytes);
  // True: a row is there. False: done.
  Result<bool> step();
  // For statements without rows.
  Status run();
  std::uint64_t number(int column) const;
  std::string text(int column) const;
  void reset();

 private:
  Database& database_;
  sqlite3_stmt* statement_;
};

// What a version of the schema added to the one before it. Several parts may belong to one version.
struct SchemaPart {
  std::uint32_t version = 0;
  const char* sql = nullptr;
};
using Schema = std::span<const SchemaPart>;  // by ascending version; this build's is the last one's

class Database {
 public:
  // Opens or creates `path`. The parts of `schema` that the file does not have yet are run in one transaction, and the
  // version is written with them: an older file is brought up in place, whole or not at all.
  static Result<std::unique_ptr<Database>> open(const std::string& path, Schema schema);
  ~Database();
  Database(const Database&) = delete;
  Database& operator=(const Database&) = delete;

  // Prepared at the first call, then kept; reset and unbound. `sql` is a literal.
  Result<Statement*> statement(const char* sql);
  // The statement, bound and run; it has no rows.
  template <typename... Values>
  Status run(const char* sql, const Values&... values) {
    SLUICE_ASSIGN(Statement * prepared, statement(sql));
    return prepared->bind(values...).run();
  }
  // Runs `body` inside a transaction that is durable when this returns; rolls back what `body` refuses. On a full disk
  // again, with room from the reserve.
  Status transaction(const char* what, const std::function<Status()>& body);
  Status close();
  // The Error of SQLite's last answer on this connection. Marks the database failed if that was an I/O error.
  Error error(int code, std::string_view what);
  // Of a row that says what cannot be.
  Error damaged(const std::string& what) const;
  const std::string& path() const { return path_; }
  // For what is not a statement (a copy). Null once closed.
  sqlite3* handle() const { return handle_; }

 private:
  Database(std::string path, sqlite3* handle) : path_(std::move(path)), reserve_(path_ + ".reserve"), handle_(handle) {}
  static Result<std::unique_ptr<Database>> open_once(const std::string& path, Schema schema);
  Status transaction_once(const char* what, const std::function<Status()>& body);
  Status configure();
  Status check_version(Schema schema);
  Status raise_version(std::uint64_t from, Schema schema);
  Status execute(const char* sql, std::string_view what);
  Result<std::string> query_one(const char* sql, std::string_view what);

  std::string path_;
  Reserve reserve_;
  sqlite3* handle_;
  std::map<std::string_view, std::unique_ptr<Statement>> statements_;
  bool failed_ = false;
};

}  // namespace sluice::store
