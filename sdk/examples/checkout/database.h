// What both services of the example do with SQLite, and no more.
#pragma once

#include <sqlite3.h>

#include <memory>
#include <string>
#include <vector>

#include "sluice/sluice.h"

namespace checkout {

struct Close {
  void operator()(sqlite3* database) const { sqlite3_close(database); }
};
using Database = std::unique_ptr<sqlite3, Close>;

sluice::Result<Database> open(const std::string& path);
// One statement, with text for each `?`; the first column of its first row, empty if it has none.
sluice::Result<std::string> run(sqlite3* database, const std::string& sql, const std::vector<std::string>& values = {});

// A place where a crash can be tried: `--crash-at STEP` kills the process there, as kill -9 does.
void step(const std::string& name);
void crash_at(const std::string& name);

}  // namespace checkout
