// Power is cut at random moments of many lives of one log: while it writes, syncs, rolls over, trims, recovers. After
// each cut, everything below the durable position must be there byte for byte, and nothing may be served that does not
// hold.
//
// Replay: SLUICE_SEED=N daemon_log_power_loss_test
#include <cstdlib>
#include <map>
#include <random>

#include <gtest/gtest.h>

#include "daemon/io/sim_disk.h"
#include "daemon/log/partition_log.h"
#include "tests/daemon/log/log_rig.h"

namespace sluice::log {
namespace {

constexpr std::uint64_t kSeeds = 400;
constexpr int kLives = 6;

class PowerLossRun {
 public:
  explicit PowerLossRun(std::uint64_t seed) : random_(seed), disk_({.seed = seed, .delay_reaps_max = 4}) {}

  std::uint64_t reused() const { return reused_; }
  void run() {
    for (std::uint64_t life = 1; life <= kLives && !testing::Test::HasFailure(); ++life) {
      live(life);
      disk_.power_loss();
      while (below(3) == 0) interrupted_open();
      check();
    }
  }

 private:
  std::uint64_t below(std::uint64_t limit) { return random_() % limit; }

  // Ends when the power goes, or after some steps.
  void live(std::uint64_t life) {
    if (below(2) == 0) disk_.cut_power_after(1 + below(400));
    RecoveryReport report;
    auto log = PartitionLog::open(disk_, options_, Position(), {}, report);
    if (!log) return;
    const Position start = next_start(report, options_);
    EXPECT_GT(start, started_) << "positions that may have been given out are used again";
    if ((*log)->target(start)) started_ = start;
    LogWriter writer(disk_, **log, options_, life, start);
    // Long ones come to files that were others before.
    const bool lasting = below(4) == 0;
    trims_one_in_ = lasting ? 1 : 6;
    const std::uint64_t steps = 1 + below(lasting ? 200 : 40);
    bool fine = true;
    for (std::uint64_t step = 0; fine && step < steps; ++step) fine = take_step(**log, writer);
    for (const RigRecord& record : writer.records()) written_[record.position] = record;
    if (!writer.records().empty() && (*log)->end() > start) durable_ = std::max(durable_, (*log)->end());
    if (fine && below(8) == 0) fine = writer.drain() && (*log)->close().has_value();
    forget(std::move(*log));
  }

  bool take_step(PartitionLog& log, LogWriter& writer) {
    switch (below(8)) {
      case 0: return writer.submit_writes(below(2) == 0);
      case 1: return writer.drain() && writer.sync();
      case 2: {
        const bool prepared = log.prepare_next(writer.end()).has_value();
        if (const auto target = log.target(writer.end()); target) reused_ += target->reused;
        return prepared || !disk_.power_is_off();
      }
      case 3: return trim(log);
      default: writer.append_some(1 + below(kRigSegmentSize / 2), random_()); return true;
    }
  }

  bool trim(PartitionLog& log) {
    if (below(trims_one_in_) != 0) return true;
    const auto trimmed = log.retain({.bytes = 3 * kRigFileSize}, 0, log.end());
    // A removal that the power cut off may or may not have happened.
    trimmed_ = std::max(trimmed_, trimmed ? trimmed->trimmed : log.end());
    return trimmed.has_value();
  }

  // Recovery must end well no matter how often it was cut off.
  void interrupted_open() {
    disk_.cut_power_after(1 + below(40));
    RecoveryReport report;
    auto log = PartitionLog::open(disk_, options_, Position(), {}, report);
    if (log) forget(std::move(*log));
    disk_.power_loss();
  }

  void check() {
    const Opened opened = open_log(disk_, options_);
    EXPECT_GE(opened.report.end, durable_);
    EXPECT_TRUE(opened.report.damaged.empty()) << opened.report.damaged.front().reason;
    const Served served = serve(*opened.log, options_, Position(0));
    EXPECT_EQ(served.damage, std::vector<std::string>());
    std::map<Position, const RigRecord*> by_position;
    for (const RigRecord& record : served.records) {
      by_position[record.position] = &record;
      const auto found = written_.find(record.position);
      if (found == written_.end()) {
        ADD_FAILURE() << "served what was never written at " << record.position.value;
        return;
      }
      EXPECT_TRUE(record == found->second) << "other bytes at " << record.position.value;
    }
    for (const auto& [position, record] : written_) {
      const bool kept = position >= trimmed_ && position + record.claim.span_size() <= durable_;
      if (kept && !by_position.contains(position)) {
        ADD_FAILURE() << "position " << position.value << " was durable and is gone";
        return;
      }
    }
    EXPECT_EQ(opened.visited.size(), served.records.size());
    // What a power loss took is gone for good, and never comes back; what it left was recovered, and stays.
    if (!served.records.empty())
      durable_ = std::max(durable_, served.records.back().position + served.records.back().claim.span_size());
    std::erase_if(written_, [&](const auto& entry) { return !by_position.contains(entry.first); });
    trimmed_ = Position();
    EXPECT_GE(opened.report.used_end, opened.report.end);
  }

  std::mt19937_64 random_;
  io::SimDisk disk_;
  const LogOptions options_ = rig_options();
  std::map<Position, RigRecord> written_;
  Position durable_;
  Position started_;  // the last life's first position, whose file was made
  Position trimmed_;
  std::uint64_t trims_one_in_ = 6;
  std::uint64_t reused_ = 0;  // times that a file of former use was written
};

TEST(LogPowerLoss, WhatWasDurableIsThereByteForByte) {
  const char* replay = std::getenv("SLUICE_SEED");
  const std::uint64_t first = replay != nullptr ? std::strtoull(replay, nullptr, 10) : 1;
  const std::uint64_t last = replay != nullptr ? first : kSeeds;
  std::uint64_t reused = 0;
  for (std::uint64_t seed = first; seed <= last; ++seed) {
    PowerLossRun run(seed);
    run.run();
    reused += run.reused();
    ASSERT_FALSE(HasFailure()) << "replay: SLUICE_SEED=" << seed << " daemon_log_power_loss_test";
  }
  if (replay == nullptr) {
    EXPECT_GT(reused, kSeeds / 10);
  }
}

}  // namespace
}  // namespace sluice::log
