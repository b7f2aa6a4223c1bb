// One consumer group at work: the machine of its rules, the members that it hears of, and what of it is in the store.
//
// Owner: Delivery, on the bus thread.
//
// Invariants
//  1. What a new cursor was told to a member is in the store before the member is.
//  2. Of a member's region the words are copied first, then its outcomes are read and told, then the words
//     (core::DeliveryMachine): a message that `acked` has passed is settled, or known to be otherwise.
//  3. What is saved lies below the durable positions; what lies above stays to be saved.
//  4. What waits in a partition is in the store before a new owner is told of the partition: it reads on behind it, and
//     the next daemon takes its word that all below is settled or stored.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "daemon/core/delivery_machine.h"
#include "daemon/core/seek_mark.h"
#include "daemon/delivery/logs.h"
#include "daemon/delivery/member.h"
#include "daemon/session/group_interface.h"
#include "daemon/store/group_store.h"

namespace sluice::delivery {

// Monotonic and wall clock of one turn.
struct Now {
  std::uint64_t ns = 0;
  std::uint64_t wall_ns = 0;
};

// A message to be parked, as the group knows it.
struct Parking {
  core::Place place;
  Position position;
};

class Group {
 public:
  // From the store: what it has settled, and what waits.
  Group(store::GroupRecord record, Logs& logs, std::uint64_t seed);
  void restore(const store::GroupState& state, const Now& now);

  const store::GroupRecord& record() const { return record_; }
  const std::string& name() const { return record_.config.name; }
  core::DeliveryMachine& machine() { return machine_; }
  const core::DeliveryMachine& machine() const { return machine_; }
  void set_record(store::GroupRecord record);

  // ---- topics
  // Partitions that its subscriptions name and that it has no cursor in: they begin at their earliest. Partitions of
  // topics that are gone are dropped.
  void follow_topics(const Now& now);
  // Those of `patterns`, with no cursor yet, begin where `start` says. Errors: io (a partition cannot be read).
  Status subscribe(const std::vector<std::string>& patterns, const core::GroupStart& start, const Now& now);
  Result<Position> start_of(const TopicView& topic, PartitionNumber partition, const core::GroupStart& start) const;

  // ---- members
  struct Attached {
    std::unique_ptr<Member> region;
    std::vector<std::string> patterns;
    std::string client_name;
    std::int32_t pid = 0;
    std::uint64_t quiet_since_ns = 0;  // nothing of its words has changed since
    bool active = true;                // it is looked at every kSampleNs, not only when it says that it has news
    std::map<std::uint32_t, core::CellWords> said;  // its last words, by cell
    std::map<std::uint32_t, std::uint64_t> told;    // by cell: the generation that it was told of
  };
  void join(std::unique_ptr<Member> region, std::vector<std::string> patterns, std::string client_name,
            std::int32_t pid, core::MemberJoin join, const Now& now);
  // Its last words are read first.
  void leave(core::MemberId id, core::Ending ending, const Now& now);
  Attached* find(core::MemberId id);
  const std::map<core::MemberId, Attached>& members() const { return members_; }
  // One of its partitions that it was not told of waits for a save.
  bool awaits_save(core::MemberId id) const;
  // Without those that wait for a save: it is told to ask again then.
  std::vector<session::Assignment> assignments(core::MemberId id);
  std::set<TopicId> topics_of(const std::vector<std::string>& patterns) const;

  // ---- the turn
  // Reads what members have said, decides, tells them. True if anything was done.
  bool do_work(const Now& now);
  std::uint64_t deadline_ns() const;
  // What a member, or each of them, has said by now.
  void hear(core::MemberId id, const Now& now);
  void hear_all(const Now& now);
  // The daemon is about to sleep: whoever has news from now on wakes it.
  void arm();
  std::vector<Parking> take_parkings() { return std::exchange(parkings_, {}); }
  // Members that were ended by the rules since the last call.
  std::vector<core::MemberId> take_ended() { return std::exchange(ended_, {}); }

  // ---- positions
  // What was said and sought there.
  const core::SeekMark& mark(const core::Place& place) const;
  // To be changed, and saved with the next save.
  core::SeekMark& change_mark(const core::Place& place);
  // Members look up the epochs of their messages again.
  void tell_epoch();

  // ---- saving
  bool dirty() const;
  // A member has gone. The store is told with the next save, not at once: whoever gets its partitions would wait for
  // the disk, and a daemon that starts meanwhile only expects it in vain for kRejoinNsMax.
  void count_members() { members_uncounted_ = true; }
  bool members_uncounted() const { return members_uncounted_; }
  void members_counted() { members_uncounted_ = false; }
  // What has changed and is durable; the rest stays.
  store::GroupSave take_save(const Now& now);
  // The same, and that `messages` are settled, which are durable: to be stored with something else.
  store::GroupSave take_save_with(const std::vector<core::SettledMessage>& messages, const Now& now);
  // After take_save() could not be stored: all of it again.
  void save_failed(const store::GroupSave& save);

  // The lowest position that it has not settled, what is pending included; nothing if it has no cursor there.
  std::optional<Position> unsettled_from(const core::Place& place) const;

 private:
  bool listen(const Now& now);
  bool listen_to(core::MemberId id, Attached& member, bool words_too, const Now& now);
  void tell_outcomes(core::MemberId id, Member& region, const Now& now);
  void dispatch(const Now& now, bool& worked);
  void recall_stuck(const Now& now);
  bool others_are_free(core::MemberId id) const;
  void call_those_who_poll();
  void call_those_who_wait();
  // What waits in the partition is not stored, and the member was not told that it has it.
  bool must_wait(const Attached& member, std::uint32_t cell, std::uint64_t generation, const core::Place& place) const;
  bool carry_out(const Now& now);
  void act(const core::Assign& action);
  void act(const core::WantBack& action);
  void act(const core::TakeBack& action);
  void act(const core::Deliver& action);
  void act(const core::Withdraw& action);
  void act(const core::Unblock& action);
  void act(const core::Park& action);
  void act(const core::End& action);
  Member* region_of(core::MemberId id);
  Position end_of(const core::Place& place) const;
  // The same, after looking further where it does not cover what a member speaks of.
  Position end_for(const core::Place& place, Position covered);
  store::GroupCursor cursor_of(const core::Place& place, Position durable, bool& all) const;
  void take_marks(store::GroupSave& save);
  static void add_settled(store::GroupCursor& cursor, core::PositionSpan span);
  bool is_own_letters(TopicId topic) const;
  Position record_from(const store::GroupCursor& cursor) const;
  store::GroupPending stored(const core::Place& place, Position position, const core::Pending& pending,
                             const Now& now) const;

  store::GroupRecord record_;
  Logs& logs_;
  core::DeliveryMachine machine_;
  std::map<core::MemberId, Attached> members_;
  std::vector<Parking> parkings_;
  std::vector<core::MemberId> ended_;
  std::set<core::MemberId> waiting_;  // for a save, to be told of their partitions
  bool members_uncounted_ = false;
  std::uint64_t sample_at_ns_ = 0;
  std::uint64_t recall_at_ns_ = 0;
  std::set<core::Place> dropped_;  // cursors that are gone
  std::map<core::Place, core::SeekMark> marks_;
  std::set<core::Place> marks_changed_;
};

}  // namespace sluice::delivery
