// A row per message, per id of the application, and with a result.
#include <string>
#include <thread>

#include "tests/ledger/conformance.h"

namespace sluice::ledger {
namespace {

class RecordTest : public LedgerTest {
 protected:
  Result<Record> record_id(std::uint64_t message, std::string_view id, std::uint64_t epoch = 0) {
    SLUICE_TRY(session_->begin());
    auto record = ledger_->record(key_of(message, epoch), ApplicationId{id, 1});
    SLUICE_TRY(session_->commit());
    return record;
  }
};
INSTANTIATE_TEST_SUITE_P(Databases, RecordTest, kKinds, kind_name);

TEST_P(RecordTest, OnlyTheFirstOfAKeyIsFirst) {
  EXPECT_EQ(record(1), Outcome::first);
  EXPECT_EQ(record(1), Outcome::repeat);
  EXPECT_EQ(record(2), Outcome::first);
  EXPECT_EQ(record(1), Outcome::repeat);
}

TEST_P(RecordTest, EveryPartOfTheKeyCounts) {
  const MessageKey one = key_of(1);
  MessageKey other_group = one, other_epoch = one, other_topic = one, other_partition = one, other_position = one;
  other_group.group = "shipping";
  other_epoch.epoch = 1;
  other_topic.topic = TopicId(8);
  other_partition.partition = 4;
  other_position.position = Position(65);
  ASSERT_OK(session_->begin());
  for (const MessageKey& key : {one, other_group, other_epoch, other_topic, other_partition, other_position}) {
    EXPECT_EQ(ledger_->record(key).value().outcome, Outcome::first);
    EXPECT_EQ(ledger_->record(key).value().outcome, Outcome::repeat);
  }
  ASSERT_OK(session_->commit());
}

TEST_P(RecordTest, WhatWasRolledBackWasNotRecorded) {
  ASSERT_OK(session_->begin());
  EXPECT_EQ(ledger_->record(key_of(1)).value().outcome, Outcome::first);
  ASSERT_OK(session_->rollback());
  EXPECT_EQ(record(1), Outcome::first);
}

TEST_P(RecordTest, AConnectionThatIsCutLeavesNothing) {
  ASSERT_OK(session_->begin());
  EXPECT_EQ(ledger_->record(key_of(1)).value().outcome, Outcome::first);
  ledger_.reset();
  session_ = connect();
  open_ledger();
  EXPECT_EQ(record(1), Outcome::first);
}

TEST_P(RecordTest, TheRepeatWaitsForTheOneThatIsUnderWay) {
  for (const bool commits : {true, false}) {
    const MessageKey key = key_of(commits ? 1 : 2);
    ASSERT_OK(session_->begin());
    EXPECT_EQ(ledger_->record(key).value().outcome, Outcome::first);
    std::optional<Outcome> other;
    std::thread thread([&] {
      const auto session = connect();
      Ledger ledger = Ledger::open(session->connection()).value();
      const Status done = session->transaction([&]() -> Status {
        SLUICE_ASSIGN(const Record record, ledger.record(key));
        other = record.outcome;
        return {};
      });
      EXPECT_TRUE(done) << done.error().message();
    });
    database_->await_blocked();
    if (commits)
      EXPECT_TRUE(session_->commit());
    else
      EXPECT_TRUE(session_->rollback());
    thread.join();
    EXPECT_EQ(other, commits ? Outcome::repeat : Outcome::first);
  }
}

TEST_P(RecordTest, TwoMessagesWithOneIdAreOneMessage) {
  EXPECT_EQ(record_id(1, "order-17").value().outcome, Outcome::first);
  EXPECT_EQ(record_id(1, "order-17").value().outcome, Outcome::repeat);
  EXPECT_EQ(record_id(2, "order-17").value().outcome, Outcome::repeat);
  EXPECT_EQ(record_id(3, "order-18").value().outcome, Outcome::first);
  // A message is known by its place too, whatever id it comes with.
  EXPECT_EQ(record_id(1, "order-19").value().outcome, Outcome::repeat);
  EXPECT_EQ(record_id(4, "order-19").value().outcome, Outcome::first);
}

TEST_P(RecordTest, AfterAForcedSeekAnIdCountsAnew) {
  EXPECT_EQ(record_id(1, "order-17").value().outcome, Outcome::first);
  EXPECT_EQ(record_id(1, "order-17", 1).value().outcome, Outcome::first);
  EXPECT_EQ(record_id(1, "order-17", 1).value().outcome, Outcome::repeat);
}

TEST_P(RecordTest, ForgottenIdsAreFirstAgainForNewMessagesAlone) {
  const std::size_t count = kForgetRowsMax + 10;
  ASSERT_OK(session_->begin());
  for (std::uint64_t i = 0; i < count; ++i)
    ASSERT_OK(ledger_->record(key_of(i), ApplicationId{"order-" + std::to_string(i), 100 + i / 500}));
  ASSERT_OK(session_->commit());
  const auto forget_ids = [&](std::uint64_t before_ns) {
    Forgotten forgotten;
    const Status done = session_->transaction([&]() -> Status {
      SLUICE_ASSIGN(forgotten, ledger_->forget_ids("billing", before_ns));
      return {};
    });
    EXPECT_TRUE(done) << done.error().message();
    return forgotten;
  };
  EXPECT_EQ(forget_ids(100).rows, 0U);
  EXPECT_EQ(forget_ids(102).rows, kForgetRowsMax);
  EXPECT_EQ(rows("ids"), 10);
  EXPECT_EQ(record_id(0, "order-0").value().outcome, Outcome::repeat) << "delivered again";
  EXPECT_EQ(record_id(count, "order-0").value().outcome, Outcome::first) << "sent again";
  EXPECT_EQ(record_id(count + 1, "order-1005").value().outcome, Outcome::repeat);
}

TEST_P(RecordTest, IdsAreForgottenInSteps) {
  ASSERT_OK(session_->begin());
  for (std::uint64_t i = 0; i < 2 * kForgetRowsMax + 5; ++i)
    ASSERT_OK(ledger_->record(key_of(i), ApplicationId{std::to_string(i), 100}));
  std::vector<std::size_t> steps;
  for (bool more = true; more;) {
    const auto forgotten = ledger_->forget_ids("billing", 101);
    ASSERT_OK(forgotten);
    steps.push_back(forgotten->rows);
    more = forgotten->more;
  }
  ASSERT_OK(session_->commit());
  EXPECT_EQ(steps, (std::vector<std::size_t>{kForgetRowsMax, kForgetRowsMax, 5}));
}

TEST_P(RecordTest, TheRepeatGetsTheResultOfTheFirst) {
  const std::string result("receipt\0 17 \xff", 13);
  ASSERT_OK(session_->transaction([&]() -> Status {
    SLUICE_ASSIGN(const auto nothing, ledger_->check(key_of(1)));
    EXPECT_FALSE(nothing.has_value());
    SLUICE_ASSIGN(const Record first, ledger_->record(key_of(1)));
    EXPECT_EQ(first.outcome, Outcome::first);
    EXPECT_FALSE(first.result.has_value());
    return ledger_->keep_result(key_of(1), result);
  }));
  ASSERT_OK(session_->transaction([&]() -> Status {
    SLUICE_ASSIGN(const auto found, ledger_->check(key_of(1)));
    EXPECT_TRUE(found.has_value() && found->result == result);
    SLUICE_ASSIGN(const Record repeat, ledger_->record(key_of(1)));
    EXPECT_EQ(repeat.outcome, Outcome::repeat);
    EXPECT_EQ(repeat.result, result);
    return {};
  }));
}

TEST_P(RecordTest, AnEmptyResultIsNotNone) {
  ASSERT_OK(session_->begin());
  ASSERT_OK(ledger_->record(key_of(1)));
  EXPECT_EQ(ledger_->record(key_of(1)).value().result, std::nullopt);
  ASSERT_OK(ledger_->keep_result(key_of(1), ""));
  EXPECT_EQ(ledger_->record(key_of(1)).value().result, "");
  ASSERT_OK(session_->commit());
}

TEST_P(RecordTest, AnIdLeadsToTheResultOfTheMessageThatWasHandled) {
  ASSERT_OK(session_->begin());
  ASSERT_OK(ledger_->record(key_of(1), ApplicationId{"order-17", 1}));
  ASSERT_OK(ledger_->keep_result(key_of(1), "shipped"));
  EXPECT_EQ(ledger_->record(key_of(2), ApplicationId{"order-17", 2}).value().result, "shipped");
  ASSERT_OK(session_->commit());
}

TEST_P(RecordTest, AResultBelongsToARecordedMessage) {
  ASSERT_OK(session_->begin());
  ASSERT_CODE(ledger_->keep_result(key_of(1), "x"), ErrorCode::not_found);
}

TEST_P(RecordTest, LimitsAreExact) {
  ASSERT_OK(session_->begin());
  MessageKey key = key_of(1);
  key.group = std::string(kGroupSizeMax, 'g');
  ASSERT_OK(ledger_->record(key, ApplicationId{std::string(kIdSizeMax, 'i'), 1}));
  ASSERT_OK(ledger_->keep_result(key, std::string(kResultSizeMax, 'r')));
  EXPECT_EQ(ledger_->record(key).value().result->size(), kResultSizeMax);
  ASSERT_CODE(ledger_->keep_result(key, std::string(kResultSizeMax + 1, 'r')), ErrorCode::too_large);
  ASSERT_CODE(ledger_->record(key, ApplicationId{std::string(kIdSizeMax + 1, 'i'), 1}), ErrorCode::too_large);
  key.group += 'g';
  ASSERT_CODE(ledger_->record(key), ErrorCode::too_large);
  key = key_of(1);
  key.position = Position((std::uint64_t{1} << 63) - 1);
  ASSERT_OK(ledger_->record(key));
  key.position = Position(std::uint64_t{1} << 63);
  ASSERT_CODE(ledger_->record(key), ErrorCode::invalid);
  key = key_of(1);
  key.topic = TopicId(0xffff'ffff);
  key.partition = 0xffff'ffff;
  EXPECT_EQ(ledger_->record(key).value().outcome, Outcome::first);
  EXPECT_EQ(ledger_->record(key).value().outcome, Outcome::repeat);
  ASSERT_OK(session_->commit());
}

TEST_P(RecordTest, TextThatDatabasesCannotKeepIsRefused) {
  ASSERT_OK(session_->begin());
  MessageKey key = key_of(1);
  key.group = std::string("a\0b", 3);
  ASSERT_CODE(ledger_->record(key), ErrorCode::invalid);
  key.group.clear();
  ASSERT_CODE(ledger_->record(key), ErrorCode::invalid);
  ASSERT_CODE(ledger_->record(key_of(1), ApplicationId{std::string_view("1\0002", 3), 1}), ErrorCode::invalid);
  ASSERT_CODE(ledger_->record(key_of(1), ApplicationId{"", 1}), ErrorCode::invalid);
}

TEST_P(RecordTest, QuotesInAGroupAreText) {
  ASSERT_OK(session_->begin());
  MessageKey key = key_of(1);
  key.group = "it's \"x\"; DROP TABLE sluice_ledger_messages; --";
  EXPECT_EQ(ledger_->record(key).value().outcome, Outcome::first);
  EXPECT_EQ(ledger_->record(key).value().outcome, Outcome::repeat);
  ASSERT_OK(session_->commit());
}

TEST_P(RecordTest, WithoutATransactionNothingIsDone) {
  ASSERT_CODE(ledger_->record(key_of(1)), ErrorCode::invalid);
  ASSERT_CODE(ledger_->check(key_of(1)), ErrorCode::invalid);
  ASSERT_CODE(ledger_->keep_result(key_of(1), "x"), ErrorCode::invalid);
  ASSERT_CODE(ledger_->advance("billing", "a", 1), ErrorCode::invalid);
  ASSERT_CODE(ledger_->set_version("billing", "a", 1), ErrorCode::invalid);
  ASSERT_CODE(ledger_->forget(horizon_at(1)), ErrorCode::invalid);
  ASSERT_CODE(ledger_->forget_ids("billing", 1), ErrorCode::invalid);
  ASSERT_CODE(migrate(session_->connection()), ErrorCode::invalid);
  EXPECT_EQ(rows(), 0);
}

}  // namespace
}  // namespace sluice::ledger
