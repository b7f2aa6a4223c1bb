// What every store keeps of transactions, and of the halves of its partitions.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/daemon/store/conformance.h"

namespace sluice::store {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

const TransactionId kFirst = TransactionId::make(ProducerId(17), 1);
const TransactionId kSecond = TransactionId::make(ProducerId(17), 2);

class TransactionConformance : public StoreConformance {
 protected:
  void SetUp() override {
    StoreConformance::SetUp();
    topic_ = create("orders");
  }
  Decision decision(TransactionId id, bool commit, std::vector<std::uint64_t> positions) const {
    Decision decision{id, commit, 0, 1000, "producer 17", {}};
    for (const std::uint64_t position : positions) decision.halves.push_back({topic_, 1, Position(position)});
    return decision;
  }
  core::Half half(std::uint64_t position, TransactionId id) const {
    return {Position(position), id, ProducerId(5), true, 77, "shop"};
  }
  void save_halves(std::vector<core::Half> added, std::vector<Position> ended, std::uint64_t decided) {
    AuditSnapshot snapshot;
    snapshot.upto = snapshot.delays.upto = Position(1 << 20);
    snapshot.halves = {std::move(added), std::move(ended), decided, {}};
    const Status saved = store_->save_audit_snapshot(topic_, 1, snapshot);
    ASSERT_TRUE(saved) << saved.error().message();
  }

  TopicId topic_;
};

TEST_P(TransactionConformance, a_decision_comes_back_and_orders_ascend_also_after_a_crash) {
  std::vector<Decision> both{decision(kFirst, true, {640, 64}), decision(kSecond, false, {128})};
  ASSERT_TRUE(store_->save_decisions(both, {}));
  EXPECT_LT(both[0].order, both[1].order);
  crash();
  const auto back = store_->decision(kFirst);
  ASSERT_TRUE(back && *back);
  EXPECT_TRUE((*back)->commit);
  EXPECT_EQ((*back)->by, "producer 17");
  EXPECT_EQ((*back)->decided_ns, 1000u);
  EXPECT_THAT((*back)->halves, ElementsAre(HalfPlace{topic_, 1, Position(64)}, HalfPlace{topic_, 1, Position(640)}));
  EXPECT_THAT(store_->decided_halves(topic_, 1).value(), ElementsAre(DecidedHalf{both[0].order, Position(64), true},
                                                                     DecidedHalf{both[0].order, Position(640), true},
                                                                     DecidedHalf{both[1].order, Position(128), false}));
  EXPECT_THAT(store_->decided_halves(topic_, 0).value(), IsEmpty());
  EXPECT_FALSE(store_->decision(TransactionId(5)).value());
  std::vector<Decision> later{decision(TransactionId::make(ProducerId(18), 1), true, {})};
  ASSERT_TRUE(store_->save_decisions(later, {}));
  EXPECT_GT(later[0].order, both[1].order);
}

TEST_P(TransactionConformance, a_second_decision_is_refused_and_nothing_is_saved_with_it) {
  std::vector<Decision> first{decision(kFirst, true, {64})};
  ASSERT_TRUE(store_->save_decisions(first, {}));
  std::vector<Decision> again{decision(kSecond, true, {128}), decision(kFirst, false, {64})};
  EXPECT_EQ(store_->save_decisions(again, {}).error().code(), ErrorCode::exists);
  EXPECT_FALSE(store_->decision(kSecond).value());
  EXPECT_TRUE(store_->decision(kFirst).value()->commit);
}

TEST_P(TransactionConformance, acks_are_saved_with_the_decision_or_not_at_all) {
  GroupRecord record;
  record.config.name = "g";
  const std::uint64_t group = store_->create_group(record).value();
  GroupSave acks;
  acks.group = group;
  acks.cursors.push_back({{topic_, 0}, Position(640), {}});
  std::vector<Decision> first{decision(kFirst, true, {64})};
  ASSERT_TRUE(store_->save_decisions(first, {acks}));
  EXPECT_EQ(store_->group_state(group)->cursors, acks.cursors);
  acks.cursors[0].cursor = Position(1280);
  EXPECT_FALSE(store_->save_decisions(first, {acks}));
  EXPECT_EQ(store_->group_state(group)->cursors[0].cursor, Position(640));
}

TEST_P(TransactionConformance, halves_add_up_until_they_have_ended_and_leave_their_decision_then) {
  save_halves({half(64, kFirst), half(128, kSecond)}, {}, 0);
  save_halves({half(192, kFirst)}, {}, 7);
  crash();
  auto snapshot = store_->audit_snapshot(topic_, 1);
  ASSERT_TRUE(snapshot) << snapshot.error().message();
  EXPECT_THAT(snapshot->halves.added, ElementsAre(half(64, kFirst), half(128, kSecond), half(192, kFirst)));
  EXPECT_EQ(snapshot->halves.decided, 7u);
  std::vector<Decision> decided{decision(kFirst, true, {64, 192})};
  ASSERT_TRUE(store_->save_decisions(decided, {}));
  save_halves({}, {Position(64)}, 8);
  crash();
  snapshot = store_->audit_snapshot(topic_, 1);
  EXPECT_THAT(snapshot->halves.added, ElementsAre(half(128, kSecond), half(192, kFirst)));
  EXPECT_THAT(snapshot->halves.ended, IsEmpty());
  EXPECT_THAT(store_->decided_halves(topic_, 1).value(),
              ElementsAre(DecidedHalf{decided[0].order, Position(192), true}));
}

TEST_P(TransactionConformance, a_decision_is_forgotten_once_it_is_old_and_no_half_is_left) {
  std::vector<Decision> both{decision(kFirst, true, {64}), decision(kSecond, false, {})};
  ASSERT_TRUE(store_->save_decisions(both, {}));
  ASSERT_TRUE(store_->forget_decisions(1000, 100, 10));
  EXPECT_TRUE(store_->decision(kSecond).value()) << "not old enough";
  ASSERT_TRUE(store_->forget_decisions(1001, 100, 10));
  EXPECT_FALSE(store_->decision(kSecond).value());
  EXPECT_TRUE(store_->decision(kFirst).value()) << "a half is left";
  save_halves({}, {Position(64)}, 1);
  ASSERT_TRUE(store_->forget_decisions(1001, 100, 10));
  EXPECT_FALSE(store_->decision(kFirst).value());
}

TEST_P(TransactionConformance, of_very_many_decisions_the_newest_are_kept_and_a_step_is_bounded) {
  std::vector<Decision> decided;
  for (std::uint32_t i = 1; i <= 10; ++i) decided.push_back(decision(TransactionId::make(ProducerId(17), i), true, {}));
  ASSERT_TRUE(store_->save_decisions(decided, {}));
  EXPECT_EQ(store_->forget_decisions(0, 4, 5), 5u);
  EXPECT_EQ(store_->forget_decisions(0, 4, 5), 1u);
  EXPECT_FALSE(store_->decision(decided[5].transaction).value());
  EXPECT_TRUE(store_->decision(decided[6].transaction).value());
}

TEST_P(TransactionConformance, notes_are_replaced_and_go_with_the_decision) {
  ASSERT_TRUE(store_->save_transaction_notes({{{kFirst, 1, 0}, {kSecond, 15, 99}}, {}}));
  ASSERT_TRUE(store_->save_transaction_notes({{{kFirst, 2, 0}}, {}}));
  crash();
  EXPECT_THAT(store_->transaction_notes()->transactions,
              ElementsAre(TransactionNote{kFirst, 2, 0}, TransactionNote{kSecond, 15, 99}));
  std::vector<Decision> decided{decision(kSecond, true, {})};
  ASSERT_TRUE(store_->save_decisions(decided, {}));
  EXPECT_THAT(store_->transaction_notes()->transactions, ElementsAre(TransactionNote{kFirst, 2, 0}));
  ASSERT_TRUE(store_->save_transaction_notes({{{kFirst, 0, 0}}, {}}));
  EXPECT_THAT(store_->transaction_notes()->transactions, IsEmpty()) << "there is nothing to remember";
}

TEST_P(TransactionConformance, silent_groups_are_kept_until_there_is_somebody) {
  ASSERT_TRUE(store_->save_transaction_notes({{}, {{"b", 7}, {"a", 5}}}));
  ASSERT_TRUE(store_->save_transaction_notes({{{kFirst, 1, 0}}, {{"b", 9}}}));
  crash();
  EXPECT_THAT(store_->transaction_notes()->groups, ElementsAre(SilentGroup{"a", 5}, SilentGroup{"b", 9}));
  ASSERT_TRUE(store_->save_transaction_notes({{}, {{"a", 0}, {"never", 0}}}));
  EXPECT_THAT(store_->transaction_notes()->groups, ElementsAre(SilentGroup{"b", 9}));
}

TEST_P(TransactionConformance, a_deleted_topic_takes_its_halves_along_and_its_decisions_stay) {
  save_halves({half(64, kFirst)}, {}, 0);
  std::vector<Decision> decided{decision(kFirst, true, {64})};
  ASSERT_TRUE(store_->save_decisions(decided, {}));
  ASSERT_TRUE(store_->delete_topic(topic_));
  EXPECT_THAT(store_->decided_halves(topic_, 1).value(), IsEmpty());
  EXPECT_THAT(store_->decision(kFirst).value()->halves, IsEmpty());
  std::vector<Decision> later{decision(kSecond, true, {128})};
  EXPECT_TRUE(store_->save_decisions(later, {})) << "its half is gone, the others count";
}

INSTANTIATE_TEST_SUITE_P(Stores, TransactionConformance, implementations(), implementation_name);

}  // namespace
}  // namespace sluice::store
