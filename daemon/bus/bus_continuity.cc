// Bus: what outlives the daemon. With a keeper its regions, its sessions and its eventfd are held beyond its death, and
// a table beside them says what they are (kept_state.h). The next daemon goes on with them if everything fits together;
// otherwise it lets all of them go, and clients attach anew as after lost memory.
//
// Order: a region is held before it is noted, and noted before it is handed out. So a note without its region is
// damage, but for a session that nobody has used yet; a region without a note was never handed out.
//
// A holder has room for so many descriptors. Partitions that would not fit are refused when they are asked for; a bus
// that already has too many of them goes on without a keeper, and says so.
#include <algorithm>
#include <utility>

#include <spdlog/spdlog.h>

#include "daemon/bus/bus.h"
#include "shm/base/failpoint.h"

namespace sluice::bus {
namespace {

// Sessions and readers of each daemon of an incarnation are numbered from a base of their own.
constexpr std::uint32_t kIdsPerDaemonBits = 32;
constexpr std::uint64_t kDescriptorsPerPartition = 3;
// This part of what can be held is not for partitions: sessions need one each.
constexpr std::uint64_t kHeldForSessionsFraction = 8;

std::uint64_t partitions_kept_max(const keep::RegionKeeper& keeper) {
  return (keeper.capacity() - keeper.capacity() / kHeldForSessionsFraction) / kDescriptorsPerPartition;
}

Result<UniqueFd> take(keep::Inheritance& inherited, const std::string& name) {
  const auto found = inherited.find(name);
  if (found == inherited.end() || !found->second)
    return fail(ErrorCode::corrupt, "adopting what the daemon before left: " + name + " was not handed back");
  UniqueFd fd = std::move(found->second);
  inherited.erase(found);
  return fd;
}

// Its clients may not have been told.
void close_deleted(const KeptUnit& unit) {
  auto control = region::Mapping::map(unit.regions[0].get(), region::Access::read_write, "a deleted topic's control");
  if (control && control->size() >= sizeof(layout::ControlRegion))
    // release: as Partition::close_gate.
    control->at<layout::ControlRegion>()->gate.store(static_cast<std::uint32_t>(layout::Gate::deleted),
                                                     std::memory_order_release);
}

}  // namespace

Result<std::unique_ptr<Bus>> Bus::start(BusSettings settings, const DataDirectory& directory, io::Disk& disk,
                                        store::Store& store, int wake_fd, keep::RegionKeeper* keeper,
                                        keep::Inheritance inherited) {
  const auto make = [&] { return std::unique_ptr<Bus>(new Bus(settings, directory, disk, store, wake_fd, keeper)); };
  std::string given_up;
  if (auto table = take(inherited, kTableName); keeper != nullptr && table) {
    std::unique_ptr<Bus> bus = make();
    Status adopted;
    if (auto kept = keep::KeptTable::adopt(std::move(*table)); kept)
      adopted = bus->adopt(std::move(*kept), inherited);
    else
      adopted = fail(std::move(kept).error());
    if (adopted) return bus;
    if (adopted.error().code() != ErrorCode::corrupt) return fail(std::move(adopted).error());
    given_up = adopted.error().message();
    spdlog::error("memory of the daemon before is let go, its clients attach anew reason=\"{}\"", given_up);
  }
  if (keeper != nullptr) keeper->drop_all_but({keep::kListenName});
  std::unique_ptr<Bus> bus = make();
  if (!given_up.empty()) bus->findings_.push_back("memory was not kept: " + given_up);
  SLUICE_TRY(bus->load());
  return bus;
}

// ---- taking over

Status Bus::adopt(keep::KeptTable table, keep::Inheritance& inherited) {
  table_ = std::move(table);
  SLUICE_ASSIGN(KeptState state, read_state(*table_));
  if (inherited.erase(kWakeName) == 0)
    return fail(ErrorCode::corrupt, "adopting what the daemon before left: the eventfd of its clients is gone");
  ++state.daemons;
  incarnation_ = state.incarnation;
  first_producer_ = state.first_producer;
  transactors_kept_ = state.has_transactors;
  SLUICE_TRY(note_bus(*table_, state));
  SLUICE_TRY(lease_producer_ids());
  const std::uint64_t first_id = ((state.daemons - 1) << kIdsPerDaemonBits) + 1;
  sessions_ = std::make_unique<session::SessionTable>(incarnation_, first_id);
  SLUICE_TRY(adopt_sessions(state, inherited));
  SLUICE_TRY(take_kept_units(state, inherited));
  // Never handed out. Now, for what is opened from here on may take their names.
  for (const auto& [name, fd] : inherited) keeper_->drop(name);
  SLUICE_TRY(open_topics());
  // Of topics that were deleted just before.
  for (const auto& [handle, unit] : kept_units_) {
    close_deleted(unit);
    drop_partition(handle);
  }
  kept_units_.clear();
  spdlog::info("memory of the daemon before goes on incarnation={} sessions={} partitions={}", incarnation_.value,
               sessions_->size(), by_handle_.size());
  return {};
}

Status Bus::adopt_sessions(KeptState& state, keep::Inheritance& inherited) {
  for (session::SessionRecord& record : state.sessions) {
    const SessionId id = record.id;
    const bool used = !record.producers.empty() || !record.readers.empty() || !record.transactors.empty();
    auto memfd = take(inherited, session_fd_name(id));
    if (!memfd && !used) {
      forget_session(*table_, id);
      continue;
    }
    if (!memfd) return fail(std::move(memfd).error());
    for (const session::ProducerEntry& producer : record.producers) producers_[producer.id] = {id, producer.topic};
    for (const auto& [transactor, group] : record.transactors) transactions_.transactor_kept(id, transactor, group);
    SLUICE_TRY(sessions_->adopt(std::move(record), std::move(*memfd)));
  }
  return {};
}

Status Bus::take_kept_units(const KeptState& state, keep::Inheritance& inherited) {
  for (const KeptPartition& note : state.partitions) {
    KeptUnit unit{note, {}};
    const std::array<std::string, kDescriptorsPerPartition> names = region_fd_names(note.handle);
    for (std::size_t i = 0; i < names.size(); ++i) {
      SLUICE_ASSIGN(unit.regions[i], take(inherited, names[i]));
    }
    next_handle_ = std::max(next_handle_, note.handle + 1);
    kept_units_.emplace(note.handle, std::move(unit));
  }
  return {};
}

std::vector<SessionId> Bus::disconnected_sessions() const {
  std::vector<SessionId> ids;
  sessions_->for_each([&](const session::Session& session) {
    if (!session.connected()) ids.push_back(session.id());
  });
  return ids;
}

// ---- leaving something to the next

Status Bus::choose_keeper() {
  if (keeper_ == nullptr) return {};
  SLUICE_ASSIGN(const std::vector<core::TopicRecord> records, store_.topics());
  std::uint64_t partitions = 0;
  for (const core::TopicRecord& record : records) partitions += record.config.partitions;
  if (partitions <= partitions_kept_max(*keeper_)) return {};
  findings_.push_back("memory will not outlive this daemon: of " + std::to_string(partitions) + " partitions " +
                      std::to_string(partitions_kept_max(*keeper_)) + " could be kept over a restart");
  spdlog::warn("{}", findings_.back());
  keeper_ = nullptr;
  return {};
}

Status Bus::check_keeper_room(std::uint64_t partitions, const std::string& doing) const {
  if (keeper_ == nullptr) return {};
  const std::uint64_t most = partitions_kept_max(*keeper_);
  const std::uint64_t free = keeper_->capacity() - std::min(keeper_->capacity(), keeper_->held());
  if (by_handle_.size() + partitions <= most && partitions * kDescriptorsPerPartition <= free) return {};
  return fail(ErrorCode::quota, doing + ": " + std::to_string(by_handle_.size()) + " partitions are there, and " +
                                    std::to_string(most) + " can be kept over a restart of the daemon, in " +
                                    std::to_string(keeper_->capacity()) + " descriptors of at most " +
                                    std::to_string(keep::kHeldMax) +
                                    " (systemd: FileDescriptorStoreMax and SLUICE_FDSTORE_MAX; the keeper: the limit "
                                    "on open files); use fewer partitions, or start sluiced with --no-keeper");
}

Status Bus::begin_table() {
  if (keeper_ == nullptr) return {};
  SLUICE_ASSIGN(table_, keep::KeptTable::create(incarnation_));
  KeptState state;
  state.incarnation = incarnation_;
  state.first_producer = first_producer_;
  SLUICE_TRY(note_bus(*table_, state));
  SLUICE_TRY(keeper_->keep(kWakeName, wake_fd_));
  SLUICE_TRY(keeper_->keep(kTableName, table_->fd()));
  return keeper_->barrier();
}

// Those of the topic that are not yet.
Status Bus::keep_partitions(const Topic& topic) {
  if (keeper_ == nullptr) return {};
  std::vector<const PartitionUnit*> units;
  for (const PartitionUnit& unit : topic.partitions())
    if (!is_noted(*table_, unit.handle)) units.push_back(&unit);
  if (units.empty()) return {};
  for (const PartitionUnit* unit : units) {
    const std::array<std::string, kDescriptorsPerPartition> names = region_fd_names(unit->handle);
    const std::array<int, kDescriptorsPerPartition> fds = unit->regions->descriptors();
    for (std::size_t i = 0; i < names.size(); ++i) SLUICE_TRY(keeper_->keep(names[i], fds[i]));
  }
  SLUICE_TRY(keeper_->barrier());
  SLUICE_FAILPOINT("keep.partition_held");
  for (const PartitionUnit* unit : units)
    SLUICE_TRY(note_partition(*table_, {topic.id(), unit->partition->identity().partition, unit->handle, {}}));
  return {};
}

void Bus::drop_partitions(const Topic& topic) {
  for (const PartitionUnit& unit : topic.partitions()) drop_partition(unit.handle);
}

void Bus::drop_partition(std::uint32_t handle) {
  if (keeper_ == nullptr) return;
  forget_partition(*table_, handle);
  for (const std::string& name : region_fd_names(handle)) keeper_->drop(name);
}

Result<UniqueFd> Bus::keep_session(const session::Session& session) {
  if (keeper_ == nullptr) return UniqueFd();
  SLUICE_TRY(keeper_->keep(session_fd_name(session.id()), session.memfd()));
  SLUICE_TRY(note(session));
  return keeper_->begin_barrier();
}

void Bus::drop_session(SessionId session) {
  if (keeper_ == nullptr) return;
  forget_session(*table_, session);
  keeper_->drop(session_fd_name(session));
}

Status Bus::note(const session::Session& session) {
  return keeper_ == nullptr ? Status() : note_session(*table_, session);
}

void Bus::note(std::uint32_t handle, const spill::Checkpoint& checkpoint) {
  if (keeper_ == nullptr) return;
  if (auto noted = note_audit(*table_, handle, checkpoint); !noted)
    spdlog::error("counts of a partition are not noted handle={} reason={}", handle, noted.error().message());
}

}  // namespace sluice::bus
