// What a partition's directory holds after a clean stop, a crash, a power loss, or worse. The rules: docs/FORMAT.md,
// Recovery.
//
// Owner: PartitionLog::open, on the bus thread. It runs in two parts: look and scan, which change nothing, and then
// apply. So an error (in_use, version, io) leaves the directory as it was.
//
// Invariants
//  1. Nothing below the durable lower bound is cut.
//  2. A file in which nothing of ours is recognised is neither removed nor changed.
//  3. Afterwards every file has a closed index, but for those that are written on (LogOptions::memory_kept): no start
//     depends on the state of an older one again.
//  4. A step of apply that a crash cuts off leaves a directory with the same outcome.
#pragma once

#include <cstdint>
#include <vector>

#include "daemon/io/disk.h"
#include "daemon/log/index.h"
#include "daemon/log/log_file.h"
#include "daemon/log/partition_log.h"
#include "shm/base/result.h"
#include "shm/base/types.h"

namespace sluice::log {

// A log file that gets no more data.
struct ClosedFile {
  Position base;
  Position data_end;
  std::uint64_t size = 0;  // of the file, bytes
  std::uint64_t records = 0;
  std::uint64_t time_max_ns = 0;
  std::vector<Damage> damaged;  // ascending
  Position referred_from;       // of all its segments, references.h
};

// A file that is written on: the one that the log ends in, or one made ahead of need.
struct OpenFile {
  Position base;
  FileHandle handle;                      // locked
  bool reused = false;                    // see FileLook
  std::vector<SegmentSummary> summaries;  // of its complete segments
  bool index_written = false;             // with exactly these entries
  std::vector<Damage> damaged;            // ascending
};

struct Recovered {
  std::vector<ClosedFile> files;  // ascending
  std::vector<OpenFile> open;     // behind them, ascending; without LogOptions::memory_kept there are none
  Position end;                   // as RecoveryReport::end
};

Result<Recovered> recover(io::Disk& disk, const LogOptions& options, Position scan_from, const RecordVisitor& visitor,
                          RecoveryReport& report);

// Cuts a log file at `data_end` (above its base): its size becomes the end rounded up to kDirectIoAlignment, the rest
// of the last block zero. Durable on return. Returns the new size.
Result<std::uint64_t> cut_log_file(io::Disk& disk, io::FileId file, Position base, Position data_end);

}  // namespace sluice::log
