#include <chrono>

#include <gtest/gtest.h>

#include "sdk/cli/json.h"

namespace sluice::cli {
namespace {

using namespace std::chrono_literals;

TEST(GroupJson, a_group_has_the_keys_of_the_contract) {
  GroupInfo group;
  group.config.name = "billing";
  group.config.mode = GroupMode::shared;
  group.config.ack_timeout = 30s;
  group.config.member_timeout = Duration(1'500'000);
  group.config.max_attempts = 3;
  group.config.backoff = Backoff{{1s, 5s}, {}, {}};
  group.config.strict = Strict::none;
  group.config.hold = true;
  group.paused = true;
  group.epoch = 2;
  group.subscriptions = {"orders"};
  group.members.resize(1);
  group.members[0].member = 41;
  group.members[0].idle = 20ms;
  group.partitions.resize(2);
  group.partitions[0].topic = "orders";
  group.partitions[0].partition = 3;
  group.partitions[0].member = 41;
  group.partitions[0].cursor = Position(UINT64_MAX);
  group.partitions[0].lag_messages = 7;
  group.partitions[0].oldest_age = 1500ms;
  group.partitions[0].consumed_per_s = 2.5;
  group.partitions[0].catch_up = 3s;
  const Json j = to_json(group);
  EXPECT_EQ(j["name"], "billing");
  EXPECT_EQ(j["paused"], true);
  EXPECT_EQ(j["epoch"], 2);
  EXPECT_EQ(j["subscriptions"], Json::array({"orders"}));
  EXPECT_EQ(j["config"]["mode"], "shared");
  EXPECT_EQ(j["config"]["ack_timeout_ms"], 30000);
  EXPECT_EQ(j["config"]["member_timeout_ms"], 1.5);
  EXPECT_EQ(j["config"]["max_attempts"], 3);
  EXPECT_EQ(j["config"]["backoff"]["steps_ms"], Json::array({1000, 5000}));
  EXPECT_EQ(j["config"]["strict"], "none");
  EXPECT_EQ(j["config"]["hold"], true);
  EXPECT_EQ(j["members"][0]["member"], 41);
  EXPECT_EQ(j["members"][0]["idle_ms"], 20);
  EXPECT_EQ(j["members"][0]["hung"], false);
  const Json& partition = j["partitions"][0];
  for (const char* key :
       {"topic", "partition", "member", "cursor", "end", "lag_messages", "lag_bytes", "oldest_age_ms", "ready",
        "in_flight", "retrying", "parked", "produced_per_s", "consumed_per_s", "catch_up_ms"})
    EXPECT_TRUE(partition.contains(key)) << key;
  EXPECT_EQ(partition["member"], 41);
  EXPECT_EQ(partition["cursor"], UINT64_MAX) << "a position must not be rounded";
  EXPECT_EQ(partition["oldest_age_ms"], 1500);
  EXPECT_EQ(partition["consumed_per_s"], 2.5);
  EXPECT_EQ(partition["catch_up_ms"], 3000);
  EXPECT_EQ(j["partitions"][1]["member"], nullptr) << "nobody's";
  EXPECT_EQ(j["partitions"][1]["catch_up_ms"], nullptr) << "never";
  EXPECT_EQ(j["lag_messages"], 7);
  EXPECT_EQ(j["catch_up_ms"], nullptr);
  EXPECT_EQ(to_json(std::vector<GroupInfo>{group})["groups"].size(), 1u);
  EXPECT_EQ(to_json(std::vector<GroupInfo>{})["groups"], Json::array());
}

TEST(GroupJson, an_exponential_backoff_has_its_ends) {
  GroupInfo group;
  group.config.backoff = Backoff{{}, 100ms, 30s};
  const Json j = to_json(group);
  EXPECT_EQ(j["config"]["backoff"]["first_ms"], 100);
  EXPECT_EQ(j["config"]["backoff"]["max_ms"], 30000);
}

TEST(GroupJson, a_dead_letter_names_its_origin_and_a_redrive_its_outcome) {
  DeadLetter letter;
  letter.id = 7;
  letter.topic = "orders";
  letter.partition = 3;
  letter.position = Position(4096);
  letter.parked_at = Position(128);
  letter.reason = "none";
  letter.delivered = 17;
  letter.failed = 16;
  letter.parked_ns = 1'000'000'000;
  letter.state = "parked";
  const Json j = to_json("billing", {{letter, "would_redrive"}}, true);
  EXPECT_EQ(j["group"], "billing");
  EXPECT_EQ(j["dry_run"], true);
  const Json& row = j["outcomes"][0];
  EXPECT_EQ(row["id"], 7);
  EXPECT_EQ(row["origin"], "orders/3@4096");
  EXPECT_EQ(row["topic"], "orders");
  EXPECT_EQ(row["partition"], 3);
  EXPECT_EQ(row["position"], 4096);
  EXPECT_EQ(row["parked_at"], 128);
  EXPECT_EQ(row["reason"], "none");
  EXPECT_EQ(row["delivered"], 17);
  EXPECT_EQ(row["failed"], 16);
  EXPECT_EQ(row["parked"], "1970-01-01T00:00:01.000000000Z");
  EXPECT_EQ(row["state"], "parked");
  EXPECT_EQ(row["outcome"], "would_redrive");
  const Json counts = to_json(std::vector<DeadLetterCount>{{"billing", 1, 2, 3}});
  EXPECT_EQ(counts["groups"][0]["group"], "billing");
  EXPECT_EQ(counts["groups"][0]["parked"], 1);
  EXPECT_EQ(counts["groups"][0]["redriven"], 2);
  EXPECT_EQ(counts["groups"][0]["purged"], 3);
}

}  // namespace
}  // namespace sluice::cli
