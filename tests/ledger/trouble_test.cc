// What goes wrong in a database, and what the application is told: to come again, to connect again, or to mend
// something.
#include <string>
#include <thread>

#include "tests/ledger/conformance.h"

namespace sluice::ledger {
namespace {

class TroubleTest : public LedgerTest {};
INSTANTIATE_TEST_SUITE_P(Databases, TroubleTest, kKinds, kind_name);

class PostgresTest : public LedgerTest {
 protected:
  void SetUp() override {
    LedgerTest::SetUp();
    other_ = connect();
    other_ledger_.emplace(Ledger::open(other_->connection()).value());
  }
  std::unique_ptr<Session> other_;
  std::optional<Ledger> other_ledger_;
};
INSTANTIATE_TEST_SUITE_P(Databases, PostgresTest, testing::Values(Kind{"postgres", make_postgres}), kind_name);

class SqliteTest : public PostgresTest {};
INSTANTIATE_TEST_SUITE_P(Databases, SqliteTest, testing::Values(Kind{"sqlite", make_sqlite}), kind_name);

TEST_P(TroubleTest, ARowThatSomebodyHasWrittenOverIsSaid) {
  EXPECT_EQ(record(1), Outcome::first);
  ASSERT_OK(session_->execute("INSERT INTO sluice_ledger_versions VALUES ('billing', 'a', -5)"));
  ASSERT_OK(session_->begin());
  ASSERT_CODE(ledger_->advance("billing", "a", 1), ErrorCode::corrupt);
}

TEST_P(TroubleTest, AMessageNamesWhatWasBeingDone) {
  const auto refused = ledger_->record(key_of(2, 3));
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().message().find("recording message 7/3@128 of group billing (epoch 3)"), std::string::npos)
      << refused.error().message();
}

TEST_P(PostgresTest, ASerialisationFailureIsToComeAgain) {
  for (const char* level : {"REPEATABLE READ", "SERIALIZABLE"}) {
    const MessageKey key = key_of(*level);
    ASSERT_OK(session_->begin());
    ASSERT_OK(session_->execute(std::string("SET TRANSACTION ISOLATION LEVEL ") + level));
    ASSERT_OK(session_->number("SELECT count(*) FROM sluice_ledger_messages"));
    ASSERT_OK(other_->transaction([&]() -> Status {
      SLUICE_TRY(other_ledger_->record(key));
      return {};
    }));
    ASSERT_CODE(ledger_->record(key), ErrorCode::would_block);
    ASSERT_CODE(ledger_->record(key), ErrorCode::would_block);  // the transaction has failed
    ASSERT_OK(session_->rollback());
    ASSERT_OK(session_->begin());
    EXPECT_EQ(ledger_->record(key).value().outcome, Outcome::repeat);
    ASSERT_OK(session_->rollback());
  }
}

TEST_P(PostgresTest, SerializableTransactionsAreNotFooledByAForgetThatTheyDoNotSee) {
  const std::string serializable = "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE";
  for (std::uint64_t message = 0; message < 5; ++message) EXPECT_EQ(record(message), Outcome::first);
  ASSERT_OK(session_->begin());
  ASSERT_OK(session_->execute(serializable));
  ASSERT_OK(session_->number("SELECT count(*) FROM sluice_ledger_versions"));  // from here on it sees nothing new
  ASSERT_OK(other_->transaction([&]() -> Status {
    SLUICE_TRY(other_->execute(serializable));
    SLUICE_TRY(other_ledger_->forget(horizon_at(5)));
    return {};
  }));
  const auto late = ledger_->record(key_of(3));
  const Status committed = late ? session_->commit() : session_->rollback();
  EXPECT_FALSE(late && late->outcome == Outcome::first && committed) << "it would be handled twice";
  EXPECT_EQ(record(3), Outcome::repeat);
}

TEST_P(PostgresTest, OfADeadlockOneIsToComeAgain) {
  ASSERT_OK(session_->begin());
  ASSERT_OK(other_->begin());
  ASSERT_OK(ledger_->record(key_of(1)));
  ASSERT_OK(other_ledger_->record(key_of(2)));
  std::optional<ErrorCode> one;
  std::thread thread([&] {
    const auto record = ledger_->record(key_of(2));
    if (!record) one = record.error().code();
    EXPECT_TRUE(session_->rollback());
  });
  const auto record = other_ledger_->record(key_of(1));
  EXPECT_TRUE(other_->rollback());
  thread.join();
  EXPECT_EQ(one.has_value() + !record.has_value(), 1);
  EXPECT_EQ(one ? *one : record.error().code(), ErrorCode::would_block);
}

TEST_P(PostgresTest, AfterAnErrorTheTransactionIsToComeAgain) {
  ASSERT_OK(session_->begin());
  ASSERT_FALSE(session_->execute("this is no SQL"));
  ASSERT_CODE(ledger_->record(key_of(1)), ErrorCode::would_block);
  ASSERT_OK(session_->rollback());
  EXPECT_EQ(record(1), Outcome::first);
}

TEST_P(PostgresTest, ALostConnectionIsSaid) {
  other_ledger_.reset();
  other_.reset();
  ASSERT_OK(session_->begin());
  ASSERT_OK(ledger_->record(key_of(1)));
  std::mt19937 random(1);
  while (!database_->cut_one(random)) std::this_thread::yield();
  ASSERT_CODE(ledger_->record(key_of(2)), ErrorCode::closed);
  ASSERT_CODE(ledger_->record(key_of(2)), ErrorCode::closed);
  ledger_.reset();
  session_ = connect();
  open_ledger();
  EXPECT_EQ(record(1), Outcome::first);
}

TEST_P(PostgresTest, WithoutARightItIsSaid) {
  ASSERT_OK(session_->begin());
  ASSERT_OK(session_->execute("SET TRANSACTION READ ONLY"));
  ASSERT_CODE(ledger_->record(key_of(1)), ErrorCode::permission);
}

TEST_P(PostgresTest, TextThatIsNoUtf8IsRefused) {
  ASSERT_OK(session_->begin());
  ASSERT_CODE(ledger_->record(key_of(1), ApplicationId{"\xff", 1}), ErrorCode::invalid);
}

TEST_P(SqliteTest, ABusyDatabaseIsToComeAgain) {
  ASSERT_OK(other_->execute("PRAGMA busy_timeout = 0"));
  ASSERT_OK(session_->begin());
  ASSERT_OK(ledger_->record(key_of(1)));
  ASSERT_OK(other_->execute("BEGIN"));
  ASSERT_CODE(other_ledger_->record(key_of(2)), ErrorCode::would_block);
  ASSERT_OK(other_->rollback());
  ASSERT_OK(session_->commit());
  ASSERT_OK(other_->begin());
  EXPECT_EQ(other_ledger_->record(key_of(1)).value().outcome, Outcome::repeat);
  EXPECT_EQ(other_ledger_->record(key_of(2)).value().outcome, Outcome::first);
}

TEST_P(SqliteTest, ATransactionThatReadBeforeAnotherWroteIsToComeAgain) {
  ASSERT_OK(other_->execute("BEGIN"));
  ASSERT_OK(other_->number("SELECT count(*) FROM sluice_ledger_messages"));
  EXPECT_EQ(record(1), Outcome::first);
  ASSERT_CODE(other_ledger_->record(key_of(1)), ErrorCode::would_block);
}

TEST_P(SqliteTest, WithoutARightItIsSaid) {
  ASSERT_OK(session_->begin());
  ASSERT_OK(session_->execute("PRAGMA query_only = 1"));
  ASSERT_CODE(ledger_->record(key_of(1)), ErrorCode::permission);
}

}  // namespace
}  // namespace sluice::ledger
