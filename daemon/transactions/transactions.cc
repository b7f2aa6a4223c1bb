#include "daemon/transactions/transactions.h"

#include <algorithm>
#include <set>

#include <spdlog/spdlog.h>

#include "shm/base/clock.h"
#include "shm/base/failpoint.h"
#include "shm/base/limits.h"

namespace sluice::transactions {

using core::TransactionAction;
using core::TransactionMachine;

namespace {

constexpr std::uint64_t kStoreRetryNs = 200'000'000;
constexpr std::uint64_t kForgetIntervalNs = 60'000'000'000;
constexpr std::uint64_t kForgetOnNs = 1'000'000'000;  // as long as there is more to forget than one step takes

}  // namespace

// ---- partitions ----

void Transactions::partition_opened(const core::Place& place, const std::vector<core::Half>& open,
                                    std::uint64_t now_ns) {
  const auto known = machine_.forget(place);
  for (const core::Half& half : open) half_met(place, half, now_ns);
  for (const TransactionMachine::Known& one : known) machine_.restore(one);
}

void Transactions::partition_gone(const core::Place& place) {
  for (const TransactionMachine::Known& one : machine_.forget(place)) {
    notes_.transactions.push_back({one.transaction, 0, 0});
  }
}

void Transactions::half_met(const core::Place& place, const core::Half& half, std::uint64_t now_ns) {
  machine_.half(place, half, host_.may_return(half.transaction.transactor()), now_ns);
}

Status Transactions::load() {
  SLUICE_ASSIGN(const store::TransactionNotes notes, store_.transaction_notes());
  for (const store::TransactionNote& note : notes.transactions)
    machine_.restore({note.transaction, note.unknowns, note.parked_ns != 0});
  const std::uint64_t wall = realtime_ns();
  std::map<std::string, std::uint64_t> silent_for;
  for (const store::SilentGroup& silent : notes.groups)
    silent_for[silent.group] = wall - std::min(wall, silent.since_ns);
  machine_.restore_silences(silent_for, wall, monotonic_ns());
  if (machine_.size() != 0)
    spdlog::info("transactions are open open={} parked={}", machine_.size() - machine_.parked(), machine_.parked());
  return {};
}

// ---- transactors ----

void Transactions::transactor_kept(SessionId session, ProducerId id, const std::string& group) {
  transactors_.emplace(id, Transactor{session, group, {}, 0});
  machine_.attach(id, group, monotonic_ns());
}

void Transactions::session_ended(SessionId session, std::uint64_t now_ns) {
  std::vector<ProducerId> ended;
  for (const auto& [id, transactor] : transactors_)
    if (transactor.session == session) ended.push_back(id);
  for (const ProducerId id : ended) end_transactor(id, now_ns);
}

void Transactions::end_transactor(ProducerId id, std::uint64_t now_ns) {
  const auto transactor = transactors_.find(id);
  host_.drop_transactor(transactor->second.session, id);
  transactors_.erase(transactor);
  machine_.detach(id, now_ns);
}

// ---- the turn ----

bool Transactions::do_work(std::uint64_t now_ns) {
  bool worked = take_resolver_answers(now_ns);
  machine_.tick(now_ns);
  for (auto actions = machine_.take_actions(); !actions.empty(); actions = machine_.take_actions()) {
    worked = true;
    for (const TransactionAction& action : actions) carry_out(action, now_ns);
    machine_.tick(now_ns);
  }
  save_notes();
  worked |= decide_ready(now_ns);
  worked |= answer_polls(now_ns);
  if (now_ns >= forget_ns_) forget_old(now_ns);
  return worked;
}

std::uint64_t Transactions::deadline_ns() const {
  std::uint64_t deadline = machine_.deadline_ns().value_or(0);
  const auto earlier = [&](std::uint64_t at) {
    if (at != 0 && (deadline == 0 || at < deadline)) deadline = at;
  };
  if (!pending_.empty()) earlier(retry_ns_);
  for (const auto& [id, transactor] : transactors_)
    if (transactor.poll) earlier(transactor.poll_until_ns);
  return deadline;
}

void Transactions::carry_out(const TransactionAction& action, std::uint64_t now_ns) {
  const auto view = machine_.find(action.transaction);
  if (!view) {
    if (action.kind == TransactionAction::Kind::resolve)
      machine_.resolver_ended(action.serial, std::nullopt, now_ns);  // or it would count as out for ever
    return;
  }
  switch (action.kind) {
    case TransactionAction::Kind::ask: ask(action, now_ns); return;
    case TransactionAction::Kind::resolve: ask_resolver(action, *view, now_ns); return;
    case TransactionAction::Kind::decide:
      queue(*view, action.commit,
            action.by_resolver ? "resolver"
            : view->check_back ? "check-back"
                               : "its producer is gone",
            {});
      return;
    case TransactionAction::Kind::park:
      spdlog::warn(
          "transaction is parked, nobody could say what became of it transaction={} group={} unknown_answers={}; "
          "look with `sluice txn list --state parked`, decide with `sluice txn commit` or `sluice txn rollback`",
          to_text(view->transaction), view->group, view->unknowns);
      notes_.transactions.push_back({action.transaction, view->unknowns, realtime_ns()});
      return;
    case TransactionAction::Kind::note: notes_.transactions.push_back({action.transaction, view->unknowns, 0}); return;
  }
}

void Transactions::ask(const TransactionAction& action, std::uint64_t now_ns) {
  const auto transactor = transactors_.find(action.transactor);
  const auto view = machine_.find(action.transaction);
  if (transactor == transactors_.end() || !transactor->second.poll) {
    machine_.ready(action.transactor, false, now_ns);
    machine_.unanswered(action.transaction, action.serial, now_ns);
    return;
  }
  if (!may_decide(transactor->second.session, transactor->second, *view)) {
    // Who may not publish there cannot know.
    machine_.answered(action.transaction, action.serial, Verdict::unknown, now_ns);
    return;
  }
  session::CheckRequest request{action.transaction, action.serial, {}};
  for (const core::HalfAt& half : view->halves) request.halves.push_back(ref_of(half.place, half.position));
  machine_.ready(action.transactor, false, now_ns);
  std::exchange(transactor->second.poll, {})(std::move(request));
}

bool Transactions::answer_polls(std::uint64_t now_ns) {
  bool answered = false;
  for (auto& [id, transactor] : transactors_) {
    if (!transactor.poll || now_ns < transactor.poll_until_ns) continue;
    machine_.ready(id, false, now_ns);
    std::exchange(transactor.poll, {})(session::CheckRequest());
    answered = true;
  }
  return answered;
}

// They are few; what is not in the store when the daemon dies is asked again, or waits for longer.
void Transactions::save_notes() {
  for (core::GroupSilence& silence : machine_.take_silences())
    notes_.groups.push_back({std::move(silence.group), silence.silent ? realtime_ns() : 0});
  if (notes_.empty()) return;
  if (const Status saved = store_.save_transaction_notes(notes_); !saved)
    spdlog::error("what is known of open transactions was not saved: {}", saved.error().message());
  notes_ = {};
}

void Transactions::forget_old(std::uint64_t now_ns) {
  forget_ns_ = now_ns + kForgetIntervalNs;
  const std::uint64_t now = realtime_ns();
  const std::uint64_t before = now - std::min(now, kDecisionKeptNs);
  const auto forgotten = store_.forget_decisions(before, kDecisionsKeptMax, kDecisionsForgottenMax);
  if (!forgotten) spdlog::warn("old decisions on transactions were not forgotten: {}", forgotten.error().message());
  if (forgotten && *forgotten == kDecisionsForgottenMax) forget_ns_ = now_ns + kForgetOnNs;
}

// ---- decisions ----

Transactions::Pending* Transactions::queue(const TransactionMachine::View& view, bool commit, std::string by,
                                           Waiter waiter) {
  if (!machine_.begin_decision(view.transaction)) return nullptr;
  Pending& pending = pending_[view.transaction];
  pending.decision.transaction = view.transaction;
  pending.decision.commit = commit;
  pending.decision.by = std::move(by);
  name_halves(pending.decision, view);
  pending.is_asked_for = static_cast<bool>(waiter);
  if (waiter) pending.waiters.push_back(std::move(waiter));
  return &pending;
}

void Transactions::name_halves(store::Decision& decision, const TransactionMachine::View& view) {
  decision.halves.clear();
  for (const core::HalfAt& half : view.halves)
    decision.halves.push_back({half.place.topic, half.place.partition, half.position});
}

void Transactions::answer(const Pending& pending, const Error& error) const {
  for (const Waiter& waiter : pending.waiters) waiter(fail(error));
}

// A rollback needs no half.
Status Transactions::look_at(const Pending& pending) {
  if (!pending.decision.commit) return {};
  bool durable = true;
  for (const store::HalfPlace& half : pending.decision.halves) {
    const core::Place place{half.topic, half.partition};
    const std::optional<Position> upto = host_.durable(place);
    if (!upto)
      return fail(ErrorCode::io, "resolving transaction " + to_text(pending.decision.transaction) +
                                     ": the disk of one of its partitions has failed; it stays open");
    if (*upto > half.position) continue;
    host_.flush(place);
    durable = false;
  }
  if (!durable) return fail(ErrorCode::would_block, {});
  return host_.check_acks(pending.acks);
}

bool Transactions::decide_ready(std::uint64_t now_ns) {
  if (pending_.empty() || now_ns < retry_ns_) return false;
  retry_ns_ = 0;
  std::vector<Pending> ready;
  for (auto next = pending_.begin(); next != pending_.end();) {
    const auto entry = next++;
    Pending& pending = entry->second;
    // Also those that the scan has met since: a rollback does not wait for them.
    if (const auto view = machine_.find(entry->first); view && !pending.decision.commit)
      name_halves(pending.decision, *view);
    const Status looked = look_at(pending);
    if (!looked && looked.error().code() == ErrorCode::would_block) continue;
    if (!looked) {
      answer(pending, looked.error());
      machine_.give_up_decision(entry->first, now_ns);
    } else {
      ready.push_back(std::move(pending));
    }
    pending_.erase(entry);
  }
  if (ready.empty()) return false;
  if (save(ready)) {
    for (Pending& pending : ready) apply(pending);
  } else {
    // One of them is decided already, or its messages are another's, which says nothing of the others.
    for (Pending& pending : ready) store_alone(std::move(pending), now_ns);
  }
  return true;
}

Status Transactions::save(std::vector<Pending>& ready) {
  std::vector<const session::AckSet*> acks;
  for (const Pending& pending : ready)
    if (!pending.acks.acks.empty()) acks.push_back(&pending.acks);
  SLUICE_ASSIGN(const std::vector<store::GroupSave> saves, host_.take_acks(acks));
  const std::uint64_t wall = realtime_ns();
  std::vector<store::Decision> decisions;
  for (Pending& pending : ready) {
    pending.decision.decided_ns = wall;
    decisions.push_back(pending.decision);
  }
  SLUICE_FAILPOINT("transactions.before_decision");
  if (Status saved = store_.save_decisions(decisions, saves); !saved) {
    host_.acks_failed(saves);
    return saved;
  }
  SLUICE_FAILPOINT("transactions.decided");
  for (std::size_t i = 0; i < ready.size(); ++i) ready[i].decision = std::move(decisions[i]);
  return {};
}

void Transactions::store_alone(Pending pending, std::uint64_t now_ns) {
  const TransactionId id = pending.decision.transaction;
  std::vector<Pending> one;
  one.push_back(std::move(pending));
  const Status saved = save(one);
  pending = std::move(one.front());
  if (saved) {
    apply(pending);
    return;
  }
  Error error = saved.error();
  if (error.code() == ErrorCode::exists) {
    auto stands = store_.decision(id);
    if (stands && *stands) {
      roll_back_others(id, {});
      machine_.decided(id);
      for (const Waiter& waiter : pending.waiters) waiter(session::Resolution{(*stands)->commit, true});
      return;
    }
    if (!stands) error = stands.error();
  }
  machine_.give_up_decision(id, now_ns);
  answer(pending, error);
  if (error.code() == ErrorCode::conflict) return;  // its acks: their messages are another transaction's by now
  retry_ns_ = now_ns + kStoreRetryNs;
  spdlog::error("decision on a transaction was not saved, it stays open transaction={}: {}", to_text(id),
                error.message());
}

void Transactions::apply(Pending& pending) {
  const store::Decision& decision = pending.decision;
  ++(decision.commit ? committed_ : rolled_back_);
  for (const store::HalfPlace& half : decision.halves)
    host_.decide({half.topic, half.partition}, half.position, decision.commit, decision.order);
  roll_back_others(decision.transaction, decision.halves);
  host_.apply_acks(pending.acks);
  machine_.decided(decision.transaction);
  bool decides = pending.is_asked_for;
  for (const Waiter& waiter : pending.waiters)
    waiter(session::Resolution{decision.commit, !std::exchange(decides, false)});
}

void Transactions::roll_back_others(TransactionId transaction, const std::vector<store::HalfPlace>& named) {
  const auto view = machine_.find(transaction);
  if (!view || view->halves.size() == named.size()) return;
  const std::set<store::HalfPlace> counted(named.begin(), named.end());
  for (const core::HalfAt& half : view->halves)
    if (!counted.contains({half.place.topic, half.place.partition, half.position}))
      host_.decide(half.place, half.position, false, 0);
}

}  // namespace sluice::transactions
