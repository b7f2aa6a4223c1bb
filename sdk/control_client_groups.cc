// The calls of consumer groups.
//
// A member belongs to one life of the daemon: assignments, save_acks and leave_group answer `not_found` where the
// daemon does not know it (any more), and its consumer joins again with what it holds.
#include <memory>
#include <string>
#include <utility>

#include "sdk/control_client.h"
#include "sdk/control_convert_groups.h"
#include "sdk/control_loop.h"

namespace sluice::internal {
namespace {

std::string on_group(std::string_view verb, std::string_view group) {
  std::string text(verb);
  text += " group ";
  text += group;
  return text;
}

std::string on_member(std::string_view verb, std::uint64_t member) {
  return std::string(verb) + " member " + std::to_string(member);
}

std::string on_letters(std::string_view verb, std::string_view group) {
  std::string text(verb);
  text += group.empty() ? " the dead letters" : " the dead letters of group ";
  text += group;
  return text;
}

// On the wire 0 is the default.
Status check_attempts(std::string_view doing, const std::optional<std::uint32_t>& attempts) {
  if (attempts != 0u) return {};
  return fail(ErrorCode::invalid, std::string(doing) + ": max_attempts must be at least 1");
}

}  // namespace

Status ControlClient::create_group(const GroupConfig& config, Duration timeout) {
  const Loop::CallOptions options{on_group("creating", config.name), timeout, false, {}};
  SLUICE_TRY(check_attempts(options.doing, config.max_attempts));
  return loop_->call<void>(options, [&](const Loop::Target& target) {
    auto request = target.session.createGroupRequest();
    write_group_config(request.initConfig(), config);
    return request.send().then([](auto answer) { return read_done(answer.getDone()); });
  });
}

Status ControlClient::alter_group(std::string_view name, const GroupChange& change, Duration timeout) {
  const Loop::CallOptions options{on_group("altering", name), timeout, false, {}};
  SLUICE_TRY(check_attempts(options.doing, change.max_attempts));
  return loop_->call<void>(options, [&](const Loop::Target& target) {
    auto request = target.session.alterGroupRequest();
    request.setName(std::string(name));
    write_group_change(request.initChange(), change);
    return request.send().then([](auto answer) { return read_done(answer.getDone()); });
  });
}

Status ControlClient::delete_group(std::string_view name, Duration timeout) {
  return loop_->call<void>({on_group("deleting", name), timeout, false, {}}, [&](const Loop::Target& target) {
    auto request = target.session.deleteGroupRequest();
    request.setName(std::string(name));
    return request.send().then([](auto answer) { return read_done(answer.getDone()); });
  });
}

Status ControlClient::pause_group(std::string_view name, bool pause, Duration timeout) {
  const Loop::CallOptions options{on_group(pause ? "pausing" : "resuming", name), timeout, true, {}};
  return loop_->call<void>(options, [&](const Loop::Target& target) {
    auto request = target.session.pauseGroupRequest();
    request.setName(std::string(name));
    request.setPause(pause);
    return request.send().then([](auto answer) { return read_done(answer.getDone()); });
  });
}

Result<std::vector<GroupInfo>> ControlClient::describe_groups(std::string_view name, Duration timeout) {
  using Groups = std::vector<GroupInfo>;
  const Loop::CallOptions options{name.empty() ? "describing groups" : on_group("describing", name), timeout, true, {}};
  return loop_->call<Groups>(options, [&](const Loop::Target& target) {
    auto request = target.session.describeGroupsRequest();
    request.setName(std::string(name));
    return request.send().then([](auto answer) -> Result<Groups> {
      SLUICE_TRY(read_status_beside(answer.getFailure()));
      Groups groups;
      for (const auto group : answer.getGroups()) groups.push_back(read_group(group));
      return groups;
    });
  });
}

Result<GroupReason> ControlClient::explain_group(std::string_view name, Duration timeout) {
  return loop_->call<GroupReason>({on_group("explaining", name), timeout, true, {}}, [&](const Loop::Target& target) {
    auto request = target.session.explainGroupRequest();
    request.setName(std::string(name));
    return request.send().then([](auto answer) -> Result<GroupReason> {
      const auto response = answer.getResponse();
      if (response.isFailure()) return fail(read_failure(response.getFailure()));
      return read_reason(response.getReason());
    });
  });
}

Result<std::vector<SeekMove>> ControlClient::seek_group(std::string_view name, std::string_view topic, const From& to,
                                                        bool execute, bool force, Duration timeout) {
  using Moves = std::vector<SeekMove>;
  return loop_->call<Moves>({on_group("seeking", name), timeout, !execute, {}}, [&](const Loop::Target& target) {
    auto request = target.session.seekGroupRequest();
    auto seek = request.initRequest();
    seek.setGroup(std::string(name));
    seek.setTopic(std::string(topic));
    write_start(seek.initTo(), to);
    seek.setExecute(execute);
    seek.setForce(force);
    return request.send().then([](auto answer) -> Result<Moves> {
      SLUICE_TRY(read_status_beside(answer.getFailure()));
      return read_moves(answer.getMoves());
    });
  });
}

Result<SafeHorizon> ControlClient::safe_horizon(std::string_view group, std::string_view topic,
                                                PartitionNumber partition, Duration timeout) {
  const Loop::CallOptions options{on_group("asking for the safe horizon of", group), timeout, true, {}};
  return loop_->call<SafeHorizon>(options, [&](const Loop::Target& target) {
    auto request = target.session.safeHorizonRequest();
    request.setGroup(std::string(group));
    request.setTopic(std::string(topic));
    request.setPartition(partition);
    return request.send().then([](auto answer) -> Result<SafeHorizon> {
      const auto response = answer.getResponse();
      if (response.isFailure()) return fail(read_failure(response.getFailure()));
      return read_horizon(response.getHorizon());
    });
  });
}

Result<std::vector<EpochStart>> ControlClient::group_epochs(std::string_view group, TopicId topic,
                                                            PartitionNumber partition, Duration timeout) {
  using Epochs = std::vector<EpochStart>;
  const Loop::CallOptions options{on_group("asking for the epochs of", group), timeout, true, {}};
  return loop_->call<Epochs>(options, [&](const Loop::Target& target) {
    auto request = target.session.groupEpochsRequest();
    request.setGroup(std::string(group));
    request.setTopicId(topic.value);
    request.setPartition(partition);
    return request.send().then([](auto answer) -> Result<Epochs> {
      SLUICE_TRY(read_status_beside(answer.getFailure()));
      return read_epochs(answer.getEpochs());
    });
  });
}

Result<MemberGrant> ControlClient::join_group(const JoinGroup& join, Duration timeout) {
  const Loop::CallOptions options{on_group("joining", join.group), timeout, true, {}};
  std::shared_ptr<SessionMemory> memory;
  auto joined = loop_->call<MemberGrant>(options, [&](const Loop::Target& target) {
    memory = target.memory;  // of the attempt that is answered
    auto request = target.session.joinGroupRequest();
    write_join(request.initRequest(), join);
    return request.send().then([](auto answer) -> kj::Promise<Result<MemberGrant>> {
      const auto response = answer.getResponse();
      if (response.isFailure()) return Result<MemberGrant>(fail(read_failure(response.getFailure())));
      auto fds = kj::heapArrayBuilder<kj::Promise<Result<UniqueFd>>>(2);
      fds.add(take_descriptor(response.getGrant().getRegion(), "the member's region"));
      fds.add(take_descriptor(response.getGrant().getReadable(), "the member's eventfd"));
      return kj::joinPromises(fds.finish())
          .then([answer = kj::mv(answer)](kj::Array<Result<UniqueFd>> received) -> Result<MemberGrant> {
            for (const auto& fd : received) {
              if (!fd) return fail(fd.error());
            }
            const auto given = answer.getResponse().getGrant();
            MemberGrant grant;
            grant.member = given.getMemberId();
            grant.region = std::move(*received[0]);
            grant.readable = std::move(*received[1]);
            grant.config = read_group_config(given.getConfig());
            return grant;
          });
    });
  });
  if (!joined) return fail(std::move(joined).error());
  joined->memory = std::move(memory);
  return joined;
}

Status ControlClient::leave_group(std::uint64_t member, std::uint64_t memory_generation, Duration timeout) {
  const Loop::CallOptions options{on_member("leaving as", member), timeout, true, memory_generation};
  const Status left = loop_->call<void>(options, [&](const Loop::Target& target) {
    auto request = target.session.leaveGroupRequest();
    request.setMemberId(member);
    return request.send().then([](auto answer) { return read_done(answer.getDone()); });
  });
  return gone_is_closed(memory_generation, left);
}

Result<std::vector<Assignment>> ControlClient::assignments(std::uint64_t member, Duration timeout) {
  using Assignments = std::vector<Assignment>;
  const Loop::CallOptions options{on_member("asking for the partitions of", member), timeout, true, {}};
  return loop_->call<Assignments>(options, [&](const Loop::Target& target) {
    auto request = target.session.assignmentsRequest();
    request.setMemberId(member);
    return request.send().then([](auto answer) -> Result<Assignments> {
      SLUICE_TRY(read_status_beside(answer.getFailure()));
      return read_assignments(answer.getAssignments());
    });
  });
}

Status ControlClient::save_acks(std::uint64_t member, Duration timeout) {
  const Loop::CallOptions options{on_member("saving the acks of", member), timeout, true, {}};
  return loop_->call<void>(options, [&](const Loop::Target& target) {
    auto request = target.session.saveAcksRequest();
    request.setMemberId(member);
    return request.send().then([](auto answer) { return read_done(answer.getDone()); });
  });
}

Result<std::vector<DeadLetterCount>> ControlClient::count_dead_letters(std::string_view group, Duration timeout) {
  using Counts = std::vector<DeadLetterCount>;
  return loop_->call<Counts>({on_letters("counting", group), timeout, true, {}}, [&](const Loop::Target& target) {
    auto request = target.session.countDeadLettersRequest();
    request.setGroup(std::string(group));
    return request.send().then([](auto answer) -> Result<Counts> {
      SLUICE_TRY(read_status_beside(answer.getFailure()));
      return read_letter_counts(answer.getCounts());
    });
  });
}

Result<std::vector<DeadLetter>> ControlClient::list_dead_letters(std::string_view group, std::uint64_t after_id,
                                                                 std::uint32_t limit, Duration timeout) {
  using Letters = std::vector<DeadLetter>;
  return loop_->call<Letters>({on_letters("listing", group), timeout, true, {}}, [&](const Loop::Target& target) {
    auto request = target.session.listDeadLettersRequest();
    request.setGroup(std::string(group));
    request.setAfterId(after_id);
    request.setLimit(limit);
    return request.send().then([](auto answer) -> Result<Letters> {
      SLUICE_TRY(read_status_beside(answer.getFailure()));
      return read_letters(answer.getLetters());
    });
  });
}

Result<std::vector<RedriveOutcome>> ControlClient::redrive(std::string_view group, const RedriveOptions& redriving,
                                                           Duration timeout) {
  using Outcomes = std::vector<RedriveOutcome>;
  const Loop::CallOptions options{on_letters("redriving", group), timeout, redriving.dry_run, {}};
  return loop_->call<Outcomes>(options, [&](const Loop::Target& target) {
    auto request = target.session.redriveRequest();
    auto redrive = request.initRequest();
    redrive.setGroup(std::string(group));
    write_redrive(redrive, redriving);
    return request.send().then([](auto answer) -> Result<Outcomes> {
      SLUICE_TRY(read_status_beside(answer.getFailure()));
      return read_outcomes(answer.getOutcomes());
    });
  });
}

Result<std::uint64_t> ControlClient::purge_dead_letters(std::string_view group, Duration timeout) {
  using Purged = std::uint64_t;
  return loop_->call<Purged>({on_letters("purging", group), timeout, false, {}}, [&](const Loop::Target& target) {
    auto request = target.session.purgeDeadLettersRequest();
    request.setGroup(std::string(group));
    return request.send().then([](auto answer) -> Result<Purged> {
      SLUICE_TRY(read_status_beside(answer.getFailure()));
      return answer.getPurged();
    });
  });
}

}  // namespace sluice::internal
