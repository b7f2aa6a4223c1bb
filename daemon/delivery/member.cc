#include "daemon/delivery/member.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "shm/base/assert.h"
#include "shm/region/memfd.h"
#include "shm/region/region.h"
#include "shm/ring/futex.h"

namespace sluice::delivery {
namespace {

// Entries for a member that does not read: more than this, and it is no member any more.
constexpr std::size_t kWaitingMax = 4 * kDeliverySlotsMax;

std::string region_text(core::MemberId id) { return "the region of member " + std::to_string(id); }

}  // namespace

Member::Member(core::MemberId id, SessionId session, UniqueFd fd, UniqueFd readable, region::Mapping mapping)
    : id_(id), session_(session), fd_(std::move(fd)), readable_(std::move(readable)), mapping_(std::move(mapping)) {
  for (std::uint32_t note = 0; note < kNoteSlotsMax; ++note) free_notes_.push_back(kDeliverySlotsMax + note);
}

Result<std::unique_ptr<Member>> Member::create(core::MemberId id, SessionId session, Incarnation incarnation) {
  const std::string what = region_text(id);
  SLUICE_ASSIGN(UniqueFd fd, region::create_memfd("sluice-member-" + std::to_string(id), sizeof(layout::MemberRegion)));
  SLUICE_ASSIGN(region::Mapping mapping, region::Mapping::map(fd.get(), region::Access::read_write, what));
  UniqueFd readable(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!readable) return fail(system_error(errno, "making the descriptor of member " + std::to_string(id)));
  region::RegionInfo info;
  info.kind = layout::RegionKind::member;
  info.incarnation = incarnation;
  info.size = mapping.size();
  info.session = session;
  region::initialise_header(mapping, info);
  return std::unique_ptr<Member>(new Member(id, session, std::move(fd), std::move(readable), std::move(mapping)));
}

Result<UniqueFd> Member::hand_out_region() const { return region::reopen_read_write(fd_.get(), region_text(id_)); }

Result<UniqueFd> Member::hand_out_readable() const {
  return region::duplicate(readable_.get(), "the descriptor of member " + std::to_string(id_));
}

// ---- to the member

void Member::give_cell(std::uint32_t index, std::uint64_t generation) {
  // release: pairs with the member's acquire. Its words count once it has accepted them for this generation.
  region().cells[index].generation.store(generation, std::memory_order_release);
  bump_assignments();
}

void Member::want_back(std::uint32_t index, std::uint64_t generation) {
  // release: pairs with the member's acquire, which then stops handing out.
  region().cells[index].generation.store(generation | layout::kWantedBack, std::memory_order_release);
  bump_assignments();
}

void Member::take_back(std::uint32_t index) {
  region().cells[index].generation.store(0, std::memory_order_release);  // as want_back
  bump_assignments();
}

void Member::set_epoch(std::uint64_t epoch) {
  // release: pairs with the member's acquire, behind a delivery or an assignment that it has seen.
  region().epoch.store(static_cast<std::uint32_t>(epoch), std::memory_order_release);
}

void Member::deliver(const core::Deliver& delivery, std::uint64_t seeks) {
  layout::MemberRegion& shared = region();
  std::atomic<std::uint64_t>& started = shared.started[delivery.slot];
  started.store(0, std::memory_order_relaxed);
  // The 0 stands before any new byte: a member may be copying what was taken back from it. Pairs with its fence.
  std::atomic_thread_fence(std::memory_order_release);
  shared.slots[delivery.slot] = {delivery.stamp,
                                 delivery.position.value,
                                 seeks,
                                 static_cast<std::uint32_t>(layout::DeliveryKind::message),
                                 delivery.place.topic.value,
                                 delivery.place.partition,
                                 delivery.delivered,
                                 delivery.failed,
                                 delivery.alone ? 1u : 0u,
                                 {}};
  // release: pairs with the member's acquire; publishes the slot, also to who comes from an older entry of the ring.
  started.store(delivery.stamp | layout::kOffered, std::memory_order_release);
  waiting_.push_back(delivery.slot);
  publish_waiting();
}

void Member::tell(layout::DeliveryKind kind, std::uint64_t stamp, const core::Place& place, std::uint64_t position,
                  std::uint64_t argument) {
  reclaim_notes();
  if (free_notes_.empty()) {
    late_notes_.push_back({kind, stamp, place, position, argument});
    return;
  }
  const std::uint32_t slot = free_notes_.front();
  free_notes_.pop_front();
  region().slots[slot] = {
      stamp, position, argument, static_cast<std::uint32_t>(kind), place.topic.value, place.partition, 0, 0, 0, {}};
  waiting_.push_back(slot);
  publish_waiting();
}

// As far as the ring has room: the member has read what stood there.
void Member::publish_waiting() {
  layout::MemberRegion& shared = region();
  // acquire: pairs with the member's release; its reads of the entries below are done. Its word is clamped.
  const std::uint64_t taken = std::min(shared.taken.load(std::memory_order_acquire), delivered_);
  while (!waiting_.empty() && delivered_ - taken < kDeliverySlotsMax) {
    const std::uint32_t slot = waiting_.front();
    waiting_.pop_front();
    shared.ring[delivered_ % kDeliverySlotsMax] = slot;
    ++delivered_;
    if (slot >= kDeliverySlotsMax) notes_out_.emplace_back(delivered_, slot);
    changed_ = true;
  }
  // release: pairs with the member's acquire; publishes slots, ring and `started`.
  if (changed_) shared.delivered.store(delivered_, std::memory_order_release);
}

void Member::reclaim_notes() {
  const std::uint64_t taken = std::min(region().taken.load(std::memory_order_acquire), delivered_);  // as above
  while (!notes_out_.empty() && notes_out_.front().first <= taken) {
    free_notes_.push_back(notes_out_.front().second);
    notes_out_.pop_front();
  }
}

void Member::flush() {
  reclaim_notes();
  while (!late_notes_.empty() && !free_notes_.empty()) {
    const Note note = late_notes_.front();
    late_notes_.pop_front();
    tell(note.kind, note.stamp, note.place, note.position, note.argument);
  }
  if (!waiting_.empty()) publish_waiting();
}

bool Member::does_not_read() const { return waiting_.size() + late_notes_.size() > kWaitingMax; }

void Member::bump_assignments() {
  region().assignments.fetch_add(1, std::memory_order_release);
  changed_ = true;
}

void Member::end() {
  region().ended.store(1, std::memory_order_release);
  for (layout::AssignmentCell& cell : region().cells) cell.generation.store(0, std::memory_order_release);
  changed_ = true;
  wake();
}

void Member::wake() {
  if (!std::exchange(changed_, false)) return;
  layout::MemberRegion& shared = region();
  // seq_cst: the publication stands before `asleep` is read; pairs with the member's store of it before it looks again.
  shared.news.fetch_add(1, std::memory_order_seq_cst);
  if (shared.asleep.load(std::memory_order_seq_cst) != 0 && shared.asleep.exchange(0, std::memory_order_acq_rel) != 0)
    ring::futex_wake_all(shared.news);
  if (wants_readable()) make_readable();
}

void Member::make_readable() {
  region().fd_armed.store(0, std::memory_order_relaxed);
  const std::uint64_t one = 1;
  static_cast<void>(::write(readable_.get(), &one, sizeof one));  // full: it is readable
}

bool Member::wants_readable() const { return region().fd_armed.load(std::memory_order_seq_cst) != 0; }

// ---- from the member

// acquire: pairs with the member's exchange; what it wrote before is visible.
bool Member::has_news() const { return region().daemon_armed.load(std::memory_order_acquire) == 0; }

void Member::arm() { region().daemon_armed.store(1, std::memory_order_seq_cst); }

std::optional<core::CellWords> Member::words(std::uint32_t index, std::uint64_t generation) const {
  const layout::AssignmentCell& cell = region().cells[index];
  // acquire: pairs with the member's release; its words are of this generation from here on.
  if (cell.accepted.load(std::memory_order_acquire) != generation) return std::nullopt;
  core::CellWords words;
  // acquire: pairs with the member's release. `released` is its last word: read first, the others are complete then.
  words.released = cell.released.load(std::memory_order_acquire);
  words.acked = Position(cell.acked.load(std::memory_order_acquire));
  words.oldest = Position(cell.oldest.load(std::memory_order_acquire));
  words.newest = Position(cell.newest.load(std::memory_order_acquire));
  words.settled = cell.settled.load(std::memory_order_relaxed);
  words.in_flight = cell.in_flight.load(std::memory_order_relaxed);
  return words;
}

Position Member::read_position(std::uint32_t index) const {
  return Position(region().cells[index].read.load(std::memory_order_acquire));
}

std::uint64_t Member::progress() const { return region().progress.load(std::memory_order_relaxed); }

bool Member::has_unread_deliveries() const { return region().taken.load(std::memory_order_acquire) != delivered_; }

std::optional<core::Outcome> Member::next_outcome() {
  layout::MemberRegion& shared = region();
  // acquire: pairs with the member's release; publishes the entries below it.
  const std::uint64_t written = shared.outcomes_written.load(std::memory_order_acquire);
  if (written == outcomes_read_) return std::nullopt;
  const auto skip_all = [&] {
    ++bad_words_;
    outcomes_read_ = written;
    shared.outcomes_read.store(outcomes_read_, std::memory_order_release);
    return std::nullopt;
  };
  if (written - outcomes_read_ > kOutcomesMax) return skip_all();
  layout::OutcomeEntry entry;
  std::memcpy(&entry, &shared.outcomes[outcomes_read_ % kOutcomesMax], sizeof entry);
  const std::uint64_t extra = layout::reason_entries(entry.reason_size);
  if (entry.reason_size > kReasonSizeMax || extra >= written - outcomes_read_) return skip_all();
  core::Outcome outcome;
  switch (static_cast<layout::OutcomeVerb>(entry.verb)) {
    case layout::OutcomeVerb::ack: outcome.verb = core::Verb::ack; break;
    case layout::OutcomeVerb::nack: outcome.verb = core::Verb::nack; break;
    case layout::OutcomeVerb::reject: outcome.verb = core::Verb::reject; break;
    case layout::OutcomeVerb::extend: outcome.verb = core::Verb::extend; break;
    case layout::OutcomeVerb::defer: outcome.verb = core::Verb::defer; break;
    default: return skip_all();
  }
  outcome.by_slot = (entry.place & layout::kPlaceIsSlot) != 0;
  outcome.index = entry.place & ~layout::kPlaceIsSlot;
  outcome.generation = entry.generation;
  outcome.target = entry.target;
  outcome.argument = entry.argument;
  outcome.reason.resize(entry.reason_size);
  for (std::uint64_t i = 0; i < extra; ++i) {
    const std::size_t at = i * sizeof(layout::OutcomeEntry);
    std::memcpy(outcome.reason.data() + at, &shared.outcomes[(outcomes_read_ + 1 + i) % kOutcomesMax],
                std::min(sizeof(layout::OutcomeEntry), outcome.reason.size() - at));
  }
  outcomes_read_ += 1 + extra;
  // release: pairs with the member's acquire; the entries may be written again.
  shared.outcomes_read.store(outcomes_read_, std::memory_order_release);
  return outcome;
}

bool Member::has_begun(std::uint32_t slot, std::uint64_t stamp) const {
  // acquire: pairs with the member's compare-and-swap.
  return region().started[slot].load(std::memory_order_acquire) == stamp;
}

bool Member::recall(std::uint32_t slot, std::uint64_t stamp) {
  std::uint64_t expected = stamp | layout::kOffered;
  return region().started[slot].compare_exchange_strong(expected, layout::kRecalled, std::memory_order_acq_rel);
}

}  // namespace sluice::delivery
