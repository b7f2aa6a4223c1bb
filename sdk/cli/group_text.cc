#include "sdk/cli/group_text.h"

#include <algorithm>
#include <cmath>

#include "sdk/cli/arguments.h"
#include "sdk/cli/group_totals.h"
#include "sdk/cli/message_text.h"
#include "sdk/cli/output.h"

namespace sluice::cli {
namespace {

constexpr std::size_t kPreviewSizeMax = 60;

std::string human(Duration duration) {
  return human_duration(static_cast<std::uint64_t>(std::max<Duration::rep>(duration.count(), 0)));
}
std::string age_text(Duration age) { return age.count() == 0 ? "-" : human(age); }
std::string catch_up_text(const std::optional<Duration>& catch_up) {
  if (!catch_up) return coloured(1, Colour::yellow, "never");
  return age_text(*catch_up);
}

std::string state_text(const GroupInfo& group) {
  if (group.paused) return coloured(1, Colour::yellow, "paused");
  if (group.members.empty()) return "no members";
  const auto hung = std::count_if(group.members.begin(), group.members.end(), [](const auto& m) { return m.hung; });
  if (hung != 0) return coloured(1, Colour::red, std::to_string(hung) + " hung");
  return "active";
}

std::string list_of(const std::vector<std::string>& names) {
  std::string out;
  for (const std::string& one : names) out += (out.empty() ? "" : ", ") + printable(one);
  return out.empty() ? "nothing yet" : out;
}

std::string settings_text(const GroupInfo& group) {
  const GroupConfig& c = group.config;
  const GroupTotals totals = totals_of(group);
  Table table({"group", c.name});
  const auto row = [&table](std::string what, std::string value) { table.add({std::move(what), std::move(value)}); };
  row("state", state_text(group));
  row("mode",
      std::string(name(c.mode)) + (c.strict == Strict::none ? "" : ", strict by " + std::string(name(c.strict))));
  row("subscribed to", list_of(group.subscriptions));
  row("timeouts", "ack " + human(c.ack_timeout.value_or(Duration(0))) + ", member " +
                      human(c.member_timeout.value_or(Duration(0))));
  row("retries", backoff_text(c.backoff.value_or(Backoff{})) + ", parked after " +
                     std::to_string(c.max_attempts.value_or(0)) + " failures");
  if (c.hold) row("hold", "retention keeps what it has not settled");
  if (group.epoch != 0) row("epoch", std::to_string(group.epoch));
  row("lag", human_count(totals.lag_messages) + " messages, " + human_size(totals.lag_bytes) +
                 (totals.oldest_age.count() == 0 ? "" : ", the oldest " + human(totals.oldest_age) + " old"));
  row("rates", rate_text(totals.produced_per_s) + " produced, " + rate_text(totals.consumed_per_s) + " consumed" +
                   (totals.lag_messages == 0 ? ""
                    : totals.catch_up        ? ", caught up in " + human(*totals.catch_up)
                                             : ", catching up never"));
  if (totals.parked != 0) row("dead letters", human_count(totals.parked) + "; sluice dlq show " + c.name);
  return table.text();
}

std::string members_text(const GroupInfo& group) {
  Table table({"MEMBER", "PID", "SESSION", "PARTITIONS", "IN FLIGHT", "LIMIT", "IDLE", "", "CLIENT"},
              {true, true, true, true, true, true, true, false, false});
  for (const MemberInfo& m : group.members)
    table.add({std::to_string(m.member), std::to_string(m.pid), std::to_string(m.session), std::to_string(m.partitions),
               std::to_string(m.in_flight), std::to_string(m.in_flight_max), human(m.idle),
               m.hung ? coloured(1, Colour::red, "hung") : "", printable(m.client_name)});
  return table.text();
}

std::string partitions_text(const GroupInfo& group) {
  Table table({"TOPIC", "PARTITION", "MEMBER", "CURSOR", "END", "LAG", "BYTES", "OLDEST", "READY", "IN FLIGHT",
               "RETRYING", "PARKED", "PRODUCED", "CONSUMED", "CATCH UP"},
              {false, true, true, true, true, true, true, true, true, true, true, true, true, true, true});
  for (const GroupPartitionInfo& p : group.partitions)
    table.add({p.topic, std::to_string(p.partition), p.member == 0 ? "-" : std::to_string(p.member),
               std::to_string(p.cursor.value), std::to_string(p.end.value), human_count(p.lag_messages),
               human_size(p.lag_bytes), age_text(p.oldest_age), human_count(p.ready), std::to_string(p.in_flight),
               std::to_string(p.retrying), std::to_string(p.parked), rate_text(p.produced_per_s),
               rate_text(p.consumed_per_s), catch_up_text(p.catch_up)});
  return table.text();
}

std::string way_text(const SeekMove& move) {
  if (move.from == move.to) return "stays";
  if (move.to < move.from) return human_size(move.from.value - move.to.value) + " back";
  return human_size(move.to.value - move.from.value) + " ahead";
}

}  // namespace

std::string group_list_text(const std::vector<GroupInfo>& groups) {
  Table table(
      {"GROUP", "MODE", "MEMBERS", "PARTITIONS", "LAG", "BYTES", "OLDEST", "IN FLIGHT", "RETRYING", "PARKED", "STATE"},
      {false, false, true, true, true, true, true, true, true, true, false});
  for (const GroupInfo& group : groups) {
    const GroupTotals totals = totals_of(group);
    table.add({group.config.name, std::string(name(group.config.mode)), std::to_string(group.members.size()),
               std::to_string(group.partitions.size()), human_count(totals.lag_messages), human_size(totals.lag_bytes),
               age_text(totals.oldest_age), human_count(totals.in_flight), human_count(totals.retrying),
               human_count(totals.parked), state_text(group)});
  }
  return table.text();
}

std::string rate_text(double per_s) {
  constexpr double kWholeFrom = 10;
  if (!(per_s > 0)) return "0/s";
  if (per_s >= kWholeFrom) return human_count(static_cast<std::uint64_t>(std::llround(per_s))) + "/s";
  const auto tenths = std::llround(per_s * 10);
  return std::to_string(tenths / 10) + "." + std::to_string(tenths % 10) + "/s";
}

std::string group_rates_text(const std::vector<GroupInfo>& groups) {
  Table table({"GROUP", "MEMBERS", "LAG", "OLDEST", "PRODUCED", "CONSUMED", "CATCH UP", "IN FLIGHT", "RETRYING",
               "PARKED", "STATE"},
              {false, true, true, true, true, true, true, true, true, true, false});
  for (const GroupInfo& group : groups) {
    const GroupTotals totals = totals_of(group);
    table.add({group.config.name, std::to_string(group.members.size()), human_count(totals.lag_messages),
               age_text(totals.oldest_age), rate_text(totals.produced_per_s), rate_text(totals.consumed_per_s),
               catch_up_text(totals.catch_up), human_count(totals.in_flight), human_count(totals.retrying),
               human_count(totals.parked), state_text(group)});
  }
  return table.text();
}

std::string group_text(const GroupInfo& group) {
  std::string out = settings_text(group);
  if (!group.members.empty()) out += "\n" + members_text(group);
  if (!group.partitions.empty()) out += "\n" + partitions_text(group);
  return out;
}

std::string moves_text(const std::vector<SeekMove>& moves) {
  Table table({"TOPIC", "PARTITION", "FROM", "", "TO", "OF LOG"}, {false, true, true, false, true, true});
  for (const SeekMove& move : moves)
    table.add({move.topic, std::to_string(move.partition), std::to_string(move.from.value), "->",
               std::to_string(move.to.value), way_text(move)});
  return table.text();
}

std::vector<std::string> undo_commands(const std::string& group, const std::vector<SeekMove>& moves) {
  std::vector<std::string> commands;
  for (const SeekMove& move : moves) {
    if (move.from == move.to) continue;
    commands.push_back("sluice group seek " + group + " --topic " + move.topic + " --to " +
                       std::to_string(move.partition) + "@" + std::to_string(move.from.value) + " --execute");
  }
  return commands;
}

std::string letter_counts_text(const std::vector<DeadLetterCount>& counts) {
  Table table({"GROUP", "PARKED", "REDRIVEN", "PURGED"}, {false, true, true, true});
  for (const DeadLetterCount& c : counts)
    table.add({c.group, human_count(c.parked), human_count(c.redriven), human_count(c.purged)});
  return table.text();
}

std::string origin_of(const DeadLetter& letter) {
  return letter.topic + "/" + std::to_string(letter.partition) + "@" + std::to_string(letter.position.value);
}

std::string letters_text(const std::vector<LetterRow>& rows) {
  Table table({"ID", "ORIGIN", "STATE", "DELIVERED", "FAILED", "PARKED", "REASON", "PAYLOAD"},
              {true, false, false, true, true, false, false, false});
  for (const LetterRow& row : rows) {
    const DeadLetter& letter = row.letter;
    table.add({std::to_string(letter.id), origin_of(letter), printable(letter.state), std::to_string(letter.delivered),
               std::to_string(letter.failed), letter.parked_ns == 0 ? "-" : rfc3339(letter.parked_ns),
               letter.reason.empty() ? "-" : printable(letter.reason), row.payload});
  }
  return table.text();
}

std::string payload_preview(std::string_view payload) {
  if (!is_utf8(payload)) return std::to_string(payload.size()) + " bytes, no text";
  if (payload.size() <= kPreviewSizeMax) return printable(payload);
  std::size_t size = kPreviewSizeMax;
  while (size > 0 && (static_cast<unsigned char>(payload[size]) & 0xc0) == 0x80) --size;  // not inside a character
  return printable(payload.substr(0, size)) + "... (" + std::to_string(payload.size()) + " bytes)";
}

bool went_well(const RedriveOutcome& outcome) {
  return outcome.outcome == "redriven" || outcome.outcome == "would_redrive";
}

std::string outcomes_text(const std::vector<RedriveOutcome>& outcomes) {
  Table table({"ID", "ORIGIN", "OUTCOME"}, {true, false, false});
  for (const RedriveOutcome& outcome : outcomes)
    table.add({std::to_string(outcome.letter.id), origin_of(outcome.letter),
               went_well(outcome) ? outcome.outcome : coloured(1, Colour::red, printable(outcome.outcome))});
  return table.text();
}

}  // namespace sluice::cli
