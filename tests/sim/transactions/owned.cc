#include "tests/sim/transactions/owned.h"

#include <algorithm>

#include "shm/base/clock.h"
#include "shm/base/limits.h"

namespace sluice::transactions::sim {
namespace {

constexpr std::uint64_t kNackStoredNs = 5 * kAckSaveNsMax;

}  // namespace

// ---- assignment

void Owned::take(const session::Assignment& assignment) {
  cell_ = assignment.cell;
  generation_ = assignment.generation;
  seeks_ = assignment.seeks;
  careful_until_ = assignment.careful_until;
  settled_ = assignment.settled;
  // While this member was away, and others had it.
  if (assignment.start > read_) settled_.push_back({Position(0), assignment.start});
}

void Owned::begin(Words& words, const session::Assignment& assignment) {
  read_ = acked_ = assignment.start;
  take(assignment);
  layout::AssignmentCell& cell = words.cell(cell_);
  cell.newest.store(0, std::memory_order_release);
  cell.acked.store(acked_.value, std::memory_order_release);
  publish(words);
  cell.accepted.store(generation_, std::memory_order_release);
}

void Owned::rebind(Words& words, const session::Assignment& assignment) {
  take(assignment);
  for (Nack& nack : nacks_) {
    nack.entry.place = cell_;
    nack.entry.generation = static_cast<std::uint32_t>(generation_);
    nack.number = words.write(nack.entry);
    nack.read_ns = 0;
  }
  for (const Entry& entry : entries_)
    if (entry.state == Entry::State::acked)
      words.write(outcome(layout::OutcomeVerb::ack, entry.position, entry.end.value));
  settled_count_ = 0;
  layout::AssignmentCell& cell = words.cell(cell_);
  cell.newest.store(newest_.value, std::memory_order_release);
  cell.acked.store(acked_.value, std::memory_order_release);
  publish(words);
  cell.accepted.store(generation_, std::memory_order_release);
}

session::HeldPartition Owned::held() const {
  session::HeldPartition held;
  held.topic = place_.topic;
  held.partition = place_.partition;
  held.acked = acked_;
  for (const Nack& nack : nacks_) held.acked = std::min(held.acked, Position(nack.entry.target));
  if (!entries_.empty()) held.oldest = entries_.front().position;
  held.newest = newest_;
  held.seeks = seeks_;
  return held;
}

bool Owned::is_lost(const Words& words) const {
  return (words.cell(cell_).generation.load(std::memory_order_acquire) & ~layout::kWantedBack) != generation_;
}

bool Owned::release(Words& words, bool abandons) {
  layout::AssignmentCell& cell = words.cell(cell_);
  if ((cell.generation.load(std::memory_order_acquire) & layout::kWantedBack) == 0) return false;
  if (!entries_.empty() && !abandons) return false;
  if (!entries_.empty()) read_ = entries_.front().position;  // `acked` has not passed it
  entries_.clear();
  publish(words);
  cell.released.store(generation_, std::memory_order_release);
  words.notify();
  return true;
}

// ---- reading

bool Owned::is_settled(Position position) const {
  return std::any_of(settled_.begin(), settled_.end(), [&](const session::PositionRange& range) {
    return range.begin <= position && position < range.end;
  });
}

const TrueInput* Owned::next(Words& words) {
  if ((words.cell(cell_).generation.load(std::memory_order_acquire) & layout::kWantedBack) != 0) return nullptr;
  forget_stored(words);
  const TrueInput* input = log_.next(place_, read_);
  for (; input != nullptr && is_settled(input->address.position); input = log_.next(place_, read_)) read_ = input->end;
  publish(words);
  words.notify();
  return input;
}

void Owned::hand_out(Words& words, const TrueInput& input, std::uint64_t serial) {
  newest_ = input.address.position;
  layout::AssignmentCell& cell = words.cell(cell_);
  cell.newest.store(newest_.value, std::memory_order_release);
  entries_.push_back({input.address.position, input.end, serial, Entry::State::in_hand});
  read_ = input.end;
  publish(words);
  words.notify();
}

std::uint32_t Owned::in_hand() const {
  return static_cast<std::uint32_t>(std::count_if(
      entries_.begin(), entries_.end(), [](const Entry& entry) { return entry.state == Entry::State::in_hand; }));
}

// ---- settling

Owned::Entry* Owned::find(Position position) {
  for (Entry& entry : entries_)
    if (entry.position == position && entry.state == Entry::State::in_hand) return &entry;
  return nullptr;
}

layout::OutcomeEntry Owned::outcome(layout::OutcomeVerb verb, Position target, std::uint64_t argument) const {
  layout::OutcomeEntry entry{};
  entry.target = target.value;
  entry.argument = argument;
  entry.place = cell_;
  entry.generation = static_cast<std::uint32_t>(generation_);
  entry.verb = static_cast<std::uint8_t>(verb);
  return entry;
}

session::TransactionAck Owned::describe(const Entry& entry, std::uint64_t member) const {
  session::TransactionAck ack;
  ack.member = member;
  ack.index = cell_;
  ack.generation = static_cast<std::uint32_t>(generation_);
  ack.target = entry.position.value;
  ack.end = entry.end;
  return ack;
}

void Owned::ack(Words& words, Entry& entry) {
  if (&entry != &entries_.front()) words.write(outcome(layout::OutcomeVerb::ack, entry.position, entry.end.value));
  settle(words, entry, Entry::State::acked);
}

void Owned::nack(Words& words, Entry& entry, std::uint64_t delay_ns) {
  forget_stored(words);
  Nack nack;
  nack.entry = outcome(layout::OutcomeVerb::nack, entry.position, delay_ns);
  nack.number = words.write(nack.entry);
  nacks_.push_back(nack);
  settle(words, entry, Entry::State::over);
}

// It has failed, as the daemon knows. One that is new may not.
void Owned::withdraw(Words& words, Entry& entry) {
  forget_stored(words);
  nacks_.push_back({outcome(layout::OutcomeVerb::nack, entry.position, layout::kDelayByPolicy), words.written(), 0});
  settle(words, entry, Entry::State::over);
}

void Owned::settle(Words& words, Entry& entry, Entry::State state) {
  entry.state = state;
  while (!entries_.empty() && entries_.front().state != Entry::State::in_hand) entries_.pop_front();
  ++settled_count_;
  publish(words);
  words.notify();
}

void Owned::publish(Words& words) {
  layout::AssignmentCell& cell = words.cell(cell_);
  const Position up_to = entries_.empty() ? read_ : entries_.front().position;
  if (up_to > acked_) {
    acked_ = up_to;
    cell.acked.store(acked_.value, std::memory_order_release);
  }
  cell.oldest.store(entries_.empty() ? 0 : up_to.value, std::memory_order_release);
  cell.settled.store(settled_count_, std::memory_order_release);
  cell.read.store(read_.value, std::memory_order_release);
  cell.in_flight.store(in_hand(), std::memory_order_release);
}

void Owned::forget_stored(const Words& words) {
  const std::uint64_t now = monotonic_ns();
  for (Nack& nack : nacks_)
    if (nack.read_ns == 0 && words.was_read(nack.number)) nack.read_ns = now;
  std::erase_if(nacks_, [&](const Nack& nack) { return nack.read_ns != 0 && now - nack.read_ns >= kNackStoredNs; });
}

}  // namespace sluice::transactions::sim
