#include "daemon/control/group_rpc.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "daemon/control/convert_groups.h"

namespace sluice::control {

using session::BusInterface;

kj::Promise<void> GroupServer::createGroup(CreateGroupContext context) {
  auto config = read_group_config(context.getParams().getConfig());
  return status_call(context, config, [](BusInterface& bus, SessionId id, core::GroupConfig& value) {
    return bus.groups().create_group(id, std::move(value));
  });
}

kj::Promise<void> GroupServer::alterGroup(AlterGroupContext context) {
  auto name = read_group_name(context.getParams().getName());
  auto change = read_group_change(context.getParams().getChange());
  if (!name) return refuse_done(context, name.error());
  if (!change) return refuse_done(context, change.error());
  Result<std::pair<std::string, core::GroupChange>> both(std::make_pair(std::move(*name), std::move(*change)));
  return status_call(context, both, [](BusInterface& bus, SessionId id, auto& value) {
    return bus.groups().alter_group(id, value.first, std::move(value.second));
  });
}

kj::Promise<void> GroupServer::deleteGroup(DeleteGroupContext context) {
  auto name = read_group_name(context.getParams().getName());
  return status_call(context, name, [](BusInterface& bus, SessionId id, std::string& value) {
    return bus.groups().delete_group(id, value);
  });
}

kj::Promise<void> GroupServer::pauseGroup(PauseGroupContext context) {
  auto name = read_group_name(context.getParams().getName());
  const bool pause = context.getParams().getPause();
  return status_call(context, name, [pause](BusInterface& bus, SessionId id, std::string& value) {
    return bus.groups().pause_group(id, value, pause);
  });
}

kj::Promise<void> GroupServer::describeGroups(DescribeGroupsContext context) {
  auto name = read_group_name(context.getParams().getName());
  return beside_call<std::vector<session::GroupInfo>>(
      context, name,
      [](BusInterface& bus, SessionId id, std::string& value) { return bus.groups().describe_groups(id, value); },
      [](auto results, const auto& groups) {
        auto list = results.initGroups(static_cast<unsigned>(groups.size()));
        for (unsigned i = 0; i < groups.size(); ++i) write_group(list[i], groups[i]);
      });
}

kj::Promise<void> GroupServer::explainGroup(ExplainGroupContext context) {
  auto name = read_group_name(context.getParams().getName());
  return union_call<session::GroupReason>(
      context, name,
      [](BusInterface& bus, SessionId id, std::string& value) { return bus.groups().explain_group(id, value); },
      [](auto response, const session::GroupReason& reason) { write_reason(response.initReason(), reason); });
}

kj::Promise<void> GroupServer::seekGroup(SeekGroupContext context) {
  auto request = read_seek(context.getParams().getRequest());
  return beside_call<std::vector<session::SeekResult>>(
      context, request,
      [](BusInterface& bus, SessionId id, session::SeekGroup& value) {
        return bus.groups().seek_group(id, std::move(value));
      },
      [](auto results, const auto& moves) {
        auto list = results.initMoves(static_cast<unsigned>(moves.size()));
        for (unsigned i = 0; i < moves.size(); ++i) write_seek_result(list[i], moves[i]);
      });
}

kj::Promise<void> GroupServer::safeHorizon(SafeHorizonContext context) {
  const auto params = context.getParams();
  auto place = read_group_place(params.getGroup(), params.getTopic(), params.getPartition());
  return union_call<session::SafeHorizon>(
      context, place,
      [](BusInterface& bus, SessionId id, GroupPlace& value) {
        return bus.groups().safe_horizon(id, value.group, value.topic, value.partition);
      },
      [](auto response, const session::SafeHorizon& horizon) { write_horizon(response.initHorizon(), horizon); });
}

kj::Promise<void> GroupServer::groupEpochs(GroupEpochsContext context) {
  const auto params = context.getParams();
  auto group = read_group_name(params.getGroup());
  const TopicId topic(params.getTopicId());
  const PartitionNumber partition = params.getPartition();
  return beside_call<std::vector<core::EpochStart>>(
      context, group,
      [topic, partition](BusInterface& bus, SessionId id, std::string& value) {
        return bus.groups().group_epochs(id, value, topic, partition);
      },
      [](auto results, const auto& epochs) {
        auto list = results.initEpochs(static_cast<unsigned>(epochs.size()));
        for (unsigned i = 0; i < epochs.size(); ++i) write_epoch(list[i], epochs[i]);
      });
}

kj::Promise<void> GroupServer::joinGroup(JoinGroupContext context) {
  auto request = read_join(context.getParams().getRequest());
  return grant_call<session::MemberGrant>(
      context, request,
      [](BusInterface& bus, SessionId id, session::JoinGroup& value) {
        return bus.groups().join_group(id, std::move(value));
      },
      write_member_grant);
}

kj::Promise<void> GroupServer::leaveGroup(LeaveGroupContext context) {
  Result<std::uint64_t> member(context.getParams().getMemberId());
  return status_call(context, member, [](BusInterface& bus, SessionId id, std::uint64_t& value) {
    return bus.groups().leave_group(id, value);
  });
}

kj::Promise<void> GroupServer::assignments(AssignmentsContext context) {
  Result<std::uint64_t> member(context.getParams().getMemberId());
  return beside_call<std::vector<session::Assignment>>(
      context, member,
      [](BusInterface& bus, SessionId id, std::uint64_t& value) { return bus.groups().assignments(id, value); },
      [](auto results, const auto& assignments) {
        auto list = results.initAssignments(static_cast<unsigned>(assignments.size()));
        for (unsigned i = 0; i < assignments.size(); ++i) write_assignment(list[i], assignments[i]);
      });
}

kj::Promise<void> GroupServer::saveAcks(SaveAcksContext context) {
  Result<std::uint64_t> member(context.getParams().getMemberId());
  return status_call(context, member, [](BusInterface& bus, SessionId id, std::uint64_t& value) {
    return bus.groups().save_acks(id, value);
  });
}

kj::Promise<void> GroupServer::countDeadLetters(CountDeadLettersContext context) {
  auto group = read_group_name(context.getParams().getGroup());
  return beside_call<std::vector<session::DeadLetterCount>>(
      context, group,
      [](BusInterface& bus, SessionId id, std::string& value) { return bus.groups().count_dead_letters(id, value); },
      [](auto results, const auto& counts) {
        auto list = results.initCounts(static_cast<unsigned>(counts.size()));
        for (unsigned i = 0; i < counts.size(); ++i) write_letter_count(list[i], counts[i]);
      });
}

kj::Promise<void> GroupServer::listDeadLetters(ListDeadLettersContext context) {
  const auto params = context.getParams();
  auto group = read_group_name(params.getGroup());
  const std::uint64_t after_id = params.getAfterId();
  const std::uint32_t limit = params.getLimit() == 0
                                  ? kDeadLettersPerCallMax
                                  : std::min<std::uint32_t>(params.getLimit(), kDeadLettersPerCallMax);
  return beside_call<std::vector<session::DeadLetter>>(
      context, group,
      [after_id, limit](BusInterface& bus, SessionId id, std::string& value) {
        return bus.groups().list_dead_letters(id, value, after_id, limit);
      },
      [](auto results, const auto& letters) {
        auto list = results.initLetters(static_cast<unsigned>(letters.size()));
        for (unsigned i = 0; i < letters.size(); ++i) write_letter(list[i], letters[i]);
      });
}

kj::Promise<void> GroupServer::redrive(RedriveContext context) {
  auto request = read_redrive(context.getParams().getRequest());
  return beside_call<std::vector<session::RedriveOutcome>>(
      context, request,
      [](BusInterface& bus, SessionId id, session::Redrive& value) {
        return bus.groups().redrive(id, std::move(value));
      },
      [](auto results, const auto& outcomes) {
        auto list = results.initOutcomes(static_cast<unsigned>(outcomes.size()));
        for (unsigned i = 0; i < outcomes.size(); ++i) write_redrive_outcome(list[i], outcomes[i]);
      });
}

kj::Promise<void> GroupServer::purgeDeadLetters(PurgeDeadLettersContext context) {
  auto group = read_group_name(context.getParams().getGroup());
  return beside_call<std::uint64_t>(
      context, group,
      [](BusInterface& bus, SessionId id, std::string& value) { return bus.groups().purge_dead_letters(id, value); },
      [](auto results, const std::uint64_t& purged) { results.setPurged(purged); });
}

}  // namespace sluice::control
