#include "sluice/producer.h"

#include <utility>

#include "sdk/producer_core.h"

namespace sluice {
namespace {
std::span<const std::byte> bytes_of(std::string_view text) { return std::as_bytes(std::span(text)); }
}  // namespace

// ---- Claim ----

Claim::Claim(Claim&& other) noexcept
    : core_(std::exchange(other.core_, nullptr)), payload_(std::exchange(other.payload_, {})) {}

Claim& Claim::operator=(Claim&& other) noexcept {
  if (this != &other) {
    abort();
    core_ = std::exchange(other.core_, nullptr);
    payload_ = std::exchange(other.payload_, {});
  }
  return *this;
}

Claim::~Claim() { abort(); }

Result<Receipt> Claim::commit() {
  if (core_ == nullptr)
    return fail(ErrorCode::invalid, "committing a claim: it was committed, aborted or moved away before");
  payload_ = {};
  return std::exchange(core_, nullptr)->commit();
}

void Claim::abort() {
  payload_ = {};
  if (core_ != nullptr) std::exchange(core_, nullptr)->abort();
}

// ---- Producer ----

Producer::Producer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Producer::Producer(Producer&&) noexcept = default;
Producer& Producer::operator=(Producer&&) noexcept = default;
Producer::~Producer() = default;

Result<Receipt> Producer::send(std::span<const std::byte> payload, const MessageOptions& options) {
  return impl_->core->send(payload, options, true);
}
Result<Receipt> Producer::send(std::string_view payload, const MessageOptions& options) {
  return impl_->core->send(bytes_of(payload), options, true);
}
Result<Receipt> Producer::send_async(std::span<const std::byte> payload, const MessageOptions& options) {
  return impl_->core->send(payload, options, false);
}
Result<Receipt> Producer::send_async(std::string_view payload, const MessageOptions& options) {
  return impl_->core->send(bytes_of(payload), options, false);
}
Result<Receipt> Producer::send_batch(std::span<const std::span<const std::byte>> payloads,
                                     const MessageOptions& options) {
  return impl_->core->send_batch(payloads, options);
}

Result<Claim> Producer::claim(std::size_t size, const MessageOptions& options) {
  SLUICE_ASSIGN(const std::span<std::byte> payload, impl_->core->claim(size, options));
  Claim claim;
  claim.core_ = impl_->core.get();
  claim.payload_ = payload;
  return claim;
}

Status Producer::wait(const Receipt& receipt, Duration timeout) { return impl_->core->wait(receipt, timeout); }
Status Producer::flush(Duration timeout) { return impl_->core->flush(timeout); }
ReceiptState Producer::state(const Receipt& receipt) const { return impl_->core->state(receipt); }
const std::vector<LastSent>& Producer::last_sent() const { return impl_->core->last_sent(); }
ProducerId Producer::id() const { return impl_->core->id(); }
const ProducerCounters& Producer::counters() const { return impl_->core->counters(); }
std::uint32_t Producer::partitions() const { return impl_->core->partitions(); }
std::size_t Producer::payload_size_max() const { return impl_->core->payload_size_max(); }

}  // namespace sluice
