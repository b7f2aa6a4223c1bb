// DeliveryMachine: what members say of messages, and what becomes of those that fail.

#include <algorithm>
#include <iterator>
#include <utility>

#include "daemon/core/delivery_machine.h"
#include "shm/base/assert.h"
#include "shm/base/limits.h"

namespace sluice::core {

void DeliveryMachine::outcome(MemberId id, const Outcome& outcome, std::uint64_t now_ns) {
  const auto found = members_.find(id);
  if (found == members_.end()) return;
  if (outcome.by_slot)
    outcome_of_slot(id, found->second, outcome, now_ns);
  else
    outcome_of_cell(id, found->second, outcome, now_ns);
}

std::optional<std::pair<Place, Position>> DeliveryMachine::settles(MemberId id, const Outcome& outcome) const {
  const auto found = members_.find(id);
  if (found == members_.end()) return std::nullopt;
  const Member& member = found->second;
  if (outcome.by_slot) {
    if (outcome.index >= member.slots.size() || outcome.target == 0 ||
        member.slots[outcome.index].stamp != outcome.target)
      return std::nullopt;
    return std::pair(member.slots[outcome.index].place, member.slots[outcome.index].position);
  }
  const auto at = member.cells.find(outcome.index);
  if (at == member.cells.end()) return std::nullopt;
  const Partition& partition = partitions_.at(at->second);
  const Position position(outcome.target);
  if (static_cast<std::uint32_t>(partition.generation) != outcome.generation || partition.acks.is_settled(position) ||
      partition.acks.pending().count(position) != 0)
    return std::nullopt;
  return std::pair(at->second, position);
}

// A stamp that the slot does not hold any more is late: the message is another's, or settled.
void DeliveryMachine::outcome_of_slot(MemberId id, Member& member, const Outcome& outcome, std::uint64_t now_ns) {
  if (outcome.index >= member.slots.size() || outcome.target == 0 ||
      member.slots[outcome.index].stamp != outcome.target)
    return;
  member.stalled = false;
  if (outcome.verb == Verb::extend) {
    // Bounded by what a clock can hold: nobody extends for ever by one word.
    const std::uint64_t by = std::min<std::uint64_t>(outcome.argument, config_.ack_timeout_ns + kExtendNsMax);
    clear_deadline(member, outcome.index);
    set_deadline(member, outcome.index, now_ns + by);
    return pump_for(id, now_ns);
  }
  const Slot slot = member.slots[outcome.index];
  Partition& partition = *slot.partition;
  free_slot(member, outcome.index);
  Counts counts{1, 0};
  if (slot.fresh)
    settle_flight(partition, slot.flight);
  else
    counts = counts_of(partition, slot.position);
  switch (outcome.verb) {
    case Verb::ack:
      ++partition.settled;
      if (!slot.fresh) ack_pending(slot.place, partition, slot.position, now_ns);
      break;
    case Verb::nack: {
      const std::optional<std::uint64_t> delay =
          outcome.argument == kByPolicy ? std::nullopt : std::optional(outcome.argument);
      fail(slot.place, partition, slot.position, counts, outcome.reason, delay, 0, false, now_ns);
      break;
    }
    case Verb::reject: reject(slot.place, partition, slot.position, counts, outcome.reason, now_ns); break;
    case Verb::extend: break;
    // A reference is never deferred: what says so has to be content with getting it again.
    case Verb::defer: wait_again(slot.place, partition, slot.position, counts, false, now_ns); break;
  }
  pump_for(id, now_ns);
}

void DeliveryMachine::outcome_of_cell(MemberId id, Member& member, const Outcome& outcome, std::uint64_t now_ns) {
  const auto at = member.cells.find(outcome.index);
  if (at == member.cells.end()) return;
  const Place place = at->second;
  Partition& partition = partitions_.at(place);
  if (static_cast<std::uint32_t>(partition.generation) != outcome.generation) return;
  const Position position(outcome.target);
  SLUICE_ASSERT(partition.owner == id);
  // Settled or failed before: its member was told, or will be.
  if (partition.acks.is_settled(position) || partition.acks.find(position) != nullptr) return;
  if (outcome.verb == Verb::extend) {
    if (partition.extended.size() >= kDeliverySlotsMax && partition.extended.count(position) == 0) return;
    partition.extended[position] =
        now_ns + std::min<std::uint64_t>(outcome.argument, config_.ack_timeout_ns + kExtendNsMax);
    return look_at_direct(partition);
  }
  partition.extended.erase(position);
  Counts counts = counts_of(partition, position);
  ++counts.delivered;
  switch (outcome.verb) {
    case Verb::ack: partition.acks.settle(position, std::max(Position(outcome.argument), position + 1)); break;
    case Verb::nack: {
      const std::optional<std::uint64_t> delay =
          outcome.argument == kByPolicy ? std::nullopt : std::optional(outcome.argument);
      fail(place, partition, position, counts, outcome.reason, delay, outcome.key_hash, false, now_ns);
      break;
    }
    case Verb::reject: reject(place, partition, position, counts, outcome.reason, now_ns); break;
    case Verb::extend: break;
    case Verb::defer: defer(place, partition, position, outcome.argument, now_ns); break;
  }
  pump_for(id, now_ns);
}

Counts DeliveryMachine::counts_of(const Partition& partition, Position position) const {
  if (const auto pending = partition.acks.pending().find(position); pending != partition.acks.pending().end())
    return {pending->second.delivered, pending->second.failed};
  const auto counts = partition.acks.counts().find(position);
  return counts == partition.acks.counts().end() ? Counts{} : counts->second;
}

void DeliveryMachine::ack_pending(const Place& place, Partition& partition, Position position, std::uint64_t now_ns) {
  const Pending* pending = partition.acks.find(position);
  SLUICE_ASSERT(pending != nullptr);
  const std::uint64_t key_hash = pending->key_hash;
  forget_pending(place, partition, position);
  let_on(place, partition, position, key_hash, now_ns);
  look_at_room(place, partition, now_ns);
}

// Where the log is still to be read, or may be read again by a next owner, it stays settled.
bool DeliveryMachine::forget_pending(const Place& place, Partition& partition, Position position) {
  const Pending* pending = partition.acks.find(position);
  if (pending == nullptr) return false;
  if (pending->state == PendingState::waiting && !pending->deferred) unschedule(place, partition, position);
  partition.acks.drop(position);
  if (!partition.letters && (by_owner(partition) || position >= partition.next))
    partition.acks.settle(position, position + 1);
  return true;
}

void DeliveryMachine::fail(const Place& place, Partition& partition, Position position, Counts before,
                           std::string reason, std::optional<std::uint64_t> delay_ns, std::uint64_t key_hash,
                           bool suspect, std::uint64_t now_ns) {
  Pending pending;
  if (const Pending* known = partition.acks.find(position)) pending = *known;
  pending.delivered = before.delivered;
  pending.failed = before.failed + 1;
  pending.reason = std::move(reason);
  pending.suspect = suspect;
  if (key_hash != 0) pending.key_hash = key_hash;
  if (pending.failed >= config_.max_attempts) return park(place, partition, position, std::move(pending), now_ns);
  const std::uint64_t delay =
      delay_ns ? std::min(*delay_ns, kRetryDelayNsMax) : config_.backoff.delay_ns(pending.failed, dice_());
  put_waiting(place, partition, position, std::move(pending), now_ns + delay, now_ns);
}

void DeliveryMachine::reject(const Place& place, Partition& partition, Position position, Counts before,
                             std::string reason, std::uint64_t now_ns) {
  Pending pending;
  if (const Pending* known = partition.acks.find(position)) pending = *known;
  pending.delivered = before.delivered;
  pending.failed = before.failed + 1;
  pending.reason = reason.empty() ? "rejected" : std::move(reason);
  park(place, partition, position, std::move(pending), now_ns);
}

// It comes again at once, and nobody is to blame (or nobody knows who is).
void DeliveryMachine::wait_again(const Place& place, Partition& partition, Position position, Counts counts,
                                 bool suspect, std::uint64_t now_ns) {
  Pending pending;
  if (const Pending* known = partition.acks.find(position)) pending = *known;
  pending.delivered = counts.delivered;
  pending.failed = counts.failed;
  pending.suspect |= suspect;
  put_waiting(place, partition, position, std::move(pending), now_ns, now_ns);
}

void DeliveryMachine::put_waiting(const Place& place, Partition& partition, Position position, Pending pending,
                                  std::uint64_t due_ns, std::uint64_t now_ns) {
  const std::uint64_t key_hash = pending.key_hash;
  pending.state = PendingState::waiting;
  pending.due_ns = due_ns;
  Pending& put = partition.acks.put(position, std::move(pending));
  put.deferred = !hold_back(place, partition, position, key_hash);
  if (!put.deferred) schedule(place, partition, position, due_ns);
  look_at_room(place, partition, now_ns);
}

void DeliveryMachine::park(const Place& place, Partition& partition, Position position, Pending pending,
                           std::uint64_t now_ns) {
  const std::uint64_t key_hash = pending.key_hash;
  pending.state = PendingState::parking;
  partition.acks.put(position, std::move(pending));
  actions_.emplace_back(Park{place, position});
  let_on(place, partition, position, key_hash, now_ns);
  look_at_room(place, partition, now_ns);
}

// An ordered partition in which too many messages wait is read no further: its owner gives it back, and gets it again
// blocked.
void DeliveryMachine::look_at_room(const Place& place, Partition& partition, std::uint64_t now_ns) {
  const std::size_t pending = partition.acks.pending().size();
  if (!by_owner(partition) || (partition.full ? pending >= kPendingMax / 2 : pending < kPendingMax)) return;
  partition.full = !partition.full;
  if (partition.owner == 0) return;
  if (!partition.full && partition.lanes.count(0) == 0) actions_.emplace_back(Unblock{partition.owner, place, 0});
  if (partition.full && !partition.wanted_back) want_back(partition, partition.owner, now_ns);
}

// ---- strict order

// Into its lane, if the group has any: 0 stands for the whole partition. True: it is the first one there, and may go
// on.
bool DeliveryMachine::hold_back(const Place& place, Partition& partition, Position position, std::uint64_t key_hash) {
  if (config_.strict == Strict::none || partition.letters) return true;
  if (config_.strict == Strict::partition) key_hash = 0;
  if (config_.strict == Strict::key && key_hash == 0) return true;
  std::set<Position>& lane = partition.lanes[key_hash];
  lane.insert(position);
  if (*lane.begin() != position) return false;
  // One behind it that was to go on waits for it now; one that is out already stays out.
  if (const auto second = std::next(lane.begin()); second != lane.end()) {
    Pending& behind = *partition.acks.find(*second);
    if (behind.state == PendingState::waiting && !behind.deferred) {
      unschedule(place, partition, *second);
      behind.deferred = true;
      partition.acks.touch(*second);
    }
  }
  return true;
}

void DeliveryMachine::defer(const Place& place, Partition& partition, Position position, std::uint64_t key_hash,
                            std::uint64_t now_ns) {
  Pending pending;
  pending.key_hash = key_hash;
  // Where what it was to wait for was settled meanwhile, it is the next one itself.
  put_waiting(place, partition, position, std::move(pending), now_ns, now_ns);
}

void DeliveryMachine::set_key(const Place& place, Position position, std::uint64_t key_hash) {
  const auto found = partitions_.find(place);
  if (found == partitions_.end() || config_.strict != Strict::key || key_hash == 0) return;
  Partition& partition = found->second;
  Pending* pending = partition.acks.find(position);
  if (pending == nullptr || pending->key_hash != 0 || pending->state == PendingState::parking) return;
  pending->key_hash = key_hash;
  partition.acks.touch(position);
  if (hold_back(place, partition, position, key_hash) || pending->state != PendingState::waiting) return;
  unschedule(place, partition, position);
  pending->deferred = true;
}

// The message is settled, or parked: what waited for it goes on. It may stand in either lane if `strict` was changed.
void DeliveryMachine::let_on(const Place& place, Partition& partition, Position position, std::uint64_t key_hash,
                             std::uint64_t now_ns) {
  for (const std::uint64_t key : {std::uint64_t{0}, key_hash}) {
    const auto lane = partition.lanes.find(key);
    if (lane == partition.lanes.end() || lane->second.erase(position) == 0) continue;
    if (lane->second.empty()) {
      partition.lanes.erase(lane);
      if (partition.owner != 0 && (key != 0 || !partition.full))
        actions_.emplace_back(Unblock{partition.owner, place, key});
      continue;
    }
    const Position next = *lane->second.begin();
    Pending& pending = *partition.acks.find(next);
    if (!pending.deferred) continue;  // it goes on already
    pending.deferred = false;
    partition.acks.touch(next);
    schedule(place, partition, next, std::max(pending.due_ns, now_ns));
  }
}

}  // namespace sluice::core
