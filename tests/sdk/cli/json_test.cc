#include "sdk/cli/json.h"

#include <gtest/gtest.h>

namespace sluice::cli {
namespace {

AuditRow row(std::uint64_t first, std::uint64_t last, std::uint64_t data) {
  AuditRow out;
  out.sequence_first = Sequence(first);
  out.sequence_last = Sequence(last);
  out.data = data;
  return out;
}

TEST(RowHolds, only_where_the_sum_is_exact_and_nothing_is_missing) {
  EXPECT_TRUE(row_holds(AuditRow{}));
  EXPECT_TRUE(row_holds(row(1, 5, 5)));
  EXPECT_TRUE(row_holds(row(101, 105, 5)));
  EXPECT_FALSE(row_holds(row(1, 5, 4)));
  AuditRow aborted = row(1, 5, 4);
  aborted.aborted = 1;
  EXPECT_TRUE(row_holds(aborted));
  AuditRow cut = row(1, 5, 4);
  cut.cut = 1;
  EXPECT_FALSE(row_holds(cut)) << "accounted for, but lost";
  AuditRow gap = row(1, 5, 4);
  gap.gaps = 1;
  EXPECT_FALSE(row_holds(gap));
  AuditRow repeat = row(1, 5, 6);
  repeat.repeats = 1;
  EXPECT_FALSE(row_holds(repeat));
}

TEST(Json, an_audit_has_a_row_per_producer_and_the_verdict) {
  AuditReport report;
  report.rows = {row(1, 5, 5)};
  report.rows[0].partition = 2;
  report.rows[0].producer = ProducerId(9);
  report.rows[0].name = "feed";
  report.holds = true;
  const Json j = to_json("orders", report);
  EXPECT_EQ(j["topic"], "orders");
  EXPECT_EQ(j["holds"], true);
  for (const char* key :
       {"producer", "name", "sequence_first", "sequence_last", "data", "committed_halves", "rolled_back", "open",
        "delayed", "aborted", "fenced", "dropped", "expired", "cut", "quarantined", "gaps", "repeats"})
    EXPECT_TRUE(j["rows"][0].contains(key)) << key;
  EXPECT_EQ(j["rows"][0]["producer"], 9);
}

TEST(Json, a_topic_names_its_settings_as_the_command_line_does) {
  TopicInfo topic;
  topic.config.name = "orders";
  topic.config.durability = Durability::volatile_;
  topic.config.overflow = Overflow::drop_oldest;
  topic.config.claim_deadline = Duration(0);
  topic.partitions.resize(2);
  topic.partitions[1].state = PartitionState::poisoned;
  topic.partitions[1].committed = Position(UINT64_MAX);
  const Json j = to_json(topic);
  EXPECT_EQ(j["durability"], "volatile");
  EXPECT_EQ(j["overflow"], "drop-oldest");
  EXPECT_TRUE(j["claim_deadline_ns"].is_null());
  EXPECT_EQ(j["partitions"].size(), 2u);
  EXPECT_EQ(j["partitions"][1]["state"], "poisoned");
  EXPECT_EQ(j["partitions"][1]["committed"].get<std::uint64_t>(), UINT64_MAX);
}

TEST(Json, a_scrub_names_every_range_that_is_intact_nowhere) {
  ScrubReport report;
  report.copies = 2;
  report.segments = 7;
  report.mended_segments = 1;
  report.damaged_bytes = 64;
  report.damaged.push_back({3, Position(128), Position(192), "a reason"});
  const Json j = to_json("orders", report);
  EXPECT_EQ(j["topic"], "orders");
  EXPECT_EQ(j["copies"], 2);
  EXPECT_EQ(j["segments"], 7);
  EXPECT_EQ(j["mended_segments"], 1);
  ASSERT_EQ(j["damaged"].size(), 1u);
  EXPECT_EQ(j["damaged"][0]["partition"], 3);
  EXPECT_EQ(j["damaged"][0]["begin"], 128);
  EXPECT_EQ(j["damaged"][0]["bytes"], 64);
  EXPECT_TRUE(j["errors"].empty());
}

TEST(Json, doctor_is_ok_only_if_every_check_is) {
  EXPECT_EQ(to_json(std::vector<DoctorCheck>{{"a", true, "", ""}})["ok"], true);
  EXPECT_EQ(to_json(std::vector<DoctorCheck>{{"a", true, "", ""}, {"b", false, "", ""}})["ok"], false);
}

TEST(Json, bytes_that_are_not_utf8_do_not_break_a_document) {
  const std::string text = text_of(to_json(std::vector<SessionInfo>{{1, 2, 3, "\xff", 0, 0, 0, true}}));
  EXPECT_EQ(text.back(), '\n');
  EXPECT_TRUE(Json::accept(text));
}

}  // namespace
}  // namespace sluice::cli
