#include "tests/sim/transactions/words.h"

#include <utility>

#include "tests/sim/transactions/truth.h"

namespace sluice::transactions::sim {

bool Words::take_assignments_changed() {
  const std::uint32_t count = region_->assignments.load(std::memory_order_acquire);
  return std::exchange(assignments_seen_, count) != count;
}

Words::Taken Words::take(layout::DeliverySlot& slot, std::uint32_t& index) {
  const std::uint64_t delivered = region_->delivered.load(std::memory_order_acquire);
  check(delivered - taken_ <= kDeliverySlotsMax, "more deliveries than their ring holds");
  if (taken_ == delivered) return Taken::none;
  index = region_->ring[taken_ % kDeliverySlotsMax];
  check(index < kDeliverySlotsMax + kNoteSlotsMax, "a delivery in no slot");
  slot = region_->slots[index];
  const bool is_offered = index >= kDeliverySlotsMax ||
                          region_->started[index].load(std::memory_order_acquire) == (slot.stamp | layout::kOffered);
  region_->taken.store(++taken_, std::memory_order_release);
  return is_offered ? Taken::slot : Taken::recalled;
}

std::uint64_t Words::write(layout::OutcomeEntry entry) {
  region_->outcomes[written_++ % kOutcomesMax] = entry;
  region_->outcomes_written.store(written_, std::memory_order_release);
  return written_;
}

bool Words::start(std::uint32_t index, std::uint64_t stamp) {
  std::uint64_t expected = stamp | layout::kOffered;
  return region_->started[index].compare_exchange_strong(expected, stamp, std::memory_order_acq_rel);
}

}  // namespace sluice::transactions::sim
