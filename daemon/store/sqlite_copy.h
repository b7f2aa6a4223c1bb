// A copy of a database that is in use, by SQLite's backup interface: what the same connection writes meanwhile goes to
// the copy too. It grows under a temporary name, and is renamed when it is complete and durable.
//
// Owner: the bus thread. Lifetimes: it must go before its database is closed.
#pragma once

#include <memory>
#include <string>

#include "daemon/store/sqlite_database.h"
#include "daemon/store/store.h"

namespace sluice::store {

// What is at `path` is replaced when the copy is complete, its WAL with it; nothing may have it open then.
Result<std::unique_ptr<StoreCopy>> begin_sqlite_copy(Database& from, const std::string& path);

}  // namespace sluice::store
