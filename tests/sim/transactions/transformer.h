// What an app does that consumes, too: it takes messages of the group, lets transactions of its own settle them, and
// sometimes acks one plainly, or wants it again later.
//
// Owner: an App.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "tests/sim/transactions/member.h"

namespace sluice::transactions::sim {

class Transformer {
 public:
  explicit Transformer(World& world) : world_(world), member_(world) {}

  // One thing that it does. Precondition: its app is connected to the daemon that runs.
  void act(SessionId session);
  void leave(SessionId session) { member_.leave(session); }
  void on_daemon_gone() { member_.on_daemon_gone(); }

  // Messages for a transaction, if there are any.
  std::vector<Delivery> choose();
  // As they are to be named now. Nothing: one of them is not in its hands any more.
  std::optional<std::vector<session::TransactionAck>> describe(const std::vector<Delivery>& deliveries);
  bool is_joined() const { return member_.is_joined(); }
  // The transaction is over.
  void on_committed(TransactionId id, const std::vector<Delivery>& deliveries);
  void on_rolled_back(const std::vector<Delivery>& deliveries);

 private:
  void settle_one();

  World& world_;
  Member member_;
  std::vector<Delivery> ready_;  // in hand, and in no transaction
};

}  // namespace sluice::transactions::sim
