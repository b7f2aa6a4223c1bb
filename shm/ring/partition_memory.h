// One partition's regions as mapped in this process: a view that owns nothing.
//
// Thread safety: constant after construction; what it points to is shared, see shm/layout/regions.h.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>

#include "shm/base/types.h"
#include "shm/layout/regions.h"

namespace sluice::ring {

struct PartitionMemory {
  layout::ControlRegion* control = nullptr;  // writable in the daemon alone
  layout::LogRegionHeader* log = nullptr;    // not writable for consumers
  layout::BellRegion* bell = nullptr;
  int daemon_wake_fd = -1;   // eventfd; −1: nobody to wake
  std::uint32_t handle = 0;  // upper part of its pins
  std::uint32_t segment_shift = 0;
  std::uint32_t slots = 0;

  static PartitionMemory view(layout::ControlRegion* control, layout::LogRegionHeader* log, layout::BellRegion* bell,
                              int daemon_wake_fd) {
    return {control,
            log,
            bell,
            daemon_wake_fd,
            control->header.handle,
            static_cast<std::uint32_t>(std::countr_zero(control->segment_size)),
            control->slots};
  }

  std::uint64_t segment_size() const { return std::uint64_t{1} << segment_shift; }
  SegmentNumber segment_of(Position p) const { return SegmentNumber(p.value >> segment_shift); }
  Position start_of(SegmentNumber s) const { return Position(s.value << segment_shift); }
  // The slot's memory. `slot` comes from the slot table, which the daemon alone writes, but is checked all the same.
  std::byte* slot_base(std::uint32_t slot) const {
    return reinterpret_cast<std::byte*>(log) + layout::kLogHeaderSize +
           (std::uint64_t{slot < slots ? slot : 0} << segment_shift);
  }
  std::atomic<std::uint64_t>& table_entry(SegmentNumber s) const { return control->slot_table[s.value % slots]; }
};

// Where a segment is, as its slot table entry says.
enum class Presence : std::uint8_t {
  not_yet,  // not prepared: nothing was written there
  here,     // in memory
  gone,     // has left memory: its bytes are in a log file (durable topics) or nowhere
};

inline Presence presence_of(const PartitionMemory& memory, layout::SlotEntry entry, SegmentNumber segment) {
  if (entry.bits == 0)
    return segment < memory.segment_of(Position(memory.control->start_position)) ? Presence::gone : Presence::not_yet;
  if (entry.segment() == segment) return entry.state() == layout::SlotState::ready ? Presence::here : Presence::gone;
  return entry.segment() < segment ? Presence::not_yet : Presence::gone;
}

}  // namespace sluice::ring
