#include "daemon/spill/scan.h"

#include <algorithm>
#include <utility>

#include <spdlog/spdlog.h>

#include "shm/base/assert.h"
#include "shm/layout/trailer.h"
#include "shm/ring/bell.h"

namespace sluice::spill {

using layout::ClaimWord;
using layout::RecordFields;
using layout::RecordHeader;
using layout::RecordKind;
using layout::RecordState;
using ring::ScanResult;

namespace {

// An abort or pad carries nothing on disk; its checksum lets recovery walk over it.
void complete_skip(RecordHeader* header, ClaimWord word, Sequence sequence, Position position,
                   std::uint32_t segment_checksum) {
  RecordFields fields{word, sequence, 0, 0, 0};
  fields.checksum = layout::record_checksum(layout::content_checksum(nullptr, 0, nullptr, 0), fields, position,
                                            segment_checksum);
  header->sequence = fields.sequence.value;
  header->time_ns = 0;
  header->payload_size = 0;
  header->checksum = fields.checksum;
}

RecordHeader* header_at(const ring::SegmentView& segment, Position position) {
  return reinterpret_cast<RecordHeader*>(const_cast<std::byte*>(segment.base) + (position - segment.start));
}

}  // namespace

Scan::Scan(ring::SlotManager& slots, core::PartitionAudit& audit, const PartitionIdentity& identity,
           const Attached& attached)
    : slots_(slots),
      audit_(audit),
      identity_(identity),
      attached_(attached),
      deadline_ns_(slots.memory().control->claim_deadline_ns),
      verify_((slots.memory().control->flags & layout::kTopicFlagChecksums) != 0),
      frontier_(slots.memory().control->start_position) {}

ring::SegmentView Scan::view_at(Position position) const {
  const SegmentNumber segment = slots_.memory().segment_of(position);
  ring::SegmentView view = ring::view_of(slots_.memory(), segment, slots_.slot_of(segment), verify_);
  // The daemon's own copy: the one in memory can be written by producers.
  view.checksum = slots_.segment_checksum(segment);
  return view;
}

std::uint64_t Scan::advance(std::uint64_t now_ns, std::uint64_t records_max) {
  std::uint64_t passed = 0;
  while (passed < records_max && slots_.is_ready(slots_.memory().segment_of(frontier_))) {
    const ring::SegmentView segment = view_at(frontier_);
    ring::RecordView record;
    bool on = true;
    while (on && passed < records_max) {
      switch (ring::scan_record(segment, frontier_, record)) {
        case ScanResult::record: on_record(record); break;
        case ScanResult::aborted: on_skip(record, segment, false); break;
        case ScanResult::pad: on_skip(record, segment, true); break;
        case ScanResult::corrupt_record: on_corrupt(record); break;
        case ScanResult::claimed:
          if (!on_claimed(record, segment, now_ns)) return passed;
          continue;
        case ScanResult::broken_chain: close_chain(segment); continue;
        case ScanResult::free:
        case ScanResult::limit: halted_since_ns_ = 0; return passed;
        case ScanResult::segment_end:
          finish_segment(slots_.memory().segment_of(segment.start));
          on = false;
          continue;
      }
      ++passed;
    }
  }
  return passed;
}

bool Scan::is_fenced(ProducerId producer, Position position) const {
  if (fences_.empty()) return false;
  const auto fence = fences_.find(producer);
  return fence != fences_.end() && position >= fence->second;
}

void Scan::on_record(const ring::RecordView& record) {
  halted_since_ns_ = 0;
  const ProducerId producer = record.fields.claim.producer();
  if (record.fields.claim.kind() == RecordKind::fence) return;  // the daemon's own: no sequence of a producer
  if (is_fenced(producer, record.position)) {
    audit_.on_fenced(producer, record.fields.sequence);
    return;
  }
  audit_.on_data(producer, record.fields.sequence);
  ++counters_.records;
  ++segment_records_;
  time_max_ns_ = std::max(time_max_ns_, record.fields.time_ns);
  if (!record.trailer.empty()) {
    const auto bookmark = layout::find_entry(record.trailer, layout::TrailerType::bookmark);
    if (bookmark.data() != nullptr)
      bookmarks_[producer] = {record.fields.sequence, std::string(layout::as_text(bookmark))};
  }
}

void Scan::on_skip(const ring::RecordView& record, const ring::SegmentView& segment, bool pad) {
  halted_since_ns_ = 0;
  const ProducerId producer = record.fields.claim.producer();
  const bool counts = !pad && record.fields.claim.kind() != RecordKind::fence;
  const Sequence sequence = counts ? audit_.on_abort(producer) : Sequence(0);
  for (Zombie& zombie : zombies_)
    if (zombie.begin == record.position) zombie.sequence = sequence;
  complete_skip(header_at(segment, record.position), record.fields.claim, sequence, record.position,
                segment.checksum);
}

void Scan::on_corrupt(const ring::RecordView& record) {
  halted_since_ns_ = 0;
  const ProducerId producer = record.fields.claim.producer();
  audit_.on_quarantined(producer, audit_.next_sequence(producer));
  ++counters_.corrupt_records;
  counters_.quarantined_bytes += record.fields.claim.span_size();
  spdlog::error("record fails its checks, readers pass over it address={}@{} producer={} bytes={}", identity_.name,
                record.position.value, producer.value, record.fields.claim.span_size());
}

// Nothing behind an impossible word can be found: the rest of the segment becomes one pad, and everybody goes on in the
// next segment.
void Scan::close_chain(const ring::SegmentView& segment) {
  const std::uint64_t rest = segment.end - frontier_;
  RecordHeader* header = header_at(segment, frontier_);
  const ClaimWord pad = ClaimWord::make(ProducerId(0), rest / layout::kRecordAlignment, RecordKind::pad, false,
                                        RecordState::aborted);
  const std::uint64_t found = header->claim.exchange(pad.bits, std::memory_order_acq_rel);
  counters_.quarantined_bytes += rest;
  spdlog::error("impossible claim word, the rest of the segment is closed address={}@{} word={:#x} bytes={}",
                identity_.name, frontier_.value, found, rest);
  ring::Bell(slots_.memory()).published();
}

// True if the claim was aborted, and the scan may look at it again.
bool Scan::on_claimed(const ring::RecordView& record, const ring::SegmentView& segment, std::uint64_t now_ns) {
  const ClaimWord word = record.fields.claim;
  if (!attached_.is_producer_alive(word.producer())) {
    if (abort_at(segment, frontier_, word, false)) ++counters_.repaired_claims;
    return true;
  }
  if (halted_since_ns_ == 0 || halted_word_ != word) {
    halted_since_ns_ = now_ns;
    halted_word_ = word;
  }
  if (deadline_ns_ == 0 || now_ns < halted_since_ns_ + deadline_ns_) return false;
  if (abort_at(segment, frontier_, word, true)) {
    ++counters_.expired_claims;
    spdlog::warn("claim past its deadline is aborted address={}@{} producer={} bytes={}", identity_.name,
                 frontier_.value, word.producer().value, word.span_size());
  }
  halted_since_ns_ = 0;
  return true;
}

std::uint64_t Scan::claim_deadline_ns() const {
  return halted_since_ns_ == 0 || deadline_ns_ == 0 ? 0 : halted_since_ns_ + deadline_ns_;
}

bool Scan::abort_at(const ring::SegmentView& segment, Position position, ClaimWord word, bool zombie) {
  std::uint64_t expected = word.bits;
  // acq_rel: pairs with the owner's commit by compare-and-swap; one of the two stands.
  const bool aborted = header_at(segment, position)
                           ->claim.compare_exchange_strong(expected, word.with_state(RecordState::aborted).bits,
                                                           std::memory_order_acq_rel, std::memory_order_acquire);
  if (!aborted) return false;
  if (zombie) zombies_.push_back({position, word.with_state(RecordState::aborted), Sequence(0), segment.checksum});
  // Records behind it have become visible, and their owners' wake-ups found the hole.
  ring::Bell(slots_.memory()).published();
  return true;
}

std::uint32_t Scan::abort_claims(const std::function<bool(ProducerId)>& is_gone, bool zombie) {
  std::uint32_t aborted = 0;
  Position at = frontier_;
  bool more = true;
  while (more && slots_.is_ready(slots_.memory().segment_of(at))) {
    ring::SegmentView segment = view_at(at);
    segment.verify = false;
    more = abort_claims_in(segment, at, is_gone, zombie, aborted);
    at = segment.end;
  }
  if (!zombie) counters_.repaired_claims += aborted;
  return aborted;
}

// False if the log ends in this segment.
bool Scan::abort_claims_in(const ring::SegmentView& segment, Position at,
                           const std::function<bool(ProducerId)>& is_gone, bool zombie, std::uint32_t& aborted) {
  ring::RecordView record;
  for (;;) {
    switch (ring::scan_record(segment, at, record)) {
      case ScanResult::claimed:
        if (is_gone(record.fields.claim.producer()) && abort_at(segment, at, record.fields.claim, zombie)) ++aborted;
        at = at + record.fields.claim.span_size();
        break;
      case ScanResult::segment_end:
      case ScanResult::broken_chain: return true;
      case ScanResult::free:
      case ScanResult::limit: return false;
      default: break;
    }
  }
}

ProducerMark Scan::last_of(ProducerId producer, Position end) const {
  ProducerMark mark;
  mark.sequence = Sequence(audit_.next_sequence(producer).value - 1);
  if (const auto known = bookmarks_.find(producer); known != bookmarks_.end()) mark.bookmark = known->second.bookmark;
  Position at = frontier_;
  while (at < end && slots_.is_ready(slots_.memory().segment_of(at))) {
    ring::SegmentView segment = view_at(at);
    ring::RecordView record;
    bool on = true;
    while (on && at < end) {
      const ScanResult result = ring::scan_record(segment, at, record);
      const bool mine = record.fields.claim.producer() == producer;
      if (result == ScanResult::record && mine && record.fields.claim.kind() != RecordKind::fence) {
        mark.sequence = record.fields.sequence;
        const auto bookmark = layout::find_entry(record.trailer, layout::TrailerType::bookmark);
        if (bookmark.data() != nullptr) mark.bookmark = std::string(layout::as_text(bookmark));
      } else if (result == ScanResult::aborted && mine) {
        mark.sequence = mark.sequence.next();
      } else if (result == ScanResult::claimed) {
        at = at + record.fields.claim.span_size();
      } else if (result == ScanResult::segment_end) {
        on = false;
      } else if (result == ScanResult::free || result == ScanResult::limit || result == ScanResult::broken_chain) {
        return mark;
      }
    }
  }
  return mark;
}

void Scan::finish_segment(SegmentNumber segment) {
  summaries_.push_back({segment, segment_records_, time_max_ns_});
  segment_records_ = 0;
}

std::vector<log::SegmentSummary> Scan::take_summaries() { return std::exchange(summaries_, {}); }

bool Scan::has_zombies(Position begin, Position end) const {
  return std::any_of(zombies_.begin(), zombies_.end(), [&](const Zombie& zombie) {
    return zombie.begin < end && zombie.begin + zombie.word.span_size() > begin;
  });
}

void Scan::fix_zombies(Position begin, std::span<std::byte> bytes) const {
  for (const Zombie& zombie : zombies_) {
    // A header is 32 bytes at a multiple of 64: it lies in the copy whole, or not at all.
    if (zombie.begin < begin || zombie.begin >= begin + bytes.size()) continue;
    auto* header = reinterpret_cast<RecordHeader*>(bytes.data() + (zombie.begin - begin));
    header->claim.store(zombie.word.bits, std::memory_order_relaxed);  // a private copy
    complete_skip(header, zombie.word, zombie.sequence, zombie.begin, zombie.segment_checksum);
  }
}

void Scan::forget_zombies_below(Position position) {
  std::erase_if(zombies_, [&](const Zombie& zombie) { return zombie.begin < position; });
}

}  // namespace sluice::spill
