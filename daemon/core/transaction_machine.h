// The rules of transactions: when somebody is asked what became of one, when it is rolled back or parked without an
// answer.
//
// A state machine: what happened goes in with its time, what is to be done comes out as actions. No system calls,
// threads or clock. Owner: daemon/transactions, on the bus thread; tests run it on a simulated clock.
//
//   half() ──▶ open ── due ──▶ asked ── answered(commit | rollback) ──▶ Decide ─▶ decided() forgets it
//               ▲ ▲              │ └── unanswered(): not charged, due again at once
//               │ └─ unknown ────┘
//               │                └─ unknown, check_max times · nobody to ask for park_after ──▶ parked
//               └──────────────────────────── recheck() ──────────────────────────────────────┘
//   open, due, no answerer lives, the group has a resolver ──▶ Resolve ─▶ resolver_ended(commit | rollback | unknown):
//     as answered(); resolver_ended(nothing): not charged, due again an interval later
//   begin_decision() from any state: nobody is asked any more, until decided() or give_up_decision().
//
// A transaction with check-back is asked about: at once when its transactor dies, else after `timeout_ns`, then with
// growing intervals. One without (its messages are all that it is) is rolled back when its transactor dies, or does not
// end it in span_timeout_ns.
//
// Invariants
//  1. A transaction is here from its first half until it is decided, or its last half is gone.
//  2. Only a check that was answered counts.
//  3. A transactor is asked one question at a time; what is due meanwhile waits in its group, in the order of its
//  coming.
//  4. A resolver runs only where no answerer lives, once at a time for a transaction. It goes on waiting for a
//  transactor meanwhile, and one that comes is asked too: the first decision stands.
#pragma once

#include <compare>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "daemon/core/answer_counts.h"
#include "daemon/core/delivery_types.h"
#include "daemon/core/half_table.h"
#include "daemon/core/resolver_queues.h"
#include "shm/base/transaction_id.h"
#include "shm/base/types.h"

namespace sluice::core {

struct TransactionRules {
  std::uint64_t timeout_ns = 6'000'000'000;                    // until the first check
  std::uint64_t check_interval_max_ns = 600'000'000'000;       // they grow up to it
  std::uint64_t answer_ns = 30'000'000'000;                    // that a check may take
  std::uint32_t check_max = 15;                                // answered "unknown"
  std::uint64_t park_after_ns = 72ull * 3600 * 1'000'000'000;  // with nobody to ask
  std::uint64_t span_timeout_ns = 60'000'000'000;
  std::vector<std::string> resolver_groups;  // producer groups that have a resolver
};

struct HalfAt {
  Place place;
  Position position;
  auto operator<=>(const HalfAt&) const = default;
};

// What is to be done.
struct TransactionAction {
  enum class Kind : std::uint8_t { ask, resolve, decide, park, note };
  Kind kind = Kind::ask;
  TransactionId transaction;
  ProducerId transactor;     // ask
  std::uint64_t serial = 0;  // ask, resolve: comes back with the answer
  bool commit = false;       // decide
  bool by_resolver = false;  // decide: it has said so
};

// Whether a producer group has nobody who could be asked, as far as a transaction of it waits for that.
struct GroupSilence {
  std::string group;
  bool silent = false;
};

class TransactionMachine {
 public:
  enum class State : std::uint8_t { open, asked, parked, deciding };
  struct View {
    TransactionId transaction;
    std::string group;
    State state = State::open;
    bool check_back = false;
    std::uint64_t created_ns = 0;  // wall clock
    std::uint64_t next_ns = 0;     // monotonic; 0: nothing is due
    std::uint32_t unknowns = 0;
    std::vector<HalfAt> halves;
  };

  explicit TransactionMachine(TransactionRules rules) : rules_(std::move(rules)), resolvers_(rules_.resolver_groups) {}

  // ---- halves, as the scans meet them and as a start finds them
  // `may_return`: its transactor, if it is not here, may come back; else it is dead.
  void half(const Place& place, const Half& half, bool may_return, std::uint64_t now_ns);
  // What is remembered of one beyond its halves.
  struct Known {
    TransactionId transaction;
    std::uint32_t unknowns = 0;
    bool parked = false;
  };
  // The partition was opened anew, or is gone: its halves are told again, if they are there. Returns what was known of
  // those that have no other half.
  std::vector<Known> forget(const Place& place);
  // Once the halves were told.
  void restore(const Known& known);
  // Groups that have had nobody to ask, for so long up to now, which is `wall_ns` (since the epoch): the time to
  // parking of their transactions goes on.
  void restore_silences(const std::map<std::string, std::uint64_t>& silent_for_ns, std::uint64_t wall_ns,
                        std::uint64_t now_ns);

  // ---- transactors
  // One that lives. `group`: of producers; those of the same group answer for one another.
  void attach(ProducerId transactor, const std::string& group, std::uint64_t now_ns);
  // It can take a question now (or no more).
  void ready(ProducerId transactor, bool ready, std::uint64_t now_ns);
  // It has ended, or died.
  void detach(ProducerId transactor, std::uint64_t now_ns);

  // ---- answers
  // False: nobody was asked that (any more).
  bool answered(TransactionId transaction, std::uint64_t serial, Verdict verdict, std::uint64_t now_ns);
  void unanswered(TransactionId transaction, std::uint64_t serial, std::uint64_t now_ns);
  // A run of a resolver has ended, as each that was begun does once; nothing: it gave no answer. False: nobody needs it
  // any more.
  bool resolver_ended(std::uint64_t serial, std::optional<Verdict> verdict, std::uint64_t now_ns);
  bool recheck(TransactionId transaction, std::uint64_t now_ns);

  // ---- decisions
  // False: it is not here, or being decided already.
  bool begin_decision(TransactionId transaction);
  void give_up_decision(TransactionId transaction, std::uint64_t now_ns);
  void decided(TransactionId transaction);

  // ---- time
  void tick(std::uint64_t now_ns);
  // When tick() has work again; nothing if it has none.
  std::optional<std::uint64_t> deadline_ns() const;
  std::vector<TransactionAction> take_actions() { return std::exchange(actions_, {}); }
  // What is to be remembered of groups, for restore_silences(); said again, it begins anew.
  std::vector<GroupSilence> take_silences() { return std::exchange(silences_, {}); }

  // ---- state
  std::optional<View> find(TransactionId transaction) const;
  // In order of their ids, from the first above `after` on.
  std::vector<View> list(TransactionId after, std::size_t count, std::optional<State> state) const;
  std::size_t size() const { return transactions_.size(); }
  std::size_t parked() const { return parked_; }
  std::size_t groups() const { return groups_.size(); }
  const AnswerCounts& checks() const { return checks_; }

 private:
  struct Group {
    std::deque<ProducerId> answerers;   // transactors that listen, or have; the one that was asked last at the end
    std::deque<TransactionId> waiting;  // due; may hold ones that are not any more
    std::size_t users = 0;              // its transactors and transactions: without any it is forgotten
    bool silent = false;                // as was said last
    std::optional<std::size_t> resolver;
  };
  using NamedGroup = std::map<std::string, Group>::value_type;
  struct Transactor {
    NamedGroup* group = nullptr;
    bool ready = false;
    bool answers = false;            // it was ready once: it has a check
    TransactionId asking;            // 0: none
    std::vector<TransactionId> own;  // that it began; may hold ones that are decided
    std::size_t prune_at = 64;       // size of `own` at which those go
  };
  // There may be a hundred thousand: no gaps.
  struct Transaction {
    NamedGroup* group = nullptr;
    HalfAt first;
    std::unique_ptr<std::vector<HalfAt>> others;
    std::uint64_t created_ns = 0;
    std::uint64_t next_ns = 0;
    std::uint64_t park_at_ns = 0;  // if there is nobody to ask until then; 0: nobody was needed, or there was somebody
    std::uint64_t serial = 0;      // of the question that is out
    std::uint64_t run = 0;         // serial of the resolver's run that is out
    ProducerId asked;
    std::uint32_t unknowns = 0;
    std::uint8_t failures = 0;  // runs without an answer since the last one that had one; kDoublingsMax at most
    State state = State::open;
    bool check_back = false;
    bool waiting = false;  // in its group's list
    bool queued = false;   // and in its resolver's
  };
  struct Timer {
    std::uint64_t at_ns;
    TransactionId transaction;
  };

  View view(TransactionId id, const Transaction& transaction) const;
  void schedule(TransactionId id, Transaction& transaction, std::uint64_t at_ns);
  void due(TransactionId id, Transaction& transaction, std::uint64_t now_ns);
  void take_back_ask(Transaction& transaction);
  void park(TransactionId id, Transaction& transaction);
  void own(Transactor& transactor, TransactionId id);
  void serve(Group& group, std::uint64_t now_ns);
  void ask(TransactionId id, Transaction& transaction, ProducerId transactor, std::uint64_t now_ns);
  void count_nobody(TransactionId id, Transaction& transaction, std::uint64_t now_ns);
  void end_silence(NamedGroup& group);
  void say_silent(NamedGroup& group, bool silent);
  void run_resolvers();
  void unresolved(TransactionId id, Transaction& transaction, std::uint64_t now_ns);
  void take_verdict(TransactionId id, Transaction& transaction, Verdict verdict, bool by_resolver,
                    std::uint64_t now_ns);
  std::uint64_t interval_ns(const Transaction& transaction) const;
  NamedGroup& use_group(const std::string& name);
  void leave_group(NamedGroup& group);
  TransactionAction& act(TransactionAction::Kind kind, TransactionId transaction);

  const TransactionRules rules_;
  std::unordered_map<TransactionId, Transaction> transactions_;
  std::map<std::string, Group> groups_;
  std::map<ProducerId, Transactor> transactors_;
  std::vector<Timer> timers_;  // a heap, the earliest in front; one that is not its transaction's next_ns is void
  std::vector<TransactionAction> actions_;
  std::vector<GroupSilence> silences_;
  ResolverQueues resolvers_;
  ProducerId last_owner_;  // the highest whose transaction was ever here
  std::uint64_t last_serial_ = 0;
  std::size_t parked_ = 0;
  AnswerCounts checks_;  // of transactors
};

}  // namespace sluice::core
