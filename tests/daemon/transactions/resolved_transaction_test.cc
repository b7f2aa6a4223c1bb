// What a resolver is told of a transaction, and what becomes of its answer.
#include <algorithm>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "daemon/core/resolver.h"
#include "daemon/transactions/transactions.h"
#include "tests/daemon/transactions/fakes.h"

namespace sluice::transactions {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;

const TransactionId kTransaction = TransactionId::make(ProducerId(17), 3);
constexpr TopicId kTopic{5};

class FakeResolvers final : public resolve::Resolvers {
 public:
  void ask(resolve::Question question) override {
    asked.push_back(std::move(question));
    if (on_ask) on_ask(asked.back().transaction);
  }
  std::vector<resolve::Answer> take_answers() override { return std::exchange(answers, {}); }
  void answer(std::size_t which, std::optional<Verdict> verdict) {
    answers.push_back({asked[which].serial, asked[which].transaction, verdict, "", ""});
  }

  std::function<void(TransactionId)> on_ask;
  std::vector<resolve::Question> asked;
  std::vector<resolve::Answer> answers;
};

class ResolvedTransactionTest : public testing::Test {
 protected:
  void half(TransactionId id, std::uint64_t position, PartitionNumber partition = 0) {
    transactions.half_met({kTopic, partition}, {Position(position), id, ProducerId(9), true, 5, "shop"}, now);
  }
  void work() { transactions.do_work(now); }
  static core::TransactionRules rules() {
    core::TransactionRules rules;
    rules.resolver_groups = {"shop"};
    return rules;
  }

  std::uint64_t now = 1'000'000'000;
  FakeHost host;
  FakeStore store;
  FakeResolvers resolvers;
  Transactions transactions{host, store, rules(), &resolvers};
};

TEST_F(ResolvedTransactionTest, ItIsToldWhereTheMessagesStandAndItsAnswerIsStored) {
  half(kTransaction, 64);
  half(kTransaction, 128, 1);
  work();
  ASSERT_THAT(resolvers.asked, SizeIs(1));
  EXPECT_EQ(resolvers.asked[0].transaction, kTransaction);
  EXPECT_EQ(resolvers.asked[0].group, "shop");
  EXPECT_EQ(resolvers.asked[0].halves, "orders/0@64 orders/1@128");
  EXPECT_EQ(resolvers.asked[0].halves_left_out, 0u);
  work();
  EXPECT_THAT(store.decided, IsEmpty());
  resolvers.answer(0, Verdict::commit);
  work();
  ASSERT_THAT(store.decided, SizeIs(1));
  EXPECT_TRUE(store.decided[0].commit);
  EXPECT_EQ(store.decided[0].by, "resolver");
  EXPECT_THAT(store.decided[0].halves, SizeIs(2));
  EXPECT_EQ(transactions.open(), 0u);
  EXPECT_EQ(transactions.resolver_runs().commit, 1u);
}

TEST_F(ResolvedTransactionTest, OneOfVeryManyMessagesIsToldAsManyAsFitAndHowManyDoNot) {
  constexpr std::size_t kHalves = 5000;
  for (std::uint64_t i = 1; i <= kHalves; ++i) half(kTransaction, 64 * i);
  work();
  ASSERT_THAT(resolvers.asked, SizeIs(1));
  const std::string& halves = resolvers.asked[0].halves;
  EXPECT_LE(halves.size(), 32u * 1024);
  EXPECT_GT(halves.size(), 31u * 1024);
  const auto told = static_cast<std::size_t>(std::count(halves.begin(), halves.end(), ' ')) + 1;
  EXPECT_EQ(told + resolvers.asked[0].halves_left_out, kHalves);
  EXPECT_NE(halves.back(), ' ');
}

TEST_F(ResolvedTransactionTest, NoAnswerIsNotNotedAndUnknownIs) {
  half(kTransaction, 64);
  work();
  resolvers.answer(0, std::nullopt);
  work();
  EXPECT_THAT(store.noted, IsEmpty());
  now += 12'000'000'000;
  work();
  ASSERT_THAT(resolvers.asked, SizeIs(2));
  resolvers.answer(1, Verdict::unknown);
  work();
  EXPECT_THAT(store.noted, ElementsAre(store::TransactionNote{kTransaction, 1, 0}));
}

TEST_F(ResolvedTransactionTest, OneThatIsGoneBeforeItWasAskedAboutKeepsNoPlaceOfTheRuns) {
  const auto id = [](std::uint32_t number) { return TransactionId::make(ProducerId(17), number); };
  for (std::uint32_t number : {1, 2}) half(id(number), 64, number);
  // Both are to be asked about in one turn; with the first question the other's topic goes.
  resolvers.on_ask = [&](TransactionId asked) { transactions.partition_gone({kTopic, 3 - asked.number()}); };
  work();
  ASSERT_THAT(resolvers.asked, SizeIs(1));
  EXPECT_EQ(transactions.resolver_runs().none, 0u) << "the other was never run";
  resolvers.on_ask = {};
  half(id(3), 64, 3);
  work();
  ASSERT_THAT(resolvers.asked, SizeIs(core::kResolverRunsPerGroupMax));
  EXPECT_EQ(resolvers.asked[1].transaction, id(3));
}

}  // namespace
}  // namespace sluice::transactions
