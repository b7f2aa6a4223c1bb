#include "sdk/group_partition.h"

#include <algorithm>
#include <utility>

#include "sdk/partitioner.h"
#include "shm/base/clock.h"
#include "shm/base/limits.h"
#include "shm/layout/trailer.h"

namespace sluice::internal {
namespace {

// Records passed over in one call before the other partitions get their turn.
constexpr std::uint32_t kPassedMax = 256;
// A new daemon has so long to read what it is told again.
constexpr std::uint64_t kRebindNs = 2'000'000'000;

}  // namespace

GroupPartition::GroupPartition(StreamContext& context, std::string_view topic, OpenedPartition opened,
                               ReaderHandlePtr reader, Strict strict, std::uint32_t place, std::uint64_t serial)
    : strict_(strict),
      place_(place),
      serial_(serial),
      stream_(context, topic, std::move(opened.maps), {}, opened.range),
      reader_(std::move(reader)) {}

// ---- assignment ----

void GroupPartition::take(const Assignment& assignment) {
  cell_index_ = assignment.cell;
  cell_ = &member_->cell(cell_index_);
  generation_ = assignment.generation;
  seeks_ = assignment.seeks;
  phase_ = Phase::reading;
  careful_until_ = assignment.careful_until;
  settled_ranges_ = assignment.settled;
  // While this member was away, and others had it.
  if (assignment.start > stream_.position()) settled_ranges_.push_back({Position(0), assignment.start});
  repeats_ = assignment.repeats;
  std::sort(settled_ranges_.begin(), settled_ranges_.end(),
            [](const PositionRange& a, const PositionRange& b) { return a.begin < b.begin; });
  std::sort(repeats_.begin(), repeats_.end(), [](const Repeat& a, const Repeat& b) { return a.position < b.position; });
  special_until_ = Position(0);
  for (const PositionRange& range : settled_ranges_) special_until_ = std::max(special_until_, range.end);
  if (!repeats_.empty()) special_until_ = std::max(special_until_, repeats_.back().position + 1);
  handed_out_ = assignment.handed_out;
  for (const Position end : handed_out_) special_until_ = std::max(special_until_, end);
  for (const std::uint64_t hash : assignment.blocked_keys) blocked_keys_.try_emplace(hash, member_->outcomes_written());
  if (assignment.blocked) {
    is_held_back_ = true;
    held_back_at_ = member_->outcomes_written();
  }
  look_at_state();
}

// release: the words of the cell are of this generation from here on.
void GroupPartition::accept() { cell_->accepted.store(generation_, std::memory_order_release); }

Status GroupPartition::begin(MemberLink& member, const Assignment& assignment) {
  member_ = &member;
  acked_ = assignment.start;
  SLUICE_TRY(stream_.start(From::position(stream_.partition(), assignment.start)));
  take(assignment);
  cell_->newest.store(0, std::memory_order_release);
  cell_->acked.store(acked_.value, std::memory_order_release);
  cell_->read.store(acked_.value, std::memory_order_release);
  publish();
  accept();
  return {};
}

bool GroupPartition::rebind(MemberLink& member, const Assignment& assignment) {
  member_ = &member;
  take(assignment);
  for (std::uint64_t i = unstored_.begin(); i != unstored_.end(); ++i) {
    Unstored& one = unstored_.at(i);
    if (!member.wait_room(one.reason.size(), kRebindNs)) return false;
    one.entry.place = cell_index_;
    one.entry.generation = static_cast<std::uint32_t>(generation_);
    one.number = member.write(one.entry, one.reason);
    one.read_ns = 0;
  }
  for (std::uint64_t i = in_hand_.begin(); i != in_hand_.end(); ++i) {
    if (in_hand_.at(i).state == InHand::State::acked) write_ack(in_hand_.at(i));
  }
  // What this daemon has read by now is not enough to say that nothing waits.
  held_back_at_ = member.outcomes_written();
  for (auto& [hash, outcomes] : blocked_keys_) outcomes = member.outcomes_written();
  settled_ = 0;
  cell_->newest.store(newest_.value, std::memory_order_release);
  // release: the outcomes that it passes were written before.
  cell_->acked.store(acked_.value, std::memory_order_release);
  cell_->read.store(stream_.position().value, std::memory_order_release);
  publish();
  accept();
  return true;
}

Status GroupPartition::reattach(OpenedPartition opened, ReaderHandlePtr reader) {
  SLUICE_TRY(stream_.reattach(std::move(opened.maps), {}));
  reader_ = std::move(reader);
  return {};
}

HeldPartition GroupPartition::held() const {
  HeldPartition held;
  held.topic = stream_.topic_id();
  held.partition = stream_.partition();
  held.acked = acked_;
  for (std::uint64_t i = unstored_.begin(); i != unstored_.end(); ++i)
    held.acked = std::min(held.acked, Position(unstored_.at(i).entry.target));
  if (!in_hand_.empty()) held.oldest = in_hand_.front().position;
  held.newest = newest_;
  held.seeks = seeks_;
  return held;
}

bool GroupPartition::take_wanted() {
  if (phase_ != Phase::reading || (generation_word() & layout::kWantedBack) == 0) return false;
  phase_ = Phase::wanted;
  look_at_state();
  return true;
}

bool GroupPartition::release() {
  if (phase_ != Phase::wanted || in_hand_.count() != 0) return false;
  rest(true);
  publish();
  // release: all that was said of the partition comes before.
  cell_->released.store(generation_, std::memory_order_release);
  phase_ = Phase::released;
  return true;
}

// ---- reading ----

void GroupPartition::look_at_state() {
  const Position position = stream_.position();
  const bool held = strict_ == Strict::partition && (is_held_back_ || has_references_);
  const bool open = phase_ == Phase::reading && !held;
  is_ordinary_ = open && position >= careful_until_;
  readiness_ = open ? Readiness::alone : Readiness::no;
  is_plain_ = blocked_keys_.empty() && position >= special_until_;
}

Look GroupPartition::next_checked(ring::RecordView& record) {
  for (std::uint32_t passed = 0; passed < kPassedMax; ++passed) {
    if (!blocked_keys_.empty() && !member_->has_room()) {
      member_->call_daemon();
      return Look::nothing;
    }
    const Look look = stream_.next(record);
    if (look != Look::record) return look;
    if (is_settled(record.position) || defer_if_blocked(record)) continue;
    is_plain_ = blocked_keys_.empty() && record.position >= special_until_;
    return look;
  }
  look_at_state();
  return Look::more;
}

bool GroupPartition::is_settled(Position position) const {
  // The first range that ends above it.
  const auto range = std::upper_bound(settled_ranges_.begin(), settled_ranges_.end(), position,
                                      [](Position at, const PositionRange& one) { return at < one.end; });
  return range != settled_ranges_.end() && position >= range->begin;
}

std::uint32_t GroupPartition::handed_out_before(Position position) const {
  if (position >= special_until_) [[likely]]
    return 0;
  return static_cast<std::uint32_t>(
      std::count_if(handed_out_.begin(), handed_out_.end(), [&](Position end) { return position < end; }));
}

const Repeat* GroupPartition::repeat_of(Position position) const {
  if (position >= special_until_) [[likely]]
    return nullptr;
  const auto repeat = std::lower_bound(repeats_.begin(), repeats_.end(), position,
                                       [](const Repeat& one, Position at) { return one.position < at; });
  return repeat != repeats_.end() && repeat->position == position ? &*repeat : nullptr;
}

std::uint64_t GroupPartition::key_hash_of(std::span<const std::byte> trailer) const {
  if (strict_ != Strict::key) return 0;
  const auto key = layout::find_entry(trailer, layout::TrailerType::key);
  return key.data() == nullptr ? 0 : key_hash(layout::as_text(key));
}

bool GroupPartition::defer_if_blocked(const ring::RecordView& record) {
  if (blocked_keys_.empty()) return false;
  const auto blocked = blocked_keys_.find(key_hash_of(record.trailer));
  if (blocked == blocked_keys_.end()) return false;
  write_unstored(layout::OutcomeVerb::defer, record.position, blocked->first, {});
  blocked->second = member_->outcomes_written();
  ++settled_;
  newest_ = record.position;
  cell_->newest.store(newest_.value, std::memory_order_release);
  publish();
  member_->notify();
  return true;
}

bool GroupPartition::rest(bool unpin) {
  stream_.rest(unpin);
  cell_->read.store(stream_.position().value, std::memory_order_release);
  if (!unstored_.empty()) forget_stored();
  if (!in_hand_.empty() || stream_.position() <= acked_) return false;
  publish();
  return true;
}

void GroupPartition::set_references(bool any) {
  has_references_ = any;
  look_at_state();
}

// ---- settling ----

layout::OutcomeEntry GroupPartition::outcome(layout::OutcomeVerb verb, Position target, std::uint64_t argument) const {
  layout::OutcomeEntry entry{};
  entry.target = target.value;
  entry.argument = argument;
  entry.place = cell_index_;
  entry.generation = static_cast<std::uint32_t>(generation_);
  entry.verb = static_cast<std::uint8_t>(verb);
  return entry;
}

// Without room it is not told: `acked` will pass it, and should this member die before, the message comes again.
void GroupPartition::write_ack(const InHand::Entry& entry) {
  if (member_->has_room()) member_->write(outcome(layout::OutcomeVerb::ack, entry.position, entry.end.value));
}

std::uint32_t GroupPartition::ack_up_to(std::uint64_t index) {
  std::uint32_t acked = 0;
  for (std::uint64_t i = in_hand_.begin(); i <= index && i < in_hand_.end(); i = std::max(i + 1, in_hand_.begin())) {
    if (in_hand_.find(i) == nullptr) continue;
    in_hand_.settle(i, InHand::State::acked);
    ++settled_;
    ++acked;
  }
  publish();
  return acked;
}

void GroupPartition::write_unstored(layout::OutcomeVerb verb, Position target, std::uint64_t argument,
                                    std::string_view reason) {
  forget_stored();
  Unstored one;
  one.entry = outcome(verb, target, argument);
  one.reason = reason;
  one.number = member_->write(one.entry, reason);
  unstored_.push(std::move(one));
}

void GroupPartition::forget_stored() {
  const std::uint64_t now = monotonic_coarse_ns();
  const std::uint64_t read = member_->outcomes_read();
  for (std::uint64_t i = unstored_.begin(); i != unstored_.end() && unstored_.at(i).number <= read; ++i) {
    if (unstored_.at(i).read_ns == 0) unstored_.at(i).read_ns = now;
  }
  while (!unstored_.empty()) {
    Unstored& first = unstored_.at(unstored_.begin());
    if (first.read_ns == 0 || now - first.read_ns < kOutcomeStoredNs) return;
    first = {};
    unstored_.pop();
  }
}

void GroupPartition::answer(std::uint64_t index, layout::OutcomeVerb verb, std::uint64_t argument,
                            std::string_view reason) {
  const InHand::Entry entry = in_hand_.at(index);
  if (verb == layout::OutcomeVerb::defer) argument = entry.key_hash;
  write_unstored(verb, entry.position, argument, reason);
  if (verb != layout::OutcomeVerb::reject) hold_back(entry.key_hash);
  settle(index, InHand::State::answered);
}

void GroupPartition::extend(std::uint64_t index, std::uint64_t time_ns) {
  member_->write(outcome(layout::OutcomeVerb::extend, in_hand_.at(index).position, time_ns));
}

bool GroupPartition::withdraw(Position position) {
  const std::uint64_t index = in_hand_.index_of(position);
  if (in_hand_.find(index) == nullptr) return false;
  // It has failed, as the daemon knows. One that is new may not, and is told.
  forget_stored();
  Unstored failed;
  failed.entry = outcome(layout::OutcomeVerb::nack, position, layout::kDelayByPolicy);
  failed.number = member_->outcomes_written();
  unstored_.push(std::move(failed));
  hold_back(in_hand_.at(index).key_hash);
  settle(index, InHand::State::withdrawn);
  return true;
}

void GroupPartition::hold_back(std::uint64_t key_hash) {
  if (strict_ == Strict::key && key_hash != 0) blocked_keys_[key_hash] = member_->outcomes_written();
  if (strict_ == Strict::partition) {
    is_held_back_ = true;
    held_back_at_ = member_->outcomes_written();
  }
  look_at_state();
}

void GroupPartition::unblock(std::uint64_t key_hash, std::uint64_t outcomes_read) {
  if (key_hash == 0) {
    if (outcomes_read >= held_back_at_) is_held_back_ = false;
  } else if (const auto blocked = blocked_keys_.find(key_hash);
             blocked != blocked_keys_.end() && outcomes_read >= blocked->second) {
    blocked_keys_.erase(blocked);
  }
  look_at_state();
}

}  // namespace sluice::internal
