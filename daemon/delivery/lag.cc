#include "daemon/delivery/lag.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <string>

namespace sluice::delivery {
namespace {

constexpr double kNsPerS = 1e9;
constexpr std::uint64_t kRateNsMin = 200'000'000;  // less than this apart, two counts say nothing
constexpr double kRateHalfLifeNs = 5e9;
constexpr std::uint64_t kNever = ~std::uint64_t{0};

void bring_up_to_date(Rate& rate, std::uint64_t count, std::uint64_t now_ns) {
  if (rate.at_ns == 0 || count < rate.count) {
    rate = {now_ns, count, rate.per_s};
    return;
  }
  const std::uint64_t passed = now_ns - rate.at_ns;
  if (passed < kRateNsMin) return;
  const double recent = static_cast<double>(count - rate.count) * kNsPerS / static_cast<double>(passed);
  const double old = std::exp2(-static_cast<double>(passed) / kRateHalfLifeNs);
  rate = {now_ns, count, rate.per_s * old + recent * (1 - old)};
}

std::string duration_text(std::uint64_t ns) {
  char text[32];
  if (ns < 1'000'000'000)
    std::snprintf(text, sizeof text, "%llu ms", static_cast<unsigned long long>(ns / 1'000'000));
  else if (ns < 120ull * 1'000'000'000)
    std::snprintf(text, sizeof text, "%.1f s", static_cast<double>(ns) / kNsPerS);
  else
    std::snprintf(text, sizeof text, "%llu min", static_cast<unsigned long long>(ns / 60'000'000'000));
  return text;
}

std::string rate_text(double per_s) {
  char text[32];
  std::snprintf(text, sizeof text, per_s < 10 ? "%.1f" : "%.0f", per_s);
  return text;
}

std::string place_text(const session::GroupPartitionInfo& partition) {
  return partition.topic + "/" + std::to_string(partition.partition);
}

std::string member_text(const session::MemberInfo& member) {
  return (member.client_name.empty() ? std::string("a member") : member.client_name) + " (pid " +
         std::to_string(member.pid) + ")";
}

// What its application has begun: in a shared group more is on its way to a member that is as quick as can be.
std::uint32_t in_application(const Group& group, const session::MemberInfo& info) {
  const auto member = group.members().find(info.member);
  if (group.record().config.mode == core::GroupMode::ordered || member == group.members().end()) return info.in_flight;
  const core::DeliveryMachine& machine = group.machine();
  std::uint32_t begun = 0;
  for (const std::uint32_t slot : machine.slots_out(info.member))
    begun += member->second.region->has_begun(slot, machine.stamp_of(info.member, slot)) ? 1 : 0;
  return begun;
}

std::string messages_text(std::uint64_t count) {
  return std::to_string(count) + (count == 1 ? " message" : " messages");
}

}  // namespace

const Rates::Both& Rates::update(std::uint64_t group, const core::Place& place, std::uint64_t produced,
                                 std::uint64_t consumed, std::uint64_t now_ns) {
  Both& both = rates_[{group, place}];
  bring_up_to_date(both.produced, produced, now_ns);
  bring_up_to_date(both.consumed, consumed, now_ns);
  return both;
}

void Rates::forget(std::uint64_t group) {
  std::erase_if(rates_, [&](const auto& entry) { return entry.first.first == group; });
}

session::GroupPartitionInfo partition_info(const Group& group, const core::Place& place, const TopicView& topic,
                                           Logs& logs, Rates& rates, const Now& now) {
  session::GroupPartitionInfo info;
  const core::PartitionView view = group.machine().view(place);
  info.topic = topic.name;
  info.topic_id = place.topic;
  info.partition = place.partition;
  info.member = view.owner;
  info.cursor = view.cursor;
  info.in_flight = view.in_flight;
  info.retrying = view.retrying;
  const Result<Position> end = logs.end(place.topic, place.partition);
  info.end = end ? std::max(*end, info.cursor) : info.cursor;
  info.lag_bytes = info.end - info.cursor;
  if (auto count = logs.count(place.topic, place.partition, info.cursor, info.end)) info.lag_messages = *count;
  std::uint64_t settled_above = 0;
  for (const core::PositionSpan& span : group.machine().settled_above(place))
    if (auto count = logs.count(place.topic, place.partition, span.begin, span.end)) settled_above += *count;
  info.lag_messages -= std::min(info.lag_messages, settled_above);
  info.ready = info.lag_messages - std::min(info.lag_messages, info.in_flight);
  // The oldest: at the cursor, or one that waits for its retry.
  std::optional<Position> oldest;
  if (info.lag_messages != 0) {
    if (auto walk = logs.walk(place.topic, place.partition, info.cursor, 1, {}); walk && !walk->records.empty())
      oldest = walk->records.front().position;
  }
  const auto& pending = group.machine().acks(place).pending();
  if (!pending.empty() && (!oldest || pending.begin()->first < *oldest)) oldest = pending.begin()->first;
  if (oldest) {
    if (auto message = logs.read(place.topic, place.partition, *oldest);
        message && message->record.time_ns != 0 && message->record.time_ns < now.wall_ns)
      info.oldest_age_ns = now.wall_ns - message->record.time_ns;
  }
  info.lag_messages += info.retrying;
  const Rates::Both& both =
      rates.update(group.record().id, place, logs.produced(place.topic, place.partition), view.settled, now.ns);
  info.produced_per_s = both.produced.per_s;
  info.consumed_per_s = both.consumed.per_s;
  const double gain = info.consumed_per_s - info.produced_per_s;
  if (info.lag_messages == 0)
    info.catch_up_ns = 0;
  else
    info.catch_up_ns =
        gain <= 0 ? kNever
                  : static_cast<std::uint64_t>(std::min(static_cast<double>(info.lag_messages) / gain * kNsPerS, 9e18));
  return info;
}

bool is_stopped(std::int32_t pid) {
  if (pid <= 0) return false;
  std::ifstream stat("/proc/" + std::to_string(pid) + "/stat");
  std::string line;
  std::getline(stat, line);
  // "pid (name) S …": the name may hold anything.
  const std::size_t end = line.rfind(')');
  if (end == std::string::npos || end + 2 >= line.size()) return false;
  return line[end + 2] == 'T' || line[end + 2] == 't';
}

session::GroupReason explain(const session::GroupInfo& info, const Group& group, Logs& logs, const Now& now) {
  session::GroupReason reason;
  const std::string name = "group " + info.config.name;
  std::uint64_t lag = 0;
  std::uint64_t retrying = 0;
  std::uint64_t in_flight = 0;
  const session::GroupPartitionInfo* worst = nullptr;
  for (const session::GroupPartitionInfo& partition : info.partitions) {
    lag += partition.lag_messages;
    retrying += partition.retrying;
    in_flight += partition.in_flight;
    if (worst == nullptr || partition.lag_messages > worst->lag_messages) worst = &partition;
  }
  const auto say = [&](std::string cause, std::string sentence, std::string advice) {
    reason.cause = std::move(cause);
    reason.sentence = std::move(sentence);
    reason.advice = std::move(advice);
    return reason;
  };
  if (info.partitions.empty())
    return say("not_subscribed", name + " has subscribed to nothing that is there.",
               "Start a consumer: sluice consume TOPIC --group " + info.config.name);
  // A message that fails again and again is told also where nothing else is behind.
  const session::GroupPartitionInfo* poisoned = nullptr;
  core::PartitionView poison;
  for (const session::GroupPartitionInfo& partition : info.partitions) {
    const core::PartitionView view = group.machine().view({partition.topic_id, partition.partition});
    if (view.worst_failed <= poison.worst_failed) continue;
    poison = view;
    poisoned = &partition;
  }
  if (lag == 0 && in_flight == 0) {
    reason.well = true;
    return say("caught_up", name + " has settled everything that is there.", "Nothing to do.");
  }
  if (info.paused)
    return say("paused", name + " is paused, with " + messages_text(lag) + " behind.",
               "sluice group resume " + info.config.name);
  if (info.members.empty())
    return say("no_members", name + " has no members, and " + messages_text(lag) + " wait.",
               "Start a consumer of the group.");
  for (const session::MemberInfo& member : info.members) {
    if (!is_stopped(member.pid)) continue;
    return say("member_stopped",
               member_text(member) + " of " + name + " is stopped (SIGSTOP or a debugger) with " +
                   messages_text(member.in_flight) + " in hand.",
               "kill -CONT " + std::to_string(member.pid) + ", or end it: its partitions go to others.");
  }
  if (poisoned != nullptr && poison.worst_failed >= 2)
    return say("poison_message",
               "The message " + place_text(*poisoned) + "@" + std::to_string(poison.worst.value) + " of " + name +
                   " has failed " + std::to_string(poison.worst_failed) + " times of " +
                   std::to_string(info.config.max_attempts) + ".",
               "Look at it: sluice msg show " + place_text(*poisoned) + "@" + std::to_string(poison.worst.value) +
                   "; it is parked after max_attempts.");
  for (const session::MemberInfo& member : info.members) {
    if (member.in_flight == 0 || member.idle_ns < info.config.member_timeout_ns / 2) continue;
    return say("member_hung",
               member_text(member) + " of " + name + " has " + messages_text(member.in_flight) +
                   " in hand and has not called for " + duration_text(member.idle_ns) + ".",
               "Look at what it does; after member_timeout (" + duration_text(info.config.member_timeout_ns) +
                   ") its partitions go to others.");
  }
  for (const session::MemberInfo& member : info.members) {
    if (in_application(group, member) < member.in_flight_max) continue;
    return say("in_flight_limit",
               member_text(member) + " of " + name + " is at its limit of " + std::to_string(member.in_flight_max) +
                   " messages in hand, none of which it has settled.",
               "Ack what is done, or raise in_flight_max.");
  }
  for (const session::GroupPartitionInfo& partition : info.partitions) {
    if (partition.lag_messages == 0) continue;
    const auto claim = logs.open_claim(partition.topic_id, partition.partition);
    if (!claim) continue;
    return say("open_claim",
               "A producer (pid " + std::to_string(*claim) + ") is inside a claim in " + place_text(partition) +
                   ": what stands behind it waits.",
               "It is aborted at the topic's claim deadline; sluice session list names its process.");
  }
  if (info.config.mode == core::GroupMode::ordered) {
    for (const session::GroupPartitionInfo& partition : info.partitions) {
      if (partition.lag_messages == 0 || partition.member != 0) continue;
      return say("not_subscribed",
                 "Nobody of " + name + " has subscribed to " + partition.topic + ", where " +
                     messages_text(partition.lag_messages) + " wait.",
                 "Start a consumer of it, or drop it: sluice group seek " + info.config.name + " --topic " +
                     partition.topic + " --to latest --execute");
    }
  }
  for (const session::GroupPartitionInfo& partition : info.partitions) {
    const core::PartitionView view = group.machine().view({partition.topic_id, partition.partition});
    if (view.oldest_in_hand_since_ns == 0 || now.ns - view.oldest_in_hand_since_ns < info.config.ack_timeout_ns / 4)
      continue;
    const auto member = std::find_if(info.members.begin(), info.members.end(),
                                     [&](const session::MemberInfo& m) { return m.member == view.oldest_in_hand_by; });
    return say("member_slow",
               (member == info.members.end() ? std::string("A member") : member_text(*member)) + " of " + name +
                   " has had the oldest message of " + place_text(partition) + " in hand for " +
                   duration_text(now.ns - view.oldest_in_hand_since_ns) + ".",
               "Look at its handler; after ack_timeout (" + duration_text(info.config.ack_timeout_ns) +
                   ") the message comes again.");
  }
  double produced = 0;
  double consumed = 0;
  for (const session::GroupPartitionInfo& partition : info.partitions) {
    produced += partition.produced_per_s;
    consumed += partition.consumed_per_s;
  }
  if (retrying != 0 && lag == retrying)
    return say("retrying", messages_text(retrying) + " of " + name + " wait for another delivery.",
               "They come again as the group's backoff says.");
  const std::string rates = rate_text(produced) + " messages a second come in, " + rate_text(consumed) + " are settled";
  if (lag != 0 && produced > 0 && produced >= consumed)
    return say("producers_faster", name + " is " + messages_text(lag) + " behind and falls back: " + rates + ".",
               "Add members (up to one for each partition), or make the handler quicker.");
  reason.well = true;
  if (lag == in_flight)
    return say("at_work", name + " has " + messages_text(in_flight) + " in hand, and nothing waits.", "Nothing to do.");
  return say("catching_up", name + " is " + messages_text(lag) + " behind and catches up: " + rates + ".",
             "Nothing to do.");
}

}  // namespace sluice::delivery
