// What the store keeps of consumer groups: configuration, how far each partition was settled, what waits for another
// delivery, and the list of dead letters. A part of Store (store.h); its rules hold here too.
//
// Invariants
//  1. The id of a group is never given again. Its letters have the ids 1, 2, …, each given once: the last one given is
//     the sum of the group's counts.
//  2. A deleted topic takes the cursors in it along, and what is pending there; the letters that came from it stay.
//  3. What is read is checked: `corrupt` if it is not what could have been saved.
#pragma once

#include <compare>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "daemon/core/group.h"
#include "daemon/core/seek_mark.h"
#include "shm/base/result.h"
#include "shm/base/types.h"

namespace sluice::store {

struct GroupRecord {
  std::uint64_t id = 0;  // never given again
  core::GroupConfig config;
  bool paused = false;
  std::uint64_t epoch = 0;    // raised by each forced seek
  std::uint32_t members = 0;  // that it had when this was saved: a new daemon waits for them
  std::string tag;            // that its members ask for
  std::vector<std::string> subscriptions;

  bool operator==(const GroupRecord&) const = default;
};

struct GroupPosition {
  TopicId topic;
  PartitionNumber partition = 0;
  auto operator<=>(const GroupPosition&) const = default;
};

struct GroupCursor {
  GroupPosition place;
  Position cursor;
  // [begin, end) each: not below the cursor, not empty, ascending, disjoint.
  std::vector<std::pair<Position, Position>> settled;

  bool operator==(const GroupCursor&) const = default;
};

// A message that is settled for the cursor's sake, and comes again.
struct GroupPending {
  GroupPosition place;
  Position position;
  std::uint64_t order = 0;  // of its hand-out among those of one key
  std::uint32_t delivered = 0;
  std::uint32_t failed = 0;
  std::uint64_t due_ns = 0;    // wall clock
  std::uint64_t key_hash = 0;  // 0: none
  std::uint32_t state = 0;     // core's own: waiting, suspect, parking, …
  std::uint64_t letter = 0;    // of a redriven dead letter: its id; 0: none
  std::string reason;

  bool operator==(const GroupPending&) const = default;
};

// What it was told and moved to in a partition where it has a cursor. Where there is none, nothing of it was.
struct GroupMark {
  GroupPosition place;
  core::SeekMark mark;

  bool operator==(const GroupMark&) const = default;
};

enum class LetterState : std::uint8_t { parked = 0, redriven = 1, purged = 2 };
struct DeadLetterRecord {
  std::uint64_t id = 0;  // in its group, ascending; given by add
  GroupPosition origin;
  Position position;         // of the origin
  std::string origin_topic;  // its name, which outlives the topic
  Position parked_at;        // in the group's dead letters' topic
  std::uint32_t delivered = 0;
  std::uint32_t failed = 0;
  std::uint64_t parked_ns = 0;  // wall clock
  std::string reason;
  LetterState state = LetterState::parked;

  bool operator==(const DeadLetterRecord&) const = default;
};
// Letters by the state they are in, those that are forgotten included.
struct DeadLetterCounts {
  std::uint64_t parked = 0;
  std::uint64_t redriven = 0;
  std::uint64_t purged = 0;

  std::uint64_t& of(LetterState state) {
    return state == LetterState::parked ? parked : state == LetterState::redriven ? redriven : purged;
  }
  std::uint64_t last_id() const { return parked + redriven + purged; }
  bool operator==(const DeadLetterCounts&) const = default;
};

// What changed of one group since its last save: first what goes, then what is there from now on. All saves of one call
// are one transaction.
struct GroupSave {
  std::uint64_t group = 0;
  std::vector<GroupCursor> cursors;            // upserts, with their settled ranges
  std::vector<GroupPosition> dropped_cursors;  // with everything pending in them; applied before all else
  std::vector<GroupMark> marks;                // upserts, where a cursor is
  std::vector<GroupPending> pending;           // upserts by place and position, where a cursor is
  std::vector<std::pair<GroupPosition, Position>> not_pending;       // deletes; applied before the upserts
  std::vector<DeadLetterRecord> letters;                             // new ones; the id is given here (last + 1, …)
  std::vector<std::pair<std::uint64_t, LetterState>> letter_states;  // id → state; passed over if it is forgotten

  bool empty() const {
    return cursors.empty() && dropped_cursors.empty() && marks.empty() && pending.empty() && not_pending.empty() &&
           letters.empty() && letter_states.empty();
  }
};

struct GroupState {
  std::vector<GroupCursor> cursors;   // by place
  std::vector<GroupMark> marks;       // by place
  std::vector<GroupPending> pending;  // by place and position
};

// invalid: the configuration, the tag or a subscription cannot be a group's.
Status check(const GroupRecord& record);
// invalid: settled ranges that no cursor can have.
Status check(const GroupCursor& cursor);
// invalid: epochs that do not ascend, or too many.
Status check(const GroupMark& mark);
Status check(const std::vector<GroupSave>& saves);

// Every call that names a group answers not_found if it is not there.
class GroupStore {
 public:
  virtual ~GroupStore() = default;

  // By ascending id.
  virtual Result<std::vector<GroupRecord>> groups() = 0;
  // Gives a fresh id (the record's is not looked at). exists if a group of that name is there.
  virtual Result<std::uint64_t> create_group(const GroupRecord& record) = 0;
  // All of it but the id and the name.
  virtual Status update_group(const GroupRecord& record) = 0;
  // With cursors, pending messages and letters.
  virtual Status delete_group(std::uint64_t group) = 0;
  virtual Result<GroupState> group_state(std::uint64_t group) = 0;
  // not_found also for a cursor in a topic that is not there, and for a pending message or a mark without a cursor in
  // its place: then nothing of any save is kept.
  virtual Status save_groups(const std::vector<GroupSave>& saves) = 0;
  // In order of their ids, from the first above `after` on.
  virtual Result<std::vector<DeadLetterRecord>> dead_letters(std::uint64_t group, std::uint64_t after,
                                                             std::uint32_t limit) = 0;
  virtual Result<DeadLetterCounts> count_dead_letters(std::uint64_t group) = 0;
  // Letters that are parked now, by the partition they come from.
  virtual Result<std::vector<std::pair<GroupPosition, std::uint64_t>>> count_parked(std::uint64_t group) = 0;
  // Where letters that are parked now were first appended in that partition: ascending, the lowest `limit`.
  virtual Result<std::vector<Position>> parked_from(std::uint64_t group, const GroupPosition& origin,
                                                    std::uint32_t limit) = 0;
  // Drops letters that are redriven or purged, all but the newest `keep`, so that the list stays bounded. Their counts
  // stay.
  virtual Status forget_dead_letters(std::uint64_t group, std::uint64_t keep) = 0;
};

}  // namespace sluice::store
