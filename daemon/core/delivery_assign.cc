// DeliveryMachine: which partition belongs to whom, in ordered groups.

#include <algorithm>

#include "daemon/core/delivery_machine.h"
#include "shm/base/assert.h"
#include "shm/base/limits.h"

namespace sluice::core {

MemberId DeliveryMachine::least_loaded(TopicId topic) const {
  MemberId best = 0;
  std::uint32_t best_load = 0;
  for (const auto& [id, member] : members_) {
    if (member.topics.count(topic) == 0 || member.cells.size() >= kMemberCellsMax) continue;
    if (best != 0 && member.load >= best_load) continue;
    best = id;
    best_load = member.load;
  }
  return best;
}

void DeliveryMachine::rebalance(std::uint64_t now_ns) {
  if (config_.mode != GroupMode::ordered || waiting_for_members() || paused_) return;
  // What a member has not subscribed to any more is not its.
  for (auto& [place, partition] : partitions_) {
    if (partition.owner == 0 || partition.wanted_back || members_.at(partition.owner).topics.count(place.topic) != 0)
      continue;
    want_back(partition, least_loaded(place.topic), now_ns);
  }
  bool given = assign_unowned(now_ns);
  // One at a time moves from who has more to who has fewer, so that everybody keeps what can be kept.
  for (auto& [place, partition] : partitions_) {
    if (partition.owner == 0 || partition.wanted_back || partition.letters) continue;
    const MemberId least = least_loaded(place.topic);
    if (least == 0 || least == partition.owner || members_.at(partition.owner).load < members_.at(least).load + 2)
      continue;
    want_back(partition, least, now_ns);
  }
  if (given) pump(now_ns);
}

bool DeliveryMachine::assign_unowned(std::uint64_t now_ns) {
  bool given = false;
  for (auto& [place, partition] : partitions_) {
    if (partition.owner != 0 || partition.letters) continue;
    const MemberId member = least_loaded(place.topic);
    if (member == 0) continue;
    assign(place, partition, member, now_ns);
    given = true;
  }
  return given;
}

void DeliveryMachine::assign(const Place& place, Partition& partition, MemberId id, std::uint64_t now_ns) {
  Member& member = members_.at(id);
  std::uint32_t cell = 0;
  while (member.cells.count(cell) != 0) ++cell;
  SLUICE_ASSERT(cell < kMemberCellsMax);
  member.cells.emplace(cell, place);
  ++member.load;
  partition.owner = id;
  partition.cell = cell;
  partition.generation = ++generation_;
  partition.wanted_back = false;
  partition.promised = 0;
  partition.words = CellWords{partition.acks.cursor(), Position(0), Position(0), 0, 0, 0};
  partition.oldest_since_ns = now_ns;
  actions_.emplace_back(Assign{id, cell, place, partition.generation});
}

void DeliveryMachine::want_back(Partition& partition, MemberId promised, std::uint64_t now_ns) {
  partition.wanted_back = true;
  partition.promised = promised;
  partition.give_back_by_ns = now_ns + kHandOverNsMax;
  --members_.at(partition.owner).load;
  if (promised != 0) ++members_.at(promised).load;
  actions_.emplace_back(WantBack{partition.owner, partition.cell, partition.generation});
}

void DeliveryMachine::take_from_owner(Partition& partition) {
  if (partition.owner == 0) return;
  Member& member = members_.at(partition.owner);
  actions_.emplace_back(TakeBack{partition.owner, partition.cell});
  member.direct -= std::min(member.direct, partition.words.in_flight);
  member.cells.erase(partition.cell);
  if (!partition.wanted_back)
    --member.load;
  else if (partition.promised != 0)
    --members_.at(partition.promised).load;
  partition.settled += partition.words.settled;
  partition.owner = 0;
  partition.generation = 0;
  partition.wanted_back = false;
  partition.promised = 0;
  partition.extended.clear();
}

void DeliveryMachine::give_back(const Place& place, Partition& partition, std::uint64_t now_ns) {
  const MemberId promised = partition.promised;
  take_from_owner(partition);
  const auto next = members_.find(promised);
  if (next == members_.end() || paused_ || next->second.topics.count(place.topic) == 0 ||
      next->second.cells.size() >= kMemberCellsMax)
    return;
  assign(place, partition, promised, now_ns);
}

// Its owner has ended with messages of it in hand.
void DeliveryMachine::suspect_direct(const Place& place, Partition& partition, bool sole, std::uint64_t now_ns) {
  const CellWords& words = partition.words;
  if (words.oldest.value == 0 || words.newest < words.oldest) return;
  partition.careful_until = std::max(partition.careful_until, words.newest + 1);
  if (words.oldest != words.newest || partition.acks.is_settled(words.oldest) ||
      partition.acks.find(words.oldest) != nullptr)
    return;
  Counts& counts = partition.acks.counts()[words.oldest];
  ++counts.delivered;
  if (sole) ++counts.failed;
  partition.acks.mark_dirty();
  if (counts.failed < config_.max_attempts) return;
  Pending pending;
  pending.delivered = counts.delivered;
  pending.failed = counts.failed;
  pending.reason = "its consumer died each time";
  park(place, partition, words.oldest, std::move(pending), now_ns);
}

void DeliveryMachine::progress(MemberId id, std::uint32_t cell, CellWords words, Position end, std::uint64_t now_ns) {
  const auto found = members_.find(id);
  if (found == members_.end()) return;
  Member& member = found->second;
  const auto at = member.cells.find(cell);
  if (at == member.cells.end()) return;
  const Place place = at->second;
  Partition& partition = partitions_.at(place);
  words.acked = std::clamp(words.acked, partition.acks.cursor(), std::max(partition.acks.cursor(), end));
  words.in_flight = std::min(words.in_flight, kDeliverySlotsMax);
  // Messages in hand lie between what is settled and the end.
  if (words.oldest.value != 0 && (words.oldest < words.acked || words.oldest >= end)) words.oldest = Position(0);
  if (words.oldest.value != 0 && words.newest >= end) words.newest = words.oldest;
  if (words.oldest.value == 0) words.in_flight = 0;
  if (words.oldest != partition.words.oldest) partition.oldest_since_ns = now_ns;
  const bool idle_before = member.out + member.direct == 0;
  member.direct = member.direct - std::min(member.direct, partition.words.in_flight) + words.in_flight;
  if (idle_before && member.direct != 0) member.progress_at_ns = now_ns;
  partition.words = words;
  partition.acks.advance(words.acked);
  partition.extended.erase(partition.extended.begin(), partition.extended.lower_bound(words.acked));
  if (const std::uint64_t deadline = direct_deadline_ns(partition);
      deadline != 0 && (direct_check_ns_ == 0 || deadline < direct_check_ns_))
    direct_check_ns_ = deadline;
  if (words.released != partition.generation) return;
  give_back(place, partition, now_ns);
  rebalance(now_ns);
}

std::optional<AssignmentView> DeliveryMachine::assignment(const Place& place) const {
  const auto found = partitions_.find(place);
  if (found == partitions_.end()) return std::nullopt;
  const Partition& partition = found->second;
  AssignmentView view;
  view.member = partition.owner;
  view.cell = partition.cell;
  view.generation = partition.generation;
  view.start = partition.acks.cursor();
  view.careful_until = partition.careful_until;
  view.settled = partition.acks.settled();
  for (const auto& [position, pending] : partition.acks.pending())
    if (position >= view.start) view.settled.push_back({position, position + 1});
  std::sort(view.settled.begin(), view.settled.end(),
            [](const PositionSpan& a, const PositionSpan& b) { return a.begin < b.begin; });
  view.repeats.assign(partition.acks.counts().begin(), partition.acks.counts().end());
  for (const auto& [key, queue] : partition.keys) view.blocked_keys.push_back(key);
  view.blocked = partition.blocked;
  return view;
}

}  // namespace sluice::core
