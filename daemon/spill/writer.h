// From memory to stable storage: write → sync → durable, for one partition.
//
// Owner: the bus thread. It is told how far records are final (the frontier) and answers with a durable position.
//
//   frontier ─ submit ─▶ in flight (≤ kWritesInFlightMax) ─ complete ─▶ written ─ sync ─▶ durable
//                          │      ▲
//                 short, no room  │ again
//                          ▼      │
//                         waiting
//
// Whole blocks are written from the slot itself; the last partial block, and ranges that a zombie could still change,
// from a private copy. A partial block is written again as it fills, never twice at once; that relies on sectors being
// old or new, never a mixture, and the old bytes being a prefix of the new ones.
//
// Where someone waits for each sync (write_through), blocks are written with zeros a step ahead of the data, so that a
// sync finds blocks that were written before: one over fresh blocks pays for the file system's journal as well. The
// zeros lie ahead of everything submitted, and no data write overlaps zeros in flight.
//
// Invariants (checked in check_invariants)
//  1. durable ≤ written ≤ submitted ≤ frontier, and none goes back. durable is the end of a record; the others may lie
//     inside one, at a block's boundary.
//  2. durable moves only when every file of [durable, written) was synced after those writes completed, without error.
//  3. After the first failed or ambiguous write or sync nothing is submitted and durable stays (poisoned).
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "daemon/io/disk.h"
#include "daemon/log/partition_log.h"
#include "daemon/spill/environment.h"
#include "daemon/spill/scan.h"
#include "shm/ring/slot_manager.h"

namespace sluice::spill {

struct WriterOptions {
  std::uint64_t flush_interval_ns =
      0;                         // async: sync at least this often; 0: as soon as there is something (sync topics)
  bool write_through = false;    // zeros ahead, see above
  std::uint64_t token_base = 0;  // upper bits of its requests' tokens; the lower 32 are its own
};

class Writer {
 public:
  // Everything below `start` is durable, and its block is in memory: the end of a record, or a segment's start.
  Writer(io::Disk& disk, log::PartitionLog& log, ring::SlotManager& slots, const Scan& scan,
         const PartitionIdentity& identity, WriterOptions options, Position start);
  ~Writer();

  // Submits what can be submitted. True if it did something.
  bool do_work(Position frontier, std::uint64_t now_ns);
  // A completion with one of its tokens. True if `durable` moved.
  bool on_completion(const io::Completion& completion, std::uint64_t now_ns);
  // The next sync need not wait for its interval.
  void flush_now() { flush_now_ = true; }

  Position durable() const { return durable_; }
  Position written() const { return written_; }
  // The disk holds no request of ours. Writes that wait for room on it may be left.
  bool is_idle() const { return writes_at_disk_ == 0 && syncs_in_flight_ == 0 && !zeros_in_flight_; }
  // When it wants do_work next, monotonic ns; 0: not before something happens. As the last do_work() left it.
  std::uint64_t deadline_ns() const;
  bool is_poisoned() const { return !poison_.empty(); }
  void poison(const std::string& what, int system_errno);
  const std::string& poison() const { return poison_; }
  // Why nothing can be written just now (a full disk); empty: nothing is in the way. Heals by itself.
  const std::string& obstacle() const { return obstacle_; }

 private:
  struct Write {
    std::uint64_t token = 0;
    Position begin;  // of the first block
    Position end;    // of the bytes that are valid
    std::uint64_t size = 0;
    io::FileId file;
    std::uint64_t offset = 0;
    const std::byte* bytes = nullptr;
    std::uint32_t attempts = 1;
    bool uses_copy = false;
    bool partial = false;
    bool waiting = false;  // not at the disk: to be submitted again
    bool done = false;
  };

  bool submit_writes(Position frontier, bool with_partial, std::uint64_t now_ns);
  bool submit_write(Position end, bool partial, std::uint64_t now_ns);
  bool submit_again(std::uint64_t now_ns);
  bool hand_over(Write& write, std::uint64_t now_ns);
  bool begin_sync(Position upto, std::uint64_t now_ns);
  bool submit_syncs(std::uint64_t now_ns);
  bool is_syncing() const { return syncs_in_flight_ != 0 || !files_to_sync_.empty(); }
  bool submit_zeros();
  void on_zeros(std::int64_t result);
  void note_frontier(Position frontier);
  Position written_records();
  void on_write(Write& write, std::int64_t result, std::uint64_t now_ns);
  void obstruct(const std::string& what, std::uint64_t now_ns);
  bool is_obstructed() const { return retry_at_ns_ != 0; }
  void on_sync(std::int64_t result, std::uint64_t now_ns);
  void register_slot(std::uint32_t slot, SegmentNumber segment);
  void take_prefix(Position start);
  void check_invariants(Position frontier) const;

  // Constant after construction.
  io::Disk& disk_;
  log::PartitionLog& log_;
  ring::SlotManager& slots_;
  const Scan& scan_;
  const PartitionIdentity& identity_;
  const WriterOptions options_;
  const std::uint64_t sync_step_;  // bytes that are worth a sync although the flush has not come to its target

  Position next_;       // the first block that was not submitted whole
  Position submitted_;  // valid bytes submitted
  Position written_;
  Position durable_;
  std::deque<Write> in_flight_;  // by position; at the disk, waiting, or done behind one that is not
  std::uint32_t writes_at_disk_ = 0;
  std::uint32_t next_token_ = 0;
  std::uint32_t syncs_in_flight_ = 0;
  std::vector<io::FileId> files_to_sync_;  // of the running round: not submitted yet, the queue was full
  Position sync_covers_;                   // what becomes durable when all of a round succeed
  Position flush_target_;                  // written up to here, then sync
  std::deque<Position> frontiers_;         // ends of records above `written`, ascending, kFrontiersMax of them at most
  Position written_records_;               // the last end of a record that is known at or below `written`
  std::uint64_t dirty_since_ns_ = 0;       // 0: everything is durable
  bool flush_now_ = false;
  std::uint64_t retry_at_ns_ = 0;          // the disk is full: not before then; 0: it is not
  std::uint64_t queue_full_until_ns_ = 0;  // its queue is: look again then, or at the next completion; 0: it is not
  std::vector<std::optional<std::uint32_t>> registrations_;  // by slot; none: not tried yet, 0: refused
  std::unique_ptr<std::byte[], void (*)(void*)> copy_;       // kWriteChunkSizeMax bytes, aligned
  bool copy_in_use_ = false;
  // What the disk holds of the block that the writer began in the middle of. Memory may differ there: spans of zombies
  // that only the writer before this one knew.
  std::vector<std::byte> prefix_;
  Position prefix_begin_;
  Position zeroed_;       // blocks below were written at least once
  Position zeros_begin_;  // of the write of zeros in flight
  bool zeros_in_flight_ = false;
  std::unique_ptr<std::byte[], void (*)(void*)> zeros_;  // kZeroStep bytes, aligned; null without write_through
  std::string poison_;
  std::string obstacle_;
};

}  // namespace sluice::spill
