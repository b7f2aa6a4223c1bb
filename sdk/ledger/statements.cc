#include "sdk/ledger/statements.h"

#include <algorithm>
#include <string>
#include <utility>

namespace sluice::ledger {
namespace {

constexpr std::size_t kIdentifierSizeMax = 63;  // PostgreSQL cuts longer ones off

bool is_identifier(std::string_view name) {
  const auto letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; };
  const auto digit = [](char c) { return c >= '0' && c <= '9'; };
  return !name.empty() && letter(name.front()) &&
         std::all_of(name.begin(), name.end(), [&](char c) { return letter(c) || digit(c); });
}

// Rows that a noted horizon lets go: below it, and not listed. `$1` to `$4`: group, topic, partition, epoch; `$5`:
// below.
std::string below_horizon(const Tables& tables) {
  return "m.consumer_group = $1 AND m.topic = $2 AND m.partition = $3 AND m.epoch <= $4 AND m.position < $5"
         " AND NOT EXISTS (SELECT 1 FROM " +
         tables.parked +
         " AS k WHERE k.consumer_group = $1 AND k.topic = $2 AND k.partition = $3 AND k.epoch = $4"
         " AND k.position = m.position)";
}

}  // namespace

Result<std::string> quoted(std::string_view what, std::string_view name) {
  if (!is_identifier(name) || name.size() > kIdentifierSizeMax)
    return fail(ErrorCode::invalid, "the ledger's " + std::string(what) + " \"" + std::string(name) +
                                        "\": a name has letters, digits and underscores, no digit first, and at most " +
                                        std::to_string(kIdentifierSizeMax) + " of them");
  return "\"" + std::string(name) + "\"";
}

Result<Tables> table_names(const Options& options) {
  if (!is_identifier(options.prefix) || options.prefix.size() > kPrefixSizeMax)
    return fail(ErrorCode::invalid, "the ledger's prefix \"" + options.prefix +
                                        "\": it has letters, digits and underscores, no digit first, and at most " +
                                        std::to_string(kPrefixSizeMax) + " of them");
  std::string front;
  if (!options.schema.empty()) {
    SLUICE_ASSIGN(const std::string schema, quoted("schema", options.schema));
    front = schema + ".";
  }
  const auto table = [&](const char* name) { return front + "\"" + options.prefix + name + "\""; };
  Tables tables;
  tables.schema = front;
  tables.prefix = options.prefix;
  tables.schema_table = table("schema");
  tables.messages = table("messages");
  tables.ids = table("ids");
  tables.versions = table("versions");
  tables.horizons = table("horizons");
  tables.parked = table("parked");
  return tables;
}

std::vector<SchemaStep> schema_steps(const Tables& tables, Dialect dialect) {
  const std::string bytes = dialect == Dialect::sqlite ? "BLOB" : "BYTEA";
  // Rows of SQLite lie in the order of their key, without a second index.
  const std::string end = dialect == Dialect::sqlite ? ") WITHOUT ROWID" : ")";
  // An index lies in its table's schema; SQLite wants that named with the index, PostgreSQL with the table.
  const std::string ids_by_time = "\"" + tables.prefix + "ids_by_time\"";
  const std::string ids_index = dialect == Dialect::sqlite
                                    ? tables.schema + ids_by_time + " ON \"" + tables.prefix + "ids\""
                                    : ids_by_time + " ON " + tables.ids;
  const std::string place =
      " (consumer_group TEXT NOT NULL, topic BIGINT NOT NULL, partition BIGINT NOT NULL, epoch BIGINT NOT NULL, ";
  return {{1,
           {
               "CREATE TABLE " + tables.messages + place + "position BIGINT NOT NULL, result " + bytes +
                   ", PRIMARY KEY (consumer_group, topic, partition, position, epoch)" + end,
               "CREATE TABLE " + tables.ids +
                   " (consumer_group TEXT NOT NULL, epoch BIGINT NOT NULL, id TEXT NOT NULL, time_ns BIGINT NOT NULL,"
                   " topic BIGINT NOT NULL, partition BIGINT NOT NULL, position BIGINT NOT NULL,"
                   " PRIMARY KEY (consumer_group, epoch, id)" +
                   end,
               "CREATE INDEX " + ids_index + " (consumer_group, time_ns)",
               "CREATE TABLE " + tables.versions +
                   " (consumer_group TEXT NOT NULL, subject TEXT NOT NULL, version BIGINT NOT NULL,"
                   " PRIMARY KEY (consumer_group, subject)" +
                   end,
               "CREATE TABLE " + tables.horizons + place +
                   "below BIGINT NOT NULL, PRIMARY KEY (consumer_group, topic, partition, epoch)" + end,
               "CREATE TABLE " + tables.parked + place +
                   "position BIGINT NOT NULL, PRIMARY KEY (consumer_group, topic, partition, epoch, position)" + end,
           }}};
}

Statements::Statements(const Tables& tables) {
  const std::string key =
      " WHERE consumer_group = $1 AND topic = $2 AND partition = $3 AND position = $4 AND epoch = $5";
  insert_message = "INSERT INTO " + tables.messages +
                   " (consumer_group, topic, partition, position, epoch) VALUES ($1, $2, $3, $4, $5)"
                   " ON CONFLICT DO NOTHING";
  delete_message = "DELETE FROM " + tables.messages + key;
  select_message = "SELECT result FROM " + tables.messages + key;
  update_result = "UPDATE " + tables.messages +
                  " SET result = $1 WHERE consumer_group = $2 AND topic = $3 AND partition = $4 AND position = $5"
                  " AND epoch = $6";
  insert_id = "INSERT INTO " + tables.ids +
              " (consumer_group, epoch, id, time_ns, topic, partition, position) VALUES ($1, $2, $3, $4, $5, $6, $7)"
              " ON CONFLICT DO NOTHING";
  select_id = "SELECT m.result FROM " + tables.ids + " AS i JOIN " + tables.messages +
              " AS m ON m.consumer_group = i.consumer_group AND m.topic = i.topic AND m.partition = i.partition"
              " AND m.position = i.position AND m.epoch = i.epoch"
              " WHERE i.consumer_group = $1 AND i.epoch = $2 AND i.id = $3";
  select_settled = "SELECT f.below FROM " + tables.horizons +
                   " AS f WHERE f.consumer_group = $1 AND f.topic = $2 AND f.partition = $3 AND f.below > $4"
                   " AND f.epoch >= $5 AND NOT EXISTS (SELECT 1 FROM " +
                   tables.parked +
                   " AS k WHERE k.consumer_group = $1 AND k.topic = $2 AND k.partition = $3 AND k.epoch = f.epoch"
                   " AND k.position = $4) LIMIT 1";

  insert_version = "INSERT INTO " + tables.versions +
                   " (consumer_group, subject, version) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";
  update_version =
      "UPDATE " + tables.versions + " SET version = $3 WHERE consumer_group = $1 AND subject = $2 AND version = $4";
  select_version = "SELECT version FROM " + tables.versions + " WHERE consumer_group = $1 AND subject = $2";
  upsert_version = "INSERT INTO " + tables.versions +
                   " (consumer_group, subject, version) VALUES ($1, $2, $3)"
                   " ON CONFLICT (consumer_group, subject) DO UPDATE SET version = excluded.version";
  delete_version = "DELETE FROM " + tables.versions + " WHERE consumer_group = $1 AND subject = $2";

  const std::string noted = " WHERE consumer_group = $1 AND topic = $2 AND partition = $3 AND epoch = $4";
  lock_horizon = "INSERT INTO " + tables.horizons +
                 " AS f (consumer_group, topic, partition, epoch, below) VALUES ($1, $2, $3, $4, 0)"
                 " ON CONFLICT (consumer_group, topic, partition, epoch) DO UPDATE SET below = f.below RETURNING below";
  raise_horizon = "UPDATE " + tables.horizons +
                  " SET below = $1 WHERE consumer_group = $2 AND topic = $3 AND partition = $4 AND epoch = $5";
  select_parked = "SELECT position FROM " + tables.parked + noted;
  insert_parked = "INSERT INTO " + tables.parked +
                  " (consumer_group, topic, partition, epoch, position) VALUES ($1, $2, $3, $4, $5)";
  delete_parked = "DELETE FROM " + tables.parked + noted + " AND position = $5";
  select_end = "SELECT m.position, m.epoch FROM " + tables.messages + " AS m WHERE " + below_horizon(tables) +
               " ORDER BY m.position, m.epoch LIMIT 1 OFFSET $6";
  delete_below = "DELETE FROM " + tables.messages + " AS m WHERE " + below_horizon(tables) +
                 " AND (m.position, m.epoch) < ($6, $7)";
  select_ids_end = "SELECT time_ns, epoch, id FROM " + tables.ids +
                   " WHERE consumer_group = $1 AND time_ns < $2 ORDER BY time_ns, epoch, id LIMIT 1 OFFSET $3";
  delete_ids = "DELETE FROM " + tables.ids +
               " WHERE consumer_group = $1 AND time_ns < $2 AND (time_ns, epoch, id) < ($3, $4, $5)";
}

}  // namespace sluice::ledger
