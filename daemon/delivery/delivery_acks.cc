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

Status Delivery::add_settled(Settled& settled, const session::AckSet& acks) {
  const Now now{monotonic_ns(), realtime_ns()};
  for (const session::TransactionAck& ack : acks.acks) {
    const auto found = group_of(acks.session, ack.member);
    if (found && settled.count(*found) == 0) (*found)->hear_all(now);
    const auto message = found ? (*found)->machine().settles(ack.member, outcome_of(ack)) : std::nullopt;
    const auto conflict = [&](const char* why) {
      return fail(ErrorCode::conflict, "acking in a transaction: a message of member " + std::to_string(ack.member) +
                                           " " + why + "; roll the transaction back");
    };
    if (!message) return conflict("is not in its hands any more");
    const auto& [place, position] = *message;
    const Result<Position> durable = logs_.durable(place.topic, place.partition);
    if (!durable) return fail(durable.error());
    if (*durable <= position) return fail(ErrorCode::would_block, {});
    const SettledBy one{std::clamp(ack.end, position + 1, *durable), &acks};
    const auto [entry, fresh] = settled[*found].try_emplace({place, position}, one);
    if (!fresh && entry->second.by != &acks) return conflict("is acked by another one");
  }
  return {};
}

Status Delivery::check_acks(const session::AckSet& acks) {
  Settled settled;
  return add_settled(settled, acks);
}

Result<std::vector<store::GroupSave>> Delivery::take_acks(const std::vector<const session::AckSet*>& all) {
  Settled settled;
  for (const session::AckSet* acks : all) SLUICE_TRY(add_settled(settled, *acks));
  const Now now{monotonic_ns(), realtime_ns()};
  std::vector<store::GroupSave> saves;
  for (const auto& [group, messages] : settled) {
    std::vector<core::SettledMessage> list;
    for (const auto& [at, message] : messages) list.push_back({at.first, at.second, message.end});
    saves.push_back(group->take_save_with(list, now));
  }
  return saves;
}

void Delivery::apply_acks(const session::AckSet& acks) {
  const std::uint64_t now = monotonic_ns();
  for (const session::TransactionAck& ack : acks.acks)
    if (const auto member = members_.find(ack.member); member != members_.end())
      member->second.group->machine().outcome(ack.member, outcome_of(ack), now);
}

void Delivery::acks_failed(const std::vector<store::GroupSave>& saves) {
  for (const store::GroupSave& save : saves)
    for (auto& [name, group] : groups_)
      if (group->record().id == save.group) group->save_failed(save);
}

}  // namespace sluice::delivery
