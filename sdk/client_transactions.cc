// Client: transactions.
#include <utility>

#include "sdk/client_impl.h"
#include "sdk/half_reader.h"
#include "sdk/transactional_core.h"

namespace sluice {

Result<TransactionalProducer> Client::transactional_producer(TransactionalOptions options) {
  SLUICE_ASSIGN(auto core, internal::TransactionalCore::open(impl_->link, impl_->link, std::move(options)));
  return TransactionalProducer(std::move(core));
}

Result<std::vector<TransactionInfo>> Client::transactions(TransactionId after, std::uint32_t limit, bool parked_only) {
  return impl_->control().list_transactions(after, limit, parked_only);
}
Result<TransactionInfo> Client::transaction(TransactionId id) { return impl_->control().describe_transaction(id); }
void Client::read_transaction(const TransactionInfo& transaction, const std::function<bool(const Message&)>& visit) {
  internal::HalfReader reader(impl_->link);
  Message message;
  for (const HalfInfo& half : transaction.halves)
    if (reader.read({half.topic, half.topic_id, half.partition, half.position}, message) && !visit(message)) return;
}
Result<TransactionInfo> Client::order_transaction(TransactionId id, TransactionOrder order) {
  return impl_->control().order_transaction(id, order);
}

}  // namespace sluice
