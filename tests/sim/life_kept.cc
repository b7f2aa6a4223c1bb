// Memory that is kept: a life leaves it, its clients go on, and the next one adopts it, as Bus::adopt and
// Topic::adopt_partition do.
#include "daemon/bus/kept_audit.h"
#include "shm/ring/kept_slots.h"
#include "tests/sim/life.h"
#include "tests/sim/log_walk.h"

namespace sluice::sim {
namespace {

constexpr std::uint64_t kAwayStepsMax = 40;
constexpr std::uint64_t kMeanwhileStepsMax = 6;  // while an adoption looks at something
constexpr std::uint64_t kStopTurnsMax = 300;

}  // namespace

void Life::Notes::note(std::uint32_t handle, const spill::Checkpoint& checkpoint) {
  if (life_.disk_->is_dead()) return;
  life_.memory_->places[handle - 1]->note = bus::encode_checkpoint(checkpoint);
}

// ---- without a daemon

void Life::clients_step() {
  machine_.now_ns += machine_.below(2'000'000);
  if (machine_.one_in(6)) {
    read_memory(*units_[machine_.below(units_.size())]);
    return;
  }
  producer_step();
}

void Life::away() {
  for (std::uint64_t steps = machine_.below(kAwayStepsMax); steps > 0; --steps) clients_step();
}

void Life::meanwhile() {
  for (std::uint64_t steps = machine_.below(kMeanwhileStepsMax); steps > 0; --steps) clients_step();
}

// ---- leaving

void Life::leave() {
  const Memory::Image image = memory_->image();
  kill();
  reap();
  units_.clear();
  memory_->restore(image);
  machine_.memory = std::move(memory_);
}

void Life::kill_and_leave() {
  machine_.tell("kill -9, the memory is kept");
  leave();
}

// As Bus::begin_stop, drained and finish_stop with a keeper.
bool Life::stop_and_leave() {
  serves_ = false;
  end_filling();
  for (auto& unit : units_) {
    unit->partition->close_gate(layout::Gate::closing);
    unit->partition->flush_now();
  }
  for (std::uint64_t turns = 1 + machine_.below(kStopTurnsMax); turns > 0; --turns) {
    bool drained = true;
    for (auto& unit : units_) {
      turn(*unit);
      if (power_is_off()) return false;
      drained &=
          unit->partition->is_idle() && !unit->partition->has_open_claims() && unit->partition->everything_durable();
    }
    if (drained) break;
    reap();
    if (machine_.one_in(4)) clients_step();
    if (power_is_off()) return false;
  }
  for (auto& unit : units_) {
    if (!unit->partition->everything_durable() || unit->partition->has_open_claims()) continue;
    if (!save(*unit, unit->partition->checkpoint_now())) return false;
  }
  machine_.tell("a stop, the memory is kept");
  leave();
  return true;
}

// ---- adopting

bool Life::dies_now() {
  if (dies_after_ == 0 || --dies_after_ != 0 || power_is_off()) return false;
  machine_.tell("killed while it starts");
  was_killed_ = true;
  return true;
}

bool Life::adopt_partition(PartitionNumber number) {
  Unit& unit = *units_[number];
  const ring::PartitionMemory memory = unit.memory();
  std::optional<bus::AuditRecovery> audit;
  std::unique_ptr<log::PartitionLog> log;
  log::RecoveryReport report;
  if (!recover(number, audit, log, report)) return false;
  check(report.damaged.empty(), "an adoption calls rot what was never durable");
  std::vector<Found> found;
  if (!walk(number, *log, found)) return false;
  unit.truth->check_adopted(found, report.end);
  unit.truth->check_audit(audit->audit().rows());
  machine_.reached.waiting_found += unit.truth->check_delays(audit->waiting().delays);
  machine_.reached.delivered_found += unit.truth->ref_count();
  machine_.tell("adopted partition " + std::to_string(number) + " from " + std::to_string(report.end.value));
  meanwhile();
  if (dies_now()) return false;

  spill::KeptMemory kept;
  const Position start(memory.control->start_position);
  kept.resume = std::max(report.end, start);
  kept.last_segment = report.last_segment;
  check(kept.resume.value >= memory.control->durable.load(), "what was durable is not in the log of kept memory");
  auto slots = ring::read_kept_slots(memory, topic_.id, number, memory_->incarnation, kept.resume);
  check(slots.has_value(), "kept memory is not adopted: " + (slots ? std::string() : slots.error().message()));
  kept.slots = std::move(*slots);
  meanwhile();
  if (dies_now()) return false;

  make_partition(unit, std::move(log), *audit, kept);
  if (!adopt_fences(unit, *audit)) return false;
  unit.partition->restore(audit->bookmarks(), audit->time_max_ns());
  audit->continue_names(*unit.partition);
  observe(unit);
  return !dies_now();
}

// As Topic::adopt_fences.
bool Life::adopt_fences(Unit& unit, const bus::AuditRecovery& audit) {
  std::map<ProducerId, Position> stored = audit.fences();
  for (const auto& [producer, position] : unit.partition->adopt_fences()) {
    if (stored.erase(producer) != 0) continue;
    if (!survived(store_->add_fence(topic_.id, {unit.number, producer, position}), "saving a fence")) return false;
  }
  for (const auto& [producer, position] : stored)
    if (position >= unit.partition->earliest()) unit.partition->restore_fence(producer, position);
  return true;
}

// After a clean stop: nothing of what was committed in this memory is missing, or counted twice.
bool Life::check_complete(Unit& unit) {
  std::vector<Found> found;
  if (!walk(unit.number, *unit.partition->log(), found)) return false;
  unit.truth->check_complete(found);
  unit.truth->check_audit(unit.partition->audit().rows());
  unit.truth->check_delays(unit.partition->delays());
  return true;
}

}  // namespace sluice::sim
