#include "daemon/core/transaction_machine.h"

#include <algorithm>

namespace sluice::core {
namespace {

constexpr std::uint32_t kDoublingsMax = 20;

// std's heaps have the greatest in front.
constexpr auto kLater = [](const auto& a, const auto& b) { return a.at_ns > b.at_ns; };

}  // namespace

TransactionMachine::NamedGroup& TransactionMachine::use_group(const std::string& name) {
  const auto [entry, fresh] = groups_.try_emplace(name);
  NamedGroup& group = *entry;
  if (fresh) group.second.resolver = resolvers_.find(name);
  ++group.second.users;
  return group;
}

void TransactionMachine::leave_group(NamedGroup& group) {
  if (--group.second.users != 0) return;
  if (group.second.silent) say_silent(group, false);
  groups_.erase(groups_.find(group.first));
}

TransactionAction& TransactionMachine::act(TransactionAction::Kind kind, TransactionId transaction) {
  TransactionAction& action = actions_.emplace_back();
  action.kind = kind;
  action.transaction = transaction;
  return action;
}

// ---- halves ----

void TransactionMachine::half(const Place& place, const Half& half, bool may_return, std::uint64_t now_ns) {
  const auto [entry, fresh] = transactions_.try_emplace(half.transaction);
  Transaction& transaction = entry->second;
  if (!fresh) {
    if (!transaction.others) transaction.others = std::make_unique<std::vector<HalfAt>>();
    transaction.others->push_back({place, half.position});
    return;
  }
  transaction.group = &use_group(half.group);
  transaction.first = {place, half.position};
  transaction.created_ns = half.time_ns;
  transaction.check_back = half.check_back;
  last_owner_ = std::max(last_owner_, half.transaction.transactor());
  const auto owner = transactors_.find(half.transaction.transactor());
  if (owner != transactors_.end()) own(owner->second, half.transaction);
  const bool lives = owner != transactors_.end();
  const std::uint64_t patience = lives && !half.check_back ? rules_.span_timeout_ns : rules_.timeout_ns;
  schedule(half.transaction, transaction, lives || may_return ? now_ns + patience : now_ns);
}

std::vector<TransactionMachine::Known> TransactionMachine::forget(const Place& place) {
  std::vector<Known> forgotten;
  for (auto next = transactions_.begin(); next != transactions_.end();) {
    const auto entry = next++;
    Transaction& transaction = entry->second;
    if (transaction.others) std::erase_if(*transaction.others, [&](const HalfAt& half) { return half.place == place; });
    if (transaction.first.place != place) continue;
    if (transaction.others && !transaction.others->empty()) {
      transaction.first = transaction.others->back();
      transaction.others->pop_back();
      continue;
    }
    const bool parked = transaction.state == State::parked;
    if (parked || transaction.unknowns != 0) forgotten.push_back({entry->first, transaction.unknowns, parked});
    if (parked) --parked_;
    take_back_ask(transaction);
    leave_group(*transaction.group);
    transactions_.erase(entry);
  }
  return forgotten;
}

void TransactionMachine::restore(const Known& known) {
  const auto entry = transactions_.find(known.transaction);
  if (entry == transactions_.end()) return;
  entry->second.unknowns = known.unknowns;
  if (!known.parked || entry->second.state == State::parked) return;
  entry->second.state = State::parked;
  entry->second.next_ns = 0;
  ++parked_;
}

// ---- transactors ----

void TransactionMachine::own(Transactor& transactor, TransactionId id) {
  if (transactor.own.size() >= transactor.prune_at) {
    std::erase_if(transactor.own, [&](TransactionId one) { return !transactions_.contains(one); });
    transactor.prune_at = std::max<std::size_t>(64, transactor.own.size() * 2);
  }
  transactor.own.push_back(id);
}

void TransactionMachine::attach(ProducerId id, const std::string& group, std::uint64_t now_ns) {
  Transactor& transactor = transactors_[id];
  transactor.group = &use_group(group);
  // One that comes back after a restart of the daemon: what it has begun is its own again. A new one has begun nothing.
  if (id > last_owner_) return;
  for (auto& [transaction_id, transaction] : transactions_) {
    if (transaction_id.transactor() != id) continue;
    own(transactor, transaction_id);
    if (transaction.state == State::open && !transaction.check_back)
      schedule(transaction_id, transaction, now_ns + rules_.span_timeout_ns);
  }
}

void TransactionMachine::ready(ProducerId id, bool ready, std::uint64_t now_ns) {
  const auto entry = transactors_.find(id);
  if (entry == transactors_.end()) return;
  Transactor& transactor = entry->second;
  transactor.ready = ready;
  if (!ready) return;
  Group& group = transactor.group->second;
  end_silence(*transactor.group);
  if (!std::exchange(transactor.answers, true)) group.answerers.push_back(id);
  serve(group, now_ns);
}

void TransactionMachine::detach(ProducerId id, std::uint64_t now_ns) {
  const auto entry = transactors_.find(id);
  if (entry == transactors_.end()) return;
  Group& group = entry->second.group->second;
  std::erase(group.answerers, id);
  const Transactor gone = std::move(entry->second);
  transactors_.erase(entry);
  if (const auto asked = transactions_.find(gone.asking); asked != transactions_.end())
    unanswered(gone.asking, asked->second.serial, now_ns);
  for (const TransactionId own_id : gone.own) {
    const auto transaction = transactions_.find(own_id);
    if (transaction != transactions_.end() && transaction->second.state == State::open && !transaction->second.waiting)
      schedule(own_id, transaction->second, now_ns);
  }
  for (const TransactionId waiting : group.waiting) {
    if (!group.answerers.empty()) break;
    const auto transaction = transactions_.find(waiting);
    if (transaction != transactions_.end() && transaction->second.waiting)
      count_nobody(waiting, transaction->second, now_ns);
  }
  leave_group(*gone.group);
}

// Asks as many of those that wait as can be asked now.
void TransactionMachine::serve(Group& group, std::uint64_t now_ns) {
  while (!group.waiting.empty()) {
    const auto able = std::find_if(group.answerers.begin(), group.answerers.end(), [&](ProducerId one) {
      const Transactor& transactor = transactors_.at(one);
      return transactor.ready && transactor.asking == TransactionId();
    });
    if (able == group.answerers.end()) return;
    const ProducerId asked = *able;
    const TransactionId id = group.waiting.front();
    group.waiting.pop_front();
    const auto entry = transactions_.find(id);
    if (entry == transactions_.end() || !entry->second.waiting) continue;
    entry->second.waiting = false;
    if (entry->second.state != State::open) continue;
    group.answerers.erase(able);
    group.answerers.push_back(asked);
    ask(id, entry->second, asked, now_ns);
  }
}

void TransactionMachine::ask(TransactionId id, Transaction& transaction, ProducerId transactor, std::uint64_t now_ns) {
  transactors_.at(transactor).asking = id;
  transaction.park_at_ns = 0;
  transaction.state = State::asked;
  transaction.asked = transactor;
  transaction.serial = ++last_serial_;
  TransactionAction& action = act(TransactionAction::Kind::ask, id);
  action.transactor = transactor;
  action.serial = transaction.serial;
  schedule(id, transaction, now_ns + rules_.answer_ns);
}

void TransactionMachine::run_resolvers() {
  while (const auto next = resolvers_.next()) {
    const auto entry = transactions_.find(next->transaction);
    if (entry == transactions_.end()) continue;
    Transaction& transaction = entry->second;
    transaction.queued = false;
    if (transaction.state != State::open || !transaction.waiting || transaction.run != 0) continue;
    if (!transaction.group->second.answerers.empty()) continue;
    transaction.run = ++last_serial_;
    resolvers_.began(transaction.run, *next);
    act(TransactionAction::Kind::resolve, entry->first).serial = transaction.run;
  }
}

// ---- answers ----

void TransactionMachine::take_back_ask(Transaction& transaction) {
  if (transaction.state != State::asked) return;
  const auto asked = transactors_.find(transaction.asked);
  if (asked != transactors_.end()) asked->second.asking = TransactionId();
  transaction.serial = 0;
  transaction.state = State::open;
}

bool TransactionMachine::answered(TransactionId id, std::uint64_t serial, Verdict verdict, std::uint64_t now_ns) {
  const auto entry = transactions_.find(id);
  if (entry == transactions_.end() || entry->second.state != State::asked || entry->second.serial != serial)
    return false;
  Transaction& transaction = entry->second;
  checks_.count(verdict);
  take_back_ask(transaction);
  serve(transaction.group->second, now_ns);
  take_verdict(id, transaction, verdict, false, now_ns);
  return true;
}

void TransactionMachine::take_verdict(TransactionId id, Transaction& transaction, Verdict verdict, bool by_resolver,
                                      std::uint64_t now_ns) {
  transaction.failures = 0;
  transaction.park_at_ns = 0;
  if (by_resolver && transaction.group->second.silent) say_silent(*transaction.group, true);
  if (verdict != Verdict::unknown) {
    transaction.next_ns = 0;
    TransactionAction& action = act(TransactionAction::Kind::decide, id);
    action.commit = verdict == Verdict::commit;
    action.by_resolver = by_resolver;
    return;
  }
  if (++transaction.unknowns >= rules_.check_max) {
    take_back_ask(transaction);
    park(id, transaction);
    serve(transaction.group->second, now_ns);
    return;
  }
  act(TransactionAction::Kind::note, id);
  if (transaction.state == State::open) schedule(id, transaction, now_ns + interval_ns(transaction));
}

std::uint64_t TransactionMachine::interval_ns(const Transaction& transaction) const {
  const std::uint32_t doublings = std::min(transaction.unknowns + transaction.failures, kDoublingsMax);
  const std::uint64_t first = std::min(rules_.timeout_ns, rules_.check_interval_max_ns);
  return std::min(first << doublings, rules_.check_interval_max_ns);
}

bool TransactionMachine::resolver_ended(std::uint64_t serial, std::optional<Verdict> verdict, std::uint64_t now_ns) {
  const auto id = resolvers_.ended(serial);
  if (!id) return false;
  const auto entry = transactions_.find(*id);
  const bool needed =
      entry != transactions_.end() && entry->second.run == serial && entry->second.state != State::deciding;
  if (entry != transactions_.end() && entry->second.run == serial) entry->second.run = 0;
  if (needed && !verdict)
    unresolved(*id, entry->second, now_ns);
  else if (needed && (*verdict != Verdict::unknown || entry->second.state != State::parked))
    take_verdict(*id, entry->second, *verdict, true, now_ns);
  run_resolvers();
  return needed;
}

void TransactionMachine::unresolved(TransactionId id, Transaction& transaction, std::uint64_t now_ns) {
  if (transaction.failures < kDoublingsMax) ++transaction.failures;
  // Else it is asked or parked, or waits for a transactor that lives.
  if (!transaction.waiting || !transaction.group->second.answerers.empty()) return;
  if (transaction.park_at_ns == 0) transaction.park_at_ns = now_ns + rules_.park_after_ns;
  schedule(id, transaction, std::min(now_ns + interval_ns(transaction), transaction.park_at_ns));
}

void TransactionMachine::unanswered(TransactionId id, std::uint64_t serial, std::uint64_t now_ns) {
  const auto entry = transactions_.find(id);
  if (entry == transactions_.end() || entry->second.state != State::asked || entry->second.serial != serial) return;
  checks_.count(std::nullopt);
  take_back_ask(entry->second);
  schedule(id, entry->second, now_ns);
}

bool TransactionMachine::recheck(TransactionId id, std::uint64_t now_ns) {
  const auto entry = transactions_.find(id);
  if (entry == transactions_.end() || entry->second.state == State::deciding) return false;
  Transaction& transaction = entry->second;
  if (transaction.state == State::asked) return true;
  if (transaction.state == State::parked) --parked_;
  transaction.state = State::open;
  transaction.unknowns = 0;
  transaction.failures = 0;
  transaction.park_at_ns = 0;
  act(TransactionAction::Kind::note, id);
  schedule(id, transaction, now_ns);
  return true;
}

void TransactionMachine::park(TransactionId id, Transaction& transaction) {
  transaction.state = State::parked;
  transaction.waiting = false;
  transaction.next_ns = 0;
  ++parked_;
  act(TransactionAction::Kind::park, id);
}

// ---- decisions ----

bool TransactionMachine::begin_decision(TransactionId id) {
  const auto entry = transactions_.find(id);
  if (entry == transactions_.end() || entry->second.state == State::deciding) return false;
  take_back_ask(entry->second);
  if (entry->second.state == State::parked) --parked_;
  entry->second.state = State::deciding;
  entry->second.waiting = false;
  entry->second.next_ns = 0;
  return true;
}

void TransactionMachine::give_up_decision(TransactionId id, std::uint64_t now_ns) {
  const auto entry = transactions_.find(id);
  if (entry == transactions_.end() || entry->second.state != State::deciding) return;
  entry->second.state = State::open;
  schedule(id, entry->second, now_ns + rules_.timeout_ns);
}

void TransactionMachine::decided(TransactionId id) {
  const auto entry = transactions_.find(id);
  if (entry == transactions_.end()) return;
  leave_group(*entry->second.group);
  transactions_.erase(entry);
}

// ---- time ----

void TransactionMachine::schedule(TransactionId id, Transaction& transaction, std::uint64_t at_ns) {
  if (transaction.next_ns == at_ns) return;
  transaction.next_ns = at_ns;
  timers_.push_back({at_ns, id});
  std::push_heap(timers_.begin(), timers_.end(), kLater);
}

void TransactionMachine::tick(std::uint64_t now_ns) {
  while (!timers_.empty() && timers_.front().at_ns <= now_ns) {
    const Timer timer = timers_.front();
    std::pop_heap(timers_.begin(), timers_.end(), kLater);
    timers_.pop_back();
    const auto entry = transactions_.find(timer.transaction);
    if (entry == transactions_.end() || entry->second.next_ns != timer.at_ns) continue;
    entry->second.next_ns = 0;
    due(timer.transaction, entry->second, now_ns);
  }
}

void TransactionMachine::due(TransactionId id, Transaction& transaction, std::uint64_t now_ns) {
  if (transaction.state == State::asked) {  // it took too long
    unanswered(id, transaction.serial, now_ns);
    return;
  }
  if (transaction.state != State::open) return;
  if (!transaction.check_back) {
    act(TransactionAction::Kind::decide, id);
    return;
  }
  Group& group = transaction.group->second;
  if (!transaction.waiting) {
    transaction.waiting = true;
    group.waiting.push_back(id);
    serve(group, now_ns);
  }
  if (!transaction.waiting) return;
  if (group.answerers.empty())
    count_nobody(id, transaction, now_ns);
  else
    transaction.park_at_ns = 0;
}

std::optional<std::uint64_t> TransactionMachine::deadline_ns() const {
  return timers_.empty() ? std::nullopt : std::optional(timers_.front().at_ns);
}

// ---- state ----

TransactionMachine::View TransactionMachine::view(TransactionId id, const Transaction& transaction) const {
  View view{id,
            transaction.group->first,
            transaction.state == State::open && transaction.run != 0 ? State::asked : transaction.state,
            transaction.check_back,
            transaction.created_ns,
            transaction.next_ns,
            transaction.unknowns,
            {transaction.first}};
  if (transaction.others) view.halves.insert(view.halves.end(), transaction.others->begin(), transaction.others->end());
  return view;
}

std::optional<TransactionMachine::View> TransactionMachine::find(TransactionId id) const {
  const auto entry = transactions_.find(id);
  return entry == transactions_.end() ? std::nullopt : std::optional(view(id, entry->second));
}

std::vector<TransactionMachine::View> TransactionMachine::list(TransactionId after, std::size_t count,
                                                               std::optional<State> state) const {
  std::vector<TransactionId> ids;
  for (const auto& [id, transaction] : transactions_) {
    const bool parked = transaction.state == State::parked;
    if (id > after && (!state || parked == (*state == State::parked))) ids.push_back(id);
  }
  const std::size_t shown = std::min(count, ids.size());
  std::partial_sort(ids.begin(), ids.begin() + static_cast<std::ptrdiff_t>(shown), ids.end());
  std::vector<View> views;
  for (std::size_t i = 0; i < shown; ++i) views.push_back(view(ids[i], transactions_.at(ids[i])));
  return views;
}

}  // namespace sluice::core
