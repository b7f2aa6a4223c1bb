// One member of a group: reads what it is assigned, takes what is handed to it by reference, settles. The inside of
// sluice::Consumer.
//
//   joined ── ended, or a daemon that is new ──▶ (next call) joins again ─▶ joined
//      └───── group deleted, close() ──▶ closed
//
// Owner: one thread; interrupt() from any.
// Invariants
//  1. in_hand_ is the number of messages in the application's hands: those of all partitions and all references. It is
//  at
//     most in_flight_max when a message is handed out.
//  2. alone_out_: a message under suspicion is in hand, and nothing else; nothing is handed out meanwhile.
//  3. A Delivery names its place and a number that is used once: whatever was lost meanwhile, it settles nothing else.
//  4. Callbacks are called in next() and poll() alone, between two messages.
//  5. The steady state (records are there, acks come in order) makes no system call, takes no lock and allocates
//  nothing.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "sdk/bus_link.h"
#include "sdk/group_epochs.h"
#include "sdk/group_partition.h"
#include "sdk/hold.h"
#include "sdk/member_link.h"
#include "sdk/readiness.h"
#include "sdk/reference_reader.h"
#include "sdk/references.h"
#include "sdk/transaction_link.h"
#include "sdk/wait_loop.h"
#include "sluice/consumer.h"

namespace sluice::internal {

class ConsumerCore {
 public:
  static Result<std::unique_ptr<ConsumerCore>> open(std::shared_ptr<BusLink> link, std::vector<std::string> topics,
                                                    ConsumerOptions options);
  ~ConsumerCore();

  Result<Delivery> next(Duration timeout);
  Result<std::size_t> poll(std::size_t count, Duration timeout, const std::function<void(const Delivery&)>& handler);

  Status ack(const Delivery& delivery) {
    begin_settling();
    GroupPartition* partition = direct(delivery);
    if (partition == nullptr) [[unlikely]]
      return ack_reference(delivery);
    partition->ack(delivery.index_);
    ++counters_.acked;
    end_settling(1);
    return {};
  }
  Status ack(std::span<const Delivery> deliveries);
  Status ack_up_to(const Delivery& delivery);
  Status nack(const Delivery& delivery, Duration delay, std::string_view reason);
  Status reject(const Delivery& delivery, std::string_view reason);
  Status extend(const Delivery& delivery, Duration time);
  Result<Origin> origin(const Delivery& delivery);
  Result<std::uint64_t> epoch(const Origin& origin);
  // As it is to be named in a transaction that acks it. conflict: it is not in this consumer's hands.
  Result<TransactionAck> describe(const Delivery& delivery);
  // A transaction has acked it.
  void settled_by_transaction(const Delivery& delivery);
  // Strict by key: behind one of its key that has failed; the daemon hands it out again, in order.
  Status defer(const Delivery& delivery);
  Status ack_sync(Duration timeout);

  Result<int> fd();
  Status close();
  std::uint64_t member() const { return member_->member(); }
  std::vector<std::pair<std::string, PartitionNumber>> assignments() const;
  const ConsumerCounters& counters() const;

  // ---- for run()
  const GroupConfig& group() const { return member_->config(); }
  std::uint32_t in_hand() const { return in_hand_; }
  // Any thread: while interrupts count (set_interruptible()), a next() that would wait answers would_block until
  // take_interrupt() was called.
  void interrupt();
  void set_interruptible(bool yes) { interruptible_ = yes; }
  bool take_interrupt();
  // Does all that next() does but handing out: waits for an interrupt, answers the daemon, calls back.
  Status tend(Duration timeout);
  // The connection is away, and not for good.
  bool may_come_back() const { return link_->state() != ConnectionState::closed; }
  // No message of a partition while another one of it is in hand.
  void set_one_per_partition(bool yes) { one_per_partition_ = yes; }

 private:
  struct Waiting;
  struct Told {
    Rebalance::Kind kind;
    std::string_view topic;  // in the pool
    PartitionNumber partition;
  };

  ConsumerCore(std::shared_ptr<BusLink> link, ConsumerOptions options);

  // ---- looking and handing out (consumer_core.cc)
  Look look(ring::RecordView& record, bool thorough);
  Look look_at_references(ring::RecordView& record, bool& others_wait);
  Look look_at_partitions(ring::RecordView& record, bool thorough);
  void answer_waiting(layout::OutcomeVerb verb, std::string_view reason);
  void end_turn();
  void rest_all();
  void hand_out(const ring::RecordView& record, Delivery& delivery);
  void hand_out_reference(Delivery& delivery, const ring::RecordView& record);
  Status wait(ring::RecordView& record, Duration timeout);
  bool arm_fd(ring::RecordView& record, Status& status);
  // The connection has changed, and is there: a daemon that is new must hear of this member. One load.
  void look_at_connection() {
    if (link_->change_word().load(std::memory_order_relaxed) != change_seen_ && BusLink::online(link_->word()))
        [[unlikely]]
      attention_ = true;
  }
  bool may_hand_out() const { return in_hand_ < in_flight_max_ && !alone_out_; }
  GroupPartition& current() { return *turns_[current_]; }
  Error take_error();

  // ---- settling (consumer_settle.cc)
  void begin_settling() {
    member_->bump_progress();
    if (member_->has_news()) [[unlikely]]
      take_news();
  }
  GroupPartition* direct(const Delivery& delivery) const {
    // References have the highest bit.
    if (delivery.place_ >= places_.size()) return nullptr;
    GroupPartition* partition = places_[delivery.place_].get();
    const bool same = partition != nullptr && partition->serial() == delivery.stamp_;
    return same && partition->in_hand().find(delivery.index_) != nullptr ? partition : nullptr;
  }
  Reference* reference(const Delivery& delivery);
  void end_settling(std::uint32_t settled) {
    in_hand_ -= settled;
    if (in_hand_ == 0) alone_out_ = false;
    if (wanted_ || wants_room_) [[unlikely]]
      after_settling();
    member_->notify();
  }
  void after_settling();
  Status ack_reference(const Delivery& delivery);
  Status answer(const Delivery& delivery, layout::OutcomeVerb verb, std::uint64_t argument, std::string_view reason,
                const char* doing);
  Status stale(const Delivery& delivery, const char* doing);
  Status need_room(std::size_t reason_size, const char* doing);

  // ---- membership (consumer_life.cc)
  struct Joined {
    std::unique_ptr<MemberLink> link;
    std::vector<Assignment> assignments;
  };
  // The connection, assignments, callbacks: what is looked at now and then.
  Status attend();
  // 0: it has something to do now; else in how many ns, or never (the change of the connection wakes).
  std::uint64_t attention_due_ns() const;
  // would_block: the daemon has gone meanwhile; again.
  Result<Joined> join(std::vector<HeldPartition> partitions, std::vector<HeldMessage> messages);
  Status rejoin();
  Status renew_assignments();
  // The connection was away: does the daemon still know this member?
  Status ask_whether_known();
  Status take_assignments(const std::vector<Assignment>& list);
  Status open_fresh(const std::vector<const Assignment*>& fresh);
  static bool is_valid(const MemberLink& link, const Assignment& assignment);
  void keep_partitions(MemberLink& link, const std::vector<Assignment>& list, bool memory_replaced);
  void give_back_unread(const Assignment& assignment);
  // Soft errors, after which it is tried again.
  bool is_passing(const Error& error);
  void take_news();
  void take_deliveries();
  void take_delivery(const layout::DeliverySlot& slot, std::uint32_t index);
  void withdraw(const layout::DeliverySlot& slot);
  void withdraw_direct(GroupPartition* partition, Position position);
  void recount_references();
  GroupPartition* find(TopicId topic, PartitionNumber partition) const;
  GroupPartition& add_partition(std::string_view topic, OpenedPartition opened, ReaderHandlePtr reader);
  void drop(GroupPartition& partition);
  void lose(GroupPartition& partition);
  void lose_everything();
  void release_wanted();
  void tell();
  Status check_gates();
  void leave(MemberLink& member);

  // Constant.
  const std::shared_ptr<BusLink> link_;
  const ConsumerOptions options_;
  const ReaderOptions reader_options_;
  const std::uint32_t in_flight_max_;
  // The consumer's thread. The order matters: streams use the pool and the context.
  ReaderCounters reader_counters_;
  mutable ConsumerCounters counters_;  // with those of reader_counters_ once they are asked for
  HoldPool::Ptr pool_ = HoldPool::make();
  StreamContext context_;
  JoinGroup request_;
  std::unique_ptr<MemberLink> member_;
  std::vector<std::unique_ptr<GroupPartition>> places_;
  std::vector<GroupPartition*> turns_;                          // those that are read, in turn
  std::unordered_map<std::uint32_t, std::string_view> topics_;  // by id; names in the pool
  References references_;
  GroupEpochs epochs_;
  ReferenceReader reference_reader_;
  std::uint64_t last_serial_ = 0;
  std::uint32_t in_hand_ = 0;
  bool alone_out_ = false;
  bool one_per_partition_ = false;
  // Looking.
  std::size_t current_ = 0;
  std::uint32_t turn_left_ = 0;
  std::uint32_t found_ = 0;  // records since the last look that found nothing
  bool found_reference_ = false;
  bool reference_failed_ = false;  // take_error() is the reference reader's
  WaitLoop wait_loop_;
  bool announced_ = false;
  std::optional<Readiness> readiness_;
  bool wants_room_ = false;  // who waits on the descriptor can go on once something was settled
  // Membership.
  bool attention_ = false;  // attend() has something to do
  bool rejoin_due_ = false;
  bool assignments_due_ = false;
  bool wanted_ = false;                    // partitions are wanted back
  std::uint64_t retry_ns_ = 0;             // monotonic: what is due is not tried before
  std::uint64_t unknown_topic_asked_ = 0;  // serial of the reference whose topic was asked for
  std::uint64_t generation_ = 0;           // of the link's memory, when it joined
  std::uint32_t change_seen_ = 0;
  std::vector<Told> told_;  // what on_rebalance is to be told
  std::optional<Error> closed_;
  // interrupt()
  std::atomic<std::uint32_t> interrupts_{0};
  std::uint32_t interrupts_seen_ = 0;
  bool interruptible_ = false;
};

}  // namespace sluice::internal

namespace sluice {
struct Consumer::Impl {
  std::unique_ptr<internal::ConsumerCore> core;
  std::atomic<bool> stopping{false};  // stop(), from any thread; taken down by run()
};
}  // namespace sluice
