#include "daemon/core/topic.h"

#include <gtest/gtest.h>

namespace sluice::core {
namespace {

TopicConfig good() {
  TopicConfig config;
  config.name = "orders.eu-1_a";
  config.partitions = 4;
  return config;
}

TopicConfig good_volatile() {
  TopicConfig config = good();
  config.durability = Durability::volatile_;
  return config;
}

template <typename Change>
Status with(TopicConfig config, Change change) {
  change(config);
  return check(config);
}

TEST(TopicComplete, what_was_left_out_is_taken_from_the_defaults_and_nothing_else_is) {
  const TopicDefaults defaults{Durability::sync, 1 << 20, 6, 7, 8, 9};
  TopicRequest request;
  request.config = good();
  request.config.segment_size = 0;
  request.config.slots = 0;
  TopicConfig config = complete(request, defaults);
  EXPECT_EQ(config.segment_size, 1u << 20);
  EXPECT_EQ(config.slots, 6u);
  EXPECT_EQ(config.durability, good().durability);
  EXPECT_EQ(config.retention_bytes, good().retention_bytes);
  EXPECT_EQ(config.retention_time_ns, good().retention_time_ns);
  EXPECT_EQ(config.claim_deadline_ns, good().claim_deadline_ns);
  request.default_durability = request.default_retention_bytes = true;
  request.default_retention_time = request.default_claim_deadline = true;
  config = complete(request, defaults);
  EXPECT_EQ(config.durability, Durability::sync);
  EXPECT_EQ(config.retention_bytes, 7u);
  EXPECT_EQ(config.retention_time_ns, 8u);
  EXPECT_EQ(config.claim_deadline_ns, 9u);
  EXPECT_EQ(config.partitions, good().partitions);
}

TEST(TopicCheck, defaults_with_a_name_are_valid) { EXPECT_TRUE(check(good())); }

TEST(TopicCheck, names_of_one_and_of_the_longest_size_are_valid_and_one_more_is_not) {
  EXPECT_TRUE(with(good(), [](auto& c) { c.name = "x"; }));
  EXPECT_TRUE(with(good(), [](auto& c) { c.name = std::string(kTopicNameSizeMax, 'x'); }));
  EXPECT_FALSE(with(good(), [](auto& c) { c.name = std::string(kTopicNameSizeMax + 1, 'x'); }));
}

TEST(TopicCheck, names_that_could_leave_the_data_directory_are_refused) {
  for (const char* name : {"", ".", "..", ".hidden", "a/b", "a b", "a\nb", "\xc3\xa4", "a@1"}) {
    const Status status = with(good(), [name](auto& c) { c.name = name; });
    ASSERT_FALSE(status) << name;
    EXPECT_EQ(status.error().code(), ErrorCode::invalid);
  }
  EXPECT_FALSE(with(good(), [](auto& c) { c.name = std::string("a\0b", 3); }));
}

TEST(TopicCheck, sizes_hold_at_their_limits_and_fail_beyond) {
  EXPECT_FALSE(with(good(), [](auto& c) { c.partitions = 0; }));
  EXPECT_TRUE(with(good(), [](auto& c) { c.partitions = kPartitionsPerTopicMax; }));
  EXPECT_FALSE(with(good(), [](auto& c) { c.partitions = kPartitionsPerTopicMax + 1; }));
  EXPECT_TRUE(with(good(), [](auto& c) { c.segment_size = kSegmentSizeMin; }));
  EXPECT_TRUE(with(good(), [](auto& c) { c.segment_size = kSegmentSizeMax; }));
  EXPECT_FALSE(with(good(), [](auto& c) { c.segment_size = kSegmentSizeMin / 2; }));
  EXPECT_FALSE(with(good(), [](auto& c) { c.segment_size = kSegmentSizeMax * 2; }));
  EXPECT_FALSE(with(good(), [](auto& c) { c.segment_size = kSegmentSizeMin + 4096; }));
  EXPECT_TRUE(with(good(), [](auto& c) { c.slots = kSlotsMin; }));
  EXPECT_FALSE(with(good(), [](auto& c) { c.slots = kSlotsMin - 1; }));
  EXPECT_TRUE(with(good(), [](auto& c) { c.slots = kSlotsMax; }));
  EXPECT_FALSE(with(good(), [](auto& c) { c.slots = kSlotsMax + 1; }));
}

TEST(TopicCheck, what_needs_a_volatile_topic_is_refused_on_a_durable_one) {
  const auto no_deadline = [](auto& c) { c.claim_deadline_ns = 0; };
  const auto no_checksum = [](auto& c) { c.checksum = false; };
  const auto drop = [](auto& c) { c.overflow = Overflow::drop_oldest; };
  EXPECT_TRUE(with(good_volatile(), no_deadline));
  EXPECT_TRUE(with(good_volatile(), no_checksum));
  EXPECT_TRUE(with(good_volatile(), drop));
  EXPECT_FALSE(with(good(), no_deadline));
  EXPECT_FALSE(with(good(), no_checksum));
  EXPECT_FALSE(with(good(), drop));
}

TEST(TopicCheck, durable_visibility_needs_a_durable_topic) {
  const auto durable = [](auto& c) { c.visibility = Visibility::durable; };
  EXPECT_TRUE(with(good(), durable));
  EXPECT_FALSE(with(good_volatile(), durable));
}

TEST(TopicCheck, a_time_to_live_holds_at_its_limits_fails_beyond_and_needs_messages_with_a_time) {
  const auto with_ttl = [](std::uint64_t ttl, TimeMode mode) {
    return with(good(), [&](TopicConfig& c) { c.message_ttl_ns = ttl, c.time_mode = mode; });
  };
  EXPECT_TRUE(with_ttl(kMessageTtlNsMin, TimeMode::coarse));
  EXPECT_FALSE(with_ttl(kMessageTtlNsMin - 1, TimeMode::coarse));
  EXPECT_TRUE(with_ttl(kMessageTtlNsMax, TimeMode::precise));
  EXPECT_FALSE(with_ttl(kMessageTtlNsMax + 1, TimeMode::precise));
  EXPECT_TRUE(with_ttl(0, TimeMode::none));
  const Status timeless = with_ttl(kMessageTtlNsMin, TimeMode::none);
  ASSERT_FALSE(timeless);
  EXPECT_NE(timeless.error().message().find("coarse or precise"), std::string::npos) << timeless.error().message();
  EXPECT_TRUE(with(good_volatile(), [](TopicConfig& c) { c.message_ttl_ns = kMessageTtlNsMin; }));
}

TEST(TopicCheck, permissions_name_a_user_or_a_group) {
  EXPECT_TRUE(with(good(), [](auto& c) { c.publishers = {"user:ann", "group:staff"}; }));
  for (const char* grant : {"ann", "user:", "group:", "role:x", ""})
    EXPECT_FALSE(with(good(), [grant](auto& c) { c.consumers = {grant}; })) << grant;
}

TEST(TopicCheck, mirrors_are_few_absolute_directories_apart_from_each_other_and_need_a_durable_topic) {
  const auto with_mirrors = [](std::vector<std::string> mirrors) {
    return with(good(), [&](TopicConfig& c) { c.mirrors = std::move(mirrors); });
  };
  EXPECT_TRUE(with_mirrors({"/mnt/b", "/mnt/b-too", "/mnt/c/sluice"}));
  EXPECT_FALSE(with_mirrors({"/a", "/b", "/c", "/d"}));
  for (const char* wrong : {"", "b", "./b", "/", "/mnt/b/", "/mnt/../b", "/mnt/./b", "/mnt//b", "/mnt/b\n"})
    EXPECT_EQ(with_mirrors({wrong}).error().code(), ErrorCode::invalid) << wrong;
  EXPECT_FALSE(with_mirrors({"/mnt/b", "/mnt/b"}));
  EXPECT_FALSE(with_mirrors({"/mnt/b", "/mnt/b/c"}));
  EXPECT_FALSE(with_mirrors({"/mnt/b/c", "/mnt/b"}));
  EXPECT_TRUE(with_mirrors({"/" + std::string(kTopicMirrorPathSizeMax - 1, 'x')}));
  EXPECT_FALSE(with_mirrors({"/" + std::string(kTopicMirrorPathSizeMax, 'x')}));
  EXPECT_FALSE(with(good_volatile(), [](TopicConfig& c) { c.mirrors = {"/mnt/b"}; }));
}

TEST(TopicApply, takes_over_what_is_given_and_leaves_the_rest) {
  TopicChange change;
  change.partitions = 8;
  change.retention_bytes = 1 << 20;
  change.retention_time_ns = 5;
  change.message_ttl_ns = kMessageTtlNsMin;
  const auto changed = apply(good(), change);
  ASSERT_TRUE(changed);
  EXPECT_EQ(changed->partitions, 8u);
  EXPECT_EQ(changed->retention_bytes, 1u << 20);
  EXPECT_EQ(changed->retention_time_ns, 5u);
  EXPECT_EQ(changed->message_ttl_ns, kMessageTtlNsMin);
  EXPECT_EQ(changed->name, good().name);
  EXPECT_EQ(changed->overflow, Overflow::block);
}

TEST(TopicApply, fewer_partitions_are_refused) {
  TopicChange change;
  change.partitions = 3;
  const auto changed = apply(good(), change);
  ASSERT_FALSE(changed);
  EXPECT_EQ(changed.error().code(), ErrorCode::invalid);
}

TEST(TopicApply, a_time_to_live_is_refused_where_messages_have_no_time_and_can_be_taken_away) {
  TopicChange change;
  change.message_ttl_ns = kMessageTtlNsMin;
  TopicConfig timeless = good();
  timeless.time_mode = TimeMode::none;
  EXPECT_FALSE(apply(timeless, change));
  const TopicConfig limited = apply(good(), change).value();
  change.message_ttl_ns = 0;
  EXPECT_EQ(apply(limited, change)->message_ttl_ns, 0u);
  EXPECT_EQ(apply(limited, {})->message_ttl_ns, kMessageTtlNsMin);
}

TEST(TopicApply, a_change_that_makes_an_invalid_topic_is_refused) {
  TopicChange change;
  change.overflow = Overflow::drop_oldest;
  EXPECT_FALSE(apply(good(), change));
  EXPECT_TRUE(apply(good_volatile(), change));
}

}  // namespace
}  // namespace sluice::core
