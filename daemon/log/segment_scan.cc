#include "daemon/log/segment_scan.h"

#include <algorithm>
#include <cstring>
#include <new>

#include "daemon/log/references.h"
#include "shm/base/limits.h"

namespace sluice::log {
namespace {
constexpr std::align_val_t kBufferAlignment{kDirectIoAlignment};
}  // namespace

// ---- SegmentBuffer

// Not zeroed: of a large segment only what is loaded takes memory.
SegmentBuffer::SegmentBuffer(io::Disk& disk, std::uint64_t segment_size, std::uint64_t chunk_size)
    : disk_(disk),
      segment_size_(segment_size),
      chunk_size_(chunk_size),
      bytes_(static_cast<std::byte*>(::operator new(segment_size, kBufferAlignment))) {}

SegmentBuffer::~SegmentBuffer() { ::operator delete(bytes_, kBufferAlignment); }

void SegmentBuffer::start(io::FileId file, std::uint64_t offset, std::uint64_t available) {
  file_ = file;
  offset_ = offset;
  available_ = std::min(available, segment_size_);
  loaded_ = 0;
}

Result<bool> SegmentBuffer::load(std::uint64_t end) {
  while (loaded_ < end && loaded_ < available_) {
    const std::uint64_t size = std::min(chunk_size_, available_ - loaded_);
    SLUICE_ASSIGN(const std::size_t got, disk_.read(file_, offset_ + loaded_, std::span(bytes_ + loaded_, size)));
    loaded_ += got;
    bytes_read_ += got;
    if (got < size) available_ = loaded_;
  }
  return loaded_ >= end;
}

// ---- SegmentScan

DamageReason SegmentScan::reason_of(Verdict verdict) {
  switch (verdict) {
    case Verdict::claim_word: return DamageReason::claim_word;
    case Verdict::sizes: return DamageReason::sizes;
    case Verdict::checksum: return DamageReason::checksum;
    case Verdict::valid:
    case Verdict::free:
    case Verdict::missing: break;
  }
  return DamageReason::missing;
}

void SegmentScan::damage(std::uint64_t from, std::uint64_t to, DamageReason reason) {
  outcome_.damaged.push_back({position(from), position(to), reason});
}

// Nothing: the header holds, and what it says is taken over.
Result<std::optional<DamageReason>> SegmentScan::check_header(SegmentNumber segment) {
  SLUICE_ASSIGN(const bool there, buffer_.load(layout::kSegmentHeaderSize));
  if (!there) return DamageReason::missing;
  layout::SegmentHeader header;
  const layout::SegmentCheck check =
      layout::read_segment_header(buffer_.at(0), options_.topic, options_.partition, segment, header);
  if (check == layout::SegmentCheck::empty) return DamageReason::missing;
  if (check != layout::SegmentCheck::ok) return DamageReason::segment_header;
  checksums_ = (header.flags & layout::kSegmentFlagChecksums) != 0;
  segment_checksum_ = header.checksum;
  return std::nullopt;
}

SegmentScan::Checked SegmentScan::check_contents(std::uint64_t at, Checked checked) const {
  const std::byte* bytes = buffer_.at(at);
  const bool skip = checked.fields.claim.state() == layout::RecordState::aborted ||
                    checked.fields.claim.kind() == layout::RecordKind::pad;
  if (skip) {
    if (checked.fields.payload_size != 0) {
      checked.verdict = Verdict::sizes;
      return checked;
    }
  } else {
    checked.trailer_size = layout::trailer_size(bytes, checked.fields);
    if (checked.trailer_size == layout::kTrailerSizeInvalid) {
      checked.verdict = Verdict::sizes;
      return checked;
    }
  }
  const bool holds = !checksums_ || layout::checksum_matches(bytes, checked.fields, checked.trailer_size, position(at),
                                                             segment_checksum_);
  checked.verdict = holds ? Verdict::valid : Verdict::checksum;
  return checked;
}

Result<SegmentScan::Checked> SegmentScan::check_record(std::uint64_t at) {
  Checked checked;
  SLUICE_ASSIGN(const bool header_there, buffer_.load(at + layout::kRecordAlignment));
  if (!header_there) return checked;
  const layout::HeaderCheck header = layout::read_header(buffer_.at(at), options_.segment_size - at, checked.fields);
  if (header == layout::HeaderCheck::free) {
    checked.verdict = Verdict::free;
    return checked;
  }
  if (header == layout::HeaderCheck::corrupt || header == layout::HeaderCheck::claimed) {
    checked.verdict = Verdict::claim_word;
    return checked;
  }
  if (header == layout::HeaderCheck::bad_sizes) {
    checked.verdict = Verdict::sizes;
    return checked;
  }
  if (header == layout::HeaderCheck::skip) {
    // In memory these fields may be unwritten, so read_header leaves them alone; on disk they are complete.
    std::memcpy(&checked.fields.sequence.value, buffer_.at(at + offsetof(layout::RecordHeader, sequence)), 8);
    std::memcpy(&checked.fields.time_ns, buffer_.at(at + offsetof(layout::RecordHeader, time_ns)), 8);
    std::memcpy(&checked.fields.payload_size, buffer_.at(at + offsetof(layout::RecordHeader, payload_size)), 4);
    std::memcpy(&checked.fields.checksum, buffer_.at(at + offsetof(layout::RecordHeader, checksum)), 4);
  }
  SLUICE_ASSIGN(const bool there, buffer_.load(at + checked.fields.claim.span_size()));
  if (!there) return checked;
  return check_contents(at, checked);
}

// Where the walk can go on behind a record that is damaged; the segment's size if nowhere. The damaged record's span is
// not to be trusted, so the first record behind it whose checksum holds is searched for. A checksum covers its record's
// position, so that bytes of another place (a payload that holds records) do not pass for one.
Result<std::uint64_t> SegmentScan::next_intact(std::uint64_t at, const Checked& damaged) {
  const std::uint64_t end = options_.segment_size;
  if (!checksums_) {
    // Nothing can be proven here: the span is believed if a possible record stands behind it.
    if (!damaged.fields.claim.is_possible(end - at)) return end;
    const std::uint64_t next = at + damaged.fields.claim.span_size();
    if (next == end) return end;
    SLUICE_ASSIGN(const Checked behind, check_record(next));
    return behind.verdict == Verdict::valid ? next : end;
  }
  for (std::uint64_t next = at + layout::kRecordAlignment; next < end; next += layout::kRecordAlignment) {
    SLUICE_ASSIGN(const bool there, buffer_.load(next + layout::kRecordAlignment));
    if (!there) break;
    SLUICE_ASSIGN(const Checked checked, check_record(next));
    if (checked.verdict == Verdict::valid) return next;
    const std::uint64_t cost = checked.verdict == Verdict::checksum ? checked.fields.claim.span_size() : 0;
    if (cost >= resync_budget_) break;
    resync_budget_ -= cost;
  }
  return end;
}

void SegmentScan::visit(std::uint64_t at, const Checked& checked, Position visit_from, const RecordVisitor& visitor) {
  const layout::RecordFields& fields = checked.fields;
  std::span<const std::byte> trailer;
  if (checked.trailer_size != 0)
    trailer = std::span(buffer_.at(at + layout::trailer_offset(fields.payload_size)), checked.trailer_size);
  if (fields.claim.state() == layout::RecordState::committed && fields.claim.kind() != layout::RecordKind::pad) {
    ++outcome_.records;
    outcome_.time_max_ns = std::max(outcome_.time_max_ns, fields.time_ns);
    outcome_.refers_back =
        std::max(outcome_.refers_back, refers_back(position(at), fields, trailer, options_.segment_size));
  }
  if (position(at) < visit_from || !visitor) return;
  visitor(position(at), fields, trailer);
}

Result<SegmentOutcome> SegmentScan::run(SegmentNumber segment, Position must_reach, Position visit_from,
                                        const RecordVisitor& visitor) {
  SLUICE_TRY(begin(segment, must_reach));
  SLUICE_ASSIGN([[maybe_unused]] const bool ended, walk(options_.segment_size, visit_from, visitor));
  return take_outcome();
}

Status SegmentScan::begin(SegmentNumber segment, Position must_reach) {
  const std::uint64_t end = options_.segment_size;
  start_ = Position(segment.value * end);
  outcome_ = {};
  resync_budget_ = kResyncBudgetFactor * end;
  must_ = must_reach > start_ ? std::min(must_reach - start_, end) : 0;
  at_ = layout::kSegmentHeaderSize;
  ended_ = false;
  SLUICE_ASSIGN(const std::optional<DamageReason> bad_header, check_header(segment));
  if (!bad_header) return {};
  if (must_ != 0) damage(0, must_, *bad_header);
  if (must_ < end) outcome_.stopped = position(must_);
  ended_ = true;
  return {};
}

Result<bool> SegmentScan::walk(std::uint64_t bytes, Position visit_from, const RecordVisitor& visitor) {
  const std::uint64_t end = options_.segment_size;
  const std::uint64_t until = std::min(end, at_ + std::min(bytes, end));
  while (!ended_ && at_ < until) {
    SLUICE_ASSIGN(const Checked checked, check_record(at_));
    if (checked.verdict == Verdict::valid) {
      visit(at_, checked, visit_from, visitor);
      at_ += checked.fields.claim.span_size();
    } else {
      SLUICE_TRY(pass_damage(checked));
    }
  }
  return ended_ || at_ >= end;
}

// What is not valid at at_ ends the log there, or is damage up to the next intact record.
Status SegmentScan::pass_damage(const Checked& checked) {
  const std::uint64_t end = options_.segment_size;
  if (at_ >= must_) {
    outcome_.stopped = position(at_);
    ended_ = true;
    return {};
  }
  SLUICE_ASSIGN(const std::uint64_t next, next_intact(at_, checked));
  damage(at_, next < end ? next : must_, reason_of(checked.verdict));
  if (next == end && must_ < end) {
    outcome_.stopped = position(must_);
    ended_ = true;
  }
  at_ = next;
  return {};
}

}  // namespace sluice::log
