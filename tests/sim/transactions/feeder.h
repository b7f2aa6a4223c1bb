// A process that sends plain messages to the input topic, for the consumer group (acks_truth.h).
//
// Owner: the World.
#pragma once

#include <cstdint>

#include "tests/sim/transactions/connection.h"

namespace sluice::transactions::sim {

class Feeder {
 public:
  explicit Feeder(World& world);

  // One thing that it does. `sends`: that may be a message.
  void act(bool sends);
  void on_daemon_gone(bool memory_kept);

 private:
  void send();

  World& world_;
  Connection connection_;
  bool connected_ = false;
};

}  // namespace sluice::transactions::sim
