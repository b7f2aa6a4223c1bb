#include "daemon/spill/scan.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include <spdlog/spdlog.h>

#include "daemon/log/references.h"
#include "shm/base/assert.h"
#include "shm/base/limits.h"
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
  fields.checksum =
      layout::record_checksum(layout::content_checksum(nullptr, 0, nullptr, 0), fields, position, segment_checksum);
  header->sequence = fields.sequence.value;
  header->time_ns = 0;
  header->payload_size = 0;
  header->checksum = fields.checksum;
}

RecordHeader* header_at(const ring::SegmentView& segment, Position position) {
  return reinterpret_cast<RecordHeader*>(const_cast<std::byte*>(segment.base) + (position - segment.start));
}

}  // namespace

core::Delay delay_of(Position position, std::span<const std::byte> trailer) {
  const auto due = layout::as_u64(layout::find_entry(trailer, layout::TrailerType::due));
  return {std::min(due.value_or(0), core::kDueNsMax), position};
}

std::optional<core::Half> half_of(Position position, const layout::RecordFields& fields,
                                  std::span<const std::byte> trailer) {
  const auto entry = layout::as_half(layout::find_entry(trailer, layout::TrailerType::half));
  if (!entry) return std::nullopt;
  return core::Half{position,          entry->transaction, fields.claim.producer(),
                    entry->check_back, fields.time_ns,     std::string(entry->group)};
}

Scan::Scan(ring::SlotManager& slots, core::PartitionAudit& audit, std::optional<Waiting> waiting,
           const PartitionIdentity& identity, const Attached& attached, Position start)
    : slots_(slots),
      audit_(audit),
      waiting_(waiting),
      identity_(identity),
      attached_(attached),
      deadline_ns_(slots.memory().control->claim_deadline_ns),
      verify_((slots.memory().control->flags & layout::kTopicFlagChecksums) != 0),
      start_(start),
      frontier_(start) {}

void Scan::adopt(Position until, log::SegmentTally segment) {
  adopted_until_ = until;
  segment_ = segment;
}

ring::SegmentView Scan::view_at(Position position) const {
  const SegmentNumber segment = slots_.memory().segment_of(position);
  ring::SegmentView view = ring::view_of(slots_.memory(), segment, slots_.slot_of(segment), verify_);
  // The daemon's own copy: the one in memory can be written by producers.
  view.checksum = slots_.segment_checksum(segment);
  return view;
}

std::uint64_t Scan::advance(std::uint64_t now_ns, std::uint64_t records_max, std::uint64_t bytes_max) {
  std::uint64_t passed = 0;
  at_end_ = false;
  const Position stop = frontier_ + bytes_max;
  // Looks are counted, not passes: whoever rewrites a word all the time keeps us here no longer than others do.
  std::uint64_t looks = 0;
  while (looks < records_max && frontier_ < stop && slots_.is_ready(slots_.memory().segment_of(frontier_))) {
    const ring::SegmentView segment = view_at(frontier_);
    while (looks < records_max && frontier_ < segment.end && frontier_ < stop) {
      ++looks;
      const Look look = look_at_frontier(segment, now_ns);
      if (look == Look::halted) return passed;
      if (look == Look::passed) ++passed;
    }
  }
  at_end_ = !slots_.is_ready(slots_.memory().segment_of(frontier_));
  return passed;
}

Scan::Look Scan::look_at_frontier(const ring::SegmentView& segment, std::uint64_t now_ns) {
  Position next = frontier_;
  ring::RecordView record;
  const ScanResult seen = ring::scan_record(segment, next, record);
  const ScanResult result = was_aborted_here(record, next, seen);
  switch (result) {
    case ScanResult::claimed: return on_claimed(record, segment, now_ns) ? Look::again : Look::halted;
    case ScanResult::broken_chain: return close_chain(segment, record.position) ? Look::passed : Look::halted;
    case ScanResult::free:
    case ScanResult::limit:
    case ScanResult::segment_end:
      halted_since_ns_ = 0;
      at_end_ = true;
      return Look::halted;
    case ScanResult::record:
    case ScanResult::aborted:
    case ScanResult::pad:
    case ScanResult::corrupt_record: break;
  }
  // None of our writers claims above `prepared`; a hostile word may say so. Memory comes a segment ahead, so this ends.
  if (next > segment.limit) {
    halted_since_ns_ = 0;
    return Look::halted;
  }
  if (result == ScanResult::record && is_credible(record)) {
    on_record(record);
  } else if (result == ScanResult::aborted || result == ScanResult::pad) {
    on_skip(record, segment, result == ScanResult::pad);
  } else {
    on_corrupt(record, segment);
  }
  move_frontier(record.position, next, segment);
  return Look::passed;
}

// A claim that was aborted is aborted, whatever its owner has made of the word since.
ScanResult Scan::was_aborted_here(ring::RecordView& record, Position& next, ScanResult seen) const {
  if (zombies_.empty() || seen == ScanResult::limit || seen == ScanResult::segment_end) return seen;
  const auto zombie = zombies_.find(record.position);
  if (zombie == zombies_.end()) return seen;
  record.fields.claim = zombie->second.word;
  next = record.position + record.fields.claim.span_size();
  return ScanResult::aborted;
}

void Scan::move_frontier(Position record, Position next, const ring::SegmentView& segment) {
  // Aborts that were decided ahead of the frontier, in a chain that somebody has changed since: no records start there.
  if (!zombies_.empty()) zombies_.erase(zombies_.upper_bound(record), zombies_.lower_bound(next));
  frontier_ = next;
  halted_since_ns_ = 0;
  if (frontier_ == segment.end) finish_segment(slots_.memory().segment_of(segment.start));
}

// What only the daemon writes is what it has appended: known before it is met. On a volatile topic nothing can wait.
bool Scan::is_credible(const ring::RecordView& record) {
  switch (record.fields.claim.kind()) {
    case RecordKind::fence:
      return std::any_of(fences_.begin(), fences_.end(),
                         [&](const auto& fence) { return fence.second == record.position; });
    case RecordKind::ref: return is_awaited(record);
    case RecordKind::delayed: return waiting_.has_value();
    case RecordKind::half:
      return waiting_ && waiting_->halves.size() < kOpenHalvesMax &&
             half_of(record.position, record.fields, record.trailer);
    default: return true;
  }
}

// Ends the delay or the half that it means.
bool Scan::is_awaited(const ring::RecordView& ref) {
  if (!waiting_ || ref.fields.claim.producer() != ProducerId(0)) return false;
  const auto reference = layout::as_u64(layout::find_entry(ref.trailer, layout::TrailerType::reference));
  if (!reference) return false;
  // Both are told: until they are settled, either takes what may be the other's.
  const bool delay = waiting_->delays.met(ref.position, Position(*reference));
  const bool half = waiting_->halves.met(ref.position, Position(*reference));
  if (delay || half) origins_.met(ref.position, std::min(Position(*reference), ref.position));
  return delay || half;
}

bool Scan::is_fenced(ProducerId producer, Position position) const {
  if (fences_.empty()) return false;
  const auto fence = fences_.find(producer);
  return fence != fences_.end() && position >= fence->second;
}

void Scan::on_record(const ring::RecordView& record) {
  const ProducerId producer = record.fields.claim.producer();
  const RecordKind kind = record.fields.claim.kind();
  if (kind == RecordKind::fence) return;  // the daemon's own: no sequence of a producer
  if (kind == RecordKind::ref) {          // so is this; but it is a message's place
    ++segment_.records;
    const std::uint64_t back =
        log::refers_back(record.position, record.fields, record.trailer, slots_.memory().segment_size());
    segment_.refers_back = std::max(segment_.refers_back, back);
    time_max_ns_ = std::max(time_max_ns_, record.fields.time_ns);
    return;
  }
  if (is_fenced(producer, record.position)) {
    audit_.on_fenced(producer, record.fields.sequence);
    return;
  }
  if (kind == RecordKind::delayed) {
    audit_.on_delayed(producer, record.fields.sequence);
    waiting_->delays.note(delay_of(record.position, record.trailer));
  } else if (kind == RecordKind::half) {
    audit_.on_half(producer, record.fields.sequence);
    note_half(record);
  } else {
    audit_.on_data(producer, record.fields.sequence);
  }
  ++counters_.records;
  ++segment_.records;
  time_max_ns_ = std::max(time_max_ns_, record.fields.time_ns);
  if (!record.trailer.empty()) {
    const auto bookmark = layout::find_entry(record.trailer, layout::TrailerType::bookmark);
    if (bookmark.data() != nullptr && bookmark.size() <= kBookmarkSizeMax)
      bookmarks_[producer] = {record.fields.sequence, std::string(layout::as_text(bookmark))};
  }
}

void Scan::note_half(const ring::RecordView& record) {
  const std::optional<core::Half> half = half_of(record.position, record.fields, record.trailer);
  if (const auto decided = waiting_->halves.note(*half))
    audit_.on_decided(half->producer, decided->commit);
  else if (waiting_->listener != nullptr)
    waiting_->listener->on_half(identity_.topic, identity_.partition, *half);
}

void Scan::on_skip(const ring::RecordView& record, const ring::SegmentView& segment, bool pad) {
  const ProducerId producer = record.fields.claim.producer();
  const RecordKind kind = record.fields.claim.kind();
  const bool counts = !pad && kind != RecordKind::fence && kind != RecordKind::ref;
  const Sequence sequence = counts ? audit_.on_abort(producer) : Sequence(0);
  if (!pad && record.position < adopted_until_ && attached_.is_producer_alive(producer))
    zombies_.try_emplace(record.position, Zombie{record.fields.claim, sequence, segment.checksum});
  if (const auto zombie = zombies_.find(record.position); zombie != zombies_.end()) zombie->second.sequence = sequence;
  complete_skip(header_at(segment, record.position), record.fields.claim, sequence, record.position, segment.checksum);
}

// Memory keeps its bytes, so that readers there report them; the disk gets an abort in their place, for a recovery must
// be able to walk on to the records behind.
void Scan::on_corrupt(const ring::RecordView& record, const ring::SegmentView& segment) {
  const ClaimWord word = record.fields.claim;
  const ProducerId producer = word.producer();
  const Sequence sequence = audit_.next_sequence(producer);
  audit_.on_quarantined(producer, sequence);
  zombies_[record.position] = {
      ClaimWord::make(producer, word.span_units(), RecordKind::data, false, RecordState::aborted), sequence,
      segment.checksum};
  ++counters_.corrupt_records;
  counters_.quarantined_bytes += word.span_size();
  spdlog::error("record fails its checks, readers pass over it address={}@{} producer={} bytes={}", identity_.name,
                record.position.value, producer.value, word.span_size());
}

// Nothing behind an impossible word can be found: the rest of the segment becomes one pad, and everybody goes on in the
// next segment. False: not before the whole segment is prepared, for the pad covers all of it.
bool Scan::close_chain(const ring::SegmentView& segment, Position position) {
  halted_since_ns_ = 0;
  if (segment.limit < segment.end) return false;
  const std::uint64_t rest = segment.end - position;
  RecordHeader* header = header_at(segment, position);
  const ClaimWord pad =
      ClaimWord::make(ProducerId(0), rest / layout::kRecordAlignment, RecordKind::pad, false, RecordState::aborted);
  const std::uint64_t found = header->claim.exchange(pad.bits, std::memory_order_acq_rel);
  complete_skip(header, pad, Sequence(0), position, segment.checksum);
  // Whoever wrote the word may write another: what we have decided stands in the private copy.
  zombies_[position] = {pad, Sequence(0), segment.checksum};
  counters_.quarantined_bytes += rest;
  spdlog::error("impossible claim word, the rest of the segment is closed address={}@{} word={:#x} bytes={}",
                identity_.name, position.value, found, rest);
  // Producers that had walked past it would go on where nobody looks any more.
  std::atomic<std::uint64_t>& tail = slots_.memory().log->tail;
  std::uint64_t seen = tail.load(std::memory_order_relaxed);
  while (seen < segment.end.value &&
         !tail.compare_exchange_weak(seen, segment.end.value, std::memory_order_release, std::memory_order_relaxed)) {
  }
  ring::Bell(slots_.memory()).published();
  move_frontier(position, segment.end, segment);
  return true;
}

// True if the claim was aborted, and the scan may look at it again.
bool Scan::on_claimed(const ring::RecordView& record, const ring::SegmentView& segment, std::uint64_t now_ns) {
  const ClaimWord word = record.fields.claim;
  const bool fenced = is_fenced(word.producer(), record.position);
  const bool alive = attached_.is_producer_alive(word.producer());
  if (fenced || !alive) {
    if (abort_at(segment, record.position, word, alive) && !alive) ++counters_.repaired_claims;
    return true;
  }
  // One claim stands at one position: its time runs from the first look, whatever its word says later.
  if (halted_since_ns_ == 0) halted_since_ns_ = now_ns;
  halted_word_ = word;
  if (deadline_ns_ == 0 || now_ns < halted_since_ns_ + deadline_ns_) return false;
  if (abort_at(segment, record.position, word, true)) {
    ++counters_.expired_claims;
    spdlog::warn("claim past its deadline is aborted address={}@{} producer={} bytes={}", identity_.name,
                 record.position.value, word.producer().value, word.span_size());
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
  if (zombie) zombies_[position] = {word.with_state(RecordState::aborted), Sequence(0), segment.checksum};
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
      } else if ((result == ScanResult::aborted || result == ScanResult::corrupt_record) && mine) {
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
  summaries_.push_back({segment, segment_.records, time_max_ns_, segment_.refers_back});
  segment_ = {};
}

Position Scan::referred_from() const {
  const ring::PartitionMemory& memory = slots_.memory();
  return log::referred_from(memory.segment_of(frontier_), segment_.refers_back, memory.segment_size());
}

std::vector<log::SegmentSummary> Scan::take_summaries() { return std::exchange(summaries_, {}); }

bool Scan::has_zombies(Position begin, Position end) const {
  // Spans do not overlap: the last one that starts below `end` reaches farthest.
  const auto after = zombies_.lower_bound(end);
  if (after == zombies_.begin()) return false;
  const auto& [position, zombie] = *std::prev(after);
  return position + zombie.word.span_size() > begin;
}

void Scan::fix_zombies(Position begin, std::span<std::byte> bytes) const {
  const Position end = begin + bytes.size();
  for (auto next = zombies_.lower_bound(begin); next != zombies_.end() && next->first < end; ++next) {
    const auto& [position, zombie] = *next;
    // A header is 32 bytes at a multiple of 64: it lies in the copy whole, or not at all.
    auto* header = reinterpret_cast<RecordHeader*>(bytes.data() + (position - begin));
    header->claim.store(zombie.word.bits, std::memory_order_relaxed);  // a private copy
    complete_skip(header, zombie.word, zombie.sequence, position, zombie.segment_checksum);
  }
}

void Scan::forget_zombies_below(Position position) { zombies_.erase(zombies_.begin(), zombies_.lower_bound(position)); }

}  // namespace sluice::spill
