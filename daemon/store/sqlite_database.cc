#include "daemon/store/sqlite_database.h"

#include <fcntl.h>
#include <sqlite3.h>
#include <unistd.h>

#include <array>
#include <bit>
#include <cerrno>
#include <cstring>

#include "shm/base/assert.h"
#include "shm/base/failpoint.h"
#include "shm/base/fd.h"

namespace sluice::store {
namespace {

constexpr const char* kApplicationId = "1397511491";  // "SLUC"
constexpr int kNumberOfBytesToEnd = -1;
// SQLITE_TRANSIENT, whose macro casts in the old style.
const sqlite3_destructor_type kCopied = reinterpret_cast<sqlite3_destructor_type>(-1);

// Bytes 60–63 of a database file: user_version, big-endian. Nothing for a file that is too short to have one.
constexpr off_t kUserVersionOffset = 60;

Error newer_version(const std::string& path, std::uint64_t found, std::uint32_t known) {
  return Error(ErrorCode::version, "opening the store " + path + ": its format is version " + std::to_string(found) +
                                       ", this build knows up to " + std::to_string(known) +
                                       "; nothing was changed: start the newer sluiced that wrote it");
}

Status refuse_newer_header(const std::string& path, std::uint32_t version) {
  UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) {
    if (errno == ENOENT) return {};
    return fail(system_error(errno, "opening the store " + path));
  }
  std::array<unsigned char, 4> bytes{};
  const ssize_t got = ::pread(fd.get(), bytes.data(), bytes.size(), kUserVersionOffset);
  if (got < 0) return fail(system_error(errno, "reading the store " + path));
  if (got < static_cast<ssize_t>(bytes.size())) return {};
  const std::uint32_t found = static_cast<std::uint32_t>(bytes[0]) << 24 | static_cast<std::uint32_t>(bytes[1]) << 16 |
                              static_cast<std::uint32_t>(bytes[2]) << 8 | static_cast<std::uint32_t>(bytes[3]);
  // A file that is no database has anything there: SQLite says so itself.
  std::array<char, 16> magic{};
  if (::pread(fd.get(), magic.data(), magic.size(), 0) != static_cast<ssize_t>(magic.size())) return {};
  if (std::memcmp(magic.data(), "SQLite format 3", magic.size()) != 0) return {};
  if (found > version) return fail(newer_version(path, found, version));
  return {};
}

std::string directory_of(const std::string& path) {
  const auto slash = path.rfind('/');
  return slash == std::string::npos ? "." : path.substr(0, slash + 1);
}

// The name of a new file is on the device with its directory.
Status sync_directory_of(const std::string& path) {
  const std::string directory = directory_of(path);
  UniqueFd fd(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd || ::fsync(fd.get()) != 0) return fail(system_error(errno, "syncing the directory " + directory));
  return {};
}

// Of the system, not of the file or its disk.
bool is_lack(int system_errno) { return system_errno == EMFILE || system_errno == ENFILE || system_errno == ENOMEM; }

// What the system said, where SQLite passes it on; else 0.
int errno_of(int sqlite_code, sqlite3* handle) {
  switch (sqlite_code & 0xff) {
    case SQLITE_NOMEM: return ENOMEM;
    case SQLITE_IOERR: return sqlite_code == SQLITE_IOERR_NOMEM ? ENOMEM : sqlite3_system_errno(handle);
    // SQLite tries again without writing, so that its errno may be of the wrong try; a lack meets both.
    case SQLITE_CANTOPEN: return is_lack(sqlite3_system_errno(handle)) ? sqlite3_system_errno(handle) : 0;
    default: return 0;
  }
}

// A file that the system refuses to open for writing is only read by SQLite, which does not say why. Where it may be
// written after all, that was a lack of descriptors which may have passed.
bool may_be_written(const std::string& path) {
  if (::access(path.c_str(), W_OK) != 0) return errno == ENOENT && ::access(directory_of(path).c_str(), W_OK) == 0;
  return ::access((path + "-wal").c_str(), W_OK) == 0 || errno == ENOENT;
}

ErrorCode code_of(int sqlite_code, int system_errno, const std::string& path) {
  switch (sqlite_code & 0xff) {
    case SQLITE_BUSY:
    case SQLITE_LOCKED: return ErrorCode::in_use;
    case SQLITE_NOTADB:
    case SQLITE_CORRUPT: return ErrorCode::corrupt;
    case SQLITE_FULL: return ErrorCode::would_block;
    case SQLITE_NOMEM: return ErrorCode::no_memory;
    case SQLITE_READONLY:
    case SQLITE_PERM:
    case SQLITE_AUTH: return ErrorCode::permission;
    case SQLITE_CANTOPEN:
      if (is_lack(system_errno)) return ErrorCode::no_memory;
      return ::access(directory_of(path).c_str(), F_OK) == 0 ? ErrorCode::permission : ErrorCode::not_found;
    case SQLITE_CONSTRAINT:
      if (sqlite_code == SQLITE_CONSTRAINT_FOREIGNKEY) return ErrorCode::not_found;
      if (sqlite_code == SQLITE_CONSTRAINT_UNIQUE || sqlite_code == SQLITE_CONSTRAINT_PRIMARYKEY)
        return ErrorCode::exists;
      return ErrorCode::internal;
    case SQLITE_IOERR: return ErrorCode::io;
    default: return ErrorCode::internal;
  }
}

const char* advice(ErrorCode code, int system_errno) {
  if (is_lack(system_errno)) return "; the system refused a descriptor or memory: free some, then start again";
  switch (code) {
    case ErrorCode::in_use: return "; another process has it open: stop that one, or choose another data directory";
    case ErrorCode::corrupt: return "; it was left as it is: restore it from a copy";
    case ErrorCode::would_block: return "; the disk is full: make room";
    case ErrorCode::permission: return "; see to the permissions of the file and its directory";
    case ErrorCode::not_found: return "; its directory is not there: create it";
    case ErrorCode::io: return "; the disk failed: look at it, then start again";
    default: return "";
  }
}

}  // namespace

Statement::~Statement() { sqlite3_finalize(statement_); }

void Statement::bind_one(int index, std::uint64_t value) {
  SLUICE_ASSERT(sqlite3_bind_int64(statement_, index + 1, std::bit_cast<std::int64_t>(value)) == SQLITE_OK);
}

void Statement::bind_one(int index, std::string_view text) {
  // An empty view may have no address, which would bind NULL.
  const char* data = text.empty() ? "" : text.data();
  const int code = sqlite3_bind_text(statement_, index + 1, data, static_cast<int>(text.size()), kCopied);
  SLUICE_ASSERT(code == SQLITE_OK);
}

void Statement::bind_one(int index, std::span<const std::byte> bytes) {
  const void* data = bytes.empty() ? static_cast<const void*>("") : bytes.data();
  const int code = sqlite3_bind_blob(statement_, index + 1, data, static_cast<int>(bytes.size()), kCopied);
  SLUICE_ASSERT(code == SQLITE_OK);
}

Result<bool> Statement::step() {
  const int code = sqlite3_step(statement_);
  if (code == SQLITE_ROW) return true;
  if (code == SQLITE_DONE) return false;
  Error error = database_.error(code, sqlite3_sql(statement_));
  sqlite3_reset(statement_);
  return fail(std::move(error));
}

Status Statement::run() {
  SLUICE_ASSIGN(const bool row, step());
  SLUICE_ASSERT(!row);
  sqlite3_reset(statement_);
  return {};
}

std::uint64_t Statement::number(int column) const {
  return std::bit_cast<std::uint64_t>(static_cast<std::int64_t>(sqlite3_column_int64(statement_, column)));
}

std::string Statement::text(int column) const {
  const void* bytes = sqlite3_column_blob(statement_, column);
  const int size = sqlite3_column_bytes(statement_, column);
  return bytes == nullptr ? std::string()
                          : std::string(static_cast<const char*>(bytes), static_cast<std::size_t>(size));
}

void Statement::reset() {
  sqlite3_reset(statement_);
  sqlite3_clear_bindings(statement_);
}

Result<std::unique_ptr<Database>> Database::open(const std::string& path, Schema schema) {
  for (bool first = true;; first = false) {
    auto database = open_once(path, schema);
    if (database) (*database)->reserve_.fill();
    if (first && !database && database.error().code() == ErrorCode::permission && may_be_written(path)) continue;
    const bool full = !database && database.error().code() == ErrorCode::would_block;
    if (!full || !Reserve(path + ".reserve").spend()) return database;
  }
}

Result<std::unique_ptr<Database>> Database::open_once(const std::string& path, Schema schema) {
  SLUICE_TRY(refuse_newer_header(path, schema.back().version));
  sqlite3* handle = nullptr;
  const int code =
      sqlite3_open_v2(path.c_str(), &handle,
                      SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_NOFOLLOW, nullptr);
  std::unique_ptr<Database> database(new Database(path, handle));
  if (handle == nullptr) return fail(ErrorCode::no_memory, "opening the store " + path + ": no memory");
  if (code != SQLITE_OK) return fail(database->error(code, "opening"));
  if (sqlite3_db_readonly(handle, "main") == 1)
    return fail(ErrorCode::permission,
                "store " + path + ", opening: it can only be read" + advice(ErrorCode::permission, 0));
  SLUICE_TRY(database->configure());
  SLUICE_TRY(database->check_version(schema));
  // The WAL may be one that can only be read: known now, and not with the first commit.
  SLUICE_TRY(database->execute("BEGIN IMMEDIATE; ROLLBACK", "opening"));
  return database;
}

Database::~Database() {
  statements_.clear();
  if (handle_ != nullptr) sqlite3_close(handle_);
}

Status Database::configure() {
  sqlite3_extended_result_codes(handle_, 1);
  // Until the version is known to be ours, closing leaves the WAL as it is.
  sqlite3_db_config(handle_, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, nullptr);
  // Exclusive before the first access: the WAL index is in our own memory then, and the lock is held until close.
  SLUICE_TRY(execute("PRAGMA locking_mode=EXCLUSIVE", "locking"));
  SLUICE_TRY(execute("PRAGMA foreign_keys=ON", "setting up"));
  return execute("PRAGMA synchronous=FULL", "setting up");
}

Status Database::check_version(Schema schema) {
  const std::uint32_t version = schema.back().version;
  SLUICE_ASSIGN(const std::string found, query_one("PRAGMA user_version", "reading the version of"));
  SLUICE_ASSIGN(const std::string application, query_one("PRAGMA application_id", "reading the owner of"));
  SLUICE_ASSIGN(const std::string objects, query_one("SELECT count(*) FROM sqlite_schema", "reading the schema of"));
  const bool empty = objects == "0" && found == "0" && application == "0";
  if (!empty && application != kApplicationId)
    return fail(ErrorCode::corrupt, "opening the store " + path_ +
                                        ": it is a database, but not one of Sluice; it was "
                                        "left as it is: choose another data directory");
  const std::uint64_t number = std::stoull(found);
  if (number > version) return fail(newer_version(path_, number, version));
  if (!empty && number < 1)
    return fail(ErrorCode::corrupt,
                "opening the store " + path_ + ": its version is " + found + "; it was left as it is");
  SLUICE_ASSIGN(const std::string mode, query_one("PRAGMA journal_mode=WAL", "switching to WAL mode"));
  if (mode != "wal") return fail(ErrorCode::io, "opening the store " + path_ + ": no WAL mode here, but " + mode);
  if (number < version) SLUICE_TRY(raise_version(number, schema));
  sqlite3_db_config(handle_, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0, nullptr);
  return {};
}

// From 0 (an empty file) or an older version.
Status Database::raise_version(std::uint64_t from, Schema schema) {
  const std::string version = std::to_string(schema.back().version);
  const char* what = from == 0 ? "creating the schema of" : "raising the version of";
  const auto body = [&]() -> Status {
    for (const SchemaPart& part : schema)
      if (part.version > from) SLUICE_TRY(execute(part.sql, what));
    SLUICE_TRY(execute(("PRAGMA application_id=" + std::string(kApplicationId)).c_str(), "marking"));
    return execute(("PRAGMA user_version=" + version).c_str(), "marking");
  };
  SLUICE_TRY(transaction(what, body));
  // The version is to stand in the file's own header, where a build that is older than the file looks first.
  SLUICE_TRY(execute("PRAGMA wal_checkpoint(TRUNCATE)", "writing back"));
  return sync_directory_of(path_);
}

Status Database::execute(const char* sql, std::string_view what) {
  const int code = sqlite3_exec(handle_, sql, nullptr, nullptr, nullptr);
  if (code != SQLITE_OK) return fail(error(code, what));
  return {};
}

Result<std::string> Database::query_one(const char* sql, std::string_view what) {
  sqlite3_stmt* raw = nullptr;
  int code = sqlite3_prepare_v2(handle_, sql, kNumberOfBytesToEnd, &raw, nullptr);
  if (code != SQLITE_OK) return fail(error(code, what));
  Statement statement(*this, raw);
  code = sqlite3_step(raw);
  if (code != SQLITE_ROW) return fail(error(code, what));
  return statement.text(0);
}

Result<Statement*> Database::statement(const char* sql) {
  if (failed_ || handle_ == nullptr)
    return fail(ErrorCode::io, "using the store " + path_ + ": " +
                                   (handle_ == nullptr ? "it is closed" : "it failed before; start the daemon again"));
  auto& kept = statements_[sql];
  if (!kept) {
    sqlite3_stmt* raw = nullptr;
    const int code = sqlite3_prepare_v3(handle_, sql, kNumberOfBytesToEnd, SQLITE_PREPARE_PERSISTENT, &raw, nullptr);
    if (code != SQLITE_OK) return fail(error(code, sql));
    kept = std::make_unique<Statement>(*this, raw);
  }
  kept->reset();
  return kept.get();
}

Status Database::transaction(const char* what, const std::function<Status()>& body) {
  for (;;) {
    Status done = transaction_once(what, body);
    if (done) reserve_.fill_again();
    const bool full = !done && done.error().code() == ErrorCode::would_block && !failed_;
    if (!full || !reserve_.spend()) return done;
  }
}

Status Database::transaction_once(const char* what, const std::function<Status()>& body) {
  SLUICE_ASSIGN(Statement * begin, statement("BEGIN IMMEDIATE"));
  SLUICE_TRY(begin->run());
  Status done = body();
  if (done) {
    const int code = sqlite3_exec(handle_, "COMMIT", nullptr, nullptr, nullptr);
    if (code == SQLITE_OK) {
      SLUICE_FAILPOINT("store.committed");
      return {};
    }
    done = fail(error(code, what));
  }
  // An error may have rolled back already: then there is nothing left to do.
  if (sqlite3_get_autocommit(handle_) == 0) {
    const int code = sqlite3_exec(handle_, "ROLLBACK", nullptr, nullptr, nullptr);
    if (code != SQLITE_OK) failed_ = true;
  }
  return done;
}

Status Database::close() {
  statements_.clear();
  const int code = sqlite3_close(handle_);
  if (code != SQLITE_OK) return fail(error(code, "closing"));
  handle_ = nullptr;
  return {};
}

Error Database::error(int code, std::string_view what) {
  const int extended = code == SQLITE_OK ? code : sqlite3_extended_errcode(handle_);
  const int known = (extended & 0xff) == (code & 0xff) ? extended : code;
  const int system_errno = errno_of(known, handle_);
  const ErrorCode answer = code_of(known, system_errno, path_);
  if (answer == ErrorCode::io || answer == ErrorCode::corrupt) failed_ = true;
  return Error(
      answer,
      "store " + path_ + ", " + std::string(what) + ": " + sqlite3_errmsg(handle_) + advice(answer, system_errno),
      system_errno);
}

Error Database::damaged(const std::string& what) const {
  return Error(ErrorCode::corrupt, "store " + path_ + ": " + what + "; it was left as it is: restore it from a copy");
}

}  // namespace sluice::store
