// What SqliteStore keeps of consumer groups: its tables, and what is read and written there.
//
// Owner: SqliteStore, on the bus thread. What changes anything runs inside a transaction of the store's, and is not
// kept if it answers an error. What holds for the calls stands in group_store.h.
// Lifetimes: the database outlives it.
#pragma once

#include <cstdint>
#include <vector>

#include "daemon/store/group_store.h"
#include "daemon/store/sqlite_database.h"

namespace sluice::store {

extern const char* const kGroupTables;
extern const char* const kGroupMarkTable;

class SqliteGroups {
 public:
  explicit SqliteGroups(Database& database) : database_(database) {}

  Result<std::vector<GroupRecord>> groups();
  Status create(std::uint64_t id, const GroupRecord& record);
  Status update(const GroupRecord& record);
  Status erase(std::uint64_t group);
  Result<GroupState> state(std::uint64_t group);
  Status save(const GroupSave& save);
  Result<std::vector<DeadLetterRecord>> letters(std::uint64_t group, std::uint64_t after, std::uint32_t limit);
  Result<DeadLetterCounts> count(std::uint64_t group);
  Result<std::vector<std::pair<GroupPosition, std::uint64_t>>> count_parked(std::uint64_t group);
  Result<std::vector<Position>> parked_from(std::uint64_t group, const GroupPosition& origin, std::uint32_t limit);
  Status forget_letters(std::uint64_t group, std::uint64_t keep);

 private:
  Status read_subscriptions(GroupRecord& record);
  Status write_subscriptions(std::uint64_t group, const std::vector<std::string>& subscriptions);
  Status read_cursors(std::uint64_t group, std::vector<GroupCursor>& cursors);
  Status read_marks(std::uint64_t group, std::vector<GroupMark>& marks);
  Status read_pending(std::uint64_t group, std::vector<GroupPending>& pending);
  Status drop(const GroupSave& save);
  Status write_cursors(const GroupSave& save);
  Status write_marks(const GroupSave& save);
  Status write_pending(const GroupSave& save);
  Status write_letters(const GroupSave& save, DeadLetterCounts& counts);
  Status write_letter_states(const GroupSave& save, DeadLetterCounts& counts);

  Database& database_;
};

}  // namespace sluice::store
