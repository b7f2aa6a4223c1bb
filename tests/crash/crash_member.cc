// A member of a group that is going to be killed or stopped: it handles messages and acks each, on the public SDK
// alone.
//
//   sluice_crash_member SOCKET TOPIC GROUP ordered|shared BOARD_FD MEMBER WORK_US BATCH
// BATCH 0: one by one with next(); else it takes so many at a time and acks them together. It ends once the board says
// stop. Exit codes: 0 · 1 something was wrong (the board says what) · 2 usage.
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "sluice/sluice.h"
#include "tests/crash/group_board.h"

namespace sluice::test {
namespace {

using namespace std::chrono_literals;

int run(char** argv) {
  GroupBoard board(std::atoi(argv[5]));
  const auto member = static_cast<std::uint32_t>(std::atoi(argv[6]));
  const auto work = std::chrono::microseconds(std::atoi(argv[7]));
  const auto batch = static_cast<std::size_t>(std::atoi(argv[8]));
  const auto complain = [&](const Error& error) {
    board.complain(error.message());
    return 1;
  };
  ConnectOptions options;
  options.socket = argv[1];
  options.client_name = "member-" + std::string(argv[6]);
  options.timeout = options.control_timeout = 60s;
  auto client = Client::connect(options);
  if (!client) return complain(client.error());
  ConsumerOptions consuming;
  consuming.group = argv[3];
  consuming.mode = std::string(argv[4]) == "shared" ? GroupMode::shared : GroupMode::ordered;
  consuming.from = From::earliest();
  auto consumer = client->consumer({argv[2]}, consuming);
  if (!consumer) return complain(consumer.error());
  const auto begin = [&](const Delivery& delivery) {
    GroupMessage message;
    if (delivery.message().payload().size() != sizeof message) return;
    std::memcpy(&message, delivery.message().payload().data(), sizeof message);
    if (board->poison.load() == message.id + 1) std::abort();
    if (board->held.load() == member + 1) board->holding.fetch_add(1);
    if (work.count() != 0) std::this_thread::sleep_for(work);
    while (board->held.load() == member + 1) std::this_thread::sleep_for(1ms);
    board.handle(message, member, delivery.message().partition());
  };
  while (board->stop.load() == 0) {
    if (batch == 0) {
      auto delivery = consumer->next(50ms);
      if (!delivery && delivery.error().code() != ErrorCode::timed_out) return complain(delivery.error());
      if (!delivery) continue;
      begin(*delivery);
      static_cast<void>(consumer->ack(*delivery).has_value());  // conflict: it was another's by then
      continue;
    }
    std::vector<Delivery> taken;
    auto count = consumer->poll(batch, 50ms, [&](const Delivery& delivery) { taken.push_back(delivery); });
    if (!count && count.error().code() != ErrorCode::timed_out) return complain(count.error());
    for (const Delivery& delivery : taken) begin(delivery);
    static_cast<void>(consumer->ack(taken).has_value());
  }
  if (Status closed = consumer->close(); !closed) return complain(closed.error());
  return 0;
}

}  // namespace
}  // namespace sluice::test

int main(int argc, char** argv) { return argc == 9 ? sluice::test::run(argv) : 2; }
