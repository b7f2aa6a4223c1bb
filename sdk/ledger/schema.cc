#include "sdk/ledger/schema.h"

#include <string>

#include "sdk/ledger/core.h"

namespace sluice::ledger {
namespace {

// Of all advisory locks of a PostgreSQL database: "sluice".
constexpr std::int64_t kMigrationLock = 0x736c'7569'6365;

Error other_version(const std::string& doing, std::uint64_t found, std::uint64_t known) {
  const std::string numbers = "they are version " + std::to_string(found) + ", this build's " + std::to_string(known);
  return Error(ErrorCode::version,
               found > known ? doing + ": " + numbers + "; nothing was changed: use the newer build that made them"
                             : doing + ": " + numbers + ": bring them up with ledger::migrate()");
}

}  // namespace

Result<std::optional<std::uint64_t>> schema_version(Connection& connection, const Tables& tables) {
  const std::string doing = "reading the version of the ledger's tables in " + tables.schema_table;
  SLUICE_ASSIGN(const Answer answer, run(connection, doing, "SELECT version FROM " + tables.schema_table));
  if (answer.rows.empty()) return std::optional<std::uint64_t>();
  SLUICE_ASSIGN(const std::uint64_t version, number(doing, answer, 0, 0));
  return std::optional(version);
}

Status migrate(Connection& connection, const Tables& tables, const std::vector<SchemaStep>& steps) {
  const std::string doing = "making the ledger's tables beside " + tables.schema_table;
  if (Status ready = connection.require_transaction(); !ready) return fail(explain(doing, ready.error()));
  // Two that make the same table at a time would fail, rather than wait.
  if (connection.dialect() == Dialect::postgres)
    SLUICE_TRY(run(connection, doing, "SELECT pg_advisory_xact_lock($1)", {kMigrationLock}));
  SLUICE_TRY(
      run(connection, doing, "CREATE TABLE IF NOT EXISTS " + tables.schema_table + " (version BIGINT NOT NULL)"));
  SLUICE_ASSIGN(const std::optional<std::uint64_t> found, schema_version(connection, tables));
  const std::uint64_t known = steps.back().version;
  if (found.value_or(0) > known) return fail(other_version(doing, *found, known));
  if (found == known) return {};
  for (const SchemaStep& step : steps) {
    if (step.version <= found.value_or(0)) continue;
    for (const std::string& statement : step.statements) SLUICE_TRY(run(connection, doing, statement));
  }
  const std::string note = found ? "UPDATE " + tables.schema_table + " SET version = $1"
                                 : "INSERT INTO " + tables.schema_table + " (version) VALUES ($1)";
  SLUICE_TRY(run(connection, doing, note, {static_cast<std::int64_t>(known)}));
  return {};
}

Status migrate(Connection& connection, const Options& options) {
  SLUICE_ASSIGN(const Tables tables, table_names(options));
  return migrate(connection, tables, schema_steps(tables, connection.dialect()));
}

Result<Ledger> Ledger::open(Connection& connection, const Options& options) {
  SLUICE_ASSIGN(const Tables tables, table_names(options));
  const std::string doing = "opening the ledger beside " + tables.schema_table;
  const auto found = schema_version(connection, tables);
  if (!found && found.error().code() == ErrorCode::not_found)
    return fail(ErrorCode::not_found, doing + ": its tables are not there: make them with ledger::migrate()");
  if (!found) return fail(explain(doing, found.error()));
  const std::uint64_t known = schema_steps(tables, connection.dialect()).back().version;
  if (found->value_or(0) != known) return fail(other_version(doing, found->value_or(0), known));
  return Ledger(std::make_unique<Impl>(Impl{connection, Statements(tables)}));
}

Ledger::Ledger(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Ledger::Ledger(Ledger&&) noexcept = default;
Ledger& Ledger::operator=(Ledger&&) noexcept = default;
Ledger::~Ledger() = default;

}  // namespace sluice::ledger
