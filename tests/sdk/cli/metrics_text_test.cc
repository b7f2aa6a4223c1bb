#include "sdk/cli/metrics_text.h"

#include <cctype>
#include <map>
#include <optional>
#include <set>
#include <sstream>
#include <string>
#include <string_view>

#include <gtest/gtest.h>

namespace sluice::cli {
namespace {

// What a scraper makes of the text: each series and its value. As strict as Prometheus: a metric's HELP and TYPE stand
// once, before its samples, which stand together.
class Scrape {
 public:
  explicit Scrape(const std::string& text) {
    EXPECT_TRUE(text.ends_with('\n'));
    std::istringstream lines(text);
    for (std::string line; std::getline(lines, line);) take(line);
  }
  std::optional<std::string> value(const std::string& series) const {
    const auto found = values_.find(series);
    return found == values_.end() ? std::nullopt : std::optional(found->second);
  }
  const std::map<std::string, std::string>& types() const { return types_; }

 private:
  void take(const std::string& line) {
    SCOPED_TRACE(line);
    if (line.starts_with("# HELP ")) {
      metric_ = word(line, 7);
      EXPECT_TRUE(metrics_.insert(metric_).second) << "its samples do not stand together";
      EXPECT_GT(line.size(), 8 + metric_.size()) << "no help";
    } else if (line.starts_with("# TYPE ")) {
      EXPECT_EQ(word(line, 7), metric_);
      types_[metric_] = line.substr(8 + metric_.size());
    } else {
      take_sample(line);
    }
  }

  void take_sample(const std::string& line) {
    std::size_t at = 0;
    while (at < line.size() && (std::isalnum(static_cast<unsigned char>(line[at])) != 0 || line[at] == '_')) ++at;
    EXPECT_EQ(line.substr(0, at), metric_);
    if (at < line.size() && line[at] == '{') at = labels_end(line, at);
    ASSERT_LT(at, line.size());
    EXPECT_EQ(line[at], ' ');
    const std::string number = line.substr(at + 1);
    EXPECT_FALSE(number.empty());
    EXPECT_EQ(number.find_first_not_of("0123456789."), std::string::npos);
    EXPECT_TRUE(values_.emplace(line.substr(0, at), number).second) << "a series twice";
  }

  // name="value",… with \\, \" and \n alone behind a backslash.
  static std::size_t labels_end(const std::string& line, std::size_t at) {
    do {
      ++at;
      while (at < line.size() && (std::islower(static_cast<unsigned char>(line[at])) != 0 || line[at] == '_')) ++at;
      EXPECT_EQ(line.substr(at, 2), "=\"");
      for (at += 2; at < line.size() && line[at] != '"'; ++at) {
        if (line[at] != '\\') continue;
        ++at;
        EXPECT_NE(std::string_view("\\\"n").find(line[at]), std::string_view::npos);
      }
      ++at;
    } while (at < line.size() && line[at] == ',');
    EXPECT_EQ(line[at], '}');
    return at + 1;
  }
  static std::string word(const std::string& line, std::size_t at) { return line.substr(at, line.find(' ', at) - at); }

  std::string metric_;
  std::set<std::string> metrics_;
  std::map<std::string, std::string> types_;
  std::map<std::string, std::string> values_;
};

BusStatus some_bus() {
  BusStatus bus;
  bus.version = "1.2.3";
  bus.disk_backend = "io_uring";
  bus.started_ns = 1'700'000'000'050'000'000;
  bus.poisoned = 1;
  bus.repaired_claims = 7;
  bus.parked_transactions = 5;
  bus.rolled_back_transactions = 6;
  bus.checks = {11, 12, 13, 14};
  bus.resolver_runs.none = 2;
  bus.mirrors = {{"/data", "good", "", 0, 0, 3, ""},
                 {"/mir\"ror\\x\n", "stale", "it \"failed\"", 0, 0, 0, ""},
                 {"/own/orders-7", "filling", "", 5, 9, 0, "orders"}};
  return bus;
}

TopicInfo some_topic() {
  TopicInfo topic;
  topic.config.name = "orders";
  topic.partitions.resize(2);
  topic.partitions[1].partition = 1;
  topic.partitions[1].state = PartitionState::poisoned;
  topic.partitions[1].committed = Position(UINT64_MAX);
  topic.partitions[1].records = 12;
  topic.partitions[1].open_halves = 3;
  return topic;
}

TEST(Metrics, a_scraper_reads_each_series_once_with_its_help_and_type) {
  const Scrape scrape(metrics_text(some_bus(), {some_topic()}, {}));
  EXPECT_EQ(scrape.value("sluice_claims_repaired_total"), "7");
  EXPECT_EQ(scrape.value("sluice_transactions_parked"), "5");
  EXPECT_EQ(scrape.value("sluice_transactions_decided_total{decision=\"rollback\"}"), "6");
  EXPECT_EQ(scrape.value("sluice_transaction_checks_total{answer=\"commit\"}"), "11");
  EXPECT_EQ(scrape.value("sluice_transaction_checks_total{answer=\"unknown\"}"), "13");
  EXPECT_EQ(scrape.value("sluice_transaction_resolver_runs_total{answer=\"none\"}"), "2");
  EXPECT_EQ(scrape.value("sluice_partition_halves_open{topic=\"orders\",partition=\"1\"}"), "3");
  EXPECT_EQ(scrape.value("sluice_start_time_seconds"), "1700000000.050000000");
  EXPECT_EQ(scrape.value("sluice_build_info{version=\"1.2.3\",disk_backend=\"io_uring\"}"), "1");
  EXPECT_EQ(scrape.value("sluice_partition_committed_position_bytes{topic=\"orders\",partition=\"1\"}"),
            "18446744073709551615");
  EXPECT_EQ(scrape.value("sluice_partition_records_total{topic=\"orders\",partition=\"1\"}"), "12");
  for (const auto& [metric, type] : scrape.types())
    EXPECT_EQ(type, metric.ends_with("_total") ? "counter" : "gauge") << metric;
}

TEST(Metrics, alarms_are_one_where_something_is_wrong) {
  const Scrape scrape(metrics_text(some_bus(), {some_topic()}, {}));
  EXPECT_EQ(scrape.value("sluice_partitions_poisoned"), "1");
  EXPECT_EQ(scrape.value("sluice_partition_poisoned{topic=\"orders\",partition=\"0\"}"), "0");
  EXPECT_EQ(scrape.value("sluice_partition_poisoned{topic=\"orders\",partition=\"1\"}"), "1");
  EXPECT_EQ(scrape.value("sluice_mirror_state{path=\"/data\",state=\"stale\"}"), "0");
  EXPECT_EQ(scrape.value("sluice_mirror_state{path=\"/own/orders-7\",topic=\"orders\",state=\"filling\"}"), "1");
  EXPECT_EQ(scrape.value("sluice_mirror_filled_bytes{path=\"/own/orders-7\",topic=\"orders\"}"), "5");
  EXPECT_EQ(scrape.value("sluice_mirror_state{path=\"/mir\\\"ror\\\\x\\n\",state=\"stale\"}"), "1");
}

TEST(Metrics, sessions_are_counted_by_their_socket) {
  std::vector<SessionInfo> sessions(3);
  sessions[0].connected = true;
  sessions[0].pins = 2;
  sessions[2].pins = 3;
  const Scrape scrape(metrics_text({}, {}, sessions));
  EXPECT_EQ(scrape.value("sluice_sessions{socket=\"open\"}"), "1");
  EXPECT_EQ(scrape.value("sluice_sessions{socket=\"closed\"}"), "2");
  EXPECT_EQ(scrape.value("sluice_session_pins"), "5");
}

}  // namespace
}  // namespace sluice::cli
