// A member of the consumer group, as the SDK's consumer is one: joins, reads what it is assigned, takes what is handed
// to it by reference, settles, and joins again with what it has in hand when the daemon is another one.
//
// Owner: a Transformer.
#pragma once

#include <cstdint>
#include <list>
#include <optional>
#include <vector>

#include "daemon/session/transaction_interface.h"
#include "tests/sim/transactions/acks_truth.h"
#include "tests/sim/transactions/owned.h"
#include "tests/sim/transactions/references.h"
#include "tests/sim/transactions/words.h"

namespace sluice::transactions::sim {

class World;

class Member {
 public:
  explicit Member(World& world) : world_(world) {}

  // At the daemon that runs, as far as it knows.
  bool is_joined() const { return joined_; }
  // With what it has in hand. It stays as it is if that fails for now.
  void join(SessionId session);
  // Its last word.
  void leave(SessionId session);
  void on_daemon_gone() { joined_ = false; }

  // Does what the daemon says. Precondition: joined.
  void look(SessionId session);
  // The next message, if there is one and it may have it. Behind look().
  std::optional<Delivery> take();

  bool has(const Delivery& delivery) { return owned(delivery) != nullptr || reference(delivery) != nullptr; }
  // As a transaction names it; nothing: it is not in its hands.
  std::optional<session::TransactionAck> describe(const Delivery& delivery);
  // ---- in hand
  void ack(const Delivery& delivery);
  void nack(const Delivery& delivery, std::uint64_t delay_ns);
  // A transaction has. True: it is acked plainly, too: now, or once a daemon that is new hands it out again.
  bool settled_by_transaction(const Delivery& delivery);

 private:
  void lose_everything();
  void keep_owned(Words& words, const std::vector<session::Assignment>& list);
  void take_assignments(const std::vector<session::Assignment>& list);
  void take_deliveries();
  void release_wanted();
  std::uint32_t in_hand() const;
  Owned* owned_at(const core::Place& place);
  Owned::Entry* owned(const Delivery& delivery);
  Reference* reference(const Delivery& delivery);
  Delivery hand_out(const Address& address, bool alone);

  World& world_;
  std::uint64_t member_ = 0;  // 0: never joined
  bool joined_ = false;
  Words words_;
  std::list<Owned> owned_;
  References references_;
  std::uint64_t last_serial_ = 0;
  bool alone_out_ = false;  // nothing is handed out until nothing is in hand
};

}  // namespace sluice::transactions::sim
