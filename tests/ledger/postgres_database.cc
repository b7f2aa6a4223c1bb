#include <libpq-fe.h>

#include <atomic>
#include <chrono>
#include <thread>
#include <utility>

#include <gtest/gtest.h>

#include "sluice/ledger/postgres.h"
#include "tests/ledger/database.h"
#include "tests/ledger/postgres_server.h"

namespace sluice::ledger {
namespace {

constexpr int kBlockedTriesMax = 10'000;

struct Clear {
  void operator()(PGresult* result) const { PQclear(result); }
};
using OwnedResult = std::unique_ptr<PGresult, Clear>;

class PostgresSession final : public Session {
 public:
  PostgresSession(PGconn* connection, Prepare prepare) : pg_(connection) {
    PQsetNoticeProcessor(
        pg_, [](void*, const char*) {}, nullptr);
    connection_ = std::make_unique<PostgresConnection>(pg_, prepare);
  }
  ~PostgresSession() override {
    connection_.reset();
    PQfinish(pg_);
  }
  Connection& connection() override { return *connection_; }
  Status begin() override { return execute("BEGIN"); }
  Status execute(const std::string& sql) override {
    const OwnedResult result(PQexec(pg_, sql.c_str()));
    const ExecStatusType status = PQresultStatus(result.get());
    if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK) return fail(error(sql));
    // The server answers the COMMIT of a transaction that has failed with a rollback.
    if (sql == "COMMIT" && std::string(PQcmdStatus(result.get())) != "COMMIT")
      return fail(ErrorCode::would_block, "COMMIT: rolled back");
    return {};
  }
  Result<std::vector<std::string>> column(const std::string& sql) override {
    const OwnedResult result(PQexec(pg_, sql.c_str()));
    if (PQresultStatus(result.get()) != PGRES_TUPLES_OK) return fail(error(sql));
    std::vector<std::string> rows;
    for (int row = 0; row < PQntuples(result.get()); ++row)
      rows.emplace_back(PQgetisnull(result.get(), row, 0) != 0 ? "NULL" : PQgetvalue(result.get(), row, 0));
    return rows;
  }

 private:
  Error error(const std::string& sql) const {
    return Error(PQstatus(pg_) == CONNECTION_BAD ? ErrorCode::closed : ErrorCode::would_block,
                 sql + ": " + PQerrorMessage(pg_));
  }

  PGconn* pg_;
  std::unique_ptr<PostgresConnection> connection_;
};

// A schema of its own in the one server of the program. Its sessions go by its name, so that none of another test's is
// cut.
class PostgresDatabase final : public Database {
 public:
  PostgresDatabase(std::string server, std::string name, Prepare prepare)
      : server_(std::move(server)), name_(std::move(name)), prepare_(prepare) {}

  Status create() {
    SLUICE_ASSIGN(admin_, open("admin"));
    return admin_->execute("CREATE SCHEMA " + name_);
  }
  Result<std::unique_ptr<Session>> connect() override {
    SLUICE_ASSIGN(std::unique_ptr<Session> session, open(name_));
    SLUICE_TRY(session->execute("SET search_path = " + name_));
    return session;
  }
  bool cut_one(std::mt19937& random) override {
    const auto pids = admin_->column("SELECT pid FROM pg_stat_activity WHERE application_name = '" + name_ + "'");
    if (!pids || pids->empty()) return false;
    const std::string& pid = (*pids)[random() % pids->size()];
    const auto cut = admin_->column("SELECT pg_terminate_backend(" + pid + ")");
    return cut && !cut->empty() && cut->front() == "t";
  }
  void await_blocked() override {
    const std::string blocked =
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        " AND application_name = '" +
        name_ + "'";
    for (int tries = 0; admin_->number(blocked).value() == 0; ++tries) {
      ASSERT_LT(tries, kBlockedTriesMax) << "nothing waits";
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
  }

 private:
  Result<std::unique_ptr<Session>> open(const std::string& application) const {
    PGconn* connection = PQconnectdb((server_ + " application_name=" + application).c_str());
    auto session = std::make_unique<PostgresSession>(connection, prepare_);
    if (PQstatus(connection) != CONNECTION_OK) return fail(ErrorCode::closed, PQerrorMessage(connection));
    return std::unique_ptr<Session>(std::move(session));
  }

  std::string server_;
  std::string name_;
  Prepare prepare_;
  std::unique_ptr<Session> admin_;
};

Result<std::unique_ptr<Database>> make(Prepare prepare) {
  static std::atomic<int> made{0};
  const Result<std::string>& server = PostgresServer::connection_string();
  if (!server) return fail(Error(server.error()));
  auto database = std::make_unique<PostgresDatabase>(*server, "test_" + std::to_string(made.fetch_add(1)), prepare);
  SLUICE_TRY(database->create());
  return std::unique_ptr<Database>(std::move(database));
}

}  // namespace

Result<std::unique_ptr<Database>> make_postgres() { return make(Prepare::once); }
Result<std::unique_ptr<Database>> make_postgres_unprepared() { return make(Prepare::never); }

}  // namespace sluice::ledger
