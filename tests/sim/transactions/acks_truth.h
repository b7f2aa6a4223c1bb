// What a simulation knows to be true of every message that the consumer group is to settle: where it stands, to whom it
// was handed out, which transactions ack it, who has acked it plainly. The code under test never sees it.
//
// An input is settled by a committed transaction that was decided by its own producer, who names its acks: one that
// others commit (an operator, a member of its producer group) has none. It is settled by a plain ack once the store
// has that; before, the ack may be forgotten, and the message comes again.
//
// Owner: the simulation's one thread. A broken promise throws Broken.
//
// What is checked here
//  1. An input is among the acks of one committed transaction at most, and of none that was asked for when the store
//     had the input as settled by others.
//  2. A transaction whose acks were refused is not committed with them.
//  3. What the store has as settled somebody has settled, and what a committed transaction acks the store has as
//     settled: with its decision, and in all lives from then on.
//  4. What is settled is not handed out.
//  5. An input that was durable is not lost, and what a committed transaction acks was durable.
//  6. At the end every input that is not lost is settled.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "daemon/core/delivery_types.h"
#include "daemon/store/group_store.h"
#include "shm/base/transaction_id.h"
#include "shm/base/types.h"
#include "tests/sim/transactions/truth.h"

namespace sluice::transactions::sim {

// Of a message.
struct Address {
  core::Place place;
  Position position;
  auto operator<=>(const Address&) const = default;
};
std::string to_text(const Address& address);

// A message in a member's hands. The serial is used once by its member: what came again is another delivery.
struct Delivery {
  Address address;
  std::uint64_t serial = 0;
};

struct TrueInput {
  Address address;
  Position end;
  bool durable = false;  // its sender has seen it
  bool lost = false;     // with memory
  bool acked = false;    // plainly
  std::uint32_t handed_out = 0;
  std::vector<TransactionId> asked;           // to be committed with its ack
  std::optional<TransactionId> committed_by;  // as far as was looked
};

class AcksTruth {
 public:
  using StoredGroup = std::function<store::GroupState()>;
  // `decision`, `group`: what the store has by now.
  AcksTruth(Truth::Stored decision, StoredGroup group) : decision_(std::move(decision)), group_(std::move(group)) {}

  // ---- what happens
  void on_sent(const Address& address, Position end);
  std::vector<TrueInput*> not_durable();
  // It is in a member's hands from now on.
  void on_handed_out(const Address& address);
  // The daemon holds that it is.
  void on_offered(const Address& address) { check_unsettled(input(address)); }
  void on_plain_ack(const Address& address) { input(address).acked = true; }
  // Somebody asks to commit it with these acks.
  void on_asked(TransactionId id, const std::vector<Delivery>& inputs);
  void on_refused(TransactionId id);
  bool is_committed_with_acks(TransactionId id) const;
  // The files behind a start that has lost memory: all there is.
  void on_recovered(const core::Place& place, const std::vector<Met>& all);

  // ---- the topic, as its readers find it: the first message from there on
  const TrueInput* next(const core::Place& place, Position from) const;
  bool is_lost(const Address& address) const { return inputs_.at(address).lost; }

  // ---- looking
  void check_stored();
  // As the store has it.
  bool all_settled() const;
  void check_end();

  std::size_t size() const { return inputs_.size(); }
  struct Counts {
    std::uint64_t inputs = 0, lost = 0, by_transaction = 0, plainly = 0, redelivered = 0;
  };
  Counts counts() const;

 private:
  TrueInput& input(const Address& address);
  void look_at_decisions(TrueInput& input);
  void check_unsettled(TrueInput& input);

  const Truth::Stored decision_;
  const StoredGroup group_;
  std::map<Address, TrueInput> inputs_;
  std::set<TransactionId> late_;     // one of their inputs was settled by others before they were decided
  std::set<TransactionId> refused_;  // for their acks
};

}  // namespace sluice::transactions::sim
