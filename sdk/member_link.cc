#include "sdk/member_link.h"

#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <utility>

#include "shm/base/assert.h"
#include "shm/base/clock.h"
#include "shm/region/region.h"

namespace sluice::internal {
namespace {
// Room is looked for again after it: the daemon rings nobody for it.
constexpr std::uint64_t kRoomLookNs = 200'000;
}  // namespace

MemberLink::MemberLink(MemberGrant grant)
    : member_(grant.member),
      config_(std::move(grant.config)),
      session_(std::move(grant.memory)),
      readable_(std::move(grant.readable)),
      membarrier_(session_->membarrier()) {}

Result<std::unique_ptr<MemberLink>> MemberLink::open(MemberGrant grant) {
  if (grant.memory == nullptr) return fail(ErrorCode::internal, "joining a group: no session; report this");
  region::RegionExpectation expected;
  expected.kind = layout::RegionKind::member;
  expected.incarnation = grant.memory->incarnation();
  SLUICE_ASSIGN(region::Region opened, region::open_region(grant.region.get(), region::Access::read_write, expected));
  std::unique_ptr<MemberLink> link(new MemberLink(std::move(grant)));
  link->mapping_ = std::move(opened.mapping);
  link->region_ = link->mapping_.at<layout::MemberRegion>();
  return link;
}

bool MemberLink::take_assignments_changed() {
  // acquire: pairs with the daemon's release; the cells are looked at behind it.
  const std::uint32_t count = region_->assignments.load(std::memory_order_acquire);
  return std::exchange(assignments_seen_, count) != count;
}

MemberLink::Taken MemberLink::take_delivery(layout::DeliverySlot& slot, std::uint32_t& index) {
  if (taken_ == delivered_seen_) {
    // acquire: pairs with the daemon's release; publishes the slots and their indexes.
    const std::uint64_t delivered = region_->delivered.load(std::memory_order_acquire);
    if (delivered - taken_ > kDeliverySlotsMax) return Taken::broken;
    delivered_seen_ = delivered;
    if (taken_ == delivered_seen_) return Taken::none;
  }
  std::memcpy(&index, &region_->ring[taken_ % kDeliverySlotsMax], sizeof index);
  bool possible = index < kDeliverySlotsMax + kNoteSlotsMax;
  const bool is_offered = possible && copy_slot(index, slot);
  const bool is_message = is_offered && slot.kind == static_cast<std::uint32_t>(layout::DeliveryKind::message);
  possible = possible && (!is_message || index < kDeliverySlotsMax);
  // release: our reads of the entry come before its reuse.
  region_->taken.store(++taken_, std::memory_order_release);
  if (!possible) return Taken::refused;
  return is_offered ? Taken::slot : Taken::recalled;
}

// False: what stood there was taken back, and the slot may be in use again. It is told by a later entry then.
bool MemberLink::copy_slot(std::uint32_t index, layout::DeliverySlot& slot) const {
  if (index >= kDeliverySlotsMax) {
    std::memcpy(&slot, &region_->slots[index], sizeof slot);
    return true;
  }
  // acquire: pairs with the daemon's release; the slot is as complete as the word says.
  const std::uint64_t before = region_->started[index].load(std::memory_order_acquire);
  std::memcpy(&slot, &region_->slots[index], sizeof slot);
  // The copy comes before the second look. Pairs with the daemon's fence.
  std::atomic_thread_fence(std::memory_order_acquire);
  const std::uint64_t behind = region_->started[index].load(std::memory_order_relaxed);
  return before == behind && before == (slot.stamp | layout::kOffered);
}

std::uint64_t MemberLink::outcomes_read() const {
  // acquire: pairs with the daemon's release; its reads of the entries come before we reuse them.
  const std::uint64_t read = region_->outcomes_read.load(std::memory_order_acquire);
  return read > written_ || read < read_seen_ ? read_seen_ : read;
}

bool MemberLink::has_room(std::size_t reason_size) {
  const std::uint64_t entries =
      1 + layout::reason_entries(static_cast<std::uint32_t>(std::min<std::size_t>(reason_size, kReasonSizeMax)));
  if (written_ + entries - read_seen_ <= kOutcomesMax) [[likely]]
    return true;
  read_seen_ = outcomes_read();
  return written_ + entries - read_seen_ <= kOutcomesMax;
}

bool MemberLink::wait_room(std::size_t reason_size, std::uint64_t timeout_ns) {
  const std::uint64_t start = monotonic_ns();
  while (!has_room(reason_size)) {
    call_daemon();
    if (monotonic_ns() - start >= timeout_ns) return false;
    ring::futex_wait(region_->news, region_->news.load(std::memory_order_acquire), kRoomLookNs);
  }
  return true;
}

std::uint64_t MemberLink::write(layout::OutcomeEntry entry, std::string_view reason) {
  reason = reason.substr(0, kReasonSizeMax);
  SLUICE_ASSERT(has_room(reason.size()));
  entry.reason_size = static_cast<std::uint32_t>(reason.size());
  region_->outcomes[written_++ % kOutcomesMax] = entry;
  for (std::size_t at = 0; at < reason.size(); at += sizeof entry) {
    layout::OutcomeEntry piece{};
    std::memcpy(&piece, reason.data() + at, std::min(sizeof piece, reason.size() - at));
    region_->outcomes[written_++ % kOutcomesMax] = piece;
  }
  // release: pairs with the daemon's acquire; publishes the entries.
  region_->outcomes_written.store(written_, std::memory_order_release);
  return written_;
}

void MemberLink::take_down_and_call() {
  // acq_rel: one of those who see the flag writes the descriptor.
  if (region_->daemon_armed.exchange(0, std::memory_order_acq_rel) != 0) call_daemon();
}

void MemberLink::call_daemon() const {
  const std::uint64_t one = 1;
  // A full counter is as good as a written one.
  static_cast<void>(::write(session_->wake_fd(), &one, sizeof one) == sizeof one);
}

ring::FutexWait MemberLink::announce() {
  const std::uint32_t news = region_->news.load(std::memory_order_acquire);
  region_->asleep.exchange(1, std::memory_order_seq_cst);
  return {&region_->news, news};
}

}  // namespace sluice::internal
