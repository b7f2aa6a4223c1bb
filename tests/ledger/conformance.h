// What every test of the suite has: a database of its own with the ledger's tables, and messages by number.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include <gtest/gtest.h>

#include "sluice/ledger/ledger.h"
#include "tests/ledger/database.h"

#define ASSERT_OK(expression)                                        \
  do {                                                               \
    const auto asserted = (expression);                              \
    ASSERT_TRUE(asserted.has_value()) << asserted.error().message(); \
  } while (false)
#define ASSERT_CODE(expression, expected)                                       \
  do {                                                                          \
    const auto asserted = (expression);                                         \
    ASSERT_FALSE(asserted.has_value()) << "it succeeded";                       \
    ASSERT_EQ(asserted.error().code(), expected) << asserted.error().message(); \
  } while (false)

namespace sluice::ledger {

constexpr TopicId kTopic{7};
constexpr PartitionNumber kPartition = 3;
constexpr std::uint64_t kRecordSize = 64;

inline MessageKey key_of(std::uint64_t message, std::uint64_t epoch = 0) {
  return {"billing", epoch, kTopic, kPartition, Position(message * kRecordSize)};
}
// Below message number `message`.
inline Horizon horizon_at(std::uint64_t message, std::vector<std::uint64_t> parked = {}, std::uint64_t epoch = 0) {
  Horizon horizon{"billing", epoch, kTopic, kPartition, Position(message * kRecordSize), {}};
  for (const std::uint64_t one : parked) horizon.parked.push_back(Position(one * kRecordSize));
  return horizon;
}

class LedgerTest : public testing::TestWithParam<Kind> {
 protected:
  void SetUp() override {
    auto made = GetParam().make();
    ASSERT_TRUE(made) << made.error().message();
    database_ = std::move(*made);
    session_ = connect();
    ASSERT_OK(session_->transaction([&] { return migrate(session_->connection()); }));
    open_ledger();
  }

  std::unique_ptr<Session> connect() { return database_->connect().value(); }
  void open_ledger() { ledger_.emplace(Ledger::open(session_->connection()).value()); }

  // In a transaction of its own, which commits.
  Outcome record(std::uint64_t message, std::uint64_t epoch = 0) {
    Outcome outcome{};
    const Status done = session_->transaction([&]() -> Status {
      SLUICE_ASSIGN(const Record record, ledger_->record(key_of(message, epoch)));
      outcome = record.outcome;
      return {};
    });
    EXPECT_TRUE(done) << done.error().message();
    return outcome;
  }
  Forgotten forget(const Horizon& horizon) {
    Forgotten forgotten;
    const Status done = session_->transaction([&]() -> Status {
      SLUICE_ASSIGN(forgotten, ledger_->forget(horizon));
      return {};
    });
    EXPECT_TRUE(done) << done.error().message();
    return forgotten;
  }
  std::int64_t rows(const std::string& table = "messages") {
    return session_->number("SELECT count(*) FROM sluice_ledger_" + table).value();
  }

  std::unique_ptr<Database> database_;
  std::unique_ptr<Session> session_;
  std::optional<Ledger> ledger_;
};

inline std::string kind_name(const testing::TestParamInfo<Kind>& info) { return info.param.name; }
inline const auto kKinds = testing::Values(Kind{"sqlite", make_sqlite}, Kind{"postgres", make_postgres});

}  // namespace sluice::ledger
