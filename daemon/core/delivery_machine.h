// The rules of delivery for one group: who reads which partition, which message goes to whom, what becomes of it.
//
// A state machine: what happened goes in with its time, what is to be done comes out as actions. No system calls,
// threads or clock; randomness from a seed. Owner: daemon/delivery, on the bus thread; tests run it on a simulated
// clock.
//
// A message        ready ──▶ in hand ──▶ settled
//                    ▲          │ nack, ack timeout, charged with a crash
//                    └─ pending ┘──▶ parking ──▶ (dead letter)
// A partition      unowned ──▶ owned ──▶ wanted back ──▶ unowned        (ordered groups)
//
// Invariants
//  1. A partition of an ordered group has one owner at most; its words count only under the owner's generation.
//  2. A slot holds one delivery; only an outcome with its stamp settles it.
//  3. No message is lost: each is below the cursor and settled, pending, in hand, or will be read.
//  4. At most one suspect is out in the whole group (`alone`).
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <random>
#include <set>
#include <span>
#include <utility>
#include <vector>

#include "daemon/core/ack_state.h"
#include "daemon/core/delivery_types.h"
#include "daemon/core/group.h"
#include "shm/base/types.h"

namespace sluice::core {

struct MemberJoin {
  std::set<TopicId> topics;  // that it has subscribed to
  std::uint32_t in_flight_max = 0;
  std::vector<HeldRange> held_partitions;
  std::vector<HeldReference> held_messages;
};

// What a new owner needs to know.
struct AssignmentView {
  MemberId member = 0;
  std::uint32_t cell = 0;
  std::uint64_t generation = 0;
  Position start;
  Position careful_until;
  std::vector<PositionSpan> settled;
  std::vector<std::pair<Position, Counts>> repeats;
  std::vector<std::uint64_t> blocked_keys;
  bool blocked = false;  // the whole partition
};

struct MemberView {
  std::uint32_t partitions = 0;
  std::uint32_t in_flight = 0;
  std::uint32_t in_flight_max = 0;
  std::uint64_t progress_at_ns = 0;
};

// What of a partition is where.
struct PartitionView {
  MemberId owner = 0;
  bool wanted_back = false;
  Position cursor;
  std::uint64_t in_flight = 0;
  std::uint64_t retrying = 0;
  std::uint64_t settled = 0;       // messages, since this daemon started
  std::uint32_t worst_failed = 0;  // of the pending ones
  Position worst;
  std::uint64_t oldest_in_hand_since_ns = 0;  // ordered; 0: nothing in hand
};

class DeliveryMachine {
 public:
  DeliveryMachine(GroupConfig config, std::uint64_t seed) : config_(std::move(config)), dice_(seed) {}

  const GroupConfig& config() const { return config_; }
  void set_config(GroupConfig config) { config_ = std::move(config); }
  // While paused nothing is handed out, and partitions are wanted back.
  void pause(bool paused, std::uint64_t now_ns);
  bool paused() const { return paused_; }

  // ---- partitions
  bool has(const Place& place) const { return partitions_.count(place) != 0; }
  void add(const Place& place, Position start, std::uint64_t now_ns);
  // From the store: its ack state. Before any member joins.
  AckState& restore(const Place& place, Position cursor);
  // The pending messages of restored partitions are scheduled; `members` are expected to come back.
  void restored(std::uint32_t members, std::uint64_t now_ns);
  void remove(const Place& place, std::uint64_t now_ns);
  std::vector<Place> places() const;
  const AckState& acks(const Place& place) const { return partitions_.at(place).acks; }
  // All that is settled above the cursor, what is out of order in shared groups included.
  std::vector<PositionSpan> settled_above(const Place& place) const;
  PartitionView view(const Place& place) const;
  // It holds dead letters that are handed out again: there is no cursor in it.
  bool by_reference_only(const Place& place) const { return partitions_.at(place).letters; }
  // The group goes on at `to`, and nothing that was in hand or pending there counts any more.
  void seek(const Place& place, Position to, std::uint64_t now_ns);

  // ---- members
  void join(MemberId member, MemberJoin join, std::uint64_t now_ns);
  void set_topics(MemberId member, std::set<TopicId> topics, std::uint64_t now_ns);
  // `started`: slots whose delivery the application has begun. Its last words were told before.
  void leave(MemberId member, Ending ending, const std::set<std::uint32_t>& started, std::uint64_t now_ns);
  bool is_member(MemberId member) const { return members_.count(member) != 0; }
  std::vector<MemberId> members() const;
  MemberView view(MemberId member) const;
  std::optional<Place> place_of_cell(MemberId member, std::uint32_t cell) const;
  std::optional<AssignmentView> assignment(const Place& place) const;
  // Its cells, with the generation of each.
  std::vector<std::pair<std::uint32_t, std::uint64_t>> cells(MemberId member) const;
  // The stamp that a slot holds, 0: none.
  std::uint64_t stamp_of(MemberId member, std::uint32_t slot) const;
  // Slots in use, with how long they are out is the caller's to know.
  std::vector<std::uint32_t> slots_out(MemberId member) const;

  // ---- what members say. Outcomes first, then the words that were copied before they were read.
  void outcome(MemberId member, const Outcome& outcome, std::uint64_t now_ns);
  void progress(MemberId member, std::uint32_t cell, CellWords words, Position end, std::uint64_t now_ns);
  // Its counter of calls.
  void alive(MemberId member, std::uint64_t progress, std::uint64_t now_ns);
  // A delivery that its member had not begun was taken back from it.
  void recalled(MemberId member, std::uint32_t slot, std::uint64_t now_ns);

  // ---- shared groups: the log
  // How many messages of the partition may be offered now.
  std::uint32_t wanted(const Place& place) const;
  Position next(const Place& place) const { return partitions_.at(place).next; }
  // Messages from next() on, at most wanted(); `next`: everything below was looked at.
  void offer(const Place& place, std::span<const LogItem> items, Position next, std::uint64_t now_ns);

  // ---- dead letters
  // The copy is noted: the message is settled for good.
  void parked(const Place& place, Position position);
  // What was parked is handed out again, from `place`, a dead letters' topic.
  void redrive(const Place& place, Position position, std::uint64_t letter, std::uint64_t due_ns);

  // ---- time
  void tick(std::uint64_t now_ns);
  // When tick() has something to do; 0: nothing.
  std::uint64_t deadline_ns() const;

  std::vector<Action> take_actions() { return std::exchange(actions_, {}); }
  bool has_actions() const { return !actions_.empty(); }
  // For saving: partitions whose ack state has changed.
  std::vector<Place> dirty() const;
  AckState& acks(const Place& place) { return partitions_.at(place).acks; }
  void check_invariants() const;

 private:
  struct Slot {
    std::uint64_t stamp = 0;  // 0: free
    Place place;
    Position position;
    std::uint64_t deadline_ns = 0;
    bool fresh = false;  // a flight; else pending
    bool alone = false;
  };
  struct Member {
    std::set<TopicId> topics;
    std::uint32_t in_flight_max = 0;
    std::vector<Slot> slots;
    std::vector<std::uint32_t> free_slots;
    std::map<std::uint32_t, Place> cells;
    std::uint64_t progress = 0;
    std::uint64_t progress_at_ns = 0;
    std::uint32_t out = 0;
    std::uint32_t direct = 0;  // in hand, read directly
    std::uint32_t load = 0;    // partitions that it has or is to get
  };
  struct Flight {
    Position position;
    Position end;
    MemberId member = 0;
    std::uint32_t slot = 0;
    bool settled = false;
  };
  struct Partition {
    explicit Partition(Position cursor) : acks(cursor), next(cursor) {}
    AckState acks;
    bool letters = false;
    std::set<Position> ready;  // pending, due
    std::uint64_t settled = 0;
    // ordered
    MemberId owner = 0;
    std::uint64_t generation = 0;
    std::uint32_t cell = 0;
    bool wanted_back = false;
    MemberId promised = 0;
    std::uint64_t give_back_by_ns = 0;
    CellWords words;
    std::uint64_t oldest_since_ns = 0;
    Position careful_until;
    std::map<Position, std::uint64_t> extended;          // direct messages: their deadline
    std::map<std::uint64_t, std::deque<Position>> keys;  // strict by key: the waiting one, then those behind it
    bool blocked = false;                                // strict by partition
    // shared
    Position next;
    std::deque<Flight> flights;  // ascending
  };
  struct Expiry {
    std::uint64_t deadline_ns;
    MemberId member;
    std::uint32_t slot;
    std::uint64_t stamp;
  };
  struct Due {
    std::uint64_t due_ns;
    Place place;
    Position position;
    auto operator<=>(const Due&) const = default;
  };
  struct Suspect {
    Place place;
    Position position;
  };

  bool waiting_for_members() const { return rejoin_by_ns_ != 0; }
  // ---- assignment (delivery_assign.cc)
  void rebalance(std::uint64_t now_ns);
  bool assign_unowned(std::uint64_t now_ns);
  void want_back(Partition& partition, MemberId promised, std::uint64_t now_ns);
  void assign(const Place& place, Partition& partition, MemberId member, std::uint64_t now_ns);
  void give_back(const Place& place, Partition& partition, std::uint64_t now_ns);
  void take_from_owner(Partition& partition);
  MemberId least_loaded(TopicId topic) const;
  void suspect_direct(const Place& place, Partition& partition, bool sole, std::uint64_t now_ns);

  // ---- handing out (delivery_machine.cc)
  void pump(std::uint64_t now_ns);
  void pump(const Place& place, Partition& partition, std::uint64_t now_ns);
  MemberId choose(const Place& place, const Partition& partition, Position position);
  bool has_room(const Member& member) const { return member.out < member.in_flight_max; }
  std::uint32_t deliver(MemberId id, const Place& place, Position position, Counts counts, bool fresh, bool alone,
                        std::uint64_t now_ns);
  void free_slot(Member& member, std::uint32_t slot);
  void schedule(const Place& place, Partition& partition, Position position, std::uint64_t due_ns);
  void expire_slots(std::uint64_t now_ns);
  void expire_direct(std::uint64_t now_ns);
  std::uint64_t direct_deadline_ns(const Partition& partition) const;

  // ---- outcomes (delivery_outcomes.cc)
  void outcome_of_slot(MemberId id, Member& member, const Outcome& outcome, std::uint64_t now_ns);
  void outcome_of_cell(MemberId id, Member& member, const Outcome& outcome, std::uint64_t now_ns);
  void ack_pending(const Place& place, Partition& partition, Position position, std::uint64_t now_ns);
  void forget_pending(Partition& partition, Position position);
  void settle_flight(Partition& partition, Position position);
  // A pending message, or one that becomes pending by this.
  void fail(const Place& place, Partition& partition, Position position, Counts before, std::string reason,
            std::optional<std::uint64_t> delay_ns, std::uint64_t key_hash, std::uint64_t now_ns);
  void wait_again(const Place& place, Partition& partition, Position position, Counts counts, bool suspect,
                  std::uint64_t now_ns);
  void park(const Place& place, Partition& partition, Position position, Pending pending, std::uint64_t now_ns);
  void defer(const Place& place, Partition& partition, Position position, std::uint64_t key_hash, std::uint64_t now_ns);
  void hold_back(Partition& partition, Position position, std::uint64_t key_hash);
  void let_on(const Place& place, Partition& partition, Position position, std::uint64_t key_hash,
              std::uint64_t now_ns);
  Counts counts_of(const Partition& partition, Position position) const;

  GroupConfig config_;
  std::mt19937_64 dice_;
  bool paused_ = false;
  std::map<Place, Partition> partitions_;
  std::map<MemberId, Member> members_;
  std::map<std::pair<Place, Position>, std::pair<MemberId, Counts>> held_;  // by members of an earlier daemon
  std::set<Place> ready_places_;
  std::set<Due> due_;
  std::deque<Expiry> expiries_;                    // ascending: every delivery has the same timeout
  std::multimap<std::uint64_t, Expiry> extended_;  // those that were given longer
  std::uint64_t direct_check_ns_ = 0;              // when a direct message may time out; 0: none is in hand
  std::uint64_t rejoin_by_ns_ = 0;
  std::uint32_t expected_ = 0;
  bool alone_out_ = false;
  MemberId last_served_ = 0;
  std::uint64_t stamp_ = 0;
  std::uint64_t generation_ = 0;
  std::uint64_t order_ = 0;
  std::vector<Action> actions_;
};

}  // namespace sluice::core
