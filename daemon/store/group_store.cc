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

Status check(const GroupMark& mark) {
  if (core::is_valid(mark.mark)) return {};
  return fail(ErrorCode::invalid, "keeping the epochs of a group in topic " + std::to_string(mark.place.topic.value) +
                                      ", partition " + std::to_string(mark.place.partition) +
                                      ": they do not ascend, or are more than " +
                                      std::to_string(core::kForcedSeeksMax));
}

Status check(const std::vector<GroupSave>& saves) {
  for (const GroupSave& save : saves) {
    for (const GroupCursor& cursor : save.cursors) SLUICE_TRY(check(cursor));
    for (const GroupMark& mark : save.marks) SLUICE_TRY(check(mark));
  }
  return {};
}

}  // namespace sluice::store
