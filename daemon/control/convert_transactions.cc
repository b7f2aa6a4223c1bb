#include "daemon/control/convert_transactions.h"

#include <string>
#include <vector>

#include "daemon/control/convert.h"
#include "shm/base/limits.h"

namespace sluice::control {
namespace {

void write_halves(capnp::List<protocol::HalfRef>::Builder out, const std::vector<session::HalfRef>& halves) {
  for (unsigned i = 0; i < halves.size(); ++i) {
    out[i].setTopic(halves[i].topic);
    out[i].setTopicId(halves[i].topic_id.value);
    out[i].setPartition(halves[i].partition);
    out[i].setPosition(halves[i].position.value);
  }
}

}  // namespace

Result<session::Resolve> read_resolve(protocol::Resolve::Reader in) {
  session::Resolve request;
  request.transactor = ProducerId(in.getTransactorId());
  request.transaction = TransactionId(in.getTransactionId());
  request.commit = in.getCommit();
  if (in.getHalves().size() > kHalvesPerTransactionMax)
    return fail(ErrorCode::too_large, "resolving transaction " + to_text(request.transaction) + ": it names " +
                                          std::to_string(in.getHalves().size()) + " messages, the limit is " +
                                          std::to_string(kHalvesPerTransactionMax));
  if (in.getAcks().size() > kAcksPerTransactionMax)
    return fail(ErrorCode::too_large, "resolving transaction " + to_text(request.transaction) + ": it acks " +
                                          std::to_string(in.getAcks().size()) + " messages, the limit is " +
                                          std::to_string(kAcksPerTransactionMax));
  for (const auto ack : in.getAcks())
    request.acks.push_back({ack.getMemberId(), ack.getBySlot(), ack.getIndex(), ack.getGeneration(), ack.getTarget(),
                            Position(ack.getEnd())});
  for (const auto half : in.getHalves())
    request.halves.push_back({{}, TopicId(half.getTopicId()), half.getPartition(), Position(half.getPosition())});
  return request;
}

Result<Verdict> read_verdict(std::uint8_t in) {
  if (in <= static_cast<std::uint8_t>(Verdict::rollback)) return static_cast<Verdict>(in);
  return fail(ErrorCode::invalid, "answering a check: " + std::to_string(in) + " is no verdict");
}

Result<session::TransactionOrder> read_order(protocol::TransactionOrder in) {
  return read_enum<session::TransactionOrder>(in, 3, "order");
}

void write_check(protocol::CheckRequest::Builder out, const session::CheckRequest& check) {
  out.setTransactionId(check.transaction.value);
  out.setSerial(check.serial);
  write_halves(out.initHalves(static_cast<unsigned>(check.halves.size())), check.halves);
}

void write_transaction(protocol::TransactionInfo::Builder out, const session::TransactionInfo& info) {
  out.setTransactionId(info.transaction.value);
  out.setGroup(info.group);
  out.setState(info.state);
  out.setCheckBack(info.check_back);
  out.setCreatedNs(info.created_ns);
  out.setNextCheckInNs(info.next_check_in_ns);
  out.setUnknowns(info.unknowns);
  out.setDecidedNs(info.decided_ns);
  out.setDecidedBy(info.decided_by);
  write_halves(out.initHalves(static_cast<unsigned>(info.halves.size())), info.halves);
}

}  // namespace sluice::control
