// DeliveryMachine: what members say of messages, and what becomes of those that fail.

#include <algorithm>
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

// A stamp that the slot does not hold any more is late: the message is another's, or settled.
void DeliveryMachine::outcome_of_slot(MemberId id, Member& member, const Outcome& outcome, std::uint64_t now_ns) {
  if (outcome.index >= member.slots.size() || outcome.target == 0 ||
      member.slots[outcome.index].stamp != outcome.target)
    return;
  const Slot slot = member.slots[outcome.index];
  Partition& partition = partitions_.at(slot.place);
  if (outcome.verb == Verb::extend) {
    // Bounded by what a clock can hold: nobody extends for ever by one word.
    const std::uint64_t by = std::min<std::uint64_t>(outcome.argument, config_.ack_timeout_ns + kExtendNsMax);
    member.slots[outcome.index].deadline_ns = now_ns + by;
    if (now_ns + by < slot.deadline_ns)
      extended_.emplace(now_ns + by, Expiry{now_ns + by, id, outcome.index, slot.stamp});
    return;
  }
  free_slot(member, outcome.index);
  Counts counts = counts_of(partition, slot.position);
  if (slot.fresh) {
    counts.delivered = 1;
    settle_flight(partition, slot.position);
  }
  switch (outcome.verb) {
    case Verb::ack:
      ++partition.settled;
      if (!slot.fresh) ack_pending(slot.place, partition, slot.position, now_ns);
      break;
    case Verb::nack: {
      const std::optional<std::uint64_t> delay =
          outcome.argument == kByPolicy ? std::nullopt : std::optional(outcome.argument);
      fail(slot.place, partition, slot.position, counts, outcome.reason, delay, 0, now_ns);
      break;
    }
    case Verb::reject: {
      Pending pending;
      if (const Pending* known = partition.acks.find(slot.position)) pending = *known;
      pending.delivered = counts.delivered;
      pending.failed = counts.failed + 1;
      pending.reason = outcome.reason.empty() ? "rejected" : outcome.reason;
      park(slot.place, partition, slot.position, std::move(pending), now_ns);
      break;
    }
    case Verb::extend:
    case Verb::defer: break;  // a reference is never deferred
  }
  pump(now_ns);
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
  switch (outcome.verb) {
    case Verb::ack: partition.acks.settle(position, std::max(Position(outcome.argument), position + 1)); break;
    case Verb::extend:
      if (partition.extended.size() < kDeliverySlotsMax)
        partition.extended[position] =
            now_ns + std::min<std::uint64_t>(outcome.argument, config_.ack_timeout_ns + kExtendNsMax);
      break;
    case Verb::nack:
    case Verb::reject: {
      Counts counts = counts_of(partition, position);
      ++counts.delivered;
      if (outcome.verb == Verb::nack) {
        const std::optional<std::uint64_t> delay =
            outcome.argument == kByPolicy ? std::nullopt : std::optional(outcome.argument);
        fail(place, partition, position, counts, outcome.reason, delay, outcome.key_hash, now_ns);
        break;
      }
      Pending pending;
      pending.delivered = counts.delivered;
      pending.failed = counts.failed + 1;
      pending.reason = outcome.reason.empty() ? "rejected" : outcome.reason;
      park(place, partition, position, std::move(pending), now_ns);
      break;
    }
    case Verb::defer: defer(place, partition, position, outcome.argument, now_ns); break;
  }
  pump(now_ns);
}

Counts DeliveryMachine::counts_of(const Partition& partition, Position position) const {
  if (const auto pending = partition.acks.pending().find(position); pending != partition.acks.pending().end())
    return {pending->second.delivered, pending->second.failed};
  const auto counts = partition.acks.counts().find(position);
  return counts == partition.acks.counts().end() ? Counts{} : counts->second;
}

void DeliveryMachine::settle_flight(Partition& partition, Position position) {
  const auto flight = std::lower_bound(partition.flights.begin(), partition.flights.end(), position,
                                       [](const Flight& a, Position b) { return a.position < b; });
  SLUICE_ASSERT(flight != partition.flights.end() && flight->position == position);
  flight->settled = true;
  while (!partition.flights.empty() && partition.flights.front().settled) partition.flights.pop_front();
  partition.acks.advance(partition.flights.empty() ? partition.next : partition.flights.front().position);
  partition.acks.mark_dirty();
}

void DeliveryMachine::ack_pending(const Place& place, Partition& partition, Position position, std::uint64_t now_ns) {
  const Pending* pending = partition.acks.find(position);
  SLUICE_ASSERT(pending != nullptr);
  const std::uint64_t key_hash = pending->key_hash;
  forget_pending(partition, position);
  let_on(place, partition, position, key_hash, now_ns);
}

// Above the cursor it stays settled: its partition's next owner must not read it again.
void DeliveryMachine::forget_pending(Partition& partition, Position position) {
  partition.acks.drop(position);
  if (config_.mode == GroupMode::ordered && !partition.letters) partition.acks.settle(position, position + 1);
}

void DeliveryMachine::fail(const Place& place, Partition& partition, Position position, Counts before,
                           std::string reason, std::optional<std::uint64_t> delay_ns, std::uint64_t key_hash,
                           std::uint64_t now_ns) {
  Pending pending;
  if (const Pending* known = partition.acks.find(position))
    pending = *known;
  else
    pending.order = order_++;
  pending.delivered = before.delivered;
  pending.failed = before.failed + 1;
  pending.reason = std::move(reason);
  pending.suspect = false;
  if (key_hash != 0) pending.key_hash = key_hash;
  if (pending.failed >= config_.max_attempts) return park(place, partition, position, std::move(pending), now_ns);
  pending.state = PendingState::waiting;
  hold_back(partition, position, pending.key_hash);
  const std::uint64_t delay =
      delay_ns ? std::min(*delay_ns, kRetryDelayNsMax) : config_.backoff.delay_ns(pending.failed, dice_());
  partition.acks.put(position, std::move(pending));
  schedule(place, partition, position, now_ns + delay);
}

// It comes again at once, and nobody is to blame (or nobody knows who is).
void DeliveryMachine::wait_again(const Place& place, Partition& partition, Position position, Counts counts,
                                 bool suspect, std::uint64_t now_ns) {
  Pending pending;
  if (const Pending* known = partition.acks.find(position))
    pending = *known;
  else
    pending.order = order_++;
  pending.delivered = counts.delivered;
  pending.failed = counts.failed;
  pending.suspect |= suspect;
  pending.state = PendingState::waiting;
  partition.acks.put(position, std::move(pending));
  schedule(place, partition, position, now_ns);
}

void DeliveryMachine::park(const Place& place, Partition& partition, Position position, Pending pending,
                           std::uint64_t now_ns) {
  const std::uint64_t key_hash = pending.key_hash;
  pending.state = PendingState::parking;
  partition.acks.put(position, std::move(pending));
  actions_.emplace_back(Park{place, position});
  let_on(place, partition, position, key_hash, now_ns);
}

// ---- strict order

void DeliveryMachine::hold_back(Partition& partition, Position position, std::uint64_t key_hash) {
  if (config_.strict == Strict::partition) partition.blocked = true;
  if (config_.strict != Strict::key || key_hash == 0) return;
  std::deque<Position>& queue = partition.keys[key_hash];
  if (std::find(queue.begin(), queue.end(), position) == queue.end()) queue.push_back(position);
}

void DeliveryMachine::defer(const Place& place, Partition& partition, Position position, std::uint64_t key_hash,
                            std::uint64_t now_ns) {
  if (config_.strict != Strict::key || key_hash == 0) return;
  Pending pending;
  pending.key_hash = key_hash;
  pending.order = order_++;
  const bool behind = partition.keys.count(key_hash) != 0;
  pending.deferred = behind;
  partition.acks.put(position, std::move(pending));
  hold_back(partition, position, key_hash);
  // What it was to wait for was settled meanwhile: it is the next one itself.
  if (!behind) schedule(place, partition, position, now_ns);
}

// The message is settled, or parked: what waited for it goes on.
void DeliveryMachine::let_on(const Place& place, Partition& partition, Position position, std::uint64_t key_hash,
                             std::uint64_t now_ns) {
  if (partition.blocked) {
    const auto& pending = partition.acks.pending();
    const bool others = std::any_of(pending.begin(), pending.end(),
                                    [](const auto& entry) { return entry.second.state != PendingState::parking; });
    if (others) return;
    partition.blocked = false;
    if (partition.owner != 0) actions_.emplace_back(Unblock{partition.owner, place, 0});
    return;
  }
  const auto queue = partition.keys.find(key_hash);
  if (key_hash == 0 || queue == partition.keys.end()) return;
  std::erase(queue->second, position);
  if (queue->second.empty()) {
    partition.keys.erase(queue);
    if (partition.owner != 0) actions_.emplace_back(Unblock{partition.owner, place, key_hash});
    return;
  }
  const Position next = queue->second.front();
  Pending* pending = partition.acks.find(next);
  SLUICE_ASSERT(pending != nullptr);
  if (!pending->deferred) return;  // it was the first one already
  pending->deferred = false;
  partition.acks.touch(next);
  schedule(place, partition, next, now_ns);
}

}  // namespace sluice::core
