// Delivery: acks that are a part of a transaction.
#include <algorithm>
#include <string>

#include "daemon/delivery/delivery.h"
#include "shm/base/clock.h"

namespace sluice::delivery {
namespace {

core::Outcome outcome_of(const session::TransactionAck& ack) {
  core::Outcome outcome;
  outcome.verb = core::Verb::ack;
  outcome.by_slot = ack.by_slot;
  outcome.index = ack.index;
  outcome.generation = ack.generation;
  outcome.target = ack.target;
  outcome.argument = ack.end.value;
  return outcome;
}

}  // namespace

Result<Delivery::Settled> Delivery::settled_by(SessionId session, const std::vector<session::TransactionAck>& acks) {
  const Now now{monotonic_ns(), realtime_ns()};
  Settled settled;
  for (const session::TransactionAck& ack : acks) {
    const auto found = group_of(session, ack.member);
    if (found && settled.count(*found) == 0) (*found)->hear_all(now);
    const auto message = found ? (*found)->machine().settles(ack.member, outcome_of(ack)) : std::nullopt;
    if (!message)
      return fail(ErrorCode::conflict, "acking in a transaction: a message is not in member " +
                                           std::to_string(ack.member) + "'s hands any more; roll the transaction back");
    Group* const group = *found;
    const auto& [place, position] = *message;
    const Result<Position> durable = logs_.durable(place.topic, place.partition);
    if (!durable) return fail(durable.error());
    if (*durable <= position) return fail(ErrorCode::would_block, {});
    settled[group].push_back({place, position, std::clamp(ack.end, position + 1, *durable)});
  }
  return settled;
}

Status Delivery::check_acks(SessionId session, const std::vector<session::TransactionAck>& acks) {
  const auto settled = settled_by(session, acks);
  return settled ? Status() : Status(fail(settled.error()));
}

Result<std::vector<store::GroupSave>> Delivery::take_acks(SessionId session,
                                                          const std::vector<session::TransactionAck>& acks) {
  SLUICE_ASSIGN(const Settled settled, settled_by(session, acks));
  const Now now{monotonic_ns(), realtime_ns()};
  std::vector<store::GroupSave> saves;
  for (const auto& [group, messages] : settled) saves.push_back(group->take_save_with(messages, now));
  return saves;
}

void Delivery::apply_acks(const std::vector<session::TransactionAck>& acks) {
  const std::uint64_t now = monotonic_ns();
  for (const session::TransactionAck& ack : acks)
    if (const auto member = members_.find(ack.member); member != members_.end())
      member->second.group->machine().outcome(ack.member, outcome_of(ack), now);
}

void Delivery::acks_failed(const std::vector<store::GroupSave>& saves) {
  for (const store::GroupSave& save : saves)
    for (auto& [name, group] : groups_)
      if (group->record().id == save.group) group->save_failed(save);
}

}  // namespace sluice::delivery
