// A consumer that is going to be stopped: it reads a topic from its start, and leaves word of each message on the
// board. On the public SDK alone.
//
//   sluice_crash_consumer SOCKET TOPIC BOARD_FD WORKER
// It ends once the board says stop and it has read as many messages as the test has put into `attempted` of its worker.
// Exit codes: 0 all read · 1 something was wrong with a message, or lost (the board says what) · 2 usage.
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <string>

#include "sluice/sluice.h"
#include "tests/crash/board.h"
#include "tests/crash/ledger.h"

namespace sluice::test {
namespace {

int run(const std::string& socket, const std::string& topic, int board_fd, std::uint32_t worker) {
  Board board(board_fd);
  Worker& self = board->workers[worker];
  const auto complain = [&](const std::string& what) {
    std::strncpy(self.error, what.c_str(), sizeof self.error - 1);
    return 1;
  };
  ConnectOptions options;
  options.socket = socket;
  options.timeout = options.control_timeout = std::chrono::seconds(60);
  auto client = Client::connect(options);
  if (!client) return complain(client.error().message());
  ReaderOptions reading;
  reading.from = From::earliest();
  std::string wrong;
  reading.on_loss = [&](const LossEvent& event) {
    wrong = event.address.to_string() + ": expected " + std::to_string(event.expected.value) + ", found " +
            std::to_string(event.found.value) + " " + event.reason;
  };
  auto reader = client->reader({topic}, reading);
  if (!reader) return complain(reader.error().message());
  Ledger ledger;
  const auto take = [&](const Message& message) {
    if (const std::string complaint = ledger.note(message); !complaint.empty()) wrong = complaint;
    Origin origin;
    Note* note = board.new_note();
    if (!parse_payload(message.text(), origin) || note == nullptr) return;
    note->counter = origin.counter;
    note->worker = origin.worker;
    note->position = message.position().value;
    note->partition = message.partition();
    note->state.store(kNoteSeen, std::memory_order_release);
    self.confirmed.store(ledger.messages(), std::memory_order_release);
  };
  // acquire: pairs with the test's release, which comes after the number of messages.
  while (board->stop.load(std::memory_order_acquire) < 2 || ledger.messages() < self.attempted.load()) {
    auto handled = reader->poll(64, std::chrono::milliseconds(20), take);
    if (!handled && handled.error().code() != ErrorCode::timed_out) return complain(handled.error().message());
    if (!wrong.empty()) return complain(wrong);
  }
  const ReaderCounters& counters = reader->counters();
  if (counters.gaps + counters.repeats + counters.corrupt != 0)
    return complain(std::to_string(counters.gaps) + " gaps, " + std::to_string(counters.repeats) + " repeats, " +
                    std::to_string(counters.corrupt) + " corrupt");
  return 0;
}

}  // namespace
}  // namespace sluice::test

int main(int argc, char** argv) {
  if (argc != 5) return 2;
  return sluice::test::run(argv[1], argv[2], std::atoi(argv[3]), static_cast<std::uint32_t>(std::atoi(argv[4])));
}
