// How decisions come into the store: together, each at most once, and with what they ack.
#include <optional>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "daemon/transactions/transactions.h"
#include "shm/base/clock.h"
#include "tests/daemon/transactions/fakes.h"

namespace sluice::transactions {
namespace {

using session::Resolution;
using testing::ElementsAre;
using testing::IsEmpty;
using testing::Pair;
using testing::SizeIs;

constexpr TopicId kTopic{5};

class DecisionTest : public testing::Test {
 protected:
  DecisionTest() {
    session = host.attach();
    transactor = transactions.open_transactor(session, "shop", ProducerId()).value();
  }
  // One with a half, which is asked to commit with the acks of what these targets name.
  void commit(std::uint32_t number, std::uint64_t half, const std::vector<std::uint64_t>& targets) {
    const TransactionId id = TransactionId::make(transactor, number);
    transactions.half_met({kTopic, 0}, {Position(half), id, ProducerId(9), false, 5, "shop"}, now);
    session::Resolve request{transactor, id, true, {{"orders", kTopic, 0, Position(half)}}, {}};
    for (const std::uint64_t target : targets) request.acks.push_back({1, true, 0, 0, target, {}});
    transactions.resolve(session, std::move(request),
                         [this, number](Result<Resolution> answer) { answers[number] = std::move(answer); });
  }
  void work() { transactions.do_work(now); }

  std::uint64_t now = 1'000'000'000;
  FakeHost host;
  FakeStore store;
  Transactions transactions{host, store};
  SessionId session;
  ProducerId transactor;
  std::map<std::uint32_t, std::optional<Result<Resolution>>> answers;
};

TEST_F(DecisionTest, ThoseOfOneTurnShareACommitWithTheirAcks) {
  host.in_hand = {1, 2, 3};
  commit(1, 64, {1, 2});
  commit(2, 128, {3});
  commit(3, 192, {});
  work();
  EXPECT_EQ(store.commits, 1u);
  EXPECT_THAT(store.decided, SizeIs(3));
  EXPECT_EQ(store.saved_acks, 1u);
  EXPECT_THAT(host.in_hand, IsEmpty());
  EXPECT_THAT(host.decided,
              ElementsAre(Pair(Position(64), true), Pair(Position(128), true), Pair(Position(192), true)));
  for (const auto& [number, answer] : answers) EXPECT_TRUE(answer && *answer && (*answer)->commit) << number;
}

TEST_F(DecisionTest, OfTwoThatAckTheSameMessageOneStands) {
  host.in_hand = {1, 2};
  commit(1, 64, {1});
  commit(2, 128, {1, 2});
  commit(3, 192, {});
  work();
  EXPECT_TRUE(answers[1]->has_value());
  EXPECT_EQ(answers[2]->error().code(), ErrorCode::conflict);
  EXPECT_TRUE(answers[3]->has_value());
  EXPECT_THAT(host.in_hand, ElementsAre(2));
  EXPECT_THAT(host.decided, ElementsAre(Pair(Position(64), true), Pair(Position(192), true)));
  EXPECT_EQ(transactions.open(), 1u) << "it is its producer's to roll back";
}

TEST_F(DecisionTest, WhatTheStoreRefusesOfAllIsTriedOneByOne) {
  host.in_hand = {1};
  const TransactionId before = TransactionId::make(transactor, 1);
  store.decided.push_back({before, false, 1, 0, "a daemon before", {}});
  commit(1, 64, {});
  commit(2, 128, {1});
  work();
  EXPECT_EQ(host.given_back, 1u) << "of the first try";
  ASSERT_TRUE(*answers[1]);
  EXPECT_FALSE((*answers[1])->commit) << "what stands";
  EXPECT_TRUE((*answers[2])->commit);
  EXPECT_THAT(host.decided, ElementsAre(Pair(Position(64), false), Pair(Position(128), true)));
  EXPECT_EQ(transactions.committed(), 1u);
}

TEST_F(DecisionTest, WhatIsKnownOfATransactionOutlivesTheReopeningOfItsPartitionAndGoesWithIt) {
  const TransactionId id = TransactionId::make(transactor, 1);
  const core::Half half{Position(64), id, ProducerId(9), true, 5, "shop"};
  store.noted = {{id, 15, 99}};
  transactions.half_met({kTopic, 0}, half, now);
  ASSERT_TRUE(transactions.load());
  EXPECT_EQ(transactions.parked(), 1u);
  transactions.partition_opened({kTopic, 0}, {half}, now);
  EXPECT_EQ(transactions.parked(), 1u);
  store.noted.clear();
  work();
  EXPECT_THAT(store.noted, IsEmpty());
  transactions.partition_gone({kTopic, 0});
  work();
  EXPECT_THAT(store.noted, ElementsAre(store::TransactionNote{id, 0, 0}));
}

TEST_F(DecisionTest, ThatNobodyCanBeAskedIsStored) {
  const TransactionId orphan = TransactionId::make(ProducerId(77), 1);
  transactions.half_met({kTopic, 0}, {Position(64), orphan, ProducerId(9), true, 5, "shop"}, now);
  work();
  ASSERT_THAT(store.silent, SizeIs(1));
  EXPECT_EQ(store.silent[0].group, "shop");
  EXPECT_NE(store.silent[0].since_ns, 0u);
  transactions.take_check(session, transactor, [](Result<session::CheckRequest>) {});
  work();
  ASSERT_THAT(store.silent, SizeIs(2));
  EXPECT_EQ(store.silent[1], (store::SilentGroup{"shop", 0}));
}

TEST_F(DecisionTest, AfterARestartItWaitsNoLongerThanItWouldHave) {
  const TransactionId orphan = TransactionId::make(ProducerId(77), 1);
  store.silent = {{"shop", 1}};  // since long ago
  transactions.half_met({kTopic, 0}, {Position(64), orphan, ProducerId(9), true, 5, "shop"}, now);
  ASSERT_TRUE(transactions.load());
  now = monotonic_ns();
  work();
  EXPECT_EQ(transactions.parked(), 1u);
}

}  // namespace
}  // namespace sluice::transactions
