#include "sdk/producer_core.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "sdk/partitioner.h"
#include "shm/base/clock.h"
#include "shm/base/limits.h"
#include "shm/layout/record.h"
#include "shm/ring/adaptive_lag.h"
#include "shm/ring/futex.h"

namespace sluice::internal {
namespace {

// Messages without key or partition go to one partition so many at a time, before the next has its turn.
constexpr std::uint32_t kTurn = 64;
// Out of room: so many looks (about 20–40 µs) before the sleep, for the daemon or a reader may just be making some.
constexpr std::uint32_t kRoomSpins = 64;
constexpr std::uint32_t kPausesPerSpin = 16;
// Where messages carry no time, the clock for added partitions is read so often.
constexpr std::uint32_t kSendsPerAddedCheck = 256;
// How long a message that could go out waits for the answer.
constexpr Duration kAddedTimeout = std::chrono::milliseconds(20);

std::uint64_t nanoseconds(Duration duration) {
  return duration.count() > 0 ? static_cast<std::uint64_t>(duration.count()) : 0;
}

}  // namespace

// ---- sending ----

Result<ProducerCore::Lane*> ProducerCore::choose(const MessageOptions& options) {
  const auto count = static_cast<std::uint32_t>(lanes_.size());
  if (options.partition) {
    if (*options.partition >= count) add_partitions(realtime_coarse_ns(), {});
    if (*options.partition < lanes_.size()) return lanes_[*options.partition].get();
    return fail(ErrorCode::not_found, "sending to partition " + std::to_string(*options.partition) + " of topic " +
                                          topic_ + ": it has " + std::to_string(lanes_.size()) + " partitions");
  }
  if (!options.key.empty()) return lanes_[partition_of_key(options.key, count)].get();
  if (turn_left_ == 0) {
    turn_ = turn_ + 1 < count ? turn_ + 1 : 0;
    turn_left_ = kTurn;
  }
  --turn_left_;
  return lanes_[turn_].get();
}

Result<ProducerCore::Wrapping> ProducerCore::wrap(const Lane& lane, const MessageOptions& options) {
  const bool timed = options.delay.count() != 0 || options.deliver_at_ns != 0 || options.expire_after.count() != 0;
  if (options.key.empty() && options.tag.empty() && options.headers.empty() && options.bookmark.empty() && !timed)
      [[likely]]
    return Wrapping();
  Wrapping wrapping;
  trailer_.clear();
  if (timed) {
    SLUICE_ASSIGN(wrapping.kind, add_times(lane, options));
  }
  if (!options.key.empty()) SLUICE_TRY(trailer_.key(options.key));
  if (!options.tag.empty()) SLUICE_TRY(trailer_.tag(options.tag));
  for (const auto& [name, value] : options.headers) SLUICE_TRY(trailer_.header(name, value));
  if (!options.bookmark.empty()) SLUICE_TRY(trailer_.bookmark(options.bookmark));
  wrapping.trailer = trailer_.finish();
  return wrapping;
}

Result<ProducerCore::Wrapping> ProducerCore::wrap_half(const Lane& lane, const MessageOptions& options,
                                                       const layout::HalfEntry& half) {
  if (!lane.maps->has_flag(layout::kTopicFlagDurable))
    return fail(ErrorCode::invalid, "sending to " + place(lane) + " in a transaction: the topic is volatile, and its " +
                                        "memory may not hold what waits; use an async or a sync topic");
  if (options.delay.count() != 0 || options.deliver_at_ns != 0)
    return fail(ErrorCode::invalid,
                "sending to " + place(lane) + " in a transaction: it cannot be delayed as well; commit it later");
  trailer_.clear();
  SLUICE_TRY(wrap(lane, options));
  SLUICE_TRY(trailer_.half(half));
  return Wrapping{trailer_.finish(), layout::RecordKind::half};
}

// The entries for a message's times, and its kind.
Result<layout::RecordKind> ProducerCore::add_times(const Lane& lane, const MessageOptions& options) {
  const auto refuse = [&](const std::string& why) {
    return fail(ErrorCode::invalid, "sending to " + place(lane) + ": " + why);
  };
  if (options.delay.count() < 0 || options.expire_after.count() < 0)
    return refuse("a delay or a time to live cannot be negative");
  if (options.delay.count() != 0 && options.deliver_at_ns != 0)
    return refuse("either a delay or a time of delivery can be given, not both");
  const std::uint64_t now = realtime_ns();
  const bool delayed = options.delay.count() != 0 || options.deliver_at_ns != 0;
  const std::uint64_t due = options.deliver_at_ns != 0 ? options.deliver_at_ns : now + nanoseconds(options.delay);
  if (delayed) {
    if (!lane.maps->has_flag(layout::kTopicFlagDurable))
      return refuse("the topic is volatile, and its memory may not hold what waits; use an async or a sync topic");
    if (due > now && due - now > kDelayNsMax) return refuse("it can be delayed by 365 days at most");
    trailer_.due(due);
  }
  if (options.expire_after.count() != 0) trailer_.expiry(std::max(now, due) + nanoseconds(options.expire_after));
  return delayed ? layout::RecordKind::delayed : layout::RecordKind::data;
}

std::uint64_t ProducerCore::message_time(const Lane& lane) const {
  switch (lane.maps->control().time_mode) {
    case layout::TimeMode::coarse: return realtime_coarse_ns();
    case layout::TimeMode::precise: return realtime_ns();
    case layout::TimeMode::none: break;
  }
  return 0;
}

// Before a message, while nothing is claimed.
std::uint64_t ProducerCore::time_and_check(const Lane& lane) {
  const std::uint64_t time = message_time(lane);
  if (time == 0 && ++sends_without_time_ % kSendsPerAddedCheck != 0) return 0;
  const std::uint64_t now = time != 0 ? time : realtime_coarse_ns();
  if (now >= added_check_ns_) [[unlikely]]
    add_partitions(now, kAddedTimeout);
  return time;
}

template <typename Attempt>
Result<ProducerCore::Lane*> ProducerCore::append_to(PartitionNumber partition, Attempt attempt) {
  Patience patience;
  for (;;) {
    if (link_->word() != opened_word_) [[unlikely]] {
      SLUICE_TRY(catch_up(patience));
      patience.armed = false;
    }
    if (partition >= lanes_.size())
      return fail(ErrorCode::not_found,
                  "sending to partition " + std::to_string(partition) + " of topic " + topic_ +
                      ": the topic was made anew with fewer partitions while the daemon was away");
    Lane& lane = *lanes_[partition];
    if (!lane.appender)
      lane.appender.emplace(lane.maps->memory(), id_, pin_.cell(), !pin_.memory()->membarrier(), lane.next);
    switch (attempt(lane)) {
      case ring::AppendResult::ok: return &lane;
      case ring::AppendResult::no_room:
        if (patience.spins == 0) ++counters_.back_pressure;
        SLUICE_TRY(wait_for_room(lane, patience));
        break;
      case ring::AppendResult::gate_closed:
        ++counters_.daemon_waits;
        SLUICE_TRY(on_gate(lane, patience));
        break;
      case ring::AppendResult::claim_expired: break;  // nothing was sent: again, with a new sequence
      case ring::AppendResult::too_large: return fail(ErrorCode::too_large, {});  // the caller knows the size
    }
  }
}

Result<std::uint64_t> ProducerCore::patience_left(Patience& patience, ErrorCode at_once, std::string_view what) const {
  const std::uint64_t timeout = nanoseconds(options_.send_timeout);
  if (timeout == 0) return fail(at_once, "sending to topic " + topic_ + ": " + std::string(what));
  const std::uint64_t now = monotonic_ns();
  if (patience.deadline_ns == 0) patience.deadline_ns = timeout > ~now ? ~std::uint64_t{0} : now + timeout;
  if (now < patience.deadline_ns) return patience.deadline_ns - now;
  return fail(at_once == ErrorCode::would_block ? ErrorCode::timed_out : at_once,
              "sending to topic " + topic_ + ": " + std::string(what) + " within " +
                  std::to_string(timeout / 1'000'000) + " ms");
}

// The protocol of shm/ring/bell.h: arm, try again, then sleep on the count that was read before.
Status ProducerCore::wait_for_room(Lane& lane, Patience& patience) {
  const ring::Bell bell(lane.maps->memory());
  if (patience.spins == 0) bell.call_daemon();
  if (patience.spins < kRoomSpins && options_.send_timeout.count() > 0) {
    ++patience.spins;
    for (std::uint32_t i = 0; i < kPausesPerSpin; ++i) ring::cpu_pause();
    return {};
  }
  const auto left = patience_left(patience, ErrorCode::would_block,
                                  "no room in partition " + std::to_string(lane.maps->partition()) +
                                      " (its memory is full: the disk or a reader is slower)");
  if (!left && left.error().code() == ErrorCode::timed_out)
    return fail(ErrorCode::timed_out, left.error().message() + obstacle(lane));
  if (!left) return fail(left.error());
  if (!patience.armed) {
    // acquire: pairs with BusLink::changed(); the connection is looked at before the next attempt.
    patience.change = link_->change_word().load(std::memory_order_acquire);
    patience.bell_count = lane.appender->arm_room();
    patience.armed = true;
    return {};
  }
  const ring::FutexWait words[] = {{&bell.count_word(), patience.bell_count}, {&link_->change_word(), patience.change}};
  ring::futex_wait_any(words, std::min(*left, ring::sleep_bound_ns()));
  patience.armed = false;
  return {};
}

// What the daemon says is in the way of an open partition (a full disk), behind ": "; empty if nothing is, or it is
// away.
std::string ProducerCore::obstacle(const Lane& lane) const {
  if (!BusLink::online(link_->word())) return {};
  const auto reason = link_->gate_reason(topic_, lane.maps->partition());
  return reason && !reason->empty() ? ": " + *reason : std::string();
}

Status ProducerCore::on_gate(Lane& lane, Patience& patience) {
  const auto gate = static_cast<layout::Gate>(lane.maps->control().gate.load(std::memory_order_acquire));
  const std::string doing = "sending to " + place(lane);
  switch (gate) {
    case layout::Gate::open: return {};  // opened again meanwhile
    case layout::Gate::poisoned: {
      const auto reason = link_->gate_reason(topic_, lane.maps->partition());
      return fail(ErrorCode::io, doing + ": " + (reason && !reason->empty() ? *reason : "its disk failed") +
                                     "; nothing is taken until an operator has looked (sluice topic recover)");
    }
    case layout::Gate::deleted: return fail(ErrorCode::closed, doing + ": the topic was deleted");
    case layout::Gate::denied:
      return fail(ErrorCode::permission,
                  doing + ": no longer allowed; ask the operator for the topic's publishers list");
    case layout::Gate::closing: break;
  }
  // The daemon is on its way down: wait for the hang-up, and then for the next one.
  SLUICE_ASSIGN(const std::uint64_t left,
                patience_left(patience, ErrorCode::no_daemon, "the daemon is stopping, and none has come back"));
  const std::uint32_t change = link_->change_word().load(std::memory_order_acquire);
  if (link_->word() == opened_word_) ring::futex_wait(link_->change_word(), change, std::min(left, kSleepNsMax / 10));
  return {};
}

Status ProducerCore::too_large(const Lane& lane, std::uint64_t size) const {
  return fail(ErrorCode::too_large, "sending " + std::to_string(size) + " bytes (headers included) to " + place(lane) +
                                        ": the topic's limit is " +
                                        std::to_string(lane.maps->control().message_size_max) +
                                        " bytes, a quarter of a segment; split the message or use larger segments");
}

// A newer holder of our name has fenced us: what we sent at or above the fence does not count.
Status ProducerCore::check_fence(Lane& lane) {
  const layout::ControlRegion& control = lane.maps->control();
  // acquire: pairs with the daemon's release; publishes the entries below the count.
  const std::uint32_t count = control.fence_count.load(std::memory_order_acquire);
  if (count == lane.fences_seen) [[likely]]
    return {};
  for (std::uint32_t i = 0; i < std::min(count, kFencesMax); ++i) {
    if (control.fences[i].producer == id_.value)
      return fail(ErrorCode::fenced, "sending to " + place(lane) + " as producer '" + options_.name +
                                         "': a newer holder of that name has taken over; this one must stop");
  }
  lane.fences_seen = count;
  return {};
}

Receipt ProducerCore::receipt(Lane& lane, const ring::Appended& appended) {
  lane.sent_end = std::max(lane.sent_end, appended.end);
  return {lane.maps->partition(), appended.position, appended.end, appended.sequence, lane.maps->incarnation()};
}

Result<Receipt> ProducerCore::finish(Lane& lane, const ring::Appended& appended, bool wait_durable) {
  const Receipt given = receipt(lane, appended);
  SLUICE_TRY(check_fence(lane));
  if (wait_durable && lane.maps->has_flag(layout::kTopicFlagSync)) {
    const std::uint64_t timeout = nanoseconds(options_.send_timeout);
    const Status durable = await_durable(lane, given.end, timeout != 0 ? timeout : 30'000'000'000);
    if (!durable) {
      const Error& error = durable.error();
      // Committed it is: that its durability is not known is all that there is to say.
      return fail(error.code() == ErrorCode::timed_out ? ErrorCode::unknown : error.code(), error.context());
    }
    SLUICE_TRY(check_fence(lane));
  }
  return given;
}

Status ProducerCore::check_ready(Patience& patience) {
  if (claim_) [[unlikely]]
    return fail(ErrorCode::invalid,
                "sending to topic " + topic_ + ": a claim of this producer is open; commit or abort it first");
  if (link_->word() != opened_word_) [[unlikely]]
    return catch_up(patience);
  return {};
}

Result<Receipt> ProducerCore::send(std::span<const std::byte> payload, const MessageOptions& options,
                                   bool wait_durable) {
  Patience patience;
  SLUICE_TRY(check_ready(patience));
  SLUICE_ASSIGN(Lane* const chosen, choose(options));
  SLUICE_ASSIGN(const Wrapping wrapping, wrap(*chosen, options));
  return send_wrapped(*chosen, payload, wrapping, wait_durable);
}

Result<Receipt> ProducerCore::send_half(std::span<const std::byte> payload, const MessageOptions& options,
                                        const layout::HalfEntry& half) {
  Patience patience;
  SLUICE_TRY(check_ready(patience));
  SLUICE_ASSIGN(Lane* const chosen, choose(options));
  SLUICE_ASSIGN(const Wrapping wrapping, wrap_half(*chosen, options, half));
  return send_wrapped(*chosen, payload, wrapping, false);
}

Result<Receipt> ProducerCore::send_wrapped(Lane& chosen, std::span<const std::byte> payload, const Wrapping& wrapping,
                                           bool wait_durable) {
  ring::Appended appended;
  auto sent = append_to(chosen.maps->partition(), [&](Lane& lane) {
    return lane.appender->append({payload, wrapping.trailer, time_and_check(lane)}, appended, wrapping.kind);
  });
  if (sent) [[likely]]
    return finish(**sent, appended, wait_durable);
  if (sent.error().code() == ErrorCode::too_large)
    return fail(too_large(chosen, layout::record_span(payload.size(), wrapping.trailer.size())).error());
  return fail(std::move(sent).error());
}

Result<Receipt> ProducerCore::send_batch(Payloads payloads, const MessageOptions& options) {
  if (payloads.empty() || payloads.size() > kBatchRecordsMax)
    return fail(ErrorCode::invalid, "sending a batch of " + std::to_string(payloads.size()) + " messages to topic " +
                                        topic_ + ": it must have 1 to " + std::to_string(kBatchRecordsMax));
  Patience patience;
  SLUICE_TRY(check_ready(patience));
  SLUICE_ASSIGN(Lane* const chosen, choose(options));
  SLUICE_ASSIGN(const Wrapping wrapping, wrap(*chosen, options));
  ring::Appended appended;
  auto sent = append_to(chosen->maps->partition(), [&](Lane& lane) {
    return lane.appender->append_batch(payloads, {{}, wrapping.trailer, time_and_check(lane)}, appended, wrapping.kind);
  });
  if (sent) return finish(**sent, appended, true);
  if (sent.error().code() == ErrorCode::too_large) {
    std::uint64_t total = 0;
    for (const auto& payload : payloads) total += layout::record_span(payload.size(), wrapping.trailer.size());
    return fail(too_large(*chosen, total).error());
  }
  return fail(std::move(sent).error());
}

// ---- in place ----

Result<std::span<std::byte>> ProducerCore::claim(std::size_t size, const MessageOptions& options) {
  Patience patience;
  SLUICE_TRY(check_ready(patience));
  SLUICE_ASSIGN(Lane* const chosen, choose(options));
  SLUICE_ASSIGN(const Wrapping wrapping, wrap(*chosen, options));
  if (size > ~std::uint32_t{0}) return fail(too_large(*chosen, size).error());
  OpenClaim open;
  auto claimed = append_to(chosen->maps->partition(), [&](Lane& lane) {
    return lane.appender->claim(size, wrapping.trailer.size(), wrapping.kind, open.ring);
  });
  if (!claimed) {
    if (claimed.error().code() == ErrorCode::too_large)
      return fail(too_large(*chosen, layout::record_span(size, wrapping.trailer.size())).error());
    return fail(std::move(claimed).error());
  }
  open.lane = *claimed;
  open.payload_size = static_cast<std::uint32_t>(size);
  open.trailer = wrapping.trailer;
  claim_ = open;
  return std::span<std::byte>(open.ring.payload(), size);
}

Result<Receipt> ProducerCore::commit() {
  if (!claim_)
    return fail(ErrorCode::invalid, "committing to topic " + topic_ + ": the claim was committed or aborted before");
  const OpenClaim open = *std::exchange(claim_, std::nullopt);
  Lane& lane = *open.lane;
  ring::Appended appended;
  const ring::AppendResult result =
      lane.appender->commit(open.ring, open.payload_size, open.trailer, message_time(lane), appended);
  const bool lost = BusLink::generation(link_->word()) != generation_;
  if (result != ring::AppendResult::ok || lost)
    return fail(ErrorCode::claim_expired, "committing to " + place(lane) +
                                              (lost ? ": its memory was lost with the daemon"
                                                    : ": the daemon has aborted the claim, its deadline was over") +
                                              "; nothing was sent, claim again");
  return finish(lane, appended, true);
}

void ProducerCore::abort() {
  if (!claim_) return;
  const OpenClaim open = *std::exchange(claim_, std::nullopt);
  open.lane->appender->abort(open.ring);
}

std::string ProducerCore::place(const Lane& lane) const {
  return topic_ + "/" + std::to_string(lane.maps->partition());
}

std::size_t ProducerCore::payload_size_max() const {
  if (lanes_.empty()) return 0;
  return lanes_.front()->maps->control().message_size_max - layout::kRecordHeaderSize;
}

}  // namespace sluice::internal
