// A writer that does to a PartitionLog what the spiller does, and a reader that does what clients do.
//
// Both are for tests: errors end the test. The writer keeps every segment's bytes in memory, as the ring would, and
// remembers each record, so that what is read back can be compared.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <new>
#include <span>
#include <string>
#include <vector>

#include "daemon/io/disk.h"
#include "daemon/log/partition_log.h"
#include "shm/base/types.h"
#include "shm/layout/record.h"

namespace sluice::log {

inline constexpr std::uint64_t kRigSegmentSize = 16 * 1024;
inline constexpr std::uint32_t kRigSegmentsPerFile = 4;
inline constexpr std::uint64_t kRigFileSize = kRigSegmentSize * kRigSegmentsPerFile;

LogOptions rig_options(const std::string& directory = "/data/orders/0");

// A record as it was written, or as it was read.
struct RigRecord {
  Position position;
  std::uint64_t sequence = 0;
  std::uint64_t time_ns = 0;
  layout::ClaimWord claim;
  std::string payload;
  std::string trailer;
  bool operator==(const RigRecord&) const = default;
};

class LogWriter {
 public:
  // `start`: a segment boundary.
  LogWriter(io::Disk& disk, PartitionLog& log, LogOptions options, std::uint64_t incarnation, Position start);

  // Goes on with another log of the same directory, which was opened over this memory (LogOptions::memory_kept).
  void go_on(io::Disk& disk, PartitionLog& log);

  // Each puts a record at the end, in memory only.
  void append(const std::string& payload, const std::string& key = {});
  void append_aborted(std::uint64_t span_units);
  // As the daemon's, for what stands at `reference`.
  void append_ref(Position reference);
  // Random records, `bytes` of them at least.
  void append_some(std::uint64_t bytes, std::uint64_t seed);
  // Fills the current segment to its end.
  void append_pad();

  // Submits what was not written yet, up to the last full block or (all) the end. False: the disk refused something.
  bool submit_writes(bool all);
  // Collects completions until none is outstanding. False: one of them failed.
  bool drain();
  // Writes all, syncs, moves the durable position and sums complete segments up. False: something failed.
  bool sync();

  Position end() const { return end_; }
  const std::vector<RigRecord>& records() const { return records_; }
  // The segment's bytes, as in memory.
  std::span<const std::byte> segment(SegmentNumber number) const;

 private:
  struct Freed {  // of memory that is aligned to blocks
    void operator()(std::byte* bytes) const { ::operator delete (bytes, std::align_val_t{4096}); }
  };
  using Segment = std::unique_ptr<std::byte, Freed>;

  std::byte* at(Position position);
  void begin_segment(Position start);
  void make_room(std::uint64_t span);
  void put(layout::ClaimWord claim, const std::string& payload, const std::string& trailer);
  static std::byte* allocate(std::uint64_t size);
  bool submit(Position from, Position to);
  bool submit_piece(const WriteTarget& target, Position from, std::uint64_t size);
  bool sum_up(Position durable);

  io::Disk* disk_;
  PartitionLog* log_;
  const LogOptions options_;
  const std::uint64_t incarnation_;
  std::map<SegmentNumber, Segment> segments_;
  std::vector<Segment>
      bounces_;  // copies of last blocks that are being written, since what is behind them goes on growing
  std::map<SegmentNumber, SegmentSummary> summaries_;
  std::vector<RigRecord> records_;
  Position end_;
  Position submitted_;
  Position summed_up_;
  std::uint64_t sequence_ = 0;
  std::uint64_t time_max_ns_ = 0;
  std::uint32_t segment_checksum_ = 0;
  std::size_t outstanding_ = 0;
};

// What a client sees of the log from `from` on: every record that is served. `damage` gets a line for each thing that
// is served and does not hold; that must never happen.
struct Served {
  std::vector<RigRecord> records;  // committed ones, aborts and pads
  std::vector<std::string> damage;
};
Served serve(PartitionLog& log, const LogOptions& options, Position from);

// Opens, or fails the test.
struct Opened {
  std::unique_ptr<PartitionLog> log;
  RecoveryReport report;
  std::vector<RigRecord> visited;  // without payloads
};
Opened open_log(io::Disk& disk, const LogOptions& options, Position scan_from = Position());

// As kill -9 does to it: nothing is closed. Its disk may go afterwards, with writes in flight.
void forget(std::unique_ptr<PartitionLog> log);

// Where a start that lost its memory goes on.
Position next_start(const RecoveryReport& report, const LogOptions& options);

// Whole files, for mangling them.
std::vector<std::byte> read_file(io::Disk& disk, const std::string& path);
void write_file(io::Disk& disk, const std::string& path, std::span<const std::byte> bytes);
bool exists(io::Disk& disk, const std::string& path);
std::vector<std::string> list_files(io::Disk& disk, const std::string& directory);

}  // namespace sluice::log
