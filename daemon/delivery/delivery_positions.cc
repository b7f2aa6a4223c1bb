// Delivery: where a group is, is moved to, and what can be said of what lies behind it.

#include <algorithm>

#include <spdlog/spdlog.h>

#include "daemon/delivery/delivery.h"
#include "daemon/delivery/places.h"
#include "shm/base/clock.h"

namespace sluice::delivery {
namespace {

// Of a horizon: dead letters that are parked (as many as a ledger takes), and those looked up that are redriven and
// under way.
constexpr std::uint32_t kParkedSaidMax = 10'000;
constexpr std::size_t kRedrivenAskedMax = 1000;

Now now_() { return {monotonic_ns(), realtime_ns()}; }

}  // namespace

// ---- seeking

Result<std::vector<session::SeekResult>> Delivery::seek_group(SessionId session, session::SeekGroup request) {
  SLUICE_ASSIGN(session::Session * caller, sessions_.live(session));
  SLUICE_ASSIGN(Group * group, find(request.group));
  if (request.execute) SLUICE_TRY(may_consume(*caller, *group));
  std::vector<Move> moves;
  std::vector<session::SeekResult> results;
  for (const core::Place& place : group->machine().places()) {
    const std::optional<TopicView> topic = logs_.find(place.topic);
    if (!topic || group->machine().by_reference_only(place)) continue;
    if (!request.topic.empty() && topic->name != request.topic) continue;
    if (request.to.kind == core::GroupStart::Kind::position && place.partition != request.to.partition) continue;
    SLUICE_ASSIGN(const Position to, group->start_of(*topic, place.partition, request.to));
    moves.push_back({place, to, group->mark(place).needs_force(to)});
    results.push_back(
        {topic->name, place.partition, group->machine().acks(place).cursor(), to, moves.back().below_horizon});
  }
  if (results.empty())
    return fail(ErrorCode::not_found, "seeking group " + request.group + ": it has no cursor in " +
                                          (request.topic.empty() ? "any topic" : "topic " + request.topic) +
                                          "; a consumer that joins makes one");
  if (!request.execute) return results;
  SLUICE_TRY(check_moves(*group, request, moves));
  const Now now = now_();
  const Status carried_out = carry_out(*group, moves, now);
  group->do_work(now);
  SLUICE_TRY(carried_out);
  spdlog::info("group sought group={} partitions={} epoch={} uid={}", request.group, moves.size(),
               group->record().epoch, caller->peer().uid);
  return results;
}

Status Delivery::check_moves(const Group& group, const session::SeekGroup& request,
                             const std::vector<Move>& moves) const {
  for (const Move& move : moves) {
    if (!move.below_horizon) continue;
    const std::string doing = "seeking group " + request.group + " to partition " +
                              std::to_string(move.place.partition) + "@" + std::to_string(move.to.value);
    const core::SeekMark& mark = group.mark(move.place);
    if (!request.force)
      return fail(
          ErrorCode::conflict,
          doing + ": that lies below its safe horizon @" + std::to_string(mark.horizon.value) +
              ", and ledgers may have forgotten what they handled there; with --force the messages from there on "
              "are of a new epoch, and handled anew");
    if (!mark.may_force(move.to))
      return fail(ErrorCode::quota, doing + ": " + std::to_string(core::kForcedSeeksMax) +
                                        " forced seeks to lower positions stand there; seek below one of them");
  }
  return {};
}

// The store is told before the members are: what they handle is of an epoch that stays.
Status Delivery::carry_out(Group& group, const std::vector<Move>& moves, const Now& now) {
  if (std::any_of(moves.begin(), moves.end(), [](const Move& move) { return move.below_horizon; })) {
    store::GroupRecord record = group.record();
    ++record.epoch;
    SLUICE_TRY(store_.update_group(record));
    group.set_record(std::move(record));
  }
  for (const Move& move : moves) {
    core::SeekMark& mark = group.change_mark(move.place);
    if (move.below_horizon) {
      // A ref that comes again brings a message that was appended further down.
      const auto origin = logs_.lowest_origin(move.place.topic, move.place.partition, move.to);
      mark.force(move.to, origin.value_or(Position(0)), group.record().epoch);
    } else {
      mark.seek();
    }
    group.machine().seek(move.place, move.to, now.ns);
  }
  group.tell_epoch();
  return save(now);
}

// ---- the safe horizon

Result<session::SafeHorizon> Delivery::safe_horizon(SessionId session, const std::string& name,
                                                    const std::string& topic_name, PartitionNumber partition) {
  SLUICE_ASSIGN(session::Session * caller, sessions_.live(session));
  SLUICE_ASSIGN(Group * group, find(name));
  SLUICE_TRY(may_consume(*caller, *group));
  const std::string doing =
      "asking for the safe horizon of group " + name + " in " + topic_name + "/" + std::to_string(partition);
  std::optional<core::Place> place;
  for (const core::Place& one : group->machine().places())
    if (const auto topic = logs_.find(one.topic); topic && topic->name == topic_name && one.partition == partition)
      place = one;
  if (!place || group->machine().by_reference_only(*place))
    return fail(ErrorCode::not_found, doing + ": it has no cursor there");
  const Now now = now_();
  group->hear_all(now);
  session::SafeHorizon said;
  said.topic = place->topic;
  SLUICE_ASSIGN(said.parked, letters_of(*group, *place));
  // Below it everything is settled, also in a daemon that starts after a power loss.
  Position below = group->unsettled_from(*place).value_or(Position(0));
  SLUICE_ASSIGN(const Position durable, logs_.durable(place->topic, place->partition));
  below = std::min(below, durable);
  SLUICE_ASSIGN(below, logs_.lowest_origin(place->topic, place->partition, below));
  if (said.parked.size() > kParkedSaidMax) {
    below = std::min(below, said.parked[kParkedSaidMax]);
    said.parked.resize(kParkedSaidMax);
  }
  if (below > group->mark(*place).horizon) group->change_mark(*place).horizon = below;
  SLUICE_TRY(save(now));
  said.below = group->mark(*place).horizon;
  said.epoch = group->mark(*place).epoch();
  std::erase_if(said.parked, [&](Position one) { return one >= said.below; });
  return said;
}

// Ascending: where the group's letters that may come again were first appended in that partition.
Result<std::vector<Position>> Delivery::letters_of(const Group& group, const core::Place& place) const {
  SLUICE_ASSIGN(std::vector<Position> positions,
                store_.parked_from(group.record().id, to_store(place), kParkedSaidMax + 1));
  std::size_t asked = 0;
  for (const core::Place& letters : group.machine().places()) {
    if (!group.machine().by_reference_only(letters)) continue;
    for (const auto& [position, pending] : group.machine().acks(letters).pending()) {
      if (pending.letter == 0) continue;
      if (++asked > kRedrivenAskedMax)
        return fail(ErrorCode::would_block,
                    "asking for the safe horizon of group " + group.name() + ": more than " +
                        std::to_string(kRedrivenAskedMax) +
                        " redriven dead letters are under way; ask again when they are settled");
      SLUICE_ASSIGN(const auto found, store_.dead_letters(group.record().id, pending.letter - 1, 1));
      if (found.empty() || found.front().id != pending.letter)
        return fail(ErrorCode::would_block,
                    "asking for the safe horizon of group " + group.name() + ": redriven dead letter " +
                        std::to_string(pending.letter) +
                        " is under way and not in the list any more; ask again when it is settled");
      if (found.front().origin == to_store(place)) positions.push_back(found.front().position);
    }
  }
  std::sort(positions.begin(), positions.end());
  positions.erase(std::unique(positions.begin(), positions.end()), positions.end());
  return positions;
}

Result<std::vector<core::EpochStart>> Delivery::group_epochs(SessionId session, const std::string& name, TopicId topic,
                                                             PartitionNumber partition) {
  SLUICE_TRY(sessions_.live(session));
  SLUICE_ASSIGN(Group * group, find(name));
  return group->mark({topic, partition}).epochs;
}

}  // namespace sluice::delivery
