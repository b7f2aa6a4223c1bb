#include <algorithm>

#include "daemon/bus/kept_audit.h"
#include "shm/layout/record.h"
#include "tests/sim/life.h"
#include "tests/sim/log_walk.h"

namespace sluice::sim {
namespace {

constexpr std::uint32_t kOpenAttemptsMax = 10'000;  // while a dead predecessor's writes land

}  // namespace

Life::Life(Machine& machine)
    : machine_(machine),
      memory_(machine.memory ? std::move(machine.memory) : std::make_unique<Memory>()),
      adopts_(!memory_->places.empty()) {
  const std::uint32_t depth = machine.scenario.queue_depth;
  disk_ = std::make_unique<ProcessDisk>(
      io::SimDisk::Options{machine.random.next(),
                           machine.mirrored ? io::MirrorDisk::inner_queue_depth(depth, kMirrorRoots.size()) : depth,
                           machine.scenario.delay_reaps_max},
      machine.media);
  store_losses_ = machine.store.power_losses();
  if (adopts_) half_fenced_before_ = machine.half_fenced;
  // Clients are in them already.
  for (const auto& place : memory_->places) add_unit(*place);
}

Life::Unit& Life::add_unit(Place& place) {
  auto unit = std::make_unique<Unit>();
  unit->place = &place;
  unit->number = static_cast<PartitionNumber>(units_.size());
  unit->truth = &machine_.truths[unit->number];
  return *units_.emplace_back(std::move(unit));
}

Life::~Life() {
  kill();
  // Requests end, badly; then everything may go.
  reap();
  units_.clear();
}

void Life::kill() {
  // What the objects do while they are taken apart is no time of the simulation: the power does not go in it.
  if (!power_is_off()) disk_->sim().cut_power_after(0);
  scrub_.reset();
  disk_->die();
  store_.reset();
}

bool Life::power_is_off() {
  if (disk_->is_dead() || disk_->sim().power_is_off() || machine_.store.power_losses() != store_losses_)
    power_went_ = true;
  return power_went_;
}

// True if it went well, false if the power went; anything else is a failure.
bool Life::survived(const Status& status, const std::string& doing) {
  if (power_is_off()) return false;
  check(status.has_value(), doing + " fails: " + (status ? std::string() : status.error().message()));
  return true;
}

bool Life::start(bool may_end) {
  if (may_end && machine_.one_in(2)) disk_->sim().cut_power_after(1 + machine_.below(60));
  if (may_end && machine_.one_in(4)) machine_.store.lose_power_in(1 + machine_.below(8));
  if (adopts_ && may_end && machine_.one_in(4)) dies_after_ = 1 + machine_.below(3 * std::uint64_t{units_.size()});
  auto opened = machine_.store.open();
  check(opened.has_value(), "the store does not open");
  store_ = std::move(*opened);
  if (machine_.mirrored && !open_mirrors()) return false;
  if (!open_topic()) return false;
  for (PartitionNumber number = 0; number < topic_.config.partitions; ++number)
    if (!(adopts_ ? adopt_partition(number) : open_partition(number))) return false;
  if (machine_.mirrored && !scrub_all()) return false;
  if (!fresh_ && !adopts_ && !survived(store_->forget_former_producers(topic_.id), "forgetting former producers"))
    return false;
  serves_ = true;
  for (std::uint32_t cell = 0; !adopts_ && cell < machine_.scenario.producers; ++cell) {
    const std::string name = machine_.one_in(3) ? "name" + std::to_string(next_name_++) : std::string();
    if (!add_producer(cell, name)) return false;
  }
  return true;
}

bool Life::open_topic() {
  if (!adopts_) {
    const auto incarnation = store_->next_incarnation();
    if (!survived(incarnation ? Status() : Status(fail(incarnation.error())), "taking an incarnation")) return false;
    memory_->incarnation = *incarnation;
  }
  auto topics = store_->topics();
  if (topics && topics->empty()) {
    const auto created = store_->create_topic(machine_.scenario.topic, 1);
    if (!survived(created ? Status() : Status(fail(created.error())), "creating the topic")) return false;
    fresh_ = true;
    topics = store_->topics();
  }
  if (!survived(topics ? Status() : Status(fail(topics.error())), "reading the topics")) return false;
  topic_ = topics->front();
  auto names = store_->named_producers(topic_.id);
  auto fences = store_->fences(topic_.id);
  if (power_is_off()) return false;
  names_ = *names;
  fences_ = *fences;
  // An attach may have been saved although the call failed.
  for (const store::NamedProducer& named : names_) {
    std::vector<ProducerId>& ids = machine_.attaches[named.name];
    if (ids.empty() || ids.back() < named.id) ids.push_back(named.id);
  }
  return true;
}

bool Life::recover(PartitionNumber number, std::optional<bus::AuditRecovery>& audit,
                   std::unique_ptr<log::PartitionLog>& log, log::RecoveryReport& report) {
  auto snapshot = store_->audit_snapshot(topic_.id, number);
  if (!survived(snapshot ? Status() : Status(fail(snapshot.error())), "reading the audit snapshot")) return false;
  if (adopts_ && !memory_->places[number]->note.empty()) {
    const auto note = bus::decode_checkpoint(memory_->places[number]->note);
    check(note.has_value(), "a note is damaged");
    if (note->upto > snapshot->upto) {
      core::DelaySnapshot delays = std::move(snapshot->delays);
      snapshot = bus::snapshot_of(*note);
      if (!note->delays_changed) delays.upto = snapshot->upto;
      snapshot->delays = std::move(delays);
    }
  }
  log::LogOptions options;
  options.directory = "/data/topics/t/" + std::to_string(number);
  options.name = "t/" + std::to_string(number);
  options.topic = topic_.id;
  options.partition = number;
  options.segment_size = topic_.config.segment_size;
  options.segments_per_file = machine_.scenario.segments_per_file;
  options.memory_kept = adopts_;
  if (adopts_) options.memory_start = Position(memory_->places[number]->regions->memory().control->start_position);
  tell_files(options.directory);
  for (std::uint32_t attempt = 0;; ++attempt) {
    audit.emplace(*snapshot, names_, fences_, number);
    report = {};
    auto opened = log::PartitionLog::open(
        *disk_, options, std::min(snapshot->upto, snapshot->delays.upto),
        [&](Position position, const layout::RecordFields& fields, std::span<const std::byte> trailer) {
          audit->visit(position, fields, trailer);
        },
        report);
    const bool in_use = !opened && opened.error().code() == ErrorCode::in_use && !power_is_off();
    if (in_use && attempt < kOpenAttemptsMax) continue;
    if (!survived(opened ? Status() : Status(fail(opened.error())), "recovering " + options.name)) return false;
    log = std::move(*opened);
    break;
  }
  check(!adopts_ || std::max(report.end, options.memory_start) >= snapshot->upto,
        "the log of kept memory ends below what was counted as durable");
  audit->finish(!adopts_);
  return true;
}

// All that is on disk. False: the power went.
bool Life::walk(PartitionNumber number, log::PartitionLog& log, std::vector<Found>& found) {
  try {
    found = walk_all(log, topic_.config.segment_size, [&](Position position) { return mend_in(log, position); });
  } catch (const PowerOff&) {
    return false;
  }
  if (power_is_off()) return false;
  for (const Found& each : found)
    machine_.tell("  found in partition " + std::to_string(number) + " @" + std::to_string(each.position.value) +
                  " producer " + std::to_string(each.producer.value) + " sequence " +
                  std::to_string(each.sequence.value) + (each.aborted ? " aborted" : ""));
  return true;
}

void Life::tell_files(const std::string& directory) {
  if (!machine_.verbose || power_is_off()) return;
  const auto names = disk_->list(directory);
  if (!names) return;
  for (const std::string& name : *names) {
    const auto bytes = machine_.media->current_bytes(directory + "/" + name);
    const std::size_t size = bytes ? bytes->size() : 0;
    const auto used =
        bytes ? std::find_if(bytes->rbegin(), bytes->rend(), [](std::byte b) { return b != std::byte{0}; }).base() -
                    bytes->begin()
              : 0;
    machine_.tell("  file " + directory + "/" + name + " of " + std::to_string(size) + " bytes, used up to " +
                  std::to_string(used));
  }
}

bool Life::open_partition(PartitionNumber number) {
  Truth& truth = machine_.truths[number];
  std::optional<bus::AuditRecovery> audit;
  std::unique_ptr<log::PartitionLog> log;
  log::RecoveryReport report;
  if (!recover(number, audit, log, report)) return false;
  check(
      report.damaged.empty(),
      "recovery calls rot what the power took: " + (report.damaged.empty() ? std::string() : report.damaged[0].reason) +
          " @" + (report.damaged.empty() ? std::string() : std::to_string(report.damaged[0].begin.value)));
  std::vector<Found> found;
  if (!walk(number, *log, found)) return false;
  const std::size_t before = truth.message_count();
  truth.check_recovered(found, report.end);
  truth.check_audit(audit->audit().rows());
  machine_.reached.waiting_found += truth.check_delays(audit->waiting().delays);
  machine_.reached.delivered_found += truth.ref_count();
  machine_.reached.cut_messages += before - truth.message_count();
  machine_.tell("recovered partition " + std::to_string(number) + " up to " + std::to_string(report.end.value) + ", " +
                std::to_string(truth.message_count()) + " of " + std::to_string(before) + " messages");

  const std::uint64_t ring_size = topic_.config.segment_size * topic_.config.slots;
  Position start(0);
  if (!fresh_) {
    const auto lease = store_->position_lease(topic_.id, number);
    if (!survived(lease ? Status() : Status(fail(lease.error())), "reading the lease")) return false;
    start = std::max(Position(layout::align_up(report.end.value, topic_.config.segment_size) + ring_size), *lease);
  }
  if (!survived(store_->set_position_lease(topic_.id, number, start + ring_size), "leasing positions")) return false;
  Place& place = *memory_->places.emplace_back(std::make_unique<Place>());
  place.regions = std::make_unique<spill::test::HeapRegions>(topic_.config, number + 1, start);
  place.cursor = log->earliest();
  Unit& unit = add_unit(place);
  truth.on_life(start);
  make_partition(unit, std::move(log), *audit, {});
  for (const auto& [producer, position] : audit->fences())
    if (position >= unit.partition->earliest()) unit.partition->restore_fence(producer, position);
  unit.partition->restore(audit->bookmarks(), audit->time_max_ns());
  spill::Checkpoint checkpoint = unit.partition->checkpoint_now();
  checkpoint.upto = report.end;
  return fresh_ || save(unit, checkpoint);
}

void Life::make_partition(Unit& unit, std::unique_ptr<log::PartitionLog> log, bus::AuditRecovery& audit,
                          const std::optional<spill::KeptMemory>& kept) {
  unit.partition = std::make_unique<spill::Partition>(
      unit.memory(), topic_.config,
      spill::PartitionIdentity{"t/" + std::to_string(unit.number), topic_.id, unit.number, memory_->incarnation},
      spill::Environment{disk_.get(), &pins_, &unit.place->pages, &attached_, machine_.keeps_memory ? &notes_ : nullptr,
                         nullptr, [this] { return machine_.now_ns; }},
      std::move(log), std::move(audit.audit()),
      spill::PartitionOptions{machine_.scenario.flush_interval_ns, std::uint64_t{unit.number} << 32,
                              machine_.scenario.checkpoint_segments},
      kept, std::move(audit.waiting()));
}

bool Life::save(Unit& unit, const spill::Checkpoint& checkpoint) {
  if (!survived(store_->save_audit_snapshot(topic_.id, unit.number, bus::snapshot_of(checkpoint)),
                "saving an audit snapshot"))
    return false;
  unit.partition->saved(checkpoint);
  return true;
}

}  // namespace sluice::sim
