#include "daemon/delivery/group.h"

#include <algorithm>
#include <variant>

#include <spdlog/spdlog.h>

#include "daemon/delivery/places.h"
#include "shm/base/limits.h"
#include "shm/layout/claim_word.h"
#include "shm/ring/membarrier.h"

namespace sluice::delivery {
namespace {

// While members are at work their words are looked at so often; who says nothing for long says so first (arm()).
constexpr std::uint64_t kSampleNs = 10'000'000;
constexpr std::uint64_t kQuietNs = 50'000'000;
// A member that has not begun what it has, and has not called for so long, gives it to others that are free.
constexpr std::uint64_t kRecallNs = 20'000'000;
constexpr std::uint32_t kOutcomesPerTurn = 4096;
constexpr std::uint32_t kOfferedPerTurn = 1024;

// What was read directly lies in the log: a member cannot settle what is not there yet.
bool clamp_to_log(core::Outcome& outcome, Position end) {
  if (outcome.target >= end.value) return false;
  if (outcome.verb == core::Verb::ack) outcome.argument = std::min(outcome.argument, end.value);
  return true;
}

}  // namespace

Group::Group(store::GroupRecord record, Logs& logs, std::uint64_t seed)
    : record_(std::move(record)), logs_(logs), machine_(record_.config, seed) {}

void Group::restore(const store::GroupState& state, const Now& now) {
  if (record_.paused) machine_.pause(true, now.ns);
  for (const store::GroupCursor& cursor : state.cursors) {
    // Dead letters that are handed out again have no cursor of their own; their row holds them in the store.
    if (is_own_letters(cursor.place.topic)) continue;
    std::vector<core::PositionSpan> settled;
    for (const auto& [begin, end] : cursor.settled) settled.push_back({begin, end});
    machine_.restore(to_core(cursor.place), record_from(cursor)).restore(settled);
  }
  for (const store::GroupMark& mark : state.marks) marks_[to_core(mark.place)] = mark.mark;
  for (const store::GroupPending& pending : state.pending) {
    const core::Place place = to_core(pending.place);
    if (!machine_.has(place) && pending.letter == 0) continue;  // its cursor was dropped
    core::Pending entry;
    entry.delivered = pending.delivered;
    entry.failed = pending.failed;
    entry.due_ns = now.ns + (pending.due_ns > now.wall_ns ? pending.due_ns - now.wall_ns : 0);
    entry.key_hash = pending.key_hash;
    entry.letter = pending.letter;
    entry.state = static_cast<core::PendingState>(pending.state & 3);
    entry.deferred = (pending.state & 4) != 0;
    entry.suspect = (pending.state & 8) != 0;
    entry.reason = pending.reason;
    core::AckState& acks = machine_.has(place) ? machine_.acks(place) : machine_.restore(place, Position(0));
    acks.restore(pending.position, std::move(entry));
  }
  machine_.restored(record_.members, now.ns);
}

// Where the log is read on from. A cursor lies within a record where that was settled without its end: a reference was.
Position Group::record_from(const store::GroupCursor& cursor) const {
  if (cursor.cursor.value % layout::kRecordAlignment == 0) return cursor.cursor;
  return logs_.snap(cursor.place.topic, cursor.place.partition, cursor.cursor).value_or(cursor.cursor);
}

void Group::set_record(store::GroupRecord record) {
  record_ = std::move(record);
  machine_.set_config(record_.config);
}

bool Group::is_own_letters(TopicId id) const {
  const std::optional<TopicView> topic = logs_.find(id);
  return topic && topic->name == core::dead_letter_topic(name());
}

// ---- topics

void Group::follow_topics(const Now& now) {
  const std::vector<TopicView> topics = logs_.topics();
  for (const core::Place& place : machine_.places()) {
    const auto topic =
        std::find_if(topics.begin(), topics.end(), [&](const TopicView& t) { return t.id == place.topic; });
    if (topic != topics.end()) continue;
    machine_.remove(place, now.ns);
    marks_.erase(place);
    dropped_.insert(place);
  }
  core::GroupStart earliest;
  earliest.kind = core::GroupStart::Kind::earliest;
  if (Status followed = subscribe(record_.subscriptions, earliest, now); !followed)
    spdlog::error("group does not follow its topics group={} reason={}", name(), followed.error().message());
  for (auto& [id, member] : members_) {
    machine_.set_topics(id, topics_of(member.patterns), now.ns);
    if (record_.config.mode == core::GroupMode::shared) member.region->bump_assignments();
  }
}

Result<Position> Group::start_of(const TopicView& topic, PartitionNumber partition,
                                 const core::GroupStart& start) const {
  switch (start.kind) {
    case core::GroupStart::Kind::latest: return logs_.end(topic.id, partition);
    case core::GroupStart::Kind::earliest: return logs_.earliest(topic.id, partition);
    case core::GroupStart::Kind::time: return logs_.at_time(topic.id, partition, start.time_ns);
    case core::GroupStart::Kind::position: {
      SLUICE_ASSIGN(const Position earliest, logs_.earliest(topic.id, partition));
      if (partition != start.partition) return earliest;
      SLUICE_ASSIGN(const Position end, logs_.end(topic.id, partition));
      return logs_.snap(topic.id, partition, std::clamp(start.position, earliest, std::max(earliest, end)));
    }
  }
  return fail(ErrorCode::internal, "a group's start of an unknown kind");
}

Status Group::subscribe(const std::vector<std::string>& patterns, const core::GroupStart& start, const Now& now) {
  for (const TopicView& topic : logs_.topics()) {
    const bool wanted = std::any_of(patterns.begin(), patterns.end(),
                                    [&](const std::string& pattern) { return core::matches(pattern, topic.name); });
    if (!wanted) continue;
    for (PartitionNumber partition = 0; partition < topic.partitions; ++partition) {
      const core::Place place{topic.id, partition};
      if (machine_.has(place)) continue;
      SLUICE_ASSIGN(const Position position, start_of(topic, partition, start));
      machine_.add(place, position, now.ns);
      dropped_.erase(place);
    }
  }
  return {};
}

std::set<TopicId> Group::topics_of(const std::vector<std::string>& patterns) const {
  std::set<TopicId> ids;
  for (const TopicView& topic : logs_.topics())
    for (const std::string& pattern : patterns)
      if (core::matches(pattern, topic.name)) ids.insert(topic.id);
  return ids;
}

Position Group::end_of(const core::Place& place) const {
  const Result<Position> end = logs_.end(place.topic, place.partition);
  return end ? *end : Position(0);
}

Position Group::end_for(const core::Place& place, Position covered) {
  const Position end = end_of(place);
  if (covered <= end) return end;
  logs_.catch_up(place.topic, place.partition);
  return end_of(place);
}

// ---- members

void Group::join(std::unique_ptr<Member> region, std::vector<std::string> patterns, std::string client_name,
                 std::int32_t pid, core::MemberJoin join, const Now& now) {
  const core::MemberId id = region->id();
  region->set_epoch(record_.epoch);
  for (core::HeldRange& held : join.held_partitions) {
    const Position end = end_for(held.place, std::max(held.words.acked, held.words.newest + 1));
    held.words.acked = std::min(held.words.acked, end);
  }
  std::erase_if(join.held_messages, [&](const core::HeldReference& held) {
    return held.position >= end_for(held.place, held.position + 1);
  });
  Attached attached;
  attached.region = std::move(region);
  attached.patterns = std::move(patterns);
  attached.client_name = std::move(client_name);
  attached.pid = pid;
  attached.quiet_since_ns = now.ns;
  members_.emplace(id, std::move(attached));
  machine_.join(id, std::move(join), now.ns);
  carry_out(now);
}

Group::Attached* Group::find(core::MemberId id) {
  const auto found = members_.find(id);
  return found == members_.end() ? nullptr : &found->second;
}

Member* Group::region_of(core::MemberId id) {
  Attached* member = find(id);
  return member == nullptr ? nullptr : member->region.get();
}

void Group::leave(core::MemberId id, core::Ending ending, const Now& now) {
  Attached* member = find(id);
  if (member == nullptr) return;
  listen_to(id, *member, true, now);
  std::set<std::uint32_t> begun;
  for (const std::uint32_t slot : machine_.slots_out(id))
    if (member->region->has_begun(slot, machine_.stamp_of(id, slot))) begun.insert(slot);
  machine_.leave(id, ending, begun, now.ns);
  carry_out(now);
  member = find(id);
  if (member == nullptr) return;  // hung: the rules have ended it
  member->region->end();
  members_.erase(id);
}

bool Group::must_wait(const Attached& member, std::uint32_t cell, std::uint64_t generation,
                      const core::Place& place) const {
  const auto told = member.told.find(cell);
  if (told != member.told.end() && told->second == generation) return false;
  return !machine_.acks(place).changed().empty();
}

bool Group::awaits_save(core::MemberId id) const {
  const auto member = members_.find(id);
  if (member == members_.end()) return false;
  for (const auto& [cell, generation] : machine_.cells(id))
    if (must_wait(member->second, cell, generation, *machine_.place_of_cell(id, cell))) return true;
  return false;
}

void Group::call_those_who_wait() {
  std::erase_if(waiting_, [this](core::MemberId id) {
    if (awaits_save(id)) return false;
    if (Member* region = region_of(id)) {
      region->bump_assignments();
      region->wake();
    }
    return true;
  });
}

std::vector<session::Assignment> Group::assignments(core::MemberId id) {
  std::vector<session::Assignment> list;
  const auto member = members_.find(id);
  if (member == members_.end()) return list;
  for (const core::Place& place : machine_.places()) {
    const std::optional<TopicView> topic = logs_.find(place.topic);
    if (!topic) continue;
    const bool by_reference = record_.config.mode == core::GroupMode::shared || machine_.by_reference_only(place);
    const std::optional<core::AssignmentView> view = machine_.assignment(place);
    session::Assignment assignment;
    assignment.topic = topic->name;
    assignment.topic_id = place.topic;
    assignment.partition = place.partition;
    assignment.seeks = mark(place).seeks;
    if (by_reference) {
      assignment.cell = session::kByReference;
      list.push_back(std::move(assignment));
      continue;
    }
    if (!view || view->member != id) continue;
    if (must_wait(member->second, view->cell, view->generation, place)) {
      waiting_.insert(id);
      continue;
    }
    member->second.told[view->cell] = view->generation;
    assignment.cell = view->cell;
    assignment.generation = view->generation;
    assignment.start = view->start;
    assignment.careful_until = view->careful_until;
    for (const core::PositionSpan& span : view->settled) assignment.settled.push_back({span.begin, span.end});
    for (const auto& [position, counts] : view->repeats)
      assignment.repeats.push_back({position, counts.delivered, counts.failed});
    assignment.handed_out = view->handed_out;
    assignment.blocked_keys = view->blocked_keys;
    assignment.blocked = view->blocked;
    list.push_back(std::move(assignment));
  }
  return list;
}

// ---- the turn

bool Group::do_work(const Now& now) {
  bool worked = listen(now);
  const std::uint64_t deadline = machine_.deadline_ns();
  if (deadline != 0 && now.ns >= deadline) {
    // With what it has begun: the rest of what it holds is not suspected.
    for (const core::MemberId id : machine_.hung(now.ns)) leave(id, core::Ending::hung, now);
    machine_.tick(now.ns);
  }
  if (record_.config.mode == core::GroupMode::shared && !members_.empty()) dispatch(now, worked);
  if (now.ns >= recall_at_ns_) recall_stuck(now);
  worked |= carry_out(now);
  call_those_who_poll();
  if (!waiting_.empty()) call_those_who_wait();
  return worked;
}

// Members that wait on their descriptor: for a reference, or for a record in a partition that they read directly.
void Group::call_those_who_poll() {
  for (auto& [id, member] : members_) {
    if (!member.region->wants_readable()) continue;
    bool readable = member.region->has_unread_deliveries();
    for (const auto& [cell, generation] : machine_.cells(id)) {
      if (readable) break;
      const std::optional<core::Place> place = machine_.place_of_cell(id, cell);
      readable = place && member.region->words(cell, generation) && end_of(*place) > member.region->read_position(cell);
    }
    if (readable) member.region->make_readable();
  }
}

bool Group::listen(const Now& now) {
  if (members_.empty()) return false;
  const bool sample = now.ns >= sample_at_ns_;
  if (sample) sample_at_ns_ = now.ns + kSampleNs;
  bool heard = false;
  std::vector<core::MemberId> silent;
  std::vector<core::MemberId> armed;
  for (auto& [id, member] : members_) {
    if (!member.active && !member.region->has_news()) continue;
    if (!member.active) member.quiet_since_ns = now.ns;
    member.active = true;
    heard |= listen_to(id, member, sample, now);
    if (member.region->does_not_read()) silent.push_back(id);
    // It wakes the daemon with its next word.
    if (!sample || now.ns - member.quiet_since_ns < kQuietNs) continue;
    member.active = false;
    member.region->arm();
    armed.push_back(id);
  }
  // What was said before the members could see the flag is heard now.
  if (!armed.empty()) ring::membarrier_all();
  for (const core::MemberId id : armed)
    if (Attached* member = find(id)) heard |= listen_to(id, *member, true, now);
  for (const core::MemberId id : silent) {
    spdlog::warn("member ended: it does not read what it is told group={} member={}", name(), id);
    leave(id, core::Ending::hung, now);
  }
  return heard;
}

// `words_too`: how far it has come in its partitions, not only its outcomes.
bool Group::listen_to(core::MemberId id, Attached& member, bool words_too, const Now& now) {
  Member& region = *member.region;
  std::vector<std::pair<std::uint32_t, core::CellWords>> words;
  if (words_too)
    for (const auto& [cell, generation] : machine_.cells(id))
      if (auto said = region.words(cell, generation)) words.emplace_back(cell, *said);
  const std::uint64_t outcomes_before = region.outcomes_read();
  tell_outcomes(id, region, now);
  bool heard = region.outcomes_read() != outcomes_before;
  for (const auto& [cell, said] : words) {
    const std::optional<core::Place> place = machine_.place_of_cell(id, cell);
    core::CellWords& before = member.said[cell];
    if (!place || before == said) continue;
    before = said;
    heard = true;
    machine_.progress(id, cell, said, end_for(*place, std::max(said.acked, said.newest + 1)), now.ns);
  }
  if (words_too) machine_.alive(id, region.progress(), now.ns);
  if (heard) member.quiet_since_ns = now.ns;
  region.flush();
  return heard;
}

void Group::tell_outcomes(core::MemberId id, Member& region, const Now& now) {
  for (std::uint32_t count = 0; count < kOutcomesPerTurn; ++count) {
    std::optional<core::Outcome> outcome = region.next_outcome();
    if (!outcome) break;
    if (!outcome->by_slot) {
      const std::optional<core::Place> place = machine_.place_of_cell(id, outcome->index);
      if (!place || !clamp_to_log(*outcome, end_for(*place, Position(outcome->target) + 1))) continue;
    }
    // Which messages wait behind it is decided by its key, which the log has.
    if (!outcome->by_slot && outcome->verb == core::Verb::nack && record_.config.strict == core::Strict::key) {
      if (const auto place = machine_.place_of_cell(id, outcome->index))
        if (auto message = logs_.read(place->topic, place->partition, Position(outcome->target)))
          outcome->key_hash = message->record.key_hash;
    }
    machine_.outcome(id, *outcome, now.ns);
  }
}

void Group::dispatch(const Now& now, bool& worked) {
  for (const core::Place& place : machine_.places()) {
    const std::uint32_t wanted = std::min(machine_.wanted(place), kOfferedPerTurn);
    if (wanted == 0) continue;
    const Position next = machine_.next(place);
    if (next >= end_of(place)) continue;
    auto walk = logs_.walk(place.topic, place.partition, next, wanted, record_.tag);
    if (!walk) continue;  // its log cannot be read now: said where that was found
    std::vector<core::LogItem> items;
    items.reserve(walk->records.size());
    for (const LogRecord& record : walk->records) items.push_back({record.position, record.end, record.key_hash});
    worked |= walk->next > next;
    machine_.offer(place, items, walk->next, now.ns);
  }
}

// In shared groups no message waits for a member that does not come to it while another one is free.
void Group::recall_stuck(const Now& now) {
  recall_at_ns_ = now.ns + kRecallNs;
  if (record_.config.mode != core::GroupMode::shared || members_.size() < 2) return;
  for (auto& [id, member] : members_) {
    const core::MemberView view = machine_.view(id);
    if (view.in_flight == 0) continue;
    machine_.alive(id, member.region->progress(), now.ns);
    if (now.ns - machine_.view(id).progress_at_ns < kRecallNs || !others_are_free(id)) continue;
    for (const std::uint32_t slot : machine_.slots_out(id))
      if (member.region->recall(slot, machine_.stamp_of(id, slot))) machine_.recalled(id, slot, now.ns);
  }
  machine_.tick(now.ns);
}

bool Group::others_are_free(core::MemberId id) const {
  return std::any_of(members_.begin(), members_.end(), [&](const auto& entry) {
    if (entry.first == id) return false;
    const core::MemberView view = machine_.view(entry.first);
    return view.in_flight < view.in_flight_max;
  });
}

std::uint64_t Group::deadline_ns() const {
  std::uint64_t deadline = machine_.deadline_ns();
  const auto consider = [&](std::uint64_t at) {
    if (at != 0 && (deadline == 0 || at < deadline)) deadline = at;
  };
  bool active = false;
  bool out = false;
  for (const auto& [id, member] : members_) {
    active |= member.active;
    out |= machine_.view(id).in_flight != 0;
  }
  if (active) consider(sample_at_ns_);
  if (out && record_.config.mode == core::GroupMode::shared && members_.size() > 1) consider(recall_at_ns_);
  return deadline;
}

// Shared groups hand out as soon as there is room; the members of others are looked at by the clock.
void Group::arm() {
  if (record_.config.mode != core::GroupMode::shared) return;
  for (auto& [id, member] : members_) {
    if (!member.region->has_news()) continue;
    member.region->arm();
    member.active = true;  // its news, which the flag does not tell of any more, are read before the daemon sleeps
  }
}

void Group::hear(core::MemberId id, const Now& now) {
  if (Attached* member = find(id)) listen_to(id, *member, true, now);
  carry_out(now);
}

void Group::hear_all(const Now& now) {
  for (auto& [id, member] : members_) listen_to(id, member, true, now);
  carry_out(now);
}

bool Group::carry_out(const Now&) {
  bool acted = false;
  while (machine_.has_actions()) {
    for (const core::Action& action : machine_.take_actions()) std::visit([&](const auto& a) { act(a); }, action);
    acted = true;
  }
  if (!acted) return false;
  for (auto& [id, member] : members_) member.region->wake();
  return true;
}

void Group::act(const core::Assign& action) {
  Attached* member = find(action.member);
  if (member == nullptr) return;
  member->said.erase(action.cell);
  member->active = true;
  member->region->give_cell(action.cell, action.generation);
}
void Group::act(const core::WantBack& action) {
  if (Member* region = region_of(action.member)) region->want_back(action.cell, action.generation);
}
void Group::act(const core::TakeBack& action) {
  if (Member* region = region_of(action.member)) region->take_back(action.cell);
}
void Group::act(const core::Deliver& action) {
  if (Member* region = region_of(action.member)) region->deliver(action, mark(action.place).seeks);
  if (Attached* member = find(action.member)) member->active = true;
}
void Group::act(const core::Withdraw& action) {
  // One that was read directly: whom it holds back is decided by its key, which the log has.
  if (action.stamp == 0 && record_.config.strict == core::Strict::key)
    if (auto message = logs_.read(action.place.topic, action.place.partition, action.position))
      machine_.set_key(action.place, action.position, message->record.key_hash);
  if (Member* region = region_of(action.member))
    region->tell(layout::DeliveryKind::withdrawn, action.stamp, action.place, action.position.value, 0);
}
void Group::act(const core::Unblock& action) {
  if (Member* region = region_of(action.member))
    region->tell(layout::DeliveryKind::unblock, 0, action.place, region->outcomes_read(), action.key_hash);
}
void Group::act(const core::Park& action) { parkings_.push_back({action.place, action.position}); }
void Group::act(const core::End& action) {
  if (Member* region = region_of(action.member)) region->end();
  members_.erase(action.member);
  ended_.push_back(action.member);
}

// ---- positions

const core::SeekMark& Group::mark(const core::Place& place) const {
  static const core::SeekMark none;
  const auto found = marks_.find(place);
  return found == marks_.end() ? none : found->second;
}

core::SeekMark& Group::change_mark(const core::Place& place) {
  marks_changed_.insert(place);
  return marks_[place];
}

void Group::tell_epoch() {
  for (auto& [id, member] : members_) member.region->set_epoch(record_.epoch);
}

std::optional<Position> Group::unsettled_from(const core::Place& place) const {
  if (!machine_.has(place) || machine_.by_reference_only(place)) return std::nullopt;
  const core::AckState& acks = machine_.acks(place);
  Position lowest = acks.cursor();
  if (!acks.pending().empty()) lowest = std::min(lowest, acks.pending().begin()->first);
  return lowest;
}

}  // namespace sluice::delivery
