// DeliveryMachine: which partition belongs to whom, in ordered groups.

#include <algorithm>
#include <utility>

#include "daemon/core/delivery_machine.h"
#include "shm/base/assert.h"
#include "shm/base/limits.h"

namespace sluice::core {

MemberId DeliveryMachine::least_loaded(TopicId topic) const {
  MemberId best = 0;
  std::uint32_t best_load = 0;
  for (const auto& [id, member] : members_) {
    if (best != 0 && member.load >= best_load) continue;
    if (member.topics.count(topic) == 0 || std::max<std::size_t>(member.load, member.cells.size()) >= kMemberCellsMax)
      continue;
    best = id;
    best_load = member.load;
  }
  return best;
}

bool DeliveryMachine::may_have(MemberId id, const Place& place) const {
  const auto member = members_.find(id);
  return member != members_.end() && member->second.topics.count(place.topic) != 0 &&
         member->second.cells.size() < kMemberCellsMax;
}

void DeliveryMachine::rebalance(std::uint64_t now_ns) {
  if (config_.mode != GroupMode::ordered || waiting_for_members() || paused_ || members_.empty()) return;
  // What a member has not subscribed to any more is not its.
  for (auto& [place, partition] : partitions_) {
    if (partition.owner == 0 || partition.wanted_back || members_.at(partition.owner).topics.count(place.topic) != 0)
      continue;
    want_back(partition, least_loaded(place.topic), now_ns);
  }
  assign_unowned(now_ns);
  even_out(now_ns);
}

void DeliveryMachine::assign_unowned(std::uint64_t now_ns) {
  const Place* nobodys = nullptr;  // nobody can have another one of its topic
  for (auto& [place, partition] : partitions_) {
    if (partition.owner != 0 || partition.letters || (nobodys != nullptr && nobodys->topic == place.topic)) continue;
    const MemberId member = least_loaded(place.topic);
    if (member != 0)
      assign(place, partition, member, now_ns);
    else
      nobodys = &place;
  }
}

// One at a time moves from who has more to who has fewer, so that everybody keeps what can be kept.
void DeliveryMachine::even_out(std::uint64_t now_ns) {
  std::uint32_t lightest = UINT32_MAX;  // no load gets below it: what leaves an owner leaves it with more
  for (const auto& [id, member] : members_) lightest = std::min(lightest, member.load);
  TopicId topic;  // that `least` is of, until a load changes
  bool known = false;
  MemberId least = 0;
  for (auto& [place, partition] : partitions_) {
    // What is wanted back already counts for whom it was promised to, and is promised anew at no cost.
    const MemberId holder = partition.wanted_back ? partition.promised : partition.owner;
    if (holder == 0) continue;
    const std::uint32_t load = members_.at(holder).load;
    if (load < lightest + 2) continue;
    if (!known || topic != place.topic) least = least_loaded(place.topic);
    known = true;
    topic = place.topic;
    if (least == 0 || least == holder || load < members_.at(least).load + 2) continue;
    if (partition.wanted_back) {
      --members_.at(holder).load;
      ++members_.at(least).load;
      partition.promised = least;
    } else {
      want_back(partition, least, now_ns);
    }
    known = false;
  }
}

void DeliveryMachine::assign(const Place& place, Partition& partition, MemberId id, std::uint64_t now_ns) {
  Member& member = members_.at(id);
  if (member.free_cells.empty()) member.free_cells.push_back(member.cells_used++);
  const std::uint32_t cell = member.free_cells.back();
  member.free_cells.pop_back();
  SLUICE_ASSERT(cell < kMemberCellsMax);
  member.cells.emplace(cell, place);
  ++member.load;
  if (!partition.ready.empty()) member.ready.insert(place);
  partition.owner = id;
  partition.cell = cell;
  partition.generation = ++generation_;
  partition.words = CellWords{partition.acks.cursor(), Position(0), Position(0), 0, 0, 0};
  partition.oldest_since_ns = now_ns;
  actions_.emplace_back(Assign{id, cell, place, partition.generation});
}

void DeliveryMachine::want_back(Partition& partition, MemberId promised, std::uint64_t now_ns) {
  partition.wanted_back = true;
  ++wanted_back_;
  partition.promised = promised;
  partition.give_back_by_ns = now_ns + kHandOverNsMax;
  --members_.at(partition.owner).load;
  if (promised != 0) ++members_.at(promised).load;
  actions_.emplace_back(WantBack{partition.owner, partition.cell, partition.generation});
}

void DeliveryMachine::take_from_owner(const Place& place, Partition& partition) {
  if (partition.owner == 0) return;
  const Position cursor = partition.acks.cursor();
  std::erase_if(partition.handed_out, [&](Position end) { return end <= cursor; });
  if (partition.words.oldest.value != 0 && partition.handed_out.size() < kHandedOutMax)
    partition.handed_out.push_back(partition.words.newest + 1);
  Member& member = members_.at(partition.owner);
  actions_.emplace_back(TakeBack{partition.owner, partition.cell});
  member.direct -= partition.words.in_flight;
  member.cells.erase(partition.cell);
  member.free_cells.push_back(partition.cell);
  member.ready.erase(place);
  if (!partition.wanted_back)
    --member.load;
  else if (partition.promised != 0)
    --members_.at(partition.promised).load;
  wanted_back_ -= partition.wanted_back ? 1 : 0;
  partition.settled += partition.words.settled;
  partition.owner = 0;
  partition.generation = 0;
  partition.wanted_back = false;
  partition.promised = 0;
  partition.words = CellWords{};
  partition.extended.clear();
}

// True: it is another's already.
bool DeliveryMachine::give_back(const Place& place, Partition& partition, std::uint64_t now_ns) {
  const MemberId promised = partition.promised;
  take_from_owner(place, partition);
  if (paused_ || !may_have(promised, place)) return false;
  assign(place, partition, promised, now_ns);
  return true;
}

// Its owner has ended with messages of it in hand. What is found here is not saved: after a restart of the daemon the
// one that kills is found again, since it does it again.
void DeliveryMachine::suspect_direct(const Place& place, Partition& partition, bool sole, std::uint64_t now_ns) {
  const CellWords words = partition.words;
  if (words.oldest.value == 0) return;
  partition.careful_until = std::max(partition.careful_until, words.newest + 1);
  if (words.oldest != words.newest || partition.acks.is_settled(words.oldest) ||
      partition.acks.find(words.oldest) != nullptr)
    return;
  Counts& counts = partition.acks.counts()[words.oldest];
  ++counts.delivered;
  if (sole) ++counts.failed;
  if (counts.failed < config_.max_attempts) return;
  Pending pending;
  pending.delivered = counts.delivered;
  pending.failed = counts.failed;
  pending.reason = "its consumer died each time";
  park(place, partition, words.oldest, std::move(pending), now_ns);
}

// What cannot be true is made harmless.
void DeliveryMachine::take_words(Partition& partition, CellWords words, Position end, std::uint64_t now_ns) {
  words.acked = std::clamp(words.acked, partition.acks.cursor(), std::max(partition.acks.cursor(), end));
  words.in_flight = std::min(words.in_flight, kDeliverySlotsMax);
  // Messages in hand lie between what is settled and the end.
  if (words.oldest < words.acked || words.oldest >= end) words.oldest = Position(0);
  if (words.newest < words.oldest || words.newest >= end) words.newest = words.oldest;
  if (words.oldest.value == 0) words.in_flight = 0;
  if (words.oldest != partition.words.oldest) partition.oldest_since_ns = now_ns;
  Member& member = members_.at(partition.owner);
  const bool idle_before = member.out + member.direct == 0;
  member.direct = member.direct - partition.words.in_flight + words.in_flight;
  if (idle_before && member.direct != 0) member.progress_at_ns = now_ns;
  partition.words = words;
  partition.acks.advance(words.acked);
  partition.extended.erase(partition.extended.begin(), partition.extended.lower_bound(words.acked));
  look_at_direct(partition);
}

void DeliveryMachine::progress(MemberId id, std::uint32_t cell, CellWords words, Position end, std::uint64_t now_ns) {
  const std::optional<Place> place = place_of_cell(id, cell);
  if (!place) return;
  Partition& partition = partitions_.at(*place);
  take_words(partition, words, end, now_ns);
  if (words.released != partition.generation) return;
  // Loads count what was promised: only where nobody takes it something else is to be decided.
  if (!give_back(*place, partition, now_ns)) rebalance(now_ns);
  pump(now_ns);
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
  const auto& pending = partition.acks.pending();
  for (auto entry = pending.lower_bound(view.start); entry != pending.end(); ++entry)
    view.settled.push_back({entry->first, entry->first + 1});
  std::sort(view.settled.begin(), view.settled.end(),
            [](const PositionSpan& a, const PositionSpan& b) { return a.begin < b.begin; });
  view.repeats.assign(partition.acks.counts().begin(), partition.acks.counts().end());
  for (const Position end : partition.handed_out)
    if (end > view.start) view.handed_out.push_back(end);
  for (const auto& [key, lane] : partition.lanes)
    if (key != 0) view.blocked_keys.push_back(key);
  view.blocked = partition.full || partition.lanes.count(0) != 0;
  return view;
}

}  // namespace sluice::core
