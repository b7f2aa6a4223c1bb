// Transactions in the daemon: who has begun them, what was decided, who is asked.
//
// Owner: the bus thread. Calls come from the control server through session::BusInterface::transactions().
//
// A decision   queued ── every half durable ──▶ stored (with all that are ready, one commit) ──▶ told to the
// partitions,
//              which append the refs; answered
//
// Invariants
//  1. A decision is in the store before a ref of it is appended, and before anybody is told.
//  2. The first answer stands: a later one is told what does.
//  3. A half that a decision names was durable before.
//  4. A transactor is attached as long as its session lives, over restarts of the daemon that keep memory: one that is
//  not, and was given its id in this memory, is dead.
//  5. What a resolver answers counts as a transactor's answer does: the machine says who is asked.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "daemon/core/transaction_machine.h"
#include "daemon/resolve/resolvers.h"
#include "daemon/session/transaction_interface.h"
#include "daemon/store/transaction_store.h"
#include "daemon/transactions/host.h"

namespace sluice::transactions {

// Decisions that are told; older ones are forgotten before their week (kDecisionKeptNs) is over.
inline constexpr std::uint64_t kDecisionsKeptMax = 1'000'000;

class Transactions final : public session::TransactionInterface {
 public:
  // `resolvers`: runs those that the rules name; none if they name none.
  Transactions(Host& host, store::TransactionStore& store, core::TransactionRules rules = {},
               resolve::Resolvers* resolvers = nullptr)
      : host_(host), store_(store), machine_(std::move(rules)), resolvers_(resolvers) {}

  // One that has outlived the daemon before, if its session has: known before any partition is opened.
  void transactor_kept(SessionId session, ProducerId id, const std::string& group);

  // ---- partitions
  // Opened, at a start or anew: its open halves are taken over. What was decided it knows from the store.
  void partition_opened(const core::Place& place, const std::vector<core::Half>& open, std::uint64_t now_ns);
  void partition_gone(const core::Place& place);
  void half_met(const core::Place& place, const core::Half& half, std::uint64_t now_ns);
  // Behind the last partition_opened() of a start.
  Status load();

  // Its transactors end.
  void session_ended(SessionId session, std::uint64_t now_ns);

  // ---- the turn
  bool do_work(std::uint64_t now_ns);
  std::uint64_t deadline_ns() const;  // monotonic; 0: none
  std::uint64_t open() const { return machine_.size() - machine_.parked(); }
  std::uint64_t parked() const { return machine_.parked(); }
  // Since the start.
  std::uint64_t committed() const { return committed_; }
  std::uint64_t rolled_back() const { return rolled_back_; }
  const core::AnswerCounts& checks() const { return machine_.checks(); }
  const core::AnswerCounts& resolver_runs() const { return resolver_answers_; }

  // ---- session::TransactionInterface
  Result<ProducerId> open_transactor(SessionId session, const std::string& group, ProducerId former) override;
  Status close_transactor(SessionId session, ProducerId transactor) override;
  void resolve(SessionId session, session::Resolve request, session::Reply<session::Resolution> reply) override;
  void take_check(SessionId session, ProducerId transactor, session::Reply<session::CheckRequest> reply) override;
  Status answer_check(SessionId session, ProducerId transactor, TransactionId transaction, std::uint64_t serial,
                      Verdict verdict) override;
  Result<std::vector<session::TransactionInfo>> list_transactions(SessionId session, TransactionId after,
                                                                  std::uint32_t limit, bool parked_only) override;
  Result<session::TransactionInfo> describe_transaction(SessionId session, TransactionId transaction) override;
  void order(SessionId session, TransactionId transaction, session::TransactionOrder order,
             session::Reply<session::TransactionInfo> reply) override;

 private:
  struct Transactor {
    SessionId session;
    std::string group;
    session::Reply<session::CheckRequest> poll;  // empty: none waits
    std::uint64_t poll_until_ns = 0;
  };
  // Runs of a group's resolver that came to nothing, for the log.
  struct NoAnswers {
    std::uint64_t logged_ns = 0;  // monotonic; 0: never
    std::uint64_t unlogged = 0;   // since
  };
  // Who waits for a decision. Called with what stands.
  using Waiter = session::Reply<session::Resolution>;
  struct Pending {
    store::Decision decision;
    session::AckSet acks;
    bool is_asked_for = false;  // by the first of the waiters; else the rules decide
    std::vector<Waiter> waiters;
  };

  Result<Transactor*> transactor_of(SessionId session, ProducerId transactor, std::string_view doing);
  // Who answers must be of the transaction's group, and allowed to publish where its messages are.
  Status may_decide(SessionId session, const Transactor& transactor, const core::TransactionMachine::View& view) const;
  Status check_halves(const core::TransactionMachine::View& view, const session::Resolve& request) const;
  Pending* queue(const core::TransactionMachine::View& view, bool commit, std::string by, Waiter waiter);
  void answer(const Pending& pending, const Error& error) const;
  static void name_halves(store::Decision& decision, const core::TransactionMachine::View& view);
  void end_transactor(ProducerId id, std::uint64_t now_ns);
  void carry_out(const core::TransactionAction& action, std::uint64_t now_ns);
  void ask(const core::TransactionAction& action, std::uint64_t now_ns);
  void ask_resolver(const core::TransactionAction& action, const core::TransactionMachine::View& view,
                    std::uint64_t now_ns);
  bool take_resolver_answers(std::uint64_t now_ns);
  void log_no_answer(const resolve::Answer& answer, std::uint64_t now_ns);
  // io: a half is lost; conflict: an ack is. would_block: not yet.
  Status look_at(const Pending& pending);
  bool decide_ready(std::uint64_t now_ns);
  void store_alone(Pending pending, std::uint64_t now_ns);
  // In one commit. Nothing may come between what their acks are planned from and their save.
  Status save(std::vector<Pending>& ready);
  void apply(Pending& pending);
  // Halves that nobody named when their transaction was decided: they do not count.
  void roll_back_others(TransactionId transaction, const std::vector<store::HalfPlace>& named);
  void save_notes();
  bool answer_polls(std::uint64_t now_ns);
  void forget_old(std::uint64_t now_ns);
  session::HalfRef ref_of(const core::Place& place, Position position) const;
  session::TransactionInfo info_of(const core::TransactionMachine::View& view, std::uint64_t now_ns) const;
  Result<session::TransactionInfo> info_of_decided(TransactionId transaction);

  Host& host_;
  store::TransactionStore& store_;
  core::TransactionMachine machine_;
  resolve::Resolvers* const resolvers_;
  std::size_t resolver_runs_ = 0;  // that are out
  core::AnswerCounts resolver_answers_;
  std::map<std::string, NoAnswers> no_answers_;  // by group that has a resolver
  std::map<ProducerId, Transactor> transactors_;
  std::map<TransactionId, Pending> pending_;  // decisions that are not in the store
  std::uint64_t committed_ = 0;
  std::uint64_t rolled_back_ = 0;
  store::TransactionNotes notes_;  // that are not in the store
  std::uint64_t retry_ns_ = 0;     // monotonic: the store has refused, it is not tried before
  std::uint64_t forget_ns_ = 0;    // monotonic: when old decisions are looked for again
};

}  // namespace sluice::transactions
