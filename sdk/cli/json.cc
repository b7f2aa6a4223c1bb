#include "sdk/cli/json.h"

#include <algorithm>

#include "sdk/cli/arguments.h"
#include "sdk/cli/message_text.h"

namespace sluice::cli {
namespace {

Json time_or_null(std::uint64_t ns) { return ns == 0 ? Json(nullptr) : Json(rfc3339(ns)); }

Json partition_json(const PartitionInfo& p) {
  return {{"partition", p.partition},
          {"state", name(p.state)},
          {"reason", p.reason},
          {"earliest", p.earliest.value},
          {"committed", p.committed.value},
          {"durable", p.durable.value},
          {"tail", p.tail.value},
          {"prepared", p.prepared.value},
          {"memory_start", p.memory_start.value},
          {"file_count", p.file_count},
          {"file_bytes", p.file_bytes},
          {"records", p.records},
          {"slots_used", p.slots_used},
          {"slots_pinned", p.slots_pinned},
          {"open_claims", p.open_claims},
          {"quarantined_bytes", p.quarantined_bytes},
          {"corrupt_records", p.corrupt_records},
          {"delayed", p.delayed},
          {"open_halves", p.open_halves},
          {"committed_halves", p.committed_halves},
          {"rolled_back_halves", p.rolled_back_halves},
          {"next_due_ms", p.next_due_ns == 0 ? Json(nullptr) : Json(p.next_due_ns / 1'000'000)}};
}

Json row_json(const AuditRow& r) {
  return {{"partition", r.partition},
          {"producer", r.producer.value},
          {"name", r.name},
          {"sequence_first", r.sequence_first.value},
          {"sequence_last", r.sequence_last.value},
          {"data", r.data},
          {"committed_halves", r.committed_halves},
          {"rolled_back", r.rolled_back},
          {"open", r.open},
          {"delayed", r.delayed},
          {"aborted", r.aborted},
          {"fenced", r.fenced},
          {"dropped", r.dropped},
          {"expired", r.expired},
          {"cut", r.cut},
          {"quarantined", r.quarantined},
          {"gaps", r.gaps},
          {"repeats", r.repeats},
          {"holds", row_holds(r)}};
}

}  // namespace

bool row_holds(const AuditRow& r) {
  const std::uint64_t sent = r.sequence_first.value == 0 ? 0 : r.sequence_last.value - r.sequence_first.value + 1;
  const std::uint64_t sum = r.data + r.committed_halves + r.rolled_back + r.open + r.delayed + r.aborted + r.fenced +
                            r.dropped + r.expired + r.cut + r.quarantined;
  return sent == sum && r.gaps == 0 && r.repeats == 0 && r.cut == 0 && r.quarantined == 0;
}

Json to_json(const TopicInfo& topic) {
  const TopicConfig& c = topic.config;
  const auto deadline_ns = c.claim_deadline.value_or(Duration(0)).count();
  Json out = {{"name", c.name},
              {"id", topic.id.value},
              {"created", time_or_null(topic.created_ns)},
              {"created_ns", topic.created_ns},
              {"partition_count", c.partitions},
              {"durability", name(c.durability.value_or(Durability::async))},
              {"visibility", name(c.visibility)},
              {"segment_size", c.segment_size},
              {"slots", c.slots},
              {"retention_bytes", c.retention_bytes.value_or(0)},
              {"retention_time_ns", c.retention_time.value_or(Duration(0)).count()},
              {"message_ttl_ns", c.message_ttl.count()},
              {"overflow", name(c.overflow)},
              {"claim_deadline_ns", deadline_ns != 0 ? Json(deadline_ns) : Json(nullptr)},
              {"checksum", c.checksum},
              {"time", name(c.time_mode)},
              {"publishers", c.publishers},
              {"consumers", c.consumers},
              {"mirrors", c.mirrors},
              {"producers", topic.producers},
              {"readers", topic.readers}};
  Json partitions = Json::array();
  for (const PartitionInfo& partition : topic.partitions) partitions.push_back(partition_json(partition));
  out["partitions"] = std::move(partitions);
  return out;
}

Json to_json(const std::vector<TopicInfo>& topics) {
  Json list = Json::array();
  for (const TopicInfo& topic : topics) list.push_back(to_json(topic));
  return {{"topics", std::move(list)}};
}

Json to_json(const std::string& topic, const AuditReport& report) {
  Json rows = Json::array();
  for (const AuditRow& row : report.rows) rows.push_back(row_json(row));
  return {{"topic", topic}, {"holds", report.holds}, {"rows", std::move(rows)}};
}

Json to_json(const std::string& topic, const ScrubReport& report) {
  Json damaged = Json::array();
  for (const ScrubRange& range : report.damaged)
    damaged.push_back({{"partition", range.partition},
                       {"begin", range.begin.value},
                       {"end", range.end.value},
                       {"bytes", range.end - range.begin},
                       {"reason", range.reason}});
  return {{"topic", topic},
          {"copies", report.copies},
          {"segments", report.segments},
          {"bytes", report.bytes},
          {"mended_segments", report.mended_segments},
          {"mended_bytes", report.mended_bytes},
          {"damaged_bytes", report.damaged_bytes},
          {"damaged", std::move(damaged)},
          {"errors", report.errors}};
}

Json to_json(const AnswerCounts& counts) {
  return {{"commit", counts.commit}, {"rollback", counts.rollback}, {"unknown", counts.unknown}, {"none", counts.none}};
}

Json to_json(const BusStatus& s) {
  Json mirrors = Json::array();
  for (const MirrorStatus& m : s.mirrors)
    mirrors.push_back({{"path", m.path},
                       {"topic", m.topic.empty() ? Json(nullptr) : Json(m.topic)},
                       {"state", m.state},
                       {"reason", m.reason},
                       {"filled_bytes", m.filled_bytes},
                       {"total_bytes", m.total_bytes},
                       {"failed_reads", m.failed_reads}});
  return {
      {"version", s.version},
      {"pid", s.pid},
      {"started", time_or_null(s.started_ns)},
      {"started_ns", s.started_ns},
      {"incarnation", s.incarnation.value},
      {"data_directory", s.data_directory},
      {"socket", s.socket},
      {"sessions", s.sessions},
      {"topics", s.topics},
      {"partitions", s.partitions},
      {"poisoned", s.poisoned},
      {"memory_bytes", s.memory_bytes},
      {"memory_budget_bytes", s.memory_budget_bytes},
      {"disk_bytes", s.disk_bytes},
      {"repaired_claims", s.repaired_claims},
      {"expired_claims", s.expired_claims},
      {"repair_ns_max", s.repair_ns_max},
      {"repair_ns_last", s.repair_ns_last},
      {"disk_backend", s.disk_backend},
      {"recovery", s.recovery},
      {"mirrors", std::move(mirrors)},
      {"transactions",
       {{"open", s.open_transactions},
        {"parked", s.parked_transactions},
        {"committed", s.committed_transactions},
        {"rolled_back", s.rolled_back_transactions},
        {"checks", to_json(s.checks)},
        {"resolver_runs", to_json(s.resolver_runs)}}},
      {"scrub",
       {{"passes", s.scrub_passes}, {"mended_bytes", s.scrub_mended_bytes}, {"damaged_bytes", s.scrub_damaged_bytes}}}};
}

Json to_json(const std::vector<DoctorCheck>& checks) {
  Json list = Json::array();
  for (const DoctorCheck& c : checks)
    list.push_back({{"name", c.name}, {"ok", c.ok}, {"detail", c.detail}, {"advice", c.advice}});
  const bool ok = std::all_of(checks.begin(), checks.end(), [](const DoctorCheck& c) { return c.ok; });
  return {{"ok", ok}, {"checks", std::move(list)}};
}

Json to_json(const std::vector<SessionInfo>& sessions) {
  Json list = Json::array();
  for (const SessionInfo& s : sessions)
    list.push_back({{"id", s.id},
                    {"pid", s.pid},
                    {"uid", s.uid},
                    {"client_name", s.client_name},
                    {"producers", s.producers},
                    {"readers", s.readers},
                    {"pins", s.pins},
                    {"connected", s.connected}});
  return {{"sessions", std::move(list)}};
}

std::string text_of(const Json& document) {
  return document.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace sluice::cli
