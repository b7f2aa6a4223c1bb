// One suite over every implementation of the Store interface.

#include "tests/daemon/store/conformance.h"

#include <functional>
#include <set>
#include <string>

#include <gtest/gtest.h>

#include "daemon/store/store.h"

namespace sluice::store {
namespace {

core::TopicConfig full_config() {
  core::TopicConfig config;
  config.name = "orders";
  config.partitions = 7;
  config.durability = core::Durability::volatile_;
  config.segment_size = kSegmentSizeMin;
  config.slots = 5;
  config.retention_bytes = 1'000'000'007;
  config.retention_time_ns = 86'400'000'000'000;
  config.message_ttl_ns = 3'600'000'000'007;
  config.overflow = core::Overflow::drop_oldest;
  config.claim_deadline_ns = 0;
  config.checksum = false;
  config.time_mode = core::TimeMode::precise;
  config.publishers = {"user:ann", "group:staff"};
  config.consumers = {"user:bob"};
  return config;
}

void expect_same(const core::TopicConfig& a, const core::TopicConfig& b) {
  EXPECT_EQ(a.name, b.name);
  EXPECT_EQ(a.partitions, b.partitions);
  EXPECT_EQ(a.durability, b.durability);
  EXPECT_EQ(a.visibility, b.visibility);
  EXPECT_EQ(a.segment_size, b.segment_size);
  EXPECT_EQ(a.slots, b.slots);
  EXPECT_EQ(a.retention_bytes, b.retention_bytes);
  EXPECT_EQ(a.retention_time_ns, b.retention_time_ns);
  EXPECT_EQ(a.message_ttl_ns, b.message_ttl_ns);
  EXPECT_EQ(a.overflow, b.overflow);
  EXPECT_EQ(a.claim_deadline_ns, b.claim_deadline_ns);
  EXPECT_EQ(a.checksum, b.checksum);
  EXPECT_EQ(a.time_mode, b.time_mode);
  EXPECT_EQ(a.publishers, b.publishers);
  EXPECT_EQ(a.consumers, b.consumers);
  EXPECT_EQ(a.mirrors, b.mirrors);
}

TEST_P(StoreConformance, a_topic_comes_back_with_every_setting_after_a_restart_and_a_crash) {
  const auto id = store_->create_topic(full_config(), 1'700'000'000'000'000'001);
  ASSERT_TRUE(id) << id.error().message();
  for (const auto& restart : {std::function<void()>([] {}), std::function<void()>([this] { reopen(); }),
                              std::function<void()>([this] { crash(); })}) {
    restart();
    const auto topics = store_->topics();
    ASSERT_TRUE(topics) << topics.error().message();
    ASSERT_EQ(topics->size(), 1u);
    EXPECT_EQ(topics->front().id, *id);
    EXPECT_EQ(topics->front().created_ns, 1'700'000'000'000'000'001u);
    expect_same(topics->front().config, full_config());
  }
}

TEST_P(StoreConformance, a_second_topic_of_a_name_is_refused_and_changes_nothing) {
  const TopicId first = create("a");
  core::TopicConfig config;
  config.name = "a";
  const auto second = store_->create_topic(config, 2);
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code(), ErrorCode::exists);
  EXPECT_EQ(store_->topics()->size(), 1u);
  EXPECT_EQ(create("b").value, first.value + 1) << "a refused creation must not use up an id";
}

TEST_P(StoreConformance, an_invalid_topic_is_refused) {
  core::TopicConfig config;
  config.name = "../etc";
  EXPECT_EQ(store_->create_topic(config, 1).error().code(), ErrorCode::invalid);
  EXPECT_TRUE(store_->topics()->empty());
}

TEST_P(StoreConformance, an_altered_topic_stays_altered) {
  const TopicId id = create("a");
  core::TopicConfig config = store_->topics()->front().config;
  config.partitions = 9;
  config.consumers = {"group:x"};
  ASSERT_TRUE(store_->alter_topic(id, config));
  crash();
  expect_same(store_->topics()->front().config, config);
}

TEST_P(StoreConformance, a_topics_mirrors_stay_over_changes_and_go_with_it) {
  core::TopicConfig config;
  config.name = "mirrored";
  config.mirrors = {"/mnt/c/sluice", "/mnt/b/sluice"};
  const TopicId id = store_->create_topic(config, 1).value();
  config.partitions = 3;
  ASSERT_TRUE(store_->alter_topic(id, config));
  crash();
  expect_same(store_->topics()->front().config, config);
  ASSERT_TRUE(store_->delete_topic(id));
  config.mirrors = {"/mnt/b/sluice"};
  ASSERT_TRUE(store_->create_topic(config, 2));
  expect_same(store_->topics()->front().config, config);
}

TEST_P(StoreConformance, altering_or_deleting_what_is_not_there_is_not_found) {
  core::TopicConfig config;
  config.name = "a";
  EXPECT_EQ(store_->alter_topic(TopicId(5), config).error().code(), ErrorCode::not_found);
  EXPECT_EQ(store_->delete_topic(TopicId(5)).error().code(), ErrorCode::not_found);
  EXPECT_EQ(store_->add_named_producer(TopicId(5), {"n", ProducerId(1)}).error().code(), ErrorCode::not_found);
  EXPECT_EQ(store_->add_fence(TopicId(5), {}).error().code(), ErrorCode::not_found);
  EXPECT_EQ(store_->set_position_lease(TopicId(5), 0, Position(1)).error().code(), ErrorCode::not_found);
  EXPECT_EQ(store_->save_audit_snapshot(TopicId(5), 0, {}).error().code(), ErrorCode::not_found);
}

TEST_P(StoreConformance, ids_are_never_given_twice_whatever_is_deleted_or_crashes) {
  std::set<std::uint32_t> topics;
  std::set<std::uint32_t> producers;
  std::set<std::uint64_t> incarnations;
  for (int round = 0; round < 6; ++round) {
    const TopicId id = create("t");
    EXPECT_NE(id.value, 0u);
    EXPECT_TRUE(topics.insert(id.value).second);
    ASSERT_TRUE(store_->delete_topic(id));
    const auto first = store_->lease_producer_ids(10);
    ASSERT_TRUE(first);
    EXPECT_NE(first->value, 0u) << "0 is the daemon";
    for (std::uint32_t i = 0; i < 10; ++i) EXPECT_TRUE(producers.insert(first->value + i).second);
    const auto incarnation = store_->next_incarnation();
    ASSERT_TRUE(incarnation);
    EXPECT_TRUE(incarnations.insert(incarnation->value).second);
    EXPECT_EQ(*incarnations.rbegin(), incarnation->value) << "an incarnation only goes up";
    round % 2 == 0 ? reopen() : crash();
  }
}

TEST_P(StoreConformance, producer_ids_end_with_quota_and_not_with_a_repeat) {
  ASSERT_TRUE(store_->lease_producer_ids(UINT32_MAX - 5));
  EXPECT_EQ(store_->lease_producer_ids(6).error().code(), ErrorCode::quota);
  EXPECT_EQ(store_->lease_producer_ids(5)->value, UINT32_MAX - 4);
  EXPECT_EQ(store_->lease_producer_ids(1).error().code(), ErrorCode::quota);
}

TEST_P(StoreConformance, attaches_of_a_producer_name_are_kept_until_the_former_ones_are_forgotten) {
  const TopicId a = create("a");
  const TopicId b = create("b");
  ASSERT_TRUE(store_->add_named_producer(a, {"feed", ProducerId(1)}));
  ASSERT_TRUE(store_->add_named_producer(a, {"feed", ProducerId(2)}));
  ASSERT_TRUE(store_->add_named_producer(a, {"audit", ProducerId(3)}));
  ASSERT_TRUE(store_->add_named_producer(b, {"feed", ProducerId(4)}));
  crash();
  ASSERT_EQ(store_->named_producers(a)->size(), 3u);
  ASSERT_TRUE(store_->forget_former_producers(a));
  crash();
  const auto named = store_->named_producers(a);
  ASSERT_TRUE(named);
  ASSERT_EQ(named->size(), 2u);
  EXPECT_EQ((*named)[0].name, "feed");
  EXPECT_EQ((*named)[0].id, ProducerId(2));
  EXPECT_EQ((*named)[1].name, "audit");
  EXPECT_EQ(store_->named_producers(b)->front().id, ProducerId(4));
}

TEST_P(StoreConformance, fences_stay_until_the_log_is_trimmed_past_them) {
  const TopicId id = create("a");
  ASSERT_TRUE(store_->add_fence(id, {0, ProducerId(1), Position(100)}));
  ASSERT_TRUE(store_->add_fence(id, {0, ProducerId(2), Position(200)}));
  ASSERT_TRUE(store_->add_fence(id, {1, ProducerId(1), Position(100)}));
  ASSERT_TRUE(store_->drop_fences_below(id, 0, Position(100)));
  EXPECT_EQ(store_->fences(id)->size(), 3u);
  ASSERT_TRUE(store_->drop_fences_below(id, 0, Position(101)));
  crash();
  const auto fences = store_->fences(id);
  ASSERT_EQ(fences->size(), 2u);
  EXPECT_EQ((*fences)[0].old_id, ProducerId(2));
  EXPECT_EQ((*fences)[0].position, Position(200));
  EXPECT_EQ((*fences)[1].partition, 1u);
}

TEST_P(StoreConformance, a_position_lease_never_goes_down) {
  const TopicId id = create("a");
  EXPECT_EQ(*store_->position_lease(id, 3), Position(0));
  ASSERT_TRUE(store_->set_position_lease(id, 3, Position(1 << 20)));
  ASSERT_TRUE(store_->set_position_lease(id, 3, Position(5)));
  crash();
  EXPECT_EQ(*store_->position_lease(id, 3), Position(1 << 20));
  EXPECT_EQ(*store_->position_lease(id, 2), Position(0));
}

AuditSnapshot snapshot_of(std::uint64_t upto) {
  core::PartitionAudit audit;
  audit.on_attach(ProducerId(3), "feed", Sequence(10));
  for (std::uint64_t i = 10; i < 20; ++i) audit.on_data(ProducerId(3), Sequence(i));
  audit.on_abort(ProducerId(3));
  audit.on_fenced(ProducerId(3), audit.next_sequence(ProducerId(3)));
  audit.on_quarantined(ProducerId(3), audit.next_sequence(ProducerId(3)));
  audit.on_dropped(ProducerId(3), 2);
  audit.on_expired(ProducerId(3), 1);
  audit.on_reported(ProducerId(3), Sequence(30));
  audit.on_data(ProducerId(3), Sequence(40));
  audit.on_data(ProducerId(3), Sequence(40));
  audit.on_data(ProducerId(4), Sequence(UINT64_MAX));
  AuditSnapshot snapshot;
  snapshot.upto = Position(upto);
  snapshot.rows = audit.rows();
  snapshot.bookmarks = {{"feed", Sequence(40), std::string("file\0offset", 11)}};
  return snapshot;
}

TEST_P(StoreConformance, an_audit_snapshot_comes_back_whole_and_replaces_the_one_before) {
  const TopicId id = create("a");
  ASSERT_TRUE(store_->save_audit_snapshot(
      id, 1, {Position(5), {{ProducerId(99), "old", {}}}, {{"old", Sequence(1), ""}}, {}, {}}));
  ASSERT_TRUE(store_->save_audit_snapshot(id, 1, snapshot_of(4096)));
  crash();
  const auto back = store_->audit_snapshot(id, 1);
  ASSERT_TRUE(back) << back.error().message();
  const AuditSnapshot expected = snapshot_of(4096);
  EXPECT_EQ(back->upto, expected.upto);
  EXPECT_EQ(back->rows, expected.rows);
  ASSERT_EQ(back->bookmarks.size(), 1u);
  EXPECT_EQ(back->bookmarks[0].producer_name, "feed");
  EXPECT_EQ(back->bookmarks[0].sequence, Sequence(40));
  EXPECT_EQ(back->bookmarks[0].bookmark, expected.bookmarks[0].bookmark);
  const auto none = store_->audit_snapshot(id, 0);
  ASSERT_TRUE(none);
  EXPECT_EQ(none->upto, Position(0));
  EXPECT_TRUE(none->rows.empty());
}

TEST_P(StoreConformance, single_audit_rows_are_replaced_or_added_where_a_snapshot_stands) {
  const TopicId id = create("a");
  ASSERT_TRUE(store_->save_audit_snapshot(id, 1, snapshot_of(4096)));
  core::PartitionAudit changed;
  for (const core::AuditRow& row : snapshot_of(4096).rows) changed.restore(row);
  const core::AuditRow replaced = changed.on_reported(ProducerId(3), Sequence(50)).value();
  const core::AuditRow added = changed.on_reported(ProducerId(1), Sequence(4)).value();
  ASSERT_TRUE(store_->save_audit_rows(id, {{1, replaced}, {1, added}, {2, added}}));
  crash();
  const auto back = store_->audit_snapshot(id, 1);
  ASSERT_TRUE(back) << back.error().message();
  EXPECT_EQ(back->upto, Position(4096));
  EXPECT_EQ(back->rows, changed.rows());
  EXPECT_EQ(back->bookmarks.size(), 1u);
  EXPECT_TRUE(store_->audit_snapshot(id, 2)->rows.empty());
  EXPECT_EQ(store_->save_audit_rows(TopicId(5), {}).error().code(), ErrorCode::not_found);
}

// What a snapshot says of delays, in their order, without what has ended.
std::vector<core::Delay> waiting_in(const AuditSnapshot& snapshot) {
  core::DelayQueue queue;
  queue.restore(snapshot.delays);
  queue.settle();
  std::vector<core::Delay> waiting;
  Position ref(std::uint64_t{1} << 40);
  for (auto next = queue.due(~std::uint64_t{0}); next; next = queue.due(~std::uint64_t{0})) {
    waiting.push_back(*next);
    queue.sent(ref = ref + 64);
  }
  return waiting;
}

TEST_P(StoreConformance, saved_delays_add_up_until_their_times_are_over) {
  using core::Delay;
  const TopicId id = create("a");
  AuditSnapshot snapshot;
  const auto save = [&](std::uint64_t upto, std::vector<Delay> delays, Delay done, std::vector<Delay> late) {
    snapshot.upto = snapshot.delays.upto = Position(upto);
    snapshot.delays.delays = std::move(delays);
    snapshot.delays.done = done;
    snapshot.delays.late = std::move(late);
    ASSERT_TRUE(store_->save_audit_snapshot(id, 1, snapshot));
  };
  const Delay first{100, Position(64)};
  const Delay second{200, Position(128)};
  const Delay third{core::kDueNsMax, Position(192)};
  save(192, {first, second}, {}, {});
  save(256, {third}, {}, {});
  crash();
  EXPECT_EQ(waiting_in(*store_->audit_snapshot(id, 1)), (std::vector<Delay>{first, second, third}));
  EXPECT_EQ(store_->audit_snapshot(id, 1)->delays.upto, Position(256));
  EXPECT_TRUE(waiting_in(*store_->audit_snapshot(id, 0)).empty()) << "another partition";
  save(320, {}, second, {first});
  crash();
  EXPECT_EQ(waiting_in(*store_->audit_snapshot(id, 1)), (std::vector<Delay>{first, third})) << "one is late";
  save(320, {}, second, {});
  save(384, {}, third, {});
  crash();
  EXPECT_TRUE(waiting_in(*store_->audit_snapshot(id, 1)).empty());
  save(448, {{core::kDueNsMax, Position(448)}}, third, {});
  ASSERT_TRUE(store_->delete_topic(id));
  EXPECT_TRUE(waiting_in(*store_->audit_snapshot(id, 1)).empty());
}

TEST_P(StoreConformance, a_hundred_thousand_delays_come_back) {
  const TopicId id = create("a");
  AuditSnapshot snapshot;
  for (std::uint64_t i = 1; i <= 100'000; ++i) snapshot.delays.delays.push_back({i / 3, Position(i * 64)});
  snapshot.upto = snapshot.delays.upto = Position(1 << 30);
  ASSERT_TRUE(store_->save_audit_snapshot(id, 0, snapshot));
  crash();
  EXPECT_EQ(waiting_in(*store_->audit_snapshot(id, 0)), snapshot.delays.delays);
}

TEST_P(StoreConformance, a_deleted_topic_takes_everything_that_belongs_to_it_along) {
  const TopicId id = create("a");
  ASSERT_TRUE(store_->add_named_producer(id, {"feed", ProducerId(1)}));
  ASSERT_TRUE(store_->add_fence(id, {0, ProducerId(1), Position(100)}));
  ASSERT_TRUE(store_->set_position_lease(id, 0, Position(5)));
  ASSERT_TRUE(store_->save_audit_snapshot(id, 0, snapshot_of(1)));
  ASSERT_TRUE(store_->delete_topic(id));
  EXPECT_TRUE(store_->topics()->empty());
  EXPECT_TRUE(store_->named_producers(id)->empty());
  EXPECT_TRUE(store_->fences(id)->empty());
  EXPECT_EQ(*store_->position_lease(id, 0), Position(0));
  EXPECT_TRUE(store_->audit_snapshot(id, 0)->rows.empty());
  create("a");
}

TEST_P(StoreConformance, one_store_is_open_at_a_time) {
  const auto second = backend_->open();
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code(), ErrorCode::in_use);
}

TEST_P(StoreConformance, a_closed_store_answers_with_an_error) {
  ASSERT_TRUE(store_->close());
  EXPECT_FALSE(store_->topics());
  EXPECT_FALSE(store_->next_incarnation());
}

INSTANTIATE_TEST_SUITE_P(Stores, StoreConformance, implementations(), implementation_name);

}  // namespace
}  // namespace sluice::store
