// Group: what of it goes to the store, and when.
#include <algorithm>

#include "daemon/delivery/group.h"
#include "daemon/delivery/places.h"

namespace sluice::delivery {
bool Group::dirty() const {
  return members_uncounted_ || !dropped_.empty() || !marks_changed_.empty() || !machine_.dirty().empty();
}

store::GroupPending Group::stored(const core::Place& place, Position position, const core::Pending& pending,
                                  const Now& now) const {
  store::GroupPending out;
  out.place = to_store(place);
  out.position = position;
  out.delivered = pending.delivered;
  out.failed = pending.failed;
  out.due_ns = now.wall_ns + (pending.due_ns > now.ns ? pending.due_ns - now.ns : 0);
  out.key_hash = pending.key_hash;
  out.state = static_cast<std::uint32_t>(pending.state) | (pending.deferred ? 4u : 0u) | (pending.suspect ? 8u : 0u);
  out.letter = pending.letter;
  out.reason = pending.reason;
  return out;
}

store::GroupSave Group::take_save(const Now& now) {
  store::GroupSave save;
  save.group = record_.id;
  for (const core::Place& place : dropped_) save.dropped_cursors.push_back(to_store(place));
  dropped_.clear();
  for (const core::Place& place : machine_.dirty()) {
    core::AckState& acks = machine_.acks(place);
    const Result<Position> durable = logs_.durable(place.topic, place.partition);
    if (!durable) continue;  // later, when the partition can be read again
    std::vector<Position> later;
    bool all = true;
    for (const Position position : acks.changed()) {
      const core::Pending* pending = acks.find(position);
      if (position >= *durable && pending != nullptr) {
        later.push_back(position);
        continue;
      }
      save.not_pending.emplace_back(to_store(place), position);
      if (pending != nullptr) save.pending.push_back(stored(place, position, *pending, now));
    }
    if (machine_.by_reference_only(place)) {
      save.cursors.push_back({to_store(place), Position(0), {}});
    } else {
      save.cursors.push_back(cursor_of(place, *durable, all));
    }
    acks.saved();
    for (const Position position : later) acks.touch(position);
    if (!all) acks.mark_dirty();
  }
  take_marks(save);
  return save;
}

// A mark stands beside a cursor: the first one is saved with it.
void Group::take_marks(store::GroupSave& save) {
  std::set<core::Place> later;
  for (const core::Place& place : marks_changed_) {
    if (!machine_.has(place)) continue;
    const store::GroupPosition stored_place = to_store(place);
    const bool saved = std::any_of(save.cursors.begin(), save.cursors.end(),
                                   [&](const store::GroupCursor& one) { return one.place == stored_place; });
    if (!saved && machine_.acks(place).dirty()) {
      later.insert(place);  // with the cursor, when the partition can be read again
      continue;
    }
    save.marks.push_back({stored_place, marks_[place]});
  }
  marks_changed_ = std::move(later);
}

store::GroupSave Group::take_save_with(const std::vector<core::SettledMessage>& messages, const Now& now) {
  store::GroupSave save = take_save(now);
  for (const core::SettledMessage& message : messages) {
    const store::GroupPosition place = to_store(message.place);
    const core::AckState& acks = machine_.acks(message.place);
    if (acks.pending().count(message.position) != 0) {
      save.not_pending.emplace_back(place, message.position);
      std::erase_if(save.pending, [&](const store::GroupPending& one) {
        return one.place == place && one.position == message.position;
      });
    }
    if (machine_.by_reference_only(message.place)) continue;
    auto cursor = std::find_if(save.cursors.begin(), save.cursors.end(),
                               [&](const store::GroupCursor& one) { return one.place == place; });
    if (cursor == save.cursors.end()) {
      const Result<Position> durable = logs_.durable(message.place.topic, message.place.partition);
      bool all = true;
      save.cursors.push_back(cursor_of(message.place, durable.value_or(message.position), all));
      cursor = std::prev(save.cursors.end());
    }
    if (message.position >= cursor->cursor) add_settled(*cursor, {message.position, message.end});
  }
  return save;
}

// Keeps them ascending and disjoint.
void Group::add_settled(store::GroupCursor& cursor, core::PositionSpan span) {
  auto& settled = cursor.settled;
  auto first = std::find_if(settled.begin(), settled.end(), [&](const auto& one) { return one.second >= span.begin; });
  auto last = first;
  for (; last != settled.end() && last->first <= span.end; ++last) {
    span.begin = std::min(span.begin, last->first);
    span.end = std::max(span.end, last->second);
  }
  settled.insert(settled.erase(first, last), {span.begin, span.end});
}

// As far as it is durable. `all`: that is everything.
store::GroupCursor Group::cursor_of(const core::Place& place, Position durable, bool& all) const {
  const core::AckState& acks = machine_.acks(place);
  store::GroupCursor cursor{to_store(place), std::min(acks.cursor(), durable), {}};
  all = acks.cursor() <= durable;
  for (const core::PositionSpan& span : machine_.settled_above(place)) {
    const Position end = std::min(span.end, durable);
    if (span.begin >= cursor.cursor && span.begin < end) cursor.settled.emplace_back(span.begin, end);
    if (span.end <= durable) continue;
    all = false;
    break;
  }
  return cursor;
}

void Group::save_failed(const store::GroupSave& save) {
  for (const store::GroupPosition& place : save.dropped_cursors)
    if (!machine_.has(to_core(place))) dropped_.insert(to_core(place));
  for (const store::GroupCursor& cursor : save.cursors)
    if (machine_.has(to_core(cursor.place))) machine_.acks(to_core(cursor.place)).mark_dirty();
  for (const store::GroupMark& mark : save.marks)
    if (machine_.has(to_core(mark.place))) marks_changed_.insert(to_core(mark.place));
  for (const auto& [place, position] : save.not_pending)
    if (machine_.has(to_core(place))) machine_.acks(to_core(place)).touch(position);
}

}  // namespace sluice::delivery
