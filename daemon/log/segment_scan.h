// Walking over one segment of a log file: which of its records hold, what is damaged, where it ends.
//
// Owner: recovery, on the bus thread. Disk bytes are data, never asserted on: every word is checked before it is used.
//
// Invariants
//  1. The visitor sees a record only if it is valid as docs/FORMAT.md says: final, sizes within its span, and its
//     checksum matches where the segment's records carry one.
//  2. No position at or above `must_reach` is called damaged unless intact records follow it in the segment: what is
//  not
//     valid there is where the log stops.
//  3. The work is bounded: at most kResyncBudgetFactor times the segment's size is read through checksums in the search
//     for the next intact record.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "daemon/io/disk.h"
#include "daemon/log/index.h"
#include "daemon/log/partition_log.h"
#include "shm/base/result.h"
#include "shm/base/types.h"
#include "shm/layout/record.h"
#include "shm/layout/segment.h"

namespace sluice::log {

inline constexpr std::uint64_t kResyncBudgetFactor = 16;
inline constexpr std::uint64_t kSegmentChunkSize = 1024 * 1024;  // read at a time

// A segment's bytes, fetched from its file in chunks as far as they are needed.
class SegmentBuffer {
 public:
  SegmentBuffer(io::Disk& disk, std::uint64_t segment_size, std::uint64_t chunk_size = kSegmentChunkSize);
  SegmentBuffer(const SegmentBuffer&) = delete;
  SegmentBuffer& operator=(const SegmentBuffer&) = delete;
  ~SegmentBuffer();

  // Another segment: `available` of its bytes lie at `offset` of the file.
  void start(io::FileId file, std::uint64_t offset, std::uint64_t available);
  // True if [0, end) is there now; false if the file ends before. A read error is an error, never an end.
  Result<bool> load(std::uint64_t end);
  const std::byte* at(std::uint64_t offset) const { return bytes_ + offset; }
  std::uint64_t loaded() const { return loaded_; }
  std::uint64_t bytes_read() const { return bytes_read_; }

 private:
  io::Disk& disk_;
  const std::uint64_t segment_size_;
  const std::uint64_t chunk_size_;
  std::byte* const bytes_;
  io::FileId file_;
  std::uint64_t offset_ = 0;
  std::uint64_t available_ = 0;
  std::uint64_t loaded_ = 0;
  std::uint64_t bytes_read_ = 0;
};

struct SegmentOutcome {
  std::uint64_t records = 0;      // committed ones
  std::uint64_t time_max_ns = 0;  // of them
  std::uint64_t refers_back = 0;  // of them, references.h
  std::vector<Damage> damaged;
  std::optional<Position> stopped;  // the log stops here; none: the segment is walked to its end
};

class SegmentScan {
 public:
  SegmentScan(SegmentBuffer& buffer, const LogOptions& options) : buffer_(buffer), options_(options) {}

  // The buffer was started on this segment. Everything below `must_reach` is known to have been durable. Records below
  // `visit_from` are walked over without a visit.
  Result<SegmentOutcome> run(SegmentNumber segment, Position must_reach, Position visit_from,
                             const RecordVisitor& visitor);
  // The same in steps: begin, then walk until it has ended (true). A step passes records that begin within the next
  // `bytes` bytes; a search behind damage is done in one go.
  Status begin(SegmentNumber segment, Position must_reach);
  Result<bool> walk(std::uint64_t bytes, Position visit_from, const RecordVisitor& visitor);
  SegmentOutcome take_outcome() { return std::move(outcome_); }

 private:
  enum class Verdict : std::uint8_t { valid, free, missing, claim_word, sizes, checksum };
  struct Checked {
    Verdict verdict = Verdict::missing;
    layout::RecordFields fields;
    std::uint32_t trailer_size = 0;
  };

  Result<std::optional<DamageReason>> check_header(SegmentNumber segment);
  Result<Checked> check_record(std::uint64_t at);
  Checked check_contents(std::uint64_t at, Checked checked) const;
  Result<std::uint64_t> next_intact(std::uint64_t at, const Checked& damaged);
  void visit(std::uint64_t at, const Checked& checked, Position visit_from, const RecordVisitor& visitor);
  void damage(std::uint64_t from, std::uint64_t to, DamageReason reason);
  Status pass_damage(const Checked& checked);
  static DamageReason reason_of(Verdict verdict);
  Position position(std::uint64_t at) const { return start_ + at; }

  SegmentBuffer& buffer_;
  const LogOptions& options_;
  // Of the segment that it is on.
  Position start_;
  std::uint64_t must_ = 0;  // so much of it must be there
  std::uint64_t at_ = 0;    // the next record's offset
  bool ended_ = false;
  bool checksums_ = false;
  std::uint32_t segment_checksum_ = 0;
  std::uint64_t resync_budget_ = 0;
  SegmentOutcome outcome_;
};

}  // namespace sluice::log
