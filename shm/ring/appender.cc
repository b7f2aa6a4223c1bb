#include "shm/ring/appender.h"

#include <algorithm>
#include <cstring>

#include "shm/base/assert.h"
#include "shm/base/failpoint.h"
#include "shm/layout/segment.h"

namespace sluice::ring {

using layout::ClaimWord;
using layout::RecordFields;
using layout::RecordHeader;
using layout::RecordKind;
using layout::RecordState;
using layout::SlotEntry;
using layout::SlotState;

namespace {

// Lines that far ahead of a claim are asked for in advance, for writing: the claim's locked instruction waits for every
// store before it, so that a line that has to come from the reader's core would stop everything.
constexpr std::uint64_t kPrefetchDistance = 1024;
constexpr std::uint64_t kPrefetchSizeMax = 512;  // of a larger record the copy's own stores run ahead

void prefetch_for_write([[maybe_unused]] const std::byte* at, [[maybe_unused]] std::uint64_t size) {
#if defined(__x86_64__)
  if (size > kPrefetchSizeMax) return;
  for (std::uint64_t line = 0; line < size; line += kCacheLineSize) asm volatile("prefetchw %0" : : "m"(at[line]));
#endif
}

template <typename T>
void copy_ends(std::byte* to, const std::byte* from, std::size_t size) {
  T first, last;
  std::memcpy(&first, from, sizeof(T));
  std::memcpy(&last, from + size - sizeof(T), sizeof(T));
  std::memcpy(to, &first, sizeof(T));
  std::memcpy(to + size - sizeof(T), &last, sizeof(T));
}

// Small sizes in line, by two overlapping moves each: a call of memcpy costs as much as the rest of the write.
inline void copy_bytes(std::byte* to, std::span<const std::byte> from) {
  struct Bytes16 {
    std::uint64_t word[2];
  };
  struct Bytes32 {
    std::uint64_t word[4];
  };
  const std::size_t size = from.size();
  if (size > 64) {
    std::memcpy(to, from.data(), size);
  } else if (size > 32) {
    copy_ends<Bytes32>(to, from.data(), size);
  } else if (size >= 16) {
    copy_ends<Bytes16>(to, from.data(), size);
  } else if (size >= 8) {
    copy_ends<std::uint64_t>(to, from.data(), size);
  } else if (size >= 4) {
    copy_ends<std::uint32_t>(to, from.data(), size);
  } else {
    for (std::size_t i = 0; i < size; ++i) to[i] = from[i];
  }
}

}  // namespace

Appender::Appender(const PartitionMemory& memory, ProducerId producer, std::atomic<std::uint64_t>& pin,
                   bool use_exchange, Sequence next)
    : memory_(memory),
      bell_(memory),
      producer_(producer),
      pin_(pin),
      use_exchange_(use_exchange),
      plain_commit_((memory.control->flags & layout::kTopicFlagPlainCommit) != 0),
      checksums_((memory.control->flags & layout::kTopicFlagChecksums) != 0),
      record_size_max_(memory.control->message_size_max),
      local_(memory.control->start_position),
      next_sequence_(next) {}

inline void Appender::pin(std::uint64_t word) {
  if (use_exchange_) {
    pin_.exchange(word, std::memory_order_seq_cst);
    return;
  }
  // release: a reclaimer that reads this pin instead of the unpin before it (PinSource, acquire) still sees our stores
  // into the segment let go. The store-load order against the second look at tail and table is the reclaimer's
  // membarrier (SlotManager::retire_first).
  pin_.store(word, std::memory_order_release);
  std::atomic_signal_fence(std::memory_order_seq_cst);
}

inline void Appender::unpin() {
  // release: pairs with the acquire in the reclaimer's look at the pins; our stores into the slot come before its
  // reuse.
  pin_.store(0, std::memory_order_release);
}

// Called while pinned, once local_ has come to tail_due_.
void Appender::move_tail() {
  std::atomic<std::uint64_t>& tail = memory_.log->tail;
  std::uint64_t seen = tail.load(std::memory_order_relaxed);
  // release: pairs with the acquire in claim_span of others. Only forward.
  while (seen < local_ &&
         !tail.compare_exchange_weak(seen, local_, std::memory_order_release, std::memory_order_relaxed)) {
  }
  const std::uint64_t moved = std::max(seen, local_);
  const std::uint64_t segment_end = ((moved >> memory_.segment_shift) + 1) << memory_.segment_shift;
  tail_due_ = std::min(moved + kTailLagMax, segment_end);
}

// The tail is every producer's to write: taken in whole records, and not at all where it lies above `prepared`, where
// nobody can have claimed.
std::uint64_t Appender::shared_tail() {
  // acquire: pairs with the release in move_tail; `prepared`, read behind it, is at least what the mover saw.
  const std::uint64_t tail = memory_.log->tail.load(std::memory_order_acquire) & ~(layout::kRecordAlignment - 1);
  return has_room(tail) ? tail : local_;
}

bool Appender::has_room(std::uint64_t end) {
  if (end <= prepared_) return true;
  // acquire: pairs with the release in SlotManager::prepare; memory below it is zero, or holds records of this lap.
  prepared_ = memory_.control->prepared.load(std::memory_order_acquire);
  return end <= prepared_;
}

// Takes over the slot of `segment`, whose entry says ready.
bool Appender::enter(std::uint64_t segment, SlotEntry entry) {
  base_ = memory_.slot_base(entry.slot());
  layout::SegmentHeader header;
  std::memcpy(&header, base_, sizeof header);
  segment_checksum_ = header.checksum;
  entry_bits_ = entry.bits;
  entry_ = &memory_.table_entry(SegmentNumber(segment));
  base_position_ = segment << memory_.segment_shift;
  pin_word_ = layout::pin_word(memory_.handle, SegmentNumber(segment));
  return header.segment_number == segment;
}

// Steps 1 to 4 where nothing has changed since our last claim: the log ends in the segment that we know, below what was
// prepared then. False: claim_anywhere() looks at everything anew.
// The first look at tail is left out (it only chooses where to begin); the look after the pin is not.
inline bool Appender::claim_here(std::uint64_t span, ClaimWord word, OpenClaim& claim) {
  std::uint64_t p = local_;
  if (p + span > room_end_ || span > record_size_max_) return false;
  pin(pin_word_);
  SLUICE_FAILPOINT("ring.pinned");
  // acquire, all three: as in claim_anywhere.
  if (memory_.log->tail.load(std::memory_order_acquire) > p ||
      memory_.control->gate.load(std::memory_order_acquire) != static_cast<std::uint32_t>(layout::Gate::open) ||
      entry_->load(std::memory_order_acquire) != entry_bits_)
    return false;
  for (;;) {
    std::byte* at = base_ + (p - base_position_);
    prefetch_for_write(at + kCacheLineSize, span - kCacheLineSize);
    std::uint64_t found = 0;
    // acq_rel: as in claim_in_segment.
    if (reinterpret_cast<RecordHeader*>(at)->claim.compare_exchange_strong(found, word.bits, std::memory_order_acq_rel,
                                                                           std::memory_order_acquire)) [[likely]] {
      local_ = p + span;
      take(at, p, word, claim);
      if (local_ >= tail_due_) move_tail();
      return true;
    }
    const ClaimWord other{found};
    if (!other.is_possible(base_position_ + memory_.segment_size() - p)) return false;
    p += other.span_size();
    local_ = p;
    if (p + span > room_end_) return false;
  }
}

// What a won claim is to its owner.
inline void Appender::take(std::byte* at, std::uint64_t position, ClaimWord word, OpenClaim& claim) {
  SLUICE_FAILPOINT("ring.claimed");
  claim.record = at;
  claim.position = Position(position);
  claim.word = word;
  claim.sequence = next_sequence_;
  claim.segment_checksum = segment_checksum_;
  reinterpret_cast<RecordHeader*>(at)->sequence = next_sequence_.value;
  next_sequence_ = next_sequence_.next();
}

inline AppendResult Appender::claim_span(std::uint64_t span, RecordKind kind, bool trailer, OpenClaim& claim) {
  const ClaimWord word =
      ClaimWord::make(producer_, span / layout::kRecordAlignment, kind, trailer, RecordState::claimed);
  if (claim_here(span, word, claim)) [[likely]]
    return AppendResult::ok;
  return claim_anywhere(span, word, claim);
}

AppendResult Appender::claim_anywhere(std::uint64_t span, ClaimWord word, OpenClaim& claim) {
  if (span > record_size_max_) return AppendResult::too_large;
  const std::uint32_t shift = memory_.segment_shift;
  std::uint64_t p = std::max(local_, shared_tail());
  for (;;) {
    const std::uint64_t segment = p >> shift;
    pin(layout::pin_word(memory_.handle, SegmentNumber(segment)));
    SLUICE_FAILPOINT("ring.pinned");
    const std::uint64_t tail = shared_tail();
    if ((tail >> shift) > segment) {
      p = tail;
      continue;
    }
    if (memory_.control->gate.load(std::memory_order_acquire) != static_cast<std::uint32_t>(layout::Gate::open)) {
      unpin();
      return AppendResult::gate_closed;
    }
    // acquire: pairs with the release in SlotManager; the segment header is there.
    const SlotEntry entry{memory_.table_entry(SegmentNumber(segment)).load(std::memory_order_acquire)};
    const Presence presence = presence_of(memory_, entry, SegmentNumber(segment));
    if (presence == Presence::gone) {
      p = std::max(tail, (segment + 1) << shift);
      continue;
    }
    if (presence == Presence::not_yet) {
      local_ = p;
      unpin();
      return AppendResult::no_room;
    }
    if (entry.bits != entry_bits_ && !enter(segment, entry)) ++broken_chains_;  // a peer has written over the header
    const Step step = claim_in_segment(p, (segment + 1) << shift, span, word, claim);
    room_end_ = std::min(prepared_, (segment + 1) << shift);
    if (step == Step::claimed) return AppendResult::ok;
    local_ = p;
    if (step == Step::no_room) {
      unpin();
      return AppendResult::no_room;
    }
  }
}

// Steps 2 (room) to 4, within one pinned segment. `p` ends where the walk stopped.
Appender::Step Appender::claim_in_segment(std::uint64_t& p, std::uint64_t segment_end, std::uint64_t span,
                                          ClaimWord word, OpenClaim& claim) {
  const std::uint64_t start = segment_end - memory_.segment_size();
  if (p == start) p += layout::kSegmentHeaderSize;
  while (p < segment_end) {
    if (!has_room(p + layout::kRecordAlignment)) return Step::no_room;
    auto* header = reinterpret_cast<RecordHeader*>(base_ + (p - start));
    const bool fits = p + span <= segment_end;
    const std::uint64_t need = fits ? span : segment_end - p;
    std::uint64_t found = 0;
    if (has_room(p + need)) {
      const ClaimWord desired = fits ? word
                                     : ClaimWord::make(producer_, need / layout::kRecordAlignment, RecordKind::pad,
                                                       false, RecordState::committed);
      // acq_rel: acquire pairs with the zeroing before `prepared`; release publishes a pad to walkers and readers.
      if (header->claim.compare_exchange_strong(found, desired.bits, std::memory_order_acq_rel,
                                                std::memory_order_acquire)) {
        local_ = p + need;
        if (local_ >= tail_due_) move_tail();
        if (!fits) {
          p = segment_end;
          return Step::next_segment;
        }
        take(reinterpret_cast<std::byte*>(header), p, word, claim);
        return Step::claimed;
      }
    } else {
      found = header->claim.load(std::memory_order_acquire);
      if (found == 0) return Step::no_room;
    }
    const ClaimWord other{found};
    if (!other.is_possible(segment_end - p)) {
      ++broken_chains_;
      p = segment_end;
      return Step::next_segment;
    }
    p += other.span_size();
  }
  return Step::next_segment;
}

AppendResult Appender::claim(std::uint64_t payload_size, std::uint64_t trailer_size, RecordKind kind,
                             OpenClaim& claim) {
  // Each alone first: their sum must not wrap around.
  if (payload_size > record_size_max_ || trailer_size > record_size_max_) return AppendResult::too_large;
  return claim_span(layout::record_span(payload_size, trailer_size), kind, trailer_size != 0, claim);
}

inline void Appender::write_fields(const OpenClaim& claim, const RecordFields& fields) const {
  auto* header = reinterpret_cast<RecordHeader*>(claim.record);
  header->time_ns = fields.time_ns;
  header->payload_size = fields.payload_size;
  header->checksum = fields.checksum;
}

// Steps 5 (commit) and 6.
inline AppendResult Appender::finish(const OpenClaim& claim, ClaimWord final_word, std::uint64_t span,
                                     Appended& appended) {
  auto* header = reinterpret_cast<RecordHeader*>(claim.record);
  SLUICE_FAILPOINT("ring.written");
  bool committed = true;
  if (plain_commit_ && !use_exchange_) {
    // release: pairs with the acquire in layout::read_header; publishes fields, payload and trailer. Store-load order
    // against the bell's flag is the sleeper's membarrier.
    header->claim.store(final_word.bits, std::memory_order_release);
    std::atomic_signal_fence(std::memory_order_seq_cst);
  } else if (plain_commit_) {
    header->claim.exchange(final_word.bits, std::memory_order_seq_cst);
  } else {
    std::uint64_t expected = claim.word.bits;
    // acq_rel: release as above; as a locked instruction it also orders the read of the bell's flag behind it.
    committed = header->claim.compare_exchange_strong(expected, final_word.bits, std::memory_order_acq_rel,
                                                      std::memory_order_acquire);
  }
  SLUICE_FAILPOINT("ring.committed");
  unpin();
  prefetch_for_write(claim.record + kPrefetchDistance, span);
  if (!committed) return AppendResult::claim_expired;
  appended = {claim.position, claim.position + span, claim.sequence};
  bell_.committed();
  return AppendResult::ok;
}

AppendResult Appender::append(const Content& content, Appended& appended, RecordKind kind) {
  std::uint32_t crc = 0;
  if (checksums_)
    crc = layout::content_checksum(content.payload.data(), content.payload.size(), content.trailer.data(),
                                   content.trailer.size());
  OpenClaim open;
  const std::uint64_t span = layout::record_span(content.payload.size(), content.trailer.size());
  const AppendResult result = claim_span(span, kind, !content.trailer.empty(), open);
  if (result != AppendResult::ok) return result;
#if defined(SLUICE_FAILPOINTS)
  copy_bytes(open.payload(), content.payload.first(content.payload.size() / 2));
  SLUICE_FAILPOINT("ring.half_written");
#endif
  copy_bytes(open.payload(), content.payload);
  copy_bytes(open.record + layout::trailer_offset(content.payload.size()), content.trailer);
  RecordFields fields{open.word.with_state(RecordState::committed), open.sequence, content.time_ns,
                      static_cast<std::uint32_t>(content.payload.size()), 0};
  if (checksums_) fields.checksum = layout::record_checksum(crc, fields, open.position, open.segment_checksum);
  write_fields(open, fields);
  return finish(open, fields.claim, span, appended);
}

AppendResult Appender::append_batch(std::span<const std::span<const std::byte>> payloads, const Content& shared,
                                    Appended& appended, RecordKind kind) {
  SLUICE_ASSERT(!payloads.empty());
  std::uint64_t total = 0;
  content_checksums_.clear();
  for (const auto& payload : payloads) {
    total += layout::record_span(payload.size(), shared.trailer.size());
    if (total > record_size_max_) return AppendResult::too_large;
    if (checksums_)
      content_checksums_.push_back(
          layout::content_checksum(payload.data(), payload.size(), shared.trailer.data(), shared.trailer.size()));
  }
  OpenClaim open;
  const AppendResult result = claim_span(total, kind, !shared.trailer.empty(), open);
  if (result != AppendResult::ok) return result;
  // The sub-records are written as committed; the first header, published last, makes all of them visible at once.
  // An abort of the whole keeps the total length and consumes the first sequence only.
  RecordFields first;
  OpenClaim sub = open;
  for (std::size_t i = 0; i < payloads.size(); ++i) {
    const auto& payload = payloads[i];
    const std::uint64_t span = layout::record_span(payload.size(), shared.trailer.size());
    const RecordFields partial{ClaimWord::make(producer_, span / layout::kRecordAlignment, kind,
                                               !shared.trailer.empty(), RecordState::committed),
                               Sequence(open.sequence.value + i), shared.time_ns,
                               static_cast<std::uint32_t>(payload.size()), 0};
    RecordFields fields = partial;
    copy_bytes(sub.payload(), payload);
    copy_bytes(sub.record + layout::trailer_offset(payload.size()), shared.trailer);
    if (checksums_)
      fields.checksum = layout::record_checksum(content_checksums_[i], fields, sub.position, open.segment_checksum);
    write_fields(sub, fields);
    if (i == 0) {
      first = fields;
    } else {
      auto* header = reinterpret_cast<RecordHeader*>(sub.record);
      header->sequence = fields.sequence.value;
      // relaxed: published by the first header's commit.
      header->claim.store(fields.claim.bits, std::memory_order_relaxed);
    }
    if (i == payloads.size() / 2) SLUICE_FAILPOINT("ring.half_written");
    sub.record += span;
    sub.position = sub.position + span;
  }
  const AppendResult done = finish(open, first.claim, total, appended);
  if (done == AppendResult::ok) next_sequence_ = Sequence(open.sequence.value + payloads.size());
  return done;
}

AppendResult Appender::commit(const OpenClaim& claim, std::uint32_t payload_size, std::span<const std::byte> trailer,
                              std::uint64_t time_ns, Appended& appended) {
  // What the caller gives must lie in the span it claimed.
  SLUICE_ASSERT(layout::record_span(payload_size, trailer.size()) <= claim.word.span_size());
  copy_bytes(claim.record + layout::trailer_offset(payload_size), trailer);
  const ClaimWord word =
      ClaimWord::make(producer_, claim.word.span_units(), claim.word.kind(), !trailer.empty(), RecordState::committed);
  RecordFields fields{word, claim.sequence, time_ns, payload_size, 0};
  if (checksums_) {
    const std::uint32_t crc = layout::content_checksum(claim.payload(), payload_size, trailer.data(), trailer.size());
    fields.checksum = layout::record_checksum(crc, fields, claim.position, claim.segment_checksum);
  }
  write_fields(claim, fields);
  return finish(claim, fields.claim, claim.word.span_size(), appended);
}

void Appender::abort(const OpenClaim& claim) {
  auto* header = reinterpret_cast<RecordHeader*>(claim.record);
  std::uint64_t expected = claim.word.bits;
  // Lost: the daemon has aborted it already.
  header->claim.compare_exchange_strong(expected, claim.word.with_state(RecordState::aborted).bits,
                                        std::memory_order_acq_rel, std::memory_order_acquire);
  unpin();
  bell_.committed();
}

std::uint32_t Appender::arm_room() const {
  bell_.call_daemon();
  return bell_.arm();
}

}  // namespace sluice::ring
