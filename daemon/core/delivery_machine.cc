#include "daemon/core/delivery_machine.h"

#include <algorithm>
#include <utility>

#include "shm/base/assert.h"
#include "shm/base/limits.h"

namespace sluice::core {
namespace {

std::uint64_t earlier(std::uint64_t a, std::uint64_t b) { return a == 0 || (b != 0 && b < a) ? b : a; }

}  // namespace

// ---- partitions

void DeliveryMachine::add(const Place& place, Position start, std::uint64_t now_ns) {
  partitions_.emplace(place, start);
  rebalance(now_ns);
}

AckState& DeliveryMachine::restore(const Place& place, Position cursor) {
  return partitions_.emplace(place, cursor).first->second.acks;
}

void DeliveryMachine::restored(std::uint32_t members, std::uint64_t now_ns) {
  for (auto& [place, partition] : partitions_) {
    // By their order: those of one key stand behind each other again.
    std::map<std::uint64_t, Position> ordered;
    for (const auto& [position, pending] : partition.acks.pending()) {
      ordered.emplace(pending.order, position);
      order_ = std::max(order_, pending.order + 1);
      partition.letters |= pending.letter != 0;
    }
    for (const auto& [order, position] : ordered) {
      Pending& pending = *partition.acks.find(position);
      if (pending.state == PendingState::parking) {
        actions_.emplace_back(Park{place, position});
        continue;
      }
      pending.state = PendingState::waiting;
      hold_back(partition, position, pending.key_hash);
      if (!pending.deferred) due_.insert({pending.due_ns, place, position});
    }
  }
  expected_ = members;
  if (members != 0) rejoin_by_ns_ = now_ns + kRejoinNsMax;
}

void DeliveryMachine::remove(const Place& place, std::uint64_t now_ns) {
  const auto found = partitions_.find(place);
  if (found == partitions_.end()) return;
  take_from_owner(found->second);
  for (auto& [id, member] : members_) {
    for (std::uint32_t index = 0; index < member.slots.size(); ++index) {
      if (member.slots[index].stamp == 0 || member.slots[index].place != place) continue;
      actions_.emplace_back(Withdraw{id, member.slots[index].stamp, place, member.slots[index].position});
      free_slot(member, index);
    }
  }
  std::erase_if(due_, [&](const Due& due) { return due.place == place; });
  ready_places_.erase(place);
  partitions_.erase(found);
  rebalance(now_ns);
}

std::vector<Place> DeliveryMachine::places() const {
  std::vector<Place> places;
  places.reserve(partitions_.size());
  for (const auto& [place, partition] : partitions_) places.push_back(place);
  return places;
}

std::vector<PositionSpan> DeliveryMachine::settled_above(const Place& place) const {
  const Partition& partition = partitions_.at(place);
  std::vector<PositionSpan> spans = partition.acks.settled();
  std::vector<PositionSpan> flown;
  bool joined = false;
  for (const Flight& flight : partition.flights) {
    if (!flight.settled) {
      joined = false;
      continue;
    }
    if (joined) {
      flown.back().end = flight.end;
    } else if (flown.size() < kAckRangesMax) {
      flown.push_back({flight.position, flight.end});
      joined = true;
    }
  }
  // Those of the store lie above what was handed out, or are in it.
  const Position handed_out = partition.flights.empty() ? partition.acks.cursor() : partition.flights.back().end;
  for (const PositionSpan& span : spans)
    if (span.begin >= handed_out) flown.push_back(span);
  return flown;
}

PartitionView DeliveryMachine::view(const Place& place) const {
  const Partition& partition = partitions_.at(place);
  PartitionView view;
  view.owner = partition.owner;
  view.wanted_back = partition.wanted_back;
  view.cursor = partition.acks.cursor();
  view.settled = partition.settled;
  for (const Flight& flight : partition.flights) view.in_flight += flight.settled ? 0 : 1;
  if (partition.owner != 0) {
    view.in_flight += partition.words.in_flight;
    view.settled += partition.words.settled;
    if (partition.words.oldest.value != 0) view.oldest_in_hand_since_ns = partition.oldest_since_ns;
  }
  for (const auto& [position, pending] : partition.acks.pending()) {
    view.in_flight += pending.state == PendingState::out ? 1 : 0;
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
  take_from_owner(partition);
  for (auto& [id, member] : members_) {
    for (std::uint32_t index = 0; index < member.slots.size(); ++index) {
      if (member.slots[index].stamp == 0 || member.slots[index].place != place) continue;
      actions_.emplace_back(Withdraw{id, member.slots[index].stamp, place, member.slots[index].position});
      free_slot(member, index);
    }
  }
  std::vector<Position> forgotten;
  for (const auto& [position, pending] : partition.acks.pending())
    if (pending.state != PendingState::parking) forgotten.push_back(position);
  for (const Position position : forgotten) partition.acks.drop(position);
  std::erase_if(due_, [&](const Due& due) { return due.place == place; });
  partition.ready.clear();
  ready_places_.erase(place);
  partition.flights.clear();
  partition.keys.clear();
  partition.extended.clear();
  partition.blocked = false;
  partition.careful_until = Position(0);
  partition.acks.seek(to);
  partition.next = to;
  rebalance(now_ns);
}

// ---- members

void DeliveryMachine::join(MemberId id, MemberJoin join, std::uint64_t now_ns) {
  Member& member = members_[id];
  member.topics = std::move(join.topics);
  member.in_flight_max = std::clamp<std::uint32_t>(join.in_flight_max, 1, kDeliverySlotsMax);
  member.slots.resize(member.in_flight_max);
  for (std::uint32_t slot = member.in_flight_max; slot > 0; --slot) member.free_slots.push_back(slot - 1);
  member.progress_at_ns = now_ns;
  for (const HeldRange& held : join.held_partitions) {
    const auto found = partitions_.find(held.place);
    if (found == partitions_.end() || found->second.owner != 0 || config_.mode != GroupMode::ordered || paused_ ||
        member.topics.count(held.place.topic) == 0 || member.cells.size() >= kMemberCellsMax)
      continue;
    found->second.acks.advance(held.words.acked);
    assign(found->first, found->second, id, now_ns);
    found->second.words = held.words;
    found->second.words.acked = found->second.acks.cursor();
    found->second.oldest_since_ns = now_ns;
  }
  for (const HeldReference& held : join.held_messages)
    if (partitions_.count(held.place) != 0) held_[{held.place, held.position}] = {id, held.counts};
  if (waiting_for_members() && members_.size() >= expected_) rejoin_by_ns_ = 0;
  rebalance(now_ns);
  pump(now_ns);
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
    Partition& partition = partitions_.at(slot.place);
    Counts counts = counts_of(partition, slot.position);
    const bool begun = started.count(index) != 0;
    if (begun && slot.fresh) counts.delivered = 1;
    if (!begun && counts.delivered > 0 && !slot.fresh) --counts.delivered;  // it was not handed out
    if (slot.fresh) settle_flight(partition, slot.position);
    if (begun && sole)
      fail(slot.place, partition, slot.position, counts,
           ending == Ending::hung ? "its consumer hung" : "its consumer died", std::nullopt, 0, now_ns);
    else
      wait_again(slot.place, partition, slot.position, counts, begun && ending != Ending::left, now_ns);
  }
  std::erase_if(held_, [&](const auto& held) { return held.second.first == id; });
  for (auto& [place, partition] : partitions_)
    if (partition.promised == id) partition.promised = 0;
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

void DeliveryMachine::pause(bool paused, std::uint64_t now_ns) {
  paused_ = paused;
  if (paused_) {
    for (auto& [place, partition] : partitions_)
      if (partition.owner != 0 && !partition.wanted_back) want_back(partition, 0, now_ns);
    return;
  }
  rebalance(now_ns);
  pump(now_ns);
}

void DeliveryMachine::alive(MemberId id, std::uint64_t progress, std::uint64_t now_ns) {
  const auto found = members_.find(id);
  if (found == members_.end() || found->second.progress == progress) return;
  found->second.progress = progress;
  found->second.progress_at_ns = now_ns;
}

void DeliveryMachine::recalled(MemberId id, std::uint32_t index, std::uint64_t now_ns) {
  const auto found = members_.find(id);
  if (found == members_.end() || index >= found->second.slots.size() || found->second.slots[index].stamp == 0) return;
  const Slot slot = found->second.slots[index];
  free_slot(found->second, index);
  Partition& partition = partitions_.at(slot.place);
  Counts counts = counts_of(partition, slot.position);
  if (!slot.fresh && counts.delivered > 0) --counts.delivered;
  if (slot.fresh) settle_flight(partition, slot.position);
  wait_again(slot.place, partition, slot.position, counts, false, now_ns);
}

// ---- handing out

void DeliveryMachine::schedule(const Place& place, Partition& partition, Position position, std::uint64_t due_ns) {
  Pending& pending = *partition.acks.find(position);
  pending.due_ns = due_ns;
  due_.insert({due_ns, place, position});
}

void DeliveryMachine::pump(std::uint64_t now_ns) {
  while (!due_.empty() && due_.begin()->due_ns <= now_ns) {
    const Due due = *due_.begin();
    due_.erase(due_.begin());
    partitions_.at(due.place).ready.insert(due.position);
    ready_places_.insert(due.place);
  }
  if (paused_ || waiting_for_members()) return;
  const std::vector<Place> ready(ready_places_.begin(), ready_places_.end());
  for (const Place& place : ready) pump(place, partitions_.at(place), now_ns);
}

void DeliveryMachine::pump(const Place& place, Partition& partition, std::uint64_t now_ns) {
  for (auto next = partition.ready.begin(); next != partition.ready.end();) {
    const Position position = *next;
    Pending* pending = partition.acks.find(position);
    if (pending == nullptr || pending->state != PendingState::waiting) {
      next = partition.ready.erase(next);
      continue;
    }
    if (pending->suspect && alone_out_) {
      ++next;
      continue;
    }
    const MemberId id = choose(place, partition, position);
    if (id == 0) break;
    next = partition.ready.erase(next);
    ++pending->delivered;
    pending->state = PendingState::out;
    pending->member = id;
    pending->slot =
        deliver(id, place, position, {pending->delivered, pending->failed}, false, pending->suspect, now_ns);
    partition.acks.touch(position);
  }
  if (partition.ready.empty()) ready_places_.erase(place);
}

// Who gets it: whoever has it in hand already, the partition's owner, or the next one in turn that has room.
MemberId DeliveryMachine::choose(const Place& place, const Partition& partition, Position position) {
  if (const auto held = held_.find({place, position}); held != held_.end()) {
    const MemberId id = held->second.first;
    if (has_room(members_.at(id))) return id;
  }
  if (config_.mode == GroupMode::ordered && !partition.letters) {
    if (partition.owner == 0 || !has_room(members_.at(partition.owner))) return 0;
    return partition.owner;
  }
  if (members_.empty()) return 0;
  auto member = members_.upper_bound(last_served_);
  for (std::size_t tried = 0; tried < members_.size(); ++tried, ++member) {
    if (member == members_.end()) member = members_.begin();
    if (!has_room(member->second)) continue;
    if (!partition.letters && member->second.topics.count(place.topic) == 0) continue;
    last_served_ = member->first;
    return member->first;
  }
  return 0;
}

std::uint32_t DeliveryMachine::deliver(MemberId id, const Place& place, Position position, Counts counts, bool fresh,
                                       bool alone, std::uint64_t now_ns) {
  Member& member = members_.at(id);
  SLUICE_ASSERT(!member.free_slots.empty());
  const std::uint32_t index = member.free_slots.back();
  member.free_slots.pop_back();
  ++member.out;
  // It is idle until it gets something: its time to show progress begins now.
  if (member.out + member.direct == 1) member.progress_at_ns = now_ns;
  const std::uint64_t deadline = now_ns + config_.ack_timeout_ns;
  member.slots[index] = {++stamp_, place, position, deadline, fresh, alone};
  alone_out_ |= alone;
  expiries_.push_back({deadline, id, index, stamp_});
  held_.erase({place, position});
  actions_.emplace_back(Deliver{id, index, stamp_, place, position, counts.delivered, counts.failed, alone});
  return index;
}

void DeliveryMachine::free_slot(Member& member, std::uint32_t index) {
  Slot& slot = member.slots[index];
  SLUICE_ASSERT(slot.stamp != 0);
  if (slot.alone) alone_out_ = false;
  slot.stamp = 0;
  --member.out;
  member.free_slots.push_back(index);
}

// ---- shared groups: the log

std::uint32_t DeliveryMachine::wanted(const Place& place) const {
  const Partition& partition = partitions_.at(place);
  if (config_.mode != GroupMode::shared || partition.letters || paused_ || waiting_for_members()) return 0;
  if (partition.acks.pending().size() >= kPendingMax) return 0;
  std::uint32_t room = 0;
  for (const auto& [id, member] : members_)
    if (member.topics.count(place.topic) != 0) room += member.in_flight_max - member.out;
  return room;
}

void DeliveryMachine::offer(const Place& place, std::span<const LogItem> items, Position next, std::uint64_t now_ns) {
  Partition& partition = partitions_.at(place);
  for (const LogItem& item : items) {
    if (item.position < partition.next) continue;
    Flight flight{item.position, item.end, 0, 0, false};
    if (partition.acks.is_settled(item.position) || partition.acks.find(item.position) != nullptr) {
      flight.settled = true;
    } else {
      const MemberId id = choose(place, partition, item.position);
      SLUICE_ASSERT(id != 0);
      Counts counts{1, 0};
      if (const auto held = held_.find({place, item.position}); held != held_.end()) counts = held->second.second;
      flight.member = id;
      flight.slot = deliver(id, place, item.position, counts, true, false, now_ns);
    }
    partition.flights.push_back(flight);
    partition.next = item.end;
  }
  partition.next = std::max(partition.next, next);
  if (partition.flights.empty()) {
    partition.acks.advance(partition.next);
    return;
  }
  if (partition.flights.front().settled) settle_flight(partition, partition.flights.front().position);
}

// ---- dead letters

void DeliveryMachine::parked(const Place& place, Position position) {
  const auto found = partitions_.find(place);
  if (found != partitions_.end()) forget_pending(found->second, position);
}

void DeliveryMachine::redrive(const Place& place, Position position, std::uint64_t letter, std::uint64_t due_ns) {
  Partition& partition = partitions_.emplace(place, Position(0)).first->second;
  partition.letters = true;
  Pending pending;
  pending.letter = letter;
  pending.order = order_++;
  partition.acks.put(position, std::move(pending));
  schedule(place, partition, position, due_ns);
}

// ---- time

void DeliveryMachine::tick(std::uint64_t now_ns) {
  if (waiting_for_members() && now_ns >= rejoin_by_ns_) {
    rejoin_by_ns_ = 0;
    rebalance(now_ns);
  }
  std::vector<MemberId> hung;
  for (const auto& [id, member] : members_)
    if (member.out + member.direct != 0 && now_ns - member.progress_at_ns >= config_.member_timeout_ns)
      hung.push_back(id);
  for (const MemberId id : hung) {
    // What of it the application had begun is not known better than that it was handed out.
    std::set<std::uint32_t> out;
    for (const std::uint32_t slot : slots_out(id)) out.insert(slot);
    leave(id, Ending::hung, out, now_ns);
  }
  expire_slots(now_ns);
  if (direct_check_ns_ != 0 && now_ns >= direct_check_ns_) expire_direct(now_ns);
  bool given_back = false;
  for (auto& [place, partition] : partitions_) {
    if (!partition.wanted_back || now_ns < partition.give_back_by_ns) continue;
    give_back(place, partition, now_ns);
    given_back = true;
  }
  if (given_back) rebalance(now_ns);
  pump(now_ns);
}

void DeliveryMachine::expire_slots(std::uint64_t now_ns) {
  std::vector<Expiry> late;
  while (!expiries_.empty() && expiries_.front().deadline_ns <= now_ns) {
    late.push_back(expiries_.front());
    expiries_.pop_front();
  }
  while (!extended_.empty() && extended_.begin()->first <= now_ns) {
    late.push_back(extended_.begin()->second);
    extended_.erase(extended_.begin());
  }
  for (const Expiry& expiry : late) {
    const auto found = members_.find(expiry.member);
    if (found == members_.end()) continue;
    const Slot slot = found->second.slots[expiry.slot];
    if (slot.stamp != expiry.stamp) continue;  // settled since
    if (slot.deadline_ns > now_ns) {
      extended_.emplace(slot.deadline_ns, Expiry{slot.deadline_ns, expiry.member, expiry.slot, expiry.stamp});
      continue;
    }
    free_slot(found->second, expiry.slot);
    actions_.emplace_back(Withdraw{expiry.member, slot.stamp, slot.place, slot.position});
    Partition& partition = partitions_.at(slot.place);
    Counts counts = counts_of(partition, slot.position);
    if (slot.fresh) {
      counts.delivered = 1;
      settle_flight(partition, slot.position);
    }
    fail(slot.place, partition, slot.position, counts, "no outcome within ack_timeout", std::nullopt, 0, now_ns);
  }
}

std::uint64_t DeliveryMachine::direct_deadline_ns(const Partition& partition) const {
  if (partition.owner == 0 || partition.words.oldest.value == 0) return 0;
  // One that has failed already stays in its member's hands until that says something.
  if (partition.acks.pending().count(partition.words.oldest) != 0) return 0;
  const auto extended = partition.extended.find(partition.words.oldest);
  const std::uint64_t since = partition.oldest_since_ns + config_.ack_timeout_ns;
  return extended == partition.extended.end() ? since : std::max(since, extended->second);
}

void DeliveryMachine::expire_direct(std::uint64_t now_ns) {
  direct_check_ns_ = 0;
  for (auto& [place, partition] : partitions_) {
    const std::uint64_t deadline = direct_deadline_ns(partition);
    if (deadline == 0) continue;
    if (deadline > now_ns) {
      direct_check_ns_ = earlier(direct_check_ns_, deadline);
      continue;
    }
    const Position position = partition.words.oldest;
    Counts counts = counts_of(partition, position);
    ++counts.delivered;
    actions_.emplace_back(Withdraw{partition.owner, 0, place, position});
    fail(place, partition, position, counts, "no outcome within ack_timeout", std::nullopt, 0, now_ns);
  }
}

std::uint64_t DeliveryMachine::deadline_ns() const {
  std::uint64_t deadline = earlier(rejoin_by_ns_, direct_check_ns_);
  if (!expiries_.empty()) deadline = earlier(deadline, expiries_.front().deadline_ns);
  if (!extended_.empty()) deadline = earlier(deadline, extended_.begin()->first);
  if (!due_.empty()) deadline = earlier(deadline, std::max<std::uint64_t>(1, due_.begin()->due_ns));
  for (const auto& [id, member] : members_)
    if (member.out + member.direct != 0)
      deadline = earlier(deadline, member.progress_at_ns + config_.member_timeout_ns);
  for (const auto& [place, partition] : partitions_)
    if (partition.wanted_back) deadline = earlier(deadline, partition.give_back_by_ns);
  return deadline;
}

std::vector<Place> DeliveryMachine::dirty() const {
  std::vector<Place> places;
  for (const auto& [place, partition] : partitions_)
    if (partition.acks.dirty()) places.push_back(place);
  return places;
}

void DeliveryMachine::check_invariants() const {
  for (const auto& [place, partition] : partitions_) {
    if (partition.owner != 0) {
      const Member& owner = members_.at(partition.owner);
      SLUICE_ASSERT(owner.cells.at(partition.cell) == place);
    }
    Position before = partition.acks.cursor();
    for (const Flight& flight : partition.flights) {
      SLUICE_ASSERT(flight.position >= before);
      before = flight.end;
    }
    for (const auto& [position, pending] : partition.acks.pending()) {
      if (pending.state != PendingState::out) continue;
      const Slot& slot = members_.at(pending.member).slots[pending.slot];
      SLUICE_ASSERT(slot.stamp != 0 && slot.place == place && slot.position == position && !slot.fresh);
    }
  }
  bool alone = false;
  for (const auto& [id, member] : members_) {
    std::uint32_t out = 0;
    for (const Slot& slot : member.slots) {
      out += slot.stamp != 0 ? 1 : 0;
      SLUICE_ASSERT(slot.stamp == 0 || !slot.alone || !alone);
      alone |= slot.stamp != 0 && slot.alone;
    }
    SLUICE_ASSERT(out == member.out && member.out + member.free_slots.size() == member.slots.size());
  }
  SLUICE_ASSERT(alone == alone_out_);
}

}  // namespace sluice::core
