#include "sdk/references.h"

#include <algorithm>
#include <utility>

#include "shm/base/clock.h"

namespace sluice::internal {
namespace {
using State = Reference::State;

bool is_failure(layout::OutcomeVerb verb) {
  return verb == layout::OutcomeVerb::nack || verb == layout::OutcomeVerb::reject;
}

}  // namespace

References::References() : by_slot_(kDeliverySlotsMax, kNoSlot) {}

std::uint32_t References::take_free() {
  if (!free_.empty()) {
    const std::uint32_t index = free_.back();
    free_.pop_back();
    return index;
  }
  references_.emplace_back();
  free_.reserve(references_.capacity());
  return static_cast<std::uint32_t>(references_.size() - 1);
}

void References::give_free(std::uint32_t index) {
  Reference& one = references_[index];
  if (one.slot != kNoSlot && by_slot_[one.slot] == index) by_slot_[one.slot] = kNoSlot;
  one.state = State::free;
  free_.push_back(index);
}

// At the front of the queue stands one that waits, if any does.
void References::drop_stale() {
  while (!queue_.empty()) {
    const Waiting& first = queue_.at(queue_.begin());
    const Reference& one = references_[first.index];
    if (one.state == State::waiting && one.serial == first.serial) return;
    queue_.pop();
  }
}

References::Verdict References::accept(MemberLink& member, const layout::DeliverySlot& slot, std::uint32_t index) {
  if (const std::uint32_t former = by_slot_[index]; former != kNoSlot) {
    Reference& one = references_[former];
    // One that was taken back, and whose slot was used again before its own entry was read, has come with that one.
    if (one.stamp == slot.stamp) return Verdict::known;
    // One that waits was taken back, or its slot would not come again.
    if (one.state == State::in_hand) return Verdict::refused;
    give_free(former);
    drop_stale();
  }
  if (!detached_.empty() && attach(member, slot, index)) return Verdict::known;
  const std::uint32_t taken = take_free();
  Reference& one = references_[taken];
  one.state = State::waiting;
  one.alone = slot.alone != 0;
  one.topic = TopicId(slot.topic_id);
  one.partition = slot.partition;
  one.position = Position(slot.position);
  one.slot = index;
  one.stamp = slot.stamp;
  one.serial = ++last_serial_;
  one.delivered = slot.delivered;
  one.failed = slot.failed;
  one.key_hash = 0;
  one.seeks = slot.argument;
  one.before = 0;
  one.reason.clear();
  by_slot_[index] = taken;
  queue_.push({taken, one.serial});
  return Verdict::accepted;
}

// What an earlier member had in hand, or has answered, goes on under this slot.
bool References::attach(MemberLink& member, const layout::DeliverySlot& slot, std::uint32_t index) {
  auto [at, last] = detached_.equal_range(slot.position);
  auto same = last;
  while (at != last) {
    const Reference& held = references_[at->second];
    const bool matches =
        held.topic.value == slot.topic_id && held.partition == slot.partition && held.seeks == slot.argument;
    if (matches && held.state == State::answered && is_failure(held.verb) && slot.failed > held.failed) {
      give_free(at->second);  // the daemon knows that it has failed: the slot holds a later delivery
      at = detached_.erase(at);
      continue;
    }
    // Of several nacks of one message the first that the daemon does not know.
    if (matches && (same == last || held.failed < references_[same->second].failed)) same = at;
    ++at;
  }
  if (same == last) return false;
  const std::uint32_t known = same->second;
  Reference& one = references_[known];
  if (one.state == State::answered && !member.has_room(one.reason.size())) return false;
  detached_.erase(same);
  one.slot = index;
  one.stamp = slot.stamp;
  by_slot_[index] = known;
  // Whether or not: what it answers is told, and refused if the message is another's.
  static_cast<void>(member.start(index, one.stamp));
  if (one.state == State::answered) {
    write(member, one);
    keep_unstored(member, one);
  }
  return true;
}

bool References::begin(MemberLink& member) {
  const std::uint32_t index = next_waiting();
  if (member.start(references_[index].slot, references_[index].stamp)) return true;
  give_free(index);
  drop_stale();
  return false;
}

void References::hand_out() {
  Reference& one = references_[next_waiting()];
  one.state = State::in_hand;
  queue_.pop();
  drop_stale();
}

Reference* References::find(std::uint32_t index, std::uint64_t serial) {
  if (index >= references_.size()) return nullptr;
  Reference& one = references_[index];
  return one.state == State::in_hand && one.serial == serial ? &one : nullptr;
}

void References::write(MemberLink& member, Reference& one) {
  layout::OutcomeEntry entry{};
  entry.target = one.stamp;
  entry.argument = one.argument;
  entry.place = one.slot | layout::kPlaceIsSlot;
  entry.verb = static_cast<std::uint8_t>(one.verb);
  one.number = member.write(entry, one.reason);
}

void References::answer(MemberLink& member, std::uint32_t index, layout::OutcomeVerb verb, std::uint64_t argument,
                        std::string_view reason) {
  Reference& one = references_[index];
  const bool waited = one.state == State::waiting;
  one.state = State::answered;
  one.verb = verb;
  one.argument = argument;
  one.reason = reason.substr(0, kReasonSizeMax);
  if (one.slot != kNoSlot) {
    write(member, one);
    keep_unstored(member, one);
  }
  if (waited) drop_stale();
}

void References::settled_elsewhere(std::uint32_t index) {
  Reference& one = references_[index];
  one.state = State::answered;
  one.verb = layout::OutcomeVerb::ack;
  one.number = 0;  // read, as it were
}

void References::extend(MemberLink& member, std::uint32_t index, std::uint64_t time_ns) {
  const Reference& one = references_[index];
  if (one.slot == kNoSlot) return;  // the new daemon counts from its own hand-out
  layout::OutcomeEntry entry{};
  entry.target = one.stamp;
  entry.argument = time_ns;
  entry.place = one.slot | layout::kPlaceIsSlot;
  entry.verb = static_cast<std::uint8_t>(layout::OutcomeVerb::extend);
  member.write(entry);
}

const Reference* References::withdraw(MemberLink& member, std::uint64_t stamp, bool& was_in_hand) {
  for (std::uint32_t i = 0; i < references_.size(); ++i) {
    Reference& one = references_[i];
    const bool here = one.state == State::waiting || one.state == State::in_hand;
    if (!here || one.slot == kNoSlot || one.stamp != stamp) continue;
    was_in_hand = one.state == State::in_hand;
    // A nack, should the daemon take it for one. Without room the slot comes back with the member's end.
    one.verb = layout::OutcomeVerb::nack;
    one.argument = layout::kDelayByPolicy;
    one.reason.clear();
    if (member.has_room()) write(member, one);
    one.state = State::withdrawn;
    drop_stale();
    return &one;
  }
  return nullptr;
}

void References::keep_unstored(const MemberLink& member, const Reference& one) {
  if (!is_failure(one.verb)) return;
  forget_stored(member);
  unstored_.push({one, 0});
}

void References::forget_stored(const MemberLink& member) {
  const std::uint64_t now = monotonic_coarse_ns();
  const std::uint64_t read = member.outcomes_read();
  for (std::uint64_t i = unstored_.begin(); i != unstored_.end() && unstored_.at(i).one.number <= read; ++i)
    if (unstored_.at(i).read_ns == 0) unstored_.at(i).read_ns = now;
  while (!unstored_.empty()) {
    Unstored& first = unstored_.at(unstored_.begin());
    if (first.read_ns == 0 || now - first.read_ns < kOutcomeStoredNs) return;
    first = {};
    unstored_.pop();
  }
}

// Nacks and rejects that were told are among those that are not stored yet.
bool References::is_unread(const Reference& one, const MemberLink& member) const {
  if (one.state != State::answered) return false;
  return one.slot == kNoSlot || (!is_failure(one.verb) && one.number > member.outcomes_read());
}

std::vector<HeldMessage> References::held(const MemberLink& member) {
  std::vector<HeldMessage> held;
  const auto add = [&held](const Reference& one) {
    held.push_back({one.topic, one.partition, one.position, one.delivered, one.failed, true, one.seeks});
  };
  forget_stored(member);
  for (std::uint64_t i = unstored_.begin(); i != unstored_.end(); ++i) add(unstored_.at(i).one);
  for (const Reference& one : references_)
    if (one.state == State::in_hand || is_unread(one, member)) add(one);
  return held;
}

void References::detach(const MemberLink& former) {
  detached_.clear();
  for (std::uint32_t i = 0; i < references_.size(); ++i) {
    Reference& one = references_[i];
    if (one.state == State::free) continue;
    if (one.state == State::in_hand || is_unread(one, former)) {
      one.slot = kNoSlot;
      detached_.emplace(one.position.value, i);
    } else {
      give_free(i);
    }
  }
  for (; !unstored_.empty(); unstored_.pop()) {
    const std::uint32_t index = take_free();
    Reference& one = references_[index];
    one = std::move(unstored_.at(unstored_.begin()).one);
    one.state = State::answered;
    one.slot = kNoSlot;
    detached_.emplace(one.position.value, index);
  }
  std::fill(by_slot_.begin(), by_slot_.end(), kNoSlot);
  queue_.clear();
}

std::uint32_t References::lose_all() {
  std::uint32_t in_hand = 0;
  for (std::uint32_t i = 0; i < references_.size(); ++i) {
    if (references_[i].state == State::in_hand) ++in_hand;
    if (references_[i].state != State::free) give_free(i);
  }
  detached_.clear();
  queue_.clear();
  unstored_.clear();
  return in_hand;
}

}  // namespace sluice::internal
