#include "tests/sim/transactions/member.h"

#include <algorithm>
#include <utility>

#include "tests/sim/transactions/world.h"

namespace sluice::transactions::sim {
namespace {

constexpr std::uint32_t kInFlightMax = 4;

// It names a cell that has that generation by now.
bool is_valid(const Words& words, const session::Assignment& assignment) {
  if (assignment.cell == session::kByReference || assignment.generation == 0) return false;
  const std::uint64_t word = words.cell(assignment.cell).generation.load(std::memory_order_acquire);
  return (word & ~layout::kWantedBack) == assignment.generation;
}

}  // namespace

// ---- membership

void Member::join(SessionId session) {
  session::GroupInterface& groups = world_.host().bus().groups();
  session::JoinGroup request;
  request.group = kConsumerGroup;
  request.must_exist = true;
  request.topics = {kInputTopic};
  request.start.kind = core::GroupStart::Kind::earliest;
  request.in_flight_max = kInFlightMax;
  if (member_ != 0) {
    for (const Owned& one : owned_) request.held_partitions.push_back(one.held());
    request.held_messages = references_.held(words_);
  }
  auto grant = groups.join_group(session, std::move(request));
  if (!grant) {
    check(is_passing(grant.error()), "joining the group fails: " + grant.error().message());
    return;
  }
  Words words(region::Mapping::map(grant->region.get(), region::Access::read_write, "a member's region").value());
  static_cast<void>(words.take_assignments_changed());
  const auto list = groups.assignments(session, grant->member);
  check(list.has_value(), list ? "" : "assignments are not told: " + list.error().message());
  if (member_ != 0) {
    ++world_.reached.rejoins;
    references_.detach(words_);
    keep_owned(words, *list);
  }
  words_ = std::move(words);
  member_ = grant->member;
  joined_ = true;
  take_assignments(*list);
}

void Member::leave(SessionId session) {
  if (!joined_) return;
  const Status left = world_.host().bus().groups().leave_group(session, member_);
  check(left || is_passing(left.error()) || left.error().code() == ErrorCode::not_found, "leaving the group fails");
  joined_ = false;
}

// Partitions that are assigned again go on with what is in hand; the others are lost.
void Member::keep_owned(Words& words, const std::vector<session::Assignment>& list) {
  std::erase_if(owned_, [&](Owned& one) {
    const auto again = std::find_if(list.begin(), list.end(), [&](const session::Assignment& assignment) {
      return core::Place{assignment.topic_id, assignment.partition} == one.place() && is_valid(words, assignment);
    });
    if (again == list.end()) return true;
    one.rebind(words, *again);
    return false;
  });
  words.notify();
}

void Member::lose_everything() {
  owned_.clear();
  references_.clear();
  alone_out_ = false;
  joined_ = false;
}

// ---- what the daemon says

void Member::look(SessionId session) {
  words_.bump_progress();
  if (words_.ended()) {
    world_.tell("  member " + std::to_string(member_) + " was ended");
    return lose_everything();
  }
  take_deliveries();
  const std::size_t had = owned_.size();
  std::erase_if(owned_, [&](const Owned& one) { return one.is_lost(words_); });
  world_.reached.rebalances += had - owned_.size();
  release_wanted();
  if (!words_.take_assignments_changed()) return;
  const auto list = world_.host().bus().groups().assignments(session, member_);
  check(list.has_value(), list ? "" : "assignments are not told: " + list.error().message());
  take_assignments(*list);
}

void Member::take_deliveries() {
  layout::DeliverySlot slot;
  std::uint32_t index = 0;
  std::vector<Address> attached;
  for (Words::Taken taken{}; (taken = words_.take(slot, index)) != Words::Taken::none;) {
    if (taken == Words::Taken::recalled) continue;
    const core::Place place{TopicId(slot.topic_id), slot.partition};
    const auto withdraw_direct = [&] {
      Owned* const one = owned_at(place);
      if (Owned::Entry* const entry = one == nullptr ? nullptr : one->find(Position(slot.position)))
        one->withdraw(words_, *entry);
    };
    switch (static_cast<layout::DeliveryKind>(slot.kind)) {
      case layout::DeliveryKind::message:
        if (references_.accept(words_, slot, index)) attached.push_back({place, Position(slot.position)});
        // What was read directly before and comes by reference has timed out.
        withdraw_direct();
        break;
      case layout::DeliveryKind::withdrawn:
        if (slot.stamp == 0)
          withdraw_direct();
        else
          references_.withdraw(words_, slot.stamp);
        break;
      case layout::DeliveryKind::unblock: break;  // the group is not strict
    }
  }
  for (const Address& address : attached)
    if (references_.find(address) != nullptr) world_.acks().on_offered(address);
}

void Member::take_assignments(const std::vector<session::Assignment>& list) {
  std::erase_if(owned_, [&](const Owned& one) {
    return std::none_of(list.begin(), list.end(), [&](const session::Assignment& assignment) {
      return core::Place{assignment.topic_id, assignment.partition} == one.place() && one.is(assignment);
    });
  });
  for (const session::Assignment& assignment : list) {
    const core::Place place{assignment.topic_id, assignment.partition};
    if (!is_valid(words_, assignment) || owned_at(place) != nullptr) continue;
    // One that was given back already stays as it was said.
    if (words_.cell(assignment.cell).released.load(std::memory_order_relaxed) == assignment.generation) continue;
    owned_.emplace_back(world_.acks(), place);
    owned_.back().begin(words_, assignment);
  }
  words_.notify();
  release_wanted();
}

void Member::release_wanted() {
  const std::size_t had = owned_.size();
  std::erase_if(owned_, [&](Owned& one) { return one.release(words_, world_.one_in(8)); });
  world_.reached.rebalances += had - owned_.size();
}

// ---- handing out

std::uint32_t Member::in_hand() const {
  std::uint32_t count = references_.in_hand();
  for (const Owned& one : owned_) count += one.in_hand();
  return count;
}

std::optional<Delivery> Member::take() {
  const std::uint32_t out = in_hand();
  if (out == 0) alone_out_ = false;
  if (out >= kInFlightMax || alone_out_) return std::nullopt;
  while (Reference* const reference = references_.begin(words_, out != 0)) {
    if (world_.acks().is_lost(reference->address)) {  // nobody can read it: as one that has expired
      references_.answer(words_, *reference, layout::OutcomeVerb::ack, 0);
      continue;
    }
    const Delivery delivery = hand_out(reference->address, reference->alone);
    reference->serial = delivery.serial;
    return delivery;
  }
  for (Owned& one : owned_) {
    const TrueInput* const input = one.next(words_);
    if (input == nullptr || (one.is_careful() && out != 0)) continue;
    const bool careful = one.is_careful();
    one.hand_out(words_, *input, last_serial_ + 1);
    return hand_out(input->address, careful);
  }
  return std::nullopt;
}

Delivery Member::hand_out(const Address& address, bool alone) {
  world_.tell("  member " + std::to_string(member_) + " has " + to_text(address));
  world_.acks().on_handed_out(address);
  alone_out_ = alone;
  return {address, ++last_serial_};
}

// ---- settling

Owned* Member::owned_at(const core::Place& place) {
  const auto one =
      std::find_if(owned_.begin(), owned_.end(), [&](const Owned& owned) { return owned.place() == place; });
  return one == owned_.end() ? nullptr : &*one;
}

Owned::Entry* Member::owned(const Delivery& delivery) {
  Owned* const one = owned_at(delivery.address.place);
  Owned::Entry* const entry = one == nullptr ? nullptr : one->find(delivery.address.position);
  return entry != nullptr && entry->serial == delivery.serial ? entry : nullptr;
}

Reference* Member::reference(const Delivery& delivery) {
  Reference* const one = references_.find(delivery.address);
  return one != nullptr && one->serial == delivery.serial ? one : nullptr;
}

std::optional<session::TransactionAck> Member::describe(const Delivery& delivery) {
  if (const Owned::Entry* const entry = owned(delivery))
    return owned_at(delivery.address.place)->describe(*entry, member_);
  const Reference* const one = reference(delivery);
  if (one == nullptr || one->slot == Reference::kNoSlot) return std::nullopt;
  session::TransactionAck ack;
  ack.member = member_;
  ack.by_slot = true;
  ack.index = one->slot;
  ack.target = one->stamp;
  return ack;
}

void Member::ack(const Delivery& delivery) {
  if (Owned::Entry* const entry = owned(delivery)) return owned_at(delivery.address.place)->ack(words_, *entry);
  references_.answer(words_, *reference(delivery), layout::OutcomeVerb::ack, 0);
}

void Member::nack(const Delivery& delivery, std::uint64_t delay_ns) {
  if (Owned::Entry* const entry = owned(delivery))
    return owned_at(delivery.address.place)->nack(words_, *entry, delay_ns);
  references_.answer(words_, *reference(delivery), layout::OutcomeVerb::nack, delay_ns);
}

bool Member::settled_by_transaction(const Delivery& delivery) {
  if (Reference* const one = reference(delivery)) {
    references_.settled_elsewhere(*one);
    return one->slot == Reference::kNoSlot;
  }
  if (owned(delivery) == nullptr) return false;
  ack(delivery);
  return true;
}

}  // namespace sluice::transactions::sim
