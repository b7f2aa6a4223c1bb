// Transactions for tests of the control channel: answers with a value of its own in every field, and keeps what each
// call was given. Owner: FakeBus; the bus thread's.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "daemon/session/transaction_interface.h"

namespace sluice::test {

class FakeTransactions final : public session::TransactionInterface {
 public:
  Result<ProducerId> open_transactor(SessionId session, const std::string& group, ProducerId former) override;
  Status close_transactor(SessionId session, ProducerId transactor) override;
  void resolve(SessionId session, session::Resolve request, session::Reply<session::Resolution> reply) override;
  void take_check(SessionId session, ProducerId transactor, session::Reply<session::CheckRequest> reply) override;
  Status answer_check(SessionId session, ProducerId transactor, TransactionId transaction, std::uint64_t serial,
                      Verdict verdict) override;
  Result<std::vector<session::TransactionInfo>> list_transactions(SessionId session, TransactionId after,
                                                                  std::uint32_t limit, bool parked_only) override;
  Result<session::TransactionInfo> describe_transaction(SessionId session, TransactionId transaction) override;
  void order(SessionId session, TransactionId transaction, session::TransactionOrder order,
             session::Reply<session::TransactionInfo> reply) override;

  static session::TransactionInfo info();

  // What waits for an answer of the test's.
  session::Reply<session::CheckRequest> poll;
  // What the calls were given last.
  std::optional<session::Resolve> resolved;
  std::string group;
  ProducerId former;
  std::uint64_t answered_serial = 0;
  Verdict answered = Verdict::unknown;
  std::optional<session::TransactionOrder> ordered;
};

}  // namespace sluice::test
