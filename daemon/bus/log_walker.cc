#include "daemon/bus/log_walker.h"

#include <algorithm>
#include <utility>

#include "shm/base/limits.h"
#include "shm/layout/expiry.h"
#include "shm/layout/segment.h"

namespace sluice::bus {
namespace {

constexpr std::uint64_t kFirstChunkSize = 16 * 1024;
constexpr std::uint64_t kChunkSizeMax = 256 * 1024;  // but for a record that is larger

}  // namespace

Result<bool> LogWalker::next(ring::RecordView& record) {
  for (;;) {
    if (at_ >= end_) return false;
    if (!placed_) {
      SLUICE_ASSIGN(const bool there, place());
      if (!there) return false;
    }
    switch (ring::scan_record(view_, at_, record)) {
      case ring::ScanResult::record:
        if (record.position >= end_) return false;
        if (is_for_consumers(record)) return true;
        break;
      case ring::ScanResult::aborted:
      case ring::ScanResult::pad:
      case ring::ScanResult::corrupt_record: break;
      case ring::ScanResult::segment_end: placed_ = false; break;
      case ring::ScanResult::limit: {
        if (!in_file_) return false;
        if (view_.limit >= std::min(view_.end, data_end_)) {
          placed_ = false;
          if (at_ + layout::kRecordHeaderSize > data_end_ || at_ >= data_end_) break;
          return false;  // a record that is cut off by what is durable
        }
        SLUICE_TRY(load(std::max(chunk_size_ * 2, kFirstChunkSize)));
        break;
      }
      case ring::ScanResult::free:
      case ring::ScanResult::claimed: return false;
      case ring::ScanResult::broken_chain:
        at_ = view_.end;
        placed_ = false;
        break;
    }
  }
}

bool LogWalker::is_for_consumers(const ring::RecordView& record) {
  if (raw_) return true;
  if (layout::has_outlived(record.fields.time_ns, partition_.message_ttl_ns(), now_ns_)) {
    leave_the_expired();
    return false;
  }
  if (record.fields.claim.kind() == layout::RecordKind::ref) return record.fields.claim.producer() == ProducerId(0);
  if (record.fields.claim.kind() != layout::RecordKind::data ||
      partition_.is_fenced(record.fields.claim.producer(), record.position))
    return false;
  return !layout::has_expired(record.trailer, now_ns_);
}

// A topic's backlog may be nearly all too old: the index says where it ceases to be. Asked once, it may read a file.
void LogWalker::leave_the_expired() {
  if (std::exchange(left_expired_, true) || partition_.log() == nullptr) return;
  const Position live = partition_.log()->segment_at_time(now_ns_ - partition_.message_ttl_ns() + 1);
  if (live <= view_.end) return;
  at_ = std::min(live, end_);
  placed_ = false;
}

Result<bool> LogWalker::place() {
  if (const auto view = partition_.memory_view(partition_.memory().segment_of(at_))) {
    view_ = *view;
    placed_ = true;
    in_file_ = false;
    return true;
  }
  if (partition_.log() == nullptr) {
    // Volatile: what has left memory is gone.
    if (at_ >= partition_.memory_start()) return false;
    at_ = partition_.memory_start();
    return at_ < end_;
  }
  return place_in_file();
}

Result<bool> LogWalker::place_in_file() {
  log::PartitionLog& log = *partition_.log();
  const log::Located located = log.locate(at_);
  if (located.kind != log::Located::Kind::file) {
    const Position begin(partition_.memory().control->start_position);
    const Position next = located.kind == log::Located::Kind::skip ? located.next : begin;
    if (next <= at_) return false;
    at_ = next;
    return at_ < end_;
  }
  const SegmentNumber segment = partition_.memory().segment_of(at_);
  view_.start = partition_.memory().start_of(segment);
  view_.end = view_.start + partition_.memory().segment_size();
  data_end_ = located.data_end;
  buffer_.resize(layout::kSegmentHeaderSize);
  SLUICE_ASSIGN(const std::size_t got, log.read(view_.start, buffer_));
  layout::SegmentHeader header{};
  const log::LogOptions& options = log.options();
  if (got < layout::kSegmentHeaderSize || layout::read_segment_header(buffer_.data(), options.topic, options.partition,
                                                                      segment, header) != layout::SegmentCheck::ok) {
    at_ = view_.end;
    return true;  // quarantined, or rot: readers report it
  }
  view_.checksum = header.checksum;
  view_.verify = (header.flags & layout::kSegmentFlagChecksums) != 0;
  in_file_ = true;
  placed_ = true;
  if (at_ == view_.start) at_ = at_ + layout::kSegmentHeaderSize;
  SLUICE_TRY(load(kFirstChunkSize));
  return true;
}

// Reads from the position on. The view's base lies before the buffer, where the segment would begin.
Result<bool> LogWalker::load(std::uint64_t size) {
  const Position bound = std::min(view_.end, data_end_);
  // A record that did not fit into the largest chunk takes more.
  const bool stuck = view_.limit > at_ && chunk_size_ >= kChunkSizeMax;
  chunk_size_ = stuck ? size : std::min(size, kChunkSizeMax);
  buffer_.resize(std::min<std::uint64_t>(chunk_size_, bound > at_ ? bound - at_ : 0));
  SLUICE_ASSIGN(const std::size_t got, partition_.log()->read(at_, buffer_));
  view_.base = buffer_.data() - (at_ - view_.start);
  view_.limit = at_ + got;
  if (got == 0) data_end_ = at_;
  return got != 0;
}

}  // namespace sluice::bus
