#include "tests/daemon/control/fake_groups.h"

#include <sys/eventfd.h>

#include <utility>

#include "shm/layout/member_region.h"
#include "shm/region/memfd.h"

namespace sluice::test {
namespace {

core::GroupConfig config() {
  core::GroupConfig result;
  result.name = "billing";
  result.mode = core::GroupMode::shared;
  result.ack_timeout_ns = 11'000'000;
  result.member_timeout_ns = 12'000'000;
  result.max_attempts = 13;
  result.backoff = {{14, 15}, 16, 17};
  result.strict = core::Strict::partition;
  result.hold = true;
  return result;
}

session::MemberInfo member() {
  session::MemberInfo result;
  result.member = FakeGroups::kMember;
  result.session = SessionId(21);
  result.pid = 22;
  result.client_name = "worker";
  result.partitions = 23;
  result.in_flight = 24;
  result.in_flight_max = 25;
  result.idle_ns = 26;
  result.hung = true;
  return result;
}

session::GroupPartitionInfo partition() {
  session::GroupPartitionInfo result;
  result.topic = "orders";
  result.topic_id = TopicId(31);
  result.partition = 32;
  result.member = 33;
  result.cursor = Position(34);
  result.end = Position(35);
  result.lag_messages = 36;
  result.lag_bytes = 37;
  result.oldest_age_ns = 38;
  result.ready = 39;
  result.in_flight = 40;
  result.retrying = 41;
  result.parked = 42;
  result.produced_per_s = 43.5;
  result.consumed_per_s = 44.5;
  result.catch_up_ns = 45;
  return result;
}

}  // namespace

Status FakeGroups::known(const std::string& name) {
  if (name == "billing") return {};
  return fail(ErrorCode::not_found, "there is no group " + name);
}

Status FakeGroups::known(std::uint64_t member) {
  if (member == kMember) return {};
  return fail(ErrorCode::not_found, "there is no member " + std::to_string(member));
}

session::DeadLetter FakeGroups::letter() {
  session::DeadLetter result;
  result.id = 51;
  result.group = "billing";
  result.topic = "orders";
  result.partition = 52;
  result.position = Position(53);
  result.parked_at = Position(54);
  result.reason = "no such customer";
  result.delivered = 55;
  result.failed = 56;
  result.parked_ns = 57;
  result.state = "parked";
  return result;
}

Status FakeGroups::create_group(SessionId, core::GroupConfig given) {
  ++creates;
  const bool exists = created && created->name == given.name;
  created = std::move(given);
  if (exists) return fail(ErrorCode::exists, "creating group " + created->name + ": it exists");
  return {};
}

Status FakeGroups::alter_group(SessionId, const std::string& name, core::GroupChange change) {
  SLUICE_TRY(known(name));
  altered = std::move(change);
  return {};
}

Status FakeGroups::delete_group(SessionId, const std::string& name) {
  ++deletes;
  return known(name);
}

Status FakeGroups::pause_group(SessionId, const std::string& name, bool pause) {
  SLUICE_TRY(known(name));
  paused = pause;
  return {};
}

Result<std::vector<session::GroupInfo>> FakeGroups::describe_groups(SessionId, const std::string& name) {
  described = name;
  if (!name.empty()) SLUICE_TRY(known(name));
  session::GroupInfo info;
  info.config = config();
  info.paused = true;
  info.epoch = 18;
  info.subscriptions = {"orders", "bills.*"};
  info.members = {member()};
  info.partitions = {partition(), partition()};
  info.partitions[1].catch_up_ns = UINT64_MAX;
  if (!name.empty()) return std::vector{info};
  session::GroupInfo other;
  other.config.name = "audit";
  return std::vector{info, other};
}

Result<session::GroupReason> FakeGroups::explain_group(SessionId, const std::string& name) {
  SLUICE_TRY(known(name));
  return session::GroupReason{well, "catching_up", "It is catching up.", "Wait."};
}

Result<std::vector<session::SeekResult>> FakeGroups::seek_group(SessionId, session::SeekGroup request) {
  ++seeks;
  SLUICE_TRY(known(request.group));
  sought = std::move(request);
  return std::vector<session::SeekResult>{{"orders", 61, Position(62), Position(63), true}};
}

Result<session::SafeHorizon> FakeGroups::safe_horizon(SessionId, const std::string& group, const std::string& topic,
                                                      PartitionNumber partition) {
  SLUICE_TRY(known(group));
  if (topic != "orders") return fail(ErrorCode::not_found, "it has no cursor there");
  return session::SafeHorizon{TopicId(91), 92, Position(93 + partition), {Position(94), Position(95)}};
}

Result<std::vector<core::EpochStart>> FakeGroups::group_epochs(SessionId, const std::string& group, TopicId topic,
                                                               PartitionNumber partition) {
  SLUICE_TRY(known(group));
  return std::vector<core::EpochStart>{{Position(topic.value), partition}, {Position(96), 97}};
}

Result<session::MemberGrant> FakeGroups::join_group(SessionId, session::JoinGroup request) {
  ++joins;
  if (request.must_exist) SLUICE_TRY(known(request.group));
  joined = std::move(request);
  session::MemberGrant grant;
  grant.member = kMember;
  SLUICE_ASSIGN(grant.region, region::create_memfd("member", sizeof(layout::MemberRegion)));
  grant.readable = UniqueFd(::eventfd(7, EFD_CLOEXEC | EFD_NONBLOCK));
  grant.config = config();
  return grant;
}

Status FakeGroups::leave_group(SessionId, std::uint64_t given) {
  ++leaves;
  return known(given);
}

Result<std::vector<session::Assignment>> FakeGroups::assignments(SessionId, std::uint64_t given) {
  SLUICE_TRY(known(given));
  session::Assignment assignment;
  assignment.cell = 71;
  assignment.generation = 72;
  assignment.topic = "orders";
  assignment.topic_id = TopicId(73);
  assignment.partition = 74;
  assignment.start = Position(75);
  assignment.careful_until = Position(76);
  assignment.settled = {{Position(77), Position(78)}, {Position(79), Position(80)}};
  assignment.repeats = {{Position(81), 82, 83}};
  assignment.blocked_keys = {84, 85};
  assignment.blocked = true;
  assignment.seeks = 86;
  return std::vector{assignment};
}

Status FakeGroups::save_acks(SessionId, std::uint64_t given) {
  ++saves;
  return known(given);
}

Result<std::vector<session::DeadLetterCount>> FakeGroups::count_dead_letters(SessionId, const std::string& group) {
  if (!group.empty()) SLUICE_TRY(known(group));
  return std::vector<session::DeadLetterCount>{{"billing", 91, 92, 93}};
}

Result<std::vector<session::DeadLetter>> FakeGroups::list_dead_letters(SessionId, const std::string& group,
                                                                       std::uint64_t after, std::uint32_t count) {
  SLUICE_TRY(known(group));
  after_id = after;
  limit = count;
  return std::vector{letter()};
}

Result<std::vector<session::RedriveOutcome>> FakeGroups::redrive(SessionId, session::Redrive request) {
  ++redrives;
  SLUICE_TRY(known(request.group));
  redriven = std::move(request);
  return std::vector<session::RedriveOutcome>{{letter(), redrive_outcome}};
}

Result<std::uint64_t> FakeGroups::purge_dead_letters(SessionId, const std::string& group) {
  ++purges;
  SLUICE_TRY(known(group));
  return std::uint64_t{101};
}

}  // namespace sluice::test
