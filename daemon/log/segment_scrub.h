// One segment of a log compared in all its copies, and mended from a good one, while the log is open: in steps that are
// short enough for the bus thread.
//
// Owner: the bus thread. Nobody writes in what it looks at: closed files, and segments that are complete and durable.
//
//   open ─▶ lengthen ─▶ read ─▶ check ─▶ compare ─▶ done
//                         ▲                 └─ damaged or different, and another copy is there: mend, once
//                         └──────────────────────┘
//
// Invariants
//  1. A step reads, checks or copies at most kScrubStepSize bytes of one copy (a record that begins in them is checked
//     to its end, and a search behind damage to the segment's). Only a mend works on the segment as a whole.
//  2. What it writes is a record or a header that holds, or the rest of a file that a copy lacks (FORMAT.md, Recovery).
//  3. A copy that is still damaged after it was mended, where another one is whole, is marked stale.
//  4. It can be dropped after any step: only a file in the making is taken away then.
// Lifetimes: the disk outlives it; the log need not. Whoever drives it drops it when the file is gone (retention).
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "daemon/io/disk.h"
#include "daemon/log/index.h"
#include "daemon/log/partition_log.h"
#include "shm/base/result.h"
#include "shm/base/types.h"

namespace sluice::log {

inline constexpr std::uint64_t kScrubStepSize = 256 * 1024;

struct ScrubOutcome {
  std::size_t copies = 0;
  std::uint64_t bytes = 0;         // looked at, of each copy
  std::uint64_t mended_bytes = 0;  // of all copies
  std::vector<std::string> told;   // a line for each mended file
  std::vector<Damage> damaged;     // intact on no copy; ascending
  std::string unreadable;          // why no copy could be read: then nothing is known of the segment
};

class SegmentScrub {
 public:
  // With mirrors, all good copies; else the one.
  SegmentScrub(io::Disk& disk, LogOptions options, ScrubFile file, SegmentNumber segment);
  ~SegmentScrub();
  SegmentScrub(const SegmentScrub&) = delete;
  SegmentScrub& operator=(const SegmentScrub&) = delete;

  // True: done. Errors: what a copy's disk refuses of a mend, if it is the last one.
  Result<bool> step();
  ScrubOutcome take_outcome();

 private:
  struct Copy;
  enum class Stage : std::uint8_t { open, lengthen, read, check, compare, done };

  Status open_all();
  Status open_one(Copy& copy);
  void drop_lost_copies();
  Copy* longest();
  // True: the stage has ended.
  Result<bool> lengthen_some();
  Status make_missing(Copy& copy, const Copy& from);
  Status finish_growing(Copy& copy);
  bool read_some();
  Result<bool> check_some();
  Result<bool> compare_some();
  Status judge();
  Status give_up(const Copy& copy, const Error& error);
  bool is_whole(const Copy& copy) const;
  std::uint64_t damaged_bytes(const Copy& copy) const;
  void begin_reading();

  io::Disk& disk_;  // where the copies are: the mirrors' inner one
  io::MirrorDisk* const mirrors_;
  const LogOptions options_;
  const ScrubFile file_;
  const SegmentNumber segment_;
  const std::uint64_t offset_;  // of the segment in the file
  const std::uint64_t size_;    // so much of it is looked at
  Stage stage_ = Stage::open;
  std::vector<std::unique_ptr<Copy>> copies_;
  std::size_t at_copy_ = 0;  // of the stage
  std::uint64_t at_ = 0;     // compared so far
  bool differs_ = false;
  bool mended_ = false;
  ScrubOutcome outcome_;
};

}  // namespace sluice::log
