// What must hold at each step of the delivery simulation, and what the daemon tells members.
#include <algorithm>
#include <utility>

#include "tests/daemon/core/delivery_world.h"

namespace sluice::core::sim {

void World::checks() {
  machine_->check_invariants();
  // Nobody has in hand what another one has.
  std::set<std::pair<Place, Position>> taken;
  for (const auto& member : members_) {
    if (!machine_->is_member(member->id)) continue;
    std::uint32_t out = 0;
    for (const auto& [slot, what] : member->given_slots) {
      if (machine_->stamp_of(member->id, slot) == 0) continue;
      ++out;
      if (!taken.insert(what).second) broken(name(what.first, what.second) + " is in two members' hands");
    }
    if (out > member->in_flight_max) broken("more is out than the in-flight limit");
    for (const auto& [cell, generation] : machine_->cells(member->id)) {
      const auto mine = member->cells.find(cell);
      if (mine == member->cells.end() || mine->second.generation != generation) continue;
      const Place& place = mine->second.place;
      const AckState& acks = machine_->acks(place);
      for (const SimMember::Hand& hand : mine->second.hands) {
        if (hand.done || acks.is_settled(hand.position) || acks.pending().count(hand.position) != 0) continue;
        if (!taken.insert({place, hand.position}).second)
          broken(name(place, hand.position) + " is in two members' hands");
      }
    }
  }
}

void World::handed_out_directly(const SimMember& member, std::uint32_t cell, Position position) {
  const SimMember::Cell& from = member.cells.at(cell);
  const Place place = from.place;
  Truth& message = truth(place, position);
  const bool first = !std::exchange(message.handed_out, true);
  ++message.delivered_most;
  if (current_generation(member.id, cell) != from.generation) return;  // it does not know that it is another's
  tell("member " + std::to_string(member.id) + " reads " + name(place, position));
  if (message.settled) broken(name(place, position) + " is settled, and read again");
  if (first && config_.strict != Strict::key)
    for (const auto& [before, other] : logs_.at(place))
      if (before < position && !other.handed_out && !other.ever_settled)
        broken(name(place, before) + " is to be handed out before " + name(place, position));
}

void World::begun(const SimMember& member, const Place& place, Position position) {
  tell("member " + std::to_string(member.id) + " begins " + name(place, position));
}

void World::carry_out() {
  while (machine_->has_actions())
    for (const Action& action : machine_->take_actions()) std::visit([&](const auto& one) { act(one); }, action);
}

void World::act(const Deliver& action) {
  SimMember* member = find(action.member);
  if (member == nullptr) broken("a message is delivered to nobody");
  Truth& message = truth(action.place, action.position);
  tell(name(action.place, action.position) + " is delivered to " + std::to_string(action.member) +
       (action.alone ? " alone" : ""));
  if (message.settled) broken(name(action.place, action.position) + " is settled, and delivered again");
  if (action.failed > message.failed_most) broken(name(action.place, action.position) + " has not failed that often");
  if (action.failed < message.failed_least)
    broken(name(action.place, action.position) + " has failed more often than it is told");
  if (action.delivered <= action.failed || action.delivered > message.delivered_most + 1)
    broken(name(action.place, action.position) + " was not delivered as often as it is told");
  ++message.delivered_most;
  if (action.failed >= config_.max_attempts) broken(name(action.place, action.position) + " is not parked");
  if (config_.strict != Strict::none && action.place != kLettersPlace) {
    for (const auto& [before, pending] : machine_->acks(action.place).pending()) {
      if (before >= action.position) break;
      const bool same = config_.strict == Strict::partition ||
                        (message.key_hash != 0 && truth(action.place, before).key_hash == message.key_hash);
      // One that was done before a daemon was lost, and comes again since that was not saved, is no predecessor.
      if (same && pending.state != PendingState::parking && !truth(action.place, before).done)
        broken(name(action.place, action.position) + " is delivered, and " + name(action.place, before) + " waits");
    }
  }
  message.handed_out = true;
  reached_.suspects += action.alone ? 1 : 0;
  member->given_slots[action.slot] = {action.place, action.position};
  member->notes.push_back({action, 0});
  for (const SimMember::Reference& held : member->limbo)
    if (held.place == action.place && held.position == action.position) ++reached_.retaken;
}

void World::act(const Assign& action) {
  SimMember* member = find(action.member);
  if (member == nullptr) broken("a partition is assigned to nobody");
  tell("partition " + name(action.place, Position(0)) + " is member " + std::to_string(action.member) + "'s");
  if (action.generation <= last_generation_) broken("generations go back");
  last_generation_ = action.generation;
  member->given[action.cell] = {action.place, action.generation, false};
}

void World::act(const WantBack& action) {
  SimMember* member = find(action.member);
  if (member != nullptr && member->given[action.cell].generation == action.generation)
    member->given[action.cell].wanted_back = true;
}

void World::act(const TakeBack& action) {
  tell("cell " + std::to_string(action.cell) + " is taken from " + std::to_string(action.member));
  if (SimMember* member = find(action.member)) member->given.erase(action.cell);
}

void World::act(const Withdraw& action) {
  SimMember* member = find(action.member);
  tell(name(action.place, action.position) + " is withdrawn from " + std::to_string(action.member));
  ++reached_.timeouts;
  Truth& message = truth(action.place, action.position);
  ++message.failed_most;
  if (action.stamp == 0) machine_->set_key(action.place, action.position, message.key_hash);
  if (member != nullptr) member->notes.push_back({action, member->outcomes_read});
}

void World::act(const Unblock& action) {
  if (SimMember* member = find(action.member)) member->notes.push_back({action, member->outcomes_read});
}

void World::act(const Park& action) {
  const Truth& message = truth(action.place, action.position);
  tell(name(action.place, action.position) + " is to be parked");
  if (message.settled) broken(name(action.place, action.position) + " is settled, and parked");
  for (const Park& other : parking_)
    if (other.place == action.place && other.position == action.position)
      broken(name(action.place, action.position) + " is parked twice");
  if (!message.rejected && message.failed_most < config_.max_attempts)
    broken(name(action.place, action.position) + " is parked early");
  parking_.push_back(action);
}

void World::act(const End& action) {
  tell("member " + std::to_string(action.member) + " is told its end");
  for (std::size_t i = 0; i < members_.size(); ++i) {
    if (members_[i]->id != action.member) continue;
    members_[i]->notes.push_back({action, 0});
    zombies_.push_back(std::move(members_[i]));
    members_.erase(members_.begin() + static_cast<std::ptrdiff_t>(i));
    return;
  }
}

bool World::all_done() const {
  for (const Place& place : machine_->places()) {
    if (!machine_->acks(place).pending().empty()) return false;
    if (place != kLettersPlace && machine_->acks(place).cursor() < end_of(place)) return false;
  }
  return true;
}

std::string World::what_is_left() const {
  for (const Place& place : machine_->places()) {
    const AckState& acks = machine_->acks(place);
    const std::string owner = ", member " + std::to_string(machine_->view(place).owner) + "'s,";
    for (const auto& [position, pending] : acks.pending())
      return name(place, position) + " (pending, state " + std::to_string(static_cast<int>(pending.state)) + ", due " +
             std::to_string(pending.due_ns) + (pending.suspect ? ", suspect" : "") +
             (pending.deferred ? ", deferred" : "") + ")" + owner;
    if (place != kLettersPlace && acks.cursor() < end_of(place)) return name(place, acks.cursor()) + owner;
  }
  return "nothing";
}

// Good members alone; what is there must end settled, and the cursors at the end.
void World::wind_up() {
  tell("---- winding up");
  paused_ = false;
  machine_->pause(false, now_ns_);
  carry_out();
  while (!members_.empty()) {
    const std::size_t before = members_.size();
    leave(0, Ending::left);
    if (members_.size() == before) broken("a member does not leave");
  }
  for (int i = 0; i < 2; ++i) new_member(true);
  for (std::uint64_t round = 0; !all_done(); ++round) {
    if (round > 5'000) broken(what_is_left() + " is left, and nothing goes on");
    for (std::size_t i = 0; i < members_.size(); ++i) {
      for (int turns = 0; turns < 12; ++turns) members_[i]->turn();
      listen(*members_[i]);
    }
    finish_parking(10);
    dispatch();
    checks();
    now_ns_ += 1'000'000;
    tick();
  }
  for (const auto& [place, log] : logs_)
    for (const auto& [position, message] : log)
      if (!message.ever_settled) broken(name(place, position) + " is lost");
}

}  // namespace sluice::core::sim
