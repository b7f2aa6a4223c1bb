// Delivery: control calls that change something.

#include <algorithm>
#include <charconv>
#include <utility>

#include <spdlog/spdlog.h>

#include "daemon/delivery/delivery.h"
#include "shm/base/clock.h"

namespace sluice::delivery {
namespace {

constexpr std::uint32_t kRedrivenMax = 100'000;  // of one call

Now now_() { return {monotonic_ns(), realtime_ns()}; }

tl::unexpected<Error> no_group(const std::string& name) {
  return fail(ErrorCode::not_found, "no group is named \"" + name + "\"; `sluice group list` shows those there are");
}

std::string tag_text(const std::string& tag) { return tag.empty() ? "all tags" : "the tag \"" + tag + "\""; }

bool holds(const store::DeadLetterRecord& letter, const std::string& key, const std::string& value) {
  if (key == "topic") return letter.origin_topic == value;
  if (key == "partition") return std::to_string(letter.origin.partition) == value;
  if (key == "position") return std::to_string(letter.position.value) == value;
  if (key == "id") return std::to_string(letter.id) == value;
  return letter.reason.find(value) != std::string::npos;
}

Status check_filter(const std::vector<std::pair<std::string, std::string>>& filter) {
  for (const auto& [key, value] : filter) {
    if (key == "topic" || key == "partition" || key == "position" || key == "id" || key == "reason") continue;
    return fail(ErrorCode::invalid, "redriving dead letters: no filter is named \"" + key +
                                        "\"; there are topic, partition, position, id and reason");
  }
  return {};
}

}  // namespace

Result<Group*> Delivery::find(const std::string& name) const {
  const auto found = groups_.find(name);
  if (found == groups_.end()) return no_group(name);
  return found->second.get();
}

Result<Group*> Delivery::group_of(SessionId session, std::uint64_t member) const {
  const auto found = members_.find(member);
  if (found == members_.end() || found->second.session != session)
    return fail(ErrorCode::not_found, "member " + std::to_string(member) + " is none of this session; join again");
  return found->second.group;
}

Result<Group*> Delivery::make_group(core::GroupConfig config) {
  SLUICE_TRY(core::check(config));
  if (groups_.size() >= kGroupsMax)
    return fail(ErrorCode::quota,
                "creating group " + config.name + ": the limit is " + std::to_string(kGroupsMax) + " groups");
  store::GroupRecord record;
  record.config = std::move(config);
  SLUICE_ASSIGN(record.id, store_.create_group(record));
  const std::string name = record.config.name;
  const std::uint64_t seed = seed_ ^ record.id;
  Group* group = (groups_[name] = std::make_unique<Group>(std::move(record), logs_, seed)).get();
  spdlog::info("group created group={}", name);
  return group;
}

Status Delivery::create_group(SessionId session, core::GroupConfig config) {
  SLUICE_TRY(sessions_.live(session));
  if (groups_.count(config.name) != 0)
    return fail(ErrorCode::exists, "creating group " + config.name + ": it exists already");
  SLUICE_TRY(make_group(std::move(config)));
  return {};
}

Status Delivery::alter_group(SessionId session, const std::string& name, core::GroupChange change) {
  SLUICE_ASSIGN(session::Session * caller, sessions_.live(session));
  SLUICE_TRY(sessions_.require_operator(*caller, "altering group " + name));
  SLUICE_ASSIGN(Group * group, find(name));
  store::GroupRecord record = group->record();
  SLUICE_ASSIGN(record.config, core::apply(record.config, change));
  SLUICE_TRY(store_.update_group(record));
  group->set_record(std::move(record));
  return {};
}

Status Delivery::delete_group(SessionId session, const std::string& name) {
  SLUICE_ASSIGN(session::Session * caller, sessions_.live(session));
  SLUICE_TRY(sessions_.require_operator(*caller, "deleting group " + name));
  SLUICE_ASSIGN(Group * group, find(name));
  SLUICE_TRY(store_.delete_group(group->record().id));
  std::vector<core::MemberId> members;
  for (const auto& [id, member] : group->members()) members.push_back(id);
  const Now now = now_();
  for (const core::MemberId id : members) {
    group->leave(id, core::Ending::left, now);
    members_.erase(id);
  }
  letters_.forget(group->record().id);
  rates_.forget(group->record().id);
  groups_.erase(name);
  spdlog::info("group deleted group={}", name);
  return {};
}

Status Delivery::pause_group(SessionId session, const std::string& name, bool pause) {
  SLUICE_ASSIGN(session::Session * caller, sessions_.live(session));
  SLUICE_TRY(sessions_.require_operator(*caller, (pause ? "pausing group " : "resuming group ") + name));
  SLUICE_ASSIGN(Group * group, find(name));
  store::GroupRecord record = group->record();
  record.paused = pause;
  SLUICE_TRY(store_.update_group(record));
  group->set_record(std::move(record));
  const Now now = now_();
  group->machine().pause(pause, now.ns);
  group->do_work(now);
  return {};
}

// ---- members

Status Delivery::may_consume(const session::Session& session, const Group& group) const {
  for (const core::Place& place : group.machine().places()) SLUICE_TRY(logs_.may_consume(session.peer(), place.topic));
  return {};
}

Status Delivery::check_join(const session::JoinGroup& request) const {
  const std::string doing = "joining group " + request.group;
  if (request.topics.empty()) return fail(ErrorCode::invalid, doing + ": no topic is named");
  for (const std::string& pattern : request.topics) {
    SLUICE_TRY(core::check_pattern(pattern));
    if (core::dead_letter_group(pattern) == request.group)
      return fail(ErrorCode::invalid, doing + ": its own dead letters come back with `sluice dlq redrive` alone");
    if (core::is_pattern(pattern)) continue;
    const std::vector<TopicView> topics = logs_.topics();
    if (std::none_of(topics.begin(), topics.end(), [&](const TopicView& topic) { return topic.name == pattern; }))
      return fail(ErrorCode::not_found,
                  doing + ": no topic is named \"" + pattern + "\"; `sluice topic list` shows those there are");
  }
  if (request.in_flight_max == 0 || request.in_flight_max > kDeliverySlotsMax)
    return fail(ErrorCode::invalid,
                doing + ": in_flight_max must be between 1 and " + std::to_string(kDeliverySlotsMax));
  return {};
}

Result<session::MemberGrant> Delivery::join_group(SessionId session, session::JoinGroup request) {
  SLUICE_ASSIGN(session::Session * caller, sessions_.live(session));
  SLUICE_TRY(check_join(request));
  const std::string doing = "joining group " + request.group;
  for (const TopicView& topic : logs_.topics())
    for (const std::string& pattern : request.topics)
      if (core::matches(pattern, topic.name)) SLUICE_TRY(logs_.may_consume(caller->peer(), topic.id));
  if (members_.size() >= kMembersMax)
    return fail(ErrorCode::quota,
                doing + ": the daemon's limit of " + std::to_string(kMembersMax) + " members is reached");
  if (request.must_exist && groups_.count(request.group) == 0) return no_group(request.group);
  if (groups_.count(request.group) == 0) {
    core::GroupConfig config;
    config.name = request.group;
    config.mode = request.mode;
    SLUICE_TRY(make_group(std::move(config)));
  }
  SLUICE_ASSIGN(Group * group, find(request.group));
  store::GroupRecord record = group->record();
  if (group->members().size() >= kGroupMembersMax)
    return fail(ErrorCode::quota, doing + ": the limit is " + std::to_string(kGroupMembersMax) + " members");
  if (!record.subscriptions.empty() && record.tag != request.tag)
    return fail(ErrorCode::conflict, doing + ": the group asks for " + tag_text(record.tag) + ", not for " +
                                         tag_text(request.tag) + "; all members of a group ask for the same");
  SLUICE_ASSIGN(std::unique_ptr<Member> region, Member::create(next_member_, session, incarnation_));
  session::MemberGrant grant;
  grant.member = next_member_;
  SLUICE_ASSIGN(grant.region, region->hand_out_region());
  SLUICE_ASSIGN(grant.readable, region->hand_out_readable());

  const Now now = now_();
  record.tag = request.tag;
  for (const std::string& pattern : request.topics)
    if (std::find(record.subscriptions.begin(), record.subscriptions.end(), pattern) == record.subscriptions.end())
      record.subscriptions.push_back(pattern);
  if (record.subscriptions.size() > kGroupPatternsMax)
    return fail(ErrorCode::quota,
                doing + ": a group has at most " + std::to_string(kGroupPatternsMax) + " subscriptions");
  record.members = static_cast<std::uint32_t>(group->members().size() + 1);
  SLUICE_TRY(group->subscribe(request.topics, request.start, now));
  SLUICE_TRY(store_.update_group(record));
  group->set_record(std::move(record));
  SLUICE_TRY(save(now));

  core::MemberJoin join;
  join.topics = group->topics_of(request.topics);
  join.in_flight_max = request.in_flight_max;
  // What it says of a time before a seek is not so any more.
  for (const session::HeldPartition& held : request.held_partitions)
    if (const core::Place place{held.topic, held.partition}; held.seeks == group->mark(place).seeks)
      join.held_partitions.push_back({place, {held.acked, held.oldest, held.newest, 0, 0, 0}});
  for (const session::HeldMessage& held : request.held_messages)
    if (const core::Place place{held.topic, held.partition}; held.seeks == group->mark(place).seeks)
      join.held_messages.push_back({place, held.position, {held.delivered, held.failed}});
  members_[next_member_] = {session, group};
  ++next_member_;
  group->join(std::move(region), std::move(request.topics), caller->client_name(), caller->peer().pid, std::move(join),
              now);
  grant.config = group->record().config;
  spdlog::debug("member joined group={} member={}", request.group, grant.member);
  return grant;
}

Status Delivery::leave_group(SessionId session, std::uint64_t member) {
  SLUICE_TRY(sessions_.live(session));
  SLUICE_ASSIGN(Group * group, group_of(session, member));
  const Now now = now_();
  group->leave(member, core::Ending::left, now);
  members_.erase(member);
  group->count_members();
  return save(now);
}

Result<std::vector<session::Assignment>> Delivery::assignments(SessionId session, std::uint64_t member) {
  SLUICE_TRY(sessions_.live(session));
  SLUICE_ASSIGN(Group * group, group_of(session, member));
  if (group->awaits_save(member)) {
    if (Status saved = save(now_()); !saved)
      spdlog::error("a member is told later of its partitions: ack state is not saved group={} member={} reason={}",
                    group->name(), member, saved.error().message());
  }
  return group->assignments(member);
}

Status Delivery::save_acks(SessionId session, std::uint64_t member) {
  SLUICE_TRY(sessions_.live(session));
  SLUICE_ASSIGN(Group * group, group_of(session, member));
  const Now now = now_();
  group->hear(member, now);
  return save(now);
}

// ---- dead letters

Result<std::vector<session::DeadLetterCount>> Delivery::count_dead_letters(SessionId session, const std::string& name) {
  SLUICE_TRY(sessions_.live(session));
  if (!name.empty()) SLUICE_TRY(find(name));
  std::vector<session::DeadLetterCount> counts;
  for (const auto& [group_name, group] : groups_) {
    if (!name.empty() && group_name != name) continue;
    SLUICE_ASSIGN(const store::DeadLetterCounts count, store_.count_dead_letters(group->record().id));
    counts.push_back({group_name, count.parked, count.redriven, count.purged});
  }
  return counts;
}

Result<std::vector<session::DeadLetter>> Delivery::list_dead_letters(SessionId session, const std::string& name,
                                                                     std::uint64_t after_id, std::uint32_t limit) {
  SLUICE_TRY(sessions_.live(session));
  SLUICE_ASSIGN(Group * group, find(name));
  SLUICE_ASSIGN(const std::vector<store::DeadLetterRecord> records,
                store_.dead_letters(group->record().id, after_id, limit));
  std::vector<session::DeadLetter> letters;
  letters.reserve(records.size());
  for (const store::DeadLetterRecord& record : records) letters.push_back(describe(record, name));
  return letters;
}

Result<std::vector<session::RedriveOutcome>> Delivery::redrive(SessionId session, session::Redrive request) {
  SLUICE_ASSIGN(session::Session * caller, sessions_.live(session));
  SLUICE_ASSIGN(Group * group, find(request.group));
  SLUICE_TRY(may_consume(*caller, *group));
  SLUICE_TRY(check_filter(request.filter));
  SLUICE_ASSIGN(const std::vector<store::DeadLetterRecord> records,
                store_.dead_letters(group->record().id, 0, kRedrivenMax));
  SLUICE_ASSIGN(const TopicId topic, logs_.make_dead_letter_topic(core::dead_letter_topic(group->name())));
  const Now now = now_();
  const std::uint64_t step_ns = request.rate == 0 ? 0 : 1'000'000'000 / request.rate;
  std::uint64_t due_ns = now.ns;
  std::vector<session::RedriveOutcome> outcomes;
  std::vector<std::pair<std::uint64_t, store::LetterState>> states;
  for (const store::DeadLetterRecord& record : records) {
    if (record.state != store::LetterState::parked) continue;
    const bool wanted = std::all_of(request.filter.begin(), request.filter.end(), [&](const auto& condition) {
      return holds(record, condition.first, condition.second);
    });
    if (!wanted) continue;
    if (request.dry_run) {
      outcomes.push_back({describe(record, request.group), "would_redrive"});
      continue;
    }
    group->machine().redrive({topic, 0}, record.parked_at, record.id, due_ns);
    due_ns += step_ns;
    states.emplace_back(record.id, store::LetterState::redriven);
    outcomes.push_back({describe(record, request.group), "redriven"});
    outcomes.back().letter.state = "redriven";
  }
  if (states.empty()) return outcomes;
  store::GroupSave save = group->take_save(now);
  save.letter_states = states;
  if (Status saved = store_.save_groups({save}); !saved) {
    group->save_failed(save);
    for (const session::RedriveOutcome& outcome : outcomes)
      group->machine().parked({topic, 0}, outcome.letter.parked_at);  // it stays what it was
    return fail(std::move(saved).error());
  }
  for (auto& [id, member] : group->members()) member.region->bump_assignments();
  group->do_work(now);
  return outcomes;
}

Result<std::uint64_t> Delivery::purge_dead_letters(SessionId session, const std::string& name) {
  SLUICE_ASSIGN(session::Session * caller, sessions_.live(session));
  SLUICE_TRY(sessions_.require_operator(*caller, "purging dead letters of group " + name));
  SLUICE_ASSIGN(Group * group, find(name));
  SLUICE_ASSIGN(const std::vector<store::DeadLetterRecord> records,
                store_.dead_letters(group->record().id, 0, kRedrivenMax));
  store::GroupSave save;
  save.group = group->record().id;
  for (const store::DeadLetterRecord& record : records)
    if (record.state == store::LetterState::parked)
      save.letter_states.emplace_back(record.id, store::LetterState::purged);
  if (save.letter_states.empty()) return std::uint64_t{0};
  SLUICE_TRY(store_.save_groups({save}));
  return static_cast<std::uint64_t>(save.letter_states.size());
}

}  // namespace sluice::delivery
