// What Transactions needs, in memory: a host, whose messages in members' hands are named by their targets alone, and a
// store.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "daemon/session/session.h"
#include "daemon/store/transaction_store.h"
#include "daemon/transactions/host.h"

namespace sluice::transactions {

// Everything is durable.
class FakeHost final : public Host {
 public:
  // Attaches a client.
  SessionId attach() { return sessions.create({}, "test", true).value()->id(); }

  Result<session::Session*> live(SessionId id) const override {
    session::Session* const session = sessions.find(id);
    if (session == nullptr) return fail(ErrorCode::revoked, "nobody");
    return session;
  }
  Status require_operator(const session::Session&, std::string_view) const override { return {}; }
  Status may_publish(const session::Peer&, TopicId) const override { return {}; }
  Result<ProducerId> new_id() override { return ProducerId(++last_id); }
  bool is_former(ProducerId) const override { return false; }
  bool may_return(ProducerId) const override { return false; }
  Status keep_transactor(SessionId, ProducerId, const std::string&) override { return {}; }
  void drop_transactor(SessionId, ProducerId) override {}
  std::optional<std::string> topic_name(TopicId) const override { return "orders"; }
  std::optional<Position> durable(const core::Place&) const override { return Position(UINT64_MAX); }
  void flush(const core::Place&) override {}
  Status check_acks(const session::AckSet& acks) override { return take_acks({&acks}) ? Status() : conflict(); }
  Result<std::vector<store::GroupSave>> take_acks(const std::vector<const session::AckSet*>& all) override {
    std::set<std::uint64_t> taken;
    for (const session::AckSet* acks : all)
      for (const session::TransactionAck& ack : acks->acks)
        if (!in_hand.contains(ack.target) || !taken.insert(ack.target).second) return conflict();
    return std::vector<store::GroupSave>(taken.empty() ? 0 : 1);
  }
  void apply_acks(const session::AckSet& acks) override {
    for (const session::TransactionAck& ack : acks.acks) in_hand.erase(ack.target);
  }
  void acks_failed(const std::vector<store::GroupSave>& saves) override { given_back += saves.size(); }
  bool decide(const core::Place&, Position half, bool commit, std::uint64_t) override {
    decided[half] = commit;
    return true;
  }

  session::SessionTable sessions{Incarnation(1)};
  std::uint32_t last_id = 0;
  std::set<std::uint64_t> in_hand;  // of some member
  std::size_t given_back = 0;
  std::map<Position, bool> decided;

 private:
  static tl::unexpected<Error> conflict() { return fail(ErrorCode::conflict, "not in hand"); }
};

class FakeStore final : public store::TransactionStore {
 public:
  Status save_decisions(std::vector<store::Decision>& decisions, const std::vector<store::GroupSave>& acks) override {
    ++commits;
    for (const store::Decision& decision : decisions)
      for (const store::Decision& before : decided)
        if (before.transaction == decision.transaction) return fail(ErrorCode::exists, "decided");
    for (store::Decision& decision : decisions) decision.order = decided.size() + 1;
    decided.insert(decided.end(), decisions.begin(), decisions.end());
    saved_acks += acks.size();
    return {};
  }
  Result<std::optional<store::Decision>> decision(TransactionId id) override {
    for (const store::Decision& decision : decided)
      if (decision.transaction == id) return std::optional(decision);
    return std::optional<store::Decision>();
  }
  Result<std::vector<store::DecidedHalf>> decided_halves(TopicId, PartitionNumber) override {
    return std::vector<store::DecidedHalf>();
  }
  Result<store::TransactionNotes> transaction_notes() override { return store::TransactionNotes{noted, silent}; }
  Status save_transaction_notes(const store::TransactionNotes& notes) override {
    noted.insert(noted.end(), notes.transactions.begin(), notes.transactions.end());
    silent.insert(silent.end(), notes.groups.begin(), notes.groups.end());
    return {};
  }
  Result<std::uint64_t> forget_decisions(std::uint64_t, std::uint64_t, std::uint32_t) override { return 0; }

  std::vector<store::Decision> decided;
  std::vector<store::TransactionNote> noted;
  std::vector<store::SilentGroup> silent;
  std::size_t commits = 0;
  std::size_t saved_acks = 0;
};

}  // namespace sluice::transactions
