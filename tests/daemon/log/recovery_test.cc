// What a start finds after a clean stop, a crash, and a torn tail; what it refuses.
#include <algorithm>
#include <cstring>
#include <memory>

#include "daemon/log/index.h"
#include "daemon/log/recovery_look.h"
#include "shm/base/checksum.h"
#include "shm/layout/record.h"
#include "tests/daemon/log/recovery_rig.h"

namespace sluice::log {
namespace {

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

TEST_F(Recovery, EachGarbledIndexIsKept) {
  live(1, 5000, true);
  for (const std::byte fill : {std::byte{1}, std::byte{2}, std::byte{3}}) {
    write_file(disk_, index_at(Position(0)), std::vector<std::byte>(200, fill));
    expect_served(records_);
  }
  const std::string aside = index_at(Position(0)) + ".torn";
  EXPECT_EQ(read_file(disk_, aside), std::vector<std::byte>(200, std::byte{1}));
  EXPECT_EQ(read_file(disk_, aside + ".2"), std::vector<std::byte>(200, std::byte{2}));
  EXPECT_EQ(read_file(disk_, aside + ".3"), std::vector<std::byte>(200, std::byte{3}));
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

TEST_F(Recovery, WhatFollowsAStartsLostFirstFileIsTorn) {
  live(1, 5000, true);
  Position start;
  {
    Opened opened = open_log(disk_, options_);
    start = next_start(opened.report, options_);
    LogWriter writer(disk_, *opened.log, options_, 2, start);
    writer.append_some(kRigFileSize + 20'000, 1);
    ASSERT_TRUE(writer.submit_writes(true) && writer.drain());
  }
  // The second file got its bytes, the first one not.
  write_file(disk_, log_at(start), std::vector<std::byte>(kRigFileSize));
  const RecoveryReport report = expect_served(records_);
  EXPECT_EQ(report.end, start);
  EXPECT_GT(report.torn_bytes, 20'000u);
  EXPECT_GT(report.used_end, start + kRigFileSize);
  EXPECT_TRUE(report.damaged.empty());
  EXPECT_FALSE(exists(disk_, log_at(start + kRigFileSize)));
  EXPECT_EQ(expect_served(records_).end, start);
}

TEST_F(Recovery, ATornFileWithoutAHeaderIsSetAside) {
  live(1, kRigFileSize + 3000, false);
  const Position last(kRigFileSize);
  ASSERT_EQ(bases(), (std::vector<Position>{Position(0), last}));
  mangle(log_at(last), [](auto& bytes) { std::fill(bytes.begin(), bytes.begin() + 512, std::byte{0}); });
  const auto mangled = read_file(disk_, log_at(last));
  const RecoveryReport report = expect_served(all_but([&](const RigRecord& r) { return r.position >= last; }));
  ASSERT_EQ(report.unparsed.size(), 1u);
  EXPECT_EQ(report.unparsed.front(), log_at(last) + ".torn");
  EXPECT_EQ(read_file(disk_, log_at(last) + ".torn"), mangled);
  EXPECT_GT(report.torn_bytes, 0u);
}

TEST_F(Recovery, AFileThatIsSetAsideLeavesNoIndexBehind) {
  live(1, kRigFileSize + 3000, false);
  const Position last(kRigFileSize);
  mangle(log_at(last), [](auto& bytes) { std::fill(bytes.begin(), bytes.begin() + 512, std::byte{0}); });
  ASSERT_TRUE(write_index(disk_, options_.directory, index_key(options_, last), IndexContent()));
  open_log(disk_, options_);
  EXPECT_TRUE(exists(disk_, log_at(last) + ".torn"));
  EXPECT_FALSE(exists(disk_, index_at(last)));
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
