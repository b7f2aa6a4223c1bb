// The documents of consumer groups and their dead letters.
#include "sdk/cli/arguments.h"
#include "sdk/cli/group_text.h"
#include "sdk/cli/group_totals.h"
#include "sdk/cli/json.h"
#include "sdk/cli/message_text.h"

namespace sluice::cli {
namespace {

// Whole where it is whole.
Json ms(Duration duration) {
  constexpr std::int64_t kMillisecond = 1'000'000;
  if (duration.count() % kMillisecond == 0) return duration.count() / kMillisecond;
  return static_cast<double>(duration.count()) / kMillisecond;
}
Json ms_or_null(const std::optional<Duration>& duration) { return duration ? ms(*duration) : Json(nullptr); }

Json backoff_json(const Backoff& backoff) {
  if (backoff.steps.empty()) return {{"first_ms", ms(backoff.first)}, {"max_ms", ms(backoff.max)}};
  Json steps = Json::array();
  for (const Duration step : backoff.steps) steps.push_back(ms(step));
  return {{"steps_ms", std::move(steps)}};
}

Json config_json(const GroupConfig& c) {
  return {{"mode", name(c.mode)},
          {"ack_timeout_ms", ms_or_null(c.ack_timeout)},
          {"member_timeout_ms", ms_or_null(c.member_timeout)},
          {"max_attempts", c.max_attempts ? Json(*c.max_attempts) : Json(nullptr)},
          {"backoff", c.backoff ? backoff_json(*c.backoff) : Json(nullptr)},
          {"strict", name(c.strict)},
          {"hold", c.hold}};
}

Json member_json(const MemberInfo& m) {
  return {{"member", m.member},
          {"session", m.session},
          {"pid", m.pid},
          {"client_name", m.client_name},
          {"partitions", m.partitions},
          {"in_flight", m.in_flight},
          {"in_flight_max", m.in_flight_max},
          {"idle_ms", ms(m.idle)},
          {"hung", m.hung}};
}

Json partition_json(const GroupPartitionInfo& p) {
  return {{"topic", p.topic},
          {"partition", p.partition},
          {"member", p.member != 0 ? Json(p.member) : Json(nullptr)},
          {"cursor", p.cursor.value},
          {"end", p.end.value},
          {"lag_messages", p.lag_messages},
          {"lag_bytes", p.lag_bytes},
          {"oldest_age_ms", ms(p.oldest_age)},
          {"ready", p.ready},
          {"in_flight", p.in_flight},
          {"retrying", p.retrying},
          {"parked", p.parked},
          {"safe_horizon", p.safe_horizon.value},
          {"produced_per_s", p.produced_per_s},
          {"consumed_per_s", p.consumed_per_s},
          {"catch_up_ms", ms_or_null(p.catch_up)}};
}

}  // namespace

Json to_json(const GroupInfo& group) {
  const GroupTotals totals = totals_of(group);
  Json members = Json::array();
  for (const MemberInfo& member : group.members) members.push_back(member_json(member));
  Json partitions = Json::array();
  for (const GroupPartitionInfo& partition : group.partitions) partitions.push_back(partition_json(partition));
  return {{"name", group.config.name},
          {"config", config_json(group.config)},
          {"paused", group.paused},
          {"epoch", group.epoch},
          {"subscriptions", group.subscriptions},
          {"lag_messages", totals.lag_messages},
          {"lag_bytes", totals.lag_bytes},
          {"oldest_age_ms", ms(totals.oldest_age)},
          {"ready", totals.ready},
          {"in_flight", totals.in_flight},
          {"retrying", totals.retrying},
          {"parked", totals.parked},
          {"produced_per_s", totals.produced_per_s},
          {"consumed_per_s", totals.consumed_per_s},
          {"catch_up_ms", ms_or_null(totals.catch_up)},
          {"members", std::move(members)},
          {"partitions", std::move(partitions)}};
}

Json to_json(const std::vector<GroupInfo>& groups) {
  Json list = Json::array();
  for (const GroupInfo& group : groups) list.push_back(to_json(group));
  return {{"groups", std::move(list)}};
}

Json to_json(const std::vector<DeadLetterCount>& counts) {
  Json list = Json::array();
  for (const DeadLetterCount& c : counts)
    list.push_back({{"group", c.group}, {"parked", c.parked}, {"redriven", c.redriven}, {"purged", c.purged}});
  return {{"groups", std::move(list)}};
}

Json to_json(const DeadLetter& letter) {
  return {{"id", letter.id},
          {"origin", origin_of(letter)},
          {"topic", letter.topic},
          {"partition", letter.partition},
          {"position", letter.position.value},
          {"state", letter.state},
          {"reason", letter.reason},
          {"delivered", letter.delivered},
          {"failed", letter.failed},
          {"parked", letter.parked_ns != 0 ? Json(rfc3339(letter.parked_ns)) : Json(nullptr)},
          {"parked_ns", letter.parked_ns},
          {"parked_at", letter.parked_at.value}};
}

Json to_json(const std::string& group, const std::vector<RedriveOutcome>& outcomes, bool dry_run) {
  Json list = Json::array();
  for (const RedriveOutcome& outcome : outcomes) {
    Json row = to_json(outcome.letter);
    row["outcome"] = outcome.outcome;
    list.push_back(std::move(row));
  }
  return {{"group", group}, {"dry_run", dry_run}, {"outcomes", std::move(list)}};
}

}  // namespace sluice::cli
