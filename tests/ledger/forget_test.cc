// Forgetting below the safe horizon: what goes, what stays, and that nothing that went is ever first again.
#include <string>
#include <thread>

#include "tests/ledger/conformance.h"

namespace sluice::ledger {
namespace {

class ForgetTest : public LedgerTest {
 protected:
  void record_all(std::uint64_t from, std::uint64_t to, std::uint64_t epoch = 0) {
    ASSERT_OK(session_->begin());
    for (std::uint64_t message = from; message < to; ++message)
      ASSERT_EQ(ledger_->record(key_of(message, epoch)).value().outcome, Outcome::first);
    ASSERT_OK(session_->commit());
  }
  std::vector<std::string> positions() {
    return session_->column("SELECT position / 64 FROM sluice_ledger_messages ORDER BY position, epoch").value();
  }
};
INSTANTIATE_TEST_SUITE_P(Databases, ForgetTest, kKinds, kind_name);

TEST_P(ForgetTest, RowsBelowTheHorizonGoAndNoOthers) {
  record_all(0, 10);
  MessageKey other_partition = key_of(2), other_topic = key_of(2), other_group = key_of(2);
  other_partition.partition = 4;
  other_topic.topic = TopicId(8);
  other_group.group = "shipping";
  ASSERT_OK(session_->begin());
  for (const MessageKey& key : {other_partition, other_topic, other_group}) ASSERT_OK(ledger_->record(key));
  ASSERT_OK(session_->commit());
  const Forgotten forgotten = forget(horizon_at(7));
  EXPECT_EQ(forgotten.rows, 7U);
  EXPECT_FALSE(forgotten.more);
  EXPECT_EQ(positions(), (std::vector<std::string>{"2", "2", "2", "7", "8", "9"}));
  for (std::uint64_t message = 7; message < 10; ++message) EXPECT_EQ(record(message), Outcome::repeat);
}

TEST_P(ForgetTest, ParkedMessagesStay) {
  record_all(0, 10);
  EXPECT_EQ(forget(horizon_at(8, {5, 2, 3, 9})).rows, 5U);
  EXPECT_EQ(positions(), (std::vector<std::string>{"2", "3", "5", "8", "9"}));
  for (const std::uint64_t message : {2, 3, 5}) EXPECT_EQ(record(message), Outcome::repeat);
  // Settled at last.
  EXPECT_EQ(forget(horizon_at(8, {3})).rows, 2U);
  EXPECT_EQ(positions(), (std::vector<std::string>{"3", "8", "9"}));
}

TEST_P(ForgetTest, AParkedMessageThatWasNeverHandledIsFirstWhenItIsRedriven) {
  record_all(0, 5);
  forget(horizon_at(10, {6}));
  EXPECT_EQ(record(6), Outcome::first);
  EXPECT_EQ(record(6), Outcome::repeat);
  EXPECT_EQ(forget(horizon_at(12)).rows, 1U);
  EXPECT_EQ(record(6), Outcome::repeat);
}

TEST_P(ForgetTest, AHandlerThatWasLateFindsARepeat) {
  record_all(0, 10);
  forget(horizon_at(10));
  EXPECT_EQ(rows(), 0);
  for (std::uint64_t message = 0; message < 10; ++message) EXPECT_EQ(record(message), Outcome::repeat);
  EXPECT_EQ(rows(), 0) << "and leaves no row";
  EXPECT_EQ(record(10), Outcome::first);
  ASSERT_OK(session_->begin());
  EXPECT_TRUE(ledger_->check(key_of(3)).value().has_value());
  EXPECT_FALSE(ledger_->check(key_of(11)).value().has_value());
  ASSERT_OK(session_->commit());
}

TEST_P(ForgetTest, AHandlerThatIsLateAtTheSameMomentFindsARepeat) {
  record_all(0, 1);
  ASSERT_OK(session_->begin());
  ASSERT_OK(ledger_->forget(horizon_at(1)));
  std::optional<Outcome> late;
  std::thread thread([&] {
    const auto session = connect();
    Ledger ledger = Ledger::open(session->connection()).value();
    const Status done = session->transaction([&]() -> Status {
      SLUICE_ASSIGN(const Record record, ledger.record(key_of(0)));
      late = record.outcome;
      return {};
    });
    EXPECT_TRUE(done) << done.error().message();
  });
  database_->await_blocked();  // on the row that is being removed
  EXPECT_TRUE(session_->commit());
  thread.join();
  EXPECT_EQ(late, Outcome::repeat);
}

TEST_P(ForgetTest, WhatIsRolledBackIsNotForgotten) {
  record_all(0, 3);
  ASSERT_OK(session_->begin());
  EXPECT_EQ(ledger_->forget(horizon_at(5)).value().rows, 3U);
  ASSERT_OK(session_->rollback());
  EXPECT_EQ(rows(), 3);
  EXPECT_EQ(record(4), Outcome::first);
}

TEST_P(ForgetTest, AnOlderHorizonTakesNothingBack) {
  record_all(0, 10);
  forget(horizon_at(8, {2, 6}));
  EXPECT_EQ(forget(horizon_at(4, {1, 2})).rows, 0U);
  EXPECT_EQ(record(1), Outcome::repeat) << "it was settled at the newer one";
  EXPECT_EQ(record(5), Outcome::repeat) << "the newer one still counts";
  EXPECT_EQ(record(6), Outcome::repeat);
  EXPECT_EQ(positions(), (std::vector<std::string>{"2", "6", "8", "9"}));
  // What the older one knew to be settled, the newer one cannot bring back.
  EXPECT_EQ(forget(horizon_at(8, {2, 3, 6})).rows, 0U);
  EXPECT_EQ(record(3), Outcome::repeat);
  EXPECT_EQ(forget(horizon_at(4)).rows, 1U);
  EXPECT_EQ(positions(), (std::vector<std::string>{"6", "8", "9"}));
}

TEST_P(ForgetTest, AfterAForcedSeekMessagesAreHandledAgainOnce) {
  record_all(0, 10);
  forget(horizon_at(8));
  EXPECT_EQ(record(3, 1), Outcome::first);
  EXPECT_EQ(record(3, 1), Outcome::repeat);
  EXPECT_EQ(record(9, 1), Outcome::first);
  // Said before the seek, and come late: the rows of the new epoch stay.
  EXPECT_EQ(forget(horizon_at(10)).rows, 2U);
  EXPECT_EQ(record(3, 1), Outcome::repeat);
  EXPECT_EQ(record(9, 1), Outcome::repeat);
  EXPECT_EQ(record(4, 1), Outcome::first);
  // Said after it: those of both epochs go, and neither is first again.
  EXPECT_EQ(forget(horizon_at(5, {}, 1)).rows, 2U);
  EXPECT_EQ(record(3, 1), Outcome::repeat);
  EXPECT_EQ(record(4, 1), Outcome::repeat);
  EXPECT_EQ(record(3, 0), Outcome::repeat);
  EXPECT_EQ(record(4, 2), Outcome::first);
}

TEST_P(ForgetTest, AStepHasALimit) {
  record_all(0, 2 * kForgetRowsMax + 1);
  const Horizon horizon = horizon_at(2 * kForgetRowsMax, {0, 1, 2});
  Forgotten step = forget(horizon);
  EXPECT_EQ(step.rows, kForgetRowsMax);
  EXPECT_TRUE(step.more);
  EXPECT_EQ(record(0), Outcome::repeat) << "parked";
  EXPECT_EQ(record(2 * kForgetRowsMax - 1), Outcome::repeat) << "not reached yet";
  step = forget(horizon);
  EXPECT_EQ(step.rows, kForgetRowsMax - 3);
  EXPECT_FALSE(step.more);
  EXPECT_EQ(rows(), 4);
}

TEST_P(ForgetTest, RowsOfManyEpochsGoInStepsToo) {
  ASSERT_OK(session_->begin());
  for (std::uint64_t epoch = 0; epoch < kForgetRowsMax + 5; ++epoch) ASSERT_OK(ledger_->record(key_of(1, epoch)));
  ASSERT_OK(session_->commit());
  EXPECT_EQ(forget(horizon_at(2, {}, 5000)).rows, kForgetRowsMax);
  EXPECT_EQ(forget(horizon_at(2, {}, 5000)).rows, 5U);
}

TEST_P(ForgetTest, TheNumberOfParkedOnesHasALimit) {
  std::vector<std::uint64_t> parked(kParkedMax);
  for (std::uint64_t i = 0; i < parked.size(); ++i) parked[i] = i;
  forget(horizon_at(kParkedMax, parked));
  EXPECT_EQ(rows("parked"), static_cast<std::int64_t>(kParkedMax));
  parked.push_back(kParkedMax);
  ASSERT_OK(session_->begin());
  ASSERT_CODE(ledger_->forget(horizon_at(kParkedMax, parked)), ErrorCode::quota);
}

TEST_P(ForgetTest, OfADeletedTopicEverythingGoes) {
  record_all(0, 10);
  Horizon horizon = horizon_at(0);
  horizon.below = Position(~std::uint64_t{0});
  EXPECT_EQ(forget(horizon).rows, 10U);
  EXPECT_EQ(record(1000), Outcome::repeat);
}

TEST_P(ForgetTest, TwoThatForgetAtATimeDoSoOneAfterTheOther) {
  record_all(0, 300);
  std::vector<std::thread> threads;
  for (unsigned i = 0; i < 4; ++i)
    threads.emplace_back([&, i] {
      const auto session = connect();
      Ledger ledger = Ledger::open(session->connection()).value();
      for (std::uint64_t below = 10 + i; below < 300; below += 10) {
        const Status done = session->transaction([&]() -> Status {
          SLUICE_TRY(ledger.forget(horizon_at(below, {below / 2})));
          return {};
        });
        EXPECT_TRUE(done) << done.error().message();
      }
    });
  for (std::thread& thread : threads) thread.join();
  forget(horizon_at(300));
  EXPECT_EQ(rows(), 0);
  EXPECT_EQ(rows("parked"), 0);
  EXPECT_EQ(session_->number("SELECT below FROM sluice_ledger_horizons").value(), 300 * 64);
}

}  // namespace
}  // namespace sluice::ledger
