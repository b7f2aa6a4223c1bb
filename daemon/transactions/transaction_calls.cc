// Transactions: the control calls.
#include <algorithm>

#include <spdlog/spdlog.h>

#include "daemon/transactions/transactions.h"
#include "shm/base/clock.h"
#include "shm/base/limits.h"

namespace sluice::transactions {

using core::TransactionMachine;
using session::Resolution;
using session::TransactionInfo;

namespace {

std::string unknown_transaction(TransactionId id) {
  return "transaction " + to_text(id) +
         ": there is none of that id, or it was decided more than a week (or a million decisions) ago";
}

}  // namespace

// ---- transactors ----

Result<ProducerId> Transactions::open_transactor(SessionId session, const std::string& group, ProducerId former) {
  SLUICE_ASSIGN(session::Session* const live, host_.live(session));
  const std::string doing = "opening a transactional producer of group " + group;
  if (group.empty() || group.size() > kGroupNameSizeMax)
    return fail(ErrorCode::invalid,
                doing + ": the name must have 1 to " + std::to_string(kGroupNameSizeMax) + " bytes");
  // Opened again by its own session: its client has lost the connection, or the answer.
  if (const auto known = transactors_.find(former); known != transactors_.end()) {
    if (known->second.session == live->id() && known->second.group == group) return former;
    return fail(ErrorCode::conflict, doing + ": id " + std::to_string(former.value) + " is another's");
  }
  if (transactors_.size() >= kTransactorsMax)
    return fail(ErrorCode::quota,
                doing + ": the daemon has " + std::to_string(kTransactorsMax) + " of them, which is its limit");
  ProducerId id = former;
  if (former != ProducerId()) {
    if (!host_.is_former(former))
      return fail(ErrorCode::conflict, doing + ": id " + std::to_string(former.value) + " is not one to go on with");
  } else {
    SLUICE_ASSIGN(id, host_.new_id());
  }
  SLUICE_TRY(host_.keep_transactor(session, id, group));
  transactors_.emplace(id, Transactor{live->id(), group, {}, 0});
  machine_.attach(id, group, monotonic_ns());
  return id;
}

Result<Transactions::Transactor*> Transactions::transactor_of(SessionId session, ProducerId id,
                                                              std::string_view doing) {
  SLUICE_ASSIGN(session::Session* const live, host_.live(session));
  const auto found = transactors_.find(id);
  if (found == transactors_.end() || found->second.session != live->id())
    return fail(ErrorCode::revoked, std::string(doing) + ": this daemon does not know transactional producer " +
                                        std::to_string(id.value) + "; open it again");
  return &found->second;
}

Status Transactions::close_transactor(SessionId session, ProducerId id) {
  SLUICE_ASSIGN(Transactor* const transactor, transactor_of(session, id, "closing"));
  if (transactor->poll)
    std::exchange(transactor->poll, {})(fail(ErrorCode::closed, "waiting for a check: the producer was closed"));
  end_transactor(id, monotonic_ns());
  return {};
}

void Transactions::take_check(SessionId session, ProducerId id, session::Reply<session::CheckRequest> reply) {
  const auto transactor = transactor_of(session, id, "waiting for a check");
  if (!transactor) return reply(fail(transactor.error()));
  const std::uint64_t now = monotonic_ns();
  if ((*transactor)->poll) std::exchange((*transactor)->poll, {})(session::CheckRequest());
  (*transactor)->poll = std::move(reply);
  (*transactor)->poll_until_ns = now + kCheckPollNs;
  machine_.ready(id, true, now);
}

Status Transactions::answer_check(SessionId session, ProducerId id, TransactionId transaction, std::uint64_t serial,
                                  Verdict verdict) {
  SLUICE_ASSIGN(const Transactor* const transactor, transactor_of(session, id, "answering a check"));
  const auto view = machine_.find(transaction);
  if (view) SLUICE_TRY(may_decide(session, *transactor, *view));
  // Somebody else may have answered meanwhile: then that stands, and there is nothing to say.
  machine_.answered(transaction, serial, verdict, monotonic_ns());
  return {};
}

// ---- resolving ----

Status Transactions::may_decide(SessionId session, const Transactor& transactor,
                                const TransactionMachine::View& view) const {
  if (view.group != transactor.group)
    return fail(ErrorCode::permission, "deciding transaction " + to_text(view.transaction) + ": it is of group " +
                                           view.group + ", the producer of group " + transactor.group);
  SLUICE_ASSIGN(const session::Session* const live, host_.live(session));
  for (const core::HalfAt& half : view.halves) SLUICE_TRY(host_.may_publish(live->peer(), half.place.topic));
  return {};
}

// Who resolves its own names all of its halves: one that it does not know is not its own.
Status Transactions::check_halves(const TransactionMachine::View& view, const session::Resolve& request) const {
  if (request.transaction.transactor() != request.transactor || !request.commit) return {};
  std::vector<core::HalfAt> named;
  for (const session::HalfRef& half : request.halves) named.push_back({{half.topic_id, half.partition}, half.position});
  std::vector<core::HalfAt> known = view.halves;
  std::sort(named.begin(), named.end());
  std::sort(known.begin(), known.end());
  if (named == known) return {};
  return fail(ErrorCode::conflict, "committing transaction " + to_text(request.transaction) + ": its producer names " +
                                       std::to_string(named.size()) + " messages, the log has " +
                                       std::to_string(known.size()) + "; roll it back");
}

void Transactions::resolve(SessionId session, session::Resolve request, session::Reply<Resolution> reply) {
  const TransactionId id = request.transaction;
  const auto transactor = transactor_of(session, request.transactor, "resolving transaction " + to_text(id));
  if (!transactor) return reply(fail(transactor.error()));
  if (const auto pending = pending_.find(id); pending != pending_.end()) {
    pending->second.waiters.push_back(std::move(reply));
    return;
  }
  const auto view = machine_.find(id);
  if (!view) {
    const auto stands = store_.decision(id);
    if (!stands) return reply(fail(stands.error()));
    if (!*stands) return reply(fail(ErrorCode::not_found, "resolving " + unknown_transaction(id)));
    return reply(Resolution{(*stands)->commit, true});
  }
  if (const Status may = may_decide(session, **transactor, *view); !may) return reply(fail(may.error()));
  if (const Status halves = check_halves(*view, request); !halves) return reply(fail(halves.error()));
  Pending* const pending =
      queue(*view, request.commit, "producer " + std::to_string(request.transactor.value), std::move(reply));
  if (pending == nullptr || !request.commit) return;
  pending->acks = {session, std::move(request.acks)};
}

// ---- operators ----

void Transactions::order(SessionId session, TransactionId id, session::TransactionOrder order,
                         session::Reply<TransactionInfo> reply) {
  const auto live = host_.live(session);
  if (!live) return reply(fail(live.error()));
  if (const Status may = host_.require_operator(**live, "deciding transaction " + to_text(id)); !may)
    return reply(fail(may.error()));
  const auto view = machine_.find(id);
  if (!view) return reply(info_of_decided(id));
  const std::uint64_t now = monotonic_ns();
  if (order == session::TransactionOrder::recheck) {
    machine_.recheck(id, now);
    const auto after = machine_.find(id);
    return reply(info_of(*after, now));
  }
  Waiter then = [this, id, reply = std::move(reply)](Result<Resolution> resolution) {
    reply(resolution ? info_of_decided(id) : Result<TransactionInfo>(fail(resolution.error())));
  };
  if (const auto pending = pending_.find(id); pending != pending_.end()) {
    pending->second.waiters.push_back(std::move(then));
    return;
  }
  const bool commit = order == session::TransactionOrder::commit;
  spdlog::warn("transaction is decided by hand transaction={} decision={} uid={}", to_text(id),
               commit ? "commit" : "rollback", (*live)->peer().uid);
  queue(*view, commit, "uid " + std::to_string((*live)->peer().uid), std::move(then));
}

// ---- queries ----

session::HalfRef Transactions::ref_of(const core::Place& place, Position position) const {
  return {host_.topic_name(place.topic).value_or(std::string()), place.topic, place.partition, position};
}

TransactionInfo Transactions::info_of(const TransactionMachine::View& view, std::uint64_t now_ns) const {
  TransactionInfo info;
  info.transaction = view.transaction;
  info.group = view.group;
  switch (view.state) {
    case TransactionMachine::State::open: info.state = "open"; break;
    case TransactionMachine::State::asked: info.state = "checked"; break;
    case TransactionMachine::State::parked: info.state = "parked"; break;
    case TransactionMachine::State::deciding: info.state = "deciding"; break;
  }
  info.check_back = view.check_back;
  info.created_ns = view.created_ns;
  info.next_check_in_ns = view.next_ns > now_ns ? view.next_ns - now_ns : 0;
  info.unknowns = view.unknowns;
  for (const core::HalfAt& half : view.halves) info.halves.push_back(ref_of(half.place, half.position));
  return info;
}

Result<TransactionInfo> Transactions::info_of_decided(TransactionId id) {
  SLUICE_ASSIGN(const std::optional<store::Decision> decision, store_.decision(id));
  if (!decision) return fail(ErrorCode::not_found, unknown_transaction(id));
  TransactionInfo info;
  info.transaction = id;
  info.state = decision->commit ? "committed" : "rolled_back";
  info.decided_ns = decision->decided_ns;
  info.decided_by = decision->by;
  for (const store::HalfPlace& half : decision->halves)
    info.halves.push_back(ref_of({half.topic, half.partition}, half.position));
  return info;
}

Result<std::vector<TransactionInfo>> Transactions::list_transactions(SessionId session, TransactionId after,
                                                                     std::uint32_t limit, bool parked_only) {
  SLUICE_TRY(host_.live(session));
  const std::uint64_t now = monotonic_ns();
  const auto state = parked_only ? std::optional(TransactionMachine::State::parked) : std::nullopt;
  std::vector<TransactionInfo> list;
  for (const auto& view : machine_.list(after, std::min(limit, kTransactionsPerCallMax), state))
    list.push_back(info_of(view, now));
  return list;
}

Result<TransactionInfo> Transactions::describe_transaction(SessionId session, TransactionId id) {
  SLUICE_TRY(host_.live(session));
  if (const auto view = machine_.find(id)) return info_of(*view, monotonic_ns());
  return info_of_decided(id);
}

}  // namespace sluice::transactions
