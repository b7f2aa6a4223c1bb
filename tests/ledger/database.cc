#include "tests/ledger/database.h"

namespace sluice::ledger {

Result<std::int64_t> Session::number(const std::string& sql) {
  SLUICE_ASSIGN(const std::vector<std::string> rows, column(sql));
  if (rows.size() != 1) return fail(ErrorCode::internal, sql + ": " + std::to_string(rows.size()) + " rows");
  return std::stoll(rows.front());
}

Status Session::transaction(const std::function<Status()>& body) {
  SLUICE_TRY(begin());
  if (Status done = body(); !done) {
    // Where an error has ended it already there is nothing to roll back.
    const Status rolled_back = rollback();
    return done;
  }
  return commit();
}

}  // namespace sluice::ledger
