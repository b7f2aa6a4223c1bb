#include "daemon/control/transaction_rpc.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "daemon/control/convert_groups.h"
#include "daemon/control/convert_transactions.h"

namespace sluice::control {

using session::BusInterface;

kj::Promise<void> TransactionServer::openTransactor(OpenTransactorContext context) {
  auto group = read_group_name(context.getParams().getGroup());
  const ProducerId former(context.getParams().getFormer());
  return beside_call<ProducerId>(
      context, group,
      [former](BusInterface& bus, SessionId id, std::string& value) {
        return bus.transactions().open_transactor(id, value, former);
      },
      [](auto results, const ProducerId& transactor) { results.setTransactorId(transactor.value); });
}

kj::Promise<void> TransactionServer::closeTransactor(CloseTransactorContext context) {
  Result<ProducerId> transactor(context.getParams().getTransactorId());
  return status_call(context, transactor, [](BusInterface& bus, SessionId id, ProducerId& value) {
    return bus.transactions().close_transactor(id, value);
  });
}

kj::Promise<void> TransactionServer::resolveTransaction(ResolveTransactionContext context) {
  auto request = read_resolve(context.getParams().getRequest());
  return replied<session::Resolution>(
      request,
      [](BusInterface& bus, SessionId id, session::Resolve& value, session::Reply<session::Resolution> reply) {
        bus.transactions().resolve(id, std::move(value), std::move(reply));
      },
      [context](Result<session::Resolution> answer) mutable {
        auto response = context.getResults().initResponse();
        if (!answer) return write_failure(response.initFailure(), answer.error());
        auto resolution = response.initResolution();
        resolution.setCommit(answer->commit);
        resolution.setWasDecided(answer->was_decided);
      });
}

kj::Promise<void> TransactionServer::takeCheck(TakeCheckContext context) {
  Result<ProducerId> transactor(context.getParams().getTransactorId());
  return replied<session::CheckRequest>(
      transactor,
      [](BusInterface& bus, SessionId id, ProducerId& value, session::Reply<session::CheckRequest> reply) {
        bus.transactions().take_check(id, value, std::move(reply));
      },
      [context](Result<session::CheckRequest> answer) mutable {
        auto response = context.getResults().initResponse();
        if (!answer) return write_failure(response.initFailure(), answer.error());
        write_check(response.initCheck(), *answer);
      });
}

kj::Promise<void> TransactionServer::answerCheck(AnswerCheckContext context) {
  const auto params = context.getParams();
  auto verdict = read_verdict(params.getVerdict());
  const ProducerId transactor(params.getTransactorId());
  const TransactionId transaction(params.getTransactionId());
  const std::uint64_t serial = params.getSerial();
  return status_call(context, verdict, [=](BusInterface& bus, SessionId id, Verdict& value) {
    return bus.transactions().answer_check(id, transactor, transaction, serial, value);
  });
}

kj::Promise<void> TransactionServer::listTransactions(ListTransactionsContext context) {
  const auto params = context.getParams();
  Result<TransactionId> after(params.getAfterId());
  const std::uint32_t limit = params.getLimit() == 0 ? kTransactionsPerCallMax : params.getLimit();
  const bool parked_only = params.getParkedOnly();
  return beside_call<std::vector<session::TransactionInfo>>(
      context, after,
      [=](BusInterface& bus, SessionId id, TransactionId& value) {
        return bus.transactions().list_transactions(id, value, limit, parked_only);
      },
      [](auto results, const auto& transactions) {
        auto list = results.initTransactions(static_cast<unsigned>(transactions.size()));
        for (unsigned i = 0; i < transactions.size(); ++i) write_transaction(list[i], transactions[i]);
      });
}

kj::Promise<void> TransactionServer::describeTransaction(DescribeTransactionContext context) {
  Result<TransactionId> transaction(context.getParams().getTransactionId());
  return union_call<session::TransactionInfo>(
      context, transaction,
      [](BusInterface& bus, SessionId id, TransactionId& value) {
        return bus.transactions().describe_transaction(id, value);
      },
      [](auto response, const session::TransactionInfo& info) { write_transaction(response.initTransaction(), info); });
}

kj::Promise<void> TransactionServer::orderTransaction(OrderTransactionContext context) {
  auto order = read_order(context.getParams().getOrder());
  const TransactionId transaction(context.getParams().getTransactionId());
  return replied<session::TransactionInfo>(
      order,
      [transaction](BusInterface& bus, SessionId id, session::TransactionOrder& value,
                    session::Reply<session::TransactionInfo> reply) {
        bus.transactions().order(id, transaction, value, std::move(reply));
      },
      [context](Result<session::TransactionInfo> answer) mutable {
        auto response = context.getResults().initResponse();
        if (!answer) return write_failure(response.initFailure(), answer.error());
        write_transaction(response.initTransaction(), *answer);
      });
}

}  // namespace sluice::control
