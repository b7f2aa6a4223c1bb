// What the simulated store keeps of consumer groups.
//
// Owner: SimStore, which changes a copy and keeps it only if the call succeeded. What holds for its calls stands in
// group_store.h.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <utility>
#include <vector>

#include "daemon/store/group_store.h"

namespace sluice::store {

class SimGroups {
 public:
  using HasTopic = std::function<bool(TopicId)>;

  std::vector<GroupRecord> groups() const;
  Result<std::uint64_t> create(const GroupRecord& record);
  Status update(const GroupRecord& record);
  Status erase(std::uint64_t group);
  Result<GroupState> state(std::uint64_t group) const;
  Status save(const GroupSave& save, const HasTopic& has_topic);
  Result<std::vector<DeadLetterRecord>> letters(std::uint64_t group, std::uint64_t after, std::uint32_t limit) const;
  Result<DeadLetterCounts> count(std::uint64_t group) const;
  Result<std::vector<std::pair<GroupPosition, std::uint64_t>>> count_parked(std::uint64_t group) const;
  Result<std::vector<Position>> parked_from(std::uint64_t group, const GroupPosition& origin,
                                            std::uint32_t limit) const;
  Status forget_letters(std::uint64_t group, std::uint64_t keep);
  // The topic is deleted.
  void forget(TopicId topic);

 private:
  struct Group {
    GroupRecord record;
    std::map<GroupPosition, GroupCursor> cursors;
    std::map<GroupPosition, GroupMark> marks;
    std::map<std::pair<GroupPosition, Position>, GroupPending> pending;
    std::map<std::uint64_t, DeadLetterRecord> letters;
    DeadLetterCounts counts;
  };
  static void drop(Group& group, const GroupPosition& place);
  static void save_letters(Group& group, const GroupSave& save);
  Result<Group*> find(std::uint64_t group);
  Result<const Group*> find(std::uint64_t group) const;

  std::uint64_t last_ = 0;
  std::map<std::uint64_t, Group> groups_;
};

}  // namespace sluice::store
