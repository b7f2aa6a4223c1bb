#include "tests/sim/transactions/acks_truth.h"

#include <algorithm>

namespace sluice::transactions::sim {
namespace {

bool is_settled(const store::GroupState& group, const Address& address) {
  const store::GroupPosition place{address.place.topic, address.place.partition};
  for (const store::GroupPending& pending : group.pending)
    if (pending.place == place && pending.position == address.position) return false;
  for (const store::GroupCursor& cursor : group.cursors) {
    if (cursor.place != place) continue;
    if (address.position < cursor.cursor) return true;
    for (const auto& [begin, end] : cursor.settled)
      if (begin <= address.position && address.position < end) return true;
  }
  return false;
}

}  // namespace

std::string to_text(const Address& address) {
  return std::to_string(address.place.topic.value) + "/" + std::to_string(address.place.partition) + "@" +
         std::to_string(address.position.value);
}

TrueInput& AcksTruth::input(const Address& address) {
  const auto found = inputs_.find(address);
  check(found != inputs_.end(), "a message that nobody has sent: " + to_text(address));
  return found->second;
}

// ---- what happens

void AcksTruth::on_sent(const Address& address, Position end) {
  const bool fresh = inputs_.try_emplace(address, TrueInput{address, end, false, false, false, 0, {}, {}}).second;
  check(fresh, "a position is used twice: " + to_text(address));
}

std::vector<TrueInput*> AcksTruth::not_durable() {
  std::vector<TrueInput*> list;
  for (auto& [address, input] : inputs_)
    if (!input.durable && !input.lost) list.push_back(&input);
  return list;
}

void AcksTruth::on_handed_out(const Address& address) {
  TrueInput& one = input(address);
  check(!one.lost, "a message that is lost is handed out: " + to_text(address));
  check_unsettled(one);
  ++one.handed_out;
}

void AcksTruth::check_unsettled(TrueInput& input) {
  look_at_decisions(input);
  check(!input.committed_by, "handed out again, and " + to_text(input.committed_by.value_or(TransactionId())) +
                                 " has acked it: " + to_text(input.address));
  check(!is_settled(group_(), input.address),
        "handed out again, and the store has it as settled: " + to_text(input.address));
}

void AcksTruth::on_asked(TransactionId id, const std::vector<Delivery>& inputs) {
  const store::GroupState group = group_();
  const bool is_decided = decision_(id).has_value();
  for (const Delivery& delivery : inputs) {
    TrueInput& one = input(delivery.address);
    if (std::find(one.asked.begin(), one.asked.end(), id) == one.asked.end()) one.asked.push_back(id);
    if (!is_decided && is_settled(group, delivery.address)) late_.insert(id);
  }
}

void AcksTruth::on_refused(TransactionId id) {
  check(!is_committed_with_acks(id), "its acks are refused, and it is committed with them: " + to_text(id));
  refused_.insert(id);
}

bool AcksTruth::is_committed_with_acks(TransactionId id) const {
  const auto decision = decision_(id);
  return decision && decision->commit && decision->by == "producer " + std::to_string(id.transactor().value);
}

void AcksTruth::look_at_decisions(TrueInput& input) {
  for (const TransactionId id : input.asked) {
    if (input.committed_by == id || !is_committed_with_acks(id)) continue;
    const std::string what = to_text(id) + " is committed with the ack of " + to_text(input.address);
    check(!input.committed_by, what + ", as " + to_text(input.committed_by.value_or(id)) + " was");
    check(!late_.contains(id), what + ", which others had settled");
    check(!refused_.contains(id), what + ", which was refused");
    input.committed_by = id;
  }
}

void AcksTruth::on_recovered(const core::Place& place, const std::vector<Met>& all) {
  std::set<Position> found;
  for (const Met& met : all) found.insert(met.position);
  for (auto& [address, input] : inputs_) {
    if (address.place != place) continue;
    const bool is_there = found.contains(address.position);
    check(is_there || !input.durable, "a message that was durable is lost: " + to_text(address));
    look_at_decisions(input);
    check(is_there || input.lost || !input.committed_by,
          "acked by a committed transaction, and it was not durable: " + to_text(address));
    input.lost |= !is_there;
    input.durable |= is_there;
  }
}

const TrueInput* AcksTruth::next(const core::Place& place, Position from) const {
  for (auto at = inputs_.lower_bound({place, from}); at != inputs_.end() && at->first.place == place; ++at)
    if (!at->second.lost) return &at->second;
  return nullptr;
}

// ---- looking

void AcksTruth::check_stored() {
  if (inputs_.empty()) return;
  const store::GroupState group = group_();
  for (auto& [address, input] : inputs_) {
    look_at_decisions(input);
    if (input.lost) continue;
    const bool settled = is_settled(group, address);
    check(settled || !input.committed_by,
          "acked by " + to_text(input.committed_by.value_or(TransactionId())) +
              ", which is committed, and the store does not have it as settled: " + to_text(address));
    check(!settled || input.committed_by || input.acked,
          "settled as the store has it, and by nobody: " + to_text(address));
    if (!settled) continue;
    for (const TransactionId id : input.asked)
      if (!decision_(id)) late_.insert(id);
  }
}

bool AcksTruth::all_settled() const {
  if (inputs_.empty()) return true;
  const store::GroupState group = group_();
  return std::all_of(inputs_.begin(), inputs_.end(),
                     [&](const auto& entry) { return entry.second.lost || is_settled(group, entry.first); });
}

void AcksTruth::check_end() {
  check_stored();
  check(all_settled(), "a message is not settled at the end");
}

AcksTruth::Counts AcksTruth::counts() const {
  Counts counts;
  for (const auto& [address, input] : inputs_) {
    ++counts.inputs;
    counts.lost += input.lost;
    counts.by_transaction += input.committed_by.has_value();
    counts.plainly += !input.committed_by && input.acked;
    if (input.handed_out > 1) counts.redelivered += input.handed_out - 1;
  }
  return counts;
}

}  // namespace sluice::transactions::sim
