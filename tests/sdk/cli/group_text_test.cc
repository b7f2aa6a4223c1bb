#include "sdk/cli/group_text.h"

#include <chrono>

#include <gtest/gtest.h>

#include "sdk/cli/group_totals.h"

namespace sluice::cli {
namespace {

using namespace std::chrono_literals;

GroupPartitionInfo partition(const std::string& topic, PartitionNumber number, std::uint64_t lag) {
  GroupPartitionInfo out;
  out.topic = topic;
  out.partition = number;
  out.member = 41;
  out.cursor = Position(64);
  out.end = Position(640);
  out.lag_messages = lag;
  out.lag_bytes = 2048 * lag;
  out.oldest_age = std::chrono::seconds(lag);
  out.ready = lag;
  out.in_flight = 1;
  out.retrying = 2;
  out.parked = 3;
  out.produced_per_s = 2.5;
  out.consumed_per_s = 1000;
  out.catch_up = std::chrono::seconds(lag);
  return out;
}

GroupInfo billing() {
  GroupInfo group;
  group.config.name = "billing";
  group.config.ack_timeout = 30s;
  group.config.member_timeout = 10s;
  group.config.max_attempts = 16;
  group.config.backoff = Backoff{};
  group.subscriptions = {"orders", "bills.*"};
  group.members.resize(1);
  group.members[0].member = 41;
  group.members[0].pid = 77;
  group.members[0].client_name = "work\x1b[31mer";
  group.partitions = {partition("orders", 0, 5), partition("orders", 1, 7)};
  return group;
}

TEST(GroupTotals, are_sums_but_for_the_oldest_message_and_the_last_to_catch_up) {
  GroupInfo group = billing();
  GroupTotals totals = totals_of(group);
  EXPECT_EQ(totals.lag_messages, 12u);
  EXPECT_EQ(totals.lag_bytes, 24'576u);
  EXPECT_EQ(totals.oldest_age, 7s);
  EXPECT_EQ(totals.ready, 12u);
  EXPECT_EQ(totals.in_flight, 2u);
  EXPECT_EQ(totals.retrying, 4u);
  EXPECT_EQ(totals.parked, 6u);
  EXPECT_EQ(totals.produced_per_s, 5);
  EXPECT_EQ(totals.consumed_per_s, 2000);
  EXPECT_EQ(totals.catch_up, 7s);
  group.partitions[0].catch_up.reset();
  EXPECT_EQ(totals_of(group).catch_up, std::nullopt);
  EXPECT_EQ(totals_of(GroupInfo{}).catch_up, Duration(0));
}

TEST(LagLimits, are_exceeded_above_and_not_at_them) {
  GroupTotals totals;
  totals.lag_messages = 10;
  totals.oldest_age = 10s;
  EXPECT_TRUE(is_within(totals, {}));
  EXPECT_TRUE(is_within(totals, {10, 10s}));
  EXPECT_FALSE(is_within(totals, {9, {}}));
  EXPECT_FALSE(is_within(totals, {{}, 9s}));
  EXPECT_FALSE(is_within(totals, {0, {}})) << "0 is a limit too";
}

TEST(GroupText, a_list_has_a_line_a_group_and_says_what_state_it_is_in) {
  GroupInfo paused = billing();
  paused.config.name = "audit";
  paused.config.mode = GroupMode::shared;
  paused.paused = true;
  GroupInfo hung = billing();
  hung.members[0].hung = true;
  GroupInfo alone = billing();
  alone.members.clear();
  EXPECT_EQ(group_list_text({billing(), paused, hung, alone}),
            "GROUP    MODE     MEMBERS  PARTITIONS  LAG     BYTES  OLDEST  IN FLIGHT  RETRYING  PARKED  STATE\n"
            "billing  ordered        1           2   12  24.0 KiB   7.0 s          2         4       6  active\n"
            "audit    shared         1           2   12  24.0 KiB   7.0 s          2         4       6  paused\n"
            "billing  ordered        1           2   12  24.0 KiB   7.0 s          2         4       6  1 hung\n"
            "billing  ordered        0           2   12  24.0 KiB   7.0 s          2         4       6  no members\n");
}

TEST(GroupText, a_description_has_settings_members_and_partitions) {
  const std::string text = group_text(billing());
  for (const char* part :
       {"ordered", "orders, bills.*", "ack 30.0 s, member 10.0 s", "exp:100ms..30s, parked after 16 failures",
        "12 messages, 24.0 KiB, the oldest 7.0 s old", "5.0/s produced, 2,000/s consumed, caught up in 7.0 s",
        "sluice dlq show billing", "CURSOR", "RETRYING", "2.5/s"})
    EXPECT_NE(text.find(part), std::string::npos) << part << "\n" << text;
  EXPECT_EQ(text.find('\x1b'), std::string::npos) << "a client's name reached the terminal";
  GroupInfo never = billing();
  never.partitions[1].catch_up.reset();
  EXPECT_NE(group_text(never).find("catching up never"), std::string::npos);
  EXPECT_EQ(group_text(GroupInfo{}).find("MEMBER"), std::string::npos);
}

TEST(Moves, tell_how_far_and_how_to_undo_what_moves) {
  const std::vector<SeekMove> moves = {{"orders", 0, Position(4096), Position(64)},
                                       {"orders", 1, Position(64), Position(1088)},
                                       {"bills", 0, Position(64), Position(64)}};
  EXPECT_EQ(moves_text(moves),
            "TOPIC   PARTITION  FROM        TO         OF LOG\n"
            "orders          0  4096  ->    64   3.9 KiB back\n"
            "orders          1    64  ->  1088  1.0 KiB ahead\n"
            "bills           0    64  ->    64          stays\n");
  EXPECT_EQ(undo_commands("billing", moves),
            (std::vector<std::string>{"sluice group seek billing --topic orders --to 0@4096 --execute",
                                      "sluice group seek billing --topic orders --to 1@64 --execute"}));
}

TEST(DeadLetters, have_their_origin_their_counts_and_a_payload_that_a_terminal_can_take) {
  DeadLetter letter;
  letter.id = 7;
  letter.topic = "orders";
  letter.partition = 3;
  letter.position = Position(4096);
  letter.reason = "no\x1b";
  letter.delivered = 17;
  letter.failed = 16;
  letter.parked_ns = 1'000'000'000;
  letter.state = "parked";
  EXPECT_EQ(letters_text({{letter, payload_preview("hello")}}),
            "ID  ORIGIN         STATE   DELIVERED  FAILED  PARKED                          REASON  PAYLOAD\n"
            " 7  orders/3@4096  parked         17      16  1970-01-01T00:00:01.000000000Z  no\\x1b  hello\n");
  EXPECT_EQ(payload_preview("\xff\xfe"), "2 bytes, no text");
  EXPECT_EQ(payload_preview(std::string(60, 'x')), std::string(60, 'x'));
  EXPECT_EQ(payload_preview(std::string(61, 'x')), std::string(60, 'x') + "... (61 bytes)");
  EXPECT_EQ(payload_preview(std::string(59, 'x') + "\u00e4\u00e4"), std::string(59, 'x') + "... (63 bytes)")
      << "cut inside a character";
}

TEST(Outcomes, are_told_one_a_line_and_known_to_be_good_or_not) {
  DeadLetter letter;
  letter.id = 7;
  letter.topic = "orders";
  letter.position = Position(64);
  const std::vector<RedriveOutcome> outcomes = {{letter, "redriven"}, {letter, "would_redrive"}, {letter, "failed: x"}};
  EXPECT_EQ(outcomes_text(outcomes),
            "ID  ORIGIN       OUTCOME\n"
            " 7  orders/0@64  redriven\n"
            " 7  orders/0@64  would_redrive\n"
            " 7  orders/0@64  failed: x\n");
  EXPECT_TRUE(went_well(outcomes[0]));
  EXPECT_TRUE(went_well(outcomes[1]));
  EXPECT_FALSE(went_well(outcomes[2]));
}

}  // namespace
}  // namespace sluice::cli
