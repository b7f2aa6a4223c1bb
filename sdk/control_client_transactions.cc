// The calls of transactions.
#include <string>
#include <utility>

#include "sdk/control_client.h"
#include "sdk/control_loop.h"
#include "shm/base/limits.h"

namespace sluice::internal {
namespace {

// Longer than the daemon lets a call wait for a check.
constexpr Duration kTakeCheckTimeout(2 * kCheckPollNs);

std::string on_transaction(std::string_view verb, TransactionId id) {
  return std::string(verb) + " transaction " + to_text(id);
}

std::vector<HalfRef> read_halves(capnp::List<protocol::HalfRef>::Reader in) {
  std::vector<HalfRef> halves;
  for (const auto half : in)
    halves.push_back({std::string(half.getTopic().cStr()), TopicId(half.getTopicId()), half.getPartition(),
                      Position(half.getPosition())});
  return halves;
}

TransactionInfo read_transaction(protocol::TransactionInfo::Reader in) {
  TransactionInfo info;
  info.id = TransactionId(in.getTransactionId());
  info.group = in.getGroup().cStr();
  info.state = in.getState().cStr();
  info.check_back = in.getCheckBack();
  info.created_ns = in.getCreatedNs();
  info.next_check_in = Duration(in.getNextCheckInNs());
  info.unknowns = in.getUnknowns();
  info.decided_ns = in.getDecidedNs();
  info.decided_by = in.getDecidedBy().cStr();
  for (HalfRef& half : read_halves(in.getHalves()))
    info.halves.push_back({std::move(half.topic), half.topic_id, half.partition, half.position});
  return info;
}

Result<TransactionInfo> read_response(protocol::TransactionResponse::Reader response) {
  if (response.isFailure()) return fail(read_failure(response.getFailure()));
  return read_transaction(response.getTransaction());
}

}  // namespace

Result<ProducerId> ControlClient::open_transactor(std::string_view group, ProducerId former, Duration timeout) {
  const Loop::CallOptions options{"opening a transactional producer of group " + std::string(group), timeout, true, {}};
  return loop_->call<ProducerId>(options, [&](const Loop::Target& target) {
    auto request = target.session.openTransactorRequest();
    request.setGroup(std::string(group));
    request.setFormer(former.value);
    return request.send().then([](auto answer) -> Result<ProducerId> {
      if (answer.hasFailure()) return fail(read_failure(answer.getFailure()));
      return ProducerId(answer.getTransactorId());
    });
  });
}

Status ControlClient::close_transactor(ProducerId transactor, Duration timeout) {
  return loop_->call<void>({"closing a transactional producer", timeout, true, {}}, [&](const Loop::Target& target) {
    auto request = target.session.closeTransactorRequest();
    request.setTransactorId(transactor.value);
    return request.send().then([](auto answer) { return read_done(answer.getDone()); });
  });
}

Result<Resolution> ControlClient::resolve(const ResolveRequest& resolve, Duration timeout) {
  const Loop::CallOptions options{on_transaction("resolving", resolve.transaction), timeout, true, {}};
  return loop_->call<Resolution>(options, [&](const Loop::Target& target) {
    auto request = target.session.resolveTransactionRequest();
    auto out = request.initRequest();
    out.setTransactorId(resolve.transactor.value);
    out.setTransactionId(resolve.transaction.value);
    out.setCommit(resolve.commit);
    auto halves = out.initHalves(static_cast<unsigned>(resolve.halves.size()));
    for (unsigned i = 0; i < resolve.halves.size(); ++i) {
      halves[i].setTopicId(resolve.halves[i].topic_id.value);
      halves[i].setPartition(resolve.halves[i].partition);
      halves[i].setPosition(resolve.halves[i].position.value);
    }
    auto acks = out.initAcks(static_cast<unsigned>(resolve.acks.size()));
    for (unsigned i = 0; i < resolve.acks.size(); ++i) {
      acks[i].setMemberId(resolve.acks[i].member);
      acks[i].setBySlot(resolve.acks[i].by_slot);
      acks[i].setIndex(resolve.acks[i].index);
      acks[i].setGeneration(resolve.acks[i].generation);
      acks[i].setTarget(resolve.acks[i].target);
      acks[i].setEnd(resolve.acks[i].end.value);
    }
    return request.send().then([](auto answer) -> Result<Resolution> {
      const auto response = answer.getResponse();
      if (response.isFailure()) return fail(read_failure(response.getFailure()));
      return Resolution{response.getResolution().getCommit(), response.getResolution().getWasDecided()};
    });
  });
}

// Not repeated by itself after a hang-up: a daemon that is new does not know the transactor.
Result<CheckRequest> ControlClient::take_check(ProducerId transactor) {
  const Loop::CallOptions options{"waiting for a check", kTakeCheckTimeout, false, {}};
  return loop_->call<CheckRequest>(options, [&](const Loop::Target& target) {
    auto request = target.session.takeCheckRequest();
    request.setTransactorId(transactor.value);
    return request.send().then([](auto answer) -> Result<CheckRequest> {
      const auto response = answer.getResponse();
      if (response.isFailure()) return fail(read_failure(response.getFailure()));
      const auto check = response.getCheck();
      return CheckRequest{TransactionId(check.getTransactionId()), check.getSerial(), read_halves(check.getHalves())};
    });
  });
}

Status ControlClient::answer_check(ProducerId transactor, TransactionId transaction, std::uint64_t serial,
                                   Verdict verdict, Duration timeout) {
  const Loop::CallOptions options{on_transaction("answering for", transaction), timeout, true, {}};
  return loop_->call<void>(options, [&](const Loop::Target& target) {
    auto request = target.session.answerCheckRequest();
    request.setTransactorId(transactor.value);
    request.setTransactionId(transaction.value);
    request.setSerial(serial);
    request.setVerdict(static_cast<std::uint8_t>(verdict));
    return request.send().then([](auto answer) { return read_done(answer.getDone()); });
  });
}

Result<std::vector<TransactionInfo>> ControlClient::list_transactions(TransactionId after, std::uint32_t limit,
                                                                      bool parked_only, Duration timeout) {
  return loop_->call<std::vector<TransactionInfo>>(
      {"listing transactions", timeout, true, {}}, [&](const Loop::Target& target) {
        auto request = target.session.listTransactionsRequest();
        request.setAfterId(after.value);
        request.setLimit(limit);
        request.setParkedOnly(parked_only);
        return request.send().then([](auto answer) -> Result<std::vector<TransactionInfo>> {
          if (answer.hasFailure()) return fail(read_failure(answer.getFailure()));
          std::vector<TransactionInfo> list;
          for (const auto one : answer.getTransactions()) list.push_back(read_transaction(one));
          return list;
        });
      });
}

Result<TransactionInfo> ControlClient::describe_transaction(TransactionId id, Duration timeout) {
  const Loop::CallOptions options{on_transaction("describing", id), timeout, true, {}};
  return loop_->call<TransactionInfo>(options, [&](const Loop::Target& target) {
    auto request = target.session.describeTransactionRequest();
    request.setTransactionId(id.value);
    return request.send().then([](auto answer) { return read_response(answer.getResponse()); });
  });
}

Result<TransactionInfo> ControlClient::order_transaction(TransactionId id, TransactionOrder order, Duration timeout) {
  const Loop::CallOptions options{on_transaction("deciding", id), timeout, true, {}};
  return loop_->call<TransactionInfo>(options, [&](const Loop::Target& target) {
    auto request = target.session.orderTransactionRequest();
    request.setTransactionId(id.value);
    request.setOrder(static_cast<protocol::TransactionOrder>(order));
    return request.send().then([](auto answer) { return read_response(answer.getResponse()); });
  });
}

}  // namespace sluice::internal
