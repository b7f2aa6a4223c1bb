// DeliveryMachine: what happens because time passes, and what must hold at any time.

#include <algorithm>
#include <utility>

#include "daemon/core/delivery_machine.h"
#include "shm/base/assert.h"
#include "shm/base/limits.h"

namespace sluice::core {
namespace {

std::uint64_t earlier(std::uint64_t a, std::uint64_t b) { return a == 0 || (b != 0 && b < a) ? b : a; }

constexpr const char* kTimedOut = "no outcome within ack_timeout";

}  // namespace

std::vector<MemberId> DeliveryMachine::hung(std::uint64_t now_ns) const {
  std::vector<MemberId> hung;
  for (const auto& [id, member] : members_)
    if (member.out + member.direct != 0 && now_ns >= member.progress_at_ns + config_.member_timeout_ns)
      hung.push_back(id);
  return hung;
}

void DeliveryMachine::tick(std::uint64_t now_ns) {
  bool moved = false;
  if (waiting_for_members() && now_ns >= rejoin_by_ns_) {
    rejoin_by_ns_ = 0;
    moved = true;
  }
  for (const MemberId id : hung(now_ns)) {
    const std::vector<std::uint32_t> out = slots_out(id);
    leave(id, Ending::hung, {out.begin(), out.end()}, now_ns);
  }
  expire_slots(now_ns);
  if (direct_check_ns_ != 0 && now_ns >= direct_check_ns_) expire_direct(now_ns);
  if (wanted_back_ != 0) {
    for (auto& [place, partition] : partitions_) {
      if (!partition.wanted_back || partition.give_back_by_ns == 0 || now_ns < partition.give_back_by_ns) continue;
      give_back(place, partition, now_ns);
      moved = true;
    }
  }
  if (moved) rebalance(now_ns);
  pump(now_ns);
}

void DeliveryMachine::expire_slots(std::uint64_t now_ns) {
  for (auto& [id, member] : members_) {
    while (member.earliest != kNoSlot && member.slots[member.earliest].deadline_ns <= now_ns)
      expire_slot(id, member, member.earliest, now_ns);
    while (!member.moved.empty() && member.moved.begin()->first <= now_ns)
      expire_slot(id, member, member.moved.begin()->second, now_ns);
  }
}

void DeliveryMachine::expire_slot(MemberId id, Member& member, std::uint32_t index, std::uint64_t now_ns) {
  const Slot slot = member.slots[index];
  free_slot(member, index);
  actions_.emplace_back(Withdraw{id, slot.stamp, slot.place, slot.position});
  Partition& partition = *slot.partition;
  Counts counts = counts_of(partition, slot.position);
  if (slot.fresh) {
    counts.delivered = 1;
    settle_flight(partition, slot.flight);
  }
  fail(slot.place, partition, slot.position, counts, kTimedOut, std::nullopt, 0, false, now_ns);
}

std::uint64_t DeliveryMachine::direct_deadline_ns(const Partition& partition) const {
  const Position oldest = partition.words.oldest;
  if (partition.owner == 0 || oldest.value == 0) return 0;
  // One that has failed already stays in its member's hands until that says something.
  if (partition.acks.pending().count(oldest) != 0 || partition.acks.is_settled(oldest)) return 0;
  const auto extended = partition.extended.find(oldest);
  return extended == partition.extended.end() ? partition.oldest_since_ns + config_.ack_timeout_ns : extended->second;
}

void DeliveryMachine::look_at_direct(const Partition& partition) {
  direct_check_ns_ = earlier(direct_check_ns_, direct_deadline_ns(partition));
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
    partition.extended.erase(position);
    fail(place, partition, position, counts, kTimedOut, std::nullopt, 0, false, now_ns);
  }
}

std::uint64_t DeliveryMachine::deadline_ns() const {
  std::uint64_t deadline = earlier(rejoin_by_ns_, direct_check_ns_);
  if (!due_.empty()) deadline = earlier(deadline, std::max<std::uint64_t>(1, due_.begin()->due_ns));
  for (const auto& [id, member] : members_) {
    if (member.out + member.direct == 0) continue;
    deadline = earlier(deadline, member.progress_at_ns + config_.member_timeout_ns);
    if (member.earliest != kNoSlot) deadline = earlier(deadline, member.slots[member.earliest].deadline_ns);
    if (!member.moved.empty()) deadline = earlier(deadline, member.moved.begin()->first);
  }
  if (wanted_back_ == 0) return deadline;
  for (const auto& [place, partition] : partitions_)
    if (partition.wanted_back) deadline = earlier(deadline, partition.give_back_by_ns);
  return deadline;
}

void DeliveryMachine::check_invariants() const {
  std::size_t due = 0;
  std::size_t suspects = 0;
  std::size_t group_ready = 0;
  std::uint32_t wanted_back = 0;
  std::map<MemberId, std::uint32_t> loads;
  std::map<MemberId, std::uint32_t> direct;
  std::map<MemberId, std::size_t> ready;
  for (const auto& [place, partition] : partitions_) {
    if (partition.owner != 0) {
      SLUICE_ASSERT(by_owner(partition));
      SLUICE_ASSERT(members_.at(partition.owner).cells.at(partition.cell) == place);
      SLUICE_ASSERT(partition.promised == 0 || partition.wanted_back);
      direct[partition.owner] += partition.words.in_flight;
      if (!partition.wanted_back) ++loads[partition.owner];
      if (partition.promised != 0) ++loads[partition.promised];
      if (!partition.ready.empty()) {
        ++ready[partition.owner];
        SLUICE_ASSERT(members_.at(partition.owner).ready.count(place) == 1);
      }
    } else {
      SLUICE_ASSERT(!partition.wanted_back && partition.promised == 0);
    }
    wanted_back += partition.wanted_back ? 1 : 0;
    if (!by_owner(partition)) {
      group_ready += partition.ready.empty() ? 0 : 1;
      SLUICE_ASSERT(ready_places_.count(place) == (partition.ready.empty() ? 0 : 1));
    }
    Position before = partition.acks.cursor();
    SLUICE_ASSERT(partition.flights.empty() || !partition.flights.front().settled);
    SLUICE_ASSERT(partition.flights.size() <= kFlightsMax);
    for (const Flight& flight : partition.flights) {
      SLUICE_ASSERT(flight.position >= before);
      before = flight.end;
    }
    std::size_t waiting = 0;
    for (const auto& [position, pending] : partition.acks.pending()) {
      if (pending.state == PendingState::out) {
        const Slot& slot = members_.at(pending.member).slots[pending.slot];
        SLUICE_ASSERT(slot.stamp != 0 && slot.place == place && slot.position == position && !slot.fresh);
      }
      if (pending.state != PendingState::waiting) continue;
      const bool is_due = due_.count({pending.due_ns, place, position}) != 0;
      const bool is_suspect = ready_suspects_.count({place, position}) != 0;
      const bool is_ready = partition.ready.count(position) != 0;
      SLUICE_ASSERT(is_due + is_suspect + is_ready + pending.deferred == 1);
      SLUICE_ASSERT(!is_suspect || pending.suspect);
      due += is_due ? 1 : 0;
      suspects += is_suspect ? 1 : 0;
      waiting += is_ready ? 1 : 0;
    }
    SLUICE_ASSERT(waiting == partition.ready.size());
    for (const auto& [key, lane] : partition.lanes) {
      SLUICE_ASSERT(!lane.empty());
      for (const Position position : lane) {
        const Pending& pending = partition.acks.pending().at(position);
        SLUICE_ASSERT(pending.state != PendingState::parking);
        SLUICE_ASSERT(pending.state == PendingState::out || pending.deferred == (position != *lane.begin()));
      }
    }
  }
  SLUICE_ASSERT(due == due_.size());
  SLUICE_ASSERT(suspects == ready_suspects_.size());
  SLUICE_ASSERT(group_ready == ready_places_.size());
  SLUICE_ASSERT(wanted_back == wanted_back_);
  bool alone = false;
  for (const auto& [id, member] : members_) {
    std::uint32_t out = 0;
    for (const Slot& slot : member.slots) {
      out += slot.stamp != 0 ? 1 : 0;
      SLUICE_ASSERT(slot.stamp == 0 || !slot.alone || !alone);
      alone |= slot.stamp != 0 && slot.alone;
    }
    std::uint32_t timed = 0;
    std::uint64_t before = 0;
    for (std::uint32_t index = member.earliest; index != kNoSlot; index = member.slots[index].later) {
      SLUICE_ASSERT(member.slots[index].stamp != 0 && member.slots[index].deadline_ns >= before);
      before = member.slots[index].deadline_ns;
      ++timed;
    }
    SLUICE_ASSERT(timed + member.moved.size() == out);
    SLUICE_ASSERT(out == member.out && member.out + member.free_slots.size() == member.slots.size());
    SLUICE_ASSERT(member.load == loads[id] && member.direct == direct[id]);
    SLUICE_ASSERT(member.ready.size() == ready[id]);
    SLUICE_ASSERT(member.cells.size() + member.free_cells.size() == member.cells_used);
  }
  SLUICE_ASSERT(alone == alone_out_);
}

}  // namespace sluice::core
