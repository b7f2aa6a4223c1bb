// One partition in the daemon: scan → write → sync → publish → retire → prepare → deliver what is due or committed,
// over its shared memory and its log.
//
// Owner: the bus thread. Nothing here waits: do_work() does what can be done now and says when it wants to be called
// again; disk completions come through on_completion().
//
// Watermarks, each of which only grows:  trimmed ≤ durable ≤ written ≤ frontier ≤ tail ≤ prepared   (volatile topics
// have no durable and written). A segment may leave memory when it lies below the frontier and
//   durable topics            below durable
//   volatile, block           below every attached reader's cursor (with no reader: when its slot is needed)
//   volatile, drop-oldest     when its slot is needed
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "daemon/core/audit.h"
#include "daemon/core/delay_queue.h"
#include "daemon/core/half_table.h"
#include "daemon/core/topic.h"
#include "daemon/log/partition_log.h"
#include "daemon/spill/environment.h"
#include "daemon/spill/scan.h"
#include "daemon/spill/writer.h"
#include "shm/ring/appender.h"
#include "shm/ring/kept_slots.h"
#include "shm/ring/slot_manager.h"

namespace sluice::spill {

// Memory that outlived the daemon that made it, and where to go on in it.
struct KeptMemory {
  ring::KeptSlots slots;
  Position resume;                 // durable topics: the recovered end; volatile ones: where `audit` was taken
  log::SegmentTally last_segment;  // of what lies below it in its segment
  std::string poison;              // why it had been poisoned; empty: it was not
};

struct PartitionOptions {
  std::uint64_t flush_interval_ns = kFlushIntervalNsDefault;
  std::uint64_t token_base = 0;            // see WriterOptions
  std::uint64_t checkpoint_segments = 64;  // audit checkpoints: one in so many segments
};

struct WorkResult {
  bool progressed = false;
  bool urgent = false;            // a sync topic has messages that are not durable: their senders wait
  std::uint64_t deadline_ns = 0;  // monotonic; 0: nothing until something happens
};

// A checkpoint of the audit, taken where a log file ends: saved by the bus once it is durable.
struct Checkpoint {
  Position upto;
  std::vector<core::AuditRow> rows;
  std::vector<std::pair<ProducerId, ProducerMark>> bookmarks;
  core::DelaySnapshot delays;       // not in a note: there may be many
  std::uint64_t delay_changes = 0;  // core::DelayQueue::changes()
  bool delays_changed = false;      // since those that the store has
  core::HalfSnapshot halves;        // in a note: `decided` and `late` alone
  std::uint64_t half_changes = 0;   // core::HalfTable::changes()
  bool halves_changed = false;      // since those that the store has
};

// A fence that stands: where, and what the old holder had sent below it.
struct FenceMark {
  Position position;
  ProducerMark mark;
};

class Partition {
 public:
  struct Waiting {
    core::DelayQueue delays;
    core::HalfTable halves;
  };
  // `memory` is initialised (control's constants written, everything else zero) unless it was `kept`; `log` is null for
  // a volatile topic; `audit` and `waiting` hold what recovery counted and found waiting.
  Partition(const ring::PartitionMemory& memory, const core::TopicConfig& config, PartitionIdentity identity,
            Environment environment, std::unique_ptr<log::PartitionLog> log, core::PartitionAudit audit,
            PartitionOptions options, const std::optional<KeptMemory>& kept = {}, Waiting waiting = {});
  ~Partition();

  WorkResult do_work(std::uint64_t now_ns);
  void on_completion(const io::Completion& completion, std::uint64_t now_ns);
  // Works until all that was committed before the call is below the frontier, but for what an open claim holds up.
  void catch_up(std::uint64_t now_ns);

  // After a client's proven death, before its pins are cleared and its ids forgotten: aborts its open claims. Returns
  // how many. Rings the bell in any case: it may have died between commit and wake.
  std::uint32_t sweep(const std::function<bool(ProducerId)>& is_gone);
  // A new holder of a producer name while the old one lives: fences the old one, aborts its open claims, and answers
  // what stands. would_block when there is no room for the fence record now; called again it does not fence twice.
  Result<FenceMark> fence(ProducerId old_id, ProducerId new_id);
  // What stands for a producer that nobody needs to fence.
  ProducerMark last_of(ProducerId producer) const;
  // The new holder's sequences and bookmark go on from `mark`.
  void attach_name(ProducerId producer, const std::string& name, ProducerMark mark);
  // After recovery, before the first do_work().
  void restore(const std::map<ProducerId, ProducerMark>& bookmarks, std::uint64_t time_max_ns);
  void restore_fence(ProducerId producer, Position position);
  // Of kept memory: takes over the fences that stand in its table, and answers them. One that was asked for and not
  // appended is withdrawn: nobody was told of it.
  std::vector<std::pair<ProducerId, Position>> adopt_fences();
  // Of kept memory, then, by ascending id: a holder of a name of which nothing is counted yet goes on from the one
  // before it, whose last records may lie above what recovery has read.
  void adopt_name(ProducerId producer, const std::string& name, ProducerId before);

  // ---- gate
  void close_gate(layout::Gate gate);
  layout::Gate gate() const;
  // Why it is poisoned, or what is in the way; empty if nothing is.
  std::string reason() const;
  // Ask for a sync now, not at the flush interval (stop, tests).
  void flush_now();
  // Nothing is in flight; with everything_durable(): all that is final is on stable storage.
  bool is_idle() const { return !writer_ || writer_->is_idle(); }
  bool everything_durable() const;
  bool has_open_claims() const { return scan_.halted_at_claim(); }

  // ---- state
  bool is_volatile() const { return volatile_; }
  Position frontier() const { return scan_.frontier(); }
  Position durable() const;
  Position earliest() const;
  Position memory_start() const;
  Position tail() const;
  const ScanCounters& counters() const { return scan_.counters(); }
  // No slot is free, and some that could be are held by pins.
  bool waits_for_pins() const;
  ring::SlotCounts slot_counts() const { return slots_.counts(); }
  std::uint64_t backed_bytes() const { return slots_.backed_bytes(); }
  const ring::PartitionMemory& memory() const { return memory_; }
  const PartitionIdentity& identity() const { return identity_; }
  core::PartitionAudit& audit() { return audit_; }
  const core::DelayQueue& delays() const { return waiting_.delays; }
  const core::HalfTable& halves() const { return waiting_.halves; }
  // The lowest position of a message that is delivered at or behind `from` (a ref delivers one from below it), at most
  // `from` itself. Of refs that a daemon before has appended, the start of the segment that they mean.
  Position lowest_origin(Position from);
  // A decision that the store has (core::HalfTable). False: no open half stands there.
  bool decide(Position half, bool commit, std::uint64_t order);
  log::PartitionLog* log() { return log_.get(); }
  // Consumers see nothing that is not durable.
  bool is_visible_durable() const { return visible_durable_; }
  bool is_fenced(ProducerId producer, Position position) const {
    const auto fence = scan_.fence_of(producer);
    return fence && position >= *fence;
  }
  // A segment that is in memory, for this thread to read while nothing else of the partition is called.
  std::optional<ring::SegmentView> memory_view(SegmentNumber segment) const;
  // Committed records of the complete segments [first, last). Not of volatile ones: nobody sums those up.
  Result<std::uint64_t> records_between(SegmentNumber first, SegmentNumber last) const;
  ProducerId halted_at() const { return scan_.halted_at(); }
  // The daemon's own message, of a producer that is its own. would_block: no room now; io (the gate is closed);
  // too_large.
  Result<ring::Appended> append_own(ProducerId producer, std::span<const std::byte> payload,
                                    std::span<const std::byte> trailer);
  // Lets the log go, with its files and their locks, so that it can be opened anew. The partition must be poisoned and
  // idle; nothing comes of it any more but what is in memory.
  void release_log();

  // Checkpoints that have become durable since the last call, the newest only. saved() once the store has it.
  std::optional<Checkpoint> take_checkpoint();
  void saved(const Checkpoint& checkpoint) {
    waiting_.delays.saved(checkpoint.upto, checkpoint.delay_changes);
    waiting_.halves.saved(checkpoint.half_changes);
  }
  // One of everything below the frontier, which must be durable: at a clean stop.
  Checkpoint checkpoint_now() const;
  // What a client of lost memory says it had claimed. No record tells it: the row is the caller's to save, and is in
  // the checkpoints that are under way.
  std::optional<core::AuditRow> report(ProducerId producer, Sequence last);
  // A checkpoint is taken now, and ready as soon as all below the frontier is durable.
  void request_checkpoint();
  // Applies retention to what lies below `keep_from`, is durable, does not wait for its time, and is not what a younger
  // ref means; publishes `trimmed`.
  Status retain(log::RetentionLimits limits, std::uint64_t wall_ns, Position keep_from);
  void set_overflow(core::Overflow overflow) { overflow_ = overflow; }
  // Holds at once for whoever reads, also for what was sent before.
  void set_message_ttl(std::uint64_t ttl_ns);
  std::uint64_t message_ttl_ns() const { return message_ttl_ns_; }

 private:
  bool scan(std::uint64_t now_ns);
  bool needs_slot() const;
  bool waits_for_durable() const;
  bool retire();
  bool may_retire(SegmentNumber segment, bool slot_needed) const;
  bool count_dropped(SegmentNumber segment);
  void note_now();
  Checkpoint note() const;
  bool settle_waiting();
  bool deliver_due(std::uint64_t now_ns);
  bool deliver_committed(std::uint64_t now_ns);
  ring::AppendResult append_ref(Position reference, std::uint64_t wall_ns, Position& ref);
  bool prepare();
  Position prepare_target() const;
  std::uint64_t room_deadline_ns(std::uint64_t now_ns) const;
  Result<Position> append_fence(ProducerId old_id, ProducerId new_id);
  Result<ring::Appended> append_record(ProducerId producer, Sequence sequence, const ring::Content& content,
                                       layout::RecordKind kind, std::string_view doing);
  FenceMark finish_fence(ProducerId old_id, Position position);
  void adopt(const KeptMemory& kept);
  std::optional<Position> find_fence(ProducerId old_id) const;
  void publish_durable();
  void note_checkpoint();
  void release_checkpoint();

  // Constant after construction.
  const ring::PartitionMemory memory_;
  const PartitionIdentity identity_;
  const Environment environment_;
  const std::uint64_t checkpoint_segments_;
  const bool visible_durable_;
  const bool volatile_;
  const bool sync_;
  // Owned by the bus thread.
  core::Overflow overflow_;
  std::uint64_t message_ttl_ns_ = 0;
  core::PartitionAudit audit_;
  Waiting waiting_;
  ring::SlotManager slots_;
  std::unique_ptr<log::PartitionLog> log_;
  Scan scan_;
  std::map<ProducerId, FenceMark> fence_marks_;  // of this life: a fence asked for again answers the same
  std::unique_ptr<Writer> writer_;               // null for volatile topics
  std::vector<log::SegmentSummary> summaries_;   // scanned, not durable yet
  std::optional<Checkpoint> pending_checkpoint_;
  std::optional<Checkpoint> ready_checkpoint_;
  Position attach_point_;                         // above all that a producer was told of when it attached under a name
  std::optional<Checkpoint> pending_note_;        // for AuditNotes: not durable yet
  std::uint64_t pending_note_at_ns_ = 0;          // when it was taken
  std::optional<Checkpoint> noted_;               // the last one
  std::uint64_t checkpoint_segment_ = 0;          // segments since the last one
  std::atomic<std::uint64_t> own_pin_{0};         // for the daemon's own records; nobody needs to see it
  std::map<ProducerId, Sequence> own_sequences_;  // of append_own(): the next one
  std::optional<ring::Appender> ref_appender_;
  std::uint64_t due_deadline_ns_ = 0;  // monotonic: when deliver_due() has work again
  std::string memory_error_;
};

}  // namespace sluice::spill
