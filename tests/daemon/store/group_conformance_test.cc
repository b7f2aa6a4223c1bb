// What every implementation of the Store interface keeps of consumer groups.

#include <functional>
#include <set>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "daemon/store/store.h"
#include "tests/daemon/store/conformance.h"

namespace sluice::store {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;

GroupRecord record_of(const std::string& name) {
  GroupRecord record;
  record.config.name = name;
  return record;
}

GroupRecord full_record(const std::string& name) {
  GroupRecord record = record_of(name);
  record.config.mode = core::GroupMode::ordered;
  record.config.ack_timeout_ns = 1'000'000'007;
  record.config.member_timeout_ns = 2'000'000'011;
  record.config.max_attempts = 7;
  record.config.backoff = {{100, 5'000'000'000, 1}, 3, 4'000'000'000};
  record.config.strict = core::Strict::partition;
  record.config.hold = true;
  record.paused = true;
  record.epoch = 1ULL << 40;
  record.members = 12;
  record.tag = "blue";
  record.subscriptions = {"orders", "audit.*", "a*"};
  return record;
}

class GroupConformance : public StoreConformance {
 protected:
  void SetUp() override {
    StoreConformance::SetUp();
    topic_ = create("orders");
    group_ = create_group("g");
  }
  std::uint64_t create_group(const std::string& name) {
    const auto id = store_->create_group(record_of(name));
    EXPECT_TRUE(id) << id.error().message();
    return id.value_or(0);
  }
  void save(const GroupSave& save) {
    const Status saved = store_->save_groups({save});
    ASSERT_TRUE(saved) << saved.error().message();
  }
  GroupState state() {
    auto found = store_->group_state(group_);
    EXPECT_TRUE(found) << found.error().message();
    return found.value_or(GroupState{});
  }
  std::vector<DeadLetterRecord> letters(std::uint64_t after = 0, std::uint32_t limit = 1000) {
    auto found = store_->dead_letters(group_, after, limit);
    EXPECT_TRUE(found) << found.error().message();
    return found.value_or(std::vector<DeadLetterRecord>{});
  }
  std::vector<std::uint64_t> letter_ids(std::uint64_t after = 0, std::uint32_t limit = 1000) {
    std::vector<std::uint64_t> ids;
    for (const DeadLetterRecord& letter : letters(after, limit)) ids.push_back(letter.id);
    return ids;
  }
  GroupPosition place(PartitionNumber partition) const { return {topic_, partition}; }
  GroupSave changes() const {
    GroupSave save;
    save.group = group_;
    return save;
  }
  GroupPending pending_at(PartitionNumber partition, std::uint64_t position) const {
    GroupPending pending;
    pending.place = place(partition);
    pending.position = Position(position);
    pending.delivered = 2;
    pending.failed = 1;
    pending.due_ns = 1'700'000'000'000'000'001;
    pending.key_hash = UINT64_MAX - 5;
    pending.order = 9;
    pending.state = 3;
    pending.letter = 4;
    pending.reason = std::string("no\0 room", 8);
    return pending;
  }
  DeadLetterRecord letter_of(std::uint64_t position) const {
    DeadLetterRecord letter;
    letter.origin = place(6);
    letter.position = Position(position);
    letter.origin_topic = "orders";
    letter.parked_at = Position(position + 4096);
    letter.delivered = 5;
    letter.failed = 4;
    letter.parked_ns = 1'700'000'000'000'000'001;
    letter.reason = "cannot be parsed";
    return letter;
  }
  GroupSave with_letters(int count) const {
    GroupSave save = changes();
    for (int i = 0; i < count; ++i) save.letters.push_back(letter_of(static_cast<std::uint64_t>(i) * 64));
    return save;
  }

  TopicId topic_;
  std::uint64_t group_ = 0;
};

TEST_P(GroupConformance, a_group_comes_back_with_every_setting_after_a_restart_and_a_crash) {
  GroupRecord full = full_record("full");
  full.id = 99;  // is not looked at
  const auto id = store_->create_group(full);
  ASSERT_TRUE(id) << id.error().message();
  full.id = *id;
  GroupRecord plain = record_of("g");
  plain.id = group_;
  for (const auto& restart : {std::function<void()>([] {}), std::function<void()>([this] { reopen(); }),
                              std::function<void()>([this] { crash(); })}) {
    restart();
    const auto groups = store_->groups();
    ASSERT_TRUE(groups) << groups.error().message();
    EXPECT_THAT(*groups, ElementsAre(plain, full));
  }
}

TEST_P(GroupConformance, an_altered_group_is_all_new_but_for_its_id_and_name) {
  save(with_letters(1));
  GroupRecord changed = full_record("another-name");
  changed.id = group_;
  ASSERT_TRUE(store_->update_group(changed));
  crash();
  changed.config.name = "g";
  EXPECT_THAT(*store_->groups(), ElementsAre(changed));
  EXPECT_EQ(store_->count_dead_letters(group_)->parked, 1u);
  changed.subscriptions = {"orders"};
  changed.config.backoff.steps_ns.clear();
  ASSERT_TRUE(store_->update_group(changed));
  EXPECT_THAT(*store_->groups(), ElementsAre(changed));
}

TEST_P(GroupConformance, a_second_group_of_a_name_and_one_that_cannot_be_are_refused_and_use_up_no_id) {
  EXPECT_EQ(store_->create_group(record_of("g")).error().code(), ErrorCode::exists);
  EXPECT_EQ(store_->create_group(record_of("../etc")).error().code(), ErrorCode::invalid);
  GroupRecord wrong = record_of("wrong");
  wrong.subscriptions = {"a/b"};
  EXPECT_EQ(store_->create_group(wrong).error().code(), ErrorCode::invalid);
  wrong.subscriptions.clear();
  wrong.tag.assign(kTagSizeMax + 1, 't');
  EXPECT_EQ(store_->create_group(wrong).error().code(), ErrorCode::invalid);
  wrong.id = group_;
  EXPECT_EQ(store_->update_group(wrong).error().code(), ErrorCode::invalid);
  EXPECT_THAT(*store_->groups(), SizeIs(1));
  EXPECT_EQ(create_group("h"), group_ + 1);
}

TEST_P(GroupConformance, an_id_is_never_given_twice_whatever_is_deleted_or_crashes) {
  std::set<std::uint64_t> ids = {group_};
  for (int round = 0; round < 6; ++round) {
    const std::uint64_t id = create_group("again");
    EXPECT_TRUE(ids.insert(id).second) << id;
    ASSERT_TRUE(store_->delete_group(id));
    round % 2 == 0 ? reopen() : crash();
  }
}

TEST_P(GroupConformance, a_group_that_is_not_there_is_not_found) {
  GroupRecord none = record_of("none");
  none.id = 77;
  GroupSave nothing;
  nothing.group = 77;
  EXPECT_EQ(store_->update_group(none).error().code(), ErrorCode::not_found);
  EXPECT_EQ(store_->delete_group(77).error().code(), ErrorCode::not_found);
  EXPECT_EQ(store_->group_state(77).error().code(), ErrorCode::not_found);
  EXPECT_EQ(store_->save_groups({nothing}).error().code(), ErrorCode::not_found);
  EXPECT_EQ(store_->dead_letters(77, 0, 1).error().code(), ErrorCode::not_found);
  EXPECT_EQ(store_->count_dead_letters(77).error().code(), ErrorCode::not_found);
  EXPECT_EQ(store_->forget_dead_letters(77, 0).error().code(), ErrorCode::not_found);
}

TEST_P(GroupConformance, cursors_and_pending_messages_come_back_in_order_and_as_they_were_saved_last) {
  GroupSave first = changes();
  first.cursors = {{place(2), Position(640), {}},
                   {place(0), Position(64), {{Position(64), Position(128)}, {Position(128), Position(200)}}}};
  first.pending = {pending_at(2, 700), pending_at(0, 256), pending_at(0, 64)};
  save(first);
  crash();
  EXPECT_THAT(state().cursors, ElementsAre(first.cursors[1], first.cursors[0]));
  EXPECT_THAT(state().pending, ElementsAre(first.pending[2], first.pending[1], first.pending[0]));
  GroupSave second = changes();
  second.cursors = {{place(0), Position(200), {{Position(1ULL << 50), Position((1ULL << 50) + 8)}}}};
  second.pending = {pending_at(0, 256)};
  second.pending[0].failed = 8;
  second.pending[0].reason.clear();
  second.not_pending = {{place(0), Position(64)}, {place(0), Position(65)}};
  save(second);
  crash();
  EXPECT_THAT(state().cursors, ElementsAre(second.cursors[0], first.cursors[0]));
  EXPECT_THAT(state().pending, ElementsAre(second.pending[0], first.pending[0]));
}

TEST_P(GroupConformance, a_dropped_cursor_takes_what_is_pending_in_its_place_along_and_nothing_else) {
  const std::uint64_t other = create_group("h");
  GroupSave all = changes();
  all.cursors = {{place(0), Position(64), {}}, {place(1), Position(64), {}}};
  all.pending = {pending_at(0, 64), pending_at(1, 64)};
  save(all);
  all.group = other;
  save(all);
  GroupSave drop = changes();
  drop.dropped_cursors = {place(0), place(9)};
  save(drop);
  crash();
  EXPECT_THAT(state().cursors, ElementsAre(all.cursors[1]));
  EXPECT_THAT(state().pending, ElementsAre(all.pending[1]));
  EXPECT_THAT(store_->group_state(other)->cursors, SizeIs(2));
  EXPECT_THAT(store_->group_state(other)->pending, SizeIs(2));
}

TEST_P(GroupConformance, what_is_dropped_or_not_pending_any_more_goes_before_what_is_saved_with_it) {
  GroupSave first = changes();
  first.cursors = {{place(0), Position(640), {}}};
  first.pending = {pending_at(0, 64), pending_at(0, 128)};
  save(first);
  GroupSave seek = changes();
  seek.dropped_cursors = {place(0)};
  seek.cursors = {{place(0), Position(0), {}}};
  seek.not_pending = {{place(0), Position(256)}};
  seek.pending = {pending_at(0, 256)};
  save(seek);
  crash();
  EXPECT_THAT(state().cursors, ElementsAre(seek.cursors[0]));
  EXPECT_THAT(state().pending, ElementsAre(seek.pending[0]));
}

TEST_P(GroupConformance, saves_of_one_call_are_kept_all_or_none) {
  GroupSave good = with_letters(2);
  good.cursors = {{place(0), Position(64), {}}};
  GroupSave no_topic = changes();
  no_topic.cursors = {{{TopicId(55), 0}, Position(64), {}}};
  GroupSave no_cursor = changes();
  no_cursor.pending = {pending_at(5, 64)};
  GroupSave no_group = good;
  no_group.group = 55;
  for (const GroupSave& bad : {no_topic, no_cursor, no_group})
    EXPECT_EQ(store_->save_groups({good, bad}).error().code(), ErrorCode::not_found);
  crash();
  EXPECT_THAT(state().cursors, IsEmpty());
  EXPECT_EQ(*store_->count_dead_letters(group_), DeadLetterCounts{});
  save(good);
  EXPECT_THAT(letter_ids(), ElementsAre(1, 2));
}

TEST_P(GroupConformance, settled_ranges_that_no_cursor_can_have_are_refused) {
  using Ranges = std::vector<std::pair<Position, Position>>;
  for (const Ranges& settled :
       {Ranges{{Position(63), Position(70)}}, Ranges{{Position(80), Position(80)}},
        Ranges{{Position(80), Position(70)}}, Ranges{{Position(100), Position(200)}, {Position(150), Position(300)}},
        Ranges{{Position(200), Position(300)}, {Position(100), Position(150)}}}) {
    GroupSave bad = changes();
    bad.cursors = {{place(0), Position(64), settled}};
    EXPECT_EQ(store_->save_groups({bad}).error().code(), ErrorCode::invalid);
  }
  EXPECT_THAT(state().cursors, IsEmpty());
}

TEST_P(GroupConformance, as_much_as_a_partition_may_have_comes_back) {
  GroupSave big = changes();
  GroupCursor& cursor = big.cursors.emplace_back();
  cursor = {place(0), Position(8), {}};
  for (std::uint64_t i = 1; i <= kAckRangesMax; ++i)
    cursor.settled.emplace_back(Position(i * 1000), Position(i * 1000 + 1 + i % 500));
  for (std::uint64_t i = 1; i <= 5000; ++i) big.pending.push_back(pending_at(0, i * 8));
  save(big);
  crash();
  EXPECT_EQ(state().cursors, big.cursors);
  EXPECT_EQ(state().pending, big.pending);
}

TEST_P(GroupConformance, dead_letters_get_ascending_ids_and_come_back_whole_page_by_page) {
  const GroupSave three = with_letters(3);
  save(three);
  save(with_letters(2));
  crash();
  EXPECT_THAT(letter_ids(), ElementsAre(1, 2, 3, 4, 5));
  EXPECT_THAT(letter_ids(0, 2), ElementsAre(1, 2));
  EXPECT_THAT(letter_ids(2, 2), ElementsAre(3, 4));
  EXPECT_THAT(letter_ids(5), IsEmpty());
  EXPECT_THAT(letter_ids(UINT64_MAX), IsEmpty());
  EXPECT_THAT(letter_ids(0, 0), IsEmpty());
  DeadLetterRecord expected = three.letters[1];
  expected.id = 2;
  EXPECT_EQ(letters()[1], expected);
}

TEST_P(GroupConformance, ids_of_dead_letters_are_each_groups_own) {
  const std::uint64_t other = create_group("h");
  save(with_letters(2));
  GroupSave mine = with_letters(1);
  mine.group = other;
  save(mine);
  EXPECT_EQ(store_->dead_letters(other, 0, 10)->front().id, 1u);
  EXPECT_EQ(store_->count_dead_letters(other)->parked, 1u);
}

TEST_P(GroupConformance, dead_letters_are_counted_by_their_state) {
  GroupSave all = with_letters(4);
  all.letter_states = {{4, LetterState::purged}};  // of a letter of the same save
  save(all);
  GroupSave states = changes();
  states.letter_states = {{1, LetterState::redriven}, {2, LetterState::purged}, {2, LetterState::purged}};
  save(states);
  crash();
  EXPECT_EQ(*store_->count_dead_letters(group_), (DeadLetterCounts{1, 1, 2}));
  EXPECT_EQ(letters()[0].state, LetterState::redriven);
  const auto parked = *store_->count_parked(group_);
  ASSERT_EQ(parked.size(), 1u) << "of one partition, those that are parked alone";
  EXPECT_EQ(parked[0].second, 1u);
  states.letter_states = {{1, LetterState::parked}, {99, LetterState::purged}};
  save(states);
  EXPECT_EQ(*store_->count_dead_letters(group_), (DeadLetterCounts{2, 0, 2}));
}

TEST_P(GroupConformance, where_parked_letters_come_from_is_told_ascending_and_no_more_than_asked) {
  GroupSave all = with_letters(5);
  all.letters[0].position = Position(900);
  all.letters[1].origin.partition = 5;
  all.letter_states = {{4, LetterState::redriven}};
  save(all);
  const auto parked = [&](PartitionNumber partition, std::uint32_t limit) {
    return store_->parked_from(group_, place(partition), limit).value();
  };
  EXPECT_THAT(parked(6, 10), ElementsAre(Position(128), Position(256), Position(900)));
  EXPECT_THAT(parked(6, 2), ElementsAre(Position(128), Position(256)));
  EXPECT_THAT(parked(5, 10), ElementsAre(Position(64)));
  EXPECT_THAT(parked(7, 10), IsEmpty());
  EXPECT_EQ(store_->parked_from(99, place(6), 1).error().code(), ErrorCode::not_found);
}

TEST_P(GroupConformance, marks_come_back_as_they_were_saved_last_and_go_with_their_cursor) {
  GroupSave first = changes();
  first.cursors = {{place(0), Position(64), {}}, {place(1), Position(64), {}}};
  first.marks = {{place(0), {3, Position(64), {{Position(0), 1}, {Position(640), 7}}}},
                 {place(1), {1, Position(0), {}}}};
  save(first);
  crash();
  EXPECT_EQ(state().marks, first.marks);
  GroupSave second = changes();
  second.marks = {{place(0), {4, Position(32), {{Position(32), 9}}}}};
  save(second);
  crash();
  EXPECT_THAT(state().marks, ElementsAre(second.marks[0], first.marks[1]));
  GroupSave dropped = changes();
  dropped.dropped_cursors = {place(0)};
  save(dropped);
  EXPECT_THAT(state().marks, ElementsAre(first.marks[1]));
  EXPECT_EQ(store_->save_groups({second}).error().code(), ErrorCode::not_found) << "no cursor stands there";
  second.marks = {{place(1), {1, Position(0), {{Position(5), 2}, {Position(5), 3}}}}};
  EXPECT_EQ(store_->save_groups({second}).error().code(), ErrorCode::invalid);
  ASSERT_TRUE(store_->delete_topic(topic_));
  EXPECT_THAT(state().marks, IsEmpty());
}

TEST_P(GroupConformance, forgotten_letters_are_the_oldest_that_are_done_and_stay_counted_and_their_ids_used) {
  save(with_letters(6));
  GroupSave states = changes();
  states.letter_states = {
      {1, LetterState::redriven}, {3, LetterState::purged}, {4, LetterState::redriven}, {6, LetterState::redriven}};
  save(states);
  ASSERT_TRUE(store_->forget_dead_letters(group_, 4));
  ASSERT_TRUE(store_->forget_dead_letters(group_, UINT64_MAX));
  EXPECT_THAT(letter_ids(), SizeIs(6));
  ASSERT_TRUE(store_->forget_dead_letters(group_, 2));
  crash();
  EXPECT_THAT(letter_ids(), ElementsAre(2, 4, 5, 6));
  ASSERT_TRUE(store_->forget_dead_letters(group_, 0));
  EXPECT_THAT(letter_ids(), ElementsAre(2, 5)) << "what is parked stays";
  EXPECT_EQ(*store_->count_dead_letters(group_), (DeadLetterCounts{2, 3, 1}));
  states.letter_states = {{6, LetterState::parked}};
  save(states);
  EXPECT_EQ(*store_->count_dead_letters(group_), (DeadLetterCounts{2, 3, 1})) << "it is forgotten";
  save(with_letters(1));
  EXPECT_THAT(letter_ids(), ElementsAre(2, 5, 7));
}

TEST_P(GroupConformance, a_deleted_topic_takes_its_cursors_and_pending_messages_along_but_not_its_letters) {
  const TopicId other = create("other");
  GroupSave all = with_letters(1);
  all.cursors = {{place(0), Position(64), {}}, {{other, 0}, Position(64), {}}};
  all.pending = {pending_at(0, 64), pending_at(0, 64)};
  all.pending[1].place.topic = other;
  save(all);
  ASSERT_TRUE(store_->delete_topic(topic_));
  crash();
  EXPECT_THAT(state().cursors, ElementsAre(all.cursors[1]));
  EXPECT_THAT(state().pending, ElementsAre(all.pending[1]));
  ASSERT_THAT(letters(), SizeIs(1));
  EXPECT_EQ(letters()[0].origin, place(6));
  EXPECT_EQ(letters()[0].origin_topic, "orders");
}

TEST_P(GroupConformance, a_deleted_group_takes_everything_that_belongs_to_it_along) {
  const std::uint64_t other = create_group("h");
  GroupSave all = with_letters(2);
  all.cursors = {{place(0), Position(64), {}}};
  all.pending = {pending_at(0, 64)};
  save(all);
  all.group = other;
  save(all);
  ASSERT_TRUE(store_->delete_group(group_));
  crash();
  EXPECT_THAT(*store_->groups(), SizeIs(1));
  EXPECT_EQ(store_->group_state(other)->pending, all.pending);
  EXPECT_EQ(store_->count_dead_letters(other)->parked, 2u);
  group_ = create_group("g");
  EXPECT_THAT(state().cursors, IsEmpty());
  EXPECT_THAT(letter_ids(), IsEmpty());
  EXPECT_THAT(store_->groups()->back().subscriptions, IsEmpty());
}

TEST_P(GroupConformance, a_save_is_one_commit_however_much_is_in_it_and_a_refused_one_is_none) {
  const std::uint64_t other = create_group("h");
  const std::uint64_t before = store_->commits().value();
  GroupSave one = with_letters(3);
  one.cursors = {{place(0), Position(64), {}}};
  one.pending = {pending_at(0, 64), pending_at(0, 128)};
  GroupSave two = one;
  two.group = other;
  ASSERT_TRUE(store_->save_groups({one, two}));
  EXPECT_EQ(store_->commits().value(), before + 1);
  two.group = 77;
  ASSERT_FALSE(store_->save_groups({one, two}));
  EXPECT_EQ(store_->commits().value(), before + 1);
  ASSERT_TRUE(store_->forget_dead_letters(group_, 0));
  ASSERT_TRUE(store_->delete_group(other));
  EXPECT_EQ(store_->commits().value(), before + 3);
}

TEST_P(GroupConformance, a_closed_store_answers_with_an_error) {
  ASSERT_TRUE(store_->close());
  EXPECT_FALSE(store_->groups());
  EXPECT_FALSE(store_->group_state(group_));
  EXPECT_FALSE(store_->save_groups({changes()}));
  EXPECT_FALSE(store_->count_dead_letters(group_));
}

INSTANTIATE_TEST_SUITE_P(Stores, GroupConformance, implementations(), implementation_name);

}  // namespace
}  // namespace sluice::store
