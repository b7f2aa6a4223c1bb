#include "tests/sim/transactions/feeder.h"

#include <string>

#include "shm/base/clock.h"
#include "tests/sim/transactions/world.h"

namespace sluice::transactions::sim {
namespace {

constexpr std::size_t kInputsMax = 48;  // of a run

}  // namespace

Feeder::Feeder(World& world) : world_(world), connection_(world, "feeder", {kInputTopic}) {}

void Feeder::act(bool sends) {
  if (!connected_) {
    connected_ = world_.host().runs() && connection_.attach();
    return;
  }
  for (TrueInput* input : world_.acks().not_durable())
    if (connection_.lane_to(input->address.place).is_durable(input->end)) input->durable = true;
  if (sends && world_.acks().size() < kInputsMax) send();
}

void Feeder::send() {
  Connection::Lane& lane = connection_.some_lane();
  const std::string payload(world_.below(300), 'i');
  ring::Appended appended;
  const ring::AppendResult result =
      lane.appender.append({std::as_bytes(std::span(payload)), {}, realtime_ns()}, appended);
  if (result != ring::AppendResult::ok) {
    check(result == ring::AppendResult::no_room || result == ring::AppendResult::gate_closed,
          "an input cannot be sent, for no good reason");
    return;
  }
  const Address address{lane.place, appended.position};
  world_.acks().on_sent(address, appended.end);
  world_.tell("the feeder sends " + to_text(address));
}

void Feeder::on_daemon_gone(bool memory_kept) {
  connected_ = false;
  connection_.on_daemon_gone(memory_kept);
}

}  // namespace sluice::transactions::sim
