// A version per subject, in the ledger's own table or in a column of the application's.
//
// The update that moves the version names the one before it, so that of two transactions at a time one finds nothing to
// change: it then reads what stands, and knows whether it came again or too early.
#include <string>

#include "sdk/ledger/core.h"

namespace sluice::ledger {
namespace {

Advance not_moved(std::uint64_t stands, std::uint64_t wanted) {
  return {stands >= wanted ? Advance::Outcome::repeat : Advance::Outcome::early, stands};
}

std::string moving(std::string_view what, std::string_view name, std::uint64_t version) {
  return "moving " + std::string(what) + " \"" + std::string(name) + "\" to version " + std::to_string(version);
}

Result<std::int64_t> check_version(const std::string& doing, std::uint64_t version) {
  if (version == 0) return fail(ErrorCode::invalid, doing + ": the first change makes version 1");
  return as_signed(doing, "version", version);
}

}  // namespace

Result<Advance> Ledger::advance(std::string_view group, std::string_view subject, std::uint64_t version) {
  const std::string doing = moving("subject", subject, version) + " for group " + std::string(group);
  Connection& connection = impl_->connection;
  if (Status ready = connection.require_transaction(); !ready) return fail(explain(doing, ready.error()));
  SLUICE_TRY(check_text(doing, "group", group, kGroupSizeMax));
  SLUICE_TRY(check_text(doing, "subject's name", subject, kIdSizeMax));
  SLUICE_ASSIGN(const std::int64_t to, check_version(doing, version));
  SLUICE_ASSIGN(const Answer moved,
                to == 1 ? run(connection, doing, impl_->sql.insert_version, {group, subject, to})
                        : run(connection, doing, impl_->sql.update_version, {group, subject, to, to - 1}));
  if (moved.changed != 0) return Advance{Advance::Outcome::first, version};
  SLUICE_ASSIGN(const Answer row, run(connection, doing, impl_->sql.select_version, {group, subject}));
  if (row.rows.empty()) return not_moved(0, version);
  SLUICE_ASSIGN(const std::uint64_t stands, number(doing, row, 0, 0));
  return not_moved(stands, version);
}

Result<Advance> Ledger::advance(const VersionColumn& column, std::string_view id, std::uint64_t version) {
  const std::string doing = moving("the row of " + column.table, id, version);
  Connection& connection = impl_->connection;
  if (Status ready = connection.require_transaction(); !ready) return fail(explain(doing, ready.error()));
  SLUICE_TRY(check_text(doing, "id", id, kIdSizeMax));
  SLUICE_ASSIGN(const std::int64_t to, check_version(doing, version));
  SLUICE_ASSIGN(const std::string table, quoted("version table", column.table));
  SLUICE_ASSIGN(const std::string id_column, quoted("id column", column.id));
  SLUICE_ASSIGN(const std::string version_column, quoted("version column", column.version));

  // With the table in front: SQLite takes a quoted name that is no column for a text.
  const std::string row_id = table + "." + id_column;
  const std::string row_version = table + "." + version_column;
  const std::string update =
      "UPDATE " + table + " SET " + version_column + " = $1 WHERE " + row_id + " = $2 AND " + row_version + " = $3";
  SLUICE_ASSIGN(const Answer moved, run(connection, doing, update, {to, id, to - 1}));
  if (moved.changed > 1)
    return fail(ErrorCode::invalid, doing + ": " + std::to_string(moved.changed) +
                                        " rows have that id: roll back, and " + "name a column that is unique");
  if (moved.changed == 1) return Advance{Advance::Outcome::first, version};
  const std::string select = "SELECT " + row_version + " FROM " + table + " WHERE " + row_id + " = $1";
  SLUICE_ASSIGN(const Answer row, run(connection, doing, select, {id}));
  if (row.rows.empty()) return fail(ErrorCode::not_found, doing + ": there is no such row: insert it with version 0");
  SLUICE_ASSIGN(const std::uint64_t stands, number(doing, row, 0, 0));
  return not_moved(stands, version);
}

Status Ledger::set_version(std::string_view group, std::string_view subject, std::uint64_t version) {
  const std::string doing = "setting subject \"" + std::string(subject) + "\" of group " + std::string(group) + " to " +
                            std::to_string(version);
  Connection& connection = impl_->connection;
  if (Status ready = connection.require_transaction(); !ready) return fail(explain(doing, ready.error()));
  SLUICE_TRY(check_text(doing, "group", group, kGroupSizeMax));
  SLUICE_TRY(check_text(doing, "subject's name", subject, kIdSizeMax));
  SLUICE_ASSIGN(const std::int64_t to, as_signed(doing, "version", version));
  SLUICE_TRY(to == 0 ? run(connection, doing, impl_->sql.delete_version, {group, subject})
                     : run(connection, doing, impl_->sql.upsert_version, {group, subject, to}));
  return {};
}

}  // namespace sluice::ledger
