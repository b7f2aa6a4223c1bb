// A worker that is going to be killed: consumes transfers and makes two entries of each, a debit and a credit, in one
// transaction with the ack of the transfer.
//
//   sluice_crash_transfer_worker SOCKET
//     transfers   "ID FROM TO AMOUNT"
//     entries     "ID ACCOUNT AMOUNT", keyed by the account
// Ends when it is killed, or with 1 after an error that nothing explains (stderr says which).
#include <chrono>
#include <cstdio>
#include <sstream>
#include <string>
#include <vector>

#include "sluice/sluice.h"

namespace {

using namespace std::chrono_literals;
using sluice::ErrorCode;

constexpr std::size_t kBatch = 16;

int failed(const char* doing, const sluice::Error& error) {
  std::fprintf(stderr, "transfer_worker: %s: %s\n", doing, error.message().c_str());
  return 1;
}

sluice::Status send_entry(sluice::Transaction& transaction, const std::string& id, const std::string& account,
                          long amount) {
  sluice::MessageOptions options;
  options.key = account;
  SLUICE_TRY(transaction.send("entries", id + " " + account + " " + std::to_string(amount), options));
  return {};
}

sluice::Status transfer(sluice::Transaction& transaction, sluice::Consumer& consumer,
                        const std::vector<sluice::Delivery>& deliveries) {
  for (const sluice::Delivery& delivery : deliveries) {
    std::istringstream text{std::string(delivery.message().text())};
    std::string id, from, to;
    long amount = 0;
    text >> id >> from >> to >> amount;
    SLUICE_TRY(send_entry(transaction, id, from, -amount));
    SLUICE_TRY(send_entry(transaction, id, to, amount));
    SLUICE_TRY(transaction.ack(consumer, delivery));
  }
  return transaction.commit();
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  sluice::ConnectOptions connect;
  connect.socket = argv[1];
  auto client = sluice::Client::connect(connect);
  if (!client) return failed("connecting", client.error());
  sluice::TransactionalOptions options;
  options.group = "bank";
  auto producer = client->transactional_producer(options);
  if (!producer) return failed("opening a producer", producer.error());
  sluice::ConsumerOptions consuming;
  consuming.group = "tellers";
  consuming.from = sluice::From::earliest();
  auto consumer = client->consumer({"transfers"}, consuming);
  if (!consumer) return failed("opening a consumer", consumer.error());
  for (;;) {
    std::vector<sluice::Delivery> deliveries;
    const auto polled =
        consumer->poll(kBatch, 1s, [&](const sluice::Delivery& delivery) { deliveries.push_back(delivery); });
    if (!polled && polled.error().code() != ErrorCode::no_daemon) return failed("consuming", polled.error());
    if (deliveries.empty()) continue;
    auto transaction = producer->begin();
    if (!transaction) return failed("beginning", transaction.error());
    sluice::Status done = transfer(*transaction, *consumer, deliveries);
    while (!done && (done.error().code() == ErrorCode::unknown || done.error().code() == ErrorCode::timed_out ||
                     done.error().code() == ErrorCode::no_daemon))
      done = transaction->commit();
    if (done) continue;
    // Some of it is another member's by now, or the transaction was rolled back with what the daemon has lost.
    if (done.error().code() != ErrorCode::conflict && done.error().code() != ErrorCode::not_found)
      return failed("transferring", done.error());
    static_cast<void>(transaction->rollback());
    for (const sluice::Delivery& delivery : deliveries)
      static_cast<void>(consumer->nack(delivery, {}, done.error().message()));
  }
}
