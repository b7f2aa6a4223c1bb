#include "tests/sim/transactions/truth.h"

#include <utility>

namespace sluice::transactions::sim {
namespace {

std::string at(const core::Place& place, Position position) {
  return std::to_string(place.topic.value) + "/" + std::to_string(place.partition) + "@" +
         std::to_string(position.value);
}
const char* name(bool commit) { return commit ? "commit" : "rollback"; }

}  // namespace

void check(bool holds, const std::string& what) {
  if (!holds) throw Broken(what);
}

// ---- what happens

TrueTransaction& Truth::begin(TransactionId id, const std::string& group, bool check_back) {
  const auto [entry, fresh] = transactions_.try_emplace(id);
  check(fresh, "a transaction's id is used twice: " + to_text(id));
  entry->second.group = group;
  entry->second.check_back = check_back;
  return entry->second;
}

void Truth::on_half(TransactionId id, TrueHalf half) {
  const auto [entry, fresh] = halves_.try_emplace({half.place, half.position}, id);
  check(fresh, "a position is used twice: " + at(half.place, half.position));
  of(id).halves.push_back(half);
}

void Truth::on_asked(TransactionId id, bool commit, bool by_its_own) {
  TrueTransaction& transaction = of(id);
  if (commit && !transaction.asked_commit)
    for (TrueHalf& half : transaction.halves) half.must_have = half.durable;
  (commit ? transaction.asked_commit : transaction.asked_rollback) = true;
  transaction.interfered |= !by_its_own;
}

void Truth::on_told(TransactionId id, const session::Resolution& resolution) {
  TrueTransaction& transaction = of(id);
  const std::string what = name(resolution.commit);
  check(!transaction.told || *transaction.told == resolution.commit,
        to_text(id) + " was told to be another: now " + what);
  // Without a check the rules may roll it back.
  check(resolution.commit ? transaction.asked_commit : transaction.asked_rollback || !transaction.check_back,
        "nobody has asked for what " + to_text(id) + " is told to be: " + what);
  check(resolution.was_decided || !std::exchange(transaction.first_was_told, true),
        "two callers were told that theirs was the first answer: " + to_text(id));
  const auto stands = stored_(id);
  check(stands && stands->commit == resolution.commit, "told before the store has it: " + to_text(id) + " " + what);
  transaction.told = resolution.commit;
}

std::optional<bool> Truth::decided(TransactionId id) const {
  const auto decision = stored_(id);
  return decision ? std::optional(decision->commit) : std::nullopt;
}

std::optional<TransactionId> Truth::some_undecided(std::uint64_t dice) const {
  std::vector<TransactionId> undecided;
  for (const auto& [id, transaction] : transactions_)
    if (!transaction.told && !transaction.halves.empty()) undecided.push_back(id);
  if (undecided.empty()) return std::nullopt;
  return undecided[dice % undecided.size()];
}

// ---- who could be asked

void Truth::on_listener(const std::string& group, bool comes, std::uint64_t now_ns) {
  Listeners& listeners = listeners_[group];
  if (comes && listeners.count++ == 0)
    listeners.nobody_longest_ns = std::max(listeners.nobody_longest_ns, now_ns - listeners.nobody_since_ns);
  if (!comes && --listeners.count == 0) listeners.nobody_since_ns = now_ns;
}

void Truth::on_no_listeners(std::uint64_t now_ns) {
  for (auto& [group, listeners] : listeners_)
    if (std::exchange(listeners.count, 0) != 0) listeners.nobody_since_ns = now_ns;
}

// ---- what is met

void Truth::check_ref(const core::Place& place, const Met& met) {
  const Address meant{place, *met.reference};
  const auto known = halves_.find(meant);
  check(known != halves_.end() && *met.reference < met.position,
        "a ref " + at(place, met.position) + " means what is no half: " + at(place, *met.reference));
  const TransactionId id = known->second;
  if (!committed_.contains(id)) {
    const auto stands = stored_(id);
    check(stands && stands->commit, "a ref " + at(place, met.position) + " of " + to_text(id) + " stands, and it is " +
                                        (stands ? "rolled back" : "not decided"));
    committed_.insert(id);
  }
  const auto [ref, fresh] = refs_.try_emplace(meant, met.position);
  check(fresh || ref->second == met.position, "two refs mean the half " + at(place, *met.reference) + " of " +
                                                  to_text(id) + ": " + at(place, ref->second) + " and " +
                                                  at(place, met.position));
}

void Truth::on_met(const core::Place& place, const Met& met) {
  if (met.reference) check_ref(place, met);
}

void Truth::on_recovered(const core::Place& place, const std::vector<Met>& all) {
  std::set<Position> found;
  std::erase_if(refs_, [&](const auto& ref) { return ref.first.first == place; });
  for (const Met& met : all) {
    if (met.half) {
      found.insert(met.position);
      check(halves_.contains({place, met.position}), "a half that nobody has sent: " + at(place, met.position));
    }
    on_met(place, met);
  }
  for (auto& [id, transaction] : transactions_) {
    for (TrueHalf& half : transaction.halves) {
      if (half.place != place) continue;
      const bool is_there = found.contains(half.position);
      check(is_there || !half.durable, "a half that was durable is lost: " + at(place, half.position));
      check(!is_there || !half.lost, "a half that was lost is there again: " + at(place, half.position));
      half.lost |= !is_there;
      half.durable |= is_there;
    }
  }
}

void Truth::check_listed(const Described& describe) const {
  for (const auto& [id, transaction] : transactions_) {
    if (transaction.told || committed_.contains(id)) continue;
    const bool has_any = std::any_of(transaction.halves.begin(), transaction.halves.end(),
                                     [](const TrueHalf& half) { return half.durable; });
    if (!has_any || stored_(id)) continue;
    const auto info = describe(id);
    check(info.has_value(), "an open transaction is not known: " + to_text(id));
    check(info->state != "committed" && info->state != "rolled_back",
          to_text(id) + " is called " + info->state + ", and the store knows nothing of it");
    check(info->group == transaction.group && info->check_back == transaction.check_back,
          "an open transaction became another: " + to_text(id));
    for (const TrueHalf& half : transaction.halves) {
      const bool is_listed = std::any_of(info->halves.begin(), info->halves.end(), [&](const session::HalfRef& one) {
        return core::Place{one.topic_id, one.partition} == half.place && one.position == half.position;
      });
      check(is_listed || !half.durable, "a durable half is not listed: " + at(half.place, half.position));
      check(!is_listed || !half.lost, "a half that is lost is listed: " + at(half.place, half.position));
    }
  }
}

void Truth::check_parked(const session::TransactionInfo& info, std::uint64_t now_ns) {
  TrueTransaction& transaction = of(info.transaction);
  if (std::exchange(transaction.was_parked, true)) return;
  check(transaction.check_back, "one without check-back is parked: " + to_text(info.transaction));
  const Listeners& listeners = listeners_[transaction.group];
  const std::uint64_t nobody_ns = listeners.count == 0 ? now_ns - listeners.nobody_since_ns : std::uint64_t{0};
  check(transaction.unknowns >= rules_.check_max ||
            std::max(nobody_ns, listeners.nobody_longest_ns) >= rules_.park_after_ns,
        to_text(info.transaction) + " is parked after " + std::to_string(transaction.unknowns) +
            " answers \"unknown\", and with somebody to ask");
}

void Truth::check_end() const {
  for (const auto& [id, transaction] : transactions_) {
    const auto stands = decided(id);
    const bool has_any = std::any_of(transaction.halves.begin(), transaction.halves.end(),
                                     [](const TrueHalf& half) { return !half.lost; });
    check(stands || !has_any, "never decided: " + to_text(id));
    check(!transaction.told || stands == transaction.told, "not what was told: " + to_text(id));
    // Its own application alone has decided, and its database says how.
    if (transaction.check_back && !transaction.interfered && stands)
      check(transaction.applied == stands, "its application has it otherwise: " + to_text(id));
    for (const TrueHalf& half : transaction.halves) {
      const bool has_ref = refs_.contains({half.place, half.position});
      const std::string where = at(half.place, half.position) + " of " + to_text(id);
      check(!has_ref || (stands && *stands), "rolled back, and it has a ref: " + where);
      const bool must = stands.value_or(false) && (half.must_have || (!transaction.interfered && !half.lost));
      check(has_ref || !must, "committed, and it has no ref: " + where);
    }
  }
}

Truth::Counts Truth::counts(TopicId topic) const {
  Counts counts;
  for (const auto& [id, transaction] : transactions_) {
    ++counts.transactions;
    std::set<core::Place> places;
    for (const TrueHalf& half : transaction.halves) {
      if (half.place.topic != topic) continue;
      const bool has_ref = refs_.contains({half.place, half.position});
      counts.refs += has_ref;
      counts.halves_lost += half.lost;
      if (!half.lost) ++(has_ref ? counts.committed : counts.rolled_back);
    }
  }
  return counts;
}

}  // namespace sluice::transactions::sim
