#include "daemon/bus/topic.h"

#include <algorithm>
#include <chrono>
#include <map>
#include <thread>
#include <utility>

#include <spdlog/spdlog.h>

#include "shm/base/clock.h"
#include "shm/base/limits.h"
#include "shm/layout/record.h"
#include "shm/ring/bell.h"

namespace sluice::bus {
namespace {

// Volatile topics lease positions in blocks of this size, renewed while a quarter of it is left.
constexpr std::uint64_t kVolatileLeaseSize = 64ull << 30;
// How long a start waits for the writes of a dead predecessor to end.
constexpr std::uint64_t kPredecessorWaitNs = 60'000'000'000;
constexpr std::uint64_t kPredecessorLookNs = 20'000'000;

// Opens the log once its files are free: a killed predecessor's writes outlive it, and hold its locks.
template <typename Open>
auto wait_for_predecessor(const std::string& name, Open&& open) -> decltype(open()) {
  const std::uint64_t deadline = monotonic_ns() + kPredecessorWaitNs;
  bool told = false;
  for (;;) {
    auto opened = open();
    if (opened || opened.error().code() != ErrorCode::in_use || monotonic_ns() > deadline) return opened;
    if (!std::exchange(told, true)) spdlog::warn("waiting for the writes of a dead daemon to end partition={}", name);
    std::this_thread::sleep_for(std::chrono::nanoseconds(kPredecessorLookNs));
  }
}

void report_findings(const std::string& name, const log::RecoveryReport& report, std::vector<std::string>& findings) {
  const auto tell = [&](const std::string& text) {
    findings.push_back(name + ": " + text);
    spdlog::warn("recovery partition={} finding=\"{}\"", name, text);
  };
  if (report.torn_bytes != 0)
    tell("cut a torn tail of " + std::to_string(report.torn_bytes) + " bytes above " +
         std::to_string(report.end.value));
  for (const log::DamagedRange& range : report.damaged)
    tell("quarantined positions " + std::to_string(range.begin.value) + " to " + std::to_string(range.end.value) +
         ": " + range.reason);
  for (const std::string& repair : report.repaired) tell("mirrors: " + repair);
  for (const std::string& path : report.unparsed) tell("left alone, cannot be parsed: " + path);
}

}  // namespace

void PartitionUnit::note_ended(ProducerId producer) {
  // Beyond the limit its row stays until the next start.
  if (ended.size() >= kEndedWaitingMax) return;
  ended.push_back({producer, Position(partition->memory().control->prepared.load(std::memory_order_relaxed))});
}

void PartitionUnit::settle_ended(bool at_end) {
  core::PartitionAudit& audit = partition->audit();
  while (!ended.empty() && (at_end || ended.front().settled_at <= partition->frontier())) {
    audit.on_ended(ended.front().id);
    ended.pop_front();
  }
  // What was folded since the last checkpoint comes back as rows when the daemon is lost: that is bounded, too.
  if (audit.folds() - folds_checkpointed < kAuditEndedRowsMax) return;
  folds_checkpointed = audit.folds();
  partition->request_checkpoint();
}

Topic::Topic(core::TopicRecord record) : record_(std::move(record)) {
  std::vector<std::string> unknown;
  publishers_ = session::AccessList::resolve_known(record_.config.publishers, unknown);
  consumers_ = session::AccessList::resolve_known(record_.config.consumers, unknown);
  for (const std::string& entry : unknown)
    spdlog::warn("access list names nobody the system knows topic={} entry={}", name(), entry);
}

void Topic::set_attaches(const std::vector<store::NamedProducer>& attaches) {
  attaches_ = attaches;
  for (const store::NamedProducer& attach : attaches) holders_[attach.name] = attach.id;
}

std::string Topic::partition_name(PartitionNumber number) const { return config().name + "/" + std::to_string(number); }

Result<Topic::Recovered> Topic::recover(PartitionNumber number, const KeptPartition* kept, Position memory_start,
                                        const OpenContext& context, std::vector<std::string>& findings) const {
  const std::string name = partition_name(number);
  SLUICE_ASSIGN(store::AuditSnapshot snapshot, context.store.audit_snapshot(id(), number));
  const bool memory_kept = kept != nullptr;
  // What the daemon before had noted is newer, and saves the reading of what lies between; but for what waits, of which
  // it only notes whether that has changed.
  if (memory_kept && kept->audit && kept->audit->upto > snapshot.upto) {
    core::DelaySnapshot delays = std::move(snapshot.delays);
    core::HalfSnapshot halves = std::move(snapshot.halves);
    snapshot = snapshot_of(*kept->audit);
    if (!kept->audit->delays_changed && !kept->audit->halves_changed) delays.upto = snapshot.upto;
    snapshot.delays = std::move(delays);
    halves.decided = snapshot.halves.decided;
    halves.late = std::move(snapshot.halves.late);
    snapshot.halves = std::move(halves);
  }
  log::LogOptions options{context.directory.partition_path(record_.config.name, number),
                          name,
                          id(),
                          number,
                          config().segment_size,
                          context.segments_per_file,
                          config().checksum,
                          memory_kept,
                          memory_start};
  log::RecoveryReport report;
  AuditRecovery audit(snapshot, attaches_, fences_, number);
  // A second try starts from nothing counted.
  const auto open = [&] {
    audit = AuditRecovery(snapshot, attaches_, fences_, number);
    report = {};
    return log::PartitionLog::open(
        context.disk, options, std::min(snapshot.upto, snapshot.delays.upto),
        [&](Position position, const layout::RecordFields& fields, std::span<const std::byte> trailer) {
          audit.visit(position, fields, trailer);
        },
        report);
  };
  SLUICE_ASSIGN(std::unique_ptr<log::PartitionLog> log, wait_for_predecessor(name, open));
  audit.finish(!memory_kept);
  report_findings(name, report, findings);
  return Recovered{std::move(log), std::move(audit), report.end, report.used_end, report.last_segment};
}

Status Topic::make_partition(PartitionUnit& unit, PartitionNumber number, Recovered recovered,
                             const OpenContext& context, const std::optional<spill::KeptMemory>& kept) const {
  unit.partition = std::make_unique<spill::Partition>(
      unit.regions->memory(context.wake_fd), config(),
      spill::PartitionIdentity{partition_name(number), id(), number, context.incarnation},
      spill::Environment{&context.disk, &context.pins, unit.regions.get(), &context.attached, context.notes,
                         context.halves, context.wall_ns},
      std::move(recovered.log), std::move(recovered.audit.audit()),
      spill::PartitionOptions{context.flush_interval_ns, std::uint64_t{unit.handle} << 32}, kept,
      std::move(recovered.audit.waiting()));
  if (kept)
    SLUICE_TRY(adopt_fences(unit, recovered.audit, context.store));
  else
    restore_fences(unit, recovered.audit);
  unit.partition->restore(recovered.audit.bookmarks(), recovered.audit.time_max_ns());
  // Before any checkpoint: one that has passed a ref says that its half has ended, which takes its decision.
  if (!is_volatile()) {
    SLUICE_ASSIGN(const std::vector<store::DecidedHalf> decided, context.store.decided_halves(id(), number));
    for (const store::DecidedHalf& half : decided) unit.partition->decide(half.position, half.commit, half.order);
  }
  if (kept) recovered.audit.continue_names(*unit.partition);
  return {};
}

Status Topic::open_partition(PartitionNumber number, std::uint32_t handle, bool fresh, const OpenContext& context,
                             std::vector<std::string>& findings) {
  SLUICE_ASSIGN(PartitionUnit unit, make_unit(number, handle, fresh, context, findings));
  partitions_.push_back(std::move(unit));
  return {};
}

Status Topic::replace_partition(PartitionNumber number, std::uint32_t handle, const OpenContext& context,
                                std::vector<std::string>& findings) {
  SLUICE_ASSIGN(PartitionUnit unit, make_unit(number, handle, false, context, findings));
  // Destroyed whole, in its own order.
  const PartitionUnit before = std::exchange(partitions_[number], std::move(unit));
  return {};
}

Result<PartitionUnit> Topic::make_unit(PartitionNumber number, std::uint32_t handle, bool fresh,
                                       const OpenContext& context, std::vector<std::string>& findings) const {
  const std::uint64_t ring_size = config().segment_size * config().slots;
  Recovered recovered{nullptr, AuditRecovery({}, attaches_, fences_, number), Position(0), Position(0)};
  if (!is_volatile()) {
    SLUICE_ASSIGN(recovered, recover(number, nullptr, Position(), context, findings));
  }
  // A position is never used twice: nothing that the lost memory may have held comes again.
  Position start(0);
  if (!fresh) {
    SLUICE_ASSIGN(const Position lease, context.store.position_lease(id(), number));
    const Position above(layout::align_up(recovered.used_end.value, config().segment_size) + ring_size);
    start =
        std::max(is_volatile() ? Position(0) : above, Position(layout::align_up(lease.value, config().segment_size)));
  }
  PartitionUnit unit;
  unit.handle = handle;
  unit.lease = start + (is_volatile() ? kVolatileLeaseSize : ring_size);
  SLUICE_TRY(context.store.set_position_lease(id(), number, unit.lease));
  SLUICE_ASSIGN(unit.regions,
                PartitionRegions::create(config(), {partition_name(number), id(), number, handle, context.incarnation},
                                         start, context.budget));
  const Position end = recovered.end;
  SLUICE_TRY(make_partition(unit, number, std::move(recovered), context, {}));
  // With this snapshot in place the next start need not read what this one has read.
  if (!fresh && !is_volatile()) {
    spill::Checkpoint checkpoint = unit.partition->checkpoint_now();
    checkpoint.upto = end;
    SLUICE_TRY(save_checkpoint(context.store, unit, checkpoint));
  }
  return unit;
}

// ---- over kept memory

Topic::Recovered Topic::recover_volatile(const KeptPartition& kept, Position start) {
  Recovered recovered{nullptr, AuditRecovery({}, {}, {}, 0), start, start};
  if (!kept.audit) return recovered;
  recovered.end = kept.audit->upto;
  for (const core::AuditRow& row : kept.audit->rows) recovered.audit.audit().restore(row);
  return recovered;
}

Status Topic::adopt_partition(PartitionNumber number, KeptUnit kept, const OpenContext& context,
                              std::vector<std::string>& findings) {
  PartitionUnit unit;
  unit.handle = kept.note.handle;
  SLUICE_ASSIGN(unit.lease, context.store.position_lease(id(), number));
  const std::string name = partition_name(number);
  SLUICE_ASSIGN(unit.regions, PartitionRegions::adopt(config(), {name, id(), number, unit.handle, context.incarnation},
                                                      std::move(kept.regions), context.budget));
  const ring::PartitionMemory memory = unit.regions->memory(context.wake_fd);
  const Position start(memory.control->start_position);
  Recovered recovered = recover_volatile(kept.note, start);
  if (!is_volatile()) {
    SLUICE_ASSIGN(recovered, recover(number, &kept.note, start, context, findings));
  }
  spill::KeptMemory adopted;
  adopted.resume = std::max(recovered.end, start);
  adopted.last_segment = recovered.last_segment;
  // What was counted was durable. Where nothing was sent yet, both are the memory's start, which no log reaches.
  const Position durable =
      std::max(recovered.audit.counted(), Position(memory.control->durable.load(std::memory_order_acquire)));
  if (adopted.resume < durable)
    return fail(ErrorCode::corrupt, "adopting the memory of " + name + ": " + std::to_string(durable.value) +
                                        " was durable, but its log ends at " + std::to_string(recovered.end.value));
  SLUICE_ASSIGN(adopted.slots, ring::read_kept_slots(memory, id(), number, context.incarnation, adopted.resume));
  if (memory.control->gate.load(std::memory_order_acquire) == static_cast<std::uint32_t>(layout::Gate::poisoned))
    adopted.poison = "it was poisoned before the daemon started anew; see the log of the daemon before";
  if (is_volatile() && kept.note.audit)
    for (const auto& [producer, mark] : kept.note.audit->bookmarks) recovered.audit.note_bookmark(producer, mark);
  SLUICE_TRY(make_partition(unit, number, std::move(recovered), context, adopted));
  partitions_.push_back(std::move(unit));
  return {};
}

// Fences that the daemon before had appended, and not stored yet, stand all the same.
Status Topic::adopt_fences(PartitionUnit& unit, const AuditRecovery& audit, store::Store& store) const {
  std::map<ProducerId, Position> stored = audit.fences();
  const PartitionNumber number = unit.partition->identity().partition;
  for (const auto& [producer, position] : unit.partition->adopt_fences()) {
    if (stored.erase(producer) == 0) SLUICE_TRY(store.add_fence(id(), {number, producer, position}));
  }
  for (const auto& [producer, position] : stored)
    if (position >= unit.partition->earliest()) unit.partition->restore_fence(producer, position);
  return {};
}

void Topic::restore_fences(PartitionUnit& unit, const AuditRecovery& audit) const {
  for (const auto& [producer, position] : audit.fences())
    if (position >= unit.partition->earliest()) unit.partition->restore_fence(producer, position);
}

void Topic::publish_partition_count() const {
  for (const PartitionUnit& unit : partitions_) {
    const ring::PartitionMemory& memory = unit.partition->memory();
    // An exchange, for its full fence: the count comes before the look at the sleepers' flag.
    memory.control->topic_partitions.exchange(static_cast<std::uint32_t>(partitions_.size()),
                                              std::memory_order_seq_cst);
    ring::Bell(memory).published();
    ring::DurableWait::publish(memory, unit.partition->durable());  // readers with durable visibility sleep there
  }
}

Status Topic::renew_leases(store::Store& store) {
  for (PartitionUnit& unit : partitions_) {
    const Position prepared(unit.partition->memory().control->prepared.load(std::memory_order_relaxed));
    if (prepared + kVolatileLeaseSize / 4 < unit.lease) continue;
    const Position lease = unit.lease + kVolatileLeaseSize;
    SLUICE_TRY(store.set_position_lease(id(), unit.partition->identity().partition, lease));
    unit.lease = lease;
  }
  return {};
}

Status Topic::save_checkpoint(store::Store& store, PartitionUnit& unit, const spill::Checkpoint& checkpoint) const {
  SLUICE_TRY(store.save_audit_snapshot(id(), unit.partition->identity().partition, snapshot_of(checkpoint)));
  unit.counted = checkpoint.upto;
  unit.partition->saved(checkpoint);
  return {};
}

}  // namespace sluice::bus
