// The simulated store's transactions: what TransactionStore says, in memory. A value: SimStore copies it with every
// commit.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "daemon/store/transaction_store.h"

namespace sluice::store {

class SimTransactions {
 public:
  Status decide(Decision& decision, const std::function<bool(TopicId)>& has_topic);
  std::optional<Decision> decision(TransactionId transaction) const;
  std::vector<DecidedHalf> decided_halves(TopicId topic, PartitionNumber partition) const;
  TransactionNotes notes() const;
  void note(const TransactionNote& note);
  void note(const SilentGroup& group);
  void end(const HalfPlace& half) { halves_.erase(half); }
  void forget(TopicId topic);
  std::uint64_t forget_decisions(std::uint64_t before_ns, std::uint64_t keep, std::uint32_t count);

 private:
  std::uint64_t last_order_ = 0;
  std::map<std::uint64_t, Decision> decisions_;  // by order; without their halves
  std::map<TransactionId, std::uint64_t> orders_;
  std::map<HalfPlace, std::uint64_t> halves_;  // to the order of their decision
  std::map<TransactionId, TransactionNote> notes_;
  std::map<std::string, std::uint64_t> silent_;
};

}  // namespace sluice::store
