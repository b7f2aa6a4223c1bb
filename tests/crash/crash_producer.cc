// A producer that is going to be killed, stopped, or left without its daemon: it sends messages whose bytes follow from
// its number and a counter, and leaves word of each receipt on the board. On the public SDK alone.
//
//   sluice_crash_producer SOCKET TOPIC BOARD_FD WORKER MODE COUNT
//     MODE  send    COUNT messages (0: until the board says stop), one receipt after the other
//           claim   the same in place, by claim and commit
//           stopped one claim that is stopped (SIGSTOP to itself) before its commit, which must fail with
//           claim_expired;
//                   then COUNT messages
//           late    by claim and commit, each claim held open for a while, until the board says stop; what became of
//           each
//                   message is noted: committed, or expired
//           window  send_async, flushed every few messages; each receipt is noted with its position
// Exit codes: 0 all sent · 1 a send failed in a way that the mode does not allow (the board says how) · 2 usage.
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "sluice/sluice.h"
#include "tests/crash/board.h"

namespace sluice::test {
namespace {

struct Job {
  std::string socket, topic, mode;
  int board_fd = -1;
  std::uint32_t worker = 0;
  std::uint64_t count = 0;
};

class Runner {
 public:
  Runner(const Job& job, Board& board, Producer producer)
      : job_(job), board_(board), self_(board->workers[job.worker]), producer_(std::move(producer)) {}

  int run() {
    if (job_.mode == "stopped" && !commit_too_late()) return 1;
    while (!finished()) {
      if (job_.mode == "window") {
        if (!send_window()) return 1;
      } else if (job_.mode == "late") {
        if (!send_late()) return 1;
      } else if (!send_one()) {
        return 1;
      }
    }
    return 0;
  }

 private:
  bool finished() const {
    // relaxed: nothing hangs on when it is seen.
    return board_->stop.load(std::memory_order_relaxed) != 0 || (job_.count != 0 && counter_ >= job_.count);
  }

  bool complain(const std::string& what) {
    const std::string text = what.substr(0, sizeof self_.error - 1);
    std::memcpy(self_.error, text.c_str(), text.size() + 1);
    return false;
  }

  MessageOptions options() const {
    MessageOptions options;
    options.partition = static_cast<PartitionNumber>(counter_ % producer_.partitions());
    return options;
  }

  Result<Receipt> send_or_claim(const std::string& payload) {
    if (job_.mode != "claim") return producer_.send(payload, options());
    auto claim = producer_.claim(payload.size(), options());
    if (!claim) return tl::unexpected(claim.error());
    std::memcpy(claim->payload().data(), payload.data(), payload.size());
    return claim->commit();
  }

  bool send_one() {
    ++counter_;
    self_.attempted.store(counter_, std::memory_order_release);
    auto receipt = send_or_claim(make_payload(job_.worker, counter_));
    if (!receipt) return complain(receipt.error().message());
    self_.confirmed.store(counter_, std::memory_order_release);
    if (counter_ % 8 == 0) std::this_thread::sleep_for(std::chrono::microseconds(100));
    return true;
  }

  bool commit_too_late() {
    const std::string payload = make_payload(job_.worker, 1);
    auto claim = producer_.claim(payload.size());
    if (!claim) return complain(claim.error().message());
    std::memcpy(claim->payload().data(), payload.data(), payload.size());
    ::raise(SIGSTOP);
    auto receipt = claim->commit();
    if (receipt) return complain("a commit after the deadline went through");
    if (receipt.error().code() != ErrorCode::claim_expired) return complain(receipt.error().message());
    return true;
  }

  // Whoever is stopped here is most likely stopped inside of a claim.
  bool send_late() {
    ++counter_;
    self_.attempted.store(counter_, std::memory_order_release);
    const std::string payload = make_payload(job_.worker, counter_);
    auto claim = producer_.claim(payload.size(), options());
    if (!claim) return complain(claim.error().message());
    std::memcpy(claim->payload().data(), payload.data(), payload.size());
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    auto receipt = claim->commit();
    if (!receipt && receipt.error().code() != ErrorCode::claim_expired) return complain(receipt.error().message());
    if (receipt)
      self_.confirmed.fetch_add(1, std::memory_order_release);
    else
      self_.failed.fetch_add(1, std::memory_order_relaxed);
    Note* note = board_.new_note();
    if (note == nullptr) return complain("the board is full");
    note->counter = counter_;
    note->worker = job_.worker;
    note->state.store(receipt ? kNoteCommitted : kNoteExpired, std::memory_order_release);
    return true;
  }

  // The daemon may go away and come back at any time: what ends as unknown stays noted as committed.
  bool send_window() {
    std::vector<std::pair<Receipt, Note*>> window;
    for (int i = 0; i < 16; ++i) {
      ++counter_;
      self_.attempted.store(counter_, std::memory_order_release);
      auto receipt = producer_.send_async(make_payload(job_.worker, counter_), options());
      if (!receipt) {
        self_.failed.fetch_add(1, std::memory_order_relaxed);
        complain(receipt.error().message());
        continue;
      }
      self_.confirmed.store(counter_, std::memory_order_release);
      Note* note = board_.new_note();
      if (note == nullptr) return complain("the board is full");
      note->counter = counter_;
      note->position = receipt->position.value;
      note->sequence = receipt->sequence.value;
      note->producer = producer_.id().value;
      note->worker = job_.worker;
      note->partition = receipt->partition;
      note->state.store(kNoteCommitted, std::memory_order_release);
      window.emplace_back(*receipt, note);
    }
    // If this fails, its memory was lost: the receipts below say which of them it had made durable.
    static_cast<void>(producer_.flush(std::chrono::seconds(60)).has_value());
    for (auto& [receipt, note] : window) {
      if (producer_.state(receipt) != ReceiptState::durable) continue;
      note->state.store(kNoteDurable, std::memory_order_release);
      self_.durable.fetch_add(1, std::memory_order_release);
    }
    return true;
  }

  const Job& job_;
  Board& board_;
  Worker& self_;
  Producer producer_;
  std::uint64_t counter_ = 0;
};

int run(const Job& job) {
  Board board(job.board_fd);
  ConnectOptions options;
  options.socket = job.socket;
  options.client_name = "crash-" + std::to_string(job.worker);
  options.timeout = options.control_timeout = std::chrono::seconds(60);
  auto fail_with = [&](const Error& error) {
    std::strncpy(board->workers[job.worker].error, error.message().c_str(), sizeof(Worker::error) - 1);
    return 1;
  };
  auto client = Client::connect(options);
  if (!client) return fail_with(client.error());
  ProducerOptions producer_options;
  producer_options.send_timeout = std::chrono::seconds(60);
  auto producer = client->producer(job.topic, producer_options);
  if (!producer) return fail_with(producer.error());
  return Runner(job, board, std::move(*producer)).run();
}

}  // namespace
}  // namespace sluice::test

int main(int argc, char** argv) {
  if (argc != 7) return 2;
  sluice::test::Job job;
  job.socket = argv[1];
  job.topic = argv[2];
  job.board_fd = std::atoi(argv[3]);
  job.worker = static_cast<std::uint32_t>(std::atoi(argv[4]));
  job.mode = argv[5];
  job.count = std::strtoull(argv[6], nullptr, 10);
  return sluice::test::run(job);
}
