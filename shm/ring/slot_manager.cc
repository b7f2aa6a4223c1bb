#include "shm/ring/slot_manager.h"

#include <algorithm>
#include <cstring>

#include "shm/base/assert.h"
#include "shm/base/limits.h"
#include "shm/layout/segment.h"
#include "shm/ring/membarrier.h"

namespace sluice::ring {

using layout::SlotEntry;
using layout::SlotState;

SlotManager::SlotManager(const PartitionMemory& memory, const PinSource& pins, SlotMemory& backing, TopicId topic,
                         PartitionNumber partition, Incarnation incarnation)
    : memory_(memory),
      bell_(memory),
      pins_(pins),
      backing_(backing),
      topic_(topic),
      partition_(partition),
      incarnation_(incarnation),
      checksums_(memory.slots, 0),
      backed_steps_(memory.slots, 0) {
  const std::uint64_t start = memory.control->start_position;
  SLUICE_ASSERT((start & (memory.segment_size() - 1)) == 0);
  first_ = next_ = start >> memory.segment_shift;
  prepared_ = start;
  for (std::uint32_t slot = memory.slots; slot > 0; --slot) free_.push_back(slot - 1);
}

SlotManager::SlotManager(const PartitionMemory& memory, const PinSource& pins, SlotMemory& backing, TopicId topic,
                         PartitionNumber partition, Incarnation incarnation, const KeptSlots& kept)
    : SlotManager(memory, pins, backing, topic, partition, incarnation) {
  prepared_ = kept.prepared;
  first_ = kept.ready.empty() ? prepared_ >> memory_.segment_shift : kept.ready.front().segment.value;
  next_ = first_ + kept.ready.size();
  free_.clear();
  std::vector<bool> used(memory_.slots, false);
  for (const KeptSegment& segment : kept.ready) {
    used[segment.slot] = true;
    checksums_[segment.segment.value % memory_.slots] = segment.checksum;
  }
  const std::uint64_t step = std::min<std::uint64_t>(kPrepareStepSize, memory_.segment_size());
  for (std::uint32_t slot = 0; slot < memory_.slots; ++slot) {
    const std::uint64_t offset = layout::kLogHeaderSize + (std::uint64_t{slot} << memory_.segment_shift);
    backed_steps_[slot] = backing_.in_memory(offset, memory_.segment_size()) / step;
  }
  // It may have withdrawn the segment before without having moved the tail.
  if (first_ > memory_.control->start_position >> memory_.segment_shift) move_tail_past(SegmentNumber(first_ - 1));
  membarrier_all();
  adopt_unused(used);
  check_invariants();
}

// Slots that no ready segment has are free, but for those that somebody may still hold. Where the table has forgotten
// which slot a held segment was in, it may be any of them.
void SlotManager::adopt_unused(const std::vector<bool>& used) {
  std::vector<std::vector<SegmentNumber>> holders(memory_.slots);
  std::vector<SegmentNumber> anywhere;
  for (const SegmentNumber segment : pins_.pinned(memory_.handle)) {
    if (segment.value >= first_) continue;
    const SlotEntry entry{memory_.table_entry(segment).load(std::memory_order_relaxed)};
    if (entry.segment() == segment && entry.slot() < memory_.slots)
      holders[entry.slot()].push_back(segment);
    else
      anywhere.push_back(segment);
  }
  for (std::uint32_t slot = memory_.slots; slot-- > 0;) {
    if (used[slot]) continue;
    std::vector<SegmentNumber>& segments = holders[slot];
    segments.insert(segments.end(), anywhere.begin(), anywhere.end());
    if (segments.empty())
      free_.push_back(slot);
    else
      limbo_.push_back({slot, std::move(segments)});
  }
}

// Gives the next segment a slot: header first, then the entry. Nothing above `prepared` is claimed, so that the rest of
// the slot may be zeroed afterwards.
bool SlotManager::place_segment(Position durable) {
  if (free_.empty() || next_ - first_ >= memory_.slots) return false;
  const std::uint32_t slot = free_.back();
  const SegmentNumber segment(next_);
  std::byte* base = memory_.slot_base(slot);
  if (backed_steps_[slot] == 0) {
    const std::uint64_t size = std::min<std::uint64_t>(kPrepareStepSize, memory_.segment_size());
    error_ = backing_.back(layout::kLogHeaderSize + (std::uint64_t{slot} << memory_.segment_shift), size);
    if (!error_) return false;
    backed_steps_[slot] = 1;
  }
  free_.pop_back();
  const bool checksums = (memory_.control->flags & layout::kTopicFlagChecksums) != 0;
  const layout::SegmentHeader header =
      layout::make_segment_header(topic_, partition_, segment, incarnation_, durable, checksums);
  std::memcpy(base, &header, sizeof header);
  checksums_[segment.value % memory_.slots] = header.checksum;
  // release: pairs with the acquire of table look-ups; publishes the segment header.
  memory_.table_entry(segment).store(SlotEntry::make(segment, slot, SlotState::ready).bits, std::memory_order_release);
  ++next_;
  check_invariants();
  return true;
}

bool SlotManager::prepare_step(Position durable) {
  const std::uint64_t shift = memory_.segment_shift;
  if (prepared_ == next_ << shift && !place_segment(durable)) return false;
  const SegmentNumber segment(prepared_ >> shift);
  const std::uint32_t slot = slot_of(segment);
  const std::uint64_t offset = prepared_ & (memory_.segment_size() - 1);
  const std::uint64_t size = std::min<std::uint64_t>(kPrepareStepSize, memory_.segment_size() - offset);
  const std::uint64_t step = offset / kPrepareStepSize;
  if (step >= backed_steps_[slot]) {
    error_ = backing_.back(layout::kLogHeaderSize + (std::uint64_t{slot} << shift) + offset, size);
    if (!error_) return false;
    backed_steps_[slot] = step + 1;
  }
  error_ = {};
  const std::uint64_t skip = offset == 0 ? layout::kSegmentHeaderSize : 0;
  std::memset(memory_.slot_base(slot) + offset + skip, 0, size - skip);
  prepared_ += size;
  // release: pairs with the acquire in Appender::has_room and view_of; publishes the zeros.
  memory_.control->prepared.store(prepared_, std::memory_order_release);
  // seq_cst: publish, then read the sleepers' flag (the daemon is not registered for membarrier); pairs with Bell::arm.
  std::atomic_thread_fence(std::memory_order_seq_cst);
  bell_.published();
  return true;
}

std::uint64_t SlotManager::lookahead() const {
  const std::uint64_t step = std::min<std::uint64_t>(kPrepareStepSize, memory_.segment_size());
  return memory_.control->message_size_max + kTailLagMax + 2 * step;
}

// A segment closed before it was full (a broken chain): a producer that is still pinned there may claim up to
// `prepared`, so the rest is zeroed before `prepared` passes it. Steps without memory behind them are holes, and zero
// already.
void SlotManager::prepare_rest(SegmentNumber segment, std::uint32_t slot) {
  const std::uint64_t end = memory_.start_of(segment.next()).value;
  if (prepared_ >= end) return;
  const std::uint64_t offset = prepared_ & (memory_.segment_size() - 1);
  const std::uint64_t skip = offset == 0 ? layout::kSegmentHeaderSize : 0;
  const std::uint64_t backed = std::min(backed_steps_[slot] * kPrepareStepSize, memory_.segment_size());
  if (backed > offset + skip) std::memset(memory_.slot_base(slot) + offset + skip, 0, backed - offset - skip);
  prepared_ = end;
  // release: pairs with the acquire in Appender::has_room and view_of; publishes the zeros.
  memory_.control->prepared.store(prepared_, std::memory_order_release);
}

void SlotManager::retire_first() {
  SLUICE_ASSERT(first_ < next_);
  const SegmentNumber segment(first_);
  const std::uint32_t slot = slot_of(segment);
  prepare_rest(segment, slot);
  // release: pairs with the acquire of table look-ups.
  memory_.table_entry(segment).store(SlotEntry::make(segment, slot, SlotState::retiring).bits,
                                     std::memory_order_release);
  move_tail_past(segment);
  membarrier_all();
  ++first_;
  limbo_.push_back({slot, {segment}});
  release_unpinned();
  check_invariants();
}

void SlotManager::move_tail_past(SegmentNumber segment) {
  const std::uint64_t past = memory_.start_of(segment.next()).value;
  std::uint64_t seen = memory_.log->tail.load(std::memory_order_relaxed);
  while (seen < past &&
         !memory_.log->tail.compare_exchange_weak(seen, past, std::memory_order_release, std::memory_order_relaxed)) {
  }
}

std::uint32_t SlotManager::release_unpinned() {
  std::uint32_t released = 0;
  for (std::size_t i = 0; i < limbo_.size();) {
    const std::vector<SegmentNumber>& segments = limbo_[i].segments;
    const auto held = [&](SegmentNumber segment) { return pins_.is_pinned(memory_.handle, segment); };
    if (std::any_of(segments.begin(), segments.end(), held)) {
      ++i;
      continue;
    }
    free_.push_back(limbo_[i].slot);
    std::swap(limbo_[i], limbo_.back());
    limbo_.pop_back();
    ++released;
  }
  return released;
}

std::uint32_t SlotManager::slot_of(SegmentNumber segment) const {
  SLUICE_ASSERT(is_ready(segment));
  return SlotEntry{memory_.table_entry(segment).load(std::memory_order_relaxed)}.slot();
}

std::uint32_t SlotManager::segment_checksum(SegmentNumber segment) const {
  SLUICE_ASSERT(is_ready(segment));
  return checksums_[segment.value % memory_.slots];
}

SlotCounts SlotManager::counts() const {
  return {static_cast<std::uint32_t>(next_ - first_), static_cast<std::uint32_t>(limbo_.size()),
          static_cast<std::uint32_t>(free_.size())};
}

std::uint64_t SlotManager::backed_bytes() const {
  std::uint64_t steps = 0;
  for (const std::uint64_t count : backed_steps_) steps += count;
  return steps * std::min<std::uint64_t>(kPrepareStepSize, memory_.segment_size());
}

void SlotManager::check_invariants() const {
  SLUICE_ASSERT(first_ <= next_);
  SLUICE_ASSERT(next_ - first_ + limbo_.size() + free_.size() == memory_.slots);
  SLUICE_ASSERT(prepared_ <= next_ << memory_.segment_shift);
}

}  // namespace sluice::ring
