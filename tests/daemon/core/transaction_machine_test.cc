#include "daemon/core/transaction_machine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace sluice::core {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using Kind = TransactionAction::Kind;
using State = TransactionMachine::State;

constexpr std::uint64_t kSecond = 1'000'000'000;
constexpr ProducerId kAnn{10};
constexpr ProducerId kBob{11};
const TransactionId kFirst = TransactionId::make(kAnn, 1);
const TransactionId kSecond_ = TransactionId::make(kAnn, 2);
const Place kPlace{TopicId(3), 0};

Half half(TransactionId id, std::uint64_t position, bool check_back = true) {
  return {Position(position), id, ProducerId(99), check_back, 5, "shop"};
}

class TransactionMachineTest : public testing::Test {
 protected:
  void live(ProducerId transactor, bool ready = true) {
    machine.attach(transactor, "shop", now);
    if (ready) machine.ready(transactor, true, now);
  }
  void begin(TransactionId id, std::uint64_t position = 64, bool check_back = true) {
    machine.half(kPlace, half(id, position, check_back), false, now);
  }
  std::vector<TransactionAction> at(std::uint64_t time_ns) {
    now = time_ns;
    machine.tick(now);
    return machine.take_actions();
  }
  State state(TransactionId id) { return machine.find(id).value().state; }

  TransactionRules rules;
  TransactionMachine machine{rules};
  std::uint64_t now = kSecond;
};

MATCHER_P2(Asks, transactor, transaction, "") {
  return arg.kind == Kind::ask && arg.transactor == transactor && arg.transaction == transaction;
}
MATCHER_P2(Decides, transaction, commit, "") {
  return arg.kind == Kind::decide && arg.transaction == transaction && arg.commit == commit;
}
MATCHER_P(Parks, transaction, "") { return arg.kind == Kind::park && arg.transaction == transaction; }

TEST_F(TransactionMachineTest, OneWhoseProducerLivesIsAskedAboutAfterTheTimeout) {
  live(kAnn);
  begin(kFirst);
  EXPECT_THAT(at(now + rules.timeout_ns - 1), IsEmpty());
  EXPECT_THAT(at(now + 1), ElementsAre(Asks(kAnn, kFirst)));
}

TEST_F(TransactionMachineTest, OneWhoseProducerDiesIsAskedAboutAtOnceAndAnotherOfTheGroupAnswers) {
  live(kAnn);
  live(kBob);
  begin(kFirst);
  machine.detach(kAnn, now);
  const auto asked = at(now);
  ASSERT_THAT(asked, ElementsAre(Asks(kBob, kFirst)));
  EXPECT_TRUE(machine.answered(kFirst, asked[0].serial, Verdict::commit, now));
  EXPECT_THAT(machine.take_actions(), ElementsAre(Decides(kFirst, true)));
}

TEST_F(TransactionMachineTest, AHalfOfAProducerThatIsDeadAlreadyIsDueAtOnceUnlessItMayReturn) {
  live(kBob);
  machine.half(kPlace, half(kFirst, 64), true, now);
  EXPECT_THAT(at(now), IsEmpty());
  begin(kSecond_, 128);
  EXPECT_THAT(at(now), ElementsAre(Asks(kBob, kSecond_)));
}

TEST_F(TransactionMachineTest, ATransactionOfMessagesAloneIsRolledBackWithItsProducer) {
  live(kAnn);
  begin(kFirst, 64, false);
  EXPECT_THAT(at(now + rules.timeout_ns), IsEmpty()) << "it may take longer than a check would wait";
  machine.detach(kAnn, now);
  EXPECT_THAT(at(now), ElementsAre(Decides(kFirst, false)));
}

TEST_F(TransactionMachineTest, ATransactionOfMessagesAloneIsRolledBackAfterItsTime) {
  live(kAnn);
  begin(kFirst, 64, false);
  EXPECT_THAT(at(now + rules.span_timeout_ns - 1), IsEmpty());
  EXPECT_THAT(at(now + 1), ElementsAre(Decides(kFirst, false)));
}

TEST_F(TransactionMachineTest, OnlyAnsweredChecksCountAndTheirIntervalsGrow) {
  live(kAnn);
  begin(kFirst);
  auto asked = at(now + rules.timeout_ns);
  ASSERT_EQ(asked.size(), 1u);
  machine.unanswered(kFirst, asked[0].serial, now);
  EXPECT_EQ(machine.find(kFirst)->unknowns, 0u);
  asked = at(now);
  ASSERT_THAT(asked, ElementsAre(Asks(kAnn, kFirst))) << "at once";
  EXPECT_TRUE(machine.answered(kFirst, asked[0].serial, Verdict::unknown, now));
  EXPECT_EQ(machine.find(kFirst)->unknowns, 1u);
  machine.take_actions();
  EXPECT_THAT(at(now + 2 * rules.timeout_ns - 1), IsEmpty());
  asked = at(now + 1);
  ASSERT_EQ(asked.size(), 1u);
  machine.answered(kFirst, asked[0].serial, Verdict::unknown, now);
  machine.take_actions();
  EXPECT_THAT(at(now + 4 * rules.timeout_ns - 1), IsEmpty());
  EXPECT_EQ(at(now + 1).size(), 1u);
}

TEST_F(TransactionMachineTest, ACheckThatTakesTooLongIsAskedAgainAndItsLateAnswerIsNobodys) {
  live(kAnn);
  begin(kFirst);
  const auto first = at(now + rules.timeout_ns);
  ASSERT_EQ(first.size(), 1u);
  const auto second = at(now + rules.answer_ns);
  ASSERT_EQ(second.size(), 1u);
  EXPECT_FALSE(machine.answered(kFirst, first[0].serial, Verdict::commit, now));
  EXPECT_TRUE(machine.answered(kFirst, second[0].serial, Verdict::rollback, now));
  EXPECT_THAT(machine.take_actions(), ElementsAre(Decides(kFirst, false)));
}

TEST_F(TransactionMachineTest, AfterTooManyUnknownsItIsParkedUntilSomebodyLooks) {
  live(kAnn);
  begin(kFirst);
  for (std::uint32_t i = 0; i < rules.check_max; ++i) {
    auto asked = at(now + rules.check_interval_max_ns);
    ASSERT_EQ(asked.size(), 1u) << i;
    ASSERT_TRUE(machine.answered(kFirst, asked[0].serial, Verdict::unknown, now));
    const auto after = machine.take_actions();
    if (i + 1 == rules.check_max) {
      EXPECT_THAT(after, ElementsAre(Parks(kFirst)));
    }
  }
  EXPECT_EQ(machine.parked(), 1u);
  EXPECT_THAT(at(now + 10 * rules.park_after_ns), IsEmpty());
  EXPECT_TRUE(machine.recheck(kFirst, now));
  machine.take_actions();
  EXPECT_THAT(at(now), ElementsAre(Asks(kAnn, kFirst)));
  EXPECT_EQ(machine.parked(), 0u);
}

TEST_F(TransactionMachineTest, WithNobodyToAskItWaitsUncountedAndIsParkedAtLast) {
  live(kAnn);
  begin(kFirst);
  machine.detach(kAnn, now);
  EXPECT_THAT(at(now), IsEmpty());
  EXPECT_THAT(at(now + rules.park_after_ns - 1), IsEmpty());
  EXPECT_EQ(machine.find(kFirst)->unknowns, 0u);
  EXPECT_THAT(at(now + 1), ElementsAre(Parks(kFirst)));
}

TEST_F(TransactionMachineTest, WhoComesBackIsAskedAtOnce) {
  live(kAnn);
  begin(kFirst);
  machine.detach(kAnn, now);
  at(now + 1000 * kSecond);
  machine.attach(kBob, "shop", now);
  EXPECT_THAT(at(now), IsEmpty()) << "it is not listening yet";
  machine.ready(kBob, true, now);
  EXPECT_THAT(machine.take_actions(), ElementsAre(Asks(kBob, kFirst)));
}

TEST_F(TransactionMachineTest, OneOfAnotherGroupIsNotAsked) {
  live(kAnn);
  begin(kFirst);
  machine.detach(kAnn, now);
  machine.attach(kBob, "other", now);
  machine.ready(kBob, true, now);
  EXPECT_THAT(at(now + rules.timeout_ns), IsEmpty());
}

TEST_F(TransactionMachineTest, ATransactorIsAskedOneAfterTheOther) {
  live(kAnn);
  begin(kFirst, 64);
  begin(kSecond_, 128);
  const auto asked = at(now + rules.timeout_ns);
  ASSERT_EQ(asked.size(), 1u);
  machine.ready(kAnn, false, now);  // its call was answered with the question
  ASSERT_TRUE(machine.answered(asked[0].transaction, asked[0].serial, Verdict::commit, now));
  machine.take_actions();
  machine.ready(kAnn, true, now);
  const auto next = machine.take_actions();
  ASSERT_EQ(next.size(), 1u);
  EXPECT_NE(next[0].transaction, asked[0].transaction);
}

TEST_F(TransactionMachineTest, WhileItIsDecidedNobodyIsAskedAndAfterwardsItIsGone) {
  live(kAnn);
  begin(kFirst);
  ASSERT_TRUE(machine.begin_decision(kFirst));
  EXPECT_FALSE(machine.begin_decision(kFirst));
  EXPECT_THAT(at(now + 10 * rules.timeout_ns), IsEmpty());
  machine.give_up_decision(kFirst, now);
  EXPECT_EQ(at(now + rules.timeout_ns).size(), 1u);
  ASSERT_TRUE(machine.begin_decision(kFirst));
  machine.decided(kFirst);
  EXPECT_FALSE(machine.find(kFirst));
  EXPECT_THAT(at(now + 10 * rules.timeout_ns), IsEmpty());
}

TEST_F(TransactionMachineTest, OneThatIsDecidedWhileItWaitsIsNotParkedWhenTheLastOfItsGroupDies) {
  live(kAnn);
  begin(kFirst);
  machine.detach(kAnn, now);
  EXPECT_THAT(at(now), IsEmpty());  // the time to parking runs
  machine.attach(kBob, "shop", now);
  ASSERT_TRUE(machine.begin_decision(kFirst));
  now += rules.park_after_ns;
  machine.detach(kBob, now);
  EXPECT_EQ(machine.parked(), 0u);
  machine.decided(kFirst);
  EXPECT_EQ(machine.size(), 0u);
}

TEST_F(TransactionMachineTest, WhoNeverListensDoesNotKeepOneFromBeingParked) {
  live(kAnn);
  begin(kFirst);
  machine.attach(kBob, "shop", now);  // has no check
  machine.detach(kAnn, now);
  EXPECT_THAT(at(now), IsEmpty());
  EXPECT_THAT(at(now + rules.park_after_ns), ElementsAre(Parks(kFirst)));
}

TEST_F(TransactionMachineTest, AGroupThatHasNothingAnyMoreIsForgotten) {
  for (std::uint32_t i = 0; i < 1000; ++i) {
    machine.attach(kAnn, "group " + std::to_string(i), now);
    machine.detach(kAnn, now);
  }
  EXPECT_EQ(machine.groups(), 0u);
  live(kAnn);
  begin(kFirst);
  machine.detach(kAnn, now);
  at(now);
  EXPECT_EQ(machine.groups(), 1u) << "its transaction waits in it";
  ASSERT_TRUE(machine.begin_decision(kFirst));
  machine.decided(kFirst);
  EXPECT_EQ(machine.groups(), 0u);
}

TEST_F(TransactionMachineTest, ItHasTheHalvesOfAllPartitionsUntilTheyAreGone) {
  live(kAnn);
  const Place other{TopicId(4), 1};
  begin(kFirst, 64);
  machine.half(other, half(kFirst, 640), false, now);
  EXPECT_THAT(machine.find(kFirst)->halves, ElementsAre(HalfAt{kPlace, Position(64)}, HalfAt{other, Position(640)}));
  machine.forget(kPlace);
  EXPECT_THAT(machine.find(kFirst)->halves, ElementsAre(HalfAt{other, Position(640)}));
  machine.forget(other);
  EXPECT_FALSE(machine.find(kFirst));
}

MATCHER_P(Silence, silent, "") { return arg.group == "shop" && arg.silent == silent; }

TEST_F(TransactionMachineTest, ThatNobodyIsThereIsSaidOnceAndThatThereIsSomebody) {
  live(kAnn);
  begin(kFirst, 64);
  begin(kSecond_, 128);
  EXPECT_THAT(machine.take_silences(), IsEmpty());
  machine.detach(kAnn, now);
  at(now);
  EXPECT_THAT(machine.take_silences(), ElementsAre(Silence(true)));
  live(kBob);
  EXPECT_THAT(machine.take_silences(), ElementsAre(Silence(false)));
  machine.detach(kBob, now);
  at(now);
  EXPECT_THAT(machine.take_silences(), ElementsAre(Silence(true)));
  for (const TransactionId id : {kFirst, kSecond_}) {
    ASSERT_TRUE(machine.begin_decision(id));
    machine.decided(id);
  }
  EXPECT_THAT(machine.take_silences(), ElementsAre(Silence(false))) << "nobody waits any more";
}

TEST_F(TransactionMachineTest, TheTimeWithNobodyToAskGoesOnOverARestart) {
  const std::uint64_t waited = rules.park_after_ns - 100 * kSecond;
  const std::uint64_t wall = 2 * rules.park_after_ns;
  machine.half(kPlace, half(kFirst, 64), false, now);
  machine.half(kPlace, {Position(128), kSecond_, ProducerId(99), true, wall - 10 * kSecond, "shop"}, false, now);
  machine.restore_silences({{"shop", waited}, {"gone", waited}}, wall, now);
  EXPECT_EQ(machine.take_silences().size(), 1u) << "the other group has nothing that waits";
  EXPECT_THAT(at(now), IsEmpty());
  EXPECT_THAT(at(now + 100 * kSecond - 1), IsEmpty());
  EXPECT_THAT(at(now + 1), ElementsAre(Parks(kFirst)));
  EXPECT_THAT(at(now + rules.park_after_ns - 110 * kSecond - 1), IsEmpty());
  EXPECT_THAT(at(now + 1), ElementsAre(Parks(kSecond_)))
      << "it had waited for 10 s, longer than it was there it cannot";
}

TEST_F(TransactionMachineTest, TheTimeWithNobodyToAskBeginsAnewBehindSomebody) {
  machine.half(kPlace, half(kFirst, 64), false, now);
  machine.half(kPlace, half(kSecond_, 128), false, now);
  machine.restore_silences({{"shop", rules.park_after_ns - kSecond}}, 2 * rules.park_after_ns, now);
  at(now);
  live(kBob);  // is asked about the one, and dies before it can be asked about the other
  machine.detach(kBob, now);
  EXPECT_EQ(machine.take_actions().size(), 1u);
  EXPECT_THAT(at(now), IsEmpty());
  EXPECT_THAT(at(now + rules.park_after_ns - 1), IsEmpty());
  EXPECT_THAT(at(now + 1), testing::UnorderedElementsAre(Parks(kFirst), Parks(kSecond_)));
}

TEST_F(TransactionMachineTest, AParkedOneIsParkedAfterARestart) {
  machine.half(kPlace, half(kFirst, 64), true, now);
  machine.restore({kFirst, 15, true});
  live(kBob);
  EXPECT_THAT(at(now + rules.park_after_ns), IsEmpty());
  EXPECT_EQ(state(kFirst), State::parked);
  EXPECT_EQ(machine.list(TransactionId(), 10, State::parked).size(), 1u);
  EXPECT_EQ(machine.list(TransactionId(), 10, State::open).size(), 0u);
}

TEST_F(TransactionMachineTest, AHundredThousandThatWaitForOneAnswererAreEachAskedOnce) {
  live(kAnn);
  for (std::uint32_t i = 1; i <= 100'000; ++i) begin(TransactionId::make(kAnn, i), 64ull * i);
  machine.detach(kAnn, now);
  EXPECT_THAT(at(now), IsEmpty());
  machine.attach(kBob, "shop", now);
  for (std::uint32_t i = 0; i < 100'000; ++i) {
    machine.ready(kBob, true, now);
    machine.tick(now);
    const auto asked = machine.take_actions();
    ASSERT_EQ(asked.size(), 1u);
    machine.ready(kBob, false, now);
    ASSERT_TRUE(machine.answered(asked[0].transaction, asked[0].serial, Verdict::commit, now));
    machine.take_actions();
    machine.begin_decision(asked[0].transaction);
    machine.decided(asked[0].transaction);
  }
  EXPECT_EQ(machine.size(), 0u);
}

}  // namespace
}  // namespace sluice::core
