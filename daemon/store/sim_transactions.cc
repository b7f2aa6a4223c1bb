#include "daemon/store/sim_transactions.h"

#include <algorithm>
#include <string>
#include <utility>

namespace sluice::store {

Status SimTransactions::decide(Decision& decision, const std::function<bool(TopicId)>& has_topic) {
  if (orders_.contains(decision.transaction))
    return fail(ErrorCode::exists,
                "saving the decision on transaction " + std::to_string(decision.transaction.value) + ": it has one");
  decision.order = ++last_order_;
  Decision kept = decision;
  kept.halves.clear();
  decisions_.emplace(decision.order, std::move(kept));
  orders_.emplace(decision.transaction, decision.order);
  notes_.erase(decision.transaction);
  for (const HalfPlace& half : decision.halves)
    if (has_topic(half.topic)) halves_[half] = decision.order;
  return {};
}

std::optional<Decision> SimTransactions::decision(TransactionId transaction) const {
  const auto order = orders_.find(transaction);
  if (order == orders_.end()) return std::nullopt;
  Decision decision = decisions_.at(order->second);
  for (const auto& [half, its_order] : halves_)
    if (its_order == order->second) decision.halves.push_back(half);
  return decision;
}

std::vector<DecidedHalf> SimTransactions::decided_halves(TopicId topic, PartitionNumber partition) const {
  std::vector<DecidedHalf> all;
  for (const auto& [half, order] : halves_)
    if (half.topic == topic && half.partition == partition)
      all.push_back({order, half.position, decisions_.at(order).commit});
  std::stable_sort(all.begin(), all.end(), [](const auto& a, const auto& b) { return a.order < b.order; });
  return all;
}

void SimTransactions::note(const TransactionNote& note) {
  if (note.unknowns == 0 && note.parked_ns == 0)
    notes_.erase(note.transaction);
  else
    notes_[note.transaction] = note;
}

void SimTransactions::note(const SilentGroup& group) {
  if (group.since_ns == 0)
    silent_.erase(group.group);
  else
    silent_[group.group] = group.since_ns;
}

TransactionNotes SimTransactions::notes() const {
  TransactionNotes all;
  for (const auto& [transaction, note] : notes_) all.transactions.push_back(note);
  for (const auto& [group, since_ns] : silent_) all.groups.push_back({group, since_ns});
  return all;
}

void SimTransactions::forget(TopicId topic) {
  std::erase_if(halves_, [&](const auto& entry) { return entry.first.topic == topic; });
}

std::uint64_t SimTransactions::forget_decisions(std::uint64_t before_ns, std::uint64_t keep, std::uint32_t count) {
  std::uint64_t forgotten = 0;
  for (auto next = decisions_.begin(); next != decisions_.end() && count > 0; --count) {
    const auto decision = next++;
    const bool has_halves =
        std::any_of(halves_.begin(), halves_.end(), [&](const auto& half) { return half.second == decision->first; });
    const bool is_old = decision->second.decided_ns < before_ns || decision->first + keep <= last_order_;
    if (!is_old || has_halves) continue;
    orders_.erase(decision->second.transaction);
    decisions_.erase(decision);
    ++forgotten;
  }
  return forgotten;
}

}  // namespace sluice::store
