#include "sdk/partition_stream.h"

#include <algorithm>
#include <utility>

#include "shm/base/clock.h"
#include "shm/base/limits.h"
#include "shm/layout/expiry.h"
#include "shm/layout/trailer.h"

namespace sluice::internal {
namespace {

// Records passed over in one call before the other partitions get their turn.
constexpr std::uint32_t kPassedMax = 1024;
// Where what we wait for rings no bell: a chain's repair, a position between memory and file.
constexpr std::uint64_t kLookAgainNs = 2'000'000;

std::string name_of(std::string_view topic, PartitionNumber partition) {
  return std::string(topic) + '/' + std::to_string(partition);
}

}  // namespace

PartitionStream::PartitionStream(StreamContext& context, std::string_view topic, PartitionMapsPtr maps,
                                 CursorLease cursor, const PartitionRange& range)
    : context_(context),
      topic_(topic),
      partition_(maps->partition()),
      earliest_(range.earliest),
      initial_end_(range.end),
      memory_(std::move(maps)),
      file_(memory_.maps()->topic(), partition_, memory_.memory().segment_shift, name_of(topic, partition_)),
      references_(context.link, context.pool, memory_.maps()->topic(), partition_, memory_.memory().segment_shift,
                  name_of(topic, partition_)),
      cursor_(std::move(cursor)),
      position_(range.end) {}

PartitionStream::~PartitionStream() { drop_hold(); }

void PartitionStream::release_cursor() {
  if (cursor_) cursor_.cell().store(~std::uint64_t{0}, std::memory_order_release);
}

void PartitionStream::keep_cursor_cell() { cursor_.keep_cell(); }

Status PartitionStream::start(const From& from) {
  switch (from.kind) {
    case From::Kind::latest: position_ = initial_end_; break;
    case From::Kind::earliest: position_ = earliest_; break;
    case From::Kind::position:
      if (from.partition == partition_)
        seek(from.at);
      else
        position_ = earliest_;
      break;
    case From::Kind::time: {
      SLUICE_ASSIGN(position_, context_.link.seek_time(memory_.maps()->topic(), partition_, from.time_ns));
      time_from_ns_ = from.time_ns;
      break;
    }
  }
  rest(true);
  return {};
}

void PartitionStream::seek(Position at) {
  drop_hold();
  references_.rest();
  snap_to_ = at;
  position_ = memory_.memory().start_of(memory_.memory().segment_of(at));
  snapping_ = at > position_ + layout::kSegmentHeaderSize;
  time_from_ns_ = 0;
  broken_at_.reset();
  mend_asked_.reset();
  mending_ = false;
  continuity_.clear();
  if (cursor_) cursor_.cell().store(at.value, std::memory_order_release);
}

Look PartitionStream::exact(Position at, ring::RecordView& record) {
  if (exact_ != at) {
    broken_at_.reset();
    mend_asked_.reset();
    mending_ = false;
  }
  // In a file, bytes below the position may not have been read in.
  const bool in_view = at >= view_.start + layout::kSegmentHeaderSize && at < view_.limit;
  if (!in_view || (source_ == Source::file && at < position_)) source_ = Source::none;
  exact_ = position_ = at;
  return next(record);
}

Status PartitionStream::reattach(PartitionMapsPtr maps, CursorLease cursor) {
  if (maps->topic() != memory_.maps()->topic() || maps->memory().segment_shift != memory_.memory().segment_shift)
    return fail(ErrorCode::closed,
                "reading " + name_of(topic_, partition_) +
                    ": the topic was deleted while the daemon was away, and made anew; open it again");
  drop_hold();
  file_.close();
  references_.close();
  memory_ = MemorySource(std::move(maps));
  cursor_ = std::move(cursor);
  broken_at_.reset();
  fences_.clear();
  fences_seen_ = 0;
  rest(true);
  return {};
}

void PartitionStream::drop_hold() {
  source_ = Source::none;
  release(std::exchange(hold_, nullptr));
}

void PartitionStream::rest(bool unpin) {
  if (unpin) {
    drop_hold();
    references_.rest();
  }
  // release: our reads below the position come before the slot's reuse; pairs with the daemon's acquire.
  if (cursor_) cursor_.cell().store(snapping_ ? snap_to_.value : position_.value, std::memory_order_release);
}

bool PartitionStream::is_quiet() const { return source_ == Source::none && memory_.is_quiet(position_); }

// ---- walking ----

Look PartitionStream::next(ring::RecordView& record) {
  by_reference_ = false;
  halted_at_claim_ = false;
  look_again_soon_ = false;
  for (std::uint32_t passed = 0; passed < kPassedMax; ++passed) {
    if (source_ == Source::none) {
      const Look placed = place();
      if (placed != Look::more) return placed;
      continue;  // where it only moved on, or found the file, view_ is still the last segment's, which nothing holds
    }
    const ring::ScanResult result = ring::scan_record(view_, position_, record);
    if (snapping_) [[unlikely]] {
      const bool moved = result <= ring::ScanResult::corrupt_record;
      if (position_ >= snap_to_) {
        snapping_ = false;
        view_.verify = verify_;
      }
      if (moved && record.position < snap_to_) continue;
    }
    switch (result) {
      case ring::ScanResult::record: {
        const Verdict verdict = accept(record);
        if (verdict == Verdict::deliver) [[likely]]
          return Look::record;
        if (verdict == Verdict::pass_over) {
          if (exact_) return Look::nothing;  // what stands behind it is not asked for
          break;
        }
        position_ = record.position;  // it comes again
        if (verdict == Verdict::failed) return Look::failed;
        look_again_soon_ = true;
        return Look::nothing;
      }
      case ring::ScanResult::aborted: continuity_.on_abort(record.fields.claim.producer()); break;
      case ring::ScanResult::pad: break;
      case ring::ScanResult::corrupt_record:
        if (have_mended(record.position)) break;
        report_corrupt(record.position, record.fields.claim.producer(),
                       "its checksum or sizes are wrong; the record is passed over");
        break;
      case ring::ScanResult::segment_end: leave_segment(); break;
      case ring::ScanResult::limit: {
        const Look look = at_limit();
        if (look != Look::more) return look;
        break;
      }
      case ring::ScanResult::free:
      case ring::ScanResult::claimed:
      case ring::ScanResult::broken_chain: {
        const Look look = halted(result, record);
        if (look != Look::more) return look;
        break;
      }
    }
  }
  return Look::more;
}

Look PartitionStream::halted(ring::ScanResult result, const ring::RecordView& record) {
  if (source_ == Source::file) {
    if (have_mended(position_)) return Look::more;
    // Below the data end there are final records only: what else stands here was damaged after it was written.
    if (broken_at_ != position_)
      report_corrupt(position_, record.fields.claim.producer(),
                     "no record can be read here; the rest of its segment is passed over");
    position_ = view_.end;
    leave_segment();
    return Look::more;
  }
  if (result == ring::ScanResult::free) return Look::nothing;
  memory_.bell().nudge_daemon();  // it counts a claim's deadline, and sees a death, from its first look
  if (result == ring::ScanResult::claimed) {
    halted_at_claim_ = true;
    return Look::nothing;
  }
  look_again_soon_ = true;
  source_ = Source::none;  // the segment may be withdrawn from memory as it is: look it up again each time
  if (broken_at_ != position_) {
    broken_at_ = position_;
    report_corrupt(position_, record.fields.claim.producer(),
                   "its length is impossible; waiting until the daemon has closed the damaged part");
  }
  return Look::nothing;
}

Look PartitionStream::at_limit() {
  if (source_ == Source::memory) return memory_.extend(view_) ? Look::more : Look::nothing;
  auto extended = file_.extend(position_, view_);
  if (!extended) return have_mended(position_) ? Look::more : fail_with(extended.error());
  if (*extended) return Look::more;
  // The data's end in this file: memory has what follows, or the file has grown, or something else comes after it. A
  // record that reaches above the end is not durable yet.
  const bool record_cut = file_.covers(position_);
  source_ = Source::none;
  if (!record_cut) return Look::more;
  file_.close();
  look_again_soon_ = true;
  return Look::nothing;
}

void PartitionStream::leave_segment() {
  if (source_ == Source::memory) memory_.bell().call_daemon();  // the segment may be retired
  source_ = Source::none;
  references_.rest();
  rest(false);
}

// ---- finding the bytes ----

Status PartitionStream::take_hold(bool in_memory) {
  const auto& session = memory_.maps()->session();
  const bool usable = hold_ != nullptr && hold_->references.load(std::memory_order_acquire) == 1 &&
                      (!in_memory || (hold_->pin && hold_->pin.memory() == session));
  if (!usable) {
    drop_hold();
    SLUICE_ASSIGN(hold_, context_.pool.take(in_memory ? session : nullptr));
  }
  if (!in_memory && hold_->pin) hold_->pin.cell().store(0, std::memory_order_release);
  hold_->memory.reset();
  hold_->file.reset();
  return {};
}

Look PartitionStream::place() {
  if (const Status taken = take_hold(true); !taken) return fail_with(taken.error());
  switch (memory_.enter(position_, hold_->pin.cell(), view_)) {
    case ring::Presence::here: break;
    case ring::Presence::not_yet: drop_hold(); return Look::nothing;
    case ring::Presence::gone: return place_in_file();
  }
  hold_->memory = memory_.maps();
  source_ = Source::memory;
  verify_ = view_.verify;
  view_.verify = verify_ && !snapping_;
  return Look::more;
}

Look PartitionStream::place_in_file() {
  if (file_.covers(position_)) return enter_file();
  // Nobody to ask (the reader waits for the daemon), or asked a moment ago.
  if (!BusLink::online(context_.link.word()) || monotonic_coarse_ns() < locate_after_ns_) {
    look_again_soon_ = true;
    drop_hold();
    return Look::nothing;
  }
  return locate();
}

Look PartitionStream::enter_file() {
  if (const Status taken = take_hold(false); !taken) return fail_with(taken.error());
  layout::SegmentCheck check = layout::SegmentCheck::ok;
  if (const Status entered = file_.enter(position_, view_, check); !entered)
    return have_mended(position_) ? Look::more : fail_with(entered.error());
  if (check == layout::SegmentCheck::newer_version)
    return fail_with(
        Error(ErrorCode::version, "reading " + name_of(topic_, partition_) + "@" + std::to_string(position_.value) +
                                      ": its segment has a newer format than this build knows; update it"));
  if (check != layout::SegmentCheck::ok) {
    if (have_mended(position_)) return Look::more;
    report_corrupt(position_, ProducerId(0), "its segment header is damaged; the segment is passed over");
    jump(view_.end);
    return Look::more;
  }
  hold_->file = file_.map();
  source_ = Source::file;
  verify_ = view_.verify;
  view_.verify = verify_ && !snapping_;
  return Look::more;
}

Look PartitionStream::locate() {
  auto answer = context_.link.locate(memory_.maps()->topic(), partition_, position_, mending_);
  if (!answer) return fail_with(answer.error());
  const bool was_mending = mending_;
  mending_ = mending_ && answer->kind == LocateAnswer::Kind::above;
  look_again_soon_ = true;  // unless something below moves us on
  switch (answer->kind) {
    case LocateAnswer::Kind::file:
      if (position_ < answer->base || position_ >= answer->data_end) break;
      if (const Status opened = file_.open(std::move(*answer)); !opened) return fail_with(opened.error());
      return file_.covers(position_) ? Look::more : Look::nothing;
    case LocateAnswer::Kind::skip:
      if (answer->position <= position_) break;
      if (was_mending)
        report_corrupt(position_, ProducerId(0),
                       "it is damaged on every copy; passed over up to " + std::to_string(answer->position.value));
      jump(answer->position);
      return Look::more;
    case LocateAnswer::Kind::trimmed:
      if (answer->position <= position_) break;
      // Retention has taken these, or the topic drops its oldest: no loss of ours. Producers' rows start anew behind
      // it.
      if (!exact_) context_.counters.expired_bytes += answer->position - position_;
      continuity_.clear();
      jump(answer->position);
      return Look::more;
    case LocateAnswer::Kind::above: break;  // on its way from memory to the file
  }
  locate_after_ns_ = monotonic_coarse_ns() + kLookAgainNs;
  drop_hold();
  return Look::nothing;
}

// What stands at `at` in a log file does not hold. The daemon is asked once to see to it, who may have it on another
// copy. True: it goes on there when that is done; false: it was done already.
bool PartitionStream::have_mended(Position at) {
  if (!file_.covers(at) || source_ == Source::memory || mend_asked_ == at) return false;
  mend_asked_ = position_ = at;
  mending_ = true;
  source_ = Source::none;
  file_.close();
  return true;
}

void PartitionStream::jump(Position to) {
  source_ = Source::none;
  position_ = to;
  if (position_ >= snap_to_) snapping_ = false;
}

// ---- judging a record ----

PartitionStream::Verdict PartitionStream::accept(ring::RecordView& record) {
  switch (record.fields.claim.kind()) {
    case layout::RecordKind::data:
    case layout::RecordKind::half:
    case layout::RecordKind::delayed: break;
    case layout::RecordKind::ref: return follow_reference(record);
    case layout::RecordKind::fence:
    case layout::RecordKind::pad: return Verdict::pass_over;  // the daemon's own
  }
  if (exact_) return has_expired(record.trailer, record.fields.time_ns) ? Verdict::pass_over : Verdict::deliver;
  switch (fence_of(record)) {
    case Fenced::no: break;
    case Fenced::yes: continuity_.on_abort(record.fields.claim.producer()); return Verdict::pass_over;
    case Fenced::pending: return Verdict::not_yet;
  }
  return follow_sequence(record) && !is_early(record) && passes_filters(record, record.fields.time_ns)
             ? Verdict::deliver
             : Verdict::pass_over;
}

PartitionStream::Verdict PartitionStream::follow_reference(ring::RecordView& record) {
  const auto reference = layout::as_u64(layout::find_entry(record.trailer, layout::TrailerType::reference));
  if (record.fields.claim.producer() != ProducerId(0) || !reference) {
    report_corrupt(record.position, record.fields.claim.producer(), "a reference that is not the daemon's");
    return Verdict::pass_over;
  }
  if (is_early(record)) return Verdict::pass_over;
  ring::RecordView meant;
  switch (references_.find(memory_, record.position, Position(*reference), meant)) {
    case ReferenceSource::Found::record: break;
    case ReferenceSource::Found::not_yet: return Verdict::not_yet;
    case ReferenceSource::Found::failed: fail_with(references_.take_error()); return Verdict::failed;
    case ReferenceSource::Found::gone: ++context_.counters.expired_messages; return Verdict::pass_over;
    case ReferenceSource::Found::corrupt:
      report_corrupt(record.position, ProducerId(0), references_.reason());
      return Verdict::pass_over;
  }
  if (!passes_filters(meant, record.fields.time_ns)) return Verdict::pass_over;
  meant.position = record.position;
  record = meant;
  by_reference_ = true;
  origin_ = Position(*reference);
  return Verdict::deliver;
}

// Records of a producer that lie at or above its fence were sent by a holder that had lost its name: they do not count.
PartitionStream::Fenced PartitionStream::fence_of(const ring::RecordView& record) {
  const layout::ControlRegion& control = memory_.maps()->control();
  // acquire: pairs with the daemon's release; publishes the entries below the count.
  const std::uint32_t count = control.fence_count.load(std::memory_order_acquire);
  if (count == 0) [[likely]]
    return Fenced::no;
  if (count != fences_seen_) {
    fences_.clear();
    for (std::uint32_t i = 0; i < std::min(count, kFencesMax); ++i) fences_[control.fences[i].producer] = i;
    fences_seen_ = count;
  }
  const auto fence = fences_.find(record.fields.claim.producer().value);
  if (fence == fences_.end()) return Fenced::no;
  // acquire: pairs with the daemon's release once the fence record stands.
  const std::uint64_t position = control.fences[fence->second].position.load(std::memory_order_acquire);
  if (position == layout::kFencePending) return Fenced::pending;
  return record.position.value >= position ? Fenced::yes : Fenced::no;
}

// False if the record is not for applications: what is invisible until it is resolved or due is counted and passed
// over.
bool PartitionStream::follow_sequence(const ring::RecordView& record) {
  const ProducerId producer = record.fields.claim.producer();
  const Sequence found = record.fields.sequence;
  if (producer.value != 0) {
    Sequence expected;
    const auto verdict = continuity_.on_record(producer, found, expected);
    if (verdict == ring::Continuity::Verdict::gap || verdict == ring::Continuity::Verdict::repeat) [[unlikely]] {
      const bool gap = verdict == ring::Continuity::Verdict::gap;
      if (gap)
        context_.counters.gaps += found.value - expected.value;
      else
        ++context_.counters.repeats;
      if (context_.options.on_loss)
        context_.options.on_loss({gap ? LossEvent::Kind::gap : LossEvent::Kind::repeat,
                                  {topic_, partition_, record.position},
                                  producer,
                                  expected,
                                  found,
                                  {}});
    }
  }
  return record.fields.claim.kind() == layout::RecordKind::data;
}

// Before the time that the caller starts from: until the first record that is not.
bool PartitionStream::is_early(const ring::RecordView& record) {
  if (time_from_ns_ == 0) [[likely]]
    return false;
  if (record.fields.time_ns < time_from_ns_) return true;
  time_from_ns_ = 0;
  return false;
}

bool PartitionStream::passes_filters(const ring::RecordView& record, std::uint64_t time_ns) {
  if (has_expired(record.trailer, time_ns)) return false;
  const std::string& tag = context_.options.tag;
  if (record.trailer.empty()) return tag.empty();
  return tag.empty() || layout::as_text(layout::find_entry(record.trailer, layout::TrailerType::tag)) == tag;
}

bool PartitionStream::has_expired(std::span<const std::byte> trailer, std::uint64_t time_ns) {
  const std::uint64_t ttl_ns = memory_.maps()->message_ttl_ns();
  if (trailer.empty() && ttl_ns == 0) [[likely]]
    return false;
  const std::uint64_t now_ns = realtime_coarse_ns();
  if (!layout::has_outlived(time_ns, ttl_ns, now_ns) && !layout::has_expired(trailer, now_ns)) [[likely]]
    return false;
  ++context_.counters.expired_messages;
  return true;
}

void PartitionStream::report_corrupt(Position at, ProducerId producer, std::string reason) {
  ++context_.counters.corrupt;
  if (context_.options.on_loss)
    context_.options.on_loss({LossEvent::Kind::corrupt, {topic_, partition_, at}, producer, {}, {}, std::move(reason)});
}

Look PartitionStream::fail_with(Error error) {
  drop_hold();
  error_ = std::move(error);
  return Look::failed;
}

// ---- waiting ----

ring::FutexWait PartitionStream::announce() {
  if (halted_at_claim_ || look_again_soon_) memory_.bell().call_daemon();
  return memory_.announce();
}

std::uint64_t PartitionStream::sleep_bound_ns() const {
  return look_again_soon_ ? kLookAgainNs : ring::sleep_bound_ns();
}

Status PartitionStream::gate_status() const {
  switch (memory_.gate()) {
    case layout::Gate::deleted:
      return fail(ErrorCode::closed, "reading " + name_of(topic_, partition_) + ": the topic was deleted");
    case layout::Gate::denied:
      return fail(ErrorCode::permission, "reading " + name_of(topic_, partition_) +
                                             ": no longer allowed; ask the operator for the topic's consumers list");
    default: return {};
  }
}

}  // namespace sluice::internal
