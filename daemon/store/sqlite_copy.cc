#include "daemon/store/sqlite_copy.h"

#include <fcntl.h>
#include <sqlite3.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

#include "shm/base/fd.h"

namespace sluice::store {
namespace {

Status remove_if_there(const std::string& path) {
  if (::unlink(path.c_str()) == 0 || errno == ENOENT) return {};
  return fail(system_error(errno, "removing " + path));
}

Status sync_path(const std::string& path, int flags) {
  UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | flags));
  if (!fd || ::fsync(fd.get()) != 0) return fail(system_error(errno, "syncing " + path));
  return {};
}

class SqliteCopy final : public StoreCopy {
 public:
  SqliteCopy(Database& from, std::string path) : from_(from), path_(std::move(path)), temporary_(path_ + ".new") {}
  ~SqliteCopy() override {
    if (backup_ != nullptr) sqlite3_backup_finish(backup_);
    if (to_ != nullptr) sqlite3_close(to_);
  }

  Status begin() {
    if (from_.handle() == nullptr) return fail(ErrorCode::io, "copying the store " + from_.path() + ": it is closed");
    for (const char* suffix : {"", "-journal"}) SLUICE_TRY(remove_if_there(temporary_ + suffix));
    const int code = sqlite3_open_v2(temporary_.c_str(), &to_,
                                     SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, nullptr);
    if (code != SQLITE_OK) return fail(failed(code));
    backup_ = sqlite3_backup_init(to_, "main", from_.handle(), "main");
    if (backup_ == nullptr) return fail(failed(sqlite3_errcode(to_)));
    return {};
  }

  Result<bool> step(std::uint32_t pages) override {
    const int code = sqlite3_backup_step(backup_, static_cast<int>(pages));
    if (code == SQLITE_OK) return false;
    if (code != SQLITE_DONE) return fail(failed(code));
    SLUICE_TRY(finish());
    return true;
  }

 private:
  Status finish() {
    const int ended = sqlite3_backup_finish(std::exchange(backup_, nullptr));
    if (ended != SQLITE_OK) return fail(failed(ended));
    const int closed = sqlite3_close(to_);
    if (closed != SQLITE_OK) return fail(failed(closed));
    to_ = nullptr;
    SLUICE_TRY(sync_path(temporary_, 0));
    // A WAL belongs to the file that it was written for: SQLite would apply it to the new one.
    for (const char* suffix : {"-wal", "-shm", "-journal"}) SLUICE_TRY(remove_if_there(path_ + suffix));
    if (::rename(temporary_.c_str(), path_.c_str()) != 0) return fail(system_error(errno, "renaming " + temporary_));
    return sync_path(path_.substr(0, path_.rfind('/') + 1), O_DIRECTORY);
  }

  Error failed(int code) const {
    const ErrorCode kind = (code & 0xff) == SQLITE_FULL ? ErrorCode::would_block : ErrorCode::io;
    return Error(kind, "copying the store " + from_.path() + " to " + path_ + ": " + sqlite3_errstr(code));
  }

  Database& from_;
  const std::string path_;
  const std::string temporary_;
  sqlite3* to_ = nullptr;
  sqlite3_backup* backup_ = nullptr;
};

}  // namespace

Result<std::unique_ptr<StoreCopy>> begin_sqlite_copy(Database& from, const std::string& path) {
  auto copy = std::make_unique<SqliteCopy>(from, path);
  SLUICE_TRY(copy->begin());
  return std::unique_ptr<StoreCopy>(std::move(copy));
}

}  // namespace sluice::store
