#include "tests/sim/life.h"

#include <algorithm>
#include <utility>

#include "shm/layout/segment.h"

namespace sluice::sim {
namespace {

constexpr std::uint32_t kDrainTurnsMax = 20'000;
constexpr std::uint64_t kRoomToSpare = std::uint64_t{1} << 40;

}  // namespace

bool Life::run(std::uint32_t steps) {
  if (machine_.one_in(2)) disk_->sim().cut_power_after(1 + machine_.below(std::uint64_t{steps} * 2));
  for (std::uint32_t i = 0; i < steps; ++i) {
    step();
    if (power_is_off()) return false;
  }
  return true;
}

void Life::step() {
  machine_.now_ns += machine_.one_in(40) ? machine_.below(2'000'000'000) : machine_.below(2'000'000);
  if (machine_.mirrored && machine_.one_in(3)) return mirrors_step();
  const std::uint64_t who = machine_.below(100);
  if (who < 45) return producer_step();
  if (who < 72) return turn(*units_[machine_.below(units_.size())]);
  if (who < 90) {
    reap();
    return;
  }
  if (who < 98) return read_some(*units_[machine_.below(units_.size())]);
  misfortune();
}

void Life::misfortune() {
  if (disk_->is_dead()) return;
  if (machine_.mirrored && machine_.one_in(2)) return mirrors_misfortune();
  switch (machine_.below(8)) {
    case 0:
      if (!machine_.scenario.tight_disk) return;
      machine_.tell("the disk is full");
      ++machine_.reached.full_disks;
      machine_.media->set_capacity(0);
      return;
    case 1:
    case 2: machine_.media->set_capacity(kRoomToSpare); return;
    case 3:  // no more than one write puts up with
      if (!std::exchange(short_writes_, true)) disk_->sim().inject(io::SimFault::short_write, 2);
      return;
    case 4:
      if (!machine_.scenario.faulty_disk || machine_.mirrored) return;
      machine_.tell("a sync will fail");
      disk_fault_ = true;
      disk_->sim().inject(io::SimFault::sync, 1);
      return;
    case 5:
      if (!machine_.scenario.faulty_disk || machine_.mirrored) return;
      machine_.tell("a write will fail");
      disk_fault_ = true;
      disk_->sim().inject(io::SimFault::write, 1);
      return;
    case 6: units_[machine_.below(units_.size())]->partition->flush_now(); return;
    default: new_producer();
  }
}

// ---- the daemon

void Life::turn(Unit& unit) {
  const spill::WorkResult work = unit.partition->do_work(machine_.now_ns);
  if (!work.progressed) {
    check(work.deadline_ns == 0 || work.deadline_ns > machine_.now_ns,
          "do_work asks for a turn at once, and does nothing");
    check(!unit.partition->do_work(machine_.now_ns).progressed, "do_work does nothing at first, and something then");
  }
  observe(unit);
  if (auto checkpoint = unit.partition->take_checkpoint()) save(unit, *checkpoint);
}

bool Life::reap() {
  std::array<io::Completion, 8> completions;
  const std::span<io::Completion> into(completions.data(), disk_->is_dead() ? 8 : 1 + machine_.below(8));
  bool any = false;
  for (std::size_t count = disk_->reap(into); count != 0; count = disk_->is_dead() ? disk_->reap(into) : 0) {
    any = true;
    for (const io::Completion& completion : into.first(count))
      units_[completion.token >> 32]->partition->on_completion(completion, machine_.now_ns);
    // Behind all of them: what throws here must leave none undelivered.
    if (disk_->is_dead()) continue;
    for (auto& unit : units_) observe(*unit);
  }
  return any;
}

// What anybody may see after each step of the daemon.
void Life::observe(Unit& unit) {
  const spill::Partition& partition = *unit.partition;
  const layout::ControlRegion& control = *unit.memory().control;
  const Position durable(control.durable.load(std::memory_order_acquire));
  const Position prepared(control.prepared.load(std::memory_order_acquire));
  check(durable == partition.durable(), "the published watermark is not the daemon's");
  check(durable <= partition.frontier(), "durable lies above the frontier");
  check(partition.frontier() <= prepared, "the frontier lies above what is prepared");
  if (!unit.poisoned_at && partition.gate() == layout::Gate::poisoned) {
    unit.poisoned_at = durable;
    if (!power_is_off()) ++machine_.reached.poisoned;
    check(disk_fault_ || power_is_off(), "a healthy disk's partition is poisoned: " + partition.reason());
  }
  check(!unit.poisoned_at || durable == *unit.poisoned_at, "a poisoned partition's watermark moves");
  // Where nothing but a segment's header lies below it a recovery may end at the segment's start.
  const bool lone_header = durable.value % topic_.config.segment_size == layout::kSegmentHeaderSize;
  unit.truth->on_durable(lone_header ? durable - layout::kSegmentHeaderSize : durable);
  unit.truth->on_prepared(prepared);
}

// ---- a clean stop

bool Life::stop() {
  machine_.media->set_capacity(kRoomToSpare);
  end_filling();
  while (!producers_.empty()) {
    Producer& producer = producers_.back();
    if (producer.open && !producer.dead) producer.appenders[producer.open->partition]->abort(producer.open->claim);
    bury(producer);
    producers_.pop_back();
  }
  for (auto& unit : units_) {
    pins_.cell(63 - unit->number).store(0);
    if (unit->partition->gate() == layout::Gate::open) unit->partition->close_gate(layout::Gate::closing);
    unit->partition->flush_now();
  }
  if (!drain("a clean stop")) return false;
  for (auto& unit : units_) {
    if (machine_.keeps_memory && !check_complete(*unit)) return false;
    if (!save(*unit, unit->partition->checkpoint_now())) return false;
    if (!survived(unit->partition->log()->close(), "closing the log")) return false;
  }
  return true;
}

bool Life::drain(const std::string& why) {
  for (std::uint32_t i = 0; i < kDrainTurnsMax; ++i) {
    bool settled = true;
    for (auto& unit : units_) {
      turn(*unit);
      if (power_is_off() || unit->partition->gate() == layout::Gate::poisoned) return false;
      unit->partition->flush_now();
      settled &= unit->partition->is_idle() && unit->partition->everything_durable();
    }
    if (settled) return true;
    reap();
    if (power_is_off()) return false;
    machine_.now_ns += 1'000'000;
  }
  throw Failure(why + " does not end: something is never written");
}

// ---- a run

Machine::Machine(std::uint64_t seed_number, bool tell_all, Variant variant)
    : seed(seed_number),
      verbose(tell_all),
      mirrored(variant.mirrored),
      keeps_memory(variant.keeps_memory),
      delays(variant.delays),
      random(seed_number),
      scenario([this] {
        Scenario chosen;
        chosen.topic.name = "t";
        chosen.topic.partitions = 1 + static_cast<std::uint32_t>(below(3));
        chosen.topic.segment_size = kSegmentSizeMin;
        chosen.topic.slots = kSlotsMin + static_cast<std::uint32_t>(below(2));
        chosen.topic.durability = one_in(2) ? core::Durability::sync : core::Durability::async;
        chosen.segments_per_file = 1 + static_cast<std::uint32_t>(below(3));
        chosen.flush_interval_ns = 1'000'000 * (1 + below(20));
        chosen.checkpoint_segments = 1 + below(4);
        chosen.queue_depth = one_in(4) ? 1 + static_cast<std::uint32_t>(below(3)) : 64;
        chosen.delay_reaps_max = static_cast<std::uint32_t>(below(6));
        chosen.producers = 1 + static_cast<std::uint32_t>(below(4));
        chosen.lives = 2 + static_cast<std::uint32_t>(below(4));
        if (keeps_memory) chosen.lives += static_cast<std::uint32_t>(below(5));
        chosen.tight_disk = one_in(4);
        chosen.faulty_disk = one_in(8);
        return chosen;
      }()),
      media(std::make_shared<io::SimMedia>(random.next())),
      store(random.next()),
      truths(scenario.topic.partitions) {}

void Machine::tell(const std::string& what) const {
  if (verbose) std::fprintf(stderr, "%14llu  %s\n", static_cast<unsigned long long>(now_ns), what.c_str());
}

namespace {

void lose_power(Machine& machine) {
  machine.tell("the power goes");
  machine.memory.reset();
  machine.media->power_loss();
  machine.store.lose_power();
  machine.media->set_capacity(kRoomToSpare);
}

// True if this life has ended so. (What has stopped half-way may lose its power.)
bool leaves_memory(Machine& machine, Life& life) {
  if (!machine.keeps_memory || machine.one_in(3) || life.disk_has_failed()) return false;
  if (machine.one_in(4)) {
    if (!life.stop_and_leave()) {
      ++machine.reached.power_losses;
      life.kill();
      lose_power(machine);
      return true;
    }
    ++machine.reached.stops_that_leave;
  } else {
    life.kill_and_leave();
  }
  ++machine.reached.adoptions;
  return true;
}

}  // namespace

void run_seed(Machine& machine) {
  for (std::uint32_t number = 0; number <= machine.scenario.lives; ++number) {
    const bool last = number == machine.scenario.lives;
    // Power loss in the middle of recovery, more than once.
    for (std::uint32_t attempt = 0;; ++attempt) {
      Life life(machine);
      machine.tell("life " + std::to_string(number));
      if (life.adopts()) life.away();
      if (life.start(attempt < 4 && !last)) {
        const bool powered = last || life.run(20 + static_cast<std::uint32_t>(machine.below(300)));
        const std::uint64_t end = machine.below(4);
        if (powered && !last && leaves_memory(machine, life)) break;
        if (powered && (end == 0 || last) && life.stop()) {
          machine.tell("a clean stop");
          ++machine.reached.clean_stops;
        } else if (powered && end == 1 && !life.disk_has_failed()) {
          machine.tell("kill -9");
          ++machine.reached.kills;
          life.kill();
        } else {
          ++machine.reached.power_losses;
          life.kill();
          lose_power(machine);
        }
        break;
      }
      if (life.was_killed()) {
        ++machine.reached.killed_in_adoption;
        life.kill_and_leave();
        continue;
      }
      ++machine.reached.losses_in_recovery;
      life.kill();
      lose_power(machine);
    }
  }
}

}  // namespace sluice::sim
