// What a simulation knows to be true of every transaction: who sent what, what its application has decided, what the
// daemon was told and has told. The code under test never sees it.
//
// Owner: the simulation's one thread. A broken promise throws Broken.
//
// What is checked here
//  A. At the end every half of a committed transaction has exactly one ref, and no half of a rolled back one has any.
//     (Of one that others committed while its producer was still sending, those that were durable when they first asked
//     must have one, and the others may have none.)
//  F. A decision that was told never changes, somebody had asked for it, and one caller at most is told that his was
//  the
//     first. It is in the store before it is told.
//  V. No ref stands anywhere, in memory or on disk, whose transaction the store does not call committed; no two mean
//  the
//     same half.
//  H. A half that was durable is found by every start, and its transaction is listed with it until it is decided.
//  P. A transaction is parked only after check_max answers "unknown", or when there was nobody of its group to ask for
//     park_after.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

#include "daemon/core/transaction_machine.h"
#include "daemon/session/transaction_interface.h"
#include "daemon/store/transaction_store.h"
#include "shm/base/transaction_id.h"
#include "shm/base/types.h"

namespace sluice::transactions::sim {

struct Broken : std::runtime_error {
  using std::runtime_error::runtime_error;
};
void check(bool holds, const std::string& what);

struct TrueHalf {
  core::Place place;
  Position position;
  Position end;
  bool durable = false;    // its producer has seen it
  bool must_have = false;  // it was when somebody first asked to commit
  bool lost = false;       // with memory
};

struct TrueTransaction {
  std::string group;
  bool check_back = false;
  std::vector<TrueHalf> halves;
  std::optional<bool> applied;  // what its application's database says: committed or rolled back
  bool asked_commit = false;
  bool asked_rollback = false;
  bool interfered = false;  // others than its own application have said something
  std::optional<bool> told;
  bool first_was_told = false;
  std::uint32_t unknowns = 0;  // answers
  bool was_parked = false;
};

// A record that a walk over memory or files has met.
struct Met {
  Position position;
  bool half = false;
  std::optional<Position> reference;
};

class Truth {
 public:
  using Stored = std::function<std::optional<store::Decision>(TransactionId)>;
  // `stored`: what the store has by now.
  Truth(core::TransactionRules rules, Stored stored) : rules_(rules), stored_(std::move(stored)) {}

  TrueTransaction& begin(TransactionId id, const std::string& group, bool check_back);
  TrueTransaction& of(TransactionId id) { return transactions_.at(id); }
  bool knows(TransactionId id) const { return transactions_.contains(id); }
  void on_half(TransactionId id, TrueHalf half);
  // Somebody says what is to become of it.
  void on_asked(TransactionId id, bool commit, bool by_its_own);
  void on_told(TransactionId id, const session::Resolution& resolution);
  void on_unknown(TransactionId id) { ++of(id).unknowns; }
  std::optional<bool> decided(TransactionId id) const;
  // Some that is not decided as far as was told; nothing if there is none.
  std::optional<TransactionId> some_undecided(std::uint64_t dice) const;

  // ---- who could be asked
  void on_listener(const std::string& group, bool comes, std::uint64_t now_ns);
  // The daemon has ended, and all of them with it.
  void on_no_listeners(std::uint64_t now_ns);

  // ---- what is met
  // In memory, by somebody who reads along.
  void on_met(const core::Place& place, const Met& met);
  // The files behind a start that has lost memory: all there is.
  void on_recovered(const core::Place& place, const std::vector<Met>& all);
  // As the daemon lists it; nothing if it does not.
  using Described = std::function<std::optional<session::TransactionInfo>(TransactionId)>;
  void check_listed(const Described& describe) const;
  void check_parked(const session::TransactionInfo& info, std::uint64_t now_ns);
  // Nothing is open any more, and everything is on disk.
  void check_end() const;

  struct Counts {
    std::uint64_t transactions = 0, committed = 0, rolled_back = 0;  // the latter two: halves that are there
    std::uint64_t halves_lost = 0, refs = 0, spanning = 0;
  };
  Counts counts(TopicId topic) const;
  const std::map<TransactionId, TrueTransaction>& all() const { return transactions_; }

 private:
  struct Listeners {
    std::uint32_t count = 0;
    std::uint64_t nobody_since_ns = 0;
    std::uint64_t nobody_longest_ns = 0;
  };
  using Address = std::pair<core::Place, Position>;
  void check_ref(const core::Place& place, const Met& met);

  const core::TransactionRules rules_;
  const Stored stored_;
  std::map<TransactionId, TrueTransaction> transactions_;
  std::map<Address, TransactionId> halves_;
  std::map<Address, Position> refs_;           // of the half there: where it stands
  mutable std::set<TransactionId> committed_;  // as the store has said
  std::map<std::string, Listeners> listeners_;
};

}  // namespace sluice::transactions::sim
