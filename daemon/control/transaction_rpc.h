// The calls of transactions, as any other call of a session: checked for form, posted to the bus thread, answered when
// that has answered; some wait there for what they ask for.
//
// Owner: the control thread.
#pragma once

#include "daemon/control/group_rpc.h"

namespace sluice::control {

class TransactionServer : public GroupServer {
 public:
  using GroupServer::GroupServer;

  kj::Promise<void> openTransactor(OpenTransactorContext context) override;
  kj::Promise<void> closeTransactor(CloseTransactorContext context) override;
  kj::Promise<void> resolveTransaction(ResolveTransactionContext context) override;
  kj::Promise<void> takeCheck(TakeCheckContext context) override;
  kj::Promise<void> answerCheck(AnswerCheckContext context) override;
  kj::Promise<void> listTransactions(ListTransactionsContext context) override;
  kj::Promise<void> describeTransaction(DescribeTransactionContext context) override;
  kj::Promise<void> orderTransaction(OrderTransactionContext context) override;
};

}  // namespace sluice::control
