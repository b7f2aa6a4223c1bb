#include "sluice/transaction.h"

#include <utility>

#include "sdk/consumer_core.h"
#include "sdk/transactional_core.h"

namespace sluice {
namespace {
std::span<const std::byte> bytes_of(std::string_view text) { return std::as_bytes(std::span(text)); }
}  // namespace

// ---- Transaction ----

Transaction::Transaction(std::unique_ptr<internal::TransactionCore> core) : core_(std::move(core)) {}
Transaction::Transaction(Transaction&&) noexcept = default;
Transaction& Transaction::operator=(Transaction&&) noexcept = default;
Transaction::~Transaction() = default;

TransactionId Transaction::id() const { return core_->id(); }
Result<Receipt> Transaction::send(std::string_view topic, std::span<const std::byte> payload,
                                  const MessageOptions& options) {
  return core_->send(topic, payload, options);
}
Result<Receipt> Transaction::send(std::string_view topic, std::string_view payload, const MessageOptions& options) {
  return core_->send(topic, bytes_of(payload), options);
}
Status Transaction::ack(Consumer& consumer, const Delivery& delivery) {
  return core_->ack(*consumer.impl_->core, delivery);
}
Status Transaction::prepare() { return core_->prepare(); }
Status Transaction::commit() { return core_->resolve(true); }
Status Transaction::rollback() { return core_->resolve(false); }

// ---- TransactionalProducer ----

TransactionalProducer::TransactionalProducer(std::unique_ptr<internal::TransactionalCore> core)
    : core_(std::move(core)) {}
TransactionalProducer::TransactionalProducer(TransactionalProducer&&) noexcept = default;
TransactionalProducer& TransactionalProducer::operator=(TransactionalProducer&&) noexcept = default;
TransactionalProducer::~TransactionalProducer() = default;

Result<Transaction> TransactionalProducer::begin() {
  SLUICE_ASSIGN(const TransactionId id, core_->next_id());
  return Transaction(std::make_unique<internal::TransactionCore>(*core_, id));
}

Result<Verdict> TransactionalProducer::send(std::string_view topic, std::string_view payload,
                                            const MessageOptions& options,
                                            const std::function<Verdict(TransactionId)>& execute) {
  SLUICE_ASSIGN(Transaction transaction, begin());
  SLUICE_TRY(transaction.send(topic, payload, options));
  SLUICE_TRY(transaction.prepare());
  const Verdict verdict = execute(transaction.id());
  if (verdict == Verdict::commit) SLUICE_TRY(transaction.commit());
  if (verdict == Verdict::rollback) SLUICE_TRY(transaction.rollback());
  return verdict;
}

Status TransactionalProducer::resolve(TransactionId id, Verdict verdict) {
  if (verdict == Verdict::unknown)
    return fail(ErrorCode::invalid, "resolving transaction " + to_text(id) + ": unknown is no resolution");
  return core_->resolve(id, verdict == Verdict::commit, {});
}

}  // namespace sluice
