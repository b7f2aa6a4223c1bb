// A process with a transactional producer, as the SDK makes one: a session, a producer in each topic, a transactor, and
// a database in which its transactions are committed or not, which it shares with all of its group.
//
// It sends halves one at a time, waits until they are durable, commits in its database, and asks for the decision until
// it is told one. With a check it answers the daemon's questions by its database, or that it does not know. One that
// transforms is a member of the consumer group, too, and has its transactions ack messages of it; as in the SDK it has
// no check. It may hang anywhere. Destroying it is its death: everything it has mapped goes, and with it the session
// lock.
//
// Owner: the World.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "daemon/session/bus_interface.h"
#include "tests/sim/transactions/connection.h"
#include "tests/sim/transactions/transformer.h"
#include "tests/sim/transactions/truth.h"

namespace sluice::transactions::sim {

class World;

class App {
 public:
  enum class Kind : std::uint8_t { plain, checks, transforms };
  App(World& world, std::uint64_t number, std::string group, Kind kind);

  std::uint64_t number() const { return number_; }
  const std::string& group() const { return group_; }
  bool has_check() const { return has_check_; }
  std::optional<SessionId> session() const { return connection_.session(); }
  ProducerId transactor() const { return transactor_; }
  bool is_connected() const { return connected_; }
  bool listens() const { return listens_; }
  // It has nothing more to say.
  bool is_done() const { return own_.empty(); }

  // One thing that it does, unless it hangs. `begins`: that may be a new transaction, also for no message of the group.
  void act(bool begins);
  void hang(std::uint64_t until_ns) { hangs_until_ns_ = until_ns; }
  // Inside a claim, which it leaves open.
  void begin_claim();
  // With a word: it closes what it has open.
  void leave();
  // Says of another's transaction what comes to its mind.
  void meddle(TransactionId id);

  // ---- the daemon has ended; its memory is kept, or lost with what was not durable
  void on_daemon_gone(bool memory_kept);
  // ---- answers, which come when they come
  void on_check(session::CheckRequest request) { check_ = std::move(request); }
  void on_resolved(TransactionId id, const Result<session::Resolution>& answer);

 private:
  // A transaction that it has begun, and is not through with.
  struct Own {
    TransactionId id;
    std::uint32_t wanted = 1;                    // halves
    std::vector<Delivery> inputs;                // that it is to ack
    std::vector<session::TransactionAck> named;  // as they were to be named when it began
    bool broken = false;                         // a send has failed: never committed
    bool resolving = false;                      // the verdict stands, the daemon is asked for it
    bool commit = false;
    bool waits = false;  // for the daemon's answer
  };

  bool connect();
  void listen();
  void answer_check();
  void begin(bool for_no_input);
  void go_on(Own& own);
  bool send(Own& own);
  bool all_durable(const Own& own);
  void decide(Own& own);
  void resolve(Own& own);
  void ask(Own& own, std::vector<session::TransactionAck> acks);
  void end(TransactionId id, bool committed);

  World& world_;
  const std::uint64_t number_;
  const std::string group_;
  const bool has_check_;
  Connection connection_;
  std::unique_ptr<Transformer> transformer_;  // none: it does not consume
  ProducerId transactor_;
  std::uint32_t last_number_ = 0;
  bool connected_ = false;
  bool listens_ = false;
  std::uint64_t hangs_until_ns_ = 0;
  std::vector<Own> own_;
  std::optional<session::CheckRequest> check_;
};

}  // namespace sluice::transactions::sim
