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
void copy_bytes(std::byte* to, std::span<const std::byte> from) {
  if (!from.empty()) std::memcpy(to, from.data(), from.size());
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
      local_(memory.control->start_position),
      next_sequence_(next) {}

void Appender::pin(std::uint64_t segment) {
  const std::uint64_t word = layout::pin_word(memory_.handle, SegmentNumber(segment));
  if (use_exchange_) {
    pin_.exchange(word, std::memory_order_seq_cst);
    return;
  }
  // release: a reclaimer that reads this pin instead of the unpin before it (PinSource, acquire) still sees our stores into
  // the segment let go. The store-load order against the second look at tail and table is the reclaimer's membarrier
  // (SlotManager::retire_first).
  pin_.store(word, std::memory_order_release);
  std::atomic_signal_fence(std::memory_order_seq_cst);
}

void Appender::unpin() {
  // release: pairs with the acquire in the reclaimer's look at the pins; our stores into the slot come before its reuse.
  pin_.store(0, std::memory_order_release);
}

void Appender::move_tail() {
  if (local_ - tail_seen_ < kTailLagMax && (local_ >> memory_.segment_shift) == (tail_seen_ >> memory_.segment_shift))
    return;
  std::atomic<std::uint64_t>& tail = memory_.log->tail;
  std::uint64_t seen = tail.load(std::memory_order_relaxed);
  // release: pairs with the acquire in claim_span of others. Only forward.
  while (seen < local_ && !tail.compare_exchange_weak(seen, local_, std::memory_order_release,
                                                      std::memory_order_relaxed)) {
  }
  tail_seen_ = std::max(seen, local_);
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
  return header.segment_number == segment;
}

AppendResult Appender::claim_span(std::uint64_t span, RecordKind kind, bool trailer, OpenClaim& claim) {
  if (span > memory_.control->message_size_max) return AppendResult::too_large;
  const ClaimWord word =
      ClaimWord::make(producer_, span / layout::kRecordAlignment, kind, trailer, RecordState::claimed);
  const std::uint32_t shift = memory_.segment_shift;
  std::uint64_t p = std::max(local_, shared_tail());
  for (;;) {
    const std::uint64_t segment = p >> shift;
    pin(segment);
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
        move_tail();
        if (!fits) {
          p = segment_end;
          return Step::next_segment;
        }
        SLUICE_FAILPOINT("ring.claimed");
        claim.record = reinterpret_cast<std::byte*>(header);
        claim.position = Position(p);
        claim.word = word;
        claim.sequence = next_sequence_;
        claim.segment_checksum = segment_checksum_;
        header->sequence = next_sequence_.value;
        next_sequence_ = next_sequence_.next();
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
  const std::uint64_t size_max = memory_.control->message_size_max;
  if (payload_size > size_max || trailer_size > size_max) return AppendResult::too_large;
  return claim_span(layout::record_span(payload_size, trailer_size), kind, trailer_size != 0, claim);
}

void Appender::write_fields(const OpenClaim& claim, const RecordFields& fields) const {
  auto* header = reinterpret_cast<RecordHeader*>(claim.record);
  header->time_ns = fields.time_ns;
  header->payload_size = fields.payload_size;
  header->checksum = fields.checksum;
}

// Steps 5 (commit) and 6.
AppendResult Appender::finish(const OpenClaim& claim, ClaimWord final_word, std::uint64_t span, Appended& appended) {
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
                                    Appended& appended) {
  SLUICE_ASSERT(!payloads.empty());
  std::uint64_t total = 0;
  content_checksums_.clear();
  for (const auto& payload : payloads) {
    total += layout::record_span(payload.size(), shared.trailer.size());
    if (total > memory_.control->message_size_max) return AppendResult::too_large;
    if (checksums_)
      content_checksums_.push_back(layout::content_checksum(payload.data(), payload.size(), shared.trailer.data(),
                                                            shared.trailer.size()));
  }
  OpenClaim open;
  const AppendResult result = claim_span(total, RecordKind::data, !shared.trailer.empty(), open);
  if (result != AppendResult::ok) return result;
  // The sub-records are written as committed; the first header, published last, makes all of them visible at once.
  // An abort of the whole keeps the total length and consumes the first sequence only.
  RecordFields first;
  OpenClaim sub = open;
  for (std::size_t i = 0; i < payloads.size(); ++i) {
    const auto& payload = payloads[i];
    const std::uint64_t span = layout::record_span(payload.size(), shared.trailer.size());
    const RecordFields partial{
        ClaimWord::make(producer_, span / layout::kRecordAlignment, RecordKind::data, !shared.trailer.empty(),
                        RecordState::committed),
        Sequence(open.sequence.value + i), shared.time_ns, static_cast<std::uint32_t>(payload.size()), 0};
    RecordFields fields = partial;
    copy_bytes(sub.payload(), payload);
    copy_bytes(sub.record + layout::trailer_offset(payload.size()), shared.trailer);
    if (checksums_)
      fields.checksum =
          layout::record_checksum(content_checksums_[i], fields, sub.position, open.segment_checksum);
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
  const ClaimWord word = ClaimWord::make(producer_, claim.word.span_units(), claim.word.kind(), !trailer.empty(),
                                         RecordState::committed);
  RecordFields fields{word, claim.sequence, time_ns, payload_size, 0};
  if (checksums_) {
    const std::uint32_t crc =
        layout::content_checksum(claim.payload(), payload_size, trailer.data(), trailer.size());
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
