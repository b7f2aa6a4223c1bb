// What the store keeps of transactions: their decisions, and what is known of those that are parked. A part of Store
// (store.h); its rules hold here too. The halves themselves are saved with their partition's audit snapshot.
//
// Invariants
//  1. A transaction is decided once. Decisions have ascending orders, never given again.
//  2. A half stays with its decision until a snapshot of its partition says that it has ended; a decision is forgotten
//     only once none is left.
//  3. What a decision acks is saved in its transaction.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "daemon/store/group_store.h"
#include "shm/base/result.h"
#include "shm/base/transaction_id.h"
#include "shm/base/types.h"

namespace sluice::store {

struct HalfPlace {
  TopicId topic;
  PartitionNumber partition = 0;
  Position position;
  auto operator<=>(const HalfPlace&) const = default;
};

struct Decision {
  TransactionId transaction;
  bool commit = false;
  std::uint64_t order = 0;       // given by save_decisions()
  std::uint64_t decided_ns = 0;  // wall clock
  std::string by;                // who decided, for people
  std::vector<HalfPlace> halves;

  bool operator==(const Decision&) const = default;
};

struct DecidedHalf {
  std::uint64_t order = 0;
  Position position;
  bool commit = false;
  bool operator==(const DecidedHalf&) const = default;
};

// Of a transaction that is not decided, as far as it must be remembered.
struct TransactionNote {
  TransactionId transaction;
  std::uint32_t unknowns = 0;   // checks that were answered so
  std::uint64_t parked_ns = 0;  // wall clock; 0: it is not
  bool operator==(const TransactionNote&) const = default;
};

// A producer group that has had nobody to ask since then.
struct SilentGroup {
  std::string group;
  std::uint64_t since_ns = 0;  // wall clock; saved as 0: there is somebody
  bool operator==(const SilentGroup&) const = default;
};

struct TransactionNotes {
  std::vector<TransactionNote> transactions;
  std::vector<SilentGroup> groups;
  bool empty() const { return transactions.empty() && groups.empty(); }
};

class TransactionStore {
 public:
  virtual ~TransactionStore() = default;

  // All of it in one transaction. Fills in the orders. exists: one of them is decided already; nothing is saved.
  // Halves in topics that are gone are passed over; acks as save_groups().
  virtual Status save_decisions(std::vector<Decision>& decisions, const std::vector<GroupSave>& acks) = 0;
  // With those of its halves that have not ended.
  virtual Result<std::optional<Decision>> decision(TransactionId transaction) = 0;
  // Those that have not ended as far as the store knows, by order.
  virtual Result<std::vector<DecidedHalf>> decided_halves(TopicId topic, PartitionNumber partition) = 0;
  virtual Result<TransactionNotes> transaction_notes() = 0;
  // One that says nothing takes the one before away. A note goes with its transaction's decision.
  virtual Status save_transaction_notes(const TransactionNotes& notes) = 0;
  // Of the oldest `count`, those decided before that time, or with `keep` newer ones, of which no half is left. Returns
  // how many that were.
  virtual Result<std::uint64_t> forget_decisions(std::uint64_t before_ns, std::uint64_t keep, std::uint32_t count) = 0;
};

}  // namespace sluice::store
