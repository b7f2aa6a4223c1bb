// The store's tables of transactions (transaction_store.h), and of the halves that are open (core::HalfSnapshot).
//
// Owner: SqliteStore. Calls that write belong into a transaction of its caller's.
#pragma once

#include <optional>
#include <vector>

#include "daemon/core/half_table.h"
#include "daemon/store/sqlite_database.h"
#include "daemon/store/transaction_store.h"
#include "shm/base/result.h"
#include "shm/base/types.h"

namespace sluice::store {

inline constexpr const char* kTransactionSchema = R"sql(
CREATE TABLE halves (
  topic INTEGER NOT NULL REFERENCES topics ON DELETE CASCADE, partition INTEGER NOT NULL, position INTEGER NOT NULL,
  txn INTEGER NOT NULL, producer INTEGER NOT NULL, check_back INTEGER NOT NULL, time_ns INTEGER NOT NULL,
  producer_group TEXT NOT NULL, PRIMARY KEY (topic, partition, position)) WITHOUT ROWID;

-- decided: the order of the last decision that the partition's audit counts
CREATE TABLE half_states (
  topic INTEGER NOT NULL REFERENCES topics ON DELETE CASCADE, partition INTEGER NOT NULL, decided INTEGER NOT NULL,
  PRIMARY KEY (topic, partition)) WITHOUT ROWID;

CREATE TABLE decisions (
  place INTEGER PRIMARY KEY AUTOINCREMENT, txn INTEGER NOT NULL UNIQUE, is_commit INTEGER NOT NULL,
  decided_ns INTEGER NOT NULL, decided_by TEXT NOT NULL);

CREATE TABLE decision_halves (
  topic INTEGER NOT NULL REFERENCES topics ON DELETE CASCADE, partition INTEGER NOT NULL, position INTEGER NOT NULL,
  place INTEGER NOT NULL, PRIMARY KEY (topic, partition, position)) WITHOUT ROWID;
CREATE INDEX decision_halves_by_place ON decision_halves (place);

CREATE TABLE transaction_notes (
  txn INTEGER PRIMARY KEY, unknowns INTEGER NOT NULL, parked_ns INTEGER NOT NULL);
)sql";

// From version 5 on.
inline constexpr const char* kSilentGroupSchema = R"sql(
CREATE TABLE silent_groups (producer_group TEXT PRIMARY KEY, since_ns INTEGER NOT NULL) WITHOUT ROWID;
)sql";

Result<core::HalfSnapshot> read_halves(Database& database, TopicId topic, PartitionNumber partition);
Status save_halves(Database& database, TopicId topic, PartitionNumber partition, const core::HalfSnapshot& halves);

Status write_decision(Database& database, Decision& decision);
Result<std::optional<Decision>> read_decision(Database& database, TransactionId transaction);
Result<std::vector<DecidedHalf>> read_decided_halves(Database& database, TopicId topic, PartitionNumber partition);
Result<TransactionNotes> read_transaction_notes(Database& database);
Status write_transaction_note(Database& database, const TransactionNote& note);
Status write_silent_group(Database& database, const SilentGroup& group);
Result<std::uint64_t> erase_decisions(Database& database, std::uint64_t before_ns, std::uint64_t keep,
                                      std::uint32_t count);

}  // namespace sluice::store
