// What the control server asks of the bus about transactions, in plain C++ types; the rules of bus_interface.h hold
// here too. Calls that wait for something take a Reply, and call it once, on the bus thread, now or later; one that is
// dropped uncalled answers that the daemon has ended.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "shm/base/result.h"
#include "shm/base/transaction_id.h"
#include "shm/base/types.h"

namespace sluice::session {

template <typename T>
using Reply = std::function<void(Result<T>)>;

struct HalfRef {
  std::string topic;  // told, not asked
  TopicId topic_id;
  PartitionNumber partition = 0;
  Position position;
};

// A message that is acked with the transaction, as the member that has it in its hands would say so itself.
struct TransactionAck {
  std::uint64_t member = 0;
  bool by_slot = false;
  std::uint32_t index = 0;       // of the slot or cell
  std::uint32_t generation = 0;  // by cell: lower half
  std::uint64_t target = 0;      // by slot: stamp; by cell: position
  Position end;                  // by cell: of the record
};

// Of one transaction: in the hands of the session's members.
struct AckSet {
  SessionId session;
  std::vector<TransactionAck> acks;
};

struct Resolve {
  ProducerId transactor;  // who says so: of the transaction's producer group
  TransactionId transaction;
  bool commit = false;
  std::vector<HalfRef>
      halves;  // all of them, if the transaction is this transactor's own; at most kHalvesPerTransactionMax
  std::vector<TransactionAck> acks;  // commit: these messages are settled with it; at most kAcksPerTransactionMax
};
// What stands: the first answer.
struct Resolution {
  bool commit = false;
  bool was_decided = false;  // before this call
};

struct CheckRequest {
  TransactionId transaction;  // 0: there is nothing to check, ask again
  std::uint64_t serial = 0;
  std::vector<HalfRef> halves;
};

struct TransactionInfo {
  TransactionId transaction;
  std::string group;
  std::string state;  // open, checked, parked, deciding, committed, rolled_back
  bool check_back = false;
  std::uint64_t created_ns = 0;  // wall clock; 0: its topic keeps no time
  std::uint64_t next_check_in_ns = 0;
  std::uint32_t unknowns = 0;
  std::uint64_t decided_ns = 0;
  std::string decided_by;
  std::vector<HalfRef> halves;
};

enum class TransactionOrder : std::uint8_t { commit, rollback, recheck };

// Calls of a transactor that the daemon does not know answer `revoked`: it is to be opened again.
class TransactionInterface {
 public:
  virtual ~TransactionInterface() = default;

  // `former`: the id that this transactor had at the daemon before, 0: none; it goes on with it.
  virtual Result<ProducerId> open_transactor(SessionId session, const std::string& group, ProducerId former) = 0;
  virtual Status close_transactor(SessionId session, ProducerId transactor) = 0;
  // Answered once the decision is durable. not_found: nobody knows the transaction; conflict: its halves are others.
  virtual void resolve(SessionId session, Resolve request, Reply<Resolution> reply) = 0;
  // Answered when there is something to check, or after kCheckPollNs.
  virtual void take_check(SessionId session, ProducerId transactor, Reply<CheckRequest> reply) = 0;
  virtual Status answer_check(SessionId session, ProducerId transactor, TransactionId transaction, std::uint64_t serial,
                              Verdict verdict) = 0;
  // Undecided ones, in order of their ids from the first above `after` on.
  virtual Result<std::vector<TransactionInfo>> list_transactions(SessionId session, TransactionId after,
                                                                 std::uint32_t limit, bool parked_only) = 0;
  virtual Result<TransactionInfo> describe_transaction(SessionId session, TransactionId transaction) = 0;
  // By an operator. A recheck answers at once with the transaction as it is.
  virtual void order(SessionId session, TransactionId transaction, TransactionOrder order,
                     Reply<TransactionInfo> reply) = 0;
};

}  // namespace sluice::session
