// Transactions: messages that nobody sees before they are committed, together with what the application does elsewhere.
//
//   auto orders = client.transactional_producer({.group = "orders", .check = look_into_the_database}).value();
//   auto transaction = orders.begin().value();
//   transaction.send("orders", "one teapot").value();   // a half message: durable soon, seen by nobody
//   transaction.prepare();                              // durable now
//   database.commit();                                  // the application's own transaction
//   transaction.commit();                               // consumers see it, once the decision is durable
//
// Killed between prepare() and commit(), the daemon asks any live producer of the same group what became of it
// (TransactionalOptions::check), at once, and acts on the answer. The first answer stands.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "shm/base/result.h"
#include "shm/base/transaction_id.h"
#include "sluice/consumer.h"
#include "sluice/export.h"
#include "sluice/message.h"
#include "sluice/producer.h"

namespace sluice {

namespace internal {
class TransactionCore;
class TransactionalCore;
}  // namespace internal

// What the daemon asks about: the transaction, and those of its messages that can be read. It may be another producer's
// of the group.
struct TransactionCheck {
  TransactionId id;
  std::vector<Message> messages;
};

struct TransactionalOptions {
  // The producer group: those who can answer for one another. 1 to kGroupNameSizeMax bytes.
  std::string group;
  // Check-back: looks up what became of the local transaction. Called on a thread of the producer's own, one check at a
  // time; only an answer counts, and after 15 times `unknown` the transaction waits for an operator. An exception is
  // `unknown`. Empty: this producer answers nobody, and its transactions are their messages alone: they are rolled back
  // if it dies, or has not ended them within a minute.
  std::function<Verdict(const TransactionCheck&)> check;
  // How long sending, prepare() and resolving may take, each.
  Duration timeout = std::chrono::seconds(30);
};

// One transaction. Its sends go to any topics that are not volatile. Destroyed undecided it is rolled back, or, with
// check-back, left to the check. Belongs to its producer's thread, and must not outlive the producer.
class SLUICE_EXPORT Transaction {
 public:
  Transaction(Transaction&&) noexcept;
  Transaction& operator=(Transaction&&) noexcept;
  ~Transaction();

  TransactionId id() const;
  // Errors as Producer::send(); invalid on a volatile topic, with a delay, or once it was resolved. After one that
  // failed, the transaction can only be rolled back.
  Result<Receipt> send(std::string_view topic, std::span<const std::byte> payload, const MessageOptions& options = {});
  Result<Receipt> send(std::string_view topic, std::string_view payload, const MessageOptions& options = {});
  // A message of a consumer group is acked with the transaction: consumed, and what was made of it published, or
  // neither. The consumer must be of the same Client, and is used by this thread until the transaction is resolved.
  // After a rollback the message is in its hands as before.
  Status ack(Consumer& consumer, const Delivery& delivery);
  // Returns once all that was sent is durable. From here on the application may act.
  Status prepare();
  // Returns once the decision is durable; what was sent is prepared before. Repeating the same is no error. conflict:
  // the other decision stands, or a message that was to be acked is another's by now (then roll back). timed_out,
  // unknown: it is not known; ask again with the same.
  Status commit();
  Status rollback();

 private:
  friend class TransactionalProducer;
  explicit Transaction(std::unique_ptr<internal::TransactionCore> core);
  std::unique_ptr<internal::TransactionCore> core_;
};

// Begins transactions. Belongs to one thread. Reconnects by itself with its Client, and goes on over a restart of the
// daemon.
class SLUICE_EXPORT TransactionalProducer {
 public:
  TransactionalProducer(TransactionalProducer&&) noexcept;
  TransactionalProducer& operator=(TransactionalProducer&&) noexcept;
  ~TransactionalProducer();

  Result<Transaction> begin();
  // The whole of it for one message: sends the half, waits until it is durable, runs `execute`, and resolves as that
  // says. `unknown` leaves it to the check. An exception of `execute` is passed on, and leaves it to the check, too.
  Result<Verdict> send(std::string_view topic, std::string_view payload, const MessageOptions& options,
                       const std::function<Verdict(TransactionId)>& execute);
  // Says what became of a transaction of this group, whoever began it. As Transaction::commit() and rollback().
  Status resolve(TransactionId id, Verdict verdict);

 private:
  friend class Client;
  explicit TransactionalProducer(std::unique_ptr<internal::TransactionalCore> core);
  std::unique_ptr<internal::TransactionalCore> core_;
};

// ---- for operators

struct HalfInfo {
  std::string topic;
  TopicId topic_id;
  PartitionNumber partition = 0;
  Position position;
};
struct TransactionInfo {
  TransactionId id;
  std::string group;
  std::string state;  // open, checked (somebody is asked now), parked, deciding, committed, rolled_back
  bool check_back = false;
  std::uint64_t created_ns = 0;  // ns since the epoch; 0: not known
  Duration next_check_in{0};     // 0: none is due
  std::uint32_t unknowns = 0;    // checks that were answered so
  std::uint64_t decided_ns = 0;
  std::string decided_by;
  std::vector<HalfInfo> halves;  // messages that are not done with
};
enum class TransactionOrder : std::uint8_t { commit, rollback, recheck };

}  // namespace sluice
