#include <algorithm>

#include "tests/daemon/core/delivery_world.h"

namespace sluice::core::sim {

std::size_t SimMember::in_hand() const {
  std::size_t count = 0;
  for (const auto& [index, cell] : cells)
    for (const Hand& hand : cell.hands) count += hand.done ? 0 : 1;
  for (const Reference& reference : references) count += reference.started ? 1 : 0;
  for (const Reference& reference : limbo) count += reference.started ? 1 : 0;
  return count;
}

bool SimMember::exclusive_in_hand() const {
  for (const auto& [index, cell] : cells)
    for (const Hand& hand : cell.hands)
      if (!hand.done && hand.position < cell.careful_until) return true;
  return std::any_of(references.begin(), references.end(),
                     [](const Reference& reference) { return reference.started && reference.alone; });
}

void SimMember::write(Outcome outcome) {
  outcomes.push_back(std::move(outcome));
  ++outcomes_written;
}

void SimMember::block(Cell& cell, std::uint64_t key_hash) {
  if (world_.config().strict == Strict::none) return;
  if (world_.config().strict == Strict::partition) key_hash = 0;
  if (world_.config().strict == Strict::key && key_hash == 0) return;
  cell.blocked[key_hash] = outcomes_written;
}

bool SimMember::is_blocked(const Cell& cell, std::uint64_t key_hash) const {
  return key_hash != 0 && cell.blocked.count(key_hash) != 0;
}

void SimMember::turn() {
  if (frozen) return;
  ++progress;
  if (deaf != 0)
    --deaf;
  else
    notice(good ? notes.size() : world_.below(notes.size() + 1));
  if (ended) return;
  const std::uint64_t what = world_.below(10);
  if (!cells.empty() && what < 6) {
    auto cell = std::next(cells.begin(), static_cast<std::ptrdiff_t>(world_.below(cells.size())));
    const std::uint32_t index = cell->first;
    if (what < 3)
      read(index);
    else
      settle_direct(index);
    if (cells.count(index) != 0) say(index);
    return;
  }
  if (what < 8)
    begin_reference();
  else
    settle_reference();
}

void SimMember::notice(std::size_t count) {
  for (; count > 0 && !notes.empty(); --count) {
    const Note note = std::move(notes.front());
    notes.pop_front();
    act(note.action, note.outcomes_read);
  }
  for (auto cell = cells.begin(); cell != cells.end();) {
    const auto there = given.find(cell->first);
    if (!cell->second.gone && (there == given.end() || there->second.generation != cell->second.generation))
      cell = cells.erase(cell);
    else
      ++cell;
  }
  for (const auto& [index, new_one] : given)
    if (cells.count(index) == 0 || cells[index].gone) take_up(index, new_one);
  // What it held of a former daemon and was not given is another's.
  std::erase_if(cells, [](const auto& entry) { return entry.second.gone; });
}

void SimMember::take_up(std::uint32_t index, const Given& new_one) {
  const std::optional<AssignmentView> view = world_.machine().assignment(new_one.place);
  if (!view || view->member != id || view->generation != new_one.generation) return;
  Cell cell;
  // It goes on with what it held of a former daemon.
  for (auto former = cells.begin(); former != cells.end(); ++former) {
    if (!former->second.gone || former->second.place != new_one.place) continue;
    if (former->second.epoch == world_.epoch_of(new_one.place)) cell = former->second;  // no seek came between
    cells.erase(former);
    break;
  }
  cell.gone = false;
  cell.place = new_one.place;
  cell.generation = new_one.generation;
  cell.epoch = world_.epoch_of(new_one.place);
  cell.read = std::max(cell.read, view->start);
  cell.careful_until = view->careful_until;
  cell.settled = view->settled;
  cell.blocked.clear();
  for (const std::uint64_t key : view->blocked_keys) cell.blocked[key] = outcomes_written;
  if (view->blocked) cell.blocked[0] = outcomes_written;
  for (Hand& hand : cell.hands) {
    hand.done |= hand.position < view->start;
    for (const PositionSpan& span : cell.settled) hand.done |= span.begin <= hand.position && hand.position < span.end;
  }
  cells[index] = cell;
  said[index].words.released = 0;
  say(index);
}

void SimMember::say(std::uint32_t index) {
  Cell& cell = cells[index];
  while (!cell.hands.empty() && cell.hands.front().done) cell.hands.pop_front();
  CellWords& words = said[index].words;
  words.acked = cell.hands.empty() ? cell.read : cell.hands.front().position;
  words.oldest = cell.hands.empty() ? Position(0) : cell.hands.front().position;
  words.newest = cell.newest;
  words.settled = cell.count;
  words.in_flight = 0;
  for (const Hand& hand : cell.hands) words.in_flight += hand.done ? 0 : 1;
  said[index].accepted = cell.generation;
  const auto there = given.find(index);
  if (cell.hands.empty() && there != given.end() && there->second.wanted_back &&
      there->second.generation == cell.generation)
    words.released = cell.generation;
}

void SimMember::read(std::uint32_t index) {
  Cell& cell = cells[index];
  if (cell.gone || cell.blocked.count(0) != 0 || in_hand() >= in_flight_max || exclusive_in_hand()) return;
  const auto there = given.find(index);
  if (there != given.end() && there->second.generation == cell.generation && there->second.wanted_back) return;
  const auto& log = world_.log(cell.place);
  // A start within a record snaps to the next one, or to the end.
  if (log.lower_bound(cell.read) == log.end()) cell.read = std::max(cell.read, world_.end_of(cell.place));
  for (auto next = log.lower_bound(cell.read); next != log.end(); ++next) {
    const auto& [position, truth] = *next;
    const bool settled = std::any_of(cell.settled.begin(), cell.settled.end(), [&, at = position](const auto& span) {
      return span.begin <= at && at < span.end;
    });
    if (settled) {
      cell.read = truth.end;
      continue;
    }
    if (is_blocked(cell, truth.key_hash)) {
      Outcome defer;
      defer.verb = Verb::defer;
      defer.index = index;
      defer.generation = static_cast<std::uint32_t>(cell.generation);
      defer.target = position.value;
      defer.argument = truth.key_hash;
      write(defer);
      block(cell, truth.key_hash);
      cell.read = truth.end;
      cell.hands.push_back({position, truth.end, truth.key_hash, true});
      continue;
    }
    // In strict groups what follows is handed out when its predecessor is settled.
    if (world_.config().strict != Strict::none)
      for (const Hand& hand : cell.hands)
        if (!hand.done && (world_.config().strict == Strict::partition || hand.key_hash == truth.key_hash)) return;
    if (position < cell.careful_until && in_hand() != 0) return;
    cell.read = truth.end;
    cell.newest = position;
    cell.hands.push_back({position, truth.end, truth.key_hash, false});
    say(index);
    world_.handed_out_directly(*this, index, position);
    dies |= !good && world_.kills(cell.place, position);
    return;
  }
}

void SimMember::settle_direct(std::uint32_t index) {
  Cell& cell = cells[index];
  std::vector<Hand*> hands;
  for (Hand& hand : cell.hands)
    if (!hand.done) hands.push_back(&hand);
  if (hands.empty() || cell.gone) return;
  Hand& hand = *hands[world_.below(world_.one_in(2) ? 1 : hands.size())];
  Outcome outcome;
  outcome.index = index;
  outcome.generation = static_cast<std::uint32_t>(cell.generation);
  outcome.target = hand.position.value;
  outcome.argument = hand.end.value;
  const std::uint64_t what = good ? 0 : world_.below(12);
  if (what < 8) {
    ++cell.count;
    hand.done = true;
    world_.done(cell.place, hand.position);
    if (&hand != &cell.hands.front()) write(outcome);
    return;
  }
  if (what == 8) {
    outcome.verb = Verb::extend;
    outcome.argument = world_.below(100'000'000);
    return write(outcome);
  }
  outcome.verb = what == 9 ? Verb::reject : Verb::nack;
  outcome.argument = world_.one_in(3) ? 1 + world_.below(50'000'000) : kByPolicy;
  outcome.key_hash = world_.config().strict == Strict::key ? hand.key_hash : 0;
  hand.done = true;
  write(outcome);
  if (outcome.verb == Verb::nack) block(cell, hand.key_hash);
}

void SimMember::begin_reference() {
  if (exclusive_in_hand()) return;
  for (Reference& reference : references) {
    if (reference.started || (reference.alone && in_hand() != 0) || in_hand() >= in_flight_max) continue;
    reference.started = true;
    world_.begun(*this, reference.place, reference.position);
    dies |= !good && world_.kills(reference.place, reference.position);
    return;
  }
}

void SimMember::settle_reference() {
  std::vector<std::size_t> begun;
  for (std::size_t i = 0; i < references.size(); ++i)
    if (references[i].started) begun.push_back(i);
  if (begun.empty()) return;
  const std::size_t at = begun[world_.below(begun.size())];
  const Reference reference = references[at];
  Outcome outcome;
  outcome.by_slot = true;
  outcome.index = reference.slot;
  outcome.target = reference.stamp;
  const std::uint64_t what = good ? 0 : world_.below(12);
  if (what == 8) {
    outcome.verb = Verb::extend;
    outcome.argument = world_.below(100'000'000);
    return write(outcome);
  }
  if (what < 8) world_.done(reference.place, reference.position);
  if (what > 8) outcome.verb = what == 9 ? Verb::reject : Verb::nack;
  outcome.argument = world_.one_in(3) ? 1 + world_.below(50'000'000) : kByPolicy;
  references.erase(references.begin() + static_cast<std::ptrdiff_t>(at));
  write(outcome);
}

void SimMember::act(const Action& action, std::uint64_t outcomes_read_then) {
  if (const auto* deliver = std::get_if<Deliver>(&action)) {
    Reference reference{
        deliver->stamp, deliver->slot, deliver->place, deliver->position, {deliver->delivered, deliver->failed},
        deliver->alone, false};
    for (auto held = limbo.begin(); held != limbo.end(); ++held) {
      if (held->place != reference.place || held->position != reference.position) continue;
      reference.started = held->started;
      limbo.erase(held);
      break;
    }
    references.push_back(reference);
  } else if (const auto* withdraw = std::get_if<Withdraw>(&action)) {
    std::erase_if(references, [&](const Reference& reference) { return reference.stamp == withdraw->stamp; });
    if (withdraw->stamp != 0) return;
    for (auto& [index, cell] : cells) {
      if (cell.place != withdraw->place) continue;
      for (Hand& hand : cell.hands) {
        if (hand.position != withdraw->position || hand.done) continue;
        hand.done = true;
        block(cell, hand.key_hash);
      }
      say(index);
    }
  } else if (const auto* unblock = std::get_if<Unblock>(&action)) {
    for (auto& [index, cell] : cells) {
      const auto blocked = cell.blocked.find(unblock->key_hash);
      if (cell.place == unblock->place && blocked != cell.blocked.end() && blocked->second <= outcomes_read_then)
        cell.blocked.erase(blocked);
    }
  } else if (std::holds_alternative<End>(action)) {
    ended = true;
  }
}

std::vector<HeldRange> SimMember::held_partitions() const {
  std::vector<HeldRange> held;
  for (const auto& [index, cell] : cells) {
    HeldRange range{cell.place, {}};
    if (const auto words = said.find(index); words != said.end() && words->second.accepted == cell.generation)
      range.words = words->second.words;
    else
      continue;
    range.words.released = 0;
    held.push_back(range);
  }
  return held;
}

std::vector<HeldReference> SimMember::held_messages() const {
  std::vector<HeldReference> held;
  for (const Reference& reference : limbo) held.push_back({reference.place, reference.position, reference.counts});
  return held;
}

void SimMember::begin_anew(MemberId new_id) {
  id = new_id;
  limbo.insert(limbo.end(), references.begin(), references.end());
  references.clear();
  given.clear();
  given_slots.clear();
  said.clear();
  notes.clear();
  outcomes.clear();
  outcomes_written = outcomes_read = progress = 0;
  std::map<std::uint32_t, Cell> former;
  std::uint32_t number = kMemberCellsMax;  // out of the way of new ones
  for (auto& [index, cell] : cells) {
    cell.gone = true;
    former.emplace(number++, std::move(cell));
  }
  cells = std::move(former);
}

}  // namespace sluice::core::sim
