#include "daemon/delivery/delivery.h"

#include <algorithm>

#include <spdlog/spdlog.h>

#include "shm/base/clock.h"

namespace sluice::delivery {
namespace {

// A save waits for the disk, and so does every call meanwhile. For so long after a member's death none begins: whoever
// inherits its partitions asks what they are, and opens them.
constexpr std::uint64_t kHandOverQuietNs = 50'000'000;
constexpr std::uint64_t kSaveRetryNs = 1'000'000'000;
constexpr std::uint64_t kMemberIdStepNs = 1'000'000;  // no daemon has more than one member in so long, on average

std::uint64_t earlier(std::uint64_t a, std::uint64_t b) { return a == 0 || (b != 0 && b < a) ? b : a; }

}  // namespace

Status Delivery::load(Incarnation incarnation, std::uint64_t seed) {
  incarnation_ = incarnation;
  seed_ = seed;
  // A member of an earlier daemon must not be taken for one of this.
  next_member_ = realtime_ns() / kMemberIdStepNs;
  const Now now{monotonic_ns(), realtime_ns()};
  SLUICE_ASSIGN(std::vector<store::GroupRecord> records, store_.groups());
  for (store::GroupRecord& record : records) {
    SLUICE_ASSIGN(const store::GroupState state, store_.group_state(record.id));
    auto group = std::make_unique<Group>(std::move(record), logs_, seed_ ^ record.id);
    group->restore(state, now);
    Group& loaded = *group;
    groups_[loaded.name()] = std::move(group);
    loaded.do_work(now);
    letters_.add(loaded, loaded.take_parkings(), true);
    loaded.follow_topics(now);
  }
  return {};
}

void Delivery::topics_changed() {
  const Now now{monotonic_ns(), realtime_ns()};
  for (auto& [name, group] : groups_) group->follow_topics(now);
}

void Delivery::session_ended(SessionId session, bool dead) {
  const Now now{monotonic_ns(), realtime_ns()};
  std::vector<std::pair<std::uint64_t, Group*>> ended;
  for (const auto& [member, ref] : members_)
    if (ref.session == session) ended.emplace_back(member, ref.group);
  for (const auto& [member, group] : ended) {
    group->leave(member, dead ? core::Ending::died : core::Ending::hung, now);
    members_.erase(member);
    group->count_members();
  }
  if (dead && !ended.empty() && save_at_ns_ != 0)
    save_at_ns_ = std::clamp(now.ns + kHandOverQuietNs, save_at_ns_, save_by_ns_);
}

// ---- the turn

bool Delivery::do_work(std::uint64_t now_ns) {
  if (groups_.empty()) return false;
  // The coarse clock is late: what is saved with it would be due too early in the next daemon's eyes.
  const Now now{now_ns, realtime_ns()};
  bool worked = false;
  bool dirty = false;
  for (auto& [name, group] : groups_) {
    worked |= group->do_work(now);
    drop_ended(*group);
    if (std::vector<Parking> parkings = group->take_parkings(); !parkings.empty()) {
      letters_.add(*group, std::move(parkings), false);
      worked = true;
    }
    dirty |= group->dirty();
  }
  worked |= letters_.do_work(now);
  if (dirty && save_at_ns_ == 0) {
    save_by_ns_ = now_ns + kAckSaveNsMax;
    save_at_ns_ = save_by_ns_ - kHandOverQuietNs;
  }
  if (save_at_ns_ == 0 || now_ns < save_at_ns_) return worked;
  save_at_ns_ = 0;
  if (Status saved = save(now); !saved) {
    spdlog::error("ack state is not saved, tried again reason={}", saved.error().message());
    save_at_ns_ = save_by_ns_ = now_ns + kSaveRetryNs;
  }
  return true;
}

std::uint64_t Delivery::deadline_ns() const {
  std::uint64_t deadline = earlier(save_at_ns_, letters_.deadline_ns());
  for (const auto& [name, group] : groups_) deadline = earlier(deadline, group->deadline_ns());
  return deadline;
}

void Delivery::arm() {
  for (auto& [name, group] : groups_) group->arm();
}

Status Delivery::save(const Now& now) {
  for (auto& [name, group] : groups_)
    if (group->members_uncounted()) SLUICE_TRY(store_members(*group));
  std::vector<store::GroupSave> saves;
  for (auto& [name, group] : groups_) {
    if (!group->dirty()) continue;
    store::GroupSave save = group->take_save(now);
    if (!save.empty()) saves.push_back(std::move(save));
  }
  if (saves.empty()) return {};
  Status saved = store_.save_groups(saves);
  if (saved) return {};
  acks_failed(saves);
  return saved;
}

Status Delivery::finish() {
  const Now now{monotonic_ns(), realtime_ns()};
  for (auto& [name, group] : groups_) group->do_work(now);
  return save(now);
}

// The rules have ended them: hung.
void Delivery::drop_ended(Group& group) {
  for (const core::MemberId member : group.take_ended()) {
    spdlog::warn("member ended: it does not go on group={} member={}", group.name(), member);
    members_.erase(member);
    group.count_members();
  }
}

Status Delivery::store_members(Group& group) {
  store::GroupRecord record = group.record();
  record.members = static_cast<std::uint32_t>(group.members().size());
  SLUICE_TRY(store_.update_group(record));
  group.set_record(std::move(record));
  group.members_counted();
  return {};
}

// ---- what others must keep

std::optional<Position> Delivery::cursor_min(TopicId topic, PartitionNumber partition) const {
  std::optional<Position> lowest;
  for (const auto& [name, group] : groups_)
    if (const auto from = group->unsettled_from({topic, partition})) lowest = lowest ? std::min(*lowest, *from) : *from;
  return lowest;
}

std::optional<Position> Delivery::held_from(TopicId topic, PartitionNumber partition) const {
  std::optional<Position> lowest;
  for (const auto& [name, group] : groups_) {
    if (!group->record().config.hold) continue;
    if (const auto from = group->unsettled_from({topic, partition})) lowest = lowest ? std::min(*lowest, *from) : *from;
  }
  return lowest;
}

}  // namespace sluice::delivery
