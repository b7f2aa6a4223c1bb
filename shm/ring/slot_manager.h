// The daemon's side of a partition's memory: which segment lives in which slot, what is prepared, when a slot is free.
//
// Owner: the bus thread; the only writer of the slot table and of `prepared`.
//
// Life of a slot
//   free ─ prepare ─▶ ready ─ retire ─▶ limbo ─ no pin seen ─▶ free
// prepare: header written, entry → ready, then zeroed a step at a time with `prepared` moving up behind the zeros.
// retire:  entry → retiring, tail moved past the segment, membarrier, then limbo; a limbo slot is free once no pin on
// its
//          segment is seen. In this order: withdrawn from the table before pins are read (tests/model).
//
// Invariants
//  1. ready segments are consecutive: [first_, next_) with next_ − first_ ≤ slots.
//  2. A slot is zeroed only while free of pins and out of the table, or above `prepared`.
//  3. The most recently freed slot is reused first: a quick consumer's footprint stays small and in cache.
#pragma once

#include <cstdint>
#include <vector>

#include "shm/base/result.h"
#include "shm/base/types.h"
#include "shm/ring/bell.h"
#include "shm/ring/kept_slots.h"
#include "shm/ring/partition_memory.h"

namespace sluice::ring {

// Who holds what: the sessions' pins, seen by the daemon.
class PinSource {
 public:
  virtual ~PinSource() = default;
  // True if some session's pin names this segment of this partition. acquire on the cells.
  virtual bool is_pinned(std::uint32_t handle, SegmentNumber segment) const = 0;
  // The segments of this partition that pins name. acquire on the cells.
  virtual std::vector<SegmentNumber> pinned(std::uint32_t handle) const = 0;
};

// The pages behind the slots.
class SlotMemory {
 public:
  virtual ~SlotMemory() = default;
  // Backs bytes [offset, offset + size) of the log region with memory. no_memory: over the budget, or refused.
  virtual Status back(std::uint64_t offset, std::uint64_t size) = 0;
  // How many bytes from `offset` on, of `size`, are backed and were written to.
  virtual std::uint64_t in_memory(std::uint64_t offset, std::uint64_t size) const = 0;
};

struct SlotCounts {
  std::uint32_t ready = 0;
  std::uint32_t limbo = 0;
  std::uint32_t free = 0;
};

class SlotManager {
 public:
  // Everything starts free; the first segment is the one of control->start_position (a segment boundary).
  SlotManager(const PartitionMemory& memory, const PinSource& pins, SlotMemory& backing, TopicId topic,
              PartitionNumber partition, Incarnation incarnation);
  // Goes on where another daemon has died: `kept` was read from this memory. Finishes a retiring that its death cut
  // off.
  SlotManager(const PartitionMemory& memory, const PinSource& pins, SlotMemory& backing, TopicId topic,
              PartitionNumber partition, Incarnation incarnation, const KeptSlots& kept);

  // One step (kPrepareStepSize) of making memory ready above `prepared`. True if something was done; false: no slot is
  // free, or memory was refused (error() says why). `durable` goes into a new segment's header.
  bool prepare_step(Position durable);
  Position prepared() const { return Position(prepared_); }
  // Bytes that must be prepared above the end of what is claimed, so that a producer does not wait for memory that is
  // free: the largest record (or the pad before it), the tail's lag, and two steps to be at work on.
  std::uint64_t lookahead() const;

  // The oldest ready segment leaves memory: everything in it is final, and nobody needs it here any more. A segment
  // that is closed early (broken chain) is prepared to its end first.
  void retire_first();
  SegmentNumber first_ready() const { return SegmentNumber(first_); }
  SegmentNumber next_segment() const { return SegmentNumber(next_); }
  // Looks at the pins of limbo slots again; returns how many became free.
  std::uint32_t release_unpinned();

  // Slot of a ready segment. Asserts that it is ready.
  std::uint32_t slot_of(SegmentNumber segment) const;
  std::uint32_t segment_checksum(SegmentNumber segment) const;
  bool is_ready(SegmentNumber segment) const { return segment.value >= first_ && segment.value < next_; }
  bool is_pinned(SegmentNumber segment) const { return pins_.is_pinned(memory_.handle, segment); }
  SlotCounts counts() const;
  const Status& error() const { return error_; }
  const PartitionMemory& memory() const { return memory_; }
  std::uint64_t backed_bytes() const;

 private:
  struct Limbo {
    std::uint32_t slot;
    std::vector<SegmentNumber> segments;  // one of them it held; after adoption it may not be known which
  };
  void adopt_unused(const std::vector<bool>& used);
  void move_tail_past(SegmentNumber segment);
  bool place_segment(Position durable);
  void prepare_rest(SegmentNumber segment, std::uint32_t slot);
  void check_invariants() const;

  const PartitionMemory memory_;
  const Bell bell_;
  const PinSource& pins_;
  SlotMemory& backing_;
  const TopicId topic_;
  const PartitionNumber partition_;
  const Incarnation incarnation_;

  std::uint64_t first_ = 0;          // oldest ready segment
  std::uint64_t next_ = 0;           // first segment that has no slot yet
  std::uint64_t prepared_ = 0;       // position; in segment next_ − 1, or at the start of next_
  std::vector<std::uint32_t> free_;  // a stack
  std::vector<Limbo> limbo_;
  std::vector<std::uint32_t> checksums_;     // by segment modulo slots
  std::vector<std::uint64_t> backed_steps_;  // steps of each slot that are backed
  Status error_;
};

}  // namespace sluice::ring
