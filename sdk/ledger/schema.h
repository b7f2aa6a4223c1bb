// The version of the ledger's tables: read, checked, and raised step by step.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "sdk/ledger/statements.h"
#include "sluice/ledger/connection.h"
#include "sluice/result.h"

namespace sluice::ledger {

// Nothing: the tables were never made. not_found: not even the table that would say so.
Result<std::optional<std::uint64_t>> schema_version(Connection& connection, const Tables& tables);
// Runs the steps above the version that is there, in the application's transaction. version: what is there is newer
// than the last step; nothing was changed.
Status migrate(Connection& connection, const Tables& tables, const std::vector<SchemaStep>& steps);

}  // namespace sluice::ledger
