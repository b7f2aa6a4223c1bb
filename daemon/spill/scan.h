// The daemon's walk over newly committed records: each is looked at once, in order of position.
//
// Owner: the bus thread. Decides the frontier: everything below it is final, counted and, on durable topics, fit to be
// written (pads and aborts are completed: sequence, sizes, checksum). Repairs what holds it up: claims of the dead at
// once, claims past their deadline, broken chains.
//
// State at the frontier
//   free ──▶ waits · final ──▶ counted, on · claimed ──▶ halted: owner dead → aborted, deadline passed → aborted
//   (zombie) · fails its checks, or a fence or ref that this daemon did not append ──▶ counted as quarantined, on (an
//   abort on disk) · impossible word ──▶ rest of the segment closed by a pad, counted as quarantined
//
// Invariants
//  1. The frontier never goes back, lies at a record's start (or a segment's), and never above `prepared`.
//  2. Zombies are spans whose bytes in memory are not to be trusted any more: aborted while their owner lives (who may
//     write there until its pin is gone), failed checks, closed chains. They go to disk from a private copy only, with
//     the header that was decided here (fix_zombies).
//  3. What is in the slots decides how far a call gets, never how long it takes: each looks at records_max words at
//  most.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "daemon/core/audit.h"
#include "daemon/core/delay_queue.h"
#include "daemon/core/half_table.h"
#include "daemon/core/origin_floor.h"
#include "daemon/log/partition_log.h"
#include "daemon/spill/environment.h"
#include "shm/base/types.h"
#include "shm/ring/scanner.h"
#include "shm/ring/slot_manager.h"

namespace sluice::spill {

struct ScanCounters {
  std::uint64_t records = 0;  // committed, since the partition was opened
  std::uint64_t corrupt_records = 0;
  std::uint64_t quarantined_bytes = 0;
  std::uint64_t expired_claims = 0;   // aborted by their deadline
  std::uint64_t repaired_claims = 0;  // aborted for the dead
};

// What named producers get back: kept by the scan as records pass.
struct ProducerMark {
  Sequence sequence;
  std::string bookmark;
};

// Of a delayed record. One that names no time is due at once.
core::Delay delay_of(Position position, std::span<const std::byte> trailer);
// Of a half. Nothing: its trailer does not say to which transaction it belongs.
std::optional<core::Half> half_of(Position position, const layout::RecordFields& fields,
                                  std::span<const std::byte> trailer);

class Scan {
 public:
  // What waits in a partition for its ref.
  struct Waiting {
    core::DelayQueue& delays;
    core::HalfTable& halves;
    HalfListener* listener = nullptr;
  };
  // Walks from `start` on, a segment's start or a record's. `waiting`: nothing for a volatile topic, which takes none.
  Scan(ring::SlotManager& slots, core::PartitionAudit& audit, std::optional<Waiting> waiting,
       const PartitionIdentity& identity, const Attached& attached, Position start);
  // The memory was another daemon's: aborts of the living below `until` may be its zombies. `segment`: of what lies
  // below the start in its segment.
  void adopt(Position until, log::SegmentTally segment);

  // Walks on, at most `records_max` looks, and no further once it has passed `bytes_max`. Returns how many records it
  // passed.
  std::uint64_t advance(std::uint64_t now_ns, std::uint64_t records_max, std::uint64_t bytes_max);
  Position start() const { return start_; }
  Position frontier() const { return frontier_; }
  // When the claim at the frontier expires (monotonic ns); 0: none is open there, or claims have no deadline.
  std::uint64_t claim_deadline_ns() const;
  bool halted_at_claim() const { return halted_since_ns_ != 0; }
  // The last call of advance() has met the end of the log.
  bool at_end() const { return at_end_; }
  ProducerId halted_at() const { return halted_word_.producer(); }

  // Aborts every open claim between the frontier and the end whose producer `is_gone`. Returns how many.
  // `zombie`: their owners live (a fence): the spans stay theirs until they unpin.
  std::uint32_t abort_claims(const std::function<bool(ProducerId)>& is_gone, bool zombie);
  // Walks from the frontier to `end` without changing anything, over other producers' open claims: the last sequence
  // and bookmark of one producer, starting from what was counted below the frontier.
  ProducerMark last_of(ProducerId producer, Position end) const;

  // Completes the aborts of zombies that lie in a private copy of [begin, begin + bytes.size()).
  void fix_zombies(Position begin, std::span<std::byte> bytes) const;
  bool has_zombies(Position begin, Position end) const;
  void forget_zombies_below(Position position);

  // The start of the lowest segment that refs of the segment at the frontier mean (daemon/log/references.h).
  Position referred_from() const;
  // Segments that are complete since the last call, in order.
  std::vector<log::SegmentSummary> take_summaries();
  // Records at and above `position` of this producer count as fenced.
  void add_fence(ProducerId producer, Position position) { fences_.emplace(producer, position); }
  std::optional<Position> fence_of(ProducerId producer) const {
    const auto fence = fences_.find(producer);
    return fence == fences_.end() ? std::nullopt : std::optional(fence->second);
  }
  // Restores the running time maximum after recovery.
  void set_time_max(std::uint64_t ns) { time_max_ns_ = ns; }
  std::uint64_t time_max_ns() const { return time_max_ns_; }
  // The last bookmark of each producer that sends any.
  const std::map<ProducerId, ProducerMark>& bookmarks() const { return bookmarks_; }
  // Of the refs that were met here.
  const core::OriginFloor& origins() const { return origins_; }
  void forget_origins_below(Position position) { origins_.forget_below(position); }
  void set_bookmark(ProducerId producer, ProducerMark mark) { bookmarks_[producer] = std::move(mark); }
  const ScanCounters& counters() const { return counters_; }

 private:
  struct Zombie {
    layout::ClaimWord word;  // final
    Sequence sequence;
    std::uint32_t segment_checksum;
  };

  enum class Look : std::uint8_t { passed, again, halted };

  ring::SegmentView view_at(Position position) const;
  Look look_at_frontier(const ring::SegmentView& segment, std::uint64_t now_ns);
  ring::ScanResult was_aborted_here(ring::RecordView& record, Position& next, ring::ScanResult seen) const;
  void move_frontier(Position record, Position next, const ring::SegmentView& segment);
  bool is_credible(const ring::RecordView& record);
  bool is_awaited(const ring::RecordView& ref);
  void note_half(const ring::RecordView& record);
  void on_record(const ring::RecordView& record);
  void on_skip(const ring::RecordView& record, const ring::SegmentView& segment, bool pad);
  void on_corrupt(const ring::RecordView& record, const ring::SegmentView& segment);
  bool close_chain(const ring::SegmentView& segment, Position position);
  bool on_claimed(const ring::RecordView& record, const ring::SegmentView& segment, std::uint64_t now_ns);
  bool abort_at(const ring::SegmentView& segment, Position position, layout::ClaimWord word, bool zombie);
  bool abort_claims_in(const ring::SegmentView& segment, Position at, const std::function<bool(ProducerId)>& is_gone,
                       bool zombie, std::uint32_t& aborted);
  void finish_segment(SegmentNumber segment);
  bool is_fenced(ProducerId producer, Position position) const;

  // Constant after construction.
  ring::SlotManager& slots_;
  core::PartitionAudit& audit_;
  const std::optional<Waiting> waiting_;
  const PartitionIdentity& identity_;
  const Attached& attached_;
  const std::uint64_t deadline_ns_;
  const bool verify_;
  const Position start_;

  Position frontier_;
  bool at_end_ = false;
  Position adopted_until_;
  std::uint64_t halted_since_ns_ = 0;  // first sight of the claim at the frontier; 0: not halted
  layout::ClaimWord halted_word_;
  std::map<Position, Zombie> zombies_;
  std::map<ProducerId, Position> fences_;
  std::map<ProducerId, ProducerMark> bookmarks_;
  core::OriginFloor origins_;
  log::SegmentTally segment_;  // up to the frontier
  std::uint64_t time_max_ns_ = 0;
  std::vector<log::SegmentSummary> summaries_;
  ScanCounters counters_;
};

}  // namespace sluice::spill
