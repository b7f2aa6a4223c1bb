// DeliveryMachine: members that come, stay and go.

#include <algorithm>
#include <utility>

#include "daemon/core/delivery_machine.h"
#include "shm/base/assert.h"
#include "shm/base/limits.h"

namespace sluice::core {

void DeliveryMachine::join(MemberId id, MemberJoin join, std::uint64_t now_ns) {
  Member& member = members_[id];
  member.topics = std::move(join.topics);
  member.in_flight_max = std::clamp<std::uint32_t>(join.in_flight_max, 1, kDeliverySlotsMax);
  member.slots.resize(member.in_flight_max);
  for (std::uint32_t slot = member.in_flight_max; slot > 0; --slot) member.free_slots.push_back(slot - 1);
  member.progress_at_ns = now_ns;
  for (const HeldRange& held : join.held_partitions) {
    const auto found = partitions_.find(held.place);
    if (found == partitions_.end() || !by_owner(found->second) || found->second.owner != 0 || paused_ ||
        !may_have(id, held.place))
      continue;
    found->second.acks.advance(held.words.acked);
    assign(found->first, found->second, id, now_ns);
    take_words(found->second, held.words, Position(UINT64_MAX), now_ns);
  }
  for (const HeldReference& held : join.held_messages) take_held(id, member, held, now_ns);
  if (waiting_for_members() && members_.size() >= expected_) rejoin_by_ns_ = 0;
  rebalance(now_ns);
  pump(now_ns);
}

// It was handed out by an earlier daemon, and stays in its member's hands unless it is settled, or another's.
void DeliveryMachine::take_held(MemberId id, Member& member, const HeldReference& held, std::uint64_t now_ns) {
  const auto found = partitions_.find(held.place);
  if (found == partitions_.end() || !has_room(member)) return;
  Partition& partition = found->second;
  if (!partition.letters && member.topics.count(held.place.topic) == 0) return;
  Pending* pending = partition.acks.find(held.position);
  if (pending == nullptr) {
    // A first delivery of a shared group; the log is read again up to it and beyond.
    if (by_owner(partition) || partition.letters || held.position < partition.next ||
        partition.acks.is_settled(held.position))
      return;
    Pending taken;
    taken.failed = std::min(held.counts.failed, config_.max_attempts - 1);
    pending = &partition.acks.put(held.position, std::move(taken));
  } else {
    if (pending->state != PendingState::waiting || pending->deferred || (pending->suspect && alone_out_)) return;
    // The delivery that it holds has failed already: it timed out, or its nack was saved.
    if (pending->failed > held.counts.failed) return;
    unschedule(held.place, partition, held.position);
  }
  pending->delivered = std::max(pending->delivered, held.counts.delivered);
  deliver_pending(held.place, partition, held.position, *pending, id, now_ns);
}

void DeliveryMachine::set_topics(MemberId id, std::set<TopicId> topics, std::uint64_t now_ns) {
  Member& member = members_.at(id);
  if (member.topics == topics) return;
  member.topics = std::move(topics);
  rebalance(now_ns);
  pump(now_ns);
}

void DeliveryMachine::leave(MemberId id, Ending ending, const std::set<std::uint32_t>& started, std::uint64_t now_ns) {
  const auto leaving = members_.find(id);
  if (leaving == members_.end()) return;
  Member& member = leaving->second;
  for (auto& [place, partition] : partitions_)
    if (partition.promised == id) partition.promised = 0;
  std::vector<Place> owned;
  for (const auto& [cell, place] : member.cells) owned.push_back(place);
  // Of how many messages any may be the one that killed it.
  std::size_t suspects = 0;
  for (const Place& place : owned) {
    const CellWords& words = partitions_.at(place).words;
    if (words.oldest.value != 0) suspects += words.oldest == words.newest ? 1 : 2;
  }
  for (std::uint32_t index = 0; index < member.slots.size(); ++index)
    suspects += member.slots[index].stamp != 0 && started.count(index) != 0 ? 1 : 0;
  const bool sole = ending != Ending::left && suspects == 1;
  for (const Place& place : owned) {
    Partition& partition = partitions_.at(place);
    if (ending != Ending::left) suspect_direct(place, partition, sole, now_ns);
    give_back(place, partition, now_ns);
  }
  for (std::uint32_t index = 0; index < member.slots.size(); ++index) {
    if (member.slots[index].stamp == 0) continue;
    const Slot slot = member.slots[index];
    free_slot(member, index);
    Partition& partition = *slot.partition;
    Counts counts = counts_of(partition, slot.position);
    const bool begun = started.count(index) != 0;
    if (begun && slot.fresh) counts.delivered = 1;
    if (!begun && !slot.fresh && counts.delivered > 0) --counts.delivered;  // it was not handed out
    if (slot.fresh) settle_flight(partition, slot.flight);
    if (begun && sole)
      fail(slot.place, partition, slot.position, counts,
           ending == Ending::hung ? "its consumer hung" : "its consumer died", std::nullopt, 0, true, now_ns);
    else
      wait_again(slot.place, partition, slot.position, counts, begun && ending != Ending::left, now_ns);
  }
  members_.erase(leaving);
  if (ending == Ending::hung) actions_.emplace_back(End{id});
  rebalance(now_ns);
  pump(now_ns);
}

std::vector<MemberId> DeliveryMachine::members() const {
  std::vector<MemberId> ids;
  for (const auto& [id, member] : members_) ids.push_back(id);
  return ids;
}

MemberView DeliveryMachine::view(MemberId id) const {
  const Member& member = members_.at(id);
  return {static_cast<std::uint32_t>(member.cells.size()), member.out + member.direct, member.in_flight_max,
          member.progress_at_ns};
}

std::optional<Place> DeliveryMachine::place_of_cell(MemberId id, std::uint32_t cell) const {
  const auto member = members_.find(id);
  if (member == members_.end()) return std::nullopt;
  const auto found = member->second.cells.find(cell);
  return found == member->second.cells.end() ? std::nullopt : std::optional(found->second);
}

std::vector<std::pair<std::uint32_t, std::uint64_t>> DeliveryMachine::cells(MemberId id) const {
  std::vector<std::pair<std::uint32_t, std::uint64_t>> cells;
  if (const auto member = members_.find(id); member != members_.end())
    for (const auto& [cell, place] : member->second.cells) cells.emplace_back(cell, partitions_.at(place).generation);
  return cells;
}

std::uint64_t DeliveryMachine::stamp_of(MemberId id, std::uint32_t slot) const {
  const auto member = members_.find(id);
  return member == members_.end() || slot >= member->second.slots.size() ? 0 : member->second.slots[slot].stamp;
}

std::vector<std::uint32_t> DeliveryMachine::slots_out(MemberId id) const {
  std::vector<std::uint32_t> out;
  const auto member = members_.find(id);
  if (member == members_.end() || member->second.out == 0) return out;
  for (std::uint32_t index = 0; index < member->second.slots.size(); ++index)
    if (member->second.slots[index].stamp != 0) out.push_back(index);
  return out;
}

// Nobody waits for what a paused group gives back: its members have the time that they need.
void DeliveryMachine::pause(bool paused, std::uint64_t now_ns) {
  paused_ = paused;
  for (auto& [place, partition] : partitions_) {
    if (partition.owner == 0) continue;
    if (paused && !partition.wanted_back) want_back(partition, 0, now_ns);
    if (partition.wanted_back) partition.give_back_by_ns = paused ? 0 : now_ns + kHandOverNsMax;
  }
  if (paused) return;
  rebalance(now_ns);
  pump(now_ns);
}

void DeliveryMachine::alive(MemberId id, std::uint64_t progress, std::uint64_t now_ns) {
  const auto found = members_.find(id);
  if (found == members_.end() || found->second.progress == progress) return;
  found->second.progress = progress;
  found->second.progress_at_ns = now_ns;
  if (std::exchange(found->second.stalled, false)) pump_for(id, now_ns);
}

void DeliveryMachine::recalled(MemberId id, std::uint32_t index, std::uint64_t now_ns) {
  const auto found = members_.find(id);
  if (found == members_.end() || index >= found->second.slots.size() || found->second.slots[index].stamp == 0) return;
  const Slot slot = found->second.slots[index];
  free_slot(found->second, index);
  found->second.stalled = found->second.out != 0;
  Partition& partition = *slot.partition;
  Counts counts = counts_of(partition, slot.position);
  if (!slot.fresh && counts.delivered > 0) --counts.delivered;
  if (slot.fresh) settle_flight(partition, slot.flight);
  wait_again(slot.place, partition, slot.position, counts, false, now_ns);
}

}  // namespace sluice::core
