#include "daemon/store/group_store.h"

#include "shm/base/limits.h"

namespace sluice::store {

Status check(const GroupRecord& record) {
  SLUICE_TRY(core::check(record.config));
  if (record.tag.size() > kTagSizeMax)
    return fail(ErrorCode::invalid, "keeping group \"" + record.config.name + "\": its tag is longer than " +
                                        std::to_string(kTagSizeMax) + " bytes");
  for (const std::string& pattern : record.subscriptions) SLUICE_TRY(core::check_pattern(pattern));
  return {};
}

Status check(const GroupCursor& cursor) {
  Position behind = cursor.cursor;
  for (const auto& [begin, end] : cursor.settled) {
    if (begin < behind || end <= begin)
      return fail(ErrorCode::invalid, "keeping a cursor in topic " + std::to_string(cursor.place.topic.value) +
                                          ", partition " + std::to_string(cursor.place.partition) +
                                          ": its settled range at position " + std::to_string(begin.value) +
                                          " is empty, or not above what is before it");
    behind = end;
  }
  return {};
}

Status check(const std::vector<GroupSave>& saves) {
  for (const GroupSave& save : saves)
    for (const GroupCursor& cursor : save.cursors) SLUICE_TRY(check(cursor));
  return {};
}

}  // namespace sluice::store
