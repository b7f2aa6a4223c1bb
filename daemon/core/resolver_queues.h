// Which transaction the next run of a resolver is about, and which runs are out.
//
// Pure state machine, without clock. Owner: core::TransactionMachine.
//
// Invariants
//  1. At most kResolverRunsMax runs are out, and kResolverRunsPerGroupMax of one group.
//  2. Groups that have something to ask take turns; within one it goes by the order of coming.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "shm/base/transaction_id.h"

namespace sluice::core {

class ResolverQueues {
 public:
  struct Next {
    std::size_t resolver;
    TransactionId transaction;
  };

  explicit ResolverQueues(const std::vector<std::string>& groups);

  // The group's resolver; nothing: it has none.
  std::optional<std::size_t> find(const std::string& group) const;
  void push(std::size_t resolver, TransactionId transaction) { queues_[resolver].due.push_back(transaction); }
  // Takes the one whose turn it is; nothing: none is due, or enough is out. It may not be due any more: the caller
  // knows.
  std::optional<Next> next();
  // `serial`: never used before.
  void began(std::uint64_t serial, const Next& next);
  // What it was about; nothing: no such run is out.
  std::optional<TransactionId> ended(std::uint64_t serial);
  std::size_t runs() const { return runs_.size(); }

 private:
  struct Queue {
    std::deque<TransactionId> due;
    std::size_t runs = 0;
  };

  std::map<std::string, std::size_t> by_group_;  // constant after construction
  std::vector<Queue> queues_;
  std::size_t turn_ = 0;  // whose turn it is
  std::unordered_map<std::uint64_t, Next> runs_;
};

}  // namespace sluice::core
