#include "daemon/bus/bus.h"

#include <algorithm>
#include <array>
#include <utility>

#include <spdlog/spdlog.h>

#include "shm/base/assert.h"
#include "shm/base/clock.h"
#include "shm/region/memfd.h"
#include "shm/ring/bell.h"

namespace sluice::bus {
namespace {
constexpr std::size_t kCompletionsMax = 256;  // of one turn
}  // namespace

Bus::Bus(BusSettings settings, const DataDirectory& directory, io::Disk& disk, store::Store& store, int wake_fd,
         keep::RegionKeeper* keeper)
    : settings_(std::move(settings)),
      directory_(directory),
      disk_(disk),
      store_(store),
      keeper_(keeper),
      wake_fd_(wake_fd),
      started_ns_(realtime_ns()),
      topic_mirrors_(settings_.topic_mirrors, directory, disk),
      mirror_keeper_(disk.mirrors(), settings_.mirror_store, settings_.mirrors),
      scrub_(disk, topic_mirrors_, settings_.mirror_scrub_ns),
      delivery_(logs_, *this, store),
      transactions_(*this, store, settings_.transactions, settings_.resolvers) {
  budget_.limit = settings_.memory_budget;
}

Bus::~Bus() = default;

Status Bus::load() {
  SLUICE_ASSIGN(incarnation_, store_.next_incarnation());
  SLUICE_TRY(lease_producer_ids());
  first_producer_ = next_producer_;
  sessions_ = std::make_unique<session::SessionTable>(incarnation_);
  SLUICE_TRY(choose_keeper());
  SLUICE_TRY(begin_table());
  return open_topics();
}

Status Bus::open_topics() {
  SLUICE_TRY(directory_.remove_deleted(disk_));
  SLUICE_ASSIGN(std::vector<core::TopicRecord> records, store_.topics());
  topic_mirrors_.remove_leftovers(records);
  for (core::TopicRecord& record : records) SLUICE_TRY(open_topic(std::move(record), false));
  SLUICE_ASSIGN(own_producer_, next_producer_id());
  producers_[own_producer_] = {SessionId(0), TopicId(0)};
  first_given_ = next_producer_;
  SLUICE_TRY(take_over_halves());
  return delivery_.load(incarnation_, realtime_ns());
}

OpenContext Bus::open_context(TopicId topic) {
  return {topic_mirrors_.directory_of(topic),
          store_,
          topic_mirrors_.disk_of(topic),
          *sessions_,
          *this,
          this,
          this,
          budget_,
          incarnation_,
          settings_.flush_interval_ns,
          settings_.segments_per_file,
          settings_.wall_ns,
          wake_fd_};
}

Status Bus::open_topic(core::TopicRecord record, bool fresh) {
  auto topic = std::make_unique<Topic>(std::move(record));
  SLUICE_ASSIGN(const std::vector<store::NamedProducer> attaches, store_.named_producers(topic->id()));
  topic->set_attaches(attaches);
  SLUICE_ASSIGN(std::vector<store::FenceRecord> fences, store_.fences(topic->id()));
  topic->set_fences(std::move(fences));
  Topic& opened = *topic;
  // Of what is in kept memory the store may not have the counts yet: a next start needs to know whose it is.
  const bool adopted = std::any_of(kept_units_.begin(), kept_units_.end(),
                                   [&](const auto& entry) { return entry.second.note.topic == opened.id(); });
  // Known before its partitions are, so that a failure half-way leaves nothing behind that do_work() would miss.
  topics_[opened.name()] = std::move(topic);
  by_id_[opened.id()] = &opened;
  SLUICE_TRY(topic_mirrors_.open(opened.record(), fresh));
  SLUICE_TRY(add_partitions(opened, fresh));
  if (!fresh && !adopted && !opened.is_volatile()) SLUICE_TRY(store_.forget_former_producers(opened.id()));
  return {};
}

// Those that its configuration has beyond what is there.
Status Bus::add_partitions(Topic& topic, bool fresh) {
  for (auto number = static_cast<PartitionNumber>(topic.partitions().size()); number < topic.config().partitions;
       ++number)
    SLUICE_TRY(add_partition(topic, number, fresh));
  SLUICE_TRY(keep_partitions(topic));
  topic.publish_partition_count();
  return {};
}

Status Bus::add_partition(Topic& topic, PartitionNumber number, bool fresh) {
  const auto kept = std::find_if(kept_units_.begin(), kept_units_.end(), [&](const auto& entry) {
    return entry.second.note.topic == topic.id() && entry.second.note.number == number;
  });
  if (kept != kept_units_.end()) {
    KeptUnit unit = std::move(kept->second);
    kept_units_.erase(kept);
    SLUICE_TRY(topic.adopt_partition(number, std::move(unit), open_context(topic.id()), findings_));
  } else {
    SLUICE_TRY(topic.open_partition(number, next_handle_++, fresh, open_context(topic.id()), findings_));
    // Sessions of the daemon before may hold memory of it that was not kept.
    if (!fresh) let_attach_anew(topic);
  }
  PartitionUnit& opened = topic.partitions().back();
  opened.reporters_end = first_producer_;
  by_handle_[opened.handle] = opened.partition.get();
  return {};
}

// ---- the loop

TurnResult Bus::do_work(std::uint64_t now_ns) {
  TurnResult turn;
  for (auto& [name, topic] : topics_) {
    for (PartitionUnit& unit : topic->partitions()) {
      const spill::WorkResult work = unit.partition->do_work(now_ns);
      turn.progressed |= work.progressed;
      turn.urgent |= work.urgent;
      if (work.deadline_ns != 0 && (turn.deadline_ns == 0 || work.deadline_ns < turn.deadline_ns))
        turn.deadline_ns = work.deadline_ns;
      if (!unit.ended.empty()) unit.settle_ended(!work.progressed && !unit.partition->has_open_claims());
      if (unit.partition->waits_for_pins()) enforce_pin_quota(unit);
      if (auto checkpoint = unit.partition->take_checkpoint()) {
        if (auto saved = topic->save_checkpoint(store_, unit, *checkpoint); !saved)
          spdlog::error("audit checkpoint not saved partition={} reason={}", unit.partition->identity().name,
                        saved.error().message());
        retain(*topic, unit, realtime_ns());  // a file has ended: the oldest one may be over the limit
      }
    }
    if (turn.progressed && topic->is_volatile()) {
      if (auto renewed = topic->renew_leases(store_); !renewed)
        spdlog::error("lease on positions not renewed topic={} reason={}", name, renewed.error().message());
    }
  }
  turn.progressed |= reap(disk_, now_ns);
  topic_mirrors_.for_each([&](TopicId, io::Disk& disk) { turn.progressed |= reap(disk, now_ns); });
  turn.progressed |= bury_deleted();
  turn.progressed |= hang_up_replaced();
  turn.progressed |= mirror_keeper_.do_work(now_ns);
  turn.progressed |= topic_mirrors_.do_work(now_ns);
  if (!stopping_) turn.progressed |= scrub_.do_work(by_id_, now_ns);
  turn.progressed |= delivery_.do_work(now_ns);
  turn.progressed |= transactions_.do_work(now_ns);
  if (now_ns >= retention_at_ns_) run_retention(now_ns);
  for (const std::uint64_t deadline : {retention_at_ns_, mirror_keeper_.deadline_ns(), topic_mirrors_.deadline_ns(),
                                       scrub_.deadline_ns(), delivery_.deadline_ns(), transactions_.deadline_ns()})
    if (deadline != 0 && (turn.deadline_ns == 0 || deadline < turn.deadline_ns)) turn.deadline_ns = deadline;
  return turn;
}

// One session may keep a part of a partition's slots from the others, and no more.
void Bus::enforce_pin_quota(const PartitionUnit& unit) {
  const std::uint32_t quota = unit.partition->memory().slots / kPinnedSlotsFraction;
  for (const SessionId session : sessions_->revoke_over_quota(unit.handle, quota)) {
    spdlog::warn("session ended: it holds more than {} slots of a partition that needs them session={} partition={}",
                 quota, session.value, unit.partition->identity().name);
    delivery_.session_ended(session, false);
    transactions_.session_ended(session, monotonic_ns());
    if (settings_.on_revoked) settings_.on_revoked(session);
  }
}

bool Bus::reap(io::Disk& disk, std::uint64_t now_ns) {
  std::array<io::Completion, kCompletionsMax> completions;
  const std::size_t count = disk.reap(completions);
  for (std::size_t i = 0; i < count; ++i) {
    const auto owner = by_handle_.find(static_cast<std::uint32_t>(completions[i].token >> 32));
    SLUICE_ASSERT(owner != by_handle_.end());
    owner->second->on_completion(completions[i], now_ns);
  }
  return count != 0;
}

void Bus::run_retention(std::uint64_t now_ns) {
  retention_at_ns_ = now_ns + settings_.retention_interval_ns;
  const std::uint64_t wall = realtime_ns();
  for (auto& [name, topic] : topics_) {
    for (PartitionUnit& unit : topic->partitions()) {
      // What goes can never be counted again: only what the store has the counts of may go. The next round finds more.
      if (topic->has_retention() && unit.partition->durable() > unit.counted) unit.partition->request_checkpoint();
      retain(*topic, unit, wall);
    }
  }
}

void Bus::retain(const Topic& topic, PartitionUnit& unit, std::uint64_t wall_ns) {
  if (topic.is_volatile()) return;
  // Without limits nothing goes, but a file that was kept to be used again does, when nobody has needed it.
  const log::RetentionLimits limits{topic.config().retention_bytes, topic.config().retention_time_ns};
  spill::Partition& partition = *unit.partition;
  const PartitionNumber number = partition.identity().partition;
  const Position keep_from = std::min(unit.counted, delivery_.held_from(topic.id(), number).value_or(unit.counted));
  if (auto retained = partition.retain(limits, wall_ns, keep_from); !retained) {
    spdlog::error("retention failed partition={} reason={}", partition.identity().name, retained.error().message());
    return;
  }
  if (!topic.has_retention()) return;
  if (auto dropped = store_.drop_fences_below(topic.id(), number, partition.earliest()); !dropped)
    spdlog::error("fences not trimmed partition={} reason={}", partition.identity().name, dropped.error().message());
}

// A deleted topic's memory and files go once nothing of it is in flight.
bool Bus::bury_deleted() {
  if (dying_.empty()) return false;
  std::vector<TopicId> buried;
  std::erase_if(dying_, [&](std::unique_ptr<Topic>& topic) {
    for (PartitionUnit& unit : topic->partitions())
      if (!unit.partition->is_idle()) return false;
    for (PartitionUnit& unit : topic->partitions()) {
      by_handle_.erase(unit.handle);
      if (unit.partition->log() != nullptr) static_cast<void>(unit.partition->log()->close());
    }
    buried.push_back(topic->id());
    return true;
  });
  for (const TopicId topic : buried) topic_mirrors_.remove(topic);
  if (!buried.empty()) {
    if (auto removed = directory_.remove_deleted(disk_); !removed)
      spdlog::error("files of a deleted topic not removed, tried again at the next start reason={}",
                    removed.error().message());
  }
  return !buried.empty();
}

void Bus::arm(std::uint32_t flag) {
  for (const auto& [handle, partition] : by_handle_) ring::Bell(partition->memory()).daemon_arms(flag);
  delivery_.arm();
}

void Bus::disarm() {
  for (const auto& [handle, partition] : by_handle_) ring::Bell(partition->memory()).daemon_disarms();
}

// ---- stop

void Bus::begin_stop() {
  stopping_ = true;
  mirror_keeper_.stop();
  topic_mirrors_.stop();
  for (const auto& [handle, partition] : by_handle_) {
    if (partition->gate() == layout::Gate::open) partition->close_gate(layout::Gate::closing);
    partition->flush_now();
  }
}

bool Bus::drained() const {
  if (!mirror_keeper_.is_idle() || !topic_mirrors_.is_idle()) return false;
  return std::all_of(by_handle_.begin(), by_handle_.end(), [](const auto& entry) {
    const spill::Partition& partition = *entry.second;
    if (!partition.is_idle()) return false;
    if (partition.is_volatile()) return true;
    if (partition.gate() == layout::Gate::poisoned || !partition.reason().empty()) return true;
    return !partition.has_open_claims() && partition.everything_durable();
  });
}

Status Bus::finish_stop() {
  Status first;
  const auto keep = [&](Status status) {
    if (!status && first) first = std::move(status);
  };
  keep(delivery_.finish());
  for (auto& [name, topic] : topics_) {
    for (PartitionUnit& unit : topic->partitions()) {
      spill::Partition& partition = *unit.partition;
      if (partition.log() == nullptr) continue;
      // Behind an open claim lies what holders of names were told of, and what may be lost yet.
      const bool complete = partition.everything_durable() && !partition.has_open_claims();
      if (partition.gate() != layout::Gate::poisoned && complete)
        keep(topic->save_checkpoint(store_, unit, partition.checkpoint_now()));
      // With a keeper the next daemon may go on in these files. And where something is not durable yet (the disk took
      // too long, or the members' last words were about records that nobody had looked at) they stay as a kill leaves
      // them: what is in flight may come to lie where a file would be cut.
      if (keeper_ == nullptr && partition.is_idle() && partition.everything_durable()) keep(partition.log()->close());
    }
  }
  return first;
}

// ---- topics

Status Bus::require_operator(const session::Session& session, std::string_view doing) const {
  if (settings_.policy.is_operator(session.peer())) return {};
  return fail(ErrorCode::permission, std::string(doing) + ": only root and the daemon's user may; you are uid " +
                                         std::to_string(session.peer().uid));
}

Result<Topic*> Bus::find_topic(const std::string& name) const {
  const auto found = topics_.find(name);
  if (found == topics_.end())
    return fail(ErrorCode::not_found, "no topic is named \"" + name + "\"; `sluice topic list` shows those there are");
  return found->second.get();
}

Result<Topic*> Bus::find_topic(TopicId id) const {
  const auto found = by_id_.find(id);
  if (found == by_id_.end())
    return fail(ErrorCode::closed, "the topic with id " + std::to_string(id.value) + " was deleted");
  return found->second;
}

Result<PartitionUnit*> Bus::find_partition(TopicId id, PartitionNumber number) const {
  SLUICE_ASSIGN(Topic * topic, find_topic(id));
  if (number >= topic->partitions().size())
    return fail(ErrorCode::not_found, "topic " + topic->name() + " has no partition " + std::to_string(number));
  PartitionUnit& unit = topic->partitions()[number];
  if (!unit.unrecovered.empty())
    return fail(ErrorCode::io, "partition " + unit.partition->identity().name + " could not be recovered: " +
                                   unit.unrecovered + "; see to the disk, then `sluice topic recover` again");
  return &unit;
}

// Room for so many more partitions of such a topic.
Status Bus::check_room(const core::TopicConfig& config, std::uint64_t partitions, const std::string& doing) const {
  if (partitions == 0) return {};
  if (by_handle_.size() + partitions > settings_.partitions_max)
    return fail(ErrorCode::quota, doing + ": the daemon holds " + std::to_string(by_handle_.size()) +
                                      " partitions, the limit is " + std::to_string(settings_.partitions_max));
  SLUICE_TRY(check_keeper_room(partitions, doing));
  // Each partition needs a segment and a step from the start; without them no producer would ever find room.
  const std::uint64_t least = partitions * (config.segment_size + kPrepareStepSize);
  if (budget_.used + least > budget_.limit)
    return fail(ErrorCode::no_memory,
                doing + ": it needs " + std::to_string(least) + " bytes of slot memory at least, " +
                    std::to_string(budget_.limit - std::min(budget_.limit, budget_.used)) +
                    " of the memory budget are left; use fewer partitions or smaller segments, or "
                    "raise memory_budget");
  return {};
}

Status Bus::create_topic(SessionId session_id, core::TopicRequest request) {
  SLUICE_ASSIGN(session::Session * session, live_session(session_id));
  SLUICE_ASSIGN(const TopicId id, make_topic(std::move(request)));
  const core::TopicConfig& config = by_id_[id]->config();
  spdlog::info("topic created topic={} id={} partitions={} uid={}", config.name, id.value, config.partitions,
               session->peer().uid);
  return {};
}

Result<TopicId> Bus::make_topic(core::TopicRequest request) {
  core::TopicConfig config = core::complete(std::move(request), settings_.topic_defaults);
  SLUICE_TRY(core::check(config));
  SLUICE_TRY(session::AccessList::resolve(config.publishers));
  SLUICE_TRY(session::AccessList::resolve(config.consumers));
  const std::string doing = "creating topic " + config.name;
  if (topics_.count(config.name) != 0) return fail(ErrorCode::exists, doing + ": it exists already");
  if (topics_.size() >= kTopicsMax)
    return fail(ErrorCode::quota, doing + ": the limit is " + std::to_string(kTopicsMax) + " topics");
  SLUICE_TRY(check_room(config, config.partitions, doing));
  SLUICE_TRY(topic_mirrors_.check(config));
  const std::uint64_t now = realtime_ns();
  SLUICE_ASSIGN(const TopicId id, store_.create_topic(config, now));
  const std::string name = config.name;
  if (auto opened = open_topic({id, std::move(config), now}, true); !opened) {
    if (auto removed = remove_topic(name); !removed)
      spdlog::error("half a topic stays topic={} reason={}", name, removed.error().message());
    return fail(std::move(opened).error());
  }
  delivery_.topics_changed();
  return id;
}

Status Bus::alter_topic(SessionId session_id, const std::string& name, core::TopicChange change) {
  SLUICE_ASSIGN(session::Session * session, live_session(session_id));
  SLUICE_TRY(require_operator(*session, "altering topic " + name));
  SLUICE_ASSIGN(Topic * topic, find_topic(name));
  SLUICE_ASSIGN(core::TopicConfig config, core::apply(topic->config(), change));
  SLUICE_TRY(check_room(config, config.partitions - topic->config().partitions, "altering topic " + name));
  SLUICE_TRY(store_.alter_topic(topic->id(), config));
  topic->set_config(config);
  for (PartitionUnit& unit : topic->partitions()) {
    unit.partition->set_overflow(config.overflow);
    unit.partition->set_message_ttl(config.message_ttl_ns);
  }
  retention_at_ns_ = 0;
  Status added = add_partitions(*topic, true);
  if (!added) take_back_partitions(*topic);
  delivery_.topics_changed();
  return added;
}

// Those that could not be kept were not handed out yet. What is there stays, and the topic has as many.
void Bus::take_back_partitions(Topic& topic) {
  while (keeper_ != nullptr && !is_noted(*table_, topic.partitions().back().handle)) {
    const std::uint32_t handle = topic.partitions().back().handle;
    drop_partition(handle);
    by_handle_.erase(handle);
    topic.partitions().pop_back();
  }
  core::TopicConfig config = topic.config();
  config.partitions = static_cast<std::uint32_t>(topic.partitions().size());
  if (auto stored = store_.alter_topic(topic.id(), config); !stored)
    spdlog::error("partitions that could not be added come at the next start topic={} reason={}", topic.name(),
                  stored.error().message());
  topic.set_config(std::move(config));
  topic.publish_partition_count();
}

Status Bus::delete_topic(SessionId session_id, const std::string& name) {
  SLUICE_ASSIGN(session::Session * session, live_session(session_id));
  SLUICE_TRY(require_operator(*session, "deleting topic " + name));
  SLUICE_TRY(remove_topic(name));
  spdlog::info("topic deleted topic={} uid={}", name, session->peer().uid);
  return {};
}

Status Bus::remove_topic(const std::string& name) {
  SLUICE_ASSIGN(Topic * topic, find_topic(name));
  SLUICE_TRY(store_.delete_topic(topic->id()));
  for (PartitionUnit& unit : topic->partitions()) unit.partition->close_gate(layout::Gate::deleted);
  if (!topic->is_volatile()) {
    const TopicId id = topic->id();
    if (auto aside = topic_mirrors_.directory_of(id).set_aside(topic_mirrors_.disk_of(id), name, id); !aside)
      spdlog::error("files of a deleted topic not set aside topic={} reason={}", name, aside.error().message());
  }
  for (const PartitionUnit& unit : topic->partitions())
    transactions_.partition_gone({topic->id(), unit.partition->identity().partition});
  drop_partitions(*topic);
  scrub_.let_go_of(topic->id());
  by_id_.erase(topic->id());
  const auto found = topics_.find(name);
  dying_.push_back(std::move(found->second));
  topics_.erase(found);
  delivery_.topics_changed();
  return {};
}

}  // namespace sluice::bus
