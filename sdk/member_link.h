// The region of a group's member as the member sees it: its words to the daemon, and the daemon's to it.
//
// Owner: one consumer, on its thread; one object a join. The mapping outlives its daemon.
// Invariants
//  1. A word of the daemon is copied once and checked before it is used: an index lies below its limit, a count moves
//  by
//     no more than its ring holds. What cannot be is refused, and nothing is overwritten that the daemon may not have
//     read.
//  2. An entry is complete before the count that publishes it.
//  3. Whoever publishes calls notify() behind it. The daemon raises daemon_armed, runs the membarrier, and looks again.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string_view>

#include "sdk/control_types.h"
#include "shm/base/limits.h"
#include "shm/base/result.h"
#include "shm/layout/member_region.h"
#include "shm/region/mapping.h"
#include "shm/ring/futex.h"

namespace sluice::internal {

// The daemon stores what it has read within kAckSaveNsMax; a store that is slow gets some times that.
inline constexpr std::uint64_t kOutcomeStoredNs = 5 * kAckSaveNsMax;

class MemberLink {
 public:
  // Maps the grant's region. corrupt: it is not what it should be.
  static Result<std::unique_ptr<MemberLink>> open(MemberGrant grant);
  MemberLink(const MemberLink&) = delete;
  MemberLink& operator=(const MemberLink&) = delete;

  std::uint64_t member() const { return member_; }
  const GroupConfig& config() const { return config_; }
  const std::shared_ptr<SessionMemory>& session() const { return session_; }
  // Written by the daemon when there is something to read and arm_fd() was called.
  int readable_fd() const { return readable_.get(); }

  // ---- each call of the application
  void bump_progress() { region_->progress.store(++progress_, std::memory_order_relaxed); }
  // Something of the daemon's is new; see_news() before looking at it, so that nothing is missed.
  bool has_news() const { return region_->news.load(std::memory_order_acquire) != news_seen_; }
  // acquire: pairs with the daemon's release; what it tells of is read behind it.
  void see_news() { news_seen_ = region_->news.load(std::memory_order_acquire); }

  // ---- what the daemon says
  // Of the group, lower half. acquire: pairs with the daemon's release, before what is handed out in that epoch.
  std::uint32_t epoch() const { return region_->epoch.load(std::memory_order_acquire); }
  bool ended() const { return region_->ended.load(std::memory_order_acquire) != 0; }
  // True once for each change: the list of assignments is another one.
  bool take_assignments_changed();
  // `index` < kMemberCellsMax.
  layout::AssignmentCell& cell(std::uint32_t index) const { return region_->cells[index]; }
  enum class Taken : std::uint8_t {
    none,
    slot,      // `slot` is a copy; of a message: index < kDeliverySlotsMax
    recalled,  // the daemon has taken it back already
    refused,   // it cannot be, and is passed over
    broken,    // the ring's count cannot be: nothing more can be read from it
  };
  Taken take_delivery(layout::DeliverySlot& slot, std::uint32_t& index);
  // Entries of outcomes that the daemon has read.
  std::uint64_t outcomes_read() const;
  std::uint64_t outcomes_written() const { return written_; }

  // ---- what the member says
  // Room for an outcome with a reason of that size.
  bool has_room(std::size_t reason_size = 0);
  // Waits for it, at most timeout_ns.
  bool wait_room(std::size_t reason_size, std::uint64_t timeout_ns);
  // Precondition: has_room(). `reason` is cut at kReasonSizeMax. Returns the number of entries written so far.
  std::uint64_t write(layout::OutcomeEntry entry, std::string_view reason = {});
  // The application begins with the delivery in that slot. `index` < kDeliverySlotsMax. False: the daemon has taken it
  // back, it is another member's.
  bool start(std::uint32_t index, std::uint64_t stamp) {
    std::uint64_t expected = stamp | layout::kOffered;
    // acq_rel: the daemon reads it at a death, or takes the message back by the same means; one of both succeeds.
    return region_->started[index].compare_exchange_strong(expected, stamp, std::memory_order_acq_rel);
  }
  // Something was written, here or in a cell: wakes the daemon if it wants to hear of it.
  void notify() {
    // relaxed: the daemon's membarrier orders it behind what was written; without membarrier the fence does.
    if (!membarrier_) [[unlikely]]
      std::atomic_thread_fence(std::memory_order_seq_cst);
    if (region_->daemon_armed.load(std::memory_order_relaxed) != 0) [[unlikely]]
      take_down_and_call();
  }
  // Wakes the daemon whether or not it sleeps.
  void call_daemon() const;

  // ---- waiting
  // Raises `asleep`; a barrier and a full look must follow.
  ring::FutexWait announce();
  void awake() { region_->asleep.store(0, std::memory_order_relaxed); }
  // seq_cst: a full look must follow, behind it.
  void arm_fd() { region_->fd_armed.exchange(1, std::memory_order_seq_cst); }
  void disarm_fd() { region_->fd_armed.store(0, std::memory_order_relaxed); }

 private:
  explicit MemberLink(MemberGrant grant);
  void take_down_and_call();
  bool copy_slot(std::uint32_t index, layout::DeliverySlot& slot) const;

  // Constant.
  const std::uint64_t member_;
  const GroupConfig config_;
  const std::shared_ptr<SessionMemory> session_;
  const UniqueFd readable_;
  const bool membarrier_;
  region::Mapping mapping_;
  layout::MemberRegion* region_ = nullptr;
  // The consumer's thread.
  std::uint64_t progress_ = 0;
  std::uint32_t news_seen_ = 0;
  std::uint32_t assignments_seen_ = 0;
  std::uint64_t delivered_seen_ = 0;
  std::uint64_t taken_ = 0;
  std::uint64_t written_ = 0;
  std::uint64_t read_seen_ = 0;  // of outcomes_read, as last looked at
};

}  // namespace sluice::internal
