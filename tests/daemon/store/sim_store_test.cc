#include "daemon/store/sim_store.h"

#include <set>

#include <gtest/gtest.h>

namespace sluice::store {
namespace {

TEST(SimStore, a_power_loss_inside_a_call_keeps_it_whole_or_not_at_all_and_both_happen) {
  std::set<std::uint64_t> outcomes;
  for (std::uint64_t seed = 1; seed <= 64; ++seed) {
    SimStoreMedium medium(seed);
    auto store = std::move(*medium.open());
    medium.lose_power_in(3);
    ASSERT_EQ(store->next_incarnation()->value, 1u);
    ASSERT_EQ(store->next_incarnation()->value, 2u);
    EXPECT_EQ(store->next_incarnation().error().code(), ErrorCode::io) << "the caller must not learn the outcome";
    EXPECT_FALSE(store->topics()) << "a store whose power is gone answers nothing";
    auto next = std::move(*medium.open());
    const std::uint64_t survived = next->next_incarnation()->value - 1;
    EXPECT_TRUE(survived == 2 || survived == 3) << survived;
    outcomes.insert(survived);
  }
  EXPECT_EQ(outcomes.size(), 2u);
}

TEST(SimStore, a_power_loss_inside_a_save_of_groups_keeps_all_of_the_saves_or_none) {
  std::set<bool> outcomes;
  for (std::uint64_t seed = 1; seed <= 64; ++seed) {
    SimStoreMedium medium(seed);
    auto store = std::move(*medium.open());
    core::TopicConfig config;
    config.name = "a";
    const TopicId topic = store->create_topic(config, 1).value();
    std::vector<GroupSave> saves;
    for (const char* name : {"g", "h"}) {
      GroupRecord record;
      record.config.name = name;
      GroupSave& save = saves.emplace_back();
      save.group = store->create_group(record).value();
      save.cursors = {{{topic, 0}, Position(64), {}}};
      save.letters.resize(1);
    }
    medium.lose_power_in(1);
    EXPECT_EQ(store->save_groups(saves).error().code(), ErrorCode::io);
    EXPECT_FALSE(store->groups());
    auto next = std::move(*medium.open());
    const bool kept = !next->group_state(1)->cursors.empty();
    for (const std::uint64_t group : {1u, 2u}) {
      EXPECT_EQ(next->group_state(group)->cursors.size(), kept ? 1u : 0u);
      EXPECT_EQ(next->count_dead_letters(group)->parked, kept ? 1u : 0u);
    }
    outcomes.insert(kept);
  }
  EXPECT_EQ(outcomes.size(), 2u);
}

TEST(SimStore, a_refused_commit_leaves_nothing_and_the_next_one_succeeds) {
  SimStoreMedium medium(1);
  auto store = std::move(*medium.open());
  medium.fail_next(ErrorCode::would_block);
  EXPECT_EQ(store->next_incarnation().error().code(), ErrorCode::would_block);
  EXPECT_EQ(medium.commits(), 0u);
  EXPECT_EQ(store->next_incarnation()->value, 1u);
}

TEST(SimStore, the_same_seed_gives_the_same_outcome) {
  for (std::uint64_t seed = 1; seed <= 8; ++seed) {
    std::uint64_t commits[2];
    for (std::uint64_t& count : commits) {
      SimStoreMedium medium(seed);
      auto store = std::move(*medium.open());
      medium.lose_power_in(1);
      EXPECT_FALSE(store->next_incarnation());
      count = medium.commits();
    }
    EXPECT_EQ(commits[0], commits[1]);
  }
}

TEST(SimStore, a_dead_store_that_is_destroyed_late_does_not_unlock_its_successor) {
  SimStoreMedium medium(1);
  auto dead = std::move(*medium.open());
  medium.lose_power();
  auto successor = std::move(*medium.open());
  dead.reset();
  EXPECT_EQ(medium.open().error().code(), ErrorCode::in_use);
}

}  // namespace
}  // namespace sluice::store
