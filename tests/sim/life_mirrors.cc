// Two copies of the data, of which one at a time is unlucky: its disk fails, tears, rots, comes back and is filled
// again. The other one has nothing but power losses to fear, so that every promise holds without exception.
#include <algorithm>

#include "tests/sim/life.h"

namespace sluice::sim {
namespace {

constexpr std::uint32_t kReapsMax = 10'000;

}  // namespace

void Life::tell_states() const {
  if (!machine_.verbose) return;
  for (const std::string& root : kMirrorRoots) {
    const auto bytes = machine_.media->current_bytes(root + "/" + io::kMirrorStateName);
    if (!bytes) continue;
    std::string text(reinterpret_cast<const char*>(bytes->data()), bytes->size());
    std::erase(text, '\0');
    machine_.tell("  " + root + " says " + text);
  }
}

bool Life::open_mirrors() {
  tell_states();
  const Status opened =
      disk_->open_mirrors(kMirrorRoots, machine_.scenario.queue_depth, [this] { return machine_.random.next(); });
  if (!survived(opened, "opening the copies")) return false;
  const io::MirrorDisk& mirrors = *disk_->mirrors();
  // The power may go while the set is made: then the mirror is new at the next start, and is filled.
  if (!machine_.mirrors_made && !mirrors.is_good(1)) machine_.victim = 1;
  machine_.mirrors_made = true;
  check(mirrors.is_good(1 - machine_.victim), "the copy that nothing happened to is stale");
  stale_before_ = mirrors.copy_count() - mirrors.good_count();
  return true;
}

// Everything is whole on both: from here on the other one may be unlucky.
void Life::choose_victim() {
  machine_.victim = machine_.below(kMirrorRoots.size());
  machine_.tell("unlucky from now on: " + kMirrorRoots[machine_.victim]);
}

void Life::mirrors_step() {
  if (disk_->is_dead()) return;
  const io::MirrorDisk& mirrors = *disk_->mirrors();
  const std::size_t stale = mirrors.copy_count() - mirrors.good_count();
  if (stale > stale_before_) {
    ++machine_.reached.stale;
    machine_.tell("stale: " + mirrors.info()[machine_.victim].reason);
  }
  stale_before_ = stale;
  if (!power_is_off())
    check(mirrors.is_good(1 - machine_.victim),
          "the copy that nothing happened to is stale: " + mirrors.info()[1 - machine_.victim].reason);
  if (machine_.one_in(2))
    fill_some();
  else
    scrub_some();
}

// As bus::MirrorKeeper, but for the store.
void Life::fill_some() {
  io::MirrorDisk& mirrors = *disk_->mirrors();
  const std::size_t victim = machine_.victim;
  if (mirrors.filling() == mirrors.copy_count()) {
    if (mirrors.is_good(victim) || !machine_.one_in(4)) return;
    scrub_.reset();
    static_cast<void>(mirrors.begin_fill(victim).has_value());  // its disk may still be broken: tried again
    return;
  }
  if (!mirrors.fill_failure().empty()) return end_filling();
  for (std::uint64_t i = 0; i <= machine_.below(8); ++i) mirrors.fill_step();
  if (!mirrors.fill_failure().empty() || !mirrors.is_fill_complete()) return;
  if (mirrors.finish_fill()) {
    ++machine_.reached.filled;
    machine_.tell("filled: " + kMirrorRoots[victim]);
    stale_before_ = 0;
  }
}

void Life::end_filling() {
  if (!machine_.mirrored || disk_->is_dead()) return;
  scrub_.reset();
  io::MirrorDisk& mirrors = *disk_->mirrors();
  for (std::uint32_t i = 0; i < kReapsMax && mirrors.filling() != mirrors.copy_count(); ++i) {
    if (mirrors.end_fill("the simulation ends it")) return;
    reap();
  }
  check(mirrors.filling() == mirrors.copy_count() || power_is_off(), "a filling does not end");
}

// ---- scrubs, as bus::Scrub

void Life::scrub_some() {
  if (scrub_ != nullptr) {
    for (std::uint64_t i = 0; i <= machine_.below(4) && scrub_ != nullptr; ++i) static_cast<void>(end_scrub());
    return;
  }
  const Unit& unit = *units_[machine_.below(units_.size())];
  const std::vector<log::ScrubFile> files = unit.partition->log()->scrub_files();
  if (files.empty()) return;
  const log::ScrubFile& file = files[machine_.below(files.size())];
  const std::uint64_t size = topic_.config.segment_size;
  const std::uint64_t segments = (file.end - file.base + size - 1) / size;
  begin_scrub(*unit.partition->log(), file, SegmentNumber(file.base.value / size + machine_.below(segments)));
}

void Life::begin_scrub(const log::PartitionLog& log, const log::ScrubFile& file, SegmentNumber segment) {
  scrub_ = std::make_unique<log::SegmentScrub>(*disk_, log.options(), file, segment);
}

// One step. False: the power went, or the disk is full.
bool Life::end_scrub() {
  const Result<bool> stepped = scrub_->step();
  if (!stepped) {
    scrub_.reset();
    check(power_is_off() || stepped.error().code() == ErrorCode::would_block,
          "a scrub fails: " + stepped.error().message());
    return false;
  }
  if (!*stepped) return true;
  const log::ScrubOutcome outcome = scrub_->take_outcome();
  scrub_.reset();
  if (power_is_off()) return false;
  check(outcome.damaged.empty() && outcome.unreadable.empty(),
        "a scrub finds damage on every copy" + (outcome.damaged.empty()
                                                    ? ": " + outcome.unreadable
                                                    : " @" + std::to_string(outcome.damaged.front().begin.value)));
  if (outcome.mended_bytes != 0) ++machine_.reached.mended;
  for (const std::string& line : outcome.told) machine_.tell("scrub: " + line);
  return true;
}

// At a start: then both copies are whole, if both are good.
bool Life::scrub_all() {
  for (const auto& unit : units_) {
    const log::PartitionLog& log = *unit->partition->log();
    for (const log::ScrubFile& file : log.scrub_files()) {
      for (SegmentNumber segment(file.base.value / topic_.config.segment_size);
           segment.value * topic_.config.segment_size < file.end.value; segment = segment.next()) {
        begin_scrub(log, file, segment);
        while (scrub_ != nullptr)
          if (!end_scrub()) return !power_is_off();
      }
    }
  }
  if (power_is_off()) return false;
  if (disk_->mirrors()->good_count() == kMirrorRoots.size()) choose_victim();
  return true;
}

bool Life::mend_in(log::PartitionLog& log, Position position) {
  if (!machine_.mirrored || disk_->is_dead()) return false;
  scrub_.reset();
  for (const log::ScrubFile& file : log.scrub_files()) {
    if (position < file.base || position >= file.end) continue;
    begin_scrub(log, file, SegmentNumber(position.value / log.options().segment_size));
    while (scrub_ != nullptr)
      if (!end_scrub()) break;
    if (power_is_off()) throw PowerOff();
    return true;
  }
  return false;
}

// ---- misfortune

void Life::mirrors_misfortune() {
  const std::string& root = kMirrorRoots[machine_.victim];
  io::SimDisk& sim = disk_->sim();
  switch (machine_.below(8)) {
    case 0: sim.break_below(root + "/"); return machine_.tell("broken: " + root);
    case 1: sim.inject(io::SimFault::write, 1, EIO, root + "/"); return;
    case 2: sim.inject(io::SimFault::sync, 1, EIO, root + "/"); return;
    case 3: sim.inject(io::SimFault::read, 1 + static_cast<std::uint32_t>(machine_.below(4)), EIO, root + "/"); return;
    case 4: sim.inject(io::SimFault::write_synced, 1, EIO, root + "/"); return;
    case 5: sim.heal(); return sim.break_below({});
    default: rot();
  }
}

// A bit of any of its files.
void Life::rot() {
  if (!disk_->mirrors()->is_good(machine_.victim)) return;
  const std::string directory =
      kMirrorRoots[machine_.victim] + "/topics/t/" + std::to_string(machine_.below(units_.size()));
  const auto names = disk_->sim().list(directory);
  if (!names || names->empty()) return;
  const std::string path = directory + "/" + (*names)[machine_.below(names->size())];
  const auto bytes = machine_.media->current_bytes(path);
  if (!bytes || bytes->empty()) return;
  const auto used = std::find_if(bytes->rbegin(), bytes->rend(), [](std::byte b) { return b != std::byte{0}; });
  const auto size = static_cast<std::uint64_t>(used.base() - bytes->begin());
  if (size == 0) return;
  const std::uint64_t offset = machine_.below(size);
  if (!machine_.media->flip_bit(path, offset, static_cast<unsigned>(machine_.below(8)))) return;
  ++machine_.reached.rotten_bits;
  machine_.tell("rot: " + path + " at " + std::to_string(offset));
}

}  // namespace sluice::sim
