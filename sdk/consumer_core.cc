#include "sdk/consumer_core.h"

#include <algorithm>

#include "sdk/message_access.h"
#include "shm/base/clock.h"
#include "shm/base/limits.h"

namespace sluice::internal {
namespace {

// Records of one partition before the others get their turn: enough to be worth a pin.
constexpr std::uint32_t kTurn = 256;

ReaderOptions reading(const ConsumerOptions& options) {
  ReaderOptions reading;
  reading.tag = options.tag;
  reading.on_loss = options.on_loss;
  return reading;
}

}  // namespace

ConsumerCore::ConsumerCore(std::shared_ptr<BusLink> link, ConsumerOptions options)
    : link_(std::move(link)),
      options_(std::move(options)),
      reader_options_(reading(options_)),
      in_flight_max_(std::clamp(options_.in_flight_max, 1U, kDeliverySlotsMax)),
      context_{*link_, *pool_, reader_options_, reader_counters_},
      reference_reader_(context_, link_),
      turn_left_(kTurn),
      wait_loop_(*link_, options_.wait, options_.spin_time, counters_.sleeps) {}

// ---- looking ----

Look ConsumerCore::look(ring::RecordView& record, bool thorough) {
  if (member_->has_news()) [[unlikely]]
    take_news();
  if (!may_hand_out()) [[unlikely]]
    return Look::nothing;
  if (references_.any_waiting()) [[unlikely]] {
    bool others_wait = false;
    const Look found = look_at_references(record, others_wait);
    if (found != Look::nothing || others_wait) return found;
  }
  return look_at_partitions(record, thorough);
}

Look ConsumerCore::look_at_partitions(ring::RecordView& record, bool thorough) {
  const bool single = turns_.size() == 1;
  bool passed_over = false;
  for (std::size_t turns = 0; turns < turns_.size();) {
    GroupPartition& partition = current();
    const GroupPartition::Readiness readiness = partition.readiness();
    if (readiness == GroupPartition::Readiness::alone && in_hand_ != 0) [[unlikely]]
      return Look::nothing;
    const bool open =
        readiness != GroupPartition::Readiness::no && (!one_per_partition_ || partition.in_hand().count() == 0);
    if (open && turn_left_ > 0 && (single || thorough || !partition.stream().is_quiet())) {
      const Look found = partition.next(record);
      if (found == Look::record) [[likely]] {
        --turn_left_;
        ++found_;
        return found;
      }
      if (found == Look::failed) return found;
      passed_over = passed_over || found == Look::more;
    }
    // A turn that was used up is not a look: the others come first, then this one again.
    if (turn_left_ > 0) ++turns;
    if (partition.rest(!single)) member_->notify();
    end_turn();
  }
  return passed_over ? Look::more : Look::nothing;
}

void ConsumerCore::end_turn() {
  turn_left_ = kTurn;
  current_ = current_ + 1 < turns_.size() ? current_ + 1 : 0;
}

// `others_wait`: nothing else is to be handed out before the first of them.
Look ConsumerCore::look_at_references(ring::RecordView& record, bool& others_wait) {
  while (references_.any_waiting()) {
    const std::uint32_t index = references_.next_waiting();
    const Reference& one = references_.at(index);
    if (one.alone && in_hand_ != 0) {
      others_wait = true;
      return Look::nothing;
    }
    if (!member_->has_room()) {
      member_->call_daemon();
      return Look::nothing;
    }
    const auto topic = topics_.find(one.topic.value);
    if (topic == topics_.end()) {
      if (unknown_topic_asked_ != one.serial) {
        unknown_topic_asked_ = one.serial;
        assignments_due_ = attention_ = true;
        return Look::nothing;
      }
      if (assignments_due_) return Look::nothing;
      answer_waiting(layout::OutcomeVerb::nack, "the member was not told which topic it is in");
      continue;
    }
    GroupPartition* partition = find(one.topic, one.partition);
    const PartitionMapsPtr maps = partition != nullptr ? partition->stream().maps() : nullptr;
    switch (reference_reader_.read(one, topic->second, maps, record)) {
      case ReferenceReader::Read::record:
        if (!references_.begin(*member_)) break;
        found_reference_ = true;
        ++found_;
        return Look::record;
      case ReferenceReader::Read::expired: answer_waiting(layout::OutcomeVerb::ack, {}); break;
      case ReferenceReader::Read::gone:
        answer_waiting(layout::OutcomeVerb::reject, "its record cannot be read any more: expired or damaged");
        break;
      case ReferenceReader::Read::not_now: return Look::nothing;
      case ReferenceReader::Read::failed: reference_failed_ = true; return Look::failed;
    }
  }
  return Look::nothing;
}

void ConsumerCore::answer_waiting(layout::OutcomeVerb verb, std::string_view reason) {
  if (!member_->has_room(reason.size())) reason = {};
  references_.answer(*member_, references_.next_waiting(), verb, layout::kDelayByPolicy, reason);
  recount_references();
  member_->notify();
}

Error ConsumerCore::take_error() {
  return std::exchange(reference_failed_, false) ? reference_reader_.take_error() : current().stream().take_error();
}

void ConsumerCore::rest_all() {
  bool published = false;
  for (GroupPartition* partition : turns_) published = partition->rest(true) || published;
  reference_reader_.rest();
  if (published) member_->notify();
}

// ---- handing out ----

Result<Delivery> ConsumerCore::next(Duration timeout) {
  ring::RecordView record;
  if (closed_) [[unlikely]]
    return fail(*closed_);
  member_->bump_progress();
  look_at_connection();
  if (attention_) [[unlikely]]
    SLUICE_TRY(attend());
  const Look found = look(record, false);
  if (found == Look::failed) return fail(take_error());
  if (found != Look::record) SLUICE_TRY(wait(record, timeout));
  Result<Delivery> delivery;
  hand_out(record, *delivery);
  return delivery;
}

Result<std::size_t> ConsumerCore::poll(std::size_t count_max, Duration timeout,
                                       const std::function<void(const Delivery&)>& handler) {
  ring::RecordView record;
  if (closed_) [[unlikely]]
    return fail(*closed_);
  if (count_max == 0) return std::size_t{0};
  member_->bump_progress();
  look_at_connection();
  if (attention_) [[unlikely]]
    SLUICE_TRY(attend());
  Look found = look(record, false);
  if (found == Look::failed) return fail(take_error());
  if (found != Look::record) {
    if (Status waited = wait(record, timeout); !waited) {
      if (waited.error().code() == ErrorCode::timed_out) return std::size_t{0};
      return fail(std::move(waited).error());
    }
  }
  std::size_t handled = 0;
  Delivery delivery;
  for (;;) {
    hand_out(record, delivery);
    handler(delivery);
    if (++handled == count_max) break;
    member_->bump_progress();
    found = look(record, false);
    // An error after messages were handled is met again by the next call.
    if (found != Look::record) break;
  }
  return handled;
}

void ConsumerCore::hand_out(const ring::RecordView& record, Delivery& delivery) {
  if (found_reference_) [[unlikely]] {
    hand_out_reference(delivery, record);
  } else {
    GroupPartition& partition = current();
    delivery.index_ = partition.hand_out(record);
    delivery.place_ = partition.place();
    delivery.stamp_ = partition.serial();
    delivery.delivered_ = 1 + partition.handed_out_before(record.position);
    delivery.failed_ = 0;
    if (const Repeat* repeat = partition.repeat_of(record.position)) [[unlikely]] {
      delivery.delivered_ = std::max(delivery.delivered_, repeat->delivered + 1);
      delivery.failed_ = repeat->failed;
    }
    if (delivery.delivered_ != 1) [[unlikely]]
      ++counters_.repeated;
    if (partition.is_careful(record.position)) [[unlikely]]
      alone_out_ = true;
    PartitionStream& stream = partition.stream();
    MessageAccess::set(delivery.message_, stream.hold(), stream.topic(), stream.partition(), record,
                       stream.origin(record));
  }
  ++in_hand_;
  ++counters_.messages;
  counters_.bytes += record.payload.size();
  member_->notify();
}

void ConsumerCore::hand_out_reference(Delivery& delivery, const ring::RecordView& record) {
  found_reference_ = false;
  const std::uint32_t index = references_.next_waiting();
  Reference& one = references_.at(index);
  if (GroupPartition* partition = find(one.topic, one.partition)) {
    one.before = partition->in_hand().end();
    one.key_hash = partition->key_hash_of(record.trailer);
    // Others of its key wait behind it, also if it was another member's before.
    if (partition->strict() == Strict::key) partition->hold_back(one.key_hash);
  }
  references_.hand_out();
  delivery.place_ = index | layout::kPlaceIsSlot;
  delivery.stamp_ = one.serial;
  delivery.index_ = 0;
  delivery.delivered_ = one.delivered;
  delivery.failed_ = one.failed;
  if (one.delivered > 1) ++counters_.repeated;
  if (one.alone) alone_out_ = true;
  PartitionStream& stream = reference_reader_.stream();
  MessageAccess::set(delivery.message_, stream.hold(), stream.topic(), stream.partition(), record,
                     stream.origin(record));
}

// ---- waiting ----

struct ConsumerCore::Waiting {
  ConsumerCore& core;
  ring::RecordView& record;

  Status attend() {
    if (core.closed_) return fail(*core.closed_);
    if (core.interruptible_ && core.interrupts_.load(std::memory_order_acquire) != core.interrupts_seen_)
      return fail(ErrorCode::would_block, "interrupted");
    return core.attend();
  }
  Look look(bool thorough) { return core.look(record, thorough); }
  Error take_error() { return core.take_error(); }
  std::uint32_t take_found() { return std::exchange(core.found_, 0); }
  void rest() { core.rest_all(); }
  void announce(SleepWords& words, std::uint64_t& bound_ns) {
    core.announced_ = true;
    words.add(core.member_->announce(), bound_ns);
    if (core.interruptible_) words.add({&core.interrupts_, core.interrupts_seen_}, bound_ns);
    if (!core.may_hand_out()) return;
    for (GroupPartition* partition : core.turns_) {
      if (partition->readiness() != GroupPartition::Readiness::no) words.add(partition->stream().announce(), bound_ns);
    }
  }
  bool has_changed() const { return false; }  // news are looked at with everything else
  std::uint64_t sleep_bound_ns() const {
    std::uint64_t bound = std::min(ring::sleep_bound_ns(), core.attention_due_ns());
    const bool waits = core.references_.any_waiting() || !core.member_->has_room();
    if (waits && BusLink::online(core.link_->word())) bound = std::min(bound, kLookAgainNs);
    for (GroupPartition* partition : core.turns_) bound = std::min(bound, partition->stream().sleep_bound_ns());
    return bound;
  }
  Status after_timeout() const { return nothing_came(*core.link_); }

  // Room for outcomes, a record on its way to its file: they ring no bell.
  static constexpr std::uint64_t kLookAgainNs = 2'000'000;
};

Status ConsumerCore::wait(ring::RecordView& record, Duration timeout) {
  Waiting waiting{*this, record};
  Status status = wait_loop_.wait(waiting, nanoseconds(timeout));
  if (std::exchange(announced_, false)) member_->awake();
  if (!status && readiness_ && status.error().code() == ErrorCode::timed_out && arm_fd(record, status)) return {};
  return status;
}

// From here on the descriptor tells. True: there is a record after all.
bool ConsumerCore::arm_fd(ring::RecordView& record, Status& status) {
  readiness_->drain();
  wants_room_ = !may_hand_out();
  if (wants_room_) return false;
  member_->arm_fd();
  const Look found = look(record, true);
  if (found == Look::record) return true;
  if (found == Look::failed) status = fail(take_error());
  if (found == Look::more || attention_due_ns() == 0) readiness_->kick();
  rest_all();
  return false;
}

Result<int> ConsumerCore::fd() {
  if (closed_) return fail(*closed_);
  if (!readiness_) {
    SLUICE_ASSIGN(Readiness made, Readiness::make());
    SLUICE_TRY(made.watch(member_->readable_fd()));
    readiness_ = std::move(made);
    readiness_->kick();  // until a call has found nothing
  }
  return readiness_->fd();
}

void ConsumerCore::interrupt() {
  // release: pairs with the acquire of the wait; what it is interrupted for is seen behind it.
  interrupts_.fetch_add(1, std::memory_order_release);
  ring::futex_wake_all(interrupts_);
}

Status ConsumerCore::tend(Duration timeout) {
  rest_all();
  if (!take_interrupt()) ring::futex_wait(interrupts_, interrupts_seen_, nanoseconds(timeout));
  take_interrupt();
  if (closed_) return fail(*closed_);
  member_->bump_progress();
  if (member_->has_news()) take_news();
  return attend();
}

bool ConsumerCore::take_interrupt() {
  const std::uint32_t count = interrupts_.load(std::memory_order_acquire);
  return std::exchange(interrupts_seen_, count) != count;
}

// ---- what is told ----

std::vector<std::pair<std::string, PartitionNumber>> ConsumerCore::assignments() const {
  std::vector<std::pair<std::string, PartitionNumber>> assigned;
  for (const GroupPartition* partition : turns_)
    assigned.emplace_back(partition->stream().topic(), partition->stream().partition());
  std::sort(assigned.begin(), assigned.end());
  return assigned;
}

const ConsumerCounters& ConsumerCore::counters() const {
  counters_.gaps = reader_counters_.gaps;
  counters_.repeats = reader_counters_.repeats;
  counters_.corrupt = reader_counters_.corrupt;
  counters_.expired_bytes = reader_counters_.expired_bytes;
  counters_.expired_messages = reader_counters_.expired_messages;
  return counters_;
}

}  // namespace sluice::internal
