// From what the SDK says of a message, and the daemon of a group, to what the ledger knows them by.
//
//   auto key = ledger::key_of(consumer, *delivery);                     // for record()
//   auto horizon = ledger::horizon_of(client, "billing", "orders", 0);  // for forget(), now and then
//
// Header-only: the ledger's library itself knows nothing of the bus.
#pragma once

#include <string>
#include <string_view>
#include <utility>

#include "sluice/client.h"
#include "sluice/consumer.h"
#include "sluice/ledger/key.h"

namespace sluice::ledger {

// Errors: those of Consumer::origin() and Consumer::epoch(). Mostly no call to the daemon. On the consumer's thread.
inline Result<MessageKey> key_of(const Consumer& consumer, const Delivery& delivery) {
  SLUICE_ASSIGN(const Origin origin, consumer.origin(delivery));
  SLUICE_ASSIGN(const std::uint64_t epoch, consumer.epoch(origin));
  return MessageKey{consumer.group(), epoch, origin.topic, origin.partition, origin.position};
}

// Errors: those of Client::safe_horizon(). From then on a seek below it must be forced, and begins a new epoch.
inline Result<Horizon> horizon_of(Client& client, std::string_view group, std::string_view topic,
                                  PartitionNumber partition) {
  SLUICE_ASSIGN(SafeHorizon said, client.safe_horizon(group, topic, partition));
  return Horizon{std::string(group), said.epoch, said.topic, partition, said.below, std::move(said.parked)};
}

}  // namespace sluice::ledger
