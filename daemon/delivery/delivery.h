// Consumer groups in the daemon: all of them, their control calls, their turn.
//
// Owner: the bus thread. Calls come from the control server through session::BusInterface::groups().
//
// Invariants
//  1. A member belongs to one session; it ends with it, at the latest.
//  2. Ack state is in the store kAckSaveNsMax after a change at the latest, and before save_acks() answers.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "daemon/delivery/dead_letters.h"
#include "daemon/delivery/group.h"
#include "daemon/delivery/lag.h"
#include "daemon/delivery/logs.h"
#include "daemon/session/group_interface.h"
#include "daemon/session/session.h"
#include "daemon/session/transaction_interface.h"
#include "daemon/store/group_store.h"

namespace sluice::delivery {

class Delivery final : public session::GroupInterface {
 public:
  // What is asked of the caller's session: who it is, and whether it may do what operators may.
  class Sessions {
   public:
    virtual ~Sessions() = default;
    virtual Result<session::Session*> live(SessionId session) const = 0;
    virtual Status require_operator(const session::Session& session, std::string_view doing) const = 0;
  };

  Delivery(Logs& logs, const Sessions& sessions, store::GroupStore& store)
      : logs_(logs), sessions_(sessions), store_(store), letters_(logs, store) {}

  // Everything that the store knows. The topics are open.
  Status load(Incarnation incarnation, std::uint64_t seed);
  // Topics or partitions were made or deleted.
  void topics_changed();
  // Its members end. `dead`: proven.
  void session_ended(SessionId session, bool dead);

  // ---- the turn
  bool do_work(std::uint64_t now_ns);
  std::uint64_t deadline_ns() const;
  void arm();
  // What is settled and durable goes to the store, once and for all.
  Status finish();

  // ---- acks as a part of a transaction (delivery_acks.cc)
  // would_block: one of the messages is not durable yet; conflict: one is not in its member's hands any more.
  Status check_acks(const session::AckSet& acks);
  // What the store is to save with the decisions of all these transactions. conflict also where two of them ack the
  // same message. Then one of the two: they are in the store and count here, too; or what was to be saved is to be
  // saved again.
  Result<std::vector<store::GroupSave>> take_acks(const std::vector<const session::AckSet*>& all);
  void apply_acks(const session::AckSet& acks);
  void acks_failed(const std::vector<store::GroupSave>& saves);

  // ---- what others must keep
  // The slowest group's cursor: memory of a volatile topic waits for it.
  std::optional<Position> cursor_min(TopicId topic, PartitionNumber partition) const;
  // Retention must not go beyond it: the lowest that a group with `hold` has not settled.
  std::optional<Position> held_from(TopicId topic, PartitionNumber partition) const;

  // ---- session::GroupInterface
  Status create_group(SessionId session, core::GroupConfig config) override;
  Status alter_group(SessionId session, const std::string& name, core::GroupChange change) override;
  Status delete_group(SessionId session, const std::string& name) override;
  Status pause_group(SessionId session, const std::string& name, bool pause) override;
  Result<std::vector<session::GroupInfo>> describe_groups(SessionId session, const std::string& name) override;
  Result<session::GroupReason> explain_group(SessionId session, const std::string& name) override;
  Result<std::vector<session::SeekResult>> seek_group(SessionId session, session::SeekGroup request) override;
  Result<session::SafeHorizon> safe_horizon(SessionId session, const std::string& group, const std::string& topic,
                                            PartitionNumber partition) override;
  Result<std::vector<core::EpochStart>> group_epochs(SessionId session, const std::string& group, TopicId topic,
                                                     PartitionNumber partition) override;
  Result<session::MemberGrant> join_group(SessionId session, session::JoinGroup request) override;
  Status leave_group(SessionId session, std::uint64_t member) override;
  Result<std::vector<session::Assignment>> assignments(SessionId session, std::uint64_t member) override;
  Status save_acks(SessionId session, std::uint64_t member) override;
  Result<std::vector<session::DeadLetterCount>> count_dead_letters(SessionId session,
                                                                   const std::string& group) override;
  Result<std::vector<session::DeadLetter>> list_dead_letters(SessionId session, const std::string& group,
                                                             std::uint64_t after_id, std::uint32_t limit) override;
  Result<std::vector<session::RedriveOutcome>> redrive(SessionId session, session::Redrive request) override;
  Result<std::uint64_t> purge_dead_letters(SessionId session, const std::string& group) override;

 private:
  struct MemberRef {
    SessionId session;
    Group* group = nullptr;
  };

  struct SettledBy {
    Position end;
    const session::AckSet* by = nullptr;
  };
  using Settled = std::map<Group*, std::map<std::pair<core::Place, Position>, SettledBy>>;
  Status add_settled(Settled& settled, const session::AckSet& acks);
  Result<Group*> find(const std::string& name) const;
  Result<Group*> make_group(core::GroupConfig config);
  Result<Group*> group_of(SessionId session, std::uint64_t member) const;
  Status may_consume(const session::Session& session, const Group& group) const;
  Status check_join(const session::JoinGroup& request) const;
  struct Move {
    core::Place place;
    Position to;
    bool below_horizon = false;
  };
  Status check_moves(const Group& group, const session::SeekGroup& request, const std::vector<Move>& moves) const;
  Status carry_out(Group& group, const std::vector<Move>& moves, const Now& now);
  Result<std::vector<Position>> letters_of(const Group& group, const core::Place& place) const;
  void drop_ended(Group& group);
  // Of all groups that have changed.
  Status save(const Now& now);
  Status store_members(Group& group);
  session::GroupInfo info_of(Group& group, const Now& now);

  Logs& logs_;
  const Sessions& sessions_;
  store::GroupStore& store_;
  Incarnation incarnation_;
  std::uint64_t seed_ = 0;
  std::map<std::string, std::unique_ptr<Group>> groups_;
  std::unordered_map<std::uint64_t, MemberRef> members_;
  DeadLetters letters_;
  Rates rates_;
  std::uint64_t next_member_ = 1;
  std::uint64_t save_at_ns_ = 0;  // 0: nothing is to be saved
  std::uint64_t save_by_ns_ = 0;  // it may be put off until then
};

}  // namespace sluice::delivery
