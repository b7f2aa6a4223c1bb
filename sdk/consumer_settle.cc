// Settling: what the application says about messages in its hands.
#include <algorithm>

#include "sdk/consumer_core.h"
#include "shm/base/limits.h"
#include "shm/layout/trailer.h"

namespace sluice::internal {
namespace {
// For the daemon to read outcomes; longer, and it is away or stuck.
constexpr std::uint64_t kRoomNs = 1'000'000'000;
}  // namespace

Reference* ConsumerCore::reference(const Delivery& delivery) {
  if ((delivery.place_ & layout::kPlaceIsSlot) == 0) return nullptr;
  return references_.find(delivery.place_ & ~layout::kPlaceIsSlot, delivery.stamp_);
}

void ConsumerCore::after_settling() {
  // Those that the application was not told of yet are given back in next() or poll(), behind the callback.
  if (wanted_ && told_.empty()) release_wanted();
  if (wants_room_ && may_hand_out()) {
    wants_room_ = false;
    readiness_->kick();
  }
}

Status ConsumerCore::stale(const Delivery& delivery, const char* doing) {
  ++counters_.stale;
  return fail(ErrorCode::conflict, std::string(doing) + ' ' + delivery.message().address().to_string() +
                                       ": it is not in this consumer's hands (settled already, timed out, or handed "
                                       "over): what is decided there stands");
}

Status ConsumerCore::need_room(std::size_t reason_size, const char* doing) {
  if (member_->wait_room(reason_size, kRoomNs)) return {};
  return fail(ErrorCode::would_block, std::string(doing) +
                                          " a message: the daemon has not read the outcomes before it; it is still in "
                                          "your hands, try again");
}

Status ConsumerCore::ack_reference(const Delivery& delivery) {
  return answer(delivery, layout::OutcomeVerb::ack, 0, {}, "acking");
}

Result<std::uint64_t> ConsumerCore::epoch(const Origin& origin) {
  return epochs_.of(*link_, request_.group, origin, member_->epoch());
}

Result<Origin> ConsumerCore::origin(const Delivery& delivery) {
  const Message& message = delivery.message();
  // In any other topic the header is the application's, and says nothing.
  const auto letter = message.topic().starts_with("dlq.") ? message.header(layout::kOriginIdHeader) : std::nullopt;
  if (letter) {
    if (const auto origin = layout::parse_origin_id(*letter))
      return Origin{origin->topic, origin->partition, origin->position};
  }
  if (const GroupPartition* partition = direct(delivery))
    return Origin{partition->stream().topic_id(), message.partition(), message.origin()};
  if (const Reference* one = reference(delivery)) return Origin{one->topic, one->partition, message.origin()};
  return fail(stale(delivery, "asking for the origin of").error());
}

Result<TransactionAck> ConsumerCore::describe(const Delivery& delivery) {
  TransactionAck ack;
  ack.member = member_->member();
  if (const GroupPartition* partition = direct(delivery)) {
    const InHand::Entry& entry = *partition->in_hand().find(delivery.index_);
    ack.index = partition->cell_index();
    ack.generation = static_cast<std::uint32_t>(partition->generation());
    ack.target = entry.position.value;
    ack.end = entry.end;
    return ack;
  }
  const Reference* one = reference(delivery);
  if (one == nullptr || one->slot == References::kNoSlot)
    return fail(stale(delivery, "acking in a transaction").error());
  ack.by_slot = true;
  ack.index = one->slot;
  ack.target = one->stamp;
  return ack;
}

// The reference first: its slot may hold another message by now, which is met with the next news.
void ConsumerCore::settled_by_transaction(const Delivery& delivery) {
  if (Reference* one = reference(delivery); one != nullptr && direct(delivery) == nullptr) {
    references_.settled_elsewhere(delivery.place_ & ~layout::kPlaceIsSlot);
    recount_references();
    ++counters_.acked;
    end_settling(1);
    return;
  }
  // One that is not in hand any more is settled all the same.
  if (direct(delivery) != nullptr) static_cast<void>(ack(delivery));
}

Status ConsumerCore::ack(std::span<const Delivery> deliveries) {
  Status first;
  for (const Delivery& delivery : deliveries) {
    Status status = ack(delivery);
    if (!status && first) first = std::move(status);
  }
  return first;
}

Status ConsumerCore::answer(const Delivery& delivery, layout::OutcomeVerb verb, std::uint64_t argument,
                            std::string_view reason, const char* doing) {
  begin_settling();
  if (direct(delivery) == nullptr && reference(delivery) == nullptr) return stale(delivery, doing);
  SLUICE_TRY(need_room(reason.size(), doing));
  if (GroupPartition* partition = direct(delivery)) {
    partition->answer(delivery.index_, verb, argument, reason);
  } else {
    const Reference& one = *reference(delivery);
    const bool failed = verb == layout::OutcomeVerb::nack;
    GroupPartition* of = failed ? find(one.topic, one.partition) : nullptr;
    references_.answer(*member_, delivery.place_ & ~layout::kPlaceIsSlot, verb, argument, reason);
    if (of != nullptr) of->hold_back(one.key_hash);
    recount_references();
  }
  if (verb == layout::OutcomeVerb::ack) ++counters_.acked;
  if (verb == layout::OutcomeVerb::nack || verb == layout::OutcomeVerb::reject) ++counters_.nacked;
  end_settling(1);
  return {};
}

Status ConsumerCore::nack(const Delivery& delivery, Duration delay, std::string_view reason) {
  const std::uint64_t delay_ns = delay.count() < 0 ? layout::kDelayByPolicy : static_cast<std::uint64_t>(delay.count());
  return answer(delivery, layout::OutcomeVerb::nack, delay_ns, reason, "nacking");
}

Status ConsumerCore::reject(const Delivery& delivery, std::string_view reason) {
  return answer(delivery, layout::OutcomeVerb::reject, 0, reason, "rejecting");
}

Status ConsumerCore::defer(const Delivery& delivery) {
  // What came by reference has its place behind the others already: it has not failed, and comes again in its turn.
  if (reference(delivery) != nullptr) return nack(delivery, Duration(0), {});
  return answer(delivery, layout::OutcomeVerb::defer, 0, {}, "deferring");
}

Status ConsumerCore::extend(const Delivery& delivery, Duration time) {
  begin_settling();
  if (direct(delivery) == nullptr && reference(delivery) == nullptr) return stale(delivery, "extending");
  SLUICE_TRY(need_room(0, "extending"));
  const auto time_ns = nanoseconds(time);
  if (GroupPartition* partition = direct(delivery))
    partition->extend(delivery.index_, time_ns);
  else
    references_.extend(*member_, delivery.place_ & ~layout::kPlaceIsSlot, time_ns);
  member_->notify();
  return {};
}

// References count as handed out before a message that was read directly if that was read later, and the other way
// round.
Status ConsumerCore::ack_up_to(const Delivery& delivery) {
  begin_settling();
  GroupPartition* partition = direct(delivery);
  const Reference* last = reference(delivery);
  if (partition == nullptr && last == nullptr) return stale(delivery, "acking up to");
  if (last != nullptr) partition = find(last->topic, last->partition);
  if (partition == nullptr) return ack_reference(delivery);  // a shared group: only it
  Status status;
  const std::uint64_t direct_end = last != nullptr ? last->before : delivery.index_ + 1;
  const std::uint64_t serial_end = last != nullptr ? last->serial : 0;
  std::uint32_t acked = 0;
  for (std::uint32_t i = 0; i < references_.size(); ++i) {
    const Reference& one = references_.at(i);
    const bool earlier = serial_end != 0 ? one.serial <= serial_end : one.before < direct_end;
    if (!earlier || one.state != Reference::State::in_hand || one.topic != partition->stream().topic_id() ||
        one.partition != partition->stream().partition())
      continue;
    status = need_room(0, "acking");
    if (!status) break;
    references_.answer(*member_, i, layout::OutcomeVerb::ack, 0, {});
    ++acked;
  }
  if (status && direct_end != 0) acked += partition->ack_up_to(direct_end - 1);
  counters_.acked += acked;
  recount_references();
  end_settling(acked);
  return status;
}

Status ConsumerCore::ack_sync(Duration timeout) {
  if (closed_) return fail(*closed_);
  member_->bump_progress();
  Status saved = link_->save_acks(member_->member(), timeout);
  if (saved || saved.error().code() != ErrorCode::not_found) return saved;
  // A daemon that is new: joined again, it knows what was settled.
  change_seen_ = link_->change_word().load(std::memory_order_acquire);
  rejoin_due_ = true;
  SLUICE_TRY(attend());
  if (rejoin_due_) return saved;
  return link_->save_acks(member_->member(), timeout);
}

}  // namespace sluice::internal
