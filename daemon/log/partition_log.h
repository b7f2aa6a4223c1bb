// The log of one partition on disk: which file holds a position, what is there after a crash, what may be read, what
// may go.
//
//   <directory>/<base position, 20 digits>.log   consecutive segments, byte for byte as in memory
//   <directory>/<base position, 20 digits>.idx   one entry a segment (index.h); can be rebuilt from the log file
//
// Owner: the bus thread. It decides where bytes go and what they mean; the bytes themselves are written by the spiller
// (daemon/spill) straight from memory.
//
// Invariants
//  1. Files do not overlap, and their bases ascend. Each covers segments_per_file segments from its base; positions
//     between two files, and between a file's data end and the next base, were never used: skipped, not lost.
//  2. A file's name is durable (created as .tmp, allocated, synced, renamed, directory synced) before target() gives
//  it.
//  3. data_end of a file is the end of its last intact record known durable. Nothing above it is served.
//  4. What cannot be parsed is never deleted, moved or overwritten: it is listed in the report.
//  5. Positions at or above RecoveryReport::used_end were never on this disk; target() refuses those below it that no
//  file
//     of this life covers. (What was only in memory is the caller's to know: the size of the ring.)
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "daemon/io/disk.h"
#include "shm/base/fd.h"
#include "shm/base/result.h"
#include "shm/base/types.h"
#include "shm/layout/record.h"

namespace sluice::log {

struct LogOptions {
  std::string directory;  // absolute; made if missing
  std::string name;       // "topic/partition", for messages
  TopicId topic;
  PartitionNumber partition = 0;
  std::uint64_t segment_size = 0;  // bytes
  std::uint32_t segments_per_file = 0;
  bool checksums = true;
  // The memory above the log's end was kept, and holds all that is not on disk: files that are not complete stay open
  // and are written on where the log ends; nothing is cut.
  bool memory_kept = false;
  Position memory_start = Position();  // memory_kept: where it begins; files below it are of lost memories, and end
};

// A range of positions that was damaged below the durable bound: kept in the file, not served, counted.
struct DamagedRange {
  Position begin;
  Position end;
  std::string reason;
};

// Of the records of a segment, or of its part below some end.
struct SegmentTally {
  std::uint64_t records = 0;      // committed ones
  std::uint64_t refers_back = 0;  // references.h; 0: no refs among them
};

struct RecoveryReport {
  Position end;                       // everything below is intact and durable, but for `damaged`; 0 for a new log
  Position used_end;                  // at least `end`: above it nothing was seen, not even torn or unreadable
  std::uint64_t records = 0;          // scanned
  SegmentTally last_segment;          // memory_kept: what lies below `end` in the segment that it lies in
  std::uint64_t torn_bytes = 0;       // cut above the durable bound
  std::vector<DamagedRange> damaged;  // all that are known, also those found by an earlier start; ascending
  std::vector<std::string> unparsed;  // paths of what nothing could be recognised in: kept
  std::uint64_t bytes_read = 0;
  // Of mirrors: a line for each file of a copy that was mended from another copy, before anything else was done.
  std::vector<std::string> repaired;
  std::uint64_t repaired_bytes = 0;
};

// Called for each intact final record at or above `scan_from`, in order of position; aborts and pads included.
// `trailer` is empty if there is none.
using RecordVisitor = std::function<void(Position, const layout::RecordFields&, std::span<const std::byte> trailer)>;

struct SegmentSummary {
  SegmentNumber segment;
  std::uint64_t records = 0;      // committed records in it
  std::uint64_t time_max_ns = 0;  // running maximum over the log up to this segment's end
  std::uint64_t refers_back = 0;  // references.h; 0: no refs in it
};

struct Damage;  // index.h

// Where bytes of a position go.
struct WriteTarget {
  io::FileId file;
  std::uint64_t offset = 0;  // of the position in the file
  std::uint64_t room = 0;    // bytes to the end of the file
  bool reused = false;       // its blocks were written before
};

// Where bytes of a position are.
struct Located {
  enum class Kind : std::uint8_t { file, skip, above } kind = Kind::above;
  std::string path;    // file
  Position file_base;  // file: the position at the file's offset 0
  Position data_end;   // file: what may be read now; grows in the newest file
  Position next;       // skip: the next position that has data
};

struct ScrubFile {
  Position base;
  Position end;         // of what can be looked at
  bool closed = false;  // it gets no more data: every copy has it at the same length
};

struct RetentionLimits {
  std::uint64_t bytes = 0;   // 0: no limit; of log file sizes, whole files
  std::uint64_t age_ns = 0;  // 0: no limit; by the newest record of a file
  // What messages that wait, or refs that no file knows of yet, need: a file that reaches above it stays, but refs in
  // one that the other limits would take keep nothing.
  Position needed_from{~std::uint64_t{0}};
};
struct Trimmed {
  Position trimmed;  // everything below is gone
  std::uint64_t files = 0;
  std::uint64_t records = 0;  // expired by it
};

class PartitionLog {
 public:
  // Recovers what is in the directory. Every file written by a predecessor is locked first: in_use while its writes are
  // in flight. `version` if a newer format is met: nothing is touched then. `scan_from`: records below it are known to
  // the caller already, and need no visit (recovery reads from the durable bound or scan_from on, whichever is lower).
  static Result<std::unique_ptr<PartitionLog>> open(io::Disk& disk, LogOptions options, Position scan_from,
                                                    const RecordVisitor& visitor, RecoveryReport& report);
  virtual ~PartitionLog() = default;

  // ---- writing
  // Where the bytes at `position` go; makes the file if none covers it. would_block: the disk is full.
  virtual Result<WriteTarget> target(Position position) = 0;
  // Makes the next file while the current one still has room: called ahead of need, so that target() is quick.
  // `position`: where is being written now. Does nothing if the file behind that position's file is there.
  virtual Status prepare_next(Position position) = 0;
  // The files that hold any byte of [from, to): all of them need a sync before `to` is durable.
  virtual std::vector<io::FileId> files_between(Position from, Position to) const = 0;
  // Everything below is on stable storage now: it may be served. Never goes back.
  virtual void set_durable(Position position) = 0;
  // A segment is complete and durable: goes to the index. In order, each segment once.
  virtual Status add_summary(const SegmentSummary& summary) = 0;

  // ---- reading. Damaged ranges are skipped: data_end stops at the next one, and `skip` leads behind it. A segment's
  // start stands for its first record.
  virtual Located locate(Position position) const = 0;
  virtual Result<UniqueFd> open_for_client(const Located& located) = 0;
  // Reads durable bytes back, for the daemon itself (msg show, audit). Fewer at the end of the data.
  virtual Result<std::size_t> read(Position position, std::span<std::byte> into) = 0;
  virtual Position earliest() const = 0;  // the first position that can be read; end() when empty
  virtual Position end() const = 0;       // durable end
  // The start of the first segment that may hold a record of that time or later; end() if there is none.
  virtual Position segment_at_time(std::uint64_t time_ns) const = 0;
  // Committed records of the segments [first, last) that add_summary() or an earlier start has told of.
  virtual Result<std::uint64_t> records_between(SegmentNumber first, SegmentNumber last) const = 0;
  // The lowest segment that refs at or behind `from` mean, of those that a segment's summary has told of, and by whole
  // files for those of an earlier start; above everything if there are none.
  virtual Position lowest_referred(Position from) const = 0;
  // What a scrub looks at, ascending: closed files, and the complete and durable segments of the others.
  virtual std::vector<ScrubFile> scrub_files() const = 0;
  virtual bool has_file(Position base) const = 0;
  // From here on these ranges of one of scrub_files() are not served any more, also after a restart: noted in its
  // index. Ranges that are known already change nothing. An error: not noted on disk, and not served by this log all
  // the same.
  virtual Status quarantine(Position base, const std::vector<Damage>& damage) = 0;
  virtual std::uint64_t damaged_bytes() const = 0;
  virtual const LogOptions& options() const = 0;
  virtual std::uint64_t file_bytes() const = 0;  // with what is kept to become a file again
  virtual std::uint64_t file_count() const = 0;

  // ---- retention. Never removes the newest file, nor the one that holds the durable end, nor one that reaches above
  // `keep_from`, nor one that refs mean which stand in a file that the limits would leave. No request may be in flight
  // on a file that lies below the durable position.
  virtual Result<Trimmed> retain(const RetentionLimits& limits, std::uint64_t wall_ns, Position keep_from) = 0;

  // Closes files, cut at their durable end; after a clean stop the next open() has little to read. What was written and
  // is not durable stays as it is, for recovery. No request may be in flight; no other member may be called afterwards.
  virtual Status close() = 0;
};

}  // namespace sluice::log
