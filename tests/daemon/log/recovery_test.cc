// What a start finds after a clean stop, a crash, and damage of each kind.
#include <algorithm>
#include <cstring>
#include <functional>

#include <gtest/gtest.h>

#include "daemon/io/sim_disk.h"
#include "daemon/log/index.h"
#include "daemon/log/log_file.h"
#include "daemon/log/partition_log.h"
#include "shm/base/checksum.h"
#include "shm/layout/segment.h"
#include "tests/daemon/log/log_rig.h"

namespace sluice::log {
namespace {

class Recovery : public testing::Test {
 protected:
  // One life of the daemon: opens, writes `bytes` of records in steps, each made durable, and stops.
  void live(std::uint64_t life, std::uint64_t bytes, bool clean) {
    Opened opened = open_log(disk_, options_);
    LogWriter writer(disk_, *opened.log, options_, life, life == 1 ? Position(0) : next_start(opened.report, options_));
    const Position until = writer.end() + bytes;
    for (std::uint64_t step = 0; writer.end() < until; ++step) {
      writer.append_some(std::min<std::uint64_t>(3000, until - writer.end()), life * 1000 + step);
      ASSERT_TRUE(writer.sync());
    }
    records_.insert(records_.end(), writer.records().begin(), writer.records().end());
    if (clean) {
      ASSERT_TRUE(opened.log->close());
    }
  }
  std::string log_at(Position base) const { return log_path(options_.directory, base); }
  std::string index_at(Position base) const { return index_path(options_.directory, base); }
  std::vector<Position> bases() {
    std::vector<Position> found;
    for (const std::string& name : list_files(disk_, options_.directory)) {
      const ParsedName parsed = parse_name(name, options_.segment_size);
      if (parsed.kind == NameKind::log) found.push_back(parsed.base);
    }
    return found;
  }
  void mangle(const std::string& path, const std::function<void(std::vector<std::byte>&)>& change) {
    auto bytes = read_file(disk_, path);
    change(bytes);
    write_file(disk_, path, bytes);
  }
  void flip(Position base, Position position) {
    mangle(log_at(base), [&](auto& bytes) { bytes[position - base] ^= std::byte{1}; });
  }
  void remove_indexes() {
    for (const Position base : bases()) static_cast<void>(disk_.unlink(index_at(base)).has_value());
  }
  // Opens, and expects exactly these to be visited and served.
  RecoveryReport expect_served(const std::vector<RigRecord>& expected) {
    Opened opened = open_log(disk_, options_);
    const Served served = serve(*opened.log, options_, Position(0));
    EXPECT_EQ(served.damage, std::vector<std::string>());
    EXPECT_EQ(served.records.size(), expected.size());
    EXPECT_TRUE(served.records == expected);
    EXPECT_EQ(opened.visited.size(), expected.size());
    for (std::size_t i = 0; i < std::min(expected.size(), opened.visited.size()); ++i) {
      EXPECT_EQ(opened.visited[i].position, expected[i].position);
      EXPECT_EQ(opened.visited[i].sequence, expected[i].sequence);
      EXPECT_EQ(opened.visited[i].trailer, expected[i].trailer);
    }
    return opened.report;
  }
  std::vector<RigRecord> all_but(const std::function<bool(const RigRecord&)>& gone) const {
    std::vector<RigRecord> rest = records_;
    std::erase_if(rest, gone);
    return rest;
  }
  std::size_t record_near(Position position) const {
    const auto found = std::find_if(records_.begin(), records_.end(),
                                    [&](const RigRecord& record) { return record.position >= position; });
    return static_cast<std::size_t>(found - records_.begin());
  }
  Position end_of_records() const { return records_.back().position + records_.back().claim.span_size(); }

  io::SimDisk disk_{{}};
  const LogOptions options_ = rig_options();
  std::vector<RigRecord> records_;
};

// ---- undamaged

TEST_F(Recovery, AfterACleanStopNothingIsScanned) {
  live(1, kRigFileSize + 5000, true);
  const Opened opened = open_log(disk_, options_, end_of_records());
  EXPECT_EQ(opened.report.end, end_of_records());
  EXPECT_EQ(opened.report.bytes_read, 0u);
  EXPECT_EQ(opened.report.torn_bytes, 0u);
  EXPECT_TRUE(opened.visited.empty());
  EXPECT_TRUE(opened.report.unparsed.empty());
}

TEST_F(Recovery, AfterACleanStopEverythingIsVisitedWhoAsksForIt) {
  live(1, kRigFileSize + 5000, true);
  const RecoveryReport report = expect_served(records_);
  EXPECT_EQ(report.end, end_of_records());
  EXPECT_TRUE(report.damaged.empty());
}

TEST_F(Recovery, AfterAKillEverythingDurableIsThere) {
  live(1, 2 * kRigFileSize + 5000, false);
  const RecoveryReport report = expect_served(records_);
  EXPECT_EQ(report.end, end_of_records());
  EXPECT_EQ(report.torn_bytes, 0u);
  EXPECT_TRUE(report.damaged.empty());
}

TEST_F(Recovery, ACutFileIsRoundedUpToABlockAndZeroBehindItsData) {
  live(1, 5000, false);
  const Opened opened = open_log(disk_, options_);
  const auto bytes = read_file(disk_, log_at(Position(0)));
  EXPECT_EQ(bytes.size() % 4096, 0u);
  EXPECT_LT(bytes.size() - end_of_records().value, 4096u);
  EXPECT_TRUE(std::all_of(bytes.begin() + static_cast<std::ptrdiff_t>(end_of_records().value), bytes.end(),
                          [](std::byte b) { return b == std::byte{0}; }));
}

TEST_F(Recovery, VisitsStartWhereTheCallerSays) {
  live(1, 2 * kRigFileSize, false);
  const Position from = records_[records_.size() / 2].position;
  for (int start = 0; start < 2; ++start) {
    const Opened opened = open_log(disk_, options_, from);
    ASSERT_FALSE(opened.visited.empty());
    EXPECT_EQ(opened.visited.front().position, from);
    EXPECT_EQ(opened.visited.size(), records_.size() - records_.size() / 2);
  }
}

TEST_F(Recovery, ARestartGapIsSkippedAndIsNoDamage) {
  live(1, 20000, false);
  live(2, 20000, true);
  live(3, kRigFileSize, false);
  EXPECT_EQ(bases().size(), 4u);
  const RecoveryReport report = expect_served(records_);
  EXPECT_TRUE(report.damaged.empty());
  EXPECT_EQ(report.torn_bytes, 0u);
  EXPECT_GT(next_start(report, options_), end_of_records());
}

TEST_F(Recovery, WithoutAnyIndexItIsTheSame) {
  live(1, kRigFileSize + 20000, false);
  live(2, 20000, true);
  live(3, kRigFileSize, false);
  remove_indexes();
  const RecoveryReport report = expect_served(records_);
  EXPECT_EQ(report.end, end_of_records());
  EXPECT_TRUE(report.damaged.empty());
  EXPECT_EQ(report.torn_bytes, 0u);
  for (const Position base : bases()) EXPECT_TRUE(exists(disk_, index_at(base))) << "made again";
  const Opened again = open_log(disk_, options_, end_of_records());
  EXPECT_EQ(again.report.bytes_read, 0u) << "and trusted from then on";
}

TEST_F(Recovery, AGarbledIndexIsMadeAgain) {
  live(1, 2 * kRigFileSize, false);
  for (const Position base : bases()) write_file(disk_, index_at(base), std::vector<std::byte>(200, std::byte{0x5a}));
  const RecoveryReport report = expect_served(records_);
  EXPECT_TRUE(report.damaged.empty());
  EXPECT_EQ(report.unparsed.size(), bases().size()) << "what stood there is kept";
  EXPECT_EQ(read_file(disk_, index_at(Position(0)) + ".torn"), std::vector<std::byte>(200, std::byte{0x5a}));
}

TEST_F(Recovery, AStaleIndexIsCompleted) {
  live(1, kRigFileSize, false);
  open_log(disk_, options_);
  mangle(index_at(Position(0)), [](auto& bytes) { bytes.resize(64 + 2 * 32); });
  const RecoveryReport report = expect_served(records_);
  EXPECT_TRUE(report.damaged.empty());
  EXPECT_EQ(report.end, end_of_records());
}

TEST_F(Recovery, AnIndexWithoutItsLogFileGoes) {
  live(1, 2 * kRigFileSize + 5000, false);
  { open_log(disk_, options_); }
  ASSERT_TRUE(disk_.unlink(log_at(Position(0))));
  const Opened opened = open_log(disk_, options_);
  EXPECT_FALSE(exists(disk_, index_at(Position(0))));
  EXPECT_EQ(opened.log->earliest(), Position(kRigFileSize));
}

TEST_F(Recovery, LeftoverTemporariesGo) {
  live(1, 5000, false);
  write_file(disk_, log_at(Position(kRigFileSize)) + ".tmp", std::vector<std::byte>(4096));
  write_file(disk_, index_at(Position(0)) + ".tmp", std::vector<std::byte>(10, std::byte{1}));
  expect_served(records_);
  for (const std::string& name : list_files(disk_, options_.directory)) EXPECT_EQ(name.find(".tmp"), std::string::npos);
}

TEST_F(Recovery, AFileMadeAheadOfNeedGoesAndItsRangeIsNotInTheWay) {
  {
    Opened opened = open_log(disk_, options_);
    LogWriter writer(disk_, *opened.log, options_, 1, Position(0));
    writer.append_some(5000, 1);
    ASSERT_TRUE(writer.sync());
    ASSERT_TRUE(opened.log->prepare_next(writer.end()));
    records_ = writer.records();
  }
  EXPECT_EQ(bases().size(), 2u);
  const RecoveryReport report = expect_served(records_);
  EXPECT_EQ(bases().size(), 1u);
  EXPECT_TRUE(report.unparsed.empty());
  live(2, kRigFileSize, false);
  expect_served(records_);
}

TEST_F(Recovery, AStartThatWroteNothingStillMovesTheNextOneOn) {
  live(1, 5000, true);
  Position base;
  {
    Opened opened = open_log(disk_, options_);
    base = next_start(opened.report, options_);
    ASSERT_TRUE(opened.log->target(base));
  }
  const Opened opened = open_log(disk_, options_);
  EXPECT_EQ(opened.report.end, base);
  EXPECT_GT(next_start(opened.report, options_), base);
}

TEST_F(Recovery, ChecksumsMayBeOff) {
  LogOptions options = options_;
  options.checksums = false;
  {
    Opened opened = open_log(disk_, options);
    LogWriter writer(disk_, *opened.log, options, 1, Position(0));
    writer.append_some(kRigFileSize + 5000, 1);
    ASSERT_TRUE(writer.sync());
    records_ = writer.records();
  }
  const RecoveryReport report = expect_served(records_);
  EXPECT_TRUE(report.damaged.empty());
}

// ---- torn tails

TEST_F(Recovery, WhatIsTornAboveTheBoundIsCutAndReported) {
  live(1, 5000, false);
  const std::size_t last = records_.size() - 1;
  flip(Position(0), records_[last].position + 8);
  const auto kept = std::vector(records_.begin(), records_.begin() + static_cast<std::ptrdiff_t>(last));
  const RecoveryReport report = expect_served(kept);
  EXPECT_EQ(report.end, records_[last].position);
  EXPECT_GT(report.torn_bytes, 0u);
  EXPECT_LE(report.torn_bytes, records_[last].claim.span_size());
  EXPECT_TRUE(report.damaged.empty());
  EXPECT_GE(report.used_end.value, records_[last].position.value);
  const RecoveryReport again = expect_served(kept);
  EXPECT_EQ(again.torn_bytes, 0u) << "it is cut once";
}

TEST_F(Recovery, AClaimThatWasNeverCommittedEndsTheLog) {
  live(1, 5000, false);
  const Position end = end_of_records();
  mangle(log_at(Position(0)), [&](auto& bytes) {
    const auto word =
        layout::ClaimWord::make(ProducerId(1), 1, layout::RecordKind::data, false, layout::RecordState::claimed);
    std::memcpy(bytes.data() + end.value, &word.bits, 8);
  });
  const RecoveryReport report = expect_served(records_);
  EXPECT_EQ(report.end, end);
}

TEST_F(Recovery, FilesBehindATornOneAreCutToo) {
  Position end_of_first;
  {
    Opened opened = open_log(disk_, options_);
    LogWriter writer(disk_, *opened.log, options_, 1, Position(0));
    writer.append_some(kRigFileSize - 3000, 1);
    ASSERT_TRUE(writer.sync());
    records_ = writer.records();
    end_of_first = writer.end();
    writer.append_some(kRigFileSize, 2);
    ASSERT_TRUE(writer.submit_writes(true) && writer.drain());
  }
  // The second file got all its bytes, the first one not.
  flip(Position(0), end_of_first + 8);
  const RecoveryReport report = expect_served(records_);
  EXPECT_EQ(report.end, end_of_first);
  EXPECT_GT(report.torn_bytes, kRigFileSize / 2);
  EXPECT_GT(report.used_end, Position(kRigFileSize));
  EXPECT_EQ(bases().size(), 1u);
}

TEST_F(Recovery, ATornFileWithoutAHeaderIsSetAside) {
  live(1, kRigFileSize, false);
  const Position last = bases().back();
  if (last == Position(0)) GTEST_SKIP() << "this life did not reach a second file";
  mangle(log_at(last), [](auto& bytes) { std::fill(bytes.begin(), bytes.begin() + 512, std::byte{0}); });
  const auto mangled = read_file(disk_, log_at(last));
  const RecoveryReport report = expect_served(all_but([&](const RigRecord& r) { return r.position >= last; }));
  ASSERT_EQ(report.unparsed.size(), 1u);
  EXPECT_EQ(report.unparsed.front(), log_at(last) + ".torn");
  EXPECT_EQ(read_file(disk_, log_at(last) + ".torn"), mangled);
  EXPECT_GT(report.torn_bytes, 0u);
}

// ---- damage below the bound

TEST_F(Recovery, OneRottenRecordIsQuarantinedAndTheRestServed) {
  live(1, 2 * kRigFileSize, false);
  const std::size_t victim = record_near(Position(kRigSegmentSize + 3000));
  const RigRecord rotten = records_[victim];
  flip(Position(0), rotten.position + 16);
  remove_indexes();
  const RecoveryReport report = expect_served(all_but([&](const RigRecord& r) { return r == rotten; }));
  ASSERT_EQ(report.damaged.size(), 1u);
  EXPECT_EQ(report.damaged[0].begin, rotten.position);
  EXPECT_EQ(report.damaged[0].end, rotten.position + rotten.claim.span_size());
  EXPECT_NE(report.damaged[0].reason.find("checksum"), std::string::npos);
  EXPECT_EQ(report.end, end_of_records());
  EXPECT_EQ(report.torn_bytes, 0u);
}

TEST_F(Recovery, RotInAFilesLastRecordDoesNotEndTheLogBeforeTheNextFile) {
  live(1, 2 * kRigFileSize, false);
  const RigRecord rotten = records_[record_near(Position(kRigFileSize)) - 1];
  flip(Position(0), rotten.position + 8);
  remove_indexes();
  const RecoveryReport report = expect_served(all_but([&](const RigRecord& r) { return r == rotten; }));
  ASSERT_EQ(report.damaged.size(), 1u);
  EXPECT_EQ(report.damaged[0].end, Position(kRigFileSize));
  EXPECT_EQ(report.end, end_of_records());
}

TEST_F(Recovery, DamageIsRememberedWithoutAnotherScan) {
  live(1, 2 * kRigFileSize, false);
  flip(Position(0), records_[3].position + 16);
  remove_indexes();
  open_log(disk_, options_);
  const Opened again = open_log(disk_, options_, end_of_records());
  EXPECT_EQ(again.report.bytes_read, 0u);
  ASSERT_EQ(again.report.damaged.size(), 1u);
  EXPECT_EQ(again.report.damaged[0].begin, records_[3].position);
  const Located located = again.log->locate(records_[3].position);
  EXPECT_EQ(located.kind, Located::Kind::skip);
  EXPECT_EQ(located.next, records_[4].position);
  EXPECT_EQ(again.log->locate(records_[2].position).data_end, records_[3].position);
  std::vector<std::byte> bytes(8);
  EXPECT_FALSE(again.log->read(records_[3].position, bytes));
}

TEST_F(Recovery, RotInAFileClosedLongAgoIsFoundByWhoScansIt) {
  live(1, kRigFileSize, true);
  live(2, 5000, true);
  flip(Position(0), records_[2].position + 20);
  const RecoveryReport report = expect_served(all_but([&](const RigRecord& r) { return r == records_[2]; }));
  EXPECT_EQ(report.damaged.size(), 1u);
  const Opened again = open_log(disk_, options_, end_of_records());
  EXPECT_EQ(again.report.damaged.size(), 1u) << "noted in the index";
}

TEST_F(Recovery, ABrokenSpanHidesNoIntactRecord) {
  live(1, 2 * kRigFileSize, false);
  const std::size_t victim = record_near(Position(2000));
  const RigRecord rotten = records_[victim];
  // The span now leads exactly to a later record.
  std::uint64_t units = 0;
  for (std::size_t i = victim; i < victim + 3; ++i) units += records_[i].claim.span_units();
  mangle(log_at(Position(0)), [&](auto& bytes) {
    const auto word = layout::ClaimWord::make(rotten.claim.producer(), units, rotten.claim.kind(),
                                              rotten.claim.has_trailer(), rotten.claim.state());
    std::memcpy(bytes.data() + rotten.position.value, &word.bits, 8);
  });
  remove_indexes();
  const RecoveryReport report = expect_served(all_but([&](const RigRecord& r) { return r == rotten; }));
  ASSERT_EQ(report.damaged.size(), 1u);
  EXPECT_EQ(report.damaged[0].end, records_[victim + 1].position);
}

TEST_F(Recovery, AZeroedSectorBelowTheBoundIsDamageAndNotTheEnd) {
  live(1, 2 * kRigFileSize, false);
  const Position from(4096);
  const Position to(4096 + 512);
  mangle(log_at(Position(0)), [&](auto& bytes) {
    std::fill(bytes.begin() + static_cast<std::ptrdiff_t>(from.value),
              bytes.begin() + static_cast<std::ptrdiff_t>(to.value), std::byte{0});
  });
  remove_indexes();
  const auto hit = [&](const RigRecord& r) { return r.position < to && r.position + r.claim.span_size() > from; };
  // Records whose padding alone was hit still hold.
  const Opened opened = open_log(disk_, options_);
  const Served served = serve(*opened.log, options_, Position(0));
  EXPECT_TRUE(served.damage.empty());
  const std::vector<RigRecord> rest = all_but(hit);
  EXPECT_TRUE(std::includes(served.records.begin(), served.records.end(), rest.begin(), rest.end(),
                            [](const RigRecord& a, const RigRecord& b) { return a.position < b.position; }));
  EXPECT_FALSE(opened.report.damaged.empty());
  EXPECT_EQ(opened.report.end, end_of_records());
}

TEST_F(Recovery, ARottenSegmentHeaderCostsItsSegment) {
  live(1, 2 * kRigFileSize, false);
  flip(Position(0), Position(kRigSegmentSize + 30));
  remove_indexes();
  const auto in_it = [](const RigRecord& r) { return r.position.value / kRigSegmentSize == 1; };
  const RecoveryReport report = expect_served(all_but(in_it));
  ASSERT_EQ(report.damaged.size(), 1u);
  EXPECT_EQ(report.damaged[0].begin, Position(kRigSegmentSize));
  EXPECT_EQ(report.damaged[0].end, Position(2 * kRigSegmentSize));
}

TEST_F(Recovery, AFileCutShortBelowTheBoundIsDamagedNotTorn) {
  live(1, 2 * kRigFileSize + 5000, false);
  const Position cut(kRigFileSize / 2 + 4096);
  mangle(log_at(Position(0)), [&](auto& bytes) { bytes.resize(cut.value); });
  for (int start = 0; start < 2; ++start) {
    const RecoveryReport report = expect_served(all_but([&](const RigRecord& r) {
      return r.position < Position(kRigFileSize) && r.position + r.claim.span_size() > cut;
    }));
    EXPECT_FALSE(report.damaged.empty());
    EXPECT_EQ(report.damaged.back().end, Position(kRigFileSize));
    EXPECT_EQ(report.end, end_of_records());
    EXPECT_EQ(report.torn_bytes, 0u);
  }
  EXPECT_EQ(read_file(disk_, log_at(Position(0))).size(), cut.value) << "it is kept as it is";
}

TEST_F(Recovery, AMissingFileIsReported) {
  live(1, 3 * kRigFileSize + 5000, false);
  ASSERT_TRUE(disk_.unlink(log_at(Position(kRigFileSize))));
  remove_indexes();
  const RecoveryReport report = expect_served(all_but([&](const RigRecord& r) {
    return r.position >= Position(kRigFileSize) && r.position < Position(2 * kRigFileSize);
  }));
  ASSERT_EQ(report.damaged.size(), 1u);
  EXPECT_EQ(report.damaged[0].begin, Position(kRigFileSize));
  EXPECT_EQ(report.damaged[0].end, Position(2 * kRigFileSize));
}

TEST_F(Recovery, AFileOfGarbageIsLeftAloneAndItsPositionsAreNotUsedAgain) {
  live(1, 5000, false);
  const Position base(kRigFileSize);
  const std::vector<std::byte> garbage(10000, std::byte{0xa5});
  write_file(disk_, log_at(base), garbage);
  write_file(disk_, options_.directory + "/notes.txt", garbage);
  for (int start = 0; start < 2; ++start) {
    const RecoveryReport report = expect_served(records_);
    EXPECT_EQ(report.end, end_of_records());
    EXPECT_GE(report.used_end, base + kRigFileSize);
    EXPECT_EQ(report.unparsed.size(), 2u);
    ASSERT_EQ(report.damaged.size(), 1u);
    EXPECT_EQ(report.damaged[0].begin, base);
  }
  EXPECT_EQ(read_file(disk_, log_at(base)), garbage);
  EXPECT_EQ(read_file(disk_, options_.directory + "/notes.txt"), garbage);
  Opened opened = open_log(disk_, options_);
  EXPECT_EQ(opened.log->target(base).error().code(), ErrorCode::conflict);
  EXPECT_TRUE(opened.log->target(next_start(opened.report, options_)));
}

TEST_F(Recovery, SwappedFilesAreNotServedAsEachOther) {
  live(1, 3 * kRigFileSize, false);
  const auto first = read_file(disk_, log_at(Position(0)));
  write_file(disk_, log_at(Position(0)), read_file(disk_, log_at(Position(kRigFileSize))));
  write_file(disk_, log_at(Position(kRigFileSize)), first);
  remove_indexes();
  const RecoveryReport report =
      expect_served(all_but([](const RigRecord& r) { return r.position < Position(2 * kRigFileSize); }));
  EXPECT_EQ(report.unparsed.size(), 2u);
}

// ---- refused

TEST_F(Recovery, ANewerVersionIsRefusedAndNothingTouched) {
  live(1, 2 * kRigFileSize + 5000, false);
  flip(Position(0), records_[3].position + 16);
  const Position last = bases().back();
  mangle(log_at(last), [](auto& bytes) {
    bytes[8] = std::byte{2};
    const std::uint32_t checksum = crc32c(0, bytes.data(), 60);
    std::memcpy(bytes.data() + 60, &checksum, 4);
  });
  remove_indexes();
  write_file(disk_, log_at(last) + ".tmp", {});
  const std::uint32_t before = disk_.media()->durable_checksum();
  RecoveryReport report;
  const auto refused = PartitionLog::open(disk_, options_, Position(), {}, report);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), ErrorCode::version);
  ASSERT_TRUE(disk_.sync_directory(options_.directory));
  EXPECT_EQ(disk_.media()->durable_checksum(), before);
}

TEST_F(Recovery, APredecessorsWriteInFlightIsWaitedFor) {
  auto first = std::make_unique<io::SimDisk>(io::SimDisk::Options{.seed = 3, .delay_reaps_max = 50});
  const auto media = first->media();
  Opened opened = open_log(*first, options_);
  LogWriter writer(*first, *opened.log, options_, 1, Position(0));
  writer.append_some(5000, 1);
  ASSERT_TRUE(writer.sync());
  writer.append_some(5000, 2);
  ASSERT_TRUE(writer.submit_writes(true));
  EXPECT_GT(first->in_flight(), 0u);
  const Position durable = opened.log->end();
  // Killed: the process's disk goes with its writes in flight.
  forget(std::move(opened.log));
  first.reset();

  io::SimDisk second({.seed = 4}, media);
  int refused = 0;
  while (true) {
    RecoveryReport report;
    auto log = PartitionLog::open(second, options_, Position(), {}, report);
    if (log) {
      EXPECT_GE(report.end, durable);
      break;
    }
    ASSERT_EQ(log.error().code(), ErrorCode::in_use) << log.error().message();
    ASSERT_LT(++refused, 1000);
  }
  EXPECT_GT(refused, 0);
  EXPECT_EQ(media->orphaned_writes(), 0u);
}

TEST_F(Recovery, WhatAKilledDaemonHadNotSyncedIsStableOnceItIsRecovered) {
  auto first = std::make_unique<io::SimDisk>(io::SimDisk::Options{.seed = 8});
  const auto media = first->media();
  Opened opened = open_log(*first, options_);
  LogWriter writer(*first, *opened.log, options_, 1, Position(0));
  for (std::uint64_t step = 0; step < 4; ++step) {
    writer.append_some(kRigFileSize / 3, step);
    ASSERT_TRUE(writer.submit_writes(true) && writer.drain());
  }
  forget(std::move(opened.log));
  first.reset();

  io::SimDisk second({.seed = 9}, media);
  const Opened recovered = open_log(second, options_);
  EXPECT_EQ(recovered.report.end, writer.end());
  second.power_loss();
  const Opened again = open_log(second, options_);
  EXPECT_EQ(again.report.end, writer.end());
  EXPECT_TRUE(again.report.damaged.empty());
  EXPECT_TRUE(serve(*again.log, options_, Position(0)).records == writer.records());
}

TEST_F(Recovery, TwoPredecessorsAreBothWaitedFor) {
  live(1, 20000, false);
  auto one = std::make_unique<io::SimDisk>(io::SimDisk::Options{.seed = 5}, disk_.media());
  auto two = std::make_unique<io::SimDisk>(io::SimDisk::Options{.seed = 6}, disk_.media());
  const auto held_by_one = one->open(log_at(Position(0)), io::OpenMode::read_write);
  ASSERT_TRUE(one->lock(*held_by_one));
  ASSERT_TRUE(two->make_directories(options_.directory));
  const std::string temporary = log_at(Position(kRigFileSize)) + ".tmp";
  const auto held_by_two = two->open(temporary, io::OpenMode::create);
  ASSERT_TRUE(two->lock(*held_by_two));
  RecoveryReport report;
  EXPECT_EQ(PartitionLog::open(disk_, options_, Position(), {}, report).error().code(), ErrorCode::in_use);
  one.reset();
  EXPECT_EQ(PartitionLog::open(disk_, options_, Position(), {}, report).error().code(), ErrorCode::in_use);
  EXPECT_TRUE(exists(disk_, temporary));
  two.reset();
  expect_served(records_);
}

TEST_F(Recovery, AReadErrorIsNotATornTail) {
  live(1, 20000, false);
  const std::uint32_t before = disk_.media()->durable_checksum();
  disk_.inject(io::SimFault::read);
  RecoveryReport report;
  const auto failed = PartitionLog::open(disk_, options_, Position(), {}, report);
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().code(), ErrorCode::io);
  disk_.heal();
  EXPECT_EQ(disk_.media()->durable_checksum(), before);
  expect_served(records_);
}

TEST_F(Recovery, AFullDiskDoesNotKeepTheLogFromOpening) {
  live(1, kRigFileSize + 20000, false);
  remove_indexes();
  disk_.media()->set_capacity(0);
  expect_served(records_);
  disk_.media()->set_capacity(std::uint64_t{1} << 30);
  expect_served(records_);
}

}  // namespace
}  // namespace sluice::log
