// Resolvers in the rules of transactions: when one runs, and what its answer, or none, means.
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "daemon/core/resolver.h"
#include "daemon/core/transaction_machine.h"

namespace sluice::core {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;
using testing::UnorderedElementsAre;
using Kind = TransactionAction::Kind;
using State = TransactionMachine::State;

constexpr std::uint64_t kSecond = 1'000'000'000;
constexpr ProducerId kAnn{10};
constexpr ProducerId kBob{11};
const TransactionId kFirst = TransactionId::make(kAnn, 1);
const Place kPlace{TopicId(3), 0};

TransactionRules rules_with(std::vector<std::string> groups) {
  TransactionRules rules;
  rules.resolver_groups = std::move(groups);
  return rules;
}

class TransactionResolverTest : public testing::Test {
 protected:
  void begin(TransactionId id, const std::string& group = "shop") {
    machine.half(kPlace, {Position(64ull * id.number()), id, ProducerId(99), true, 5, group}, false, now);
  }
  void live(ProducerId transactor) {
    machine.attach(transactor, "shop", now);
    machine.ready(transactor, true, now);
  }
  std::vector<TransactionAction> at(std::uint64_t time_ns) {
    now = time_ns;
    machine.tick(now);
    return machine.take_actions();
  }
  // The serial of the run that is asked for now, and of nothing else.
  std::uint64_t run_at(std::uint64_t time_ns) {
    const auto actions = at(time_ns);
    EXPECT_THAT(actions, SizeIs(1));
    if (actions.size() != 1) return 0;
    EXPECT_EQ(actions[0].kind, Kind::resolve);
    return actions[0].serial;
  }
  std::vector<TransactionAction> ended(std::uint64_t serial, std::optional<Verdict> verdict) {
    EXPECT_TRUE(machine.resolver_ended(serial, verdict, now));
    return machine.take_actions();
  }

  TransactionRules rules = rules_with({"shop", "bank", "post"});
  TransactionMachine machine{rules};
  std::uint64_t now = kSecond;
};

MATCHER_P(Resolves, transaction, "") { return arg.kind == Kind::resolve && arg.transaction == transaction; }
MATCHER_P(AsksTransactor, transactor, "") { return arg.kind == Kind::ask && arg.transactor == transactor; }
MATCHER_P2(Decides, commit, by_resolver, "") {
  return arg.kind == Kind::decide && arg.commit == commit && arg.by_resolver == by_resolver;
}
MATCHER(Parks, "") { return arg.kind == Kind::park; }
MATCHER(Notes, "") { return arg.kind == Kind::note; }

TEST_F(TransactionResolverTest, ItRunsAtOnceWhenTheLastProducerDiesAndItsAnswerDecides) {
  live(kAnn);
  begin(kFirst);
  EXPECT_THAT(at(now), IsEmpty());
  machine.detach(kAnn, now);
  const std::uint64_t run = run_at(now);
  EXPECT_EQ(machine.find(kFirst)->state, State::asked);
  EXPECT_THAT(ended(run, Verdict::commit), ElementsAre(Decides(true, true)));
}

TEST_F(TransactionResolverTest, ItDoesNotRunWhereAProducerOfTheGroupLives) {
  live(kAnn);
  live(kBob);
  begin(kFirst);
  machine.detach(kAnn, now);
  EXPECT_THAT(at(now), ElementsAre(AsksTransactor(kBob)));
}

TEST_F(TransactionResolverTest, ItDoesNotRunForAnotherGroup) {
  begin(kFirst, "elsewhere");
  EXPECT_THAT(at(now), IsEmpty());
  EXPECT_THAT(at(now + rules.park_after_ns), ElementsAre(Parks()));
}

TEST_F(TransactionResolverTest, ItRunsForOneThatProducersWhoNeverListenHaveLeft) {
  machine.attach(kAnn, "shop", now);
  begin(kFirst);
  EXPECT_THAT(at(now + rules.timeout_ns - 1), IsEmpty());
  EXPECT_THAT(at(now + 1), ElementsAre(Resolves(kFirst)));
}

TEST_F(TransactionResolverTest, OneThatFailsIsNotChargedAndTriedAgainAtGrowingIntervals) {
  begin(kFirst);
  std::uint64_t run = run_at(now);
  for (std::uint64_t interval = 2 * rules.timeout_ns; interval <= 16 * rules.timeout_ns; interval *= 2) {
    EXPECT_THAT(ended(run, std::nullopt), IsEmpty());
    EXPECT_EQ(machine.find(kFirst)->unknowns, 0u);
    EXPECT_EQ(machine.find(kFirst)->state, State::open);
    EXPECT_THAT(at(now + interval - 1), IsEmpty());
    run = run_at(now + 1);
  }
}

TEST_F(TransactionResolverTest, OneThatNeverAnswersIsNobody) {
  begin(kFirst);
  const std::uint64_t begun = now;
  while (machine.parked() == 0) {
    ASSERT_LE(now, begun + rules.park_after_ns);
    const std::uint64_t next = machine.deadline_ns().value();
    for (const TransactionAction& action : at(next))
      if (action.kind == Kind::resolve) machine.resolver_ended(action.serial, std::nullopt, now);
  }
  EXPECT_EQ(now, begun + rules.park_after_ns);
  EXPECT_EQ(machine.find(kFirst)->unknowns, 0u);
  EXPECT_TRUE(machine.recheck(kFirst, now));
  machine.take_actions();
  EXPECT_THAT(at(now), ElementsAre(Resolves(kFirst)));
}

TEST_F(TransactionResolverTest, ItsUnknownCountsLikeAProducersAndParksAtLast) {
  begin(kFirst);
  for (std::uint32_t i = 1; i < rules.check_max; ++i) {
    const std::uint64_t run = run_at(i == 1 ? now : now + rules.check_interval_max_ns);
    EXPECT_THAT(ended(run, Verdict::unknown), ElementsAre(Notes())) << i;
    EXPECT_EQ(machine.find(kFirst)->unknowns, i);
  }
  EXPECT_THAT(ended(run_at(now + rules.check_interval_max_ns), Verdict::unknown), ElementsAre(Parks()));
  EXPECT_THAT(at(now + 10 * rules.park_after_ns), IsEmpty());
}

TEST_F(TransactionResolverTest, AnUnknownEndsTheTimeToParkingAndDoesNotDelayAProducer) {
  begin(kFirst);
  const std::uint64_t run = run_at(now);
  EXPECT_THAT(at(now + rules.park_after_ns), IsEmpty()) << "it may take as long as its timeout lets it";
  ended(run, Verdict::unknown);
  ended(run_at(now + 2 * rules.timeout_ns), Verdict::unknown);
  live(kBob);
  EXPECT_THAT(machine.take_actions(), ElementsAre(AsksTransactor(kBob))) << "though it is not due for a while";
}

TEST_F(TransactionResolverTest, AProducerThatComesWhileItRunsIsAskedTooAndTheFirstDecisionStands) {
  begin(kFirst);
  const std::uint64_t run = run_at(now);
  live(kBob);
  const auto asked = machine.take_actions();
  ASSERT_THAT(asked, ElementsAre(AsksTransactor(kBob)));
  ASSERT_TRUE(machine.answered(kFirst, asked[0].serial, Verdict::rollback, now));
  EXPECT_THAT(machine.take_actions(), ElementsAre(Decides(false, false)));
  ASSERT_TRUE(machine.begin_decision(kFirst));
  EXPECT_FALSE(machine.resolver_ended(run, Verdict::commit, now));
  EXPECT_THAT(machine.take_actions(), IsEmpty());
  machine.decided(kFirst);
  EXPECT_EQ(machine.groups(), 1u);
}

TEST_F(TransactionResolverTest, ItsAnswerFreesAProducerThatIsAskedTheSame) {
  begin(kFirst);
  const std::uint64_t run = run_at(now);
  live(kBob);
  const auto asked = machine.take_actions();
  ASSERT_THAT(asked, ElementsAre(AsksTransactor(kBob)));
  EXPECT_THAT(ended(run, Verdict::commit), ElementsAre(Decides(true, true)));
  ASSERT_TRUE(machine.begin_decision(kFirst));
  EXPECT_FALSE(machine.answered(kFirst, asked[0].serial, Verdict::rollback, now));
  machine.decided(kFirst);
  const TransactionId next = TransactionId::make(kAnn, 2);
  begin(next);
  EXPECT_THAT(at(now), ElementsAre(AsksTransactor(kBob)));
}

TEST_F(TransactionResolverTest, ARunThatFailsWhileAProducerIsAskedChangesNothing) {
  begin(kFirst);
  const std::uint64_t run = run_at(now);
  live(kBob);
  const auto asked = machine.take_actions();
  ASSERT_THAT(asked, ElementsAre(AsksTransactor(kBob)));
  EXPECT_THAT(ended(run, std::nullopt), IsEmpty());
  EXPECT_TRUE(machine.answered(kFirst, asked[0].serial, Verdict::commit, now));
}

TEST_F(TransactionResolverTest, TheLastProducerToDieWhileItIsAskedLeavesItToTheResolver) {
  live(kAnn);
  live(kBob);
  begin(kFirst);
  machine.detach(kAnn, now);
  ASSERT_THAT(at(now), ElementsAre(AsksTransactor(kBob)));
  machine.detach(kBob, now);
  EXPECT_THAT(at(now), ElementsAre(Resolves(kFirst)));
}

TEST_F(TransactionResolverTest, OneThatWaitedForABusyProducerRunsWhenThatDies) {
  live(kAnn);
  begin(kFirst);
  const TransactionId other = TransactionId::make(kAnn, 2);
  begin(other);
  ASSERT_THAT(at(now + rules.timeout_ns), SizeIs(1)) << "one of the two waits";
  machine.detach(kAnn, now);
  EXPECT_THAT(at(now), UnorderedElementsAre(Resolves(kFirst), Resolves(other)));
}

TEST_F(TransactionResolverTest, NoMoreRunThanTheLimitsSayAndGroupsTakeTurns) {
  std::uint32_t number = 0;
  for (const char* group : {"shop", "shop", "shop", "shop", "bank", "bank", "bank", "post"})
    begin(TransactionId::make(kAnn, ++number), group);
  std::vector<std::uint64_t> out;
  std::map<std::string, std::size_t> by_group;
  const auto take = [&](const std::vector<TransactionAction>& actions) {
    for (const TransactionAction& action : actions) {
      ASSERT_EQ(action.kind, Kind::resolve);
      out.push_back(action.serial);
      ++by_group[machine.find(action.transaction)->group];
    }
  };
  take(at(now));
  EXPECT_EQ(out.size(), kResolverRunsMax);
  EXPECT_LE(by_group["shop"], kResolverRunsPerGroupMax);
  EXPECT_LE(by_group["bank"], kResolverRunsPerGroupMax);
  std::size_t ran = out.size();
  while (!out.empty()) {
    const std::uint64_t serial = out.back();
    out.pop_back();
    EXPECT_TRUE(machine.resolver_ended(serial, Verdict::commit, now));
    const std::size_t before = out.size();
    auto actions = machine.take_actions();
    std::erase_if(actions, [](const TransactionAction& action) { return action.kind == Kind::decide; });
    take(actions);
    ran += out.size() - before;
    EXPECT_LE(out.size(), kResolverRunsMax);
  }
  EXPECT_EQ(ran, 8u);
  EXPECT_EQ(by_group["shop"], 4u);
}

TEST_F(TransactionResolverTest, OneGroupThatHangsLeavesRoomForTheOthers) {
  for (std::uint32_t i = 1; i <= 10; ++i) begin(TransactionId::make(kAnn, i), "shop");
  EXPECT_THAT(at(now), SizeIs(kResolverRunsPerGroupMax));
  const TransactionId other = TransactionId::make(kBob, 1);
  begin(other, "bank");
  EXPECT_THAT(at(now), ElementsAre(Resolves(other)));
}

TEST_F(TransactionResolverTest, AGroupThatComesLaterHasItsTurnBeforeTheOthersGoOn) {
  for (std::uint32_t i = 1; i <= 3; ++i) begin(TransactionId::make(kAnn, i), "shop");
  const auto shops = at(now);
  for (std::uint32_t i = 1; i <= 3; ++i) begin(TransactionId::make(kBob, i), "bank");
  ASSERT_THAT(at(now), SizeIs(kResolverRunsMax - shops.size()));
  const TransactionId late = TransactionId::make(ProducerId(12), 1);
  begin(late, "post");
  ASSERT_THAT(at(now), IsEmpty());
  EXPECT_THAT(ended(shops[0].serial, std::nullopt), ElementsAre(Resolves(late)));
}

TEST_F(TransactionResolverTest, WhatWaitsForARunIsLeftToAProducerThatComes) {
  for (std::uint32_t i = 1; i <= 4; ++i) begin(TransactionId::make(kAnn, i));
  const auto runs = at(now);
  ASSERT_THAT(runs, SizeIs(kResolverRunsPerGroupMax));
  live(kBob);
  ASSERT_THAT(machine.take_actions(), ElementsAre(AsksTransactor(kBob)));
  for (const TransactionAction& run : runs) EXPECT_THAT(ended(run.serial, std::nullopt), IsEmpty());
}

TEST_F(TransactionResolverTest, ARunWhoseTransactionIsGoneStillMakesRoomForTheNext) {
  for (std::uint32_t i = 1; i <= 3; ++i) begin(TransactionId::make(kAnn, i));
  const auto runs = at(now);
  ASSERT_THAT(runs, SizeIs(kResolverRunsPerGroupMax));
  machine.begin_decision(runs[0].transaction);  // by an operator
  machine.decided(runs[0].transaction);
  EXPECT_THAT(at(now), IsEmpty());
  EXPECT_FALSE(machine.resolver_ended(runs[0].serial, Verdict::commit, now));
  EXPECT_THAT(machine.take_actions(), SizeIs(1));
  EXPECT_FALSE(machine.resolver_ended(runs[0].serial, Verdict::commit, now)) << "a run ends once";
}

TEST(TransactionResolver, ItsAnswerForOneThatWasParkedMeanwhileDecides) {
  TransactionRules rules = rules_with({"shop"});
  rules.check_max = 1;
  TransactionMachine machine(rules);
  machine.half(kPlace, {Position(64), kFirst, ProducerId(99), true, 5, "shop"}, false, kSecond);
  machine.tick(kSecond);
  const auto runs = machine.take_actions();
  ASSERT_THAT(runs, ElementsAre(Resolves(kFirst)));
  machine.attach(kBob, "shop", kSecond);
  machine.ready(kBob, true, kSecond);
  const auto asked = machine.take_actions();
  ASSERT_THAT(asked, ElementsAre(AsksTransactor(kBob)));
  machine.answered(kFirst, asked[0].serial, Verdict::unknown, kSecond);
  EXPECT_THAT(machine.take_actions(), ElementsAre(Parks()));
  EXPECT_TRUE(machine.resolver_ended(runs[0].serial, Verdict::commit, kSecond));
  EXPECT_THAT(machine.take_actions(), ElementsAre(Decides(true, true)));
  EXPECT_TRUE(machine.begin_decision(kFirst));
  EXPECT_EQ(machine.parked(), 0u);
}

}  // namespace
}  // namespace sluice::core
