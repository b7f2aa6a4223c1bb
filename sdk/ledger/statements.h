// What the ledger says to the database, with the application's choice of names filled in: the tables and the SQL of
// both dialects, which differ in the types of columns alone. docs/LEDGER.md describes the tables.
//
// A value, made once by Ledger::open() or migrate(); constant after that.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "sluice/ledger/connection.h"
#include "sluice/ledger/ledger.h"
#include "sluice/result.h"

namespace sluice::ledger {

// Quoted, with the schema in front.
struct Tables {
  std::string schema;  // quoted and with its dot; or empty
  std::string prefix;  // as it is
  std::string schema_table;
  std::string messages;
  std::string ids;
  std::string versions;
  std::string horizons;
  std::string parked;
};

// invalid: a name that is none, or too long.
Result<Tables> table_names(const Options& options);
// In double quotes. invalid: not made of letters, digits and underscores. `what` is for the message.
Result<std::string> quoted(std::string_view what, std::string_view name);

// What a version of the tables added to the one before it.
struct SchemaStep {
  std::uint32_t version = 0;
  std::vector<std::string> statements;
};
// By ascending version; this build's is the last one's.
std::vector<SchemaStep> schema_steps(const Tables& tables, Dialect dialect);

struct Statements {
  explicit Statements(const Tables& tables);

  std::string insert_message;  // key; changes nothing if it is there
  std::string delete_message;  // key
  std::string select_message;  // key → result
  std::string update_result;   // result, key
  std::string insert_id;       // group, epoch, id, time, topic, partition, position; changes nothing if it is there
  std::string select_id;       // group, epoch, id → the result that is kept with its message
  std::string select_settled;  // group, topic, partition, position, epoch → a row if a horizon says so
  std::string insert_version;  // group, subject, version
  std::string update_version;  // group, subject, version, the one before
  std::string select_version;  // group, subject → version
  std::string upsert_version;  // group, subject, version
  std::string delete_version;  // group, subject
  std::string lock_horizon;    // group, topic, partition, epoch → below; no other forget() comes between from here on
  std::string raise_horizon;   // below, group, topic, partition, epoch
  std::string select_parked;   // group, topic, partition, epoch → positions
  std::string insert_parked;   // group, topic, partition, epoch, position
  std::string delete_parked;   // group, topic, partition, epoch, position
  std::string select_end;    // group, topic, partition, epoch, below, count → position and epoch behind so many rows
  std::string delete_below;  // group, topic, partition, epoch, below, end's position, end's epoch
  std::string select_ids_end;  // group, before, count → time, epoch and id behind so many rows
  std::string delete_ids;      // group, before, end's time, end's epoch, end's id
};

}  // namespace sluice::ledger
