#include "sdk/transactional_core.h"

#include <algorithm>
#include <utility>

#include "sdk/consumer_core.h"
#include "sdk/half_reader.h"
#include "shm/base/clock.h"
#include "shm/base/limits.h"
#include "shm/ring/futex.h"

namespace sluice::internal {
namespace {

// While the daemon is away the check thread looks so often whether it is to end.
constexpr std::uint64_t kAwayLookNs = 200'000'000;

}  // namespace

// ---- the producer ----

Result<std::unique_ptr<TransactionalCore>> TransactionalCore::open(std::shared_ptr<BusLink> bus,
                                                                   std::shared_ptr<TransactionLink> link,
                                                                   TransactionalOptions options) {
  std::unique_ptr<TransactionalCore> core(new TransactionalCore(std::move(bus), std::move(link), std::move(options)));
  SLUICE_TRY(core->current_id());
  if (core->has_check()) core->check_thread_ = std::thread([raw = core.get()] { raw->serve_checks(); });
  return core;
}

TransactionalCore::~TransactionalCore() {
  stopping_.store(true, std::memory_order_release);  // pairs with the acquire in serve_checks()
  // Its call that waits for a check is answered by this.
  ProducerId id;
  {
    const std::lock_guard lock(id_mutex_);
    id = id_;
  }
  if (id != ProducerId()) static_cast<void>(link_->close_transactor(id));
  if (check_thread_.joinable()) check_thread_.join();
}

Result<ProducerId> TransactionalCore::current_id() {
  const std::lock_guard lock(id_mutex_);
  // acquire: pairs with BusLink::changed(); the connection that is used behind it is that one, or a newer one.
  const std::uint32_t change = bus_->change_word().load(std::memory_order_acquire);
  if (id_ != ProducerId() && change == id_change_) return id_;
  auto opened = link_->open_transactor(options_.group, id_);
  // Another daemon's memory, or another session: what was begun under the old id is checked, or rolled back.
  if (!opened && opened.error().code() == ErrorCode::conflict && id_ != ProducerId())
    opened = link_->open_transactor(options_.group, ProducerId());
  if (!opened) return fail(std::move(opened).error());
  id_ = *opened;
  id_change_ = change;
  return id_;
}

// The daemon is a new one, or has ended the session: opened again by the next call.
void TransactionalCore::forget_if_unknown(const Error& error) {
  if (error.code() != ErrorCode::revoked) return;
  const std::lock_guard lock(id_mutex_);
  id_change_ = bus_->change_word().load(std::memory_order_acquire) - 1;
}

Result<TransactionId> TransactionalCore::next_id() {
  SLUICE_ASSIGN(const ProducerId id, current_id());
  if (last_number_ == ~std::uint32_t{0})
    return fail(ErrorCode::quota, "beginning a transaction: this producer has begun 2^32 − 1; open another one");
  return TransactionId::make(id, ++last_number_);
}

Result<ProducerCore*> TransactionalCore::producer(std::string_view topic) {
  const auto found = producers_.find(topic);
  if (found != producers_.end()) return found->second.get();
  ProducerOptions options;
  options.send_timeout = options_.timeout;
  SLUICE_ASSIGN(std::unique_ptr<ProducerCore> opened, ProducerCore::open(bus_, std::string(topic), std::move(options)));
  return producers_.emplace(std::string(topic), std::move(opened)).first->second.get();
}

Status TransactionalCore::resolve(TransactionId id, bool commit, std::vector<HalfRef> halves,
                                  std::vector<TransactionAck> acks) {
  ResolveRequest request;
  request.transaction = id;
  request.commit = commit;
  request.halves = std::move(halves);
  request.acks = std::move(acks);
  const std::uint64_t until = monotonic_ns() + static_cast<std::uint64_t>(options_.timeout.count());
  for (;;) {
    SLUICE_ASSIGN(request.transactor, current_id());
    const auto resolution = link_->resolve(request, options_.timeout);
    if (resolution) {
      if (resolution->commit == commit) return {};
      return fail(ErrorCode::conflict, std::string(commit ? "committing" : "rolling back") + " transaction " +
                                           to_text(id) + ": it is " +
                                           (resolution->commit ? "already_committed" : "already_rolled_back") +
                                           ", and the first answer stands");
    }
    // A daemon that is new, and maybe not for long.
    if (resolution.error().code() != ErrorCode::revoked || monotonic_ns() >= until) return fail(resolution.error());
    forget_if_unknown(resolution.error());
  }
}

// ---- checks ----

void TransactionalCore::pause_check_thread() {
  const std::uint32_t change = bus_->change_word().load(std::memory_order_acquire);
  if (!stopping_.load(std::memory_order_acquire)) ring::futex_wait(bus_->change_word(), change, kAwayLookNs);
}

void TransactionalCore::serve_checks() {
  while (!stopping_.load(std::memory_order_acquire)) {
    if (!BusLink::online(bus_->word())) {
      if (bus_->state() == ConnectionState::closed) return;
      pause_check_thread();
      continue;
    }
    const auto id = current_id();
    if (!id) {
      pause_check_thread();
      continue;
    }
    const auto request = link_->take_check(*id);
    if (!request) {
      if (request.error().code() == ErrorCode::closed) return;
      forget_if_unknown(request.error());
      pause_check_thread();
      continue;
    }
    if (request->transaction == TransactionId()) continue;
    // Not answered: the daemon asks again, this producer or another one.
    static_cast<void>(link_->answer_check(*id, request->transaction, request->serial, check(*request)));
  }
}

Verdict TransactionalCore::check(const CheckRequest& request) {
  HalfReader reader(bus_);
  TransactionCheck checked;
  checked.id = request.transaction;
  for (const HalfRef& half : request.halves) {
    Message message;
    if (reader.read(half, message)) checked.messages.push_back(std::move(message));
  }
  try {
    return options_.check(checked);
  } catch (...) {
    return Verdict::unknown;
  }
}

// ---- one transaction ----

TransactionCore::~TransactionCore() {
  if (decided_ || sent_.empty() || (owner_.has_check() && !broken_)) return;
  static_cast<void>(resolve(false));
}

Result<Receipt> TransactionCore::send(std::string_view topic, std::span<const std::byte> payload,
                                      const MessageOptions& options) {
  const auto refuse = [&](const std::string& why) {
    return fail(ErrorCode::invalid,
                "sending to topic " + std::string(topic) + " in transaction " + to_text(id_) + ": " + why);
  };
  if (resolved_) return refuse("it was resolved already");
  if (broken_) return refuse("an earlier message of it has failed; roll it back");
  if (sent_.size() >= kHalvesPerTransactionMax)
    return fail(ErrorCode::quota, "sending in transaction " + to_text(id_) + ": it has " +
                                      std::to_string(kHalvesPerTransactionMax) + " messages, which is the limit");
  const auto producer = owner_.producer(topic);
  if (!producer) return fail(producer.error());
  const layout::HalfEntry entry{id_, owner_.has_check(), owner_.options().group};
  auto receipt = (*producer)->send_half(payload, options, entry);
  if (!receipt) {
    // invalid and too_large were noticed before anything was written.
    const ErrorCode code = receipt.error().code();
    broken_ = code != ErrorCode::invalid && code != ErrorCode::too_large;
    return receipt;
  }
  sent_.push_back({std::string(topic), *producer, *receipt});
  return receipt;
}

Status TransactionCore::ack(ConsumerCore& consumer, const Delivery& delivery) {
  const std::string doing = "acking in transaction " + to_text(id_);
  if (resolved_) return fail(ErrorCode::invalid, doing + ": it was resolved already");
  if (owner_.has_check())
    return fail(ErrorCode::invalid, doing +
                                        ": its producer has a check, whose answer would have to know what was acked; "
                                        "use a producer without");
  if (acked_.size() >= kAcksPerTransactionMax)
    return fail(ErrorCode::quota,
                doing + ": it has " + std::to_string(kAcksPerTransactionMax) + " acks, which is the limit");
  SLUICE_TRY(consumer.describe(delivery));
  acked_.push_back({&consumer, delivery});
  return {};
}

Status TransactionCore::prepare() {
  if (broken_)
    return fail(ErrorCode::invalid,
                "preparing transaction " + to_text(id_) + ": a message of it has failed; roll it back");
  for (; prepared_ < sent_.size(); ++prepared_) {
    const Sent& sent = sent_[prepared_];
    SLUICE_TRY(sent.producer->wait(sent.receipt, owner_.options().timeout));
  }
  return {};
}

Status TransactionCore::resolve(bool commit) {
  if (commit) SLUICE_TRY(prepare());
  if (commit && sent_.empty() && !acked_.empty())
    return fail(ErrorCode::invalid, "committing transaction " + to_text(id_) +
                                        ": it sends nothing; ack its messages without a transaction");
  resolved_ = true;
  if (sent_.empty() && !broken_) {
    decided_ = true;
    return {};
  }
  std::vector<HalfRef> halves;
  for (const Sent& sent : sent_)
    halves.push_back({sent.topic, sent.producer->topic_id(), sent.receipt.partition, sent.receipt.position});
  std::vector<TransactionAck> acks;
  for (const Acked& acked : acked_) {
    if (!commit) break;
    SLUICE_ASSIGN(TransactionAck ack, acked.consumer->describe(acked.delivery));
    acks.push_back(ack);
  }
  Status resolved = owner_.resolve(id_, commit, std::move(halves), std::move(acks));
  // Of one that never reached the log nobody knows: it is rolled back.
  if (!commit && !resolved && resolved.error().code() == ErrorCode::not_found) resolved = {};
  decided_ = resolved.has_value();
  if (!decided_ || !commit) return resolved;
  for (const Acked& acked : acked_) acked.consumer->settled_by_transaction(acked.delivery);
  acked_.clear();
  return resolved;
}

}  // namespace sluice::internal
