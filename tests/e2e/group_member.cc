// A member of a group for the tests of `sluice why`, on the public SDK alone: what it does with each message is told,
// and goes on until it is killed.
//
//   sluice_group_member TOPIC GROUP ordered|shared ack|nack|keep WORK_MS IN_FLIGHT_MAX
// keep: neither. It joins at the group's cursor, or the earliest message. Exit codes: 1 an error (on stderr) · 2 usage.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

#include "sluice/sluice.h"

namespace {

int complain(const sluice::Error& error) {
  std::fprintf(stderr, "%s\n", error.message().c_str());
  return 1;
}

int run(char** argv) {
  const std::string verb = argv[4];
  const auto work = std::chrono::milliseconds(std::atoi(argv[5]));
  sluice::ConnectOptions connecting;
  connecting.client_name = "handler";
  auto client = sluice::Client::connect(connecting);
  if (!client) return complain(client.error());
  sluice::ConsumerOptions options;
  options.group = argv[2];
  options.mode = std::string(argv[3]) == "shared" ? sluice::GroupMode::shared : sluice::GroupMode::ordered;
  options.from = sluice::From::earliest();
  options.in_flight_max = static_cast<std::uint32_t>(std::atoi(argv[6]));
  auto consumer = client->consumer({argv[1]}, options);
  if (!consumer) return complain(consumer.error());
  std::vector<sluice::Delivery> kept;
  for (;;) {
    auto delivery = consumer->next(std::chrono::milliseconds(100));
    if (!delivery && delivery.error().code() != sluice::ErrorCode::timed_out) return complain(delivery.error());
    if (!delivery) continue;
    std::this_thread::sleep_for(work);
    sluice::Status told;
    if (verb == "ack") told = consumer->ack(*delivery);
    if (verb == "nack") told = consumer->nack(*delivery, sluice::Duration(-1), "it cannot be handled");
    if (verb == "keep") kept.push_back(*delivery);
    if (!told && told.error().code() != sluice::ErrorCode::conflict) return complain(told.error());
  }
}

}  // namespace

int main(int argc, char** argv) { return argc == 7 ? run(argv) : 2; }
