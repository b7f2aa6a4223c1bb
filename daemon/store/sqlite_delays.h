// The store's tables of what waits for its time (core::DelaySnapshot): each save adds rows and takes away those that
// have ended as a whole, so that a save costs what is new, however many wait.
//
// Owner: SqliteStore. Each call belongs into a transaction of its caller's.
#pragma once

#include "daemon/core/delay_queue.h"
#include "daemon/store/sqlite_database.h"
#include "shm/base/result.h"
#include "shm/base/types.h"

namespace sluice::store {

// delays.delays: consecutive pairs of u64, little-endian: due (ns since the epoch), position. `due_max` is their last.
inline constexpr const char* kDelaySchema = R"sql(
CREATE TABLE delays (
  topic INTEGER NOT NULL REFERENCES topics ON DELETE CASCADE, partition INTEGER NOT NULL, upto INTEGER NOT NULL,
  part INTEGER NOT NULL, due_max INTEGER NOT NULL, delays BLOB NOT NULL, PRIMARY KEY (topic, partition, upto, part));
CREATE INDEX delays_by_end ON delays (topic, partition, due_max);

CREATE TABLE delay_states (
  topic INTEGER NOT NULL REFERENCES topics ON DELETE CASCADE, partition INTEGER NOT NULL, upto INTEGER NOT NULL,
  done_due INTEGER NOT NULL, done_position INTEGER NOT NULL, late BLOB NOT NULL,
  PRIMARY KEY (topic, partition)) WITHOUT ROWID;
-- Nobody could send any before.
INSERT INTO delay_states SELECT topic, partition, upto, 0, 0, x'' FROM audits;
)sql";

// corrupt if a row cannot be read.
Result<core::DelaySnapshot> read_delays(Database& database, TopicId topic, PartitionNumber partition);
Status save_delays(Database& database, TopicId topic, PartitionNumber partition, const core::DelaySnapshot& delays);

}  // namespace sluice::store
