// DeliveryMachine: which message goes to whom as a reference.

#include <algorithm>
#include <utility>

#include "daemon/core/delivery_machine.h"
#include "shm/base/assert.h"
#include "shm/base/limits.h"

namespace sluice::core {

// ---- pending messages: due, ready, handed out

void DeliveryMachine::schedule(const Place& place, Partition& partition, Position position, std::uint64_t due_ns) {
  partition.acks.find(position)->due_ns = due_ns;
  due_.insert({due_ns, place, position});
}

// Out of wherever it waits.
void DeliveryMachine::unschedule(const Place& place, Partition& partition, Position position) {
  due_.erase({partition.acks.find(position)->due_ns, place, position});
  ready_suspects_.erase({place, position});
  not_ready(place, partition, position);
}

void DeliveryMachine::make_ready(const Place& place, Partition& partition, Position position, bool suspect) {
  if (suspect) {
    ready_suspects_.insert({place, position});
    return;
  }
  partition.ready.insert(position);
  if (!by_owner(partition))
    ready_places_.insert(place);
  else if (partition.owner != 0)
    members_.at(partition.owner).ready.insert(place);
}

void DeliveryMachine::not_ready(const Place& place, Partition& partition, Position position) {
  if (partition.ready.erase(position) == 0 || !partition.ready.empty()) return;
  if (!by_owner(partition))
    ready_places_.erase(place);
  else if (partition.owner != 0)
    members_.at(partition.owner).ready.erase(place);
}

bool DeliveryMachine::drain_due(std::uint64_t now_ns) {
  bool drained = false;
  while (!due_.empty() && due_.begin()->due_ns <= now_ns) {
    const Due due = *due_.begin();
    due_.erase(due_.begin());
    Partition& partition = partitions_.at(due.place);
    make_ready(due.place, partition, due.position, partition.acks.find(due.position)->suspect);
    drained = true;
  }
  return drained;
}

void DeliveryMachine::pump(std::uint64_t now_ns) {
  drain_due(now_ns);
  if (paused_ || waiting_for_members()) return;
  pump_suspects(now_ns);
  if (config_.mode == GroupMode::ordered)
    for (auto& [id, member] : members_)
      if (!member.ready.empty()) pump_owner(id, member, now_ns);
  pump_places(0, now_ns);
}

void DeliveryMachine::pump_for(MemberId id, std::uint64_t now_ns) {
  if (drain_due(now_ns)) return pump(now_ns);
  if (paused_ || waiting_for_members()) return;
  pump_suspects(now_ns);
  if (Member& member = members_.at(id); !member.ready.empty()) pump_owner(id, member, now_ns);
  pump_places(id, now_ns);
}

void DeliveryMachine::pump_suspects(std::uint64_t now_ns) {
  if (alone_out_) return;
  for (auto suspect = ready_suspects_.begin(); suspect != ready_suspects_.end(); ++suspect) {
    const auto [place, position] = *suspect;
    Partition& partition = partitions_.at(place);
    const MemberId id = choose(place, partition);
    if (id == 0) continue;
    ready_suspects_.erase(suspect);
    Pending& pending = *partition.acks.find(position);
    ++pending.delivered;
    deliver_pending(place, partition, position, pending, id, now_ns);
    return;
  }
}

// In turn, so that one partition's retries do not keep another's waiting.
void DeliveryMachine::pump_owner(MemberId, Member& member, std::uint64_t now_ns) {
  for (std::size_t places = member.ready.size(); places > 0 && has_room(member); --places) {
    auto next = member.ready.upper_bound(member.last_ready);
    if (next == member.ready.end()) next = member.ready.begin();
    const Place place = member.last_ready = *next;
    pump_place(place, partitions_.at(place), 0, now_ns);
  }
}

void DeliveryMachine::pump_places(MemberId only, std::uint64_t now_ns) {
  if (ready_places_.empty()) return;
  const auto any_room = [&] {
    if (only != 0) return has_room(members_.at(only));
    return std::any_of(members_.begin(), members_.end(), [](const auto& entry) { return has_room(entry.second); });
  };
  for (std::size_t places = ready_places_.size(); places > 0 && any_room(); --places) {
    auto next = ready_places_.upper_bound(last_ready_);
    if (next == ready_places_.end()) next = ready_places_.begin();
    const Place place = last_ready_ = *next;
    pump_place(place, partitions_.at(place), only, now_ns);
  }
}

void DeliveryMachine::pump_place(const Place& place, Partition& partition, MemberId only, std::uint64_t now_ns) {
  while (!partition.ready.empty()) {
    MemberId id = only;
    if (only == 0)
      id = choose(place, partition);
    else if (!can_take(members_.at(only), place, partition))
      return;
    if (id == 0) return;
    const Position position = *partition.ready.begin();
    not_ready(place, partition, position);
    Pending& pending = *partition.acks.find(position);
    ++pending.delivered;
    deliver_pending(place, partition, position, pending, id, now_ns);
  }
}

bool DeliveryMachine::can_take(const Member& member, const Place& place, const Partition& partition) const {
  return has_room(member) && (partition.letters || member.topics.count(place.topic) != 0);
}

// Who gets it: the partition's owner, or the next one in turn that has room.
MemberId DeliveryMachine::choose(const Place& place, const Partition& partition) {
  if (by_owner(partition)) {
    if (partition.owner == 0 || partition.wanted_back || !has_room(members_.at(partition.owner))) return 0;
    return partition.owner;
  }
  auto member = members_.upper_bound(last_served_);
  for (std::size_t tried = 0; tried < members_.size(); ++tried, ++member) {
    if (member == members_.end()) member = members_.begin();
    if (can_take(member->second, place, partition)) return last_served_ = member->first;
  }
  return 0;
}

void DeliveryMachine::deliver_pending(const Place& place, Partition& partition, Position position, Pending& pending,
                                      MemberId id, std::uint64_t now_ns) {
  pending.state = PendingState::out;
  pending.member = id;
  pending.slot = deliver(id, place, partition, position, {pending.delivered, pending.failed}, pending.suspect, now_ns);
  partition.acks.touch(position);
}

// ---- slots

std::uint32_t DeliveryMachine::deliver(MemberId id, const Place& place, Partition& partition, Position position,
                                       Counts counts, bool alone, std::uint64_t now_ns) {
  Member& member = members_.at(id);
  SLUICE_ASSERT(!member.free_slots.empty());
  const std::uint32_t index = member.free_slots.back();
  member.free_slots.pop_back();
  ++member.out;
  // It is idle until it gets something: its time to show progress begins now.
  if (member.out + member.direct == 1) member.progress_at_ns = now_ns;
  Slot& slot = member.slots[index];
  slot.stamp = ++stamp_;
  slot.place = place;
  slot.partition = &partition;
  slot.position = position;
  slot.fresh = false;
  slot.alone = alone;
  slot.since_ns = now_ns;
  set_deadline(member, index, now_ns + config_.ack_timeout_ns);
  alone_out_ |= alone;
  actions_.emplace_back(Deliver{id, index, stamp_, place, position, counts.delivered, counts.failed, alone});
  return index;
}

void DeliveryMachine::free_slot(Member& member, std::uint32_t index) {
  Slot& slot = member.slots[index];
  SLUICE_ASSERT(slot.stamp != 0);
  clear_deadline(member, index);
  if (slot.alone) alone_out_ = false;
  slot.stamp = 0;
  --member.out;
  if (member.out == 0) member.stalled = false;
  member.free_slots.push_back(index);
}

// The list is ascending because nearly every deadline is later than all before; the others stand apart.
void DeliveryMachine::set_deadline(Member& member, std::uint32_t index, std::uint64_t deadline_ns) {
  Slot& slot = member.slots[index];
  slot.deadline_ns = deadline_ns;
  slot.moved = member.latest != kNoSlot && deadline_ns < member.slots[member.latest].deadline_ns;
  if (slot.moved) {
    member.moved.emplace(deadline_ns, index);
    return;
  }
  slot.later = kNoSlot;
  slot.earlier = member.latest;
  (member.latest == kNoSlot ? member.earliest : member.slots[member.latest].later) = index;
  member.latest = index;
}

void DeliveryMachine::clear_deadline(Member& member, std::uint32_t index) {
  const Slot& slot = member.slots[index];
  if (slot.moved) {
    member.moved.erase({slot.deadline_ns, index});
    return;
  }
  (slot.earlier == kNoSlot ? member.earliest : member.slots[slot.earlier].later) = slot.later;
  (slot.later == kNoSlot ? member.latest : member.slots[slot.later].earlier) = slot.earlier;
}

// ---- shared groups: the log

std::uint32_t DeliveryMachine::wanted(const Place& place) const {
  const Partition& partition = partitions_.at(place);
  if (config_.mode != GroupMode::shared || partition.letters || paused_ || waiting_for_members()) return 0;
  if (partition.acks.pending().size() >= kPendingMax) return 0;
  std::uint32_t room = 0;
  for (const auto& [id, member] : members_)
    if (can_take(member, place, partition)) room += member.in_flight_max - member.out;
  return room;
}

void DeliveryMachine::offer(const Place& place, std::span<const LogItem> items, Position next, std::uint64_t now_ns) {
  Partition& partition = partitions_.at(place);
  for (const LogItem& item : items) {
    if (item.position < partition.next) continue;
    Flight flight{item.position, item.end, 0, 0, true};
    if (!partition.acks.is_settled(item.position) && partition.acks.find(item.position) == nullptr) {
      flight.member = choose(place, partition);
      if (flight.member == 0) {
        next = partition.next;  // from here on another time
        break;
      }
      flight.slot = deliver(flight.member, place, partition, item.position, {1, 0}, false, now_ns);
      flight.settled = false;
      Slot& slot = members_.at(flight.member).slots[flight.slot];
      slot.fresh = true;
      slot.flight = partition.flights_begin + partition.flights.size();
    }
    partition.flights.push_back(flight);
    partition.next = item.end;
    if (partition.flights.size() > kFlightsMax) carry_oldest_flight(partition);
  }
  partition.next = std::max(partition.next, next);
  pop_settled(partition);
}

// One that is in hand for long keeps no others: it is pending from now on.
void DeliveryMachine::carry_oldest_flight(Partition& partition) {
  pop_settled(partition);
  if (partition.flights.empty()) return;
  Flight& flight = partition.flights.front();
  members_.at(flight.member).slots[flight.slot].fresh = false;
  Pending pending;
  pending.delivered = 1;
  pending.state = PendingState::out;
  pending.member = flight.member;
  pending.slot = flight.slot;
  partition.acks.put(flight.position, std::move(pending));
  flight.settled = true;
  pop_settled(partition);
}

void DeliveryMachine::settle_flight(Partition& partition, std::uint64_t flight) {
  SLUICE_ASSERT(flight - partition.flights_begin < partition.flights.size());
  partition.flights[flight - partition.flights_begin].settled = true;
  partition.acks.mark_dirty();
  pop_settled(partition);
}

void DeliveryMachine::pop_settled(Partition& partition) {
  while (!partition.flights.empty() && partition.flights.front().settled) {
    partition.flights.pop_front();
    ++partition.flights_begin;
  }
  partition.acks.advance(partition.flights.empty() ? partition.next : partition.flights.front().position);
}

}  // namespace sluice::core
