// A member's region as the member uses it, by the protocol of shm/layout/member_region.h (sdk/member_link.h is the
// real one).
//
// Owner: a Member; one object a join.
#pragma once

#include <cstdint>

#include "shm/layout/member_region.h"
#include "shm/region/mapping.h"

namespace sluice::transactions::sim {

class Words {
 public:
  Words() = default;
  explicit Words(region::Mapping mapping)
      : mapping_(std::move(mapping)), region_(mapping_.at<layout::MemberRegion>()) {}

  layout::MemberRegion& region() const { return *region_; }
  layout::AssignmentCell& cell(std::uint32_t index) const { return region_->cells[index]; }

  // ---- what the daemon says
  bool ended() const { return region_->ended.load(std::memory_order_acquire) != 0; }
  // True once for each change.
  bool take_assignments_changed();
  enum class Taken : std::uint8_t { none, slot, recalled };
  Taken take(layout::DeliverySlot& slot, std::uint32_t& index);
  bool was_read(std::uint64_t number) const { return region_->outcomes_read.load(std::memory_order_acquire) >= number; }

  // ---- what the member says
  void bump_progress() { region_->progress.fetch_add(1, std::memory_order_relaxed); }
  std::uint64_t written() const { return written_; }
  // The number of entries written so far.
  std::uint64_t write(layout::OutcomeEntry entry);
  // False: the daemon has taken the delivery back.
  bool start(std::uint32_t index, std::uint64_t stamp);
  // Behind what was written.
  void notify() {
    if (region_->daemon_armed.load(std::memory_order_acquire) != 0)
      region_->daemon_armed.exchange(0, std::memory_order_acq_rel);
  }

 private:
  region::Mapping mapping_;
  layout::MemberRegion* region_ = nullptr;
  std::uint32_t assignments_seen_ = 0;
  std::uint64_t taken_ = 0;
  std::uint64_t written_ = 0;
};

}  // namespace sluice::transactions::sim
