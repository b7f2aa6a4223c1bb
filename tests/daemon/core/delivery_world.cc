#include "tests/daemon/core/delivery_world.h"

#include <algorithm>
#include <cstdio>
#include <iterator>
#include <tuple>

namespace sluice::core::sim {
namespace {

constexpr std::uint64_t kMs = 1'000'000;

GroupConfig choose_config(io::SimRandom& random) {
  GroupConfig config;
  config.name = "g";
  config.mode = random.below(3) == 0 ? GroupMode::shared : GroupMode::ordered;
  config.ack_timeout_ns = 50 * kMs;
  config.member_timeout_ns = 200 * kMs;
  config.max_attempts = static_cast<std::uint32_t>(1 + random.below(4));
  if (random.coin()) config.backoff.steps_ns = {1 * kMs, 10 * kMs};
  config.backoff.first_ns = 2 * kMs;
  config.backoff.max_ns = 40 * kMs;
  if (config.mode == GroupMode::ordered) config.strict = static_cast<Strict>(random.below(3));
  return config;
}

}  // namespace

World::World(std::uint64_t seed, bool verbose)
    : verbose_(verbose), random_(seed), config_(choose_config(random_)), seed_(seed) {
  const std::uint64_t topics = 1 + below(2);
  for (std::uint64_t topic = 1; topic <= topics; ++topic)
    for (std::uint64_t partition = 0, count = 1 + below(3); partition < count; ++partition)
      logs_[{TopicId(static_cast<std::uint32_t>(topic)), static_cast<PartitionNumber>(partition)}];
  logs_[kLettersPlace];
  machine_ = std::make_unique<DeliveryMachine>(config_, seed_);
  for (const auto& [place, log] : logs_)
    if (place != kLettersPlace) machine_->add(place, Position(64), now_ns_);
  save(true);
  for (std::uint64_t members = 1 + below(3); members > 0; --members) new_member(false);
}

void World::tell(const std::string& what) const {
  if (verbose_) std::printf("%8.3f ms  %s\n", static_cast<double>(now_ns_ - 1'000'000'000) / 1e6, what.c_str());
}

void World::broken(const std::string& what) const { throw Broken(what); }

std::string World::name(const Place& place, Position position) const {
  return std::to_string(place.topic.value) + "/" + std::to_string(place.partition) + "@" +
         std::to_string(position.value);
}

Position World::end_of(const Place& place) const {
  const auto& log = logs_.at(place);
  return log.empty() ? Position(64) : log.rbegin()->second.end;
}

Truth& World::truth(const Place& place, Position position) {
  const auto found = logs_.at(place).find(position);
  if (found == logs_.at(place).end()) broken(name(place, position) + " is no message");
  return found->second;
}

bool World::kills(const Place& place, Position position) { return truth(place, position).kills; }

SimMember* World::find(MemberId id) {
  for (const auto& member : members_)
    if (member->id == id) return member.get();
  return nullptr;
}

std::optional<std::uint64_t> World::current_generation(MemberId id, std::uint32_t cell) const {
  for (const auto& [index, generation] : machine_->cells(id))
    if (index == cell) return generation;
  return std::nullopt;
}

// ---- what happens

void World::run(std::uint64_t steps) {
  for (std::uint64_t at = 0; at < steps; ++at) {
    step();
    checks();
  }
  wind_up();
}

void World::step() {
  const std::uint64_t what = below(100);
  if (what < 45 && !members_.empty()) {
    SimMember& member = *members_[below(members_.size())];
    member.turn();
    if (!member.dies) return;
    for (std::size_t i = 0; i < members_.size(); ++i)
      if (members_[i].get() == &member) return leave(i, Ending::died);
  }
  if (what < 65 && !members_.empty()) return listen(*members_[below(members_.size())]);
  if (what < 75) {
    now_ns_ += one_in(10) ? below(300 * kMs) : below(5 * kMs);
    return tick();
  }
  if (what < 79) return append(1 + below(4));
  if (what < 84) return dispatch();
  if (what < 87) return finish_parking(below(3));
  if (what < 91) {
    save(one_in(2));
    return;
  }
  if (what == 91) return redrive();
  if (what == 92 && members_.size() < 5) return new_member(false);
  if (what == 93 && members_.size() > 1) return leave(below(members_.size()), one_in(2) ? Ending::left : Ending::died);
  if (what == 94 && one_in(3)) return restart();
  if (what == 95 && one_in(3)) return seek();
  if (what == 96 && one_in(2)) {
    paused_ = !paused_ && one_in(3);
    machine_->pause(paused_, now_ns_);
    return carry_out();
  }
  if (what == 97 && !members_.empty()) {
    SimMember& member = *members_[below(members_.size())];
    if (one_in(2))
      member.frozen = !member.frozen;
    else
      member.deaf = below(30);
    return;
  }
  if (what == 98) return recall();
  if (what == 99 && !zombies_.empty()) {
    // What the dead and the hung say comes late, or not at all.
    SimMember& zombie = *zombies_[below(zombies_.size())];
    while (!zombie.outcomes.empty()) {
      machine_->outcome(zombie.id, zombie.outcomes.front(), now_ns_);
      zombie.outcomes.pop_front();
    }
    machine_->recalled(zombie.id, 0, now_ns_);
    machine_->alive(zombie.id, ++zombie.progress, now_ns_);
    return;
  }
  if (what == 99 && one_in(4)) {
    const Place place{TopicId(1), static_cast<PartitionNumber>(logs_.size())};
    if (logs_.size() >= 8 || logs_.count(place) != 0) return;
    logs_[place];
    machine_->add(place, Position(64), now_ns_);
    carry_out();
  } else if (what == 99 && !members_.empty()) {
    SimMember& member = *members_[below(members_.size())];
    member.topics = {TopicId(static_cast<std::uint32_t>(1 + below(2)))};
    if (one_in(2)) member.topics = {TopicId(1), TopicId(2)};
    machine_->set_topics(member.id, member.topics, now_ns_);
    carry_out();
  }
}

void World::append(std::uint64_t count) {
  auto place = std::next(logs_.begin(), static_cast<std::ptrdiff_t>(below(logs_.size() - 1)));  // letters stand last
  for (; count > 0; --count) {
    const Position at = end_of(place->first) + (one_in(8) ? 32 : 0);
    Truth message;
    message.end = at + 32 * (1 + below(3));
    message.key_hash = below(3);
    message.kills = one_in(25);
    place->second.emplace(at, message);
    ++reached_.messages;
  }
}

void World::new_member(bool good) {
  std::set<TopicId> topics = {TopicId(1), TopicId(2)};
  if (!good && one_in(4)) topics.erase(TopicId(static_cast<std::uint32_t>(1 + below(2))));
  auto member = std::make_unique<SimMember>(*this, topics, static_cast<std::uint32_t>(1 + below(6)));
  member->good = good;
  members_.push_back(std::move(member));
  join(*members_.back(), false);
}

void World::join(SimMember& member, bool with_what_it_holds) {
  MemberJoin join;
  join.topics = member.topics;
  join.in_flight_max = member.in_flight_max;
  if (with_what_it_holds) join.held_partitions = member.held_partitions();
  // What it says of a time before a seek does not undo the seek.
  std::erase_if(join.held_partitions, [&](const HeldRange& held) {
    const auto cell = std::find_if(member.cells.begin(), member.cells.end(),
                                   [&](const auto& entry) { return entry.second.place == held.place; });
    return cell->second.epoch != epochs_[held.place];
  });
  member.begin_anew(++last_id_);
  if (with_what_it_holds) join.held_messages = member.held_messages();
  for (HeldRange& held : join.held_partitions) {
    // What failed below it and is not known to be saved it does not call settled.
    const AckState& acks = machine_->acks(held.place);
    Position& acked = held.words.acked;
    acked = std::min(acked, end_of(held.place));
    for (const auto& [position, message] : logs_.at(held.place))
      if (position < acked && !message.settled && !message.ever_settled && acks.pending().count(position) == 0 &&
          !acks.is_settled(position))
        acked = position;
    const bool accepted = machine_->view(held.place).owner == 0 && !paused_;
    for (auto& [position, message] : logs_.at(held.place))
      if (accepted && position < acked && acks.pending().count(position) == 0 && config_.mode == GroupMode::ordered &&
          member.topics.count(held.place.topic) != 0)
        settle(held.place, position);
  }
  tell("member " + std::to_string(member.id) + " joins");
  machine_->join(member.id, std::move(join), now_ns_);
  carry_out();
}

void World::leave(std::size_t index, Ending ending) {
  SimMember& member = *members_[index];
  listen_last(member);
  if (find(member.id) == nullptr) return;  // ended meanwhile
  std::set<std::uint32_t> started;
  for (const SimMember::Reference& reference : member.references) {
    if (!reference.started || machine_->stamp_of(member.id, reference.slot) != reference.stamp) continue;
    started.insert(reference.slot);
    if (ending != Ending::left) ++truth(reference.place, reference.position).failed_most;
  }
  for (const auto& [number, cell] : member.cells)
    for (const SimMember::Hand& hand : cell.hands)
      if (!hand.done && ending != Ending::left) ++truth(cell.place, hand.position).failed_most;
  tell("member " + std::to_string(member.id) + (ending == Ending::left ? " leaves" : " dies"));
  reached_.deaths += ending == Ending::died ? 1 : 0;
  zombies_.push_back(std::move(members_[index]));
  members_.erase(members_.begin() + static_cast<std::ptrdiff_t>(index));
  machine_->leave(zombies_.back()->id, ending, started, now_ns_);
  carry_out();
  if (zombies_.size() > 3) zombies_.erase(zombies_.begin());
}

void World::listen(SimMember& member) {
  const auto words = member.said;
  if (one_in(3)) member.turn();  // between the two looks
  take_outcomes(member);
  take_words(member, words);
  machine_->alive(member.id, member.progress, now_ns_);
  carry_out();
}

void World::listen_last(SimMember& member) {
  const auto words = member.said;
  take_outcomes(member);
  take_words(member, words);
  carry_out();
}

void World::take_outcomes(SimMember& member) {
  while (!member.outcomes.empty()) {
    Outcome outcome = member.outcomes.front();
    member.outcomes.pop_front();
    ++member.outcomes_read;
    bool valid = false;
    Place place;
    Position position;
    if (outcome.by_slot) {
      valid = machine_->stamp_of(member.id, outcome.index) == outcome.target;
      if (valid) std::tie(place, position) = member.given_slots.at(outcome.index);
    } else if (const auto at = machine_->place_of_cell(member.id, outcome.index)) {
      place = *at;
      position = Position(outcome.target);
      const AckState& acks = machine_->acks(place);
      valid = static_cast<std::uint32_t>(current_generation(member.id, outcome.index).value()) == outcome.generation &&
              !acks.is_settled(position) && acks.pending().count(position) == 0;
    }
    reached_.refused += valid ? 0 : 1;
    if (valid) {
      Truth& message = truth(place, position);
      if (outcome.verb == Verb::ack) settle(place, position);
      if (outcome.verb == Verb::nack || outcome.verb == Verb::reject) ++message.failed_most;
      if (outcome.verb == Verb::nack) ++message.failed_least;
      message.rejected |= outcome.verb == Verb::reject;
      reached_.deferred += outcome.verb == Verb::defer ? 1 : 0;
      tell("member " + std::to_string(member.id) + " says " + std::to_string(static_cast<int>(outcome.verb)) + " of " +
           name(place, position));
    }
    machine_->outcome(member.id, outcome, now_ns_);
  }
}

void World::take_words(SimMember& member, const std::map<std::uint32_t, SimMember::Words>& words) {
  for (const auto& [cell, said] : words) {
    const auto place = machine_->place_of_cell(member.id, cell);
    if (!place || said.accepted != current_generation(member.id, cell)) continue;
    const AckState& acks = machine_->acks(*place);
    for (auto& [position, message] : logs_.at(*place)) {
      if (position < acks.cursor() || position >= said.words.acked || acks.pending().count(position) != 0) continue;
      if (!acks.is_settled(position)) settle(*place, position);
    }
    reached_.hand_overs += said.words.released == said.accepted ? 1 : 0;
    machine_->progress(member.id, cell, said.words, end_of(*place), now_ns_);
  }
}

void World::settle(const Place& place, Position position) {
  Truth& message = truth(place, position);
  message.settled = message.ever_settled = true;
}

void World::tick() {
  for (const MemberId id : machine_->hung(now_ns_)) {
    reached_.hung += 1;
    if (one_in(2)) continue;  // tick() sees to it, and takes all of it as begun
    for (std::size_t i = 0; i < members_.size(); ++i) {
      if (members_[i]->id != id) continue;
      leave(i, Ending::hung);
      break;
    }
  }
  // Whatever is in hand may fail by it.
  const std::vector<MemberId> hung = machine_->hung(now_ns_);
  for (const auto& member : members_) {
    if (std::find(hung.begin(), hung.end(), member->id) == hung.end()) continue;
    for (const std::uint32_t slot : machine_->slots_out(member->id)) {
      const auto& [place, position] = member->given_slots[slot];
      ++truth(place, position).failed_most;
    }
    for (const auto& [cell, generation] : machine_->cells(member->id)) {
      const auto place = machine_->place_of_cell(member->id, cell);
      for (auto& [position, message] : logs_.at(*place)) ++message.failed_most;
    }
  }
  machine_->tick(now_ns_);
  const std::uint64_t deadline = machine_->deadline_ns();
  if (deadline != 0 && deadline <= now_ns_) broken("after tick() its deadline is not later");
  carry_out();
}

void World::dispatch() {
  if (config_.mode != GroupMode::shared) return;
  for (const Place& place : machine_->places()) {
    const std::uint32_t wanted = machine_->wanted(place);
    std::vector<LogItem> items;
    const auto& log = logs_.at(place);
    Position next = machine_->next(place);
    for (auto at = log.lower_bound(next); at != log.end() && items.size() < wanted; ++at) {
      items.push_back({at->first, at->second.end, at->second.key_hash});
      next = at->second.end;
    }
    if (items.size() < wanted) next = std::max(next, end_of(place));  // all of it was looked at
    if (wanted != 0) machine_->offer(place, items, next, now_ns_);
  }
  carry_out();
}

void World::recall() {
  if (config_.mode != GroupMode::shared || members_.empty()) return;
  SimMember& member = *members_[below(members_.size())];
  for (const std::uint32_t slot : machine_->slots_out(member.id)) {
    const std::uint64_t stamp = machine_->stamp_of(member.id, slot);
    const auto is = [&](const SimMember::Reference& reference) { return reference.stamp == stamp; };
    const auto taken = std::find_if(member.references.begin(), member.references.end(), is);
    // Not begun, be it that it has seen it or not; nor answered.
    bool answered = false;
    for (const Outcome& outcome : member.outcomes) answered |= outcome.by_slot && outcome.target == stamp;
    if (answered || (taken != member.references.end() && taken->started)) continue;
    if (taken != member.references.end()) member.references.erase(taken);
    std::erase_if(member.notes, [&](const SimMember::Note& note) {
      const auto* deliver = std::get_if<Deliver>(&note.action);
      return deliver != nullptr && deliver->stamp == stamp;
    });
    machine_->recalled(member.id, slot, now_ns_);
    ++reached_.recalled;
  }
  carry_out();
}

void World::finish_parking(std::size_t count) {
  for (; count > 0 && !parking_.empty(); --count) {
    const auto at = parking_.begin() + static_cast<std::ptrdiff_t>(below(parking_.size()));
    const Park park = *at;
    parking_.erase(at);
    if (!machine_->has(park.place)) continue;
    const auto& pending = machine_->acks(park.place).pending();
    const auto found = pending.find(park.position);
    if (found == pending.end() || found->second.state != PendingState::parking)
      broken(name(park.place, park.position) + " is to be parked, and not pending as such");
    const Truth before = truth(park.place, park.position);
    const Pending pending_before = found->second;
    settle(park.place, park.position);
    machine_->parked(park.place, park.position);
    // Noting the letter and forgetting the message is one transaction.
    if (!save(true)) {
      truth(park.place, park.position) = before;
      machine_->not_parked(park.place, park.position, pending_before);
      parking_.push_back(park);
      continue;
    }
    Position copy = park.position;
    if (park.place != kLettersPlace) {
      copy = end_of(kLettersPlace);
      Truth letter;
      letter.end = copy + 32;
      letter.settled = letter.ever_settled = true;
      logs_[kLettersPlace].emplace(copy, letter);
    }
    letters_.insert(copy);
    ++reached_.parked;
    tell(name(park.place, park.position) + " is parked");
  }
}

void World::redrive() {
  if (letters_.empty()) return;
  const Position letter = *letters_.begin();
  letters_.erase(letters_.begin());
  Truth& message = truth(kLettersPlace, letter);
  const Truth before = message;
  message.settled = message.saved_settled = message.ever_settled = message.rejected = false;
  message.failed_most = message.failed_least = message.delivered_most = 0;
  if (!machine_->redrive(kLettersPlace, letter, letter.value, now_ns_ + below(5 * kMs)))
    broken("a letter that is parked is under way");
  if (!save(true)) {
    message = before;
    machine_->parked(kLettersPlace, letter);
    letters_.insert(letter);
    return;
  }
  ++reached_.redriven;
  tick();
}

void World::seek() {
  auto place = std::next(logs_.begin(), static_cast<std::ptrdiff_t>(below(logs_.size() - 1)));
  const auto& log = place->second;
  if (log.empty() || !machine_->has(place->first)) return;
  const auto to = std::next(log.begin(), static_cast<std::ptrdiff_t>(below(log.size())));
  tell("seek to " + name(place->first, to->first));
  for (auto& [position, message] : place->second) {
    message.failed_least = 0;
    if (position < to->first) {
      message.ever_settled = true;
      continue;
    }
    const auto& pending = machine_->acks(place->first).pending();
    const auto found = pending.find(position);
    if (found != pending.end() && found->second.state == PendingState::parking) continue;
    message.settled = message.saved_settled = message.ever_settled = message.rejected = message.done = false;
  }
  machine_->seek(place->first, to->first, now_ns_);
  ++epochs_[place->first];
  ++reached_.seeks;
  unsaved_seeks_.insert(place->first);
  carry_out();
  if (!save(true) && one_in(3)) restart();
}

bool World::is_saved_as_settled(const Place& place, Position position) const {
  const auto found = saved_.find(place);
  if (found == saved_.end()) return false;
  const Saved& saved = found->second;
  if (saved.pending.count(position) != 0) return false;
  return position < saved.cursor || std::any_of(saved.settled.begin(), saved.settled.end(), [&](const auto& span) {
           return span.begin <= position && position < span.end;
         });
}

// As the daemon does it: what is not durable is saved later.
bool World::save(bool all) {
  if (!members_.empty() && one_in(8)) {
    tell("the store refuses to save");
    ++reached_.refused_saves;
    return false;
  }
  for (const Place& place : machine_->dirty()) {
    AckState& acks = machine_->acks(place);
    Saved& saved = saved_[place];
    Position durable = end_of(place);
    if (!all && !logs_.at(place).empty())
      durable = std::next(logs_.at(place).begin(), static_cast<std::ptrdiff_t>(below(logs_.at(place).size())))->first;
    std::set<Position> later;
    bool complete = true;
    for (const Position position : acks.changed()) {
      const Pending* pending = acks.find(position);
      if (pending != nullptr && position >= durable) {
        later.insert(position);
        continue;
      }
      saved.pending.erase(position);
      if (pending != nullptr) saved.pending[position] = *pending;
    }
    if (!machine_->by_reference_only(place)) {
      saved.cursor = std::min(acks.cursor(), durable);
      complete = acks.cursor() <= durable;
      saved.settled.clear();
      for (const PositionSpan& span : machine_->settled_above(place)) {
        // Cut, not left out: of one key nothing below what is saved as pending comes again.
        complete &= span.end <= durable;
        const PositionSpan known{span.begin, std::min(span.end, durable)};
        if (known.begin >= saved.cursor && known.begin < known.end) saved.settled.push_back(known);
      }
    }
    for (auto& [position, message] : logs_.at(place)) {
      const bool known =
          place == kLettersPlace ? saved.pending.count(position) == 0 : is_saved_as_settled(place, position);
      message.saved_settled = message.settled && known;
      if (message.settled && all && !message.saved_settled)
        broken(name(place, position) + " is settled, and not saved as such");
      if (!message.ever_settled && known) broken(name(place, position) + " is not settled, and saved as if it was");
    }
    unsaved_seeks_.erase(place);
    acks.saved();
    for (const Position position : later) acks.touch(position);
    if (!complete) acks.mark_dirty();
  }
  saved_members_ = static_cast<std::uint32_t>(members_.size());
  return true;
}

void World::restart() {
  tell("the daemon restarts");
  ++reached_.restarts;
  machine_ = std::make_unique<DeliveryMachine>(config_, seed_ + ++lives_);
  last_generation_ = 0;
  parking_.clear();
  now_ns_ += below(500 * kMs);
  for (auto& [place, log] : logs_) {
    const auto saved = saved_.find(place);
    const bool seek_is_lost = unsaved_seeks_.count(place) != 0;
    reached_.lost_seeks += seek_is_lost ? 1 : 0;
    for (auto& [position, message] : log) {
      if (seek_is_lost) {
        message.saved_settled = is_saved_as_settled(place, position);
        message.ever_settled |= message.saved_settled;
        message.done |= message.handed_out;
      }
      message.settled = message.saved_settled;
      message.failed_least = 0;
      if (saved == saved_.end()) continue;
      const auto pending = saved->second.pending.find(position);
      if (pending != saved->second.pending.end()) message.failed_least = pending->second.failed;
    }
  }
  unsaved_seeks_.clear();
  for (const auto& [place, saved] : saved_) {
    if (place == kLettersPlace && saved.pending.empty()) continue;
    AckState& acks = machine_->restore(place, saved.cursor);
    acks.restore(saved.settled);
    for (const auto& [position, pending] : saved.pending) acks.restore(position, pending);
  }
  machine_->restored(one_in(4) ? 0 : saved_members_, now_ns_);
  machine_->pause(paused_, now_ns_);
  carry_out();
  // A partition that was not saved begins anew.
  for (const auto& [place, log] : logs_)
    if (place != kLettersPlace && !machine_->has(place)) machine_->add(place, Position(64), now_ns_);
  zombies_.clear();
  std::vector<std::unique_ptr<SimMember>> former = std::move(members_);
  members_.clear();
  for (auto& member : former) {
    if (member->ended || one_in(6)) {
      zombies_.push_back(std::move(member));
      continue;
    }
    members_.push_back(std::move(member));
    join(*members_.back(), true);
    if (one_in(4)) tick();
  }
  carry_out();
}

}  // namespace sluice::core::sim
