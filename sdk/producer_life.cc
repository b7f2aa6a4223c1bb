// The rest of ProducerCore: opening, reconnects, added partitions, and what is known to be durable.
#include <algorithm>
#include <chrono>
#include <utility>

#include "sdk/producer_core.h"
#include "shm/base/clock.h"
#include "shm/base/limits.h"
#include "shm/ring/bell.h"

namespace sluice::internal {
namespace {

// Added partitions are asked for at most so often.
constexpr std::uint64_t kAddedCheckNs = 5'000'000'000;
// Lost memories whose last durable positions are remembered.
constexpr std::size_t kPastLivesMax = 64;
// A wait for `durable` looks at the connection so often.
constexpr std::uint64_t kDurableSliceNs = 100'000'000;
// A producer's end waits so long for the daemon to note what was lost.
constexpr Duration kTellAtEndTimeout = std::chrono::seconds(1);

}  // namespace

ProducerCore::ProducerCore(std::shared_ptr<BusLink> link, std::string topic, ProducerOptions options)
    : link_(std::move(link)), topic_(std::move(topic)), options_(std::move(options)) {}

Result<std::unique_ptr<ProducerCore>> ProducerCore::open(std::shared_ptr<BusLink> link, std::string topic,
                                                         ProducerOptions options) {
  if (options.name.size() > kProducerNameSizeMax)
    return fail(ErrorCode::invalid, "opening a producer of topic " + topic + ": its name has " +
                                        std::to_string(options.name.size()) + " bytes, the limit is " +
                                        std::to_string(kProducerNameSizeMax));
  std::unique_ptr<ProducerCore> core(new ProducerCore(std::move(link), std::move(topic), std::move(options)));
  SLUICE_TRY(core->open_lanes());
  return core;
}

ProducerCore::~ProducerCore() {
  abort();
  if (BusLink::generation(link_->word()) != generation_) end_life();
  tell_lost(kTellAtEndTimeout);
  if (opened_word_ != 0) link_->close_producer(id_, generation_);
}

Status ProducerCore::open_lanes() {
  std::vector<PartitionGrant> granted;
  SLUICE_ASSIGN(ProducerGrant grant, link_->open_producer(topic_, options_.name, [&](PartitionGrant one) -> Status {
    granted.push_back(std::move(one));
    return {};
  }));
  for (PartitionGrant& one : grant.partitions) granted.push_back(std::move(one));
  id_ = grant.id;
  topic_id_ = grant.topic;
  generation_ = grant.pin.memory()->generation();
  pin_ = std::move(grant.pin);
  last_sent_ = std::move(grant.last);
  for (PartitionGrant& one : granted) SLUICE_TRY(add_lane(std::move(one), topic_id_, pin_.memory()));
  if (lanes_.empty())
    return fail(ErrorCode::internal, "opening a producer of topic " + topic_ + ": it has no partitions; report this");
  for (const LastSent& last : last_sent_) {
    if (last.partition < lanes_.size()) lanes_[last.partition]->next = last.sequence.next();
  }
  added_check_ns_ = realtime_coarse_ns() + kAddedCheckNs;
  // If the connection was lost meanwhile, the next message finds another word and looks again.
  opened_word_ = generation_ << 1 | 1;
  return {};
}

Status ProducerCore::add_lane(PartitionGrant grant, TopicId topic, const std::shared_ptr<SessionMemory>& memory) {
  if (grant.partition != lanes_.size())
    return fail(ErrorCode::internal, "opening a producer of topic " + topic_ + ": partition " +
                                         std::to_string(grant.partition) + " came in place of " +
                                         std::to_string(lanes_.size()) + "; report this");
  SLUICE_ASSIGN(PartitionMapsPtr maps, PartitionMaps::open(grant, topic, memory, region::Access::read_write));
  auto lane = std::make_unique<Lane>();
  lane->fences_seen = 0;
  lane->next = Sequence(1);
  lane->maps = std::move(maps);
  lanes_.push_back(std::move(lane));
  return {};
}

// Opens partitions that were added to the topic. A daemon that is slow or away is asked again later.
void ProducerCore::add_partitions(std::uint64_t now_ns, Duration timeout) {
  added_check_ns_ = now_ns + kAddedCheckNs;
  if (lanes_.empty() || lanes_.front()->maps->topic_partitions() <= partitions()) return;
  if (!BusLink::online(link_->word()) || BusLink::generation(link_->word()) != generation_) return;
  ++counters_.daemon_waits;
  const Status added = link_->open_partitions(
      topic_, true, partitions(),
      [&](PartitionGrant grant) { return add_lane(std::move(grant), topic_id_, pin_.memory()); }, timeout);
  static_cast<void>(added);
}

// Whether messages go on through memory while the daemon is away.
bool ProducerCore::goes_on_alone() const { return link_->memory_kept() && link_->state() != ConnectionState::closed; }

Status ProducerCore::catch_up(Patience& patience) {
  for (;;) {
    const std::uint64_t word = link_->word();
    const bool same_memory = BusLink::generation(word) == generation_ && !lanes_.empty();
    if (same_memory && (BusLink::online(word) || goes_on_alone())) {
      opened_word_ = word;
      return {};
    }
    ++counters_.daemon_waits;
    if (!BusLink::online(word)) {
      if (link_->state() == ConnectionState::closed) return link_->health();
      SLUICE_ASSIGN(const std::uint64_t left,
                    patience_left(patience, ErrorCode::no_daemon,
                                  "the daemon is away, and has not come back; start it, or see why it stopped"));
      const Status online = link_->wait_online(
          Duration(static_cast<std::int64_t>(std::min<std::uint64_t>(left, std::chrono::nanoseconds::max().count()))));
      if (!online && online.error().code() != ErrorCode::no_daemon && online.error().code() != ErrorCode::timed_out)
        return online;
      continue;
    }
    end_life();
    tell_lost({});
    const Status opened = open_lanes();
    if (opened) continue;
    lanes_.clear();
    const bool lost_again = opened.error().code() == ErrorCode::conflict || !BusLink::online(link_->word());
    if (!lost_again) return opened;
    SLUICE_TRY(patience_left(patience, ErrorCode::no_daemon, "the daemon is away, and has not come back"));
  }
}

// The memory that the lanes belong to is lost: what is known of it is noted, and it is let go.
void ProducerCore::end_life() {
  if (lanes_.empty()) return;
  PastLife life{lanes_.front()->maps->incarnation(), {}};
  for (const auto& lane : lanes_) {
    // acquire: pairs with the release of DurableWait::publish.
    const Position durable(lane->maps->control().durable.load(std::memory_order_acquire));
    life.lanes.push_back({Position(lane->maps->control().start_position), durable});
    if (!lane->appender) continue;
    if (lane->maps->has_flag(layout::kTopicFlagDurable) && lane->sent_end > durable) lost_undurable_ = true;
    const Sequence next = lane->appender->next_sequence();
    if (next.value > 1) reports_.push_back({lane->maps->partition(), id_, Sequence(next.value - 1)});
  }
  if (lives_.size() == kPastLivesMax) lives_.erase(lives_.begin());
  lives_.push_back(std::move(life));
  lanes_.clear();
  pin_.reset();
  opened_word_ = 0;
}

// The daemon subtracts what recovery has found; the rest counts as cut. Told once; later if there is nobody to tell.
void ProducerCore::tell_lost(Duration timeout) {
  if (reports_.empty() || !BusLink::online(link_->word())) return;
  if (link_->report_sequences(topic_id_, reports_, timeout)) reports_.clear();
}

// ---- what is durable ----

Status ProducerCore::await_durable(const Lane& lane, Position end, std::uint64_t timeout_ns) const {
  const ring::PartitionMemory& memory = lane.maps->memory();
  const layout::ControlRegion& control = lane.maps->control();
  // acquire: pairs with the release of DurableWait::publish.
  if (control.durable.load(std::memory_order_acquire) >= end.value) return {};
  ring::Bell(memory).call_daemon();  // a napping daemon starts now
  const ring::DurableWait durable(memory);
  const std::uint64_t start = monotonic_ns();
  const std::uint64_t deadline = timeout_ns > ~start ? ~std::uint64_t{0} : start + timeout_ns;
  for (;;) {
    const std::uint64_t now = monotonic_ns();
    if (durable.wait(end, std::min(deadline, now + kDurableSliceNs))) return {};
    const std::string doing = "waiting until " + place(lane) + " is durable up to " + std::to_string(end.value);
    const auto gate = static_cast<layout::Gate>(control.gate.load(std::memory_order_acquire));
    const bool lost = BusLink::generation(link_->word()) != generation_;
    if (lost || gate == layout::Gate::deleted)
      return fail(ErrorCode::unknown, doing +
                                          (lost ? ": its memory was lost with the daemon" : ": the topic was deleted") +
                                          "; it may or may not be delivered");
    if (gate == layout::Gate::poisoned) {
      const auto reason = link_->gate_reason(topic_, lane.maps->partition());
      return fail(ErrorCode::io, doing + ": " + (reason && !reason->empty() ? *reason : "its disk failed") +
                                     "; whether it is delivered is not known");
    }
    if (monotonic_ns() >= deadline)
      return fail(ErrorCode::timed_out,
                  doing + ": not within " + std::to_string(timeout_ns / 1'000'000) + " ms" + obstacle(lane));
    if (gate != layout::Gate::open) {
      // The daemon is draining: durable still moves, but the wait above returns at once.
      const std::uint32_t count = durable.announce();
      if (control.durable.load(std::memory_order_acquire) >= end.value) return {};
      ring::futex_wait(control.durable_count, count, std::min(deadline - monotonic_ns(), kDurableSliceNs / 10));
    }
  }
}

Status ProducerCore::wait(const Receipt& receipt, Duration timeout) {
  const ReceiptState known = state(receipt);
  if (known == ReceiptState::durable) return {};
  if (known == ReceiptState::unknown)
    return fail(ErrorCode::unknown, "waiting until " + topic_ + "/" + std::to_string(receipt.partition) + "@" +
                                        std::to_string(receipt.position.value) +
                                        " is durable: its memory was lost first; it may or may not be delivered");
  const Lane& lane = *lanes_[receipt.partition];
  if (!lane.maps->has_flag(layout::kTopicFlagDurable))
    return fail(ErrorCode::invalid, "waiting until a message of " + place(lane) +
                                        " is durable: the topic is volatile, nothing of it ever is");
  return await_durable(lane, receipt.end, timeout.count() > 0 ? static_cast<std::uint64_t>(timeout.count()) : 0);
}

Status ProducerCore::flush(Duration timeout) {
  const std::uint64_t start = monotonic_ns();
  const std::uint64_t timeout_ns = timeout.count() > 0 ? static_cast<std::uint64_t>(timeout.count()) : 0;
  if (BusLink::generation(link_->word()) != generation_ && !claim_) end_life();
  for (const auto& lane : lanes_) {
    if (lane->maps->has_flag(layout::kTopicFlagDurable) && lane->sent_end > Position(0))
      ring::Bell(lane->maps->memory()).call_daemon();
  }
  for (const auto& lane : lanes_) {
    if (!lane->maps->has_flag(layout::kTopicFlagDurable) || lane->sent_end == Position(0)) continue;
    const std::uint64_t spent = monotonic_ns() - start;
    const Status durable = await_durable(*lane, lane->sent_end, timeout_ns > spent ? timeout_ns - spent : 0);
    if (!durable && durable.error().code() == ErrorCode::unknown) lost_undurable_ = false;  // told here
    if (!durable) return durable;
  }
  if (!std::exchange(lost_undurable_, false)) return {};
  return fail(ErrorCode::unknown, "flushing topic " + topic_ +
                                      ": the daemon's memory was lost since the last flush, and with it messages that "
                                      "were not durable; they may or may not be delivered");
}

ReceiptState ProducerCore::past_state(const Receipt& receipt) const {
  for (const PastLife& life : lives_) {
    if (life.incarnation != receipt.incarnation || receipt.partition >= life.lanes.size()) continue;
    const PastLane& lane = life.lanes[receipt.partition];
    if (receipt.position >= lane.start && receipt.end <= lane.durable) return ReceiptState::durable;
  }
  return ReceiptState::unknown;
}

ReceiptState ProducerCore::state(const Receipt& receipt) const {
  if (receipt.partition >= lanes_.size()) return past_state(receipt);
  const Lane& lane = *lanes_[receipt.partition];
  // A poisoned partition's memory may be replaced within an incarnation: the new one begins above all of the old.
  const bool ours =
      lane.maps->incarnation() == receipt.incarnation && receipt.position.value >= lane.maps->control().start_position;
  if (!ours) return past_state(receipt);
  const bool kept_on_disk = lane.maps->has_flag(layout::kTopicFlagDurable);
  // acquire: pairs with the release of DurableWait::publish.
  if (kept_on_disk && lane.maps->control().durable.load(std::memory_order_acquire) >= receipt.end.value)
    return ReceiptState::durable;
  return BusLink::generation(link_->word()) == generation_ ? ReceiptState::committed : ReceiptState::unknown;
}

}  // namespace sluice::internal
