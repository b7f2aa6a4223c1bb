#include "sdk/cli/metrics_text.h"

#include <array>
#include <cstdint>
#include <string_view>
#include <utility>

namespace sluice::cli {
namespace {

constexpr std::uint64_t kNsPerSecond = 1'000'000'000;

// In a label's value a quote would end it; in either a line break would begin another line.
std::string escaped(std::string_view text, bool label) {
  std::string out;
  for (const char c : text) {
    if (c == '\\')
      out += "\\\\";
    else if (c == '\n')
      out += "\\n";
    else if (c == '"' && label)
      out += "\\\"";
    else
      out += c;
  }
  return out;
}

std::string seconds(std::uint64_t ns) {
  std::string fraction = std::to_string(ns % kNsPerSecond);
  fraction.insert(0, 9 - fraction.size(), '0');
  return std::to_string(ns / kNsPerSecond) + "." + fraction;
}

using Labels = std::vector<std::pair<std::string_view, std::string>>;

// One metric after the other: its HELP and TYPE once, then its samples.
class Exposition {
 public:
  Exposition& gauge(std::string_view name, std::string_view help) { return begin(name, "gauge", help); }
  Exposition& counter(std::string_view name, std::string_view help) { return begin(name, "counter", help); }
  Exposition& sample(const Labels& labels, std::string value) {
    text_ += name_;
    char before = '{';
    for (const auto& [label, content] : labels) {
      text_ += std::exchange(before, ',');
      text_ += std::string(label) + "=\"" + escaped(content, true) + "\"";
    }
    if (!labels.empty()) text_ += '}';
    text_ += " " + std::move(value) + "\n";
    return *this;
  }
  Exposition& sample(const Labels& labels, std::uint64_t value) { return sample(labels, std::to_string(value)); }
  std::string take() { return std::move(text_); }

 private:
  Exposition& begin(std::string_view name, std::string_view type, std::string_view help) {
    name_ = "sluice_" + std::string(name);
    text_ += "# HELP " + name_ + " " + escaped(help, false) + "\n# TYPE " + name_ + " " + std::string(type) + "\n";
    return *this;
  }

  std::string name_;
  std::string text_;
};

void add_answers(Exposition& out, const AnswerCounts& counts) {
  out.sample({{"answer", "commit"}}, counts.commit)
      .sample({{"answer", "rollback"}}, counts.rollback)
      .sample({{"answer", "unknown"}}, counts.unknown)
      .sample({{"answer", "none"}}, counts.none);
}

void add_transactions(Exposition& out, const BusStatus& bus) {
  out.gauge("transactions_open", "Transactions that are not decided yet.").sample({}, bus.open_transactions);
  out.gauge("transactions_parked", "Transactions that wait for an operator; alarm above 0.")
      .sample({}, bus.parked_transactions);
  out.counter("transactions_decided_total", "Transactions that were decided.")
      .sample({{"decision", "commit"}}, bus.committed_transactions)
      .sample({{"decision", "rollback"}}, bus.rolled_back_transactions);
  out.counter("transaction_checks_total", "Producers that were asked what became of a transaction, by their answer.");
  add_answers(out, bus.checks);
  out.counter("transaction_resolver_runs_total", "Runs of resolvers, by their answer.");
  add_answers(out, bus.resolver_runs);
}

void add_bus(Exposition& out, const BusStatus& bus) {
  out.gauge("build_info", "Always 1; the daemon's version and disk backend.")
      .sample({{"version", bus.version}, {"disk_backend", bus.disk_backend}}, 1);
  out.gauge("start_time_seconds", "When the daemon started, since the epoch.").sample({}, seconds(bus.started_ns));
  out.gauge("incarnation", "Of the bus's memory: one higher whenever it was lost.").sample({}, bus.incarnation.value);
  out.gauge("topics", "Topics.").sample({}, bus.topics);
  out.gauge("partitions", "Partitions of all topics.").sample({}, bus.partitions);
  out.gauge("partitions_poisoned", "Partitions that a failed disk has closed; alarm above 0.").sample({}, bus.poisoned);
  out.gauge("memory_bytes", "Slot memory in use.").sample({}, bus.memory_bytes);
  out.gauge("memory_budget_bytes", "Slot memory that may be used.").sample({}, bus.memory_budget_bytes);
  out.gauge("log_file_bytes", "Log files of all topics, one copy.").sample({}, bus.disk_bytes);
  out.counter("claims_repaired_total", "Open claims of dead producers that were aborted.")
      .sample({}, bus.repaired_claims);
  out.counter("claims_expired_total", "Claims that were aborted past their deadline.").sample({}, bus.expired_claims);
  out.gauge("repair_last_seconds", "From the last dead client's hang-up to its last repaired claim.")
      .sample({}, seconds(bus.repair_ns_last));
  out.gauge("repair_max_seconds", "The longest such repair.").sample({}, seconds(bus.repair_ns_max));
}

void add_disks(Exposition& out, const BusStatus& bus) {
  out.counter("scrub_passes_total", "Whole passes of the slow scrub.").sample({}, bus.scrub_passes);
  out.counter("scrub_mended_bytes_total", "Damaged bytes that were mended from another copy.")
      .sample({}, bus.scrub_mended_bytes);
  out.counter("scrub_damaged_bytes_total", "Bytes found intact on no copy; alarm above 0.")
      .sample({}, bus.scrub_damaged_bytes);
  if (bus.mirrors.empty()) return;
  // Those of a topic that has mirrors of its own name it.
  const auto labels = [](const MirrorStatus& mirror) {
    Labels all{{"path", mirror.path}};
    if (!mirror.topic.empty()) all.emplace_back("topic", mirror.topic);
    return all;
  };
  static constexpr std::array<std::string_view, 3> kStates = {"good", "stale", "filling"};
  out.gauge("mirror_state", "1 for the state that a copy is in; alarm where state=\"stale\" is 1.");
  for (const MirrorStatus& mirror : bus.mirrors)
    for (const std::string_view state : kStates) {
      Labels all = labels(mirror);
      all.emplace_back("state", state);
      out.sample(all, mirror.state == state ? 1 : 0);
    }
  out.gauge("mirror_filled_bytes", "Of a copy that is being filled: so far.");
  for (const MirrorStatus& mirror : bus.mirrors) out.sample(labels(mirror), mirror.filled_bytes);
  out.gauge("mirror_fill_size_bytes", "Of a copy that is being filled: as far as it is known.");
  for (const MirrorStatus& mirror : bus.mirrors) out.sample(labels(mirror), mirror.total_bytes);
  out.counter("mirror_failed_reads_total", "Reads of a copy that another one answered.");
  for (const MirrorStatus& mirror : bus.mirrors) out.sample(labels(mirror), mirror.failed_reads);
}

void add_topics(Exposition& out, const std::vector<TopicInfo>& topics) {
  if (topics.empty()) return;
  out.gauge("topic_producers", "Open producers of a topic.");
  for (const TopicInfo& topic : topics) out.sample({{"topic", topic.config.name}}, topic.producers);
  out.gauge("topic_readers", "Open readers of a topic.");
  for (const TopicInfo& topic : topics) out.sample({{"topic", topic.config.name}}, topic.readers);

  struct Metric {
    std::string_view name;
    std::string_view help;
    bool counts;
    std::uint64_t (*value)(const PartitionInfo&);
  };
  using P = PartitionInfo;
  static constexpr std::array<Metric, 18> kMetrics = {{
      {"partition_poisoned", "1: a failed disk has closed it; alarm.", false,
       [](const P& p) -> std::uint64_t { return p.state == PartitionState::poisoned ? 1 : 0; }},
      {"partition_earliest_position_bytes", "The first position that can be read.", false,
       [](const P& p) { return p.earliest.value; }},
      {"partition_committed_position_bytes", "Everything below is final.", false,
       [](const P& p) { return p.committed.value; }},
      {"partition_durable_position_bytes", "Everything below is on stable storage.", false,
       [](const P& p) { return p.durable.value; }},
      {"partition_tail_position_bytes", "Where producers claim.", false, [](const P& p) { return p.tail.value; }},
      {"partition_memory_start_position_bytes", "Everything below is in log files alone.", false,
       [](const P& p) { return p.memory_start.value; }},
      {"partition_records_total", "Records committed since the topic exists.", true,
       [](const P& p) { return p.records; }},
      {"partition_delayed", "Messages that wait for their time.", false, [](const P& p) { return p.delayed; }},
      {"partition_halves_open", "Messages of transactions that are not decided.", false,
       [](const P& p) { return p.open_halves; }},
      {"partition_halves_committed_total", "Messages of committed transactions since the topic exists.", true,
       [](const P& p) { return p.committed_halves; }},
      {"partition_halves_rolled_back_total", "Messages of transactions that were rolled back.", true,
       [](const P& p) { return p.rolled_back_halves; }},
      {"partition_log_files", "Log files.", false, [](const P& p) { return p.file_count; }},
      {"partition_log_file_bytes", "Their size, one copy.", false, [](const P& p) { return p.file_bytes; }},
      {"partition_slots_used", "Slots that hold a segment.", false,
       [](const P& p) -> std::uint64_t { return p.slots_used; }},
      {"partition_slots_pinned", "Slots that somebody holds.", false,
       [](const P& p) -> std::uint64_t { return p.slots_pinned; }},
      {"partition_open_claims", "Claims that hold the partition up.", false,
       [](const P& p) -> std::uint64_t { return p.open_claims; }},
      {"partition_quarantined_bytes", "Bytes that are kept and not served, for they are damaged; alarm above 0.", false,
       [](const P& p) { return p.quarantined_bytes; }},
      {"partition_corrupt_records_total", "Records in memory that failed their checks.", true,
       [](const P& p) { return p.corrupt_records; }},
  }};
  for (const Metric& metric : kMetrics) {
    metric.counts ? out.counter(metric.name, metric.help) : out.gauge(metric.name, metric.help);
    for (const TopicInfo& topic : topics)
      for (const PartitionInfo& partition : topic.partitions)
        out.sample({{"topic", topic.config.name}, {"partition", std::to_string(partition.partition)}},
                   metric.value(partition));
  }
}

// In sum: the name of a session would be a new series with each client that comes.
void add_sessions(Exposition& out, const std::vector<SessionInfo>& sessions) {
  std::uint64_t connected = 0, pins = 0;
  for (const SessionInfo& session : sessions) {
    connected += session.connected ? 1 : 0;
    pins += session.pins;
  }
  out.gauge("sessions", "Attached clients, by whether their socket is open.")
      .sample({{"socket", "open"}}, connected)
      .sample({{"socket", "closed"}}, sessions.size() - connected);
  out.gauge("session_pins", "Segments that all clients together hold in memory.").sample({}, pins);
}

}  // namespace

std::string metrics_text(const BusStatus& bus, const std::vector<TopicInfo>& topics,
                         const std::vector<SessionInfo>& sessions) {
  Exposition out;
  add_bus(out, bus);
  add_transactions(out, bus);
  add_disks(out, bus);
  add_topics(out, topics);
  add_sessions(out, sessions);
  return out.take();
}

}  // namespace sluice::cli
