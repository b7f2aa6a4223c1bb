#include "daemon/store/sim_groups.h"

#include <algorithm>
#include <string>

namespace sluice::store {
namespace {

Error none(std::uint64_t group) {
  return Error(ErrorCode::not_found, "using group " + std::to_string(group) + ": there is none");
}

}  // namespace

Result<SimGroups::Group*> SimGroups::find(std::uint64_t group) {
  const auto found = groups_.find(group);
  if (found == groups_.end()) return fail(none(group));
  return &found->second;
}

Result<const SimGroups::Group*> SimGroups::find(std::uint64_t group) const {
  const auto found = groups_.find(group);
  if (found == groups_.end()) return fail(none(group));
  return &found->second;
}

std::vector<GroupRecord> SimGroups::groups() const {
  std::vector<GroupRecord> all;
  for (const auto& [id, group] : groups_) all.push_back(group.record);
  return all;
}

Result<std::uint64_t> SimGroups::create(const GroupRecord& record) {
  for (const auto& [id, group] : groups_)
    if (group.record.config.name == record.config.name)
      return fail(ErrorCode::exists, "creating group \"" + record.config.name + "\": it is there already");
  const std::uint64_t id = ++last_;
  groups_[id].record = record;
  groups_[id].record.id = id;
  return id;
}

Status SimGroups::update(const GroupRecord& record) {
  SLUICE_ASSIGN(Group * group, find(record.id));
  const std::string name = group->record.config.name;
  group->record = record;
  group->record.config.name = name;
  return {};
}

Status SimGroups::erase(std::uint64_t group) {
  if (groups_.erase(group) == 0) return fail(none(group));
  return {};
}

Result<GroupState> SimGroups::state(std::uint64_t group) const {
  SLUICE_ASSIGN(const Group* found, find(group));
  GroupState state;
  for (const auto& [place, cursor] : found->cursors) state.cursors.push_back(cursor);
  for (const auto& [place, mark] : found->marks) state.marks.push_back(mark);
  for (const auto& [key, pending] : found->pending) state.pending.push_back(pending);
  return state;
}

void SimGroups::drop(Group& group, const GroupPosition& place) {
  group.cursors.erase(place);
  group.marks.erase(place);
  std::erase_if(group.pending, [&](const auto& entry) { return entry.first.first == place; });
}

Status SimGroups::save(const GroupSave& save, const HasTopic& has_topic) {
  SLUICE_ASSIGN(Group * group, find(save.group));
  for (const GroupPosition& place : save.dropped_cursors) drop(*group, place);
  for (const auto& key : save.not_pending) group->pending.erase(key);
  for (const GroupCursor& cursor : save.cursors) {
    if (!has_topic(cursor.place.topic))
      return fail(ErrorCode::not_found, "saving a cursor of group " + std::to_string(save.group) + ": topic " +
                                            std::to_string(cursor.place.topic.value) + " is not there");
    group->cursors[cursor.place] = cursor;
  }
  for (const GroupMark& mark : save.marks) {
    if (!group->cursors.contains(mark.place))
      return fail(ErrorCode::not_found,
                  "saving a mark of group " + std::to_string(save.group) + ": it has no cursor there");
    group->marks[mark.place] = mark;
  }
  for (const GroupPending& pending : save.pending) {
    if (!group->cursors.contains(pending.place))
      return fail(ErrorCode::not_found,
                  "saving a pending message of group " + std::to_string(save.group) + ": it has no cursor there");
    group->pending[{pending.place, pending.position}] = pending;
  }
  save_letters(*group, save);
  return {};
}

void SimGroups::save_letters(Group& group, const GroupSave& save) {
  for (const DeadLetterRecord& letter : save.letters) {
    const std::uint64_t id = group.counts.last_id() + 1;
    ++group.counts.of(letter.state);
    group.letters[id] = letter;
    group.letters[id].id = id;
  }
  for (const auto& [id, state] : save.letter_states) {
    const auto letter = group.letters.find(id);
    if (letter == group.letters.end()) continue;
    --group.counts.of(letter->second.state);
    ++group.counts.of(state);
    letter->second.state = state;
  }
}

Result<std::vector<DeadLetterRecord>> SimGroups::letters(std::uint64_t group, std::uint64_t after,
                                                         std::uint32_t limit) const {
  SLUICE_ASSIGN(const Group* found, find(group));
  std::vector<DeadLetterRecord> all;
  for (auto letter = found->letters.upper_bound(after); letter != found->letters.end() && all.size() < limit; ++letter)
    all.push_back(letter->second);
  return all;
}

Result<DeadLetterCounts> SimGroups::count(std::uint64_t group) const {
  SLUICE_ASSIGN(const Group* found, find(group));
  return found->counts;
}

Result<std::vector<std::pair<GroupPosition, std::uint64_t>>> SimGroups::count_parked(std::uint64_t group) const {
  SLUICE_ASSIGN(const Group* found, find(group));
  std::map<GroupPosition, std::uint64_t> counts;
  for (const auto& [id, letter] : found->letters)
    if (letter.state == LetterState::parked) ++counts[letter.origin];
  return std::vector<std::pair<GroupPosition, std::uint64_t>>(counts.begin(), counts.end());
}

Result<std::vector<Position>> SimGroups::parked_from(std::uint64_t group, const GroupPosition& origin,
                                                     std::uint32_t limit) const {
  SLUICE_ASSIGN(const Group* found, find(group));
  std::vector<Position> positions;
  for (const auto& [id, letter] : found->letters)
    if (letter.state == LetterState::parked && letter.origin == origin) positions.push_back(letter.position);
  std::sort(positions.begin(), positions.end());
  if (positions.size() > limit) positions.resize(limit);
  return positions;
}

Status SimGroups::forget_letters(std::uint64_t group, std::uint64_t keep) {
  SLUICE_ASSIGN(Group * found, find(group));
  std::vector<std::uint64_t> done;
  for (const auto& [id, letter] : found->letters)
    if (letter.state != LetterState::parked) done.push_back(id);
  for (std::size_t i = 0; i < done.size() && done.size() - i > keep; ++i) found->letters.erase(done[i]);
  return {};
}

void SimGroups::forget(TopicId topic) {
  for (auto& [id, group] : groups_) {
    std::erase_if(group.cursors, [&](const auto& entry) { return entry.first.topic == topic; });
    std::erase_if(group.marks, [&](const auto& entry) { return entry.first.topic == topic; });
    std::erase_if(group.pending, [&](const auto& entry) { return entry.first.first.topic == topic; });
  }
}

}  // namespace sluice::store
