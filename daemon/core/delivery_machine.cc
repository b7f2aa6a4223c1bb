// DeliveryMachine: its partitions, and what is told of them.

#include "daemon/core/delivery_machine.h"

#include <algorithm>
#include <utility>

#include "shm/base/assert.h"
#include "shm/base/limits.h"

namespace sluice::core {

void DeliveryMachine::add(const Place& place, Position start, std::uint64_t now_ns) {
  const auto [at, added] = partitions_.emplace(place, start);
  Partition& partition = at->second;
  if (!added && partition.letters) {
    // Its letters were handed out again before the group subscribed to them: from now on it is read as any other.
    partition.letters = false;
    partition.acks.seek(start);
    partition.next = start;
    if (by_owner(partition)) ready_places_.erase(place);
  }
  rebalance(now_ns);
  pump(now_ns);
}

AckState& DeliveryMachine::restore(const Place& place, Position cursor) {
  return partitions_.emplace(place, cursor).first->second.acks;
}

void DeliveryMachine::restored(std::uint32_t members, std::uint64_t now_ns) {
  for (auto& [place, partition] : partitions_) {
    std::vector<Position> waiting;
    for (const auto& [position, pending] : partition.acks.pending()) {
      partition.letters |= pending.letter != 0 && partition.acks.cursor() == Position(0);
      if (pending.state == PendingState::parking)
        actions_.emplace_back(Park{place, position});
      else
        waiting.push_back(position);
    }
    // Ascending: those of one lane stand behind each other again.
    for (const Position position : waiting) {
      Pending& pending = *partition.acks.find(position);
      pending.state = PendingState::waiting;
      pending.deferred = !hold_back(place, partition, position, pending.key_hash);
      if (!pending.deferred) schedule(place, partition, position, pending.due_ns);
    }
    look_at_room(place, partition, now_ns);
  }
  expected_ = members;
  if (members != 0) rejoin_by_ns_ = now_ns + kRejoinNsMax;
}

void DeliveryMachine::remove(const Place& place, std::uint64_t now_ns) {
  const auto found = partitions_.find(place);
  if (found == partitions_.end()) return;
  withdraw_all(place);
  take_from_owner(place, found->second);
  partitions_.erase(found);
  rebalance(now_ns);
  pump(now_ns);
}

void DeliveryMachine::withdraw_all(const Place& place) {
  Partition& partition = partitions_.at(place);
  for (auto& [id, member] : members_) {
    for (std::uint32_t index = 0; member.out != 0 && index < member.slots.size(); ++index) {
      const Slot slot = member.slots[index];
      if (slot.stamp == 0 || slot.partition != &partition) continue;
      actions_.emplace_back(Withdraw{id, slot.stamp, place, slot.position});
      free_slot(member, index);
    }
  }
  for (const auto& [position, pending] : partition.acks.pending())
    if (pending.state == PendingState::waiting && !pending.deferred) unschedule(place, partition, position);
}

std::vector<Place> DeliveryMachine::places() const {
  std::vector<Place> places;
  places.reserve(partitions_.size());
  for (const auto& [place, partition] : partitions_) places.push_back(place);
  return places;
}

std::vector<PositionSpan> DeliveryMachine::settled_above(const Place& place) const {
  const Partition& partition = partitions_.at(place);
  std::vector<PositionSpan> spans;
  bool joined = false;
  for (const Flight& flight : partition.flights) {
    if (!flight.settled) {
      joined = false;
      continue;
    }
    if (joined) {
      spans.back().end = flight.end;
    } else if (spans.size() < kAckRangesMax) {
      spans.push_back({flight.position, flight.end});
      joined = true;
    }
  }
  // What was settled before it was handed out lies above, or is in it.
  const Position handed_out = partition.flights.empty() ? partition.acks.cursor() : partition.flights.back().end;
  for (const PositionSpan& span : partition.acks.settled())
    if (span.end > handed_out) spans.push_back({std::max(span.begin, handed_out), span.end});
  return spans;
}

PartitionView DeliveryMachine::view(const Place& place) const {
  const Partition& partition = partitions_.at(place);
  PartitionView view;
  view.owner = partition.owner;
  view.wanted_back = partition.wanted_back;
  view.full = partition.full || partition.acks.pending().size() >= kPendingMax;
  view.cursor = partition.acks.cursor();
  view.settled = partition.settled;
  const auto in_hand = [&view](MemberId id, std::uint64_t since_ns) {
    if (view.oldest_in_hand_by != 0 && view.oldest_in_hand_since_ns <= since_ns) return;
    view.oldest_in_hand_since_ns = since_ns;
    view.oldest_in_hand_by = id;
  };
  for (const Flight& flight : partition.flights) {
    if (flight.settled) continue;
    ++view.in_flight;
    in_hand(flight.member, members_.at(flight.member).slots[flight.slot].since_ns);
  }
  if (partition.owner != 0) {
    view.in_flight += partition.words.in_flight;
    view.settled += partition.words.settled;
    if (partition.words.oldest.value != 0) in_hand(partition.owner, partition.oldest_since_ns);
  }
  for (const auto& [position, pending] : partition.acks.pending()) {
    if (pending.state == PendingState::out) {
      ++view.in_flight;
      in_hand(pending.member, members_.at(pending.member).slots[pending.slot].since_ns);
    }
    view.retrying += pending.state == PendingState::waiting ? 1 : 0;
    if (pending.failed <= view.worst_failed || pending.state == PendingState::parking) continue;
    view.worst_failed = pending.failed;
    view.worst = position;
  }
  for (const auto& [position, counts] : partition.acks.counts()) {
    if (counts.failed <= view.worst_failed) continue;
    view.worst_failed = counts.failed;
    view.worst = position;
  }
  return view;
}

void DeliveryMachine::seek(const Place& place, Position to, std::uint64_t now_ns) {
  Partition& partition = partitions_.at(place);
  if (partition.letters) return;
  const MemberId keeper = partition.promised != 0 ? partition.promised : partition.owner;
  withdraw_all(place);
  take_from_owner(place, partition);
  std::vector<Position> forgotten;
  for (const auto& [position, pending] : partition.acks.pending())
    if (pending.state != PendingState::parking) forgotten.push_back(position);
  for (const Position position : forgotten) partition.acks.drop(position);
  partition.flights.clear();
  partition.lanes.clear();
  partition.careful_until = Position(0);
  partition.acks.seek(to);
  partition.next = to;
  look_at_room(place, partition, now_ns);
  // Nobody loses it to a seek.
  if (!paused_ && may_have(keeper, place)) assign(place, partition, keeper, now_ns);
  rebalance(now_ns);
  pump(now_ns);
}

std::vector<Place> DeliveryMachine::dirty() const {
  std::vector<Place> places;
  for (const auto& [place, partition] : partitions_)
    if (partition.acks.dirty()) places.push_back(place);
  return places;
}

// ---- dead letters

void DeliveryMachine::parked(const Place& place, Position position) {
  const auto found = partitions_.find(place);
  if (found != partitions_.end()) forget_pending(place, found->second, position);
}

// Its letter is not noted: nobody may take it for settled.
void DeliveryMachine::not_parked(const Place& place, Position position, Pending pending) {
  SLUICE_ASSERT(pending.state == PendingState::parking);
  const auto found = partitions_.find(place);
  if (found != partitions_.end()) found->second.acks.put(position, std::move(pending));
}

bool DeliveryMachine::redrive(const Place& place, Position position, std::uint64_t letter, std::uint64_t due_ns) {
  const auto [at, added] = partitions_.emplace(place, Position(0));
  Partition& partition = at->second;
  partition.letters |= added;
  const auto& under_way = partition.acks.pending();
  if (under_way.count(position) != 0 || under_way.size() >= kPendingMax) return false;
  Pending pending;
  pending.letter = letter;
  partition.acks.put(position, std::move(pending));
  schedule(place, partition, position, due_ns);
  return true;
}

}  // namespace sluice::core
