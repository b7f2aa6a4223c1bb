#include "sluice/consumer.h"

#include <utility>

#include "sdk/consumer_core.h"
#include "sdk/handler_loop.h"

namespace sluice {

Consumer::Consumer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Consumer::Consumer(Consumer&&) noexcept = default;
Consumer& Consumer::operator=(Consumer&&) noexcept = default;
Consumer::~Consumer() = default;

Result<Delivery> Consumer::next(Duration timeout) { return impl_->core->next(timeout); }

Result<std::size_t> Consumer::poll(std::size_t count, Duration timeout,
                                   const std::function<void(const Delivery&)>& handler) {
  return impl_->core->poll(count, timeout, handler);
}

Result<Origin> Consumer::origin(const Delivery& delivery) const { return impl_->core->origin(delivery); }
Result<std::uint64_t> Consumer::epoch(const Origin& origin) const { return impl_->core->epoch(origin); }
const std::string& Consumer::group() const { return impl_->core->group().name; }
Status Consumer::ack(const Delivery& delivery) { return impl_->core->ack(delivery); }
Status Consumer::ack(std::span<const Delivery> deliveries) { return impl_->core->ack(deliveries); }
Status Consumer::ack_up_to(const Delivery& delivery) { return impl_->core->ack_up_to(delivery); }
Status Consumer::nack(const Delivery& delivery, Duration delay, std::string_view reason) {
  return impl_->core->nack(delivery, delay, reason);
}
Status Consumer::reject(const Delivery& delivery, std::string_view reason) {
  return impl_->core->reject(delivery, reason);
}
Status Consumer::extend(const Delivery& delivery, Duration time) { return impl_->core->extend(delivery, time); }
Status Consumer::ack_sync(Duration timeout) { return impl_->core->ack_sync(timeout); }

Status Consumer::run(const Handler& handler, const RunOptions& options) {
  return internal::HandlerLoop(*impl_->core, handler, options, impl_->stopping).run();
}

void Consumer::stop() {
  // release: pairs with the loop's acquire.
  impl_->stopping.store(true, std::memory_order_release);
  impl_->core->interrupt();
}

Result<int> Consumer::fd() { return impl_->core->fd(); }
Status Consumer::close() { return impl_->core->close(); }
std::uint64_t Consumer::member() const { return impl_->core->member(); }
std::vector<std::pair<std::string, PartitionNumber>> Consumer::assignments() const {
  return impl_->core->assignments();
}
const ConsumerCounters& Consumer::counters() const { return impl_->core->counters(); }

}  // namespace sluice
