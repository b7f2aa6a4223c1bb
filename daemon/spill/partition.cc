#include "daemon/spill/partition.h"

#include <algorithm>
#include <utility>

#include <spdlog/spdlog.h>

#include "daemon/log/references.h"
#include "shm/base/assert.h"
#include "shm/base/clock.h"
#include "shm/base/failpoint.h"
#include "shm/layout/trailer.h"
#include "shm/ring/membarrier.h"

namespace sluice::spill {
namespace {

// Of one partition in one turn: enough for one write, so that the disk is not idle while memory is worked through.
constexpr std::uint64_t kScanRecordsMax = 16384;
constexpr std::uint64_t kScanBytesMax = kWriteChunkSizeMax;
constexpr std::uint32_t kPrepareStepsMax = 4;
constexpr std::uint64_t kSegmentsAhead = 2;        // prepared above what is used
constexpr std::uint64_t kPinsLookNs = 50'000'000;  // producers wait for slots that pins hold: nobody says when they go
// From one note of a durable partition's counts to the next: what lies between is read again at a start.
constexpr std::uint64_t kNoteIntervalNs = 20'000'000;
// In a note; with more of them there is none before the next checkpoint.
constexpr std::size_t kLateHalvesNotedMax = 4096;
constexpr std::uint64_t kMemoryRetryNs = 100'000'000;  // producers wait for memory that was refused

ring::PartitionMemory with_start(const ring::PartitionMemory& memory) {
  const std::uint64_t start = memory.control->start_position;
  memory.control->prepared.store(start, std::memory_order_relaxed);
  memory.control->durable.store(start, std::memory_order_relaxed);
  memory.log->tail.store(start, std::memory_order_relaxed);
  return memory;
}

// Where the walk begins.
Position start_of(const ring::PartitionMemory& memory, const std::optional<KeptMemory>& kept) {
  return kept ? kept->resume : Position(memory.control->start_position);
}

// What is called durable from the beginning. What lies behind a failed write or sync can be read back, and that proves
// nothing: a partition that was poisoned stays where the daemon before had got.
Position durable_at_start(const ring::PartitionMemory& memory, const std::optional<KeptMemory>& kept) {
  const Position start = start_of(memory, kept);
  if (!kept || kept->poison.empty()) return start;
  return std::min(start, Position(memory.control->durable.load(std::memory_order_acquire)));
}

}  // namespace

Partition::Partition(const ring::PartitionMemory& memory, const core::TopicConfig& config, PartitionIdentity identity,
                     Environment environment, std::unique_ptr<log::PartitionLog> log, core::PartitionAudit audit,
                     PartitionOptions options, const std::optional<KeptMemory>& kept, Waiting waiting)
    : memory_(kept ? memory : with_start(memory)),
      identity_(std::move(identity)),
      environment_(environment),
      checkpoint_segments_(options.checkpoint_segments),
      visible_durable_(config.visibility == core::Visibility::durable),
      volatile_(config.durability == core::Durability::volatile_),
      sync_(config.durability == core::Durability::sync),
      overflow_(config.overflow),
      audit_(std::move(audit)),
      waiting_(std::move(waiting)),
      slots_(kept ? ring::SlotManager(memory_, *environment.pins, *environment.backing, identity_.topic,
                                      identity_.partition, identity_.incarnation, kept->slots)
                  : ring::SlotManager(memory_, *environment.pins, *environment.backing, identity_.topic,
                                      identity_.partition, identity_.incarnation)),
      log_(std::move(log)),
      scan_(
          slots_, audit_,
          volatile_ ? std::nullopt : std::optional(Scan::Waiting{waiting_.delays, waiting_.halves, environment.halves}),
          identity_, *environment.attached, start_of(memory_, kept)) {
  SLUICE_ASSERT(volatile_ == (log_ == nullptr));
  set_message_ttl(config.message_ttl_ns);
  if (log_) {
    const std::uint64_t interval = sync_ ? 0 : options.flush_interval_ns;
    writer_ = std::make_unique<Writer>(*environment.disk, *log_, slots_, scan_, identity_,
                                       WriterOptions{interval, interval == 0, options.token_base},
                                       durable_at_start(memory_, kept));
    memory_.control->trimmed.store(log_->earliest().value, std::memory_order_relaxed);
  }
  if (kept)
    adopt(*kept);
  else
    waiting_.delays.settle();
  prepare();
}

void Partition::adopt(const KeptMemory& kept) {
  scan_.adopt(slots_.prepared(), kept.last_segment);
  attach_point_ = tail() + kTailLagMax;  // what the last daemon has told is in the counts that were taken over
  if (writer_) {
    log_->set_durable(kept.resume);
    if (!kept.poison.empty()) writer_->poison(kept.poison, 0);
  }
  // It may have been closed for the stop of the last daemon. Who waits looks again, also for what is durable by now.
  close_gate(kept.poison.empty() ? layout::Gate::open : layout::Gate::poisoned);
}

Partition::~Partition() = default;

void Partition::set_message_ttl(std::uint64_t ttl_ns) {
  message_ttl_ns_ = ttl_ns;
  memory_.control->message_ttl_ns.store(ttl_ns, std::memory_order_relaxed);
}

WorkResult Partition::do_work(std::uint64_t now_ns) {
  WorkResult result;
  result.progressed |= scan(now_ns);
  if (writer_) {
    const bool was_poisoned = writer_->is_poisoned();
    if (waits_for_durable()) writer_->flush_now();
    result.progressed |= writer_->do_work(scan_.frontier(), now_ns);
    if (writer_->is_poisoned() && !was_poisoned) close_gate(layout::Gate::poisoned);
    result.urgent = sync_ && !everything_durable() && !writer_->is_poisoned();
  }
  if (slots_.release_unpinned() != 0) result.progressed = true;
  result.progressed |= retire();
  result.progressed |= prepare();
  result.progressed |= deliver_due(now_ns);
  for (const std::uint64_t deadline :
       {scan_.claim_deadline_ns(), writer_ ? writer_->deadline_ns() : 0, room_deadline_ns(now_ns), due_deadline_ns_})
    if (deadline != 0 && (result.deadline_ns == 0 || deadline < result.deadline_ns)) result.deadline_ns = deadline;
  return result;
}

// When to look again for room that comes back without an event; 0: there is enough for the largest record.
std::uint64_t Partition::room_deadline_ns(std::uint64_t now_ns) const {
  const Position used = std::max(scan_.frontier(), tail());
  if (slots_.prepared() >= used + slots_.lookahead()) return 0;
  if (!memory_error_.empty()) return now_ns + kMemoryRetryNs;
  return slots_.counts().limbo != 0 ? now_ns + kPinsLookNs : 0;
}

// The tail lags by kTailLagMax at most, which is less than one turn's records: a turn behind it covers that.
void Partition::catch_up(std::uint64_t now_ns) {
  const Position target = tail();
  while (scan_.frontier() < target && do_work(now_ns).progressed) {
  }
  do_work(now_ns);
}

bool Partition::scan(std::uint64_t now_ns) {
  const std::uint64_t passed = scan_.advance(now_ns, kScanRecordsMax, kScanBytesMax);
  if (passed == 0) return false;
  waiting_.delays.passed(scan_.frontier());
  waiting_.halves.passed(scan_.frontier());
  const std::vector<log::SegmentSummary> complete = scan_.take_summaries();
  // Before any of them may leave memory.
  if (!writer_ && !complete.empty()) note_now();
  if (writer_ && !complete.empty() && environment_.notes != nullptr && !pending_note_ &&
      now_ns - pending_note_at_ns_ >= kNoteIntervalNs) {
    if (waiting_.halves.late_count() > kLateHalvesNotedMax)
      note_checkpoint();
    else
      pending_note_ = note();
    pending_note_at_ns_ = now_ns;
  }
  for (const log::SegmentSummary& summary : complete) {
    if (!writer_) continue;
    summaries_.push_back(summary);
    if (++checkpoint_segment_ >= checkpoint_segments_) note_checkpoint();
  }
  return true;
}

void Partition::note_now() {
  if (environment_.notes != nullptr) environment_.notes->note(memory_.handle, note());
}

// The scan may have passed the segment's end by now: the checkpoint is of the frontier as it stands.
void Partition::note_checkpoint() {
  checkpoint_segment_ = 0;
  if (!pending_checkpoint_) pending_checkpoint_ = checkpoint_now();
}

Checkpoint Partition::checkpoint_now() const {
  Checkpoint checkpoint = note();
  checkpoint.delays = waiting_.delays.snapshot(checkpoint.upto);
  checkpoint.halves = waiting_.halves.snapshot();
  return checkpoint;
}

Checkpoint Partition::note() const {
  Checkpoint noted;
  noted.upto = scan_.frontier();
  noted.rows = audit_.rows();
  noted.bookmarks.assign(scan_.bookmarks().begin(), scan_.bookmarks().end());
  noted.delay_changes = waiting_.delays.changes();
  noted.delays_changed = waiting_.delays.changed_since_save();
  noted.half_changes = waiting_.halves.changes();
  noted.halves_changed = waiting_.halves.changed_since_save();
  noted.halves.decided = waiting_.halves.decided();
  noted.halves.late = waiting_.halves.late();
  return noted;
}

void Partition::request_checkpoint() {
  if (volatile_) return;
  note_checkpoint();
  release_checkpoint();
}

// What it says is durable by now. An attach told a new holder where the old one's last record stood, which may be above
// the frontier: with those records lost, the next holder must hear of less.
void Partition::release_checkpoint() {
  if (!pending_checkpoint_ || std::max(pending_checkpoint_->upto, attach_point_) > durable()) return;
  ready_checkpoint_ = std::exchange(pending_checkpoint_, std::nullopt);
}

std::optional<core::AuditRow> Partition::report(ProducerId producer, Sequence last) {
  std::optional<core::AuditRow> row = audit_.on_reported(producer, last);
  if (!row) return row;
  for (std::optional<Checkpoint>* checkpoint : {&pending_checkpoint_, &ready_checkpoint_, &pending_note_, &noted_}) {
    if (!*checkpoint) continue;
    std::erase_if((*checkpoint)->rows, [&](const core::AuditRow& other) { return other.producer == producer; });
    (*checkpoint)->rows.push_back(*row);
  }
  if (noted_) environment_.notes->note(memory_.handle, *noted_);
  return row;
}

std::optional<Checkpoint> Partition::take_checkpoint() { return std::exchange(ready_checkpoint_, std::nullopt); }

void Partition::on_completion(const io::Completion& completion, std::uint64_t now_ns) {
  SLUICE_ASSERT(writer_ != nullptr);
  const bool was_poisoned = writer_->is_poisoned();
  const bool moved = writer_->on_completion(completion, now_ns);
  if (writer_->is_poisoned() && !was_poisoned) close_gate(layout::Gate::poisoned);
  if (moved) publish_durable();
}

void Partition::publish_durable() {
  const Position durable = writer_->durable();
  log_->set_durable(durable);
  ring::DurableWait::publish(memory_, durable);
  if (visible_durable_) ring::Bell(memory_).published();  // behind the full fence of publish()
  SLUICE_FAILPOINT("spill.published");
  auto done = summaries_.begin();
  for (; done != summaries_.end() && memory_.start_of(done->segment.next()) <= durable; ++done) {
    if (auto added = log_->add_summary(*done); !added)
      spdlog::warn("index entry not written, it is rebuilt at the next start partition={} reason={}", identity_.name,
                   added.error().message());
  }
  summaries_.erase(summaries_.begin(), done);
  release_checkpoint();
  if (pending_note_ && pending_note_->upto <= durable) {
    noted_ = std::exchange(pending_note_, std::nullopt);
    environment_.notes->note(memory_.handle, *noted_);
  }
}

bool Partition::may_retire(SegmentNumber segment, bool slot_needed) const {
  const Position end = memory_.start_of(segment.next());
  if (scan_.frontier() < end) return false;
  if (writer_) return slot_needed && writer_->durable() >= end;
  if (overflow_ == core::Overflow::drop_oldest) return slot_needed;
  const std::optional<Position> readers = environment_.attached->reader_cursor_min(memory_.handle);
  return readers ? *readers >= end : slot_needed;
}

bool Partition::needs_slot() const { return slots_.counts().free == 0 && slots_.prepared() < prepare_target(); }

// A segment that is read and final would make room, once it is durable.
bool Partition::waits_for_durable() const {
  const Position end = memory_.start_of(slots_.first_ready().next());
  return needs_slot() && scan_.frontier() >= end && writer_->durable() < end;
}

bool Partition::retire() {
  bool retired = false;
  while (slots_.first_ready() < slots_.next_segment()) {
    const ring::SlotCounts counts = slots_.counts();
    const bool slot_needed = needs_slot();
    const SegmentNumber segment = slots_.first_ready();
    if (!may_retire(segment, slot_needed)) break;
    // A slot in limbo comes back by itself: one at a time is withdrawn for need.
    if (slot_needed && counts.limbo > 0 && counts.ready <= 2) break;
    const bool dropped = volatile_ && overflow_ == core::Overflow::drop_oldest && count_dropped(segment);
    slots_.retire_first();
    if (dropped) note_now();
    scan_.forget_zombies_below(memory_.start_of(segment.next()));
    retired = true;
  }
  return retired;
}

// What some attached reader has not read is dropped, and counted. With no reader nothing is missed. True if something
// may have been.
bool Partition::count_dropped(SegmentNumber segment) {
  const std::optional<Position> readers = environment_.attached->reader_cursor_min(memory_.handle);
  Position at = memory_.start_of(segment);
  if (!readers || *readers >= memory_.start_of(segment.next())) return false;
  ring::SegmentView view = ring::view_of(memory_, segment, slots_.slot_of(segment), false);
  ring::RecordView record;
  for (;;) {
    const ring::ScanResult result = ring::scan_record(view, at, record);
    if (result == ring::ScanResult::record) {
      if (record.position >= *readers) audit_.on_dropped(record.fields.claim.producer(), 1);
    } else if (result != ring::ScanResult::aborted && result != ring::ScanResult::pad &&
               result != ring::ScanResult::corrupt_record) {
      return true;
    }
  }
}

// Room for whole segments ahead of what is used: a record that a hostile length claims to reach so far is then seen
// whole, and a quick producer finds room without waiting.
Position Partition::prepare_target() const {
  const Position used = std::max(scan_.frontier(), tail());
  return used + kSegmentsAhead * memory_.segment_size() + kPrepareStepSize;
}

bool Partition::prepare() {
  bool prepared = false;
  for (std::uint32_t step = 0; step < kPrepareStepsMax && slots_.prepared() < prepare_target(); ++step) {
    if (!slots_.prepare_step(durable())) {
      const std::string error = slots_.error() ? std::string() : slots_.error().error().message();
      if (!error.empty() && memory_error_.empty())
        spdlog::error("no memory for the next segment, producers wait partition={} reason={}", identity_.name, error);
      memory_error_ = error;
      break;
    }
    memory_error_.clear();
    prepared = true;
  }
  return prepared;
}

bool Partition::waits_for_pins() const {
  const ring::SlotCounts counts = slots_.counts();
  return counts.free == 0 && counts.limbo > 0 && slots_.prepared() < prepare_target();
}

std::uint32_t Partition::sweep(const std::function<bool(ProducerId)>& is_gone) {
  const std::uint32_t aborted = scan_.abort_claims(is_gone, false);
  SLUICE_FAILPOINT("spill.swept");
  ring::Bell(memory_).ring_for_dead();
  return aborted;
}

// The entry stands in the table before the fence's position is known, and every producer has seen it (membarrier)
// before the fence record is appended. So a commit whose owner looked at the table before the entry stood was claimed
// below the fence, and its receipt holds; every later one finds the entry, waits for its position, and knows.
Result<FenceMark> Partition::fence(ProducerId old_id, ProducerId new_id) {
  if (const auto known = fence_marks_.find(old_id); known != fence_marks_.end()) return known->second;
  // One that stood before a restart: its asker was not answered.
  if (const auto stands = scan_.fence_of(old_id)) return finish_fence(old_id, *stands);
  layout::ControlRegion& control = *memory_.control;
  const std::uint32_t index = control.fence_count.load(std::memory_order_relaxed);
  if (index >= kFencesMax)
    return fail(ErrorCode::quota, "attaching a producer name again on " + identity_.name + ": its fence table holds " +
                                      std::to_string(kFencesMax) +
                                      " entries; wait until retention has passed older ones");
  control.fences[index].producer = old_id.value;
  control.fences[index].position.store(layout::kFencePending, std::memory_order_relaxed);
  // release: pairs with the acquire of readers and producers; publishes the entry.
  control.fence_count.store(index + 1, std::memory_order_release);
  ring::membarrier_all();
  auto position = append_fence(old_id, new_id);
  // Without a fence nothing of the old holder's is above it.
  const std::uint64_t stands = position ? position->value : layout::kFenceNone;
  control.fences[index].position.store(stands, std::memory_order_release);
  if (!position) {
    control.fence_count.store(index, std::memory_order_release);
    return fail(position.error());
  }
  scan_.add_fence(old_id, *position);
  return finish_fence(old_id, *position);
}

FenceMark Partition::finish_fence(ProducerId old_id, Position position) {
  scan_.abort_claims([&](ProducerId producer) { return producer == old_id; }, true);
  const FenceMark mark{position, scan_.last_of(old_id, position)};
  fence_marks_[old_id] = mark;
  return mark;
}

Result<Position> Partition::append_fence(ProducerId old_id, ProducerId new_id) {
  layout::TrailerBuilder trailer;
  trailer.fence({old_id, new_id, Sequence(0)});
  SLUICE_ASSIGN(const ring::Appended appended,
                append_record(ProducerId(0), Sequence(1), {{}, trailer.finish(), realtime_coarse_ns()},
                              layout::RecordKind::fence, "attaching a producer name again on "));
  return appended.position;
}

Result<ring::Appended> Partition::append_own(ProducerId producer, std::span<const std::byte> payload,
                                             std::span<const std::byte> trailer) {
  Sequence& next = own_sequences_.try_emplace(producer, Sequence(1)).first->second;
  SLUICE_ASSIGN(const ring::Appended appended,
                append_record(producer, next, {payload, trailer, realtime_coarse_ns()}, layout::RecordKind::data,
                              "appending a message of the daemon's own to "));
  next = appended.sequence.next();
  return appended;
}

Result<ring::Appended> Partition::append_record(ProducerId producer, Sequence sequence, const ring::Content& content,
                                                layout::RecordKind kind, std::string_view doing) {
  ring::Appender appender(memory_, producer, own_pin_, true, sequence);
  ring::Appended appended;
  ring::AppendResult result = ring::AppendResult::no_room;
  for (std::uint32_t step = 0; step <= kPrepareStepsMax && result == ring::AppendResult::no_room; ++step) {
    result = appender.append(content, appended, kind);
    if (result == ring::AppendResult::no_room) {
      retire();
      prepare();
    }
  }
  const std::string what = std::string(doing) + identity_.name;
  switch (result) {
    case ring::AppendResult::ok: return appended;
    case ring::AppendResult::gate_closed: return fail(ErrorCode::io, what + ": " + reason());
    case ring::AppendResult::too_large:
      return fail(ErrorCode::too_large, what + ": it takes more than the topic allows for one message");
    case ring::AppendResult::no_room:
    case ring::AppendResult::claim_expired: break;
  }
  return fail(ErrorCode::would_block, what + ": the ring is full; try again");
}

std::optional<ring::SegmentView> Partition::memory_view(SegmentNumber segment) const {
  if (!slots_.is_ready(segment)) return std::nullopt;
  const bool verify = (memory_.control->flags & layout::kTopicFlagChecksums) != 0;
  ring::SegmentView view = ring::view_of(memory_, segment, slots_.slot_of(segment), verify);
  view.checksum = slots_.segment_checksum(segment);  // the one in memory can be written by producers
  return view;
}

Result<std::uint64_t> Partition::records_between(SegmentNumber first, SegmentNumber last) const {
  SLUICE_ASSIGN(std::uint64_t records, log_->records_between(first, last));
  for (const log::SegmentSummary& summary : summaries_)
    if (summary.segment >= first && summary.segment < last) records += summary.records;
  return records;
}

void Partition::attach_name(ProducerId producer, const std::string& name, ProducerMark mark) {
  audit_.on_attach(producer, name, mark.sequence.next());
  if (mark.sequence.value != 0) attach_point_ = std::max(attach_point_, tail() + kTailLagMax);
  if (!mark.bookmark.empty()) scan_.set_bookmark(producer, std::move(mark));
}

void Partition::adopt_name(ProducerId producer, const std::string& name, ProducerId before) {
  const auto fence = scan_.fence_of(before);
  if (fence && *fence <= scan_.frontier()) return;  // recovery has read all that stands of it
  attach_name(producer, name, scan_.last_of(before, fence.value_or(slots_.prepared())));
}

void Partition::restore(const std::map<ProducerId, ProducerMark>& bookmarks, std::uint64_t time_max_ns) {
  for (const auto& [producer, mark] : bookmarks) scan_.set_bookmark(producer, mark);
  scan_.set_time_max(time_max_ns);
}

void Partition::restore_fence(ProducerId producer, Position position) {
  scan_.add_fence(producer, position);
  layout::ControlRegion& control = *memory_.control;
  const std::uint32_t index = control.fence_count.load(std::memory_order_relaxed);
  if (index >= kFencesMax) return;  // its records were counted as fenced; readers of old files would see them
  control.fences[index].producer = producer.value;
  control.fences[index].position.store(position.value, std::memory_order_relaxed);
  control.fence_count.store(index + 1, std::memory_order_release);
}

std::vector<std::pair<ProducerId, Position>> Partition::adopt_fences() {
  std::vector<std::pair<ProducerId, Position>> standing;
  layout::ControlRegion& control = *memory_.control;
  const std::uint32_t count = std::min(control.fence_count.load(std::memory_order_acquire), kFencesMax);
  for (std::uint32_t i = 0; i < count; ++i) {
    const ProducerId old_id(control.fences[i].producer);
    std::uint64_t position = control.fences[i].position.load(std::memory_order_acquire);
    if (position == layout::kFencePending) {
      position = find_fence(old_id).value_or(Position(layout::kFenceNone)).value;
      control.fences[i].position.store(position, std::memory_order_release);
      ring::Bell(memory_).published();  // readers wait until it is known
    }
    if (position == layout::kFenceNone) continue;
    scan_.add_fence(old_id, Position(position));
    standing.emplace_back(old_id, Position(position));
  }
  return standing;
}

// The record of a fence, above what is on disk: the daemon's own, so it is followed from where this one resumes.
std::optional<Position> Partition::find_fence(ProducerId old_id) const {
  Position at = scan_.frontier();
  while (slots_.is_ready(memory_.segment_of(at))) {
    const ring::SegmentView view =
        ring::view_of(memory_, memory_.segment_of(at), slots_.slot_of(memory_.segment_of(at)), true);
    ring::RecordView record;
    for (bool on = true; on && at < view.end;) {
      switch (ring::scan_record(view, at, record)) {
        case ring::ScanResult::record: {
          if (record.fields.claim.kind() != layout::RecordKind::fence) break;
          const auto fence = layout::as_fence(layout::find_entry(record.trailer, layout::TrailerType::fence));
          if (fence && fence->old_id == old_id) return record.position;
          break;
        }
        case ring::ScanResult::claimed: at = at + record.fields.claim.span_size(); break;
        case ring::ScanResult::aborted:
        case ring::ScanResult::pad:
        case ring::ScanResult::corrupt_record: break;
        case ring::ScanResult::segment_end: on = false; break;
        case ring::ScanResult::free:
        case ring::ScanResult::limit:
        case ring::ScanResult::broken_chain: return std::nullopt;
      }
    }
    at = view.end;
  }
  return std::nullopt;
}

// To the end of the chain, not to the tail: that is moved late.
ProducerMark Partition::last_of(ProducerId producer) const {
  // What it sent above its fence does not stand.
  if (const auto fenced = fence_marks_.find(producer); fenced != fence_marks_.end()) return fenced->second.mark;
  return scan_.last_of(producer, slots_.prepared());
}

void Partition::close_gate(layout::Gate gate) {
  // release: pairs with the acquire in Appender::claim_span and DurableWait::wait.
  memory_.control->gate.store(static_cast<std::uint32_t>(gate), std::memory_order_release);
  // Everybody who waits looks again: the fence inside orders the gate before the flags.
  ring::DurableWait::publish(memory_, durable());
  ring::Bell(memory_).published();
}

layout::Gate Partition::gate() const {
  return static_cast<layout::Gate>(memory_.control->gate.load(std::memory_order_relaxed));
}

std::string Partition::reason() const {
  if (writer_ && writer_->is_poisoned()) return writer_->poison();
  if (writer_ && !writer_->obstacle().empty()) return writer_->obstacle();
  return memory_error_;
}

void Partition::release_log() {
  SLUICE_ASSERT(writer_ != nullptr && writer_->is_poisoned() && writer_->is_idle());
  log_.reset();
}

void Partition::flush_now() {
  if (writer_) writer_->flush_now();
}

bool Partition::everything_durable() const { return !writer_ || writer_->durable() >= scan_.frontier(); }

Position Partition::durable() const { return writer_ ? writer_->durable() : Position(memory_.control->start_position); }

Position Partition::memory_start() const { return memory_.start_of(slots_.first_ready()); }

Position Partition::earliest() const { return log_ ? std::min(log_->earliest(), memory_start()) : memory_start(); }

// As the producers say, within what can be true.
Position Partition::tail() const {
  const Position said(memory_.log->tail.load(std::memory_order_acquire));
  return std::clamp(said, scan_.frontier(), std::max(scan_.frontier(), slots_.prepared()));
}

Status Partition::retain(log::RetentionLimits limits, std::uint64_t wall_ns, Position keep_from) {
  if (!log_) return {};
  const auto need = [&](Position from) { limits.needed_from = std::min(limits.needed_from, from); };
  need(waiting_.delays.oldest().value_or(log::kRefersToNothing));
  need(waiting_.halves.oldest().value_or(log::kRefersToNothing));
  // Of the newest segments the log knows nothing yet.
  need(log::referred_from(summaries_, memory_.segment_size()));
  need(scan_.referred_from());
  auto trimmed = log_->retain(limits, wall_ns, std::min(durable(), keep_from));
  if (!trimmed) return fail(trimmed.error());
  if (trimmed->files == 0) return {};
  memory_.control->trimmed.store(trimmed->trimmed.value, std::memory_order_release);
  scan_.forget_origins_below(trimmed->trimmed);
  spdlog::info("log files removed by retention partition={} files={} records={} trimmed={}", identity_.name,
               trimmed->files, trimmed->records, trimmed->trimmed.value);
  return {};
}

}  // namespace sluice::spill
