// Transactions over restarts of every kind: what was committed has one ref, what was rolled back none, what is open
// stays.
#include <unistd.h>

#include <map>
#include <optional>
#include <random>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "shm/base/limits.h"
#include "tests/daemon/bus/bus_rig.h"

namespace sluice::bus {
namespace {

using session::Resolution;
using testing::ElementsAre;
using testing::IsEmpty;

constexpr const char* kGroup = "shop";
constexpr TopicId kTopicId{1};  // of the first topic that a rig makes

core::TopicConfig small(core::Durability durability) {
  core::TopicConfig config;
  config.durability = durability;
  config.segment_size = kSegmentSizeMin;
  config.slots = 4;
  return config;
}

// A client with a producer, and a transactor that begins transactions.
struct Shop {
  explicit Shop(BusRig& bus_rig) : rig(bus_rig) { attach(); }

  void attach() {
    client.emplace(rig.attach());
    sender.emplace(rig.produce(*client));
    producers.push_back(sender->id);
    transactor = ProducerId();
    open();
  }
  void open() {
    const auto opened = rig.bus().transactions().open_transactor(client->id, kGroup, transactor);
    ASSERT_TRUE(opened) << opened.error().message();
    transactor = *opened;
  }
  void leave() {
    sender.reset();
    client.reset();
  }
  // Nothing: no room.
  std::optional<Position> send(TransactionId id, std::size_t size = 10) {
    Position position;
    if (!sender->send_half({id, true, kGroup}, size, position)) return std::nullopt;
    return position;
  }
  TransactionId next_id() { return TransactionId::make(transactor, ++last_number); }
  void ask(TransactionId id, bool commit, const std::vector<Position>& halves,
           std::optional<Result<Resolution>>& answer) {
    session::Resolve request{transactor, id, commit, {}, {}};
    for (const Position half : halves) request.halves.push_back({{}, kTopicId, 0, half});
    rig.bus().transactions().resolve(client->id, std::move(request),
                                     [&](Result<Resolution> resolution) { answer = std::move(resolution); });
  }
  Result<Resolution> resolve(TransactionId id, bool commit, const std::vector<Position>& halves) {
    std::optional<Result<Resolution>> answer;
    ask(id, commit, halves, answer);
    rig.work();
    return answer ? std::move(*answer) : Result<Resolution>(fail(ErrorCode::timed_out, "no answer"));
  }
  // Which transactions it is asked about, from here on until the daemon ends; it answers none.
  void take_checks(std::vector<TransactionId>& asked) {
    rig.bus().transactions().take_check(client->id, transactor, [&](Result<session::CheckRequest> request) {
      if (request && request->transaction != TransactionId()) asked.push_back(request->transaction);
    });
  }
  std::vector<session::TransactionInfo> open_ones() {
    return rig.bus().transactions().list_transactions(client->id, TransactionId(), 1000, false).value();
  }

  BusRig& rig;
  std::optional<TestClient> client;
  std::optional<TestProducer> sender;
  std::vector<ProducerId> producers;
  ProducerId transactor;
  std::uint32_t last_number = 0;
};

TEST(BusTransaction, CommittedItHasARefAndRolledBackNone) {
  BusRig rig;
  rig.create_topic();
  Shop shop(rig);
  const TransactionId first = shop.next_id();
  const TransactionId second = shop.next_id();
  const Position a = shop.send(first).value();
  const Position b = shop.send(second).value();
  rig.work();
  EXPECT_EQ(shop.open_ones().size(), 2u);
  EXPECT_EQ(rig.counts_of(shop.sender->id).open, 2u);
  EXPECT_TRUE(shop.resolve(first, true, {a})->commit);
  EXPECT_FALSE(shop.resolve(second, false, {b})->commit);
  EXPECT_THAT(shop.open_ones(), IsEmpty());
  const core::AuditCounts counts = rig.counts_of(shop.sender->id);
  EXPECT_EQ(counts.open, 0u);
  EXPECT_EQ(counts.committed_halves, 1u);
  EXPECT_EQ(counts.rolled_back, 1u);
  EXPECT_TRUE(rig.audit().holds);
  shop.leave();
  rig.stop_and_start();
  EXPECT_EQ(rig.refs_on_disk(), (std::map<Position, int>{{a, 1}}));
}

TEST(BusTransaction, TheFirstAnswerStandsAndALaterOneIsToldAlsoAfterARestart) {
  BusRig rig;
  rig.create_topic();
  Shop shop(rig);
  const TransactionId id = shop.next_id();
  const Position half = shop.send(id).value();
  rig.work();
  std::optional<Result<Resolution>> first, second;
  shop.ask(id, false, {half}, first);
  shop.ask(id, true, {half}, second);
  EXPECT_FALSE(first) << "it is not durable yet";
  rig.work();
  EXPECT_FALSE((*first)->commit);
  EXPECT_FALSE((*first)->was_decided);
  EXPECT_FALSE((*second)->commit);
  EXPECT_TRUE((*second)->was_decided);
  rig.kill_and_keep();
  shop.open();
  const auto third = shop.resolve(id, true, {half});
  ASSERT_TRUE(third) << third.error().message();
  EXPECT_FALSE(third->commit);
  EXPECT_TRUE(third->was_decided);
}

TEST(BusTransaction, WhoNamesOtherHalvesThanTheLogHasIsRefused) {
  BusRig rig;
  rig.create_topic();
  Shop shop(rig);
  const TransactionId id = shop.next_id();
  const Position a = shop.send(id).value();
  const Position b = shop.send(id).value();
  rig.work();
  EXPECT_EQ(shop.resolve(id, true, {a}).error().code(), ErrorCode::conflict);
  EXPECT_EQ(shop.resolve(id, true, {a, b, b + 64}).error().code(), ErrorCode::conflict);
  EXPECT_TRUE(shop.resolve(id, true, {b, a}));
  EXPECT_EQ(shop.resolve(TransactionId::make(shop.transactor, 77), true, {}).error().code(), ErrorCode::not_found);
}

TEST(BusTransaction, AHalfThatTheScanMeetsWhileItsTransactionIsDecidedHasNoPartInIt) {
  BusRig rig;
  rig.create_topic();
  Shop shop(rig);
  const TransactionId first = shop.next_id();
  const TransactionId second = shop.next_id();
  const Position a = shop.send(first).value();
  const Position b = shop.send(second).value();
  rig.work();
  const Position late = shop.send(first).value();
  shop.send(second);
  std::optional<Result<Resolution>> rolled_back, committed;
  shop.ask(first, false, {a, late}, rolled_back);
  shop.ask(second, true, {b}, committed);
  rig.work();
  EXPECT_FALSE((*rolled_back)->commit);
  EXPECT_TRUE((*committed)->commit) << "it names what was known";
  EXPECT_THAT(shop.open_ones(), IsEmpty());
  EXPECT_EQ(rig.counts_of(shop.sender->id).open, 0u);
  EXPECT_EQ(rig.counts_of(shop.sender->id).rolled_back, 3u);
  shop.leave();
  rig.stop_and_start();
  EXPECT_EQ(rig.refs_on_disk(), (std::map<Position, int>{{b, 1}}));
}

TEST(BusTransaction, AHalfBehindItsTransactionsDecisionIsRolledBackAndCountedAlsoAfterARestart) {
  BusRig rig;
  rig.create_topic();
  Shop shop(rig);
  const TransactionId id = shop.next_id();
  const Position half = shop.send(id).value();
  rig.work();
  EXPECT_TRUE(shop.resolve(id, true, {half})->commit);
  const Position late = shop.send(id).value();
  rig.work();
  rig.stop_and_keep();
  shop.open();
  EXPECT_EQ(shop.open_ones().size(), 1u);
  const auto told = shop.resolve(id, false, {late});
  ASSERT_TRUE(told) << told.error().message();
  EXPECT_TRUE(told->commit && told->was_decided);
  const core::AuditCounts counts = rig.counts_of(shop.sender->id);
  EXPECT_EQ(counts.open, 0u);
  EXPECT_EQ(counts.rolled_back, 1u);
  EXPECT_EQ(counts.committed_halves, 1u);
}

TEST(BusTransaction, OpenOnesSurviveRestartsOfEveryKind) {
  BusRig rig;
  rig.create_topic();
  Shop shop(rig);
  const TransactionId id = shop.next_id();
  const Position half = shop.send(id).value();
  const Position other = shop.send(shop.next_id()).value();
  rig.work();
  const auto open = [&] {
    EXPECT_EQ(shop.open_ones().size(), 2u);
    EXPECT_EQ(rig.counts_of(shop.producers.front()).open, 2u);
  };
  rig.kill_and_keep();
  rig.work();
  shop.open();
  open();
  rig.stop_and_keep();
  rig.work();
  shop.open();
  open();
  shop.leave();
  rig.kill_and_start();
  rig.work();
  shop.attach();
  open();
  shop.leave();
  rig.stop_and_start();
  rig.work();
  shop.attach();
  open();
  EXPECT_TRUE(shop.resolve(id, true, {half})->commit) << "another producer of the group may say so";
  EXPECT_EQ(rig.counts_of(shop.producers.front()).open, 1u);
  shop.leave();
  rig.stop_and_start();
  EXPECT_EQ(rig.refs_on_disk(), (std::map<Position, int>{{half, 1}}));
  EXPECT_NE(half, other);
}

TEST(BusTransaction, ADecisionThatWasStoredIsCarriedOutByTheNextDaemon) {
  for (const bool keeps : {true, false}) {
    BusRig rig;
    rig.create_topic();
    Shop shop(rig);
    const TransactionId id = shop.next_id();
    const Position half = shop.send(id).value();
    rig.work();
    std::optional<Result<Resolution>> answer;
    shop.ask(id, true, {half}, answer);
    rig.turns(1);  // stores it, and appends no ref yet
    ASSERT_TRUE(answer && *answer);
    if (keeps) {
      rig.kill_and_keep();
    } else {
      shop.leave();
      rig.kill_and_start();
    }
    rig.work();
    shop.leave();
    rig.stop_and_start();
    EXPECT_EQ(rig.refs_on_disk(), (std::map<Position, int>{{half, 1}}));
    EXPECT_EQ(rig.counts_of(shop.producers.front()).committed_halves, 1u);
    EXPECT_TRUE(rig.audit().holds);
  }
}

TEST(BusTransaction, WhenTheProducerDiesAnotherOfItsGroupIsAskedAtOnce) {
  BusRig rig;
  rig.create_topic();
  Shop shop(rig);
  const TestClient other = rig.attach();
  auto& transactions = rig.bus().transactions();
  const ProducerId answers = transactions.open_transactor(other.id, kGroup, ProducerId()).value();
  std::optional<Result<session::CheckRequest>> check;
  transactions.take_check(other.id, answers, [&](auto request) { check = std::move(request); });
  const TransactionId id = shop.next_id();
  const Position half = shop.send(id).value();
  rig.work();
  EXPECT_FALSE(check);
  shop.sender.reset();
  rig.end(std::move(*shop.client));
  rig.work();
  ASSERT_TRUE(check && *check);
  EXPECT_EQ((*check)->transaction, id);
  ASSERT_EQ((*check)->halves.size(), 1u);
  EXPECT_EQ((*check)->halves[0].topic, BusRig::kTopic);
  EXPECT_EQ((*check)->halves[0].position, half);
  ASSERT_TRUE(transactions.answer_check(other.id, answers, id, (*check)->serial, Verdict::commit));
  rig.work();
  EXPECT_EQ(transactions.describe_transaction(other.id, id)->state, "committed");
}

// The daemon dies when its counts are noted, and the store does not have them yet.
TEST(BusTransaction, OneThatCameBehindItsTransactionsDecisionIsCountedOnce) {
  BusRig rig;
  rig.create_topic(small(core::Durability::sync));
  Shop shop(rig);
  const TransactionId id = shop.next_id();
  const Position half = shop.send(id).value();
  rig.work();
  ASSERT_TRUE(shop.resolve(id, true, {half})->commit);
  ASSERT_TRUE(shop.send(id));
  rig.work();
  ASSERT_TRUE(shop.resolve(id, false, {})->was_decided);
  for (int i = 0; i < 10; ++i) {  // over the end of a segment, behind which the counts are noted
    shop.sender->send(200);
    rig.work();
  }
  for (int restart = 0; restart < 3; ++restart) {
    const core::AuditCounts counts = rig.counts_of(shop.sender->id);
    EXPECT_EQ(counts.open, 0u);
    EXPECT_EQ(counts.committed_halves, 1u);
    EXPECT_EQ(counts.rolled_back, 1u);
    EXPECT_TRUE(rig.audit().holds);
    EXPECT_THAT(shop.open_ones(), IsEmpty());
    rig.kill_and_keep();
    rig.work();
  }
}

// Its process, its session or its word has ended before the daemon did: that the next daemon knows.
TEST(BusTransaction, OneWhoDiedBeforeTheDaemonIsNotWaitedFor) {
  for (const bool closes : {true, false}) {
    BusRig rig;
    rig.create_topic();
    Shop living(rig), dead(rig);
    const TransactionId kept = living.next_id();
    const TransactionId orphan = dead.next_id();
    ASSERT_TRUE(living.send(kept) && dead.send(orphan));
    rig.work();
    if (closes) {
      ASSERT_TRUE(rig.bus().transactions().close_transactor(dead.client->id, dead.transactor));
    } else {
      dead.sender.reset();
      rig.end(std::move(*dead.client));
    }
    rig.kill_and_keep();
    std::vector<TransactionId> asked;
    living.take_checks(asked);
    rig.work();
    EXPECT_THAT(asked, ElementsAre(orphan)) << "and not the other, whose producer lives";
  }
}

TEST(BusTransaction, OneWhoDiesWhileNoDaemonRunsIsNotWaitedFor) {
  BusRig rig;
  rig.create_topic();
  Shop living(rig), dying(rig);
  const TransactionId orphan = dying.next_id();
  ASSERT_TRUE(dying.send(orphan));
  rig.work();
  const SessionId session = dying.client->id;
  rig.kill_and_keep();
  std::vector<TransactionId> asked;
  living.take_checks(asked);
  rig.work();
  EXPECT_THAT(asked, IsEmpty()) << "it has not come back yet, and lives";
  dying.leave();
  ASSERT_TRUE(rig.bus().on_peer(session, session::PeerEvent::look));
  rig.work();
  EXPECT_THAT(asked, ElementsAre(orphan));
}

// Who has lost the memory may live on, and comes back with its id.
TEST(BusTransaction, OneOfLostMemoryIsWaitedFor) {
  BusRig rig;
  rig.create_topic();
  std::optional<Shop> before(std::in_place, rig);
  ASSERT_TRUE(before->send(before->next_id()));
  rig.work();
  before->leave();
  rig.kill_and_start();
  Shop living(rig);
  std::vector<TransactionId> asked;
  living.take_checks(asked);
  rig.work();
  rig.kill_and_keep();  // nor does that prove its death
  living.take_checks(asked);
  rig.work();
  EXPECT_THAT(asked, IsEmpty());
}

TEST(BusTransaction, AnOperatorDecidesAndAProducerOfAnotherGroupDoesNot) {
  BusRig rig;
  rig.create_topic();
  Shop shop(rig);
  const TransactionId id = shop.next_id();
  const Position half = shop.send(id).value();
  rig.work();
  auto& transactions = rig.bus().transactions();
  const ProducerId stranger = transactions.open_transactor(shop.client->id, "other", ProducerId()).value();
  std::optional<ErrorCode> refused;
  transactions.resolve(shop.client->id, {stranger, id, true, {}, {}},
                       [&](Result<Resolution> answer) { refused = answer.error().code(); });
  EXPECT_EQ(refused, ErrorCode::permission);
  std::optional<Result<session::TransactionInfo>> decided;
  transactions.order(shop.client->id, id, session::TransactionOrder::commit,
                     [&](auto info) { decided = std::move(info); });
  rig.work();
  ASSERT_TRUE(decided && *decided);
  EXPECT_EQ((*decided)->state, "committed");
  shop.leave();
  rig.stop_and_start();
  EXPECT_EQ(rig.refs_on_disk(), (std::map<Position, int>{{half, 1}}));
}

TEST(BusTransaction, WhoMayNotPublishThereIsNotAskedAndDecidesNothing) {
  BusRig rig;
  core::TopicConfig config;
  config.publishers = {"user:" + std::to_string(::geteuid())};
  rig.create_topic(config);
  Shop shop(rig);
  const TransactionId id = shop.next_id();
  const Position half = shop.send(id).value();
  rig.work();
  const TestClient other = rig.attach_stranger();
  auto& transactions = rig.bus().transactions();
  const ProducerId stranger = transactions.open_transactor(other.id, kGroup, ProducerId()).value();
  std::optional<ErrorCode> refused;
  transactions.resolve(other.id, {stranger, id, true, {}, {}},
                       [&](Result<Resolution> answer) { refused = answer.error().code(); });
  EXPECT_EQ(refused, ErrorCode::permission);
  EXPECT_EQ(transactions.answer_check(other.id, stranger, id, 1, Verdict::commit).error().code(),
            ErrorCode::permission);
  bool asked = false;
  transactions.take_check(other.id, stranger, [&](auto) { asked = true; });
  shop.sender.reset();
  rig.end(std::move(*shop.client));
  rig.work();
  EXPECT_FALSE(asked);
  const auto info = transactions.describe_transaction(other.id, id);
  ASSERT_TRUE(info) << info.error().message();
  EXPECT_EQ(info->state, "open");
  EXPECT_EQ(info->halves.front().position, half);
}

TEST(BusTransaction, ATopicThatIsDeletedTakesItsHalvesAlong) {
  BusRig rig;
  rig.create_topic();
  Shop shop(rig);
  shop.send(shop.next_id());
  rig.work();
  EXPECT_EQ(shop.open_ones().size(), 1u);
  ASSERT_TRUE(rig.bus().delete_topic(shop.client->id, BusRig::kTopic));
  rig.work();
  EXPECT_THAT(shop.open_ones(), IsEmpty());
}

class BusTransactionTest : public testing::TestWithParam<int> {};

TEST_P(BusTransactionTest, WhatWasDecidedStandsHoweverOftenTheDaemonDies) {
  std::mt19937_64 random(static_cast<std::uint64_t>(GetParam()));
  BusRig rig;
  rig.create_topic(small(GetParam() % 2 == 0 ? core::Durability::async : core::Durability::sync));
  Shop shop(rig);
  struct Truth {
    std::vector<Position> halves;
    std::optional<bool> answered;  // what was told
  };
  std::map<TransactionId, Truth> truths;
  std::map<TransactionId, std::optional<Result<Resolution>>> asked;
  const auto look = [&] {
    for (auto& [id, answer] : asked)
      if (answer && *answer) truths.at(id).answered = (*answer)->commit;
  };
  for (int step = 0; step < 40; ++step) {
    for (std::uint64_t i = random() % 12; i != 0; --i) {
      const TransactionId id = shop.next_id();
      Truth truth;
      for (std::uint64_t n = 1 + random() % 3; n != 0; --n)
        if (const auto half = shop.send(id, random() % 3000)) truth.halves.push_back(*half);
      if (!truth.halves.empty()) truths[id] = truth;
    }
    if (random() % 4 != 0) rig.work();
    for (auto& [id, truth] : truths) {
      if (truth.answered || asked.count(id) != 0 || random() % 3 != 0) continue;
      auto& answer = asked[id];
      // Halves that are not scanned yet are not known: the refusal is an answer, too.
      shop.ask(id, random() % 2 == 0, truth.halves, answer);
    }
    const std::uint64_t next = random() % 10;
    if (next < 4) rig.work();
    if (next == 4 || next == 5) rig.turns(1 + random() % 3);
    look();
    if (next < 6) {
      std::erase_if(asked, [](const auto& entry) { return entry.second.has_value(); });
      continue;
    }
    if (next == 6 || next == 7) rig.kill_and_keep();
    if (next == 8) rig.stop_and_keep();
    if (next == 9) {
      rig.work();
      shop.leave();
      if (random() % 2 == 0)
        rig.kill_and_start();
      else
        rig.stop_and_start();
      rig.work();
      shop.attach();
    } else {
      shop.open();
    }
    look();  // answers of the daemon that has stopped
    asked.clear();
  }
  rig.work();
  look();
  std::uint64_t open = 0, committed = 0, rolled_back = 0;
  std::map<Position, int> expected;
  for (const auto& [id, truth] : truths) {
    const auto info = rig.bus().transactions().describe_transaction(shop.client->id, id);
    ASSERT_TRUE(info) << to_text(id) << ": " << info.error().message();
    const bool is_committed = info->state == "committed";
    if (truth.answered) {
      EXPECT_EQ(info->state, *truth.answered ? "committed" : "rolled_back") << to_text(id);
    }
    const std::uint64_t halves = truth.halves.size();
    (is_committed ? committed : info->state == "rolled_back" ? rolled_back : open) += halves;
    if (is_committed)
      for (const Position half : truth.halves) expected[half] = 1;
  }
  core::AuditCounts sum;
  for (const ProducerId id : shop.producers) {
    const core::AuditCounts counts = rig.counts_of(id);
    sum.open += counts.open;
    sum.committed_halves += counts.committed_halves;
    sum.rolled_back += counts.rolled_back;
  }
  EXPECT_EQ(sum.open, open);
  EXPECT_EQ(sum.committed_halves, committed);
  EXPECT_EQ(sum.rolled_back, rolled_back);
  EXPECT_GT(committed, 0u);
  EXPECT_GT(rolled_back, 0u);
  EXPECT_TRUE(rig.audit().holds);
  shop.leave();
  rig.stop_and_start();
  EXPECT_EQ(rig.refs_on_disk(), expected);
}
INSTANTIATE_TEST_SUITE_P(Seeds, BusTransactionTest, testing::Range(0, 16));

}  // namespace
}  // namespace sluice::bus
