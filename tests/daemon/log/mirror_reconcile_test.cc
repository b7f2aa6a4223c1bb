// A start with two copies of a log: for each range a copy that is intact there is taken, and both are equal afterwards.
#include "daemon/log/mirror_reconcile.h"

#include <cstdlib>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "daemon/log/index.h"
#include "daemon/log/log_file.h"
#include "daemon/log/segment_scrub.h"
#include "tests/daemon/io/mirror_rig.h"
#include "tests/daemon/log/log_rig.h"

namespace sluice::log {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

const std::vector<std::string> kRoots = {"/a", "/b"};
using Bytes = std::vector<std::byte>;

std::uint64_t runs(const char* variable, std::uint64_t normally) {
  const char* const text = std::getenv(variable);
  return text == nullptr ? normally : std::strtoull(text, nullptr, 10);
}

// Every step of a scrub of all that can be looked at; what is intact on no copy is quarantined.
ScrubOutcome scrub_all(io::Disk& disk, PartitionLog& log) {
  ScrubOutcome all;
  for (const ScrubFile& file : log.scrub_files()) {
    for (SegmentNumber segment(file.base.value / kRigSegmentSize); segment.value * kRigSegmentSize < file.end.value;
         segment = segment.next()) {
      SegmentScrub scrub(disk, log.options(), file, segment);
      while (!scrub.step().value()) {
      }
      const ScrubOutcome outcome = scrub.take_outcome();
      all.copies = std::max(all.copies, outcome.copies);
      all.bytes += outcome.bytes;
      all.mended_bytes += outcome.mended_bytes;
      all.damaged.insert(all.damaged.end(), outcome.damaged.begin(), outcome.damaged.end());
      EXPECT_TRUE(log.quarantine(file.base, outcome.damaged));
    }
  }
  return all;
}

class Mirrors : public testing::Test {
 protected:
  LogOptions options_at(const std::string& root) const { return rig_options(root + "/orders/0"); }
  io::MirrorDisk& disk() { return *rig_->disk; }
  void begin(std::uint64_t seed) {
    rig_ = std::make_unique<io::MirrorRig>(seed);
    records_.clear();
    rig_->start(kRoots);
  }
  // One life of the daemon, each step made durable. Clean: closed at the end, else killed.
  void live(std::uint64_t life, std::uint64_t bytes, bool clean) {
    Opened opened = open_log(disk(), options_at("/a"));
    LogWriter writer(disk(), *opened.log, options_at("/a"), life,
                     life == 1 ? Position(0) : next_start(opened.report, options_at("/a")));
    const Position until = writer.end() + bytes;
    for (std::uint64_t step = 0; writer.end() < until; ++step) {
      writer.append_some(std::min<std::uint64_t>(3000, until - writer.end()), life * 1000 + step);
      ASSERT_TRUE(writer.sync());
    }
    records_.insert(records_.end(), writer.records().begin(), writer.records().end());
    if (clean) {
      ASSERT_TRUE(opened.log->close());
    } else {
      forget(std::move(opened.log));
    }
  }
  // A new process over what is there.
  void restart() { rig_->start(kRoots); }

  std::string log_at(const std::string& root, Position base) { return log_path(options_at(root).directory, base); }
  std::string index_at(const std::string& root, Position base) { return index_path(options_at(root).directory, base); }
  void mangle(const std::string& path, const std::function<void(Bytes&)>& change) {
    Bytes bytes = read_file(*rig_->sim, path);
    change(bytes);
    write_file(*rig_->sim, path, bytes);
  }
  void flip(const std::string& root, Position base, Position position) {
    mangle(log_at(root, base), [&](Bytes& bytes) { bytes[position - base] ^= std::byte{1}; });
  }
  // Everything that was durable is served, nothing is called damaged, and each copy alone holds the same.
  RecoveryReport expect_whole() {
    restart();
    Opened opened = open_log(disk(), options_at("/a"));
    const Served served = serve(*opened.log, options_at("/a"), Position(0));
    EXPECT_THAT(served.damage, IsEmpty());
    EXPECT_TRUE(served.records == records_) << served.records.size() << " of " << records_.size();
    EXPECT_THAT(opened.report.damaged, IsEmpty());
    EXPECT_THAT(rig_->stale, IsEmpty());
    forget(std::move(opened.log));
    for (const std::string& root : kRoots) expect_same_alone(root, records_);
    return opened.report;
  }
  // As a daemon would find it that has this copy alone.
  void expect_same_alone(const std::string& root, const std::vector<RigRecord>& expected) {
    rig_->disk.reset();
    const auto alone = rig_->another();
    Opened opened = open_log(*alone, options_at(root));
    const Served served = serve(*opened.log, options_at(root), Position(0));
    EXPECT_THAT(served.damage, IsEmpty()) << root;
    EXPECT_TRUE(served.records == expected) << root << ": " << served.records.size() << " of " << expected.size();
    EXPECT_THAT(opened.report.damaged, IsEmpty()) << root;
    forget(std::move(opened.log));
  }

  std::unique_ptr<io::MirrorRig> rig_;
  std::vector<RigRecord> records_;
};

TEST_F(Mirrors, WithoutDamageNothingIsWritten) {
  for (const bool clean : {true, false}) {
    begin(1);
    live(1, 2 * kRigFileSize, clean);
    const RecoveryReport report = expect_whole();
    EXPECT_EQ(report.repaired_bytes, 0u) << clean;
    EXPECT_THAT(report.repaired, IsEmpty());
  }
}

TEST_F(Mirrors, WhatIsDamagedOnOneCopyIsTakenFromTheOther) {
  using Damage = std::function<void(const std::string& root)>;
  const Position second(kRigFileSize);
  const std::map<std::string, Damage> damages = {
      {"a flipped bit", [&](const std::string& root) { flip(root, Position(0), records_[5].position + 16); }},
      {"a claim word", [&](const std::string& root) { flip(root, second, records_.back().position + 4); }},
      {"a segment header", [&](const std::string& root) { flip(root, Position(0), Position(kRigSegmentSize + 20)); }},
      {"the last record", [&](const std::string& root) { flip(root, second, records_.back().position + 30); }},
      {"a zeroed range",
       [&](const std::string& root) {
         mangle(log_at(root, Position(0)),
                [](Bytes& b) { std::fill(b.begin() + 5000, b.begin() + 30000, std::byte{0}); });
       }},
      {"a file cut short",
       [&](const std::string& root) { mangle(log_at(root, Position(0)), [](Bytes& b) { b.resize(9000); }); }},
      {"an empty file", [&](const std::string& root) { mangle(log_at(root, second), [](Bytes& b) { b.clear(); }); }},
      {"a log file gone", [&](const std::string& root) { ASSERT_TRUE(rig_->sim->unlink(log_at(root, Position(0)))); }},
      {"the newest log file gone",
       [&](const std::string& root) { ASSERT_TRUE(rig_->sim->unlink(log_at(root, second))); }},
      {"garbage in place of a log file",
       [&](const std::string& root) {
         mangle(log_at(root, second), [](Bytes& b) { std::fill(b.begin(), b.end(), std::byte{0x5a}); });
       }},
      {"the indexes gone",
       [&](const std::string& root) {
         for (const Position base : {Position(0), second})
           static_cast<void>(rig_->sim->unlink(index_at(root, base)).has_value());
       }},
      {"everything gone",
       [&](const std::string& root) {
         for (const std::string& name : list_files(*rig_->sim, options_at(root).directory))
           ASSERT_TRUE(rig_->sim->unlink(options_at(root).directory + "/" + name));
       }},
  };
  for (const auto& [name, damage] : damages) {
    for (const std::string& root : kRoots) {
      for (const bool clean : {true, false}) {
        SCOPED_TRACE(name + " of " + root + (clean ? ", clean stop" : ""));
        begin(3);
        live(1, 2 * kRigFileSize - 3000, clean);
        restart();
        damage(root);
        const RecoveryReport report = expect_whole();
        EXPECT_THAT(report.repaired, testing::Contains(HasSubstr(root + "/orders/0/")));
        if (testing::Test::HasFailure()) return;
      }
    }
  }
}

TEST_F(Mirrors, AnIndexThatIsNoneIsKeptAsideAndReplaced) {
  begin(3);
  live(1, kRigFileSize + 3000, true);
  restart();
  mangle(index_at("/b", Position(0)), [](Bytes& b) { std::fill(b.begin(), b.end(), std::byte{0x11}); });
  expect_whole();
  EXPECT_TRUE(rig_->media->current_bytes(index_at("/b", Position(0)) + ".torn"));
}

TEST_F(Mirrors, DifferentDamageOnBothCopiesIsMendedOnBoth) {
  begin(5);
  live(1, 2 * kRigFileSize, false);
  restart();
  for (std::size_t i = 0; i + 1 < records_.size(); i += 2) {
    const Position a = records_[i].position;
    const Position b = records_[i + 1].position;
    flip("/a", Position(a.value / kRigFileSize * kRigFileSize), a + 9);
    flip("/b", Position(b.value / kRigFileSize * kRigFileSize), b + 9);
  }
  EXPECT_GT(expect_whole().repaired_bytes, kRigFileSize);
}

TEST_F(Mirrors, WhatIsDamagedOnAllCopiesIsQuarantined) {
  begin(5);
  live(1, 2 * kRigFileSize, false);
  restart();
  for (const std::string& root : kRoots) flip(root, Position(0), records_[4].position + 16);
  flip("/a", Position(0), records_[9].position + 16);
  restart();
  Opened opened = open_log(disk(), options_at("/a"));
  ASSERT_THAT(opened.report.damaged, SizeIs(1));
  EXPECT_EQ(opened.report.damaged[0].begin, records_[4].position);
  EXPECT_THAT(serve(*opened.log, options_at("/a"), Position(0)).records, SizeIs(records_.size() - 1));
}

TEST_F(Mirrors, ACopyWhoseDiskIsDeadIsStaleAndTheOtherServes) {
  begin(5);
  live(1, 2 * kRigFileSize, false);
  restart();
  rig_->sim->break_below("/b");
  Opened opened = open_log(disk(), options_at("/a"));
  EXPECT_TRUE(serve(*opened.log, options_at("/a"), Position(0)).records == records_);
  EXPECT_THAT(rig_->stale, testing::ElementsAre("/b"));
}

TEST_F(Mirrors, NothingIsTouchedWhileAPredecessorsWritesAreInFlightOnEitherCopy) {
  begin(5);
  live(1, 5000, false);
  rig_->disk.reset();
  const auto other = rig_->another();
  const io::FileId held = other->open(log_at("/b", Position(0)), io::OpenMode::read_write).value();
  ASSERT_TRUE(other->lock(held));
  restart();
  flip("/a", Position(0), records_[0].position + 16);
  RecoveryReport report;
  const auto refused = PartitionLog::open(disk(), options_at("/a"), Position(), {}, report);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), ErrorCode::in_use);
  other->close(held);
  expect_whole();
}

// What rots in a closed file is not looked at by a start that need not; a scrub mends it while the log is open.
TEST_F(Mirrors, AScrubMendsWhatRotsInClosedFiles) {
  begin(5);
  live(1, 2 * kRigFileSize, true);
  restart();
  for (std::size_t i = 0; i < records_.size(); i += 3)
    flip(kRoots[i % 2], Position(records_[i].position.value / kRigFileSize * kRigFileSize), records_[i].position + 9);
  Opened opened = open_log(disk(), options_at("/a"), records_.back().position + kRigFileSize);
  ASSERT_THAT(opened.report.repaired, IsEmpty());
  EXPECT_FALSE(serve(*opened.log, options_at("/a"), Position(0)).damage.empty());
  EXPECT_GT(scrub_all(disk(), *opened.log).mended_bytes, 0u);
  const Served served = serve(*opened.log, options_at("/a"), Position(0));
  EXPECT_THAT(served.damage, IsEmpty());
  EXPECT_TRUE(served.records == records_);
  forget(std::move(opened.log));
  for (const std::string& root : kRoots) expect_same_alone(root, records_);
}

// A stop cuts the file in its last block: what one copy has rotten there must not get to the other.
TEST_F(Mirrors, AStopDoesNotSpreadRot) {
  begin(9);
  Opened opened = open_log(disk(), options_at("/a"));
  LogWriter writer(disk(), *opened.log, options_at("/a"), 1, Position(0));
  writer.append_some(3000, 1);
  ASSERT_TRUE(writer.sync());
  flip("/a", Position(0), writer.records().back().position + 9);
  records_ = writer.records();
  ASSERT_TRUE(opened.log->close());
  expect_whole();
}

TEST_F(Mirrors, AScrubBringsAClosedFileBackThatACopyHasLostOrCut) {
  begin(6);
  live(1, 3 * kRigFileSize, true);
  restart();
  Opened opened = open_log(disk(), options_at("/a"), records_.back().position + kRigFileSize);
  ASSERT_TRUE(rig_->another()->unlink(log_at("/b", Position(0))));
  mangle(log_at("/a", Position(kRigFileSize)), [](Bytes& bytes) { bytes.resize(5000); });
  flip("/a", Position(kRigFileSize), Position(kRigFileSize) + 9);  // in the segment's header
  EXPECT_GT(scrub_all(disk(), *opened.log).mended_bytes, 2 * kRigFileSize - 5000);
  EXPECT_THAT(rig_->stale, IsEmpty());
  EXPECT_THAT(list_files(*rig_->sim, options_at("/b").directory), testing::Not(testing::Contains(HasSubstr(".tmp"))));
  forget(std::move(opened.log));
  for (const std::string& root : kRoots) expect_same_alone(root, records_);
}

// A file that is still written to: the segments that are complete and durable are looked at.
TEST_F(Mirrors, AScrubMendsCompleteSegmentsOfAnOpenFile) {
  begin(7);
  Opened opened = open_log(disk(), options_at("/a"));
  LogWriter writer(disk(), *opened.log, options_at("/a"), 1, Position(0));
  while (writer.end() < Position(2 * kRigSegmentSize + 3000)) {
    writer.append_some(3000, writer.end().value);
    ASSERT_TRUE(writer.sync());
  }
  flip("/a", Position(0), writer.records()[2].position + 9);
  flip("/b", Position(0), writer.records()[5].position + 40);
  const ScrubOutcome outcome = scrub_all(disk(), *opened.log);
  EXPECT_EQ(outcome.bytes, 2 * kRigSegmentSize);
  EXPECT_EQ(outcome.copies, 2u);
  EXPECT_GT(outcome.mended_bytes, 0u);
  EXPECT_THAT(outcome.damaged, IsEmpty());
  const Served served = serve(*opened.log, options_at("/a"), Position(0));
  EXPECT_THAT(served.damage, IsEmpty());
  EXPECT_TRUE(served.records == writer.records());
  forget(std::move(opened.log));
}

// Damage that is found while the log is open is not served from there on, in this life and the next one, and the
// records around it are. With one copy and with two, in closed files and in open ones.
TEST_F(Mirrors, WhatAScrubFindsIntactNowhereIsQuarantined) {
  for (const std::vector<std::string>& roots : {std::vector<std::string>{"/a"}, kRoots}) {
    for (const bool closed : {true, false}) {
      SCOPED_TRACE(std::to_string(roots.size()) + (closed ? " closed" : " open"));
      begin(8);
      rig_ = std::make_unique<io::MirrorRig>(8);
      rig_->start(roots);
      Opened opened = open_log(disk(), options_at("/a"));
      LogWriter writer(disk(), *opened.log, options_at("/a"), 1, Position(0));
      while (writer.end() < Position(closed ? 5 * kRigFileSize : 3 * kRigSegmentSize)) {
        writer.append_some(3000, writer.end().value);
        ASSERT_TRUE(writer.sync());
      }
      for (const std::string& root : roots) flip(root, Position(0), writer.records()[4].position + 9);
      const ScrubOutcome outcome = scrub_all(disk(), *opened.log);
      ASSERT_THAT(outcome.damaged, SizeIs(1));
      EXPECT_EQ(outcome.damaged[0].begin, writer.records()[4].position);
      EXPECT_EQ(outcome.damaged[0].end, writer.records()[5].position);
      std::vector<RigRecord> left = writer.records();
      left.erase(left.begin() + 4);
      EXPECT_TRUE(serve(*opened.log, options_at("/a"), Position(0)).records == left);
      EXPECT_EQ(opened.log->damaged_bytes(), outcome.damaged[0].end - outcome.damaged[0].begin);
      forget(std::move(opened.log));
      rig_->start(roots);
      Opened again = open_log(disk(), options_at("/a"));
      const Served served = serve(*again.log, options_at("/a"), Position(0));
      EXPECT_THAT(served.damage, IsEmpty());
      EXPECT_TRUE(served.records == left) << served.records.size() << " of " << left.size();
      forget(std::move(again.log));
    }
  }
}

// Power goes while the log is written, and while it is recovered, again and again. What a sync called durable is
// there, what is served was written, and both copies hold the same.
TEST_F(Mirrors, PowerLossAtAnyPoint) {
  const std::uint64_t seeds = runs("SLUICE_MIRROR_SEEDS", 300);
  std::uint64_t repaired = 0;
  for (std::uint64_t seed = 1; seed <= seeds && !HasFailure(); ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    begin(seed);
    io::SimRandom random(seed);
    std::vector<RigRecord> written;
    std::size_t durable = 0;
    {
      Opened opened = open_log(disk(), options_at("/a"));
      LogWriter writer(disk(), *opened.log, options_at("/a"), 1, Position(0));
      rig_->sim->cut_power_after(20 + random.below(150));
      while (!rig_->sim->power_is_off()) {
        writer.append_some(1 + random.below(9000), random.next());
        if (writer.sync()) durable = writer.records().size();
      }
      written = writer.records();
      forget(std::move(opened.log));
    }
    rig_->disk.reset();
    rig_->media->power_loss();
    // The recovery is cut off as well, a few times.
    for (int attempt = 0; attempt < 3; ++attempt) {
      const Result<io::MirrorSet> set = rig_->open_set(kRoots);
      ASSERT_TRUE(set) << set.error().message();
      restart();
      rig_->sim->cut_power_after(1 + random.below(40));
      RecoveryReport report;
      if (auto opened = PartitionLog::open(disk(), options_at("/a"), Position(), {}, report))
        forget(std::move(*opened));
      rig_->disk.reset();
      rig_->media->power_loss();
    }
    restart();
    Opened opened = open_log(disk(), options_at("/a"));
    repaired += opened.report.repaired_bytes;
    const Served served = serve(*opened.log, options_at("/a"), Position(0));
    EXPECT_THAT(served.damage, IsEmpty());
    EXPECT_THAT(opened.report.damaged, IsEmpty());
    ASSERT_GE(served.records.size(), durable);
    ASSERT_LE(served.records.size(), written.size());
    EXPECT_TRUE(std::equal(served.records.begin(), served.records.end(), written.begin()));
    forget(std::move(opened.log));
    const auto good = rig_->disk->good_count();
    for (std::size_t copy = 0; copy < kRoots.size(); ++copy)
      if (good == kRoots.size()) expect_same_alone(kRoots[copy], served.records);
  }
  EXPECT_GT(repaired, 0u);
}

// One copy is mangled at random, the other is whole: nothing is lost, whatever was done to the one.
TEST_F(Mirrors, OneMangledCopyLosesNothing) {
  const std::uint64_t seeds = runs("SLUICE_MIRROR_SEEDS", 300);
  for (std::uint64_t seed = 1; seed <= seeds && !HasFailure(); ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    begin(seed);
    io::SimRandom random(seed);
    live(1, 1 + random.below(2 * kRigFileSize), random.coin());
    restart();
    live(2, 1 + random.below(2 * kRigFileSize), random.coin());
    restart();
    const std::string root = kRoots[random.below(2)];
    const std::uint64_t times = 1 + random.below(5);
    for (std::uint64_t i = 0; i < times; ++i) {
      const std::vector<std::string> names = list_files(*rig_->sim, options_at(root).directory);
      if (names.empty()) break;
      const std::string path = options_at(root).directory + "/" + names[random.below(names.size())];
      const std::uint64_t kind = random.below(5);
      if (kind == 0) {
        ASSERT_TRUE(rig_->sim->unlink(path));
        continue;
      }
      mangle(path, [&](Bytes& bytes) {
        if (bytes.empty()) return;
        const std::uint64_t at = random.below(bytes.size());
        const std::uint64_t size = random.below(bytes.size() - at) + 1;
        if (kind == 1) bytes[at] ^= static_cast<std::byte>(1u << random.below(8));
        if (kind == 2) bytes.resize(at);
        for (std::uint64_t b = at; b < at + size && kind >= 3; ++b)
          bytes[b] = kind == 3 ? std::byte{0} : static_cast<std::byte>(random.next());
      });
    }
    expect_whole();
  }
}

}  // namespace
}  // namespace sluice::log
