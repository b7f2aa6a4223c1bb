// A version per subject, in the ledger's table and in a column of the application's.
#include <string>
#include <thread>

#include "tests/ledger/conformance.h"

namespace sluice::ledger {
namespace {

using Step = Advance::Outcome;

class AdvanceTest : public LedgerTest {
 protected:
  void SetUp() override {
    LedgerTest::SetUp();
    ASSERT_OK(session_->execute(
        "CREATE TABLE accounts (number INTEGER PRIMARY KEY, owner TEXT NOT NULL, changes INTEGER NOT NULL)"));
    ASSERT_OK(session_->execute("INSERT INTO accounts VALUES (17, 'ada', 0), (18, 'ada', 0)"));
  }
  Step advance(std::string_view subject, std::uint64_t version) {
    return commit([&] { return ledger_->advance("billing", subject, version); });
  }
  Step advance_account(std::string_view id, std::uint64_t version) {
    return commit([&] { return ledger_->advance(account_, id, version); });
  }
  Step commit(const std::function<Result<Advance>()>& body) {
    Step step{};
    const Status done = session_->transaction([&]() -> Status {
      SLUICE_ASSIGN(const Advance advance, body());
      step = advance.outcome;
      return {};
    });
    EXPECT_TRUE(done) << done.error().message();
    return step;
  }

  const VersionColumn account_{"accounts", "number", "changes"};
};
INSTANTIATE_TEST_SUITE_P(Databases, AdvanceTest, kKinds, kind_name);
INSTANTIATE_TEST_SUITE_P(Unprepared, AdvanceTest, testing::Values(Kind{"postgres", make_postgres_unprepared}),
                         kind_name);

TEST_P(AdvanceTest, AVersionMovesByOneAndNeverTwice) {
  EXPECT_EQ(advance("a", 2), Step::early);
  EXPECT_EQ(advance("a", 1), Step::first);
  EXPECT_EQ(advance("a", 1), Step::repeat);
  EXPECT_EQ(advance("a", 3), Step::early);
  EXPECT_EQ(advance("a", 2), Step::first);
  EXPECT_EQ(advance("a", 3), Step::first);
  EXPECT_EQ(advance("a", 1), Step::repeat);
  EXPECT_EQ(advance("a", 3), Step::repeat);
}

TEST_P(AdvanceTest, SubjectsAndGroupsAreApart) {
  EXPECT_EQ(advance("a", 1), Step::first);
  EXPECT_EQ(advance("b", 1), Step::first);
  EXPECT_EQ(commit([&] { return ledger_->advance("shipping", "a", 1); }), Step::first);
  EXPECT_EQ(advance("b", 1), Step::repeat);
}

TEST_P(AdvanceTest, ItSaysWhichVersionStands) {
  ASSERT_OK(session_->begin());
  EXPECT_EQ(ledger_->advance("billing", "a", 5).value().version, 0U);
  EXPECT_EQ(ledger_->advance("billing", "a", 1).value().version, 1U);
  EXPECT_EQ(ledger_->advance("billing", "a", 2).value().version, 2U);
  EXPECT_EQ(ledger_->advance("billing", "a", 1).value().version, 2U);
  EXPECT_EQ(ledger_->advance("billing", "a", 9).value().version, 2U);
  ASSERT_OK(session_->commit());
}

TEST_P(AdvanceTest, WhatWasRolledBackHasNotMoved) {
  ASSERT_OK(session_->begin());
  EXPECT_EQ(ledger_->advance("billing", "a", 1).value().outcome, Step::first);
  EXPECT_EQ(ledger_->advance(account_, "17", 1).value().outcome, Step::first);
  ASSERT_OK(session_->rollback());
  EXPECT_EQ(advance("a", 1), Step::first);
  EXPECT_EQ(advance_account("17", 1), Step::first);
}

TEST_P(AdvanceTest, AColumnOfTheApplicationsMovesAlike) {
  EXPECT_EQ(advance_account("17", 2), Step::early);
  EXPECT_EQ(advance_account("17", 1), Step::first);
  EXPECT_EQ(advance_account("17", 1), Step::repeat);
  EXPECT_EQ(advance_account("17", 2), Step::first);
  EXPECT_EQ(advance_account("18", 1), Step::first);
  EXPECT_EQ(session_->number("SELECT changes FROM accounts WHERE number = 17").value(), 2);
}

TEST_P(AdvanceTest, AColumnThatCannotBeIsSaid) {
  const auto refused = [&](const VersionColumn& column, std::string_view id) {
    EXPECT_TRUE(session_->begin());
    const auto advance = ledger_->advance(column, id, 1);
    EXPECT_TRUE(session_->rollback());
    return advance ? ErrorCode::internal : advance.error().code();
  };
  EXPECT_EQ(refused(account_, "99"), ErrorCode::not_found);
  EXPECT_EQ(refused({"accounts", "owner", "changes"}, "ada"), ErrorCode::invalid) << "two rows";
  EXPECT_EQ(refused({"accounts", "number", "chances"}, "17"), ErrorCode::invalid);
  EXPECT_EQ(refused({"accounts", "numbers", "changes"}, "17"), ErrorCode::invalid);
  EXPECT_EQ(refused({"accountants", "number", "changes"}, "17"), ErrorCode::not_found);
  EXPECT_EQ(refused({"accounts; DROP TABLE accounts", "number", "changes"}, "17"), ErrorCode::invalid);
  EXPECT_EQ(refused(account_, ""), ErrorCode::invalid);
  EXPECT_EQ(session_->number("SELECT sum(changes) FROM accounts").value(), 0);
}

TEST_P(AdvanceTest, VersionsStartAtOne) {
  ASSERT_OK(session_->begin());
  ASSERT_CODE(ledger_->advance("billing", "a", 0), ErrorCode::invalid);
  ASSERT_CODE(ledger_->advance("billing", "a", std::uint64_t{1} << 63), ErrorCode::invalid);
  ASSERT_CODE(ledger_->advance("billing", std::string(kIdSizeMax + 1, 's'), 1), ErrorCode::too_large);
  EXPECT_EQ(ledger_->advance("billing", std::string(kIdSizeMax, 's'), 1).value().outcome, Step::first);
}

TEST_P(AdvanceTest, AVersionCanBeSetAndTakenBack) {
  ASSERT_OK(session_->transaction([&] { return ledger_->set_version("billing", "a", 41); }));
  EXPECT_EQ(advance("a", 41), Step::repeat);
  EXPECT_EQ(advance("a", 42), Step::first);
  ASSERT_OK(session_->transaction([&] { return ledger_->set_version("billing", "a", 10); }));
  EXPECT_EQ(advance("a", 11), Step::first);
  ASSERT_OK(session_->transaction([&] { return ledger_->set_version("billing", "a", 0); }));
  EXPECT_EQ(advance("a", 1), Step::first);
  EXPECT_EQ(rows("versions"), 1);
}

TEST_P(AdvanceTest, OfTwoAtATimeOneMoves) {
  for (std::uint64_t version = 1; version <= 2; ++version) {
    ASSERT_OK(session_->begin());
    EXPECT_EQ(ledger_->advance("billing", "a", version).value().outcome, Step::first);
    std::optional<Step> other;
    std::thread thread([&] {
      const auto session = connect();
      Ledger ledger = Ledger::open(session->connection()).value();
      const Status done = session->transaction([&]() -> Status {
        SLUICE_ASSIGN(const Advance advance, ledger.advance("billing", "a", version));
        other = advance.outcome;
        return {};
      });
      EXPECT_TRUE(done) << done.error().message();
    });
    database_->await_blocked();
    EXPECT_TRUE(session_->commit());
    thread.join();
    EXPECT_EQ(other, Step::repeat);
  }
}

}  // namespace
}  // namespace sluice::ledger
