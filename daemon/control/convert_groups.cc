#include "daemon/control/convert_groups.h"

#include <utility>

#include "daemon/control/convert.h"
#include "shm/base/limits.h"

namespace sluice::control {
namespace {

static_assert(session::kByReference == protocol::BY_REFERENCE);

tl::unexpected<Error> too_many(std::string_view doing, std::size_t count, std::string_view what, std::size_t max) {
  return fail(ErrorCode::quota, std::string(doing) + ": " + std::to_string(count) + " " + std::string(what) +
                                    ", at most " + std::to_string(max) + " are possible");
}

// All zero: the default.
Result<core::Backoff> read_backoff(protocol::Backoff::Reader in) {
  core::Backoff backoff;
  if (in.getStepsNs().size() > kBackoffStepsMax)
    return too_many("reading a group's backoff", in.getStepsNs().size(), "delays", kBackoffStepsMax);
  for (const std::uint64_t step : in.getStepsNs()) backoff.steps_ns.push_back(step);
  if (in.getFirstNs() != 0 || in.getMaxNs() != 0) {
    backoff.first_ns = in.getFirstNs();
    backoff.max_ns = in.getMaxNs();
  }
  return backoff;
}

Result<core::GroupStart> read_start(protocol::GroupStart::Reader in) {
  using Kind = core::GroupStart::Kind;
  core::GroupStart start;
  switch (in.which()) {
    case protocol::GroupStart::LATEST: start.kind = Kind::latest; return start;
    case protocol::GroupStart::EARLIEST: start.kind = Kind::earliest; return start;
    case protocol::GroupStart::TIME_NS:
      start.kind = Kind::time;
      start.time_ns = in.getTimeNs();
      return start;
    case protocol::GroupStart::POSITION:
      start.kind = Kind::position;
      start.partition = in.getPartition();
      start.position = Position(in.getPosition());
      if (start.partition < kPartitionsPerTopicMax) return start;
      return fail(ErrorCode::not_found, "reading where a group is to start: partition " +
                                            std::to_string(start.partition) + " does not exist");
  }
  return fail(ErrorCode::invalid, "reading where a group is to start: place " +
                                      std::to_string(static_cast<unsigned>(in.which())) +
                                      " is not known to this daemon");
}

// What a member has in its hands: its own word, so that a wrong one harms its own group alone.
Status read_held(protocol::JoinGroup::Reader in, session::JoinGroup& request) {
  const auto partitions = in.getHeldPartitions();
  const auto messages = in.getHeldMessages();
  if (partitions.size() > kMemberCellsMax)
    return too_many("joining a group", partitions.size(), "partitions in hand", kMemberCellsMax);
  if (messages.size() > kDeliverySlotsMax)
    return too_many("joining a group", messages.size(), "messages in hand", kDeliverySlotsMax);
  for (const auto held : partitions) {
    request.held_partitions.push_back({TopicId(held.getTopicId()), held.getPartition(), Position(held.getAcked()),
                                       Position(held.getOldest()), Position(held.getNewest()), held.getSeeks()});
  }
  for (const auto held : messages) {
    request.held_messages.push_back({TopicId(held.getTopicId()), held.getPartition(), Position(held.getPosition()),
                                     held.getDelivered(), held.getFailed(), held.getStarted(), held.getSeeks()});
  }
  return {};
}

void write_group_config(protocol::GroupConfig::Builder out, const core::GroupConfig& config) {
  out.setName(config.name);
  out.setMode(static_cast<protocol::GroupMode>(config.mode));
  out.setAckTimeoutNs(config.ack_timeout_ns);
  out.setMemberTimeoutNs(config.member_timeout_ns);
  out.setMaxAttempts(config.max_attempts);
  auto backoff = out.initBackoff();
  auto steps = backoff.initStepsNs(static_cast<unsigned>(config.backoff.steps_ns.size()));
  for (unsigned i = 0; i < config.backoff.steps_ns.size(); ++i) steps.set(i, config.backoff.steps_ns[i]);
  backoff.setFirstNs(config.backoff.first_ns);
  backoff.setMaxNs(config.backoff.max_ns);
  out.setStrict(static_cast<protocol::Strict>(config.strict));
  out.setHold(config.hold);
}

void write_member(protocol::MemberInfo::Builder out, const session::MemberInfo& member) {
  out.setMemberId(member.member);
  out.setSessionId(member.session.value);
  out.setPid(member.pid);
  out.setClientName(member.client_name);
  out.setPartitions(member.partitions);
  out.setInFlight(member.in_flight);
  out.setInFlightMax(member.in_flight_max);
  out.setIdleNs(member.idle_ns);
  out.setHung(member.hung);
}

void write_group_partition(protocol::GroupPartitionInfo::Builder out, const session::GroupPartitionInfo& info) {
  out.setTopic(info.topic);
  out.setTopicId(info.topic_id.value);
  out.setPartition(info.partition);
  out.setMemberId(info.member);
  out.setCursor(info.cursor.value);
  out.setEnd(info.end.value);
  out.setLagMessages(info.lag_messages);
  out.setLagBytes(info.lag_bytes);
  out.setOldestAgeNs(info.oldest_age_ns);
  out.setReady(info.ready);
  out.setInFlight(info.in_flight);
  out.setRetrying(info.retrying);
  out.setParked(info.parked);
  out.setProducedPerS(info.produced_per_s);
  out.setConsumedPerS(info.consumed_per_s);
  out.setCatchUpNs(info.catch_up_ns);
  out.setSafeHorizon(info.safe_horizon.value);
}

}  // namespace

Result<std::string> read_group_name(capnp::Text::Reader name) {
  return read_text(name, kGroupNameSizeMax, "group name");
}

Result<GroupPlace> read_group_place(capnp::Text::Reader group, capnp::Text::Reader topic, PartitionNumber partition) {
  GroupPlace place;
  SLUICE_ASSIGN(place.group, read_group_name(group));
  SLUICE_ASSIGN(place.topic, read_text(topic, kTopicNameSizeMax, "topic name"));
  place.partition = partition;
  return place;
}

Result<core::GroupConfig> read_group_config(protocol::GroupConfig::Reader in) {
  core::GroupConfig config;
  SLUICE_ASSIGN(config.name, read_group_name(in.getName()));
  SLUICE_ASSIGN(config.mode, read_enum<core::GroupMode>(in.getMode(), 2, "group mode"));
  if (in.getAckTimeoutNs() != 0) config.ack_timeout_ns = in.getAckTimeoutNs();
  if (in.getMemberTimeoutNs() != 0) config.member_timeout_ns = in.getMemberTimeoutNs();
  if (in.getMaxAttempts() != 0) config.max_attempts = in.getMaxAttempts();
  SLUICE_ASSIGN(config.backoff, read_backoff(in.getBackoff()));
  SLUICE_ASSIGN(config.strict, read_enum<core::Strict>(in.getStrict(), 3, "strict order"));
  config.hold = in.getHold();
  return config;
}

Result<core::GroupChange> read_group_change(protocol::GroupChange::Reader in) {
  core::GroupChange change;
  if (in.getAckTimeoutNs() != 0) change.ack_timeout_ns = in.getAckTimeoutNs();
  if (in.getMemberTimeoutNs() != 0) change.member_timeout_ns = in.getMemberTimeoutNs();
  if (in.getMaxAttempts() != 0) change.max_attempts = in.getMaxAttempts();
  if (in.getSetBackoff()) {
    SLUICE_ASSIGN(change.backoff, read_backoff(in.getBackoff()));
  }
  if (in.getSetStrict()) {
    SLUICE_ASSIGN(change.strict, read_enum<core::Strict>(in.getStrict(), 3, "strict order"));
  }
  if (in.getSetHold()) change.hold = in.getHold();
  return change;
}

Result<session::JoinGroup> read_join(protocol::JoinGroup::Reader in) {
  session::JoinGroup request;
  SLUICE_ASSIGN(request.group, read_group_name(in.getGroup()));
  SLUICE_ASSIGN(request.mode, read_enum<core::GroupMode>(in.getMode(), 2, "group mode"));
  request.must_exist = in.getMustExist();
  if (in.getTopics().size() > kMemberPatternsMax)
    return too_many("joining group " + request.group, in.getTopics().size(), "topics and patterns", kMemberPatternsMax);
  for (const auto topic : in.getTopics()) {
    SLUICE_ASSIGN(std::string text, read_text(topic, kTopicNameSizeMax, "topic name or pattern"));
    request.topics.push_back(std::move(text));
  }
  SLUICE_ASSIGN(request.tag, read_text(in.getTag(), kTagSizeMax, "tag"));
  SLUICE_ASSIGN(request.start, read_start(in.getStart()));
  if (in.getInFlightMax() != 0) request.in_flight_max = in.getInFlightMax();
  if (request.in_flight_max > kDeliverySlotsMax)
    return fail(ErrorCode::invalid, "joining group " + request.group + ": " + std::to_string(request.in_flight_max) +
                                        " messages in flight, at most " + std::to_string(kDeliverySlotsMax) +
                                        " are possible");
  SLUICE_TRY(read_held(in, request));
  return request;
}

Result<session::SeekGroup> read_seek(protocol::SeekGroup::Reader in) {
  session::SeekGroup request;
  SLUICE_ASSIGN(request.group, read_group_name(in.getGroup()));
  SLUICE_ASSIGN(request.topic, read_text(in.getTopic(), kTopicNameSizeMax, "topic name"));
  SLUICE_ASSIGN(request.to, read_start(in.getTo()));
  request.execute = in.getExecute();
  request.force = in.getForce();
  return request;
}

Result<session::Redrive> read_redrive(protocol::Redrive::Reader in) {
  session::Redrive request;
  SLUICE_ASSIGN(request.group, read_group_name(in.getGroup()));
  if (in.getFilter().size() > kRedriveFiltersMax)
    return too_many("redriving dead letters of " + request.group, in.getFilter().size(), "filters", kRedriveFiltersMax);
  for (const auto filter : in.getFilter()) {
    SLUICE_ASSIGN(std::string key, read_text(filter.getKey(), kFilterKeySizeMax, "filter's name"));
    SLUICE_ASSIGN(std::string value, read_text(filter.getValue(), kFilterValueSizeMax, "filter's value"));
    request.filter.emplace_back(std::move(key), std::move(value));
  }
  request.rate = in.getRate();
  request.dry_run = in.getDryRun();
  return request;
}

void write_member_grant(protocol::JoinGroupResponse::Builder out, Connection& connection,
                        Result<session::MemberGrant> answer) {
  if (answer) {
    if (const Status quota = DescriptorServer::check_quota(connection, 2); !quota) answer = fail(quota.error());
  }
  if (!answer) return write_failure(out.initFailure(), answer.error());
  auto grant = out.initGrant();
  grant.setMemberId(answer->member);
  grant.setRegion(kj::heap<DescriptorServer>(connection, std::move(answer->region)));
  grant.setReadable(kj::heap<DescriptorServer>(connection, std::move(answer->readable)));
  write_group_config(grant.initConfig(), answer->config);
}

void write_group(protocol::GroupInfo::Builder out, const session::GroupInfo& info) {
  write_group_config(out.initConfig(), info.config);
  out.setPaused(info.paused);
  out.setEpoch(info.epoch);
  auto subscriptions = out.initSubscriptions(static_cast<unsigned>(info.subscriptions.size()));
  for (unsigned i = 0; i < info.subscriptions.size(); ++i) subscriptions.set(i, info.subscriptions[i]);
  auto members = out.initMembers(static_cast<unsigned>(info.members.size()));
  for (unsigned i = 0; i < info.members.size(); ++i) write_member(members[i], info.members[i]);
  auto partitions = out.initPartitions(static_cast<unsigned>(info.partitions.size()));
  for (unsigned i = 0; i < info.partitions.size(); ++i) write_group_partition(partitions[i], info.partitions[i]);
}

void write_reason(protocol::GroupReason::Builder out, const session::GroupReason& reason) {
  out.setWell(reason.well);
  out.setCause(reason.cause);
  out.setSentence(reason.sentence);
  out.setAdvice(reason.advice);
}

void write_seek_result(protocol::SeekResult::Builder out, const session::SeekResult& move) {
  out.setTopic(move.topic);
  out.setPartition(move.partition);
  out.setFrom(move.from.value);
  out.setTo(move.to.value);
  out.setBelowHorizon(move.below_horizon);
}

void write_horizon(protocol::SafeHorizon::Builder out, const session::SafeHorizon& horizon) {
  out.setTopicId(horizon.topic.value);
  out.setEpoch(horizon.epoch);
  out.setBelow(horizon.below.value);
  auto parked = out.initParked(static_cast<unsigned>(horizon.parked.size()));
  for (unsigned i = 0; i < horizon.parked.size(); ++i) parked.set(i, horizon.parked[i].value);
}

void write_epoch(protocol::EpochStart::Builder out, const core::EpochStart& start) {
  out.setFrom(start.from.value);
  out.setEpoch(start.epoch);
}

void write_assignment(protocol::Assignment::Builder out, const session::Assignment& assignment) {
  out.setCell(assignment.cell);
  out.setGeneration(assignment.generation);
  out.setTopic(assignment.topic);
  out.setTopicId(assignment.topic_id.value);
  out.setPartition(assignment.partition);
  out.setStart(assignment.start.value);
  out.setCarefulUntil(assignment.careful_until.value);
  auto settled = out.initSettled(static_cast<unsigned>(assignment.settled.size()));
  for (unsigned i = 0; i < assignment.settled.size(); ++i) {
    settled[i].setBegin(assignment.settled[i].begin.value);
    settled[i].setEnd(assignment.settled[i].end.value);
  }
  auto repeats = out.initRepeats(static_cast<unsigned>(assignment.repeats.size()));
  for (unsigned i = 0; i < assignment.repeats.size(); ++i) {
    repeats[i].setPosition(assignment.repeats[i].position.value);
    repeats[i].setDelivered(assignment.repeats[i].delivered);
    repeats[i].setFailed(assignment.repeats[i].failed);
  }
  auto keys = out.initBlockedKeys(static_cast<unsigned>(assignment.blocked_keys.size()));
  for (unsigned i = 0; i < assignment.blocked_keys.size(); ++i) keys.set(i, assignment.blocked_keys[i]);
  out.setBlocked(assignment.blocked);
  out.setSeeks(assignment.seeks);
  auto handed_out = out.initHandedOut(static_cast<unsigned>(assignment.handed_out.size()));
  for (unsigned i = 0; i < assignment.handed_out.size(); ++i) handed_out.set(i, assignment.handed_out[i].value);
}

void write_letter(protocol::DeadLetter::Builder out, const session::DeadLetter& letter) {
  out.setId(letter.id);
  out.setGroup(letter.group);
  out.setTopic(letter.topic);
  out.setPartition(letter.partition);
  out.setPosition(letter.position.value);
  out.setParkedAt(letter.parked_at.value);
  out.setReason(letter.reason);
  out.setDelivered(letter.delivered);
  out.setFailed(letter.failed);
  out.setParkedNs(letter.parked_ns);
  out.setState(letter.state);
}

void write_letter_count(protocol::DeadLetterCount::Builder out, const session::DeadLetterCount& count) {
  out.setGroup(count.group);
  out.setParked(count.parked);
  out.setRedriven(count.redriven);
  out.setPurged(count.purged);
}

void write_redrive_outcome(protocol::RedriveOutcome::Builder out, const session::RedriveOutcome& outcome) {
  write_letter(out.initLetter(), outcome.letter);
  out.setOutcome(outcome.outcome);
}

}  // namespace sluice::control
