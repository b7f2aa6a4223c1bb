// The session region as mapped by this client: pin cells, cursor cells, and the daemon's bell.
//
// One object a session. Producers, readers and messages share it (shared_ptr), so that the cells they write stay mapped
// while they live, also after the daemon's memory was replaced. The mapping itself is the proof of this process's life:
// the daemon takes the session for dead once it is gone, so the control client holds one as long as it lives.
//
// Invariants
//  1. A cell is leased to one holder at a time. It is zero while free.
//  2. pins_used in the region is above every pin cell that was ever leased, stored before the cell is given out.
//
// Thread safety: every member from any thread. Leasing takes no lock, makes no system call and allocates nothing.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>

#include "shm/base/fd.h"
#include "shm/base/result.h"
#include "shm/base/types.h"
#include "shm/layout/regions.h"
#include "shm/region/mapping.h"

namespace sluice::internal {

// Which of `Count` cells are taken. Gives the lowest free one, so that few cells are ever used.
template <std::uint32_t Count>
class CellBitmap {
 public:
  static constexpr std::uint32_t kNone = 0xffff'ffff;
  // A free cell, or kNone.
  std::uint32_t take();
  void give(std::uint32_t index);

 private:
  static_assert(Count % 64 == 0);
  // acq_rel on both sides: whoever takes a cell sees all that its last holder wrote to it.
  std::array<std::atomic<std::uint64_t>, Count / 64> taken_{};
};

class SessionMemory {
 public:
  // Checks and maps the region of a Welcome; the descriptor may be closed afterwards. `wake` is the daemon's eventfd.
  static Result<std::shared_ptr<SessionMemory>> open(int region_fd, UniqueFd wake, SessionId session,
                                                     Incarnation incarnation, std::uint64_t generation,
                                                     bool membarrier);

  SessionId session() const { return session_; }
  Incarnation incarnation() const { return incarnation_; }
  // The control client's count of memories; see ControlClient::generation().
  std::uint64_t generation() const { return generation_; }
  // False: this process could not register for membarrier, so pins and commits must be exchanges.
  bool membarrier() const { return membarrier_; }
  // The daemon has ended this session (quota, a broken chain, `sluice session kill`): views are no longer valid.
  bool revoked() const { return region().revoked.load(std::memory_order_acquire) != 0; }

  // Wakes the daemon's thread, after a bell's kBellDaemon flag was taken down.
  int wake_fd() const { return wake_.get(); }

  // quota: kSessionPinsMax or kSessionCursorsMax are all leased. Index of a zeroed cell.
  Result<std::uint32_t> take_pin();
  void give_pin(std::uint32_t index);  // clears it
  std::atomic<std::uint64_t>& pin(std::uint32_t index) const { return region().pins[index].pin; }

  Result<std::uint32_t> take_cursor();
  void give_cursor(std::uint32_t index);
  std::atomic<std::uint64_t>& cursor(std::uint32_t index) const { return region().cursors[index].position; }

 private:
  SessionMemory(region::Mapping mapping, UniqueFd wake, SessionId session, Incarnation incarnation,
                std::uint64_t generation, bool membarrier);
  layout::SessionRegion& region() const { return *mapping_.at<layout::SessionRegion>(); }

  const region::Mapping mapping_;
  const UniqueFd wake_;
  const SessionId session_;
  const Incarnation incarnation_;
  const std::uint64_t generation_;
  const bool membarrier_;
  CellBitmap<kSessionPinsMax> pins_;
  CellBitmap<kSessionCursorsMax> cursors_;
};

// A leased pin cell: given back, cleared, with its holder.
class PinLease {
 public:
  PinLease() = default;
  static Result<PinLease> take(std::shared_ptr<SessionMemory> memory);
  PinLease(PinLease&& other) noexcept = default;
  PinLease& operator=(PinLease&& other) noexcept;
  ~PinLease() { reset(); }

  explicit operator bool() const { return memory_ != nullptr; }
  std::uint32_t index() const { return index_; }
  std::atomic<std::uint64_t>& cell() const { return memory_->pin(index_); }
  const std::shared_ptr<SessionMemory>& memory() const { return memory_; }
  void reset();

 private:
  std::shared_ptr<SessionMemory> memory_;
  std::uint32_t index_ = 0;
};

// A leased cursor cell. Give it back only after the daemon was told (close_reader), or it counts as position 0.
class CursorLease {
 public:
  CursorLease() = default;
  static Result<CursorLease> take(std::shared_ptr<SessionMemory> memory);
  CursorLease(CursorLease&& other) noexcept = default;
  CursorLease& operator=(CursorLease&& other) noexcept;
  ~CursorLease() { reset(); }

  explicit operator bool() const { return memory_ != nullptr; }
  std::uint32_t index() const { return index_; }
  std::atomic<std::uint64_t>& cell() const { return memory_->cursor(index_); }
  void reset();
  // Lets go of the memory and never gives the cell back: it stays taken, as it is, for as long as the session lives.
  void keep_cell() { memory_.reset(); }

 private:
  std::shared_ptr<SessionMemory> memory_;
  std::uint32_t index_ = 0;
};

}  // namespace sluice::internal
