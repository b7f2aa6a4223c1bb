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
//  5. A pending message that waits is in exactly one place: `due_` under its due time, its partition's `ready`,
//     `ready_suspects_`, or deferred in a lane.
//  6. A lane (a key of a group that is strict by key, or the whole partition) lets one waiting message on at a time,
//  the
//     lowest; positions within a lane are the order of its messages.
//  7. What is kept grows with what is in hand and pending, not with the rate: both are bounded by limits.
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
  // Positions lie within the log, and the words are of no time before the partition's last seek: the caller has checked
  // both. Everything below `acked` is settled, or was saved as pending.
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
  std::vector<Position>
      handed_out;  // a message that is not settled was in a member's hands once for each that is above it
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
  bool full = false;  // kPendingMax messages wait: nothing new is handed out until half of them are through
  Position cursor;
  std::uint64_t in_flight = 0;
  std::uint64_t retrying = 0;
  std::uint64_t settled = 0;       // messages, since this daemon started
  std::uint32_t worst_failed = 0;  // of the pending ones
  Position worst;
  std::uint64_t oldest_in_hand_since_ns = 0;  // 0: nothing in hand
  MemberId oldest_in_hand_by = 0;
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
  // The message that this outcome would settle; nothing if it is not in the member's hands (any more).
  std::optional<std::pair<Place, Position>> settles(MemberId member, const Outcome& outcome) const;
  // `words` are of the cell's present generation; `end`: of the log.
  void progress(MemberId member, std::uint32_t cell, CellWords words, Position end, std::uint64_t now_ns);
  // Its counter of calls.
  void alive(MemberId member, std::uint64_t progress, std::uint64_t now_ns);
  // Groups that are strict by key: the key of a message that is pending since it timed out in its reader's hands
  // (Withdraw with stamp 0), which only the log knows.
  void set_key(const Place& place, Position position, std::uint64_t key_hash);
  // A delivery that its member had not begun was taken back from it. The member gets no others until it goes on or has
  // nothing in hand.
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
  // It could not be noted after all: the message is what it was, `pending`, before parked().
  void not_parked(const Place& place, Position position, Pending pending);
  // What was parked is handed out again, from `place`, a dead letters' topic. False: it is already under way, or as
  // many as can be (kPendingMax) are.
  bool redrive(const Place& place, Position position, std::uint64_t letter, std::uint64_t due_ns);

  // ---- time
  void tick(std::uint64_t now_ns);
  // Members that tick() would end as hung. A caller that knows what their applications have begun calls leave() for
  // them first; for tick() everything in their hands counts as begun.
  std::vector<MemberId> hung(std::uint64_t now_ns) const;
  // When tick() has something to do; 0: nothing. After tick(now) it is later than `now`.
  std::uint64_t deadline_ns() const;

  std::vector<Action> take_actions() { return std::exchange(actions_, {}); }
  bool has_actions() const { return !actions_.empty(); }
  // For saving: partitions whose ack state has changed.
  std::vector<Place> dirty() const;
  AckState& acks(const Place& place) { return partitions_.at(place).acks; }
  void check_invariants() const;

 private:
  static constexpr std::uint32_t kNoSlot = 0xffff'ffff;
  struct Partition;
  // One reference in a member's hands. Those whose timeout was not moved stand in a list in order of their deadlines.
  struct Slot {
    std::uint64_t stamp = 0;  // 0: free
    Place place;
    Partition* partition = nullptr;
    Position position;
    std::uint64_t since_ns = 0;
    std::uint64_t deadline_ns = 0;
    std::uint64_t flight = 0;  // fresh: its number
    std::uint32_t earlier = kNoSlot;
    std::uint32_t later = kNoSlot;
    bool fresh = false;  // a flight; else pending
    bool alone = false;
    bool moved = false;  // in Member::moved, not in the list
  };
  struct Member {
    std::set<TopicId> topics;
    std::uint32_t in_flight_max = 0;
    std::vector<Slot> slots;
    std::vector<std::uint32_t> free_slots;
    std::uint32_t earliest = kNoSlot;  // of the list
    std::uint32_t latest = kNoSlot;
    std::set<std::pair<std::uint64_t, std::uint32_t>> moved;  // deadline, slot
    std::map<std::uint32_t, Place> cells;
    std::vector<std::uint32_t> free_cells;  // below cells_used
    std::uint32_t cells_used = 0;
    std::set<Place> ready;  // its partitions with something ready
    Place last_ready;
    std::uint64_t progress = 0;
    std::uint64_t progress_at_ns = 0;
    bool stalled = false;  // something was taken back from it: nothing new until it goes on
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
    bool full = false;
    std::set<Position> ready;  // pending, due, not suspect
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
    std::vector<Position> handed_out;            // behind what each former owner had handed out and not settled
    std::map<Position, std::uint64_t> extended;  // direct messages: their deadline
    std::map<std::uint64_t, std::set<Position>> lanes;
    // shared
    Position next;
    std::deque<Flight> flights;       // ascending; the first one is not settled
    std::uint64_t flights_begin = 0;  // number of the first one
  };
  struct Due {
    std::uint64_t due_ns;
    Place place;
    Position position;
    auto operator<=>(const Due&) const = default;
  };

  bool waiting_for_members() const { return rejoin_by_ns_ != 0; }
  // Its pending messages go to the partition's owner; else to any member.
  bool by_owner(const Partition& partition) const { return config_.mode == GroupMode::ordered && !partition.letters; }
  // ---- assignment (delivery_assign.cc)
  void rebalance(std::uint64_t now_ns);
  void assign_unowned(std::uint64_t now_ns);
  void even_out(std::uint64_t now_ns);
  void want_back(Partition& partition, MemberId promised, std::uint64_t now_ns);
  bool may_have(MemberId member, const Place& place) const;
  void assign(const Place& place, Partition& partition, MemberId member, std::uint64_t now_ns);
  bool give_back(const Place& place, Partition& partition, std::uint64_t now_ns);
  void take_from_owner(const Place& place, Partition& partition);
  void take_words(Partition& partition, CellWords words, Position end, std::uint64_t now_ns);
  MemberId least_loaded(TopicId topic) const;
  void suspect_direct(const Place& place, Partition& partition, bool sole, std::uint64_t now_ns);

  // ---- members (delivery_members.cc)
  void take_held(MemberId id, Member& member, const HeldReference& held, std::uint64_t now_ns);
  // What of the partition is out is nobody's any more.
  void withdraw_all(const Place& place);

  // ---- handing out (delivery_hand_out.cc)
  void pump(std::uint64_t now_ns);
  // The same after only this member has got room.
  void pump_for(MemberId id, std::uint64_t now_ns);
  bool drain_due(std::uint64_t now_ns);
  void pump_suspects(std::uint64_t now_ns);
  void pump_owner(MemberId id, Member& member, std::uint64_t now_ns);
  void pump_places(MemberId only, std::uint64_t now_ns);
  void pump_place(const Place& place, Partition& partition, MemberId only, std::uint64_t now_ns);
  MemberId choose(const Place& place, const Partition& partition);
  bool can_take(const Member& member, const Place& place, const Partition& partition) const;
  static bool has_room(const Member& member) {
    return member.out < member.in_flight_max && !(member.stalled && member.out != 0);
  }
  void make_ready(const Place& place, Partition& partition, Position position, bool suspect);
  void not_ready(const Place& place, Partition& partition, Position position);
  void deliver_pending(const Place& place, Partition& partition, Position position, Pending& pending, MemberId id,
                       std::uint64_t now_ns);
  std::uint32_t deliver(MemberId id, const Place& place, Partition& partition, Position position, Counts counts,
                        bool alone, std::uint64_t now_ns);
  void free_slot(Member& member, std::uint32_t slot);
  void set_deadline(Member& member, std::uint32_t slot, std::uint64_t deadline_ns);
  void clear_deadline(Member& member, std::uint32_t slot);
  void schedule(const Place& place, Partition& partition, Position position, std::uint64_t due_ns);
  void unschedule(const Place& place, Partition& partition, Position position);
  void carry_oldest_flight(Partition& partition);
  void pop_settled(Partition& partition);

  // ---- time (delivery_time.cc)
  void expire_slots(std::uint64_t now_ns);
  void expire_slot(MemberId id, Member& member, std::uint32_t slot, std::uint64_t now_ns);
  void expire_direct(std::uint64_t now_ns);
  std::uint64_t direct_deadline_ns(const Partition& partition) const;
  void look_at_direct(const Partition& partition);

  // ---- outcomes (delivery_outcomes.cc)
  void outcome_of_slot(MemberId id, Member& member, const Outcome& outcome, std::uint64_t now_ns);
  void outcome_of_cell(MemberId id, Member& member, const Outcome& outcome, std::uint64_t now_ns);
  void ack_pending(const Place& place, Partition& partition, Position position, std::uint64_t now_ns);
  bool forget_pending(const Place& place, Partition& partition, Position position);
  void settle_flight(Partition& partition, std::uint64_t flight);
  // A pending message, or one that becomes pending by this. `suspect`: its consumer did not survive it.
  void fail(const Place& place, Partition& partition, Position position, Counts before, std::string reason,
            std::optional<std::uint64_t> delay_ns, std::uint64_t key_hash, bool suspect, std::uint64_t now_ns);
  void reject(const Place& place, Partition& partition, Position position, Counts before, std::string reason,
              std::uint64_t now_ns);
  void wait_again(const Place& place, Partition& partition, Position position, Counts counts, bool suspect,
                  std::uint64_t now_ns);
  void park(const Place& place, Partition& partition, Position position, Pending pending, std::uint64_t now_ns);
  void defer(const Place& place, Partition& partition, Position position, std::uint64_t key_hash, std::uint64_t now_ns);
  void put_waiting(const Place& place, Partition& partition, Position position, Pending pending, std::uint64_t due_ns,
                   std::uint64_t now_ns);
  bool hold_back(const Place& place, Partition& partition, Position position, std::uint64_t key_hash);
  void let_on(const Place& place, Partition& partition, Position position, std::uint64_t key_hash,
              std::uint64_t now_ns);
  void look_at_room(const Place& place, Partition& partition, std::uint64_t now_ns);
  Counts counts_of(const Partition& partition, Position position) const;

  GroupConfig config_;
  std::mt19937_64 dice_;
  bool paused_ = false;
  std::map<Place, Partition> partitions_;
  std::map<MemberId, Member> members_;
  std::set<Due> due_;
  std::set<Place> ready_places_;  // with something ready that any member may have
  Place last_ready_;
  std::set<std::pair<Place, Position>> ready_suspects_;
  std::uint64_t direct_check_ns_ = 0;  // when a direct message may time out; 0: none is in hand
  std::uint64_t rejoin_by_ns_ = 0;
  std::uint32_t expected_ = 0;
  std::uint32_t wanted_back_ = 0;  // partitions
  bool alone_out_ = false;
  MemberId last_served_ = 0;
  std::uint64_t stamp_ = 0;
  std::uint64_t generation_ = 0;
  std::vector<Action> actions_;
};

}  // namespace sluice::core
