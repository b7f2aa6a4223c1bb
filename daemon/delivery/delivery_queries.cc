// Delivery: what is asked and changes nothing.

#include <algorithm>

#include "daemon/delivery/delivery.h"
#include "shm/base/clock.h"

namespace sluice::delivery {

session::GroupInfo Delivery::info_of(Group& group, const Now& now) {
  session::GroupInfo info;
  info.config = group.record().config;
  info.paused = group.record().paused;
  info.epoch = group.record().epoch;
  info.subscriptions = group.record().subscriptions;
  for (const auto& [id, member] : group.members()) {
    const core::MemberView view = group.machine().view(id);
    session::MemberInfo one;
    one.member = id;
    one.session = member.region->session();
    one.pid = member.pid;
    one.client_name = member.client_name;
    one.partitions = view.partitions;
    one.in_flight = view.in_flight;
    one.in_flight_max = view.in_flight_max;
    one.idle_ns = now.ns > view.progress_at_ns ? now.ns - view.progress_at_ns : 0;
    info.members.push_back(std::move(one));
  }
  for (const core::Place& place : group.machine().places()) {
    const std::optional<TopicView> topic = logs_.find(place.topic);
    if (!topic || group.machine().by_reference_only(place)) continue;
    info.partitions.push_back(partition_info(group, place, *topic, logs_, rates_, now));
    info.partitions.back().safe_horizon = group.mark(place).horizon;
  }
  return info;
}

Result<std::vector<session::GroupInfo>> Delivery::describe_groups(SessionId session, const std::string& name) {
  SLUICE_TRY(sessions_.live(session));
  if (!name.empty()) SLUICE_TRY(find(name));
  const Now now{monotonic_ns(), realtime_ns()};
  std::vector<session::GroupInfo> infos;
  for (auto& [group_name, group] : groups_) {
    if (!name.empty() && group_name != name) continue;
    group->hear_all(now);
    infos.push_back(info_of(*group, now));
    SLUICE_ASSIGN(const auto parked, store_.count_parked(group->record().id));
    for (session::GroupPartitionInfo& partition : infos.back().partitions)
      for (const auto& [place, count] : parked)
        if (place.topic == partition.topic_id && place.partition == partition.partition) partition.parked = count;
  }
  return infos;
}

Result<session::GroupReason> Delivery::explain_group(SessionId session, const std::string& name) {
  SLUICE_TRY(sessions_.live(session));
  SLUICE_ASSIGN(Group * group, find(name));
  const Now now{monotonic_ns(), realtime_ns()};
  group->hear_all(now);
  return explain(info_of(*group, now), *group, logs_, now);
}

}  // namespace sluice::delivery
