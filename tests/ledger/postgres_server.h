// A PostgreSQL server of the test program's own: a new cluster in a temporary directory, on a Unix socket in there and
// nowhere else. Run as an unprivileged user where the tests run as root, which the server refuses.
//
// Invariants
//  1. It ends with the program, however that ends (parent-death signal); the directory goes with a normal end.
//  2. Only the process that was started here is ever signalled.
#pragma once

#include <sys/types.h>

#include <filesystem>
#include <string>
#include <vector>

#include "shm/base/result.h"

namespace sluice::ledger {

class PostgresServer {
 public:
  // Started at the first call. The Error says what is missing.
  static const Result<std::string>& connection_string();

  PostgresServer(const PostgresServer&) = delete;
  PostgresServer& operator=(const PostgresServer&) = delete;
  ~PostgresServer();

 private:
  PostgresServer() = default;
  Result<std::string> start();
  // The child: `command` with its output in a log. Answers its pid.
  Result<pid_t> spawn(const std::vector<std::string>& command) const;
  Error failed(const std::string& what) const;

  std::filesystem::path directory_;
  pid_t pid_ = 0;
  uid_t uid_ = 0;  // 0: as we are
  gid_t gid_ = 0;
};

}  // namespace sluice::ledger
