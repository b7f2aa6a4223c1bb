#include "sdk/control_session.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "shm/base/assert.h"
#include "shm/region/region.h"

namespace sluice::internal {

template <std::uint32_t Count>
std::uint32_t CellBitmap<Count>::take() {
  for (std::uint32_t word = 0; word < taken_.size(); ++word) {
    std::uint64_t bits = taken_[word].load(std::memory_order_relaxed);
    while (bits != ~std::uint64_t{0}) {
      const auto bit = static_cast<std::uint32_t>(std::countr_one(bits));
      // acq_rel: pairs with give() of the cell's last holder.
      if (taken_[word].compare_exchange_weak(bits, bits | (std::uint64_t{1} << bit), std::memory_order_acq_rel,
                                             std::memory_order_relaxed)) {
        return word * 64 + bit;
      }
    }
  }
  return kNone;
}

template <std::uint32_t Count>
void CellBitmap<Count>::give(std::uint32_t index) {
  const std::uint64_t bit = std::uint64_t{1} << (index % 64);
  // acq_rel: pairs with take() of the cell's next holder.
  const std::uint64_t before = taken_[index / 64].fetch_and(~bit, std::memory_order_acq_rel);
  SLUICE_ASSERT((before & bit) != 0);
}

template class CellBitmap<kSessionPinsMax>;
template class CellBitmap<kSessionCursorsMax>;

SessionMemory::SessionMemory(region::Mapping mapping, UniqueFd wake, SessionId session, Incarnation incarnation,
                             std::uint64_t generation, bool membarrier)
    : mapping_(std::move(mapping)),
      wake_(std::move(wake)),
      session_(session),
      incarnation_(incarnation),
      generation_(generation),
      membarrier_(membarrier) {}

Result<std::shared_ptr<SessionMemory>> SessionMemory::open(int region_fd, UniqueFd wake, SessionId session,
                                                           Incarnation incarnation, std::uint64_t generation,
                                                           bool membarrier) {
  region::RegionExpectation expectation;
  expectation.kind = layout::RegionKind::session;
  expectation.incarnation = incarnation;
  expectation.session = session;
  SLUICE_ASSIGN(region::Region opened, region::open_region(region_fd, region::Access::read_write, expectation));
  return std::shared_ptr<SessionMemory>(
      new SessionMemory(std::move(opened.mapping), std::move(wake), session, incarnation, generation, membarrier));
}

Result<std::uint32_t> SessionMemory::take_pin() {
  const std::uint32_t index = pins_.take();
  if (index == pins_.kNone) {
    return fail(ErrorCode::quota,
                "taking a pin: this client's " + std::to_string(kSessionPinsMax) +
                    " are all in use by producers and messages that are kept; drop some, or connect once more");
  }
  std::atomic<std::uint32_t>& used = region().pins_used;
  std::uint32_t seen = used.load(std::memory_order_relaxed);
  // release: pairs with the acquire in the daemon's Session::pins_used; a pin in this cell comes later.
  while (seen <= index &&
         !used.compare_exchange_weak(seen, index + 1, std::memory_order_release, std::memory_order_relaxed)) {
  }
  return index;
}

void SessionMemory::give_pin(std::uint32_t index) {
  // release: pairs with the acquire of the daemon's look at pins; what was read under the pin is read.
  pin(index).store(0, std::memory_order_release);
  pins_.give(index);
}

Result<std::uint32_t> SessionMemory::take_cursor() {
  const std::uint32_t index = cursors_.take();
  if (index == cursors_.kNone) {
    return fail(ErrorCode::quota, "taking a cursor: this client's readers are in " +
                                      std::to_string(kSessionCursorsMax) +
                                      " partitions already; close some, or connect once more");
  }
  return index;
}

void SessionMemory::give_cursor(std::uint32_t index) {
  cursor(index).store(0, std::memory_order_release);  // as in give_pin
  cursors_.give(index);
}

Result<PinLease> PinLease::take(std::shared_ptr<SessionMemory> memory) {
  SLUICE_ASSIGN(const std::uint32_t index, memory->take_pin());
  PinLease lease;
  lease.memory_ = std::move(memory);
  lease.index_ = index;
  return lease;
}

PinLease& PinLease::operator=(PinLease&& other) noexcept {
  if (this != &other) {
    reset();
    memory_ = std::move(other.memory_);
    index_ = other.index_;
  }
  return *this;
}

void PinLease::reset() {
  if (memory_) memory_->give_pin(index_);
  memory_.reset();
}

Result<CursorLease> CursorLease::take(std::shared_ptr<SessionMemory> memory) {
  SLUICE_ASSIGN(const std::uint32_t index, memory->take_cursor());
  CursorLease lease;
  lease.memory_ = std::move(memory);
  lease.index_ = index;
  return lease;
}

CursorLease& CursorLease::operator=(CursorLease&& other) noexcept {
  if (this != &other) {
    reset();
    memory_ = std::move(other.memory_);
    index_ = other.index_;
  }
  return *this;
}

void CursorLease::reset() {
  if (memory_) memory_->give_cursor(index_);
  memory_.reset();
}

}  // namespace sluice::internal
