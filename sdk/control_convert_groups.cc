#include "sdk/control_convert_groups.h"

#include <algorithm>

#include "sdk/control_convert.h"

namespace sluice::internal {
namespace {

// 0 on the wire means the default: what was given and is not above 0 is sent as 1 ns, which the daemon refuses by name.
std::uint64_t given(Duration duration) { return std::max<std::uint64_t>(count_of(duration), 1); }

void write_backoff(protocol::Backoff::Builder out, const Backoff& backoff) {
  auto steps = out.initStepsNs(static_cast<unsigned>(backoff.steps.size()));
  for (unsigned i = 0; i < backoff.steps.size(); ++i) steps.set(i, count_of(backoff.steps[i]));
  out.setFirstNs(count_of(backoff.first));
  out.setMaxNs(given(backoff.max));
}

Backoff read_backoff(protocol::Backoff::Reader in) {
  Backoff backoff;
  for (const std::uint64_t step : in.getStepsNs()) backoff.steps.push_back(duration_of(step));
  backoff.first = duration_of(in.getFirstNs());
  backoff.max = duration_of(in.getMaxNs());
  return backoff;
}

MemberInfo read_member(protocol::MemberInfo::Reader in) {
  MemberInfo member;
  member.member = in.getMemberId();
  member.session = in.getSessionId();
  member.pid = in.getPid();
  member.client_name = copy(in.getClientName());
  member.partitions = in.getPartitions();
  member.in_flight = in.getInFlight();
  member.in_flight_max = in.getInFlightMax();
  member.idle = duration_of(in.getIdleNs());
  member.hung = in.getHung();
  return member;
}

GroupPartitionInfo read_group_partition(protocol::GroupPartitionInfo::Reader in) {
  GroupPartitionInfo info;
  info.topic = copy(in.getTopic());
  info.topic_id = TopicId(in.getTopicId());
  info.partition = in.getPartition();
  info.member = in.getMemberId();
  info.cursor = Position(in.getCursor());
  info.end = Position(in.getEnd());
  info.lag_messages = in.getLagMessages();
  info.lag_bytes = in.getLagBytes();
  info.oldest_age = duration_of(in.getOldestAgeNs());
  info.ready = in.getReady();
  info.in_flight = in.getInFlight();
  info.retrying = in.getRetrying();
  info.parked = in.getParked();
  info.produced_per_s = in.getProducedPerS();
  info.consumed_per_s = in.getConsumedPerS();
  info.safe_horizon = Position(in.getSafeHorizon());
  if (in.getCatchUpNs() != UINT64_MAX) info.catch_up = duration_of(in.getCatchUpNs());
  return info;
}

DeadLetter read_letter(protocol::DeadLetter::Reader in) {
  DeadLetter letter;
  letter.id = in.getId();
  letter.group = copy(in.getGroup());
  letter.topic = copy(in.getTopic());
  letter.partition = in.getPartition();
  letter.position = Position(in.getPosition());
  letter.parked_at = Position(in.getParkedAt());
  letter.reason = copy(in.getReason());
  letter.delivered = in.getDelivered();
  letter.failed = in.getFailed();
  letter.parked_ns = in.getParkedNs();
  letter.state = copy(in.getState());
  return letter;
}

}  // namespace

void write_group_config(protocol::GroupConfig::Builder out, const GroupConfig& config) {
  out.setName(config.name);
  out.setMode(static_cast<protocol::GroupMode>(config.mode));
  if (config.ack_timeout) out.setAckTimeoutNs(given(*config.ack_timeout));
  if (config.member_timeout) out.setMemberTimeoutNs(given(*config.member_timeout));
  if (config.max_attempts) out.setMaxAttempts(*config.max_attempts);
  if (config.backoff) write_backoff(out.initBackoff(), *config.backoff);
  out.setStrict(static_cast<protocol::Strict>(config.strict));
  out.setHold(config.hold);
}

void write_group_change(protocol::GroupChange::Builder out, const GroupChange& change) {
  if (change.ack_timeout) out.setAckTimeoutNs(given(*change.ack_timeout));
  if (change.member_timeout) out.setMemberTimeoutNs(given(*change.member_timeout));
  if (change.max_attempts) out.setMaxAttempts(*change.max_attempts);
  if (change.backoff) {
    out.setSetBackoff(true);
    write_backoff(out.initBackoff(), *change.backoff);
  }
  if (change.strict) {
    out.setSetStrict(true);
    out.setStrict(static_cast<protocol::Strict>(*change.strict));
  }
  if (change.hold) {
    out.setSetHold(true);
    out.setHold(*change.hold);
  }
}

void write_start(protocol::GroupStart::Builder out, const From& from) {
  switch (from.kind) {
    case From::Kind::latest: return out.setLatest();
    case From::Kind::earliest: return out.setEarliest();
    case From::Kind::time: return out.setTimeNs(from.time_ns);
    case From::Kind::position:
      out.setPosition(from.at.value);
      out.setPartition(from.partition);
      return;
  }
}

void write_join(protocol::JoinGroup::Builder out, const JoinGroup& request) {
  out.setGroup(request.group);
  out.setMode(static_cast<protocol::GroupMode>(request.mode));
  out.setMustExist(request.must_exist);
  auto topics = out.initTopics(static_cast<unsigned>(request.topics.size()));
  for (unsigned i = 0; i < request.topics.size(); ++i) topics.set(i, request.topics[i]);
  out.setTag(request.tag);
  write_start(out.initStart(), request.from);
  out.setInFlightMax(request.in_flight_max);
  auto partitions = out.initHeldPartitions(static_cast<unsigned>(request.held_partitions.size()));
  for (unsigned i = 0; i < request.held_partitions.size(); ++i) {
    const HeldPartition& held = request.held_partitions[i];
    partitions[i].setTopicId(held.topic.value);
    partitions[i].setPartition(held.partition);
    partitions[i].setAcked(held.acked.value);
    partitions[i].setOldest(held.oldest.value);
    partitions[i].setNewest(held.newest.value);
    partitions[i].setSeeks(held.seeks);
  }
  auto messages = out.initHeldMessages(static_cast<unsigned>(request.held_messages.size()));
  for (unsigned i = 0; i < request.held_messages.size(); ++i) {
    const HeldMessage& held = request.held_messages[i];
    messages[i].setTopicId(held.topic.value);
    messages[i].setPartition(held.partition);
    messages[i].setPosition(held.position.value);
    messages[i].setDelivered(held.delivered);
    messages[i].setFailed(held.failed);
    messages[i].setStarted(held.started);
    messages[i].setSeeks(held.seeks);
  }
}

void write_redrive(protocol::Redrive::Builder out, const RedriveOptions& options) {
  auto filter = out.initFilter(static_cast<unsigned>(options.filter.size()));
  for (unsigned i = 0; i < options.filter.size(); ++i) {
    filter[i].setKey(options.filter[i].first);
    filter[i].setValue(options.filter[i].second);
  }
  out.setRate(options.rate);
  out.setDryRun(options.dry_run);
}

GroupConfig read_group_config(protocol::GroupConfig::Reader in) {
  GroupConfig config;
  config.name = copy(in.getName());
  config.mode = static_cast<GroupMode>(in.getMode());
  config.ack_timeout = duration_of(in.getAckTimeoutNs());
  config.member_timeout = duration_of(in.getMemberTimeoutNs());
  config.max_attempts = in.getMaxAttempts();
  config.backoff = read_backoff(in.getBackoff());
  config.strict = static_cast<Strict>(in.getStrict());
  config.hold = in.getHold();
  return config;
}

GroupInfo read_group(protocol::GroupInfo::Reader in) {
  GroupInfo info;
  info.config = read_group_config(in.getConfig());
  info.paused = in.getPaused();
  info.epoch = in.getEpoch();
  for (const auto subscription : in.getSubscriptions()) info.subscriptions.push_back(copy(subscription));
  for (const auto member : in.getMembers()) info.members.push_back(read_member(member));
  for (const auto partition : in.getPartitions()) info.partitions.push_back(read_group_partition(partition));
  return info;
}

GroupReason read_reason(protocol::GroupReason::Reader in) {
  return {in.getWell(), copy(in.getCause()), copy(in.getSentence()), copy(in.getAdvice())};
}

std::vector<SeekMove> read_moves(capnp::List<protocol::SeekResult>::Reader in) {
  std::vector<SeekMove> moves;
  for (const auto move : in)
    moves.push_back({copy(move.getTopic()), move.getPartition(), Position(move.getFrom()), Position(move.getTo()),
                     move.getBelowHorizon()});
  return moves;
}

SafeHorizon read_horizon(protocol::SafeHorizon::Reader in) {
  SafeHorizon horizon;
  horizon.topic = TopicId(in.getTopicId());
  horizon.epoch = in.getEpoch();
  horizon.below = Position(in.getBelow());
  for (const auto position : in.getParked()) horizon.parked.emplace_back(position);
  return horizon;
}

std::vector<EpochStart> read_epochs(capnp::List<protocol::EpochStart>::Reader in) {
  std::vector<EpochStart> epochs;
  for (const auto start : in) epochs.push_back({Position(start.getFrom()), start.getEpoch()});
  return epochs;
}

std::vector<Assignment> read_assignments(capnp::List<protocol::Assignment>::Reader in) {
  std::vector<Assignment> assignments;
  for (const auto entry : in) {
    Assignment assignment;
    assignment.cell = entry.getCell();
    assignment.generation = entry.getGeneration();
    assignment.topic = copy(entry.getTopic());
    assignment.topic_id = TopicId(entry.getTopicId());
    assignment.partition = entry.getPartition();
    assignment.start = Position(entry.getStart());
    assignment.careful_until = Position(entry.getCarefulUntil());
    for (const auto range : entry.getSettled())
      assignment.settled.push_back({Position(range.getBegin()), Position(range.getEnd())});
    for (const auto repeat : entry.getRepeats())
      assignment.repeats.push_back({Position(repeat.getPosition()), repeat.getDelivered(), repeat.getFailed()});
    for (const auto hash : entry.getBlockedKeys()) assignment.blocked_keys.push_back(hash);
    assignment.blocked = entry.getBlocked();
    assignment.seeks = entry.getSeeks();
    for (const auto end : entry.getHandedOut()) assignment.handed_out.emplace_back(end);
    assignments.push_back(std::move(assignment));
  }
  return assignments;
}

std::vector<DeadLetterCount> read_letter_counts(capnp::List<protocol::DeadLetterCount>::Reader in) {
  std::vector<DeadLetterCount> counts;
  for (const auto count : in)
    counts.push_back({copy(count.getGroup()), count.getParked(), count.getRedriven(), count.getPurged()});
  return counts;
}

std::vector<DeadLetter> read_letters(capnp::List<protocol::DeadLetter>::Reader in) {
  std::vector<DeadLetter> letters;
  for (const auto letter : in) letters.push_back(read_letter(letter));
  return letters;
}

std::vector<RedriveOutcome> read_outcomes(capnp::List<protocol::RedriveOutcome>::Reader in) {
  std::vector<RedriveOutcome> outcomes;
  for (const auto outcome : in) outcomes.push_back({read_letter(outcome.getLetter()), copy(outcome.getOutcome())});
  return outcomes;
}

}  // namespace sluice::internal
