#include "tests/sim/transactions/transformer.h"

#include <algorithm>

#include "tests/sim/transactions/world.h"

namespace sluice::transactions::sim {
namespace {

constexpr std::uint64_t kNackDelayNsMax = 3'000'000'000;
constexpr std::size_t kInputsMax = 3;  // of a transaction

}  // namespace

void Transformer::act(SessionId session) {
  if (!member_.is_joined()) return member_.join(session);
  member_.look(session);
  std::erase_if(ready_, [this](const Delivery& one) { return !member_.has(one); });
  if (!member_.is_joined()) return;
  if (!ready_.empty() && world_.one_in(6)) return settle_one();
  if (const auto delivery = member_.take()) ready_.push_back(*delivery);
}

void Transformer::settle_one() {
  const std::size_t index = world_.below(ready_.size());
  const Delivery delivery = ready_[index];
  ready_.erase(ready_.begin() + static_cast<std::ptrdiff_t>(index));
  const bool ack = !world_.one_in(3);
  world_.tell(std::string(ack ? "  an ack of " : "  a nack of ") + to_text(delivery.address));
  if (ack) {
    world_.acks().on_plain_ack(delivery.address);
    return member_.ack(delivery);
  }
  ++world_.reached.nacks;
  member_.nack(delivery, world_.below(kNackDelayNsMax));
}

std::vector<Delivery> Transformer::choose() {
  std::vector<Delivery> chosen;
  for (std::size_t wanted = 1 + world_.below(kInputsMax); wanted > 0 && !ready_.empty(); --wanted) {
    const std::size_t index = world_.below(ready_.size());
    if (member_.has(ready_[index])) chosen.push_back(ready_[index]);
    ready_.erase(ready_.begin() + static_cast<std::ptrdiff_t>(index));
  }
  return chosen;
}

std::optional<std::vector<session::TransactionAck>> Transformer::describe(const std::vector<Delivery>& deliveries) {
  std::vector<session::TransactionAck> acks;
  for (const Delivery& delivery : deliveries) {
    const auto ack = member_.describe(delivery);
    if (!ack) return std::nullopt;
    acks.push_back(*ack);
  }
  return acks;
}

void Transformer::on_committed(TransactionId id, const std::vector<Delivery>& deliveries) {
  // Who has decided it, it cannot know: if it were another, the acks were not a part of it.
  const bool with_acks = world_.acks().is_committed_with_acks(id);
  for (const Delivery& delivery : deliveries)
    if (member_.settled_by_transaction(delivery) && !with_acks) world_.acks().on_plain_ack(delivery.address);
  world_.acks().check_stored();
}

// They are in hand as before.
void Transformer::on_rolled_back(const std::vector<Delivery>& deliveries) {
  for (const Delivery& delivery : deliveries)
    if (member_.has(delivery)) ready_.push_back(delivery);
}

}  // namespace sluice::transactions::sim
