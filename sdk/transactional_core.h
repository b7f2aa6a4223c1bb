// A transactional producer: begins transactions, asks for their resolution, and answers the daemon's checks on a thread
// of its own. The inside of sluice::TransactionalProducer and sluice::Transaction.
//
// Owner: one thread; the check thread shares `link_`, `bus_` and the id.
//
// Invariants
//  1. Ids of transactions are this transactor's id and a number that is used once, also over restarts of the daemon.
//     The transactor goes on under its id where it can; under a new one it counts on.
//  2. A transaction whose send has failed is never committed.
#pragma once

#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "sdk/bus_link.h"
#include "sdk/producer_core.h"
#include "sdk/transaction_link.h"
#include "sluice/transaction.h"

namespace sluice::internal {

class ConsumerCore;

class TransactionalCore {
 public:
  static Result<std::unique_ptr<TransactionalCore>> open(std::shared_ptr<BusLink> bus,
                                                         std::shared_ptr<TransactionLink> link,
                                                         TransactionalOptions options);
  ~TransactionalCore();

  Result<TransactionId> next_id();
  // Says what became of it, and that it stands.
  Status resolve(TransactionId id, bool commit, std::vector<HalfRef> halves, std::vector<TransactionAck> acks = {});
  Result<ProducerCore*> producer(std::string_view topic);
  const TransactionalOptions& options() const { return options_; }
  bool has_check() const { return static_cast<bool>(options_.check); }

 private:
  TransactionalCore(std::shared_ptr<BusLink> bus, std::shared_ptr<TransactionLink> link, TransactionalOptions options)
      : bus_(std::move(bus)), link_(std::move(link)), options_(std::move(options)) {}

  // The id under which the daemon knows this transactor: opened again where the connection has changed since.
  Result<ProducerId> current_id();
  void forget_if_unknown(const Error& error);
  void serve_checks();
  Verdict check(const CheckRequest& request);
  void pause_check_thread();

  // Constant.
  const std::shared_ptr<BusLink> bus_;
  const std::shared_ptr<TransactionLink> link_;
  const TransactionalOptions options_;
  // Both threads.
  std::mutex id_mutex_;          // guards the next two
  ProducerId id_;                // 0: not open
  std::uint32_t id_change_ = 0;  // BusLink::change_word() when it was opened
  std::atomic<bool> stopping_{false};
  // The producer's thread.
  std::uint32_t last_number_ = 0;
  std::map<std::string, std::unique_ptr<ProducerCore>, std::less<>> producers_;
  std::thread check_thread_;
};

class TransactionCore {
 public:
  TransactionCore(TransactionalCore& owner, TransactionId id) : owner_(owner), id_(id) {}
  ~TransactionCore();

  TransactionId id() const { return id_; }
  Result<Receipt> send(std::string_view topic, std::span<const std::byte> payload, const MessageOptions& options);
  Status ack(ConsumerCore& consumer, const Delivery& delivery);
  Status prepare();
  Status resolve(bool commit);

 private:
  struct Sent {
    std::string topic;
    ProducerCore* producer = nullptr;
    Receipt receipt;
  };

  struct Acked {
    ConsumerCore* consumer = nullptr;
    Delivery delivery;
  };

  TransactionalCore& owner_;
  const TransactionId id_;
  std::vector<Sent> sent_;
  std::vector<Acked> acked_;
  std::size_t prepared_ = 0;  // of sent_, from the first on
  bool broken_ = false;       // a send has failed
  bool resolved_ = false;     // or tried to be: nothing more is sent
  bool decided_ = false;
};

}  // namespace sluice::internal
