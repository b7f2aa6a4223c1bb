// The tables: made, found, brought up from an older build's, refused if newer; and names of the application's choice.
#include "sdk/ledger/schema.h"

#include <string>
#include <thread>

#include "tests/ledger/conformance.h"

namespace sluice::ledger {
namespace {

class SchemaTest : public LedgerTest {
 protected:
  void SetUp() override {
    auto made = GetParam().make();
    ASSERT_TRUE(made) << made.error().message();
    database_ = std::move(*made);
    session_ = connect();
  }
  Status migrate_here(const Options& options = {}) {
    return session_->transaction([&] { return migrate(session_->connection(), options); });
  }
  Status migrate_steps(const std::vector<SchemaStep>& steps) {
    return session_->transaction([&] { return migrate(session_->connection(), tables_, steps); });
  }

  const Tables tables_ = table_names(Options{}).value();
};
INSTANTIATE_TEST_SUITE_P(Databases, SchemaTest, kKinds, kind_name);

TEST_P(SchemaTest, WithoutTablesTheLedgerDoesNotOpen) {
  ASSERT_CODE(Ledger::open(session_->connection()), ErrorCode::not_found);
  ASSERT_OK(migrate_here());
  ASSERT_OK(Ledger::open(session_->connection()));
}

TEST_P(SchemaTest, MakingThemAgainChangesNothing) {
  ASSERT_OK(migrate_here());
  open_ledger();
  EXPECT_EQ(record(1), Outcome::first);
  ASSERT_OK(migrate_here());
  EXPECT_EQ(record(1), Outcome::repeat);
  EXPECT_EQ(session_->number("SELECT version FROM sluice_ledger_schema").value(), 1);
}

TEST_P(SchemaTest, TheTransactionIsTheApplications) {
  ASSERT_OK(session_->begin());
  ASSERT_OK(migrate(session_->connection()));
  ASSERT_OK(session_->rollback());
  ASSERT_CODE(Ledger::open(session_->connection()), ErrorCode::not_found);
}

TEST_P(SchemaTest, SeveralMayMakeThemAtATime) {
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i)
    threads.emplace_back([&] {
      const auto session = connect();
      const Status done = session->transaction([&] { return migrate(session->connection()); });
      EXPECT_TRUE(done) << done.error().message();
    });
  for (std::thread& thread : threads) thread.join();
  ASSERT_OK(Ledger::open(session_->connection()));
  EXPECT_EQ(rows("schema"), 1);
}

TEST_P(SchemaTest, TablesOfAnOlderBuildAreBroughtUpWithWhatIsInThem) {
  const std::vector<SchemaStep> old_build = schema_steps(tables_, session_->connection().dialect());
  std::vector<SchemaStep> new_build = old_build;
  new_build.push_back({2, {"ALTER TABLE " + tables_.messages + " ADD COLUMN handler TEXT"}});
  new_build.push_back({4, {"CREATE TABLE later (x INTEGER)", "INSERT INTO later VALUES (4)"}});
  ASSERT_OK(migrate_steps(old_build));
  open_ledger();
  EXPECT_EQ(record(1), Outcome::first);
  ASSERT_OK(migrate_steps(new_build));
  ASSERT_OK(migrate_steps(new_build));
  EXPECT_EQ(session_->number("SELECT count(*) FROM sluice_ledger_messages WHERE handler IS NULL").value(), 1);
  EXPECT_EQ(session_->number("SELECT count(*) FROM later").value(), 1) << "each step runs once";
  EXPECT_EQ(session_->number("SELECT version FROM sluice_ledger_schema").value(), 4);
  // And the older build keeps its hands off them.
  ASSERT_CODE(migrate_steps(old_build), ErrorCode::version);
  ASSERT_CODE(Ledger::open(session_->connection()), ErrorCode::version);
  EXPECT_EQ(rows(), 1);
}

TEST_P(SchemaTest, AStepThatFailsLeavesTheTablesAsTheyWere) {
  std::vector<SchemaStep> steps = schema_steps(tables_, session_->connection().dialect());
  ASSERT_OK(migrate_steps(steps));
  steps.push_back({2, {"CREATE TABLE later (x INTEGER)", "this is no SQL"}});
  ASSERT_FALSE(migrate_steps(steps));
  EXPECT_FALSE(session_->number("SELECT count(*) FROM later"));
  ASSERT_OK(Ledger::open(session_->connection()));
}

TEST_P(SchemaTest, AnOlderBuildsTablesDoNotOpen) {
  ASSERT_OK(migrate_here());
  ASSERT_OK(session_->execute("UPDATE sluice_ledger_schema SET version = 0"));
  ASSERT_CODE(Ledger::open(session_->connection()), ErrorCode::version);
}

TEST_P(SchemaTest, APrefixKeepsTwoLedgersApart) {
  const Options options{"", "shop_"};
  ASSERT_OK(migrate_here());
  ASSERT_OK(migrate_here(options));
  Ledger shop = Ledger::open(session_->connection(), options).value();
  open_ledger();
  ASSERT_OK(session_->begin());
  EXPECT_EQ(ledger_->record(key_of(1)).value().outcome, Outcome::first);
  EXPECT_EQ(shop.record(key_of(1)).value().outcome, Outcome::first);
  EXPECT_EQ(shop.record(key_of(1)).value().outcome, Outcome::repeat);
  ASSERT_OK(session_->commit());
  EXPECT_EQ(session_->number("SELECT count(*) FROM shop_messages").value(), 1);
}

TEST_P(SchemaTest, TheTablesMayLieInASchema) {
  const Options options{"apart", "l_"};
  ASSERT_OK(session_->execute(session_->connection().dialect() == Dialect::sqlite
                                  ? "ATTACH DATABASE ':memory:' AS apart"
                                  : "DROP SCHEMA IF EXISTS apart CASCADE;"
                                    "CREATE SCHEMA apart"));
  ASSERT_OK(migrate_here(options));
  ledger_.emplace(Ledger::open(session_->connection(), options).value());
  EXPECT_EQ(record(1), Outcome::first);
  EXPECT_EQ(record(1), Outcome::repeat);
  EXPECT_EQ(forget(horizon_at(2)).rows, 1U);
  EXPECT_EQ(session_->number("SELECT count(*) FROM apart.l_horizons").value(), 1);
  ASSERT_CODE(Ledger::open(session_->connection()), ErrorCode::not_found);
}

TEST_P(SchemaTest, NamesThatAreNoneAreRefused) {
  for (const char* prefix : {"", "1st_", "a b", "x\"; DROP TABLE y; --", "ä_"})
    ASSERT_CODE(migrate_here({"", prefix}), ErrorCode::invalid);
  ASSERT_CODE(migrate_here({"", std::string(kPrefixSizeMax + 1, 'p')}), ErrorCode::invalid);
  ASSERT_OK(migrate_here({"", std::string(kPrefixSizeMax, 'p')}));
  ASSERT_CODE(migrate_here({"a.b", "p_"}), ErrorCode::invalid);
  ASSERT_CODE(migrate_here({"missing", "p_"}), ErrorCode::not_found);
}

}  // namespace
}  // namespace sluice::ledger
