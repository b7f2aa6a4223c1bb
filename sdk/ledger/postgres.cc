#include "sluice/ledger/postgres.h"

#include <libpq-fe.h>

#include <atomic>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

namespace sluice::ledger {
namespace {

constexpr int kTextFormat = 0;
constexpr int kBinaryFormat = 1;
// Types of columns by their numbers in the catalogue, which never change (pg_type.dat).
constexpr Oid kInt2 = 21;
constexpr Oid kInt4 = 23;
constexpr Oid kInt8 = 20;

struct Clear {
  void operator()(PGresult* result) const { PQclear(result); }
};
using OwnedResult = std::unique_ptr<PGresult, Clear>;

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && (text.back() == '\n' || text.back() == ' ')) text.remove_suffix(1);
  return text;
}

// By the SQLSTATE's five characters; appendix A of PostgreSQL's manual lists them.
ErrorCode code_of(std::string_view state) {
  if (state == "40001" || state == "40P01" || state == "55P03" || state == "57014" || state == "25P02" ||
      state == "53100" || state == "53300")
    return ErrorCode::would_block;
  if (state == "42P01" || state == "3F000") return ErrorCode::not_found;
  if (state == "42501" || state == "25006") return ErrorCode::permission;
  if (state == "53200") return ErrorCode::no_memory;
  if (state == "58030") return ErrorCode::io;
  if (state.starts_with("08") || state.starts_with("57P")) return ErrorCode::closed;
  if (state.starts_with("22") || state == "42703" || state == "42883") return ErrorCode::invalid;
  if (state.starts_with("54")) return ErrorCode::too_large;
  if (state == "XX001" || state == "XX002") return ErrorCode::corrupt;
  return ErrorCode::internal;
}

const char* advice(ErrorCode code) {
  switch (code) {
    case ErrorCode::would_block: return "; roll back, and handle the message again";
    case ErrorCode::closed: return "; connect again: the message comes again";
    case ErrorCode::not_found:
      return "; of the ledger's own tables: make them with ledger::migrate(), in a schema that is there";
    case ErrorCode::permission: return "; grant what is missing";
    case ErrorCode::corrupt:
    case ErrorCode::io: return "; look at the server's log and disk";
    default: return "; roll back";
  }
}

Error lost(const PGconn* connection) {
  return Error(ErrorCode::closed, "the connection to PostgreSQL is lost: " +
                                      std::string(trimmed(PQerrorMessage(connection))) + advice(ErrorCode::closed));
}

Error error_of(const PGconn* connection, const PGresult* result) {
  if (PQstatus(connection) == CONNECTION_BAD) return lost(connection);
  const char* state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
  const char* text = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
  const ErrorCode code = state == nullptr ? ErrorCode::internal : code_of(state);
  return Error(code, "PostgreSQL says: " + std::string(text != nullptr ? text : trimmed(PQerrorMessage(connection))) +
                         advice(code));
}

// libpq's view of the parameters. Numbers go as text, so that the server reads them as whatever the column is.
struct Values {
  explicit Values(std::span<const Parameter> parameters) {
    numbers.reserve(parameters.size());
    for (const Parameter& parameter : parameters) add(parameter);
  }
  void add(const Parameter& parameter) {
    if (const auto* number = std::get_if<std::int64_t>(&parameter)) {
      keep(std::to_string(*number), kTextFormat);
    } else if (const auto* text = std::get_if<std::string_view>(&parameter)) {
      keep(std::string(*text), kTextFormat);
    } else if (const auto* bytes = std::get_if<std::span<const std::byte>>(&parameter)) {
      // An empty value has an address too: without one it is NULL.
      values.push_back(bytes->empty() ? "" : reinterpret_cast<const char*>(bytes->data()));
      sizes.push_back(static_cast<int>(bytes->size()));
      formats.push_back(kBinaryFormat);
    } else {
      values.push_back(nullptr);
      sizes.push_back(0);
      formats.push_back(kTextFormat);
    }
  }
  void keep(std::string text, int format) {
    numbers.push_back(std::move(text));
    values.push_back(numbers.back().c_str());
    sizes.push_back(static_cast<int>(numbers.back().size()));
    formats.push_back(format);
  }
  int count() const { return static_cast<int>(values.size()); }

  std::vector<std::string> numbers;  // and texts, with the zero byte that libpq looks for
  std::vector<const char*> values;
  std::vector<int> sizes;
  std::vector<int> formats;
};

Cell cell(const PGresult* result, int row, int column) {
  if (PQgetisnull(result, row, column) != 0) return std::monostate{};
  const char* bytes = PQgetvalue(result, row, column);
  const int size = PQgetlength(result, row, column);
  const Oid type = PQftype(result, column);
  if (type != kInt2 && type != kInt4 && type != kInt8) return std::string(bytes, static_cast<std::size_t>(size));
  // Big-endian, two's complement.
  std::uint64_t value = size > 0 && static_cast<signed char>(bytes[0]) < 0 ? ~std::uint64_t{0} : 0;
  for (int i = 0; i < size; ++i) value = value << 8 | static_cast<unsigned char>(bytes[i]);
  return static_cast<std::int64_t>(value);
}

Answer answer_of(PGresult* result) {
  Answer answer;
  const std::string_view changed = PQcmdTuples(result);
  for (const char digit : changed) answer.changed = answer.changed * 10 + static_cast<std::uint64_t>(digit - '0');
  for (int row = 0; row < PQntuples(result); ++row) {
    auto& cells = answer.rows.emplace_back();
    for (int column = 0; column < PQnfields(result); ++column) cells.push_back(cell(result, row, column));
  }
  return answer;
}

// A statement's name is its connection's for as long as that lives, and longer than one of our objects.
std::uint64_t next_statement_number() {
  static std::atomic<std::uint64_t> last{0};
  return last.fetch_add(1, std::memory_order_relaxed) + 1;
}

}  // namespace

struct PostgresConnection::Impl {
  PGconn* connection;
  Prepare prepare;
  std::unordered_map<std::string, std::string> statements;  // text → name

  Result<std::string> statement(const std::string& sql) {
    const auto found = statements.find(sql);
    if (found != statements.end()) return found->second;
    std::string made = "sluice_ledger_" + std::to_string(next_statement_number());
    const OwnedResult result(PQprepare(connection, made.c_str(), sql.c_str(), 0, nullptr));
    if (PQresultStatus(result.get()) != PGRES_COMMAND_OK) return fail(error_of(connection, result.get()));
    return statements.emplace(sql, std::move(made)).first->second;
  }
};

PostgresConnection::PostgresConnection(pg_conn* connection, Prepare prepare)
    : impl_(std::make_unique<Impl>(Impl{connection, prepare, {}})) {}
PostgresConnection::~PostgresConnection() = default;

Status PostgresConnection::require_transaction() const {
  switch (PQtransactionStatus(impl_->connection)) {
    case PQTRANS_INTRANS: return {};
    case PQTRANS_INERROR:
      return fail(ErrorCode::would_block,
                  std::string("the transaction has failed before") + advice(ErrorCode::would_block));
    case PQTRANS_UNKNOWN: return fail(lost(impl_->connection));
    case PQTRANS_ACTIVE:
      return fail(ErrorCode::invalid, "the PostgreSQL connection is busy with another statement: end that one first");
    default:
      return fail(ErrorCode::invalid,
                  "no transaction is open on the PostgreSQL connection: the ledger works inside the application's: "
                  "BEGIN first");
  }
}

Result<Answer> PostgresConnection::run(const std::string& sql, std::span<const Parameter> parameters) {
  const Values values(parameters);
  PGconn* connection = impl_->connection;
  OwnedResult result;
  if (impl_->prepare == Prepare::once) {
    SLUICE_ASSIGN(const std::string name, impl_->statement(sql));
    result.reset(PQexecPrepared(connection, name.c_str(), values.count(), values.values.data(), values.sizes.data(),
                                values.formats.data(), kBinaryFormat));
  } else {
    result.reset(PQexecParams(connection, sql.c_str(), values.count(), nullptr, values.values.data(),
                              values.sizes.data(), values.formats.data(), kBinaryFormat));
  }
  const ExecStatusType status = PQresultStatus(result.get());
  if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK) return fail(error_of(connection, result.get()));
  return answer_of(result.get());
}

}  // namespace sluice::ledger
