// What a start finds after damage of each kind below what was durable: what holds is served, the rest is reported and
// kept.
#include <algorithm>
#include <cstring>
#include <iterator>

#include "shm/layout/record.h"
#include "tests/daemon/log/recovery_rig.h"

namespace sluice::log {
namespace {

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

// ---- files that no start made where they are

TEST_F(Recovery, AFileInTheMidstOfAnothersDataHidesNothing) {
  {
    // In one step, so that no header names anything as durable.
    Opened opened = open_log(disk_, options_);
    LogWriter writer(disk_, *opened.log, options_, 1, Position(0));
    writer.append_some(3 * kRigSegmentSize, 1);
    ASSERT_TRUE(writer.sync());
    records_ = writer.records();
  }
  const std::string stray = log_at(Position(kRigSegmentSize));
  std::vector<std::byte> zero_headers(20'000, std::byte{0x5a});
  std::fill(zero_headers.begin(), zero_headers.begin() + 64, std::byte{0});
  std::fill(zero_headers.begin() + kRigSegmentSize, zero_headers.begin() + kRigSegmentSize + 64, std::byte{0});
  for (const std::vector<std::byte>& bytes :
       {std::vector<std::byte>(), std::vector<std::byte>(4096), std::vector<std::byte>(kRigFileSize), zero_headers,
        std::vector<std::byte>(10'000, std::byte{0x5a})}) {
    SCOPED_TRACE(bytes.size());
    write_file(disk_, stray, bytes);
    remove_indexes();
    for (int start = 0; start < 2; ++start) {
      const RecoveryReport report = expect_served(records_);
      EXPECT_EQ(report.end, end_of_records());
      for (const DamagedRange& damaged : report.damaged) EXPECT_GE(damaged.begin, end_of_records());
      EXPECT_EQ(read_file(disk_, stray), bytes);
    }
  }
}

TEST_F(Recovery, AFileOfGarbageStandsForTheSameRangeAtEveryStart) {
  live(1, 5000, true);
  const Position base(kRigFileSize);
  write_file(disk_, log_at(base), std::vector<std::byte>(192, std::byte{0xa5}));
  // A start's file whose writes were all lost: the first start closes it.
  write_file(disk_, log_at(base + kRigSegmentSize), {});
  for (int start = 0; start < 2; ++start) {
    const RecoveryReport report = expect_served(records_);
    ASSERT_EQ(report.damaged.size(), 1u);
    EXPECT_EQ(report.damaged[0].begin, base);
    EXPECT_EQ(report.damaged[0].end, base + kRigSegmentSize);
  }
}

TEST_F(Recovery, AFileThatWasCutInItsLastBlockGoesOnNowhereAtEveryStart) {
  live(1, kRigFileSize - 6000, true);
  live(2, 5000, true);
  mangle(log_at(Position(0)), [](auto& bytes) { bytes.resize(kRigFileSize); });
  write_file(disk_, log_at(Position(kRigFileSize)), std::vector<std::byte>(4096));
  remove_indexes();
  const RecoveryReport first = expect_served(records_);
  const RecoveryReport second = expect_served(records_);
  EXPECT_EQ(second.end, first.end);
  ASSERT_EQ(second.damaged.size(), first.damaged.size());
  for (const DamagedRange& damaged : second.damaged) EXPECT_LE(damaged.end, Position(kRigFileSize));
}

TEST_F(Recovery, RotInTheFileOfAStartThatWroteNothingCostsTheNextStartsNothing) {
  live(1, 5000, true);
  const Position mark = next_start(open_log(disk_, options_).report, options_);
  {
    Opened opened = open_log(disk_, options_);
    ASSERT_TRUE(opened.log->target(mark));
  }
  live(3, 20'000, false);
  ASSERT_EQ(read_file(disk_, log_at(mark)).size(), 4096u);
  remove_indexes();
  flip(mark, mark + 2000);
  const auto rotten = read_file(disk_, log_at(mark));
  for (int start = 0; start < 2; ++start) {
    expect_served(records_);
    EXPECT_EQ(read_file(disk_, log_at(mark)), rotten);
  }
}

TEST_F(Recovery, AFileOfAnotherHistoryIsServedUpToTheNextFile) {
  live(1, 5000, true);
  live(2, 5000, true);
  const std::vector<RigRecord> ours = records_;
  const Position second = bases().back();
  ASSERT_LT(second, Position(kRigFileSize));
  // The same partition on another machine, which wrote on in its first file.
  io::SimDisk other({});
  records_.clear();
  {
    Opened opened = open_log(other, options_);
    LogWriter writer(other, *opened.log, options_, 7, Position(0));
    writer.append_some(second.value + 5000, 5);
    ASSERT_TRUE(writer.sync());
    ASSERT_TRUE(opened.log->close());
    records_ = writer.records();
  }
  for (const std::string& path : {log_at(Position(0)), index_at(Position(0))})
    write_file(disk_, path, read_file(other, path));
  std::erase_if(records_, [&](const RigRecord& r) { return r.position >= second; });
  std::copy_if(ours.begin(), ours.end(), std::back_inserter(records_),
               [&](const RigRecord& r) { return r.position >= second; });
  for (int start = 0; start < 2; ++start) EXPECT_TRUE(expect_served(records_).damaged.empty());
}

}  // namespace
}  // namespace sluice::log
