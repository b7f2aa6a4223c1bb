#include "tests/sim/transactions/references.h"

#include <algorithm>

namespace sluice::transactions::sim {

using State = Reference::State;

bool References::accept(Words& words, const layout::DeliverySlot& slot, std::uint32_t index) {
  for (const Reference& one : list_) {
    if (one.slot != index) continue;
    if (one.stamp == slot.stamp) return false;
    check(one.state != State::in_hand, "a slot is used again, and its message is in hand: " + to_text(one.address));
  }
  std::erase_if(list_, [&](const Reference& one) { return one.slot == index; });
  Reference fresh;
  fresh.address = {{TopicId(slot.topic_id), slot.partition}, Position(slot.position)};
  fresh.slot = index;
  fresh.stamp = slot.stamp;
  fresh.seeks = slot.argument;
  fresh.delivered = slot.delivered;
  fresh.failed = slot.failed;
  fresh.alone = slot.alone != 0;
  if (attach(words, fresh)) return true;
  list_.push_back(fresh);
  return false;
}

// One that was in hand goes on under this slot, and one that was answered answers again.
bool References::attach(Words& words, const Reference& fresh) {
  const auto is_same = [&](const Reference& one) {
    return one.slot == Reference::kNoSlot && one.address == fresh.address;
  };
  // The daemon knows that it has failed: this is a later delivery.
  std::erase_if(list_, [&](const Reference& one) {
    return is_same(one) && one.state == State::answered && one.verb == layout::OutcomeVerb::nack &&
           fresh.failed > one.failed;
  });
  const auto known = std::find_if(list_.begin(), list_.end(), is_same);
  if (known == list_.end()) return false;
  known->slot = fresh.slot;
  known->stamp = fresh.stamp;
  static_cast<void>(words.start(fresh.slot, fresh.stamp));
  if (known->state == State::answered) write(words, *known);
  return known->state == State::in_hand;
}

void References::withdraw(Words& words, std::uint64_t stamp) {
  const auto known = std::find_if(list_.begin(), list_.end(), [&](const Reference& one) {
    return one.state != State::answered && one.slot != Reference::kNoSlot && one.stamp == stamp;
  });
  if (known == list_.end()) return;
  known->verb = layout::OutcomeVerb::nack;
  known->argument = layout::kDelayByPolicy;
  write(words, *known);
  list_.erase(known);
}

Reference* References::begin(Words& words, bool others_in_hand) {
  for (;;) {
    const auto first =
        std::find_if(list_.begin(), list_.end(), [](const Reference& one) { return one.state == State::waiting; });
    if (first == list_.end() || (first->alone && others_in_hand)) return nullptr;
    if (!words.start(first->slot, first->stamp)) {
      list_.erase(first);
      continue;
    }
    first->state = State::in_hand;
    return &*first;
  }
}

Reference* References::find(const Address& address) {
  for (Reference& one : list_)
    if (one.state == State::in_hand && one.address == address) return &one;
  return nullptr;
}

std::uint32_t References::in_hand() const {
  return static_cast<std::uint32_t>(
      std::count_if(list_.begin(), list_.end(), [](const Reference& one) { return one.state == State::in_hand; }));
}

// ---- settling

void References::write(Words& words, Reference& reference) {
  layout::OutcomeEntry entry{};
  entry.target = reference.stamp;
  entry.argument = reference.argument;
  entry.place = reference.slot | layout::kPlaceIsSlot;
  entry.verb = static_cast<std::uint8_t>(reference.verb);
  reference.number = words.write(entry);
  words.notify();
}

void References::answer(Words& words, Reference& reference, layout::OutcomeVerb verb, std::uint64_t argument) {
  reference.state = State::answered;
  reference.verb = verb;
  reference.argument = argument;
  if (reference.slot != Reference::kNoSlot) write(words, reference);
}

void References::settled_elsewhere(Reference& reference) {
  reference.state = State::answered;
  reference.verb = layout::OutcomeVerb::ack;
  reference.number = 0;
}

// ---- a daemon that is new

bool References::is_unread(const Reference& reference, const Words& words) {
  if (reference.state != State::answered) return false;
  return reference.slot == Reference::kNoSlot || !words.was_read(reference.number);
}

std::vector<session::HeldMessage> References::held(const Words& words) const {
  std::vector<session::HeldMessage> held;
  for (const Reference& one : list_)
    if (one.state == State::in_hand || is_unread(one, words))
      held.push_back({one.address.place.topic, one.address.place.partition, one.address.position, one.delivered,
                      one.failed, true, one.seeks});
  return held;
}

void References::detach(const Words& words) {
  std::erase_if(list_, [&](const Reference& one) { return one.state != State::in_hand && !is_unread(one, words); });
  for (Reference& one : list_) one.slot = Reference::kNoSlot;
}

}  // namespace sluice::transactions::sim
