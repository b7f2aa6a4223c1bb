#include "tests/daemon/control/fake_transactions.h"

#include <utility>

namespace sluice::test {

session::TransactionInfo FakeTransactions::info() {
  session::TransactionInfo info;
  info.transaction = TransactionId::make(ProducerId(17), 3);
  info.group = "shop";
  info.state = "parked";
  info.check_back = true;
  info.created_ns = 11;
  info.next_check_in_ns = 12;
  info.unknowns = 13;
  info.decided_ns = 14;
  info.decided_by = "somebody";
  info.halves = {{"orders", TopicId(4), 5, Position(640)}};
  return info;
}

Result<ProducerId> FakeTransactions::open_transactor(SessionId, const std::string& name, ProducerId id) {
  group = name;
  former = id;
  return ProducerId(17);
}

Status FakeTransactions::close_transactor(SessionId, ProducerId transactor) {
  if (transactor == ProducerId(17)) return {};
  return fail(ErrorCode::not_found, "there is one alone");
}

void FakeTransactions::resolve(SessionId, session::Resolve request, session::Reply<session::Resolution> reply) {
  resolved = std::move(request);
  if (resolved->transaction == TransactionId(1)) return reply(fail(ErrorCode::conflict, "its halves are others"));
  reply(session::Resolution{true, true});
}

void FakeTransactions::take_check(SessionId, ProducerId, session::Reply<session::CheckRequest> reply) {
  poll = std::move(reply);
}

Status FakeTransactions::answer_check(SessionId, ProducerId, TransactionId, std::uint64_t serial, Verdict verdict) {
  answered_serial = serial;
  answered = verdict;
  return {};
}

Result<std::vector<session::TransactionInfo>> FakeTransactions::list_transactions(SessionId, TransactionId after,
                                                                                  std::uint32_t, bool) {
  if (after.value != 0) return std::vector<session::TransactionInfo>();
  return std::vector{info()};
}

Result<session::TransactionInfo> FakeTransactions::describe_transaction(SessionId, TransactionId transaction) {
  if (transaction == info().transaction) return info();
  return fail(ErrorCode::not_found, "there is one alone");
}

void FakeTransactions::order(SessionId, TransactionId, session::TransactionOrder order,
                             session::Reply<session::TransactionInfo> reply) {
  ordered = order;
  reply(info());
}

}  // namespace sluice::test
