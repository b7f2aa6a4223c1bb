// A spill::Partition over a simulated disk, with producers, for one test.
// Owner: one test. The clock stands still but for advance().
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "daemon/spill/partition.h"
#include "tests/daemon/spill/rig.h"
#include "tests/sim/process_disk.h"

namespace sluice::spill::test {

using ring::test::bytes;
using ring::test::Seen;

// Counts what is asked of the disk.
class CountingDisk final : public sim::ProcessDisk {
 public:
  using ProcessDisk::ProcessDisk;
  bool submit_sync(io::FileId file, std::uint64_t token) override {
    const bool accepted = ProcessDisk::submit_sync(file, token);
    syncs += accepted ? 1 : 0;
    return accepted;
  }
  std::uint32_t syncs = 0;
};

struct RigOptions {
  core::TopicConfig topic;
  std::uint32_t segments_per_file = 2;
  std::uint64_t flush_interval_ns = 5'000'000;
  std::uint32_t queue_depth = 64;
  std::uint32_t delay_reaps_max = 0;  // completions come late, and in any order
  std::uint64_t backing_limit = UINT64_MAX;

  static RigOptions of(core::Durability durability) {
    RigOptions options;
    options.topic.name = "t";
    options.topic.durability = durability;
    options.topic.segment_size = kSegmentSizeMin;
    options.topic.slots = kSlotsMin;
    return options;
  }
};

class SpillRig {
 public:
  explicit SpillRig(RigOptions options);
  ~SpillRig();

  Partition& partition() { return *partition_; }
  layout::ControlRegion& control() { return *regions_.memory().control; }
  std::atomic<std::uint64_t>& regions_tail() { return regions_.memory().log->tail; }
  // The record header at a position in memory.
  layout::RecordHeader* header_at(Position position);
  const PartitionIdentity& identity() { return partition_->identity(); }

  // A producer, alive from its first use on.
  ring::Appender& producer(std::uint32_t id);
  // Appends text; the test fails if it does not fit.
  ring::Appended send(std::uint32_t id, const std::string& text, const std::string& bookmark = {});
  ring::Appended send_delayed(std::uint32_t id, const std::string& text, std::uint64_t due_ns);
  // Appends a ref as the daemon does, and as a hostile producer can.
  ring::Appended send_ref(std::uint32_t id, Position reference);
  // What the refs that still lie in memory mean, by their order.
  std::vector<Position> refs();
  // The wall clock's time, which moves with now_ns.
  std::uint64_t wall_ns() const { return kWallStartNs + now_ns; }
  static constexpr std::uint64_t kWallStartNs = 1'700'000'000'000'000'000;
  // Appends text of that size until there is no room. Returns how many.
  std::uint32_t fill(std::uint32_t id, std::size_t size);
  ring::OpenClaim claim(std::uint32_t id, std::uint32_t size);

  WorkResult work() { return partition_->do_work(now_ns); }
  void reap();
  // Turns and completions until nothing moves any more; flushes at once if asked to. Fails if that never comes.
  void settle(bool flush = true);
  void advance(std::uint64_t ns) { now_ns += ns; }
  core::AuditCounts audit(std::uint32_t id);

  // What a power loss now leaves, as recovery finds it: payloads by position.
  struct Recovered {
    log::RecoveryReport report;
    std::vector<std::string> payloads;  // of the records
    std::vector<Seen> seen;             // aborts too
  };
  // Ends the partition's life.
  Recovered lose_power_and_recover();

  // The daemon of a poisoned partition dies, and the next one goes on in its memory.
  void kill_and_adopt_poisoned();

  std::uint64_t now_ns = 1'000'000'000;
  FakeAttached attached;
  PinArray pins;
  CountedMemory backing;
  std::unique_ptr<CountingDisk> disk;

 private:
  void end();
  log::LogOptions log_options() const;

  const RigOptions options_;
  std::shared_ptr<io::SimMedia> media_;
  HeapRegions regions_;
  std::unique_ptr<Partition> partition_;
  std::map<std::uint32_t, std::unique_ptr<ring::Appender>> producers_;
};

}  // namespace sluice::spill::test
