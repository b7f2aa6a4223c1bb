#include <algorithm>

#include <gtest/gtest.h>

#include "daemon/io/sim_disk.h"
#include "daemon/log/log_file.h"
#include "tests/daemon/log/log_rig.h"

namespace sluice::log {
namespace {

constexpr Position kKeepNothing{~std::uint64_t{0}};

class Retention : public testing::Test {
 protected:
  // Four files, the last of them half full.
  void SetUp() override {
    opened_ = open_log(disk_, options_);
    writer_ = std::make_unique<LogWriter>(disk_, *opened_.log, options_, 1, Position(0));
    for (std::uint64_t i = 0; writer_->end() < Position(3 * kRigFileSize + kRigFileSize / 2); ++i) {
      writer_->append_some(5000, i);
      ASSERT_TRUE(writer_->sync());
    }
    ASSERT_EQ(opened_.log->file_count(), 4u);
  }
  std::uint64_t records_below(Position position) const {
    std::uint64_t count = 0;
    for (const RigRecord& record : writer_->records()) {
      const bool committed = record.claim.state() == layout::RecordState::committed;
      if (record.position < position && committed && record.claim.kind() != layout::RecordKind::pad) ++count;
    }
    return count;
  }

  io::SimDisk disk_{{}};
  const LogOptions options_ = rig_options();
  Opened opened_;
  std::unique_ptr<LogWriter> writer_;
};

TEST_F(Retention, WithoutLimitsNothingGoes) {
  const auto trimmed = opened_.log->retain({}, ~std::uint64_t{0}, kKeepNothing);
  ASSERT_TRUE(trimmed);
  EXPECT_EQ(trimmed->files, 0u);
  EXPECT_EQ(trimmed->trimmed, Position(0));
}

TEST_F(Retention, BytesAreLimitedByWholeFiles) {
  const auto none = opened_.log->retain({.bytes = 4 * kRigFileSize}, 0, kKeepNothing);
  EXPECT_EQ(none->files, 0u) << "exactly at the limit";
  const auto one = opened_.log->retain({.bytes = 4 * kRigFileSize - 1}, 0, kKeepNothing);
  EXPECT_EQ(one->files, 1u);
  EXPECT_EQ(one->trimmed, Position(kRigFileSize));
  EXPECT_EQ(one->records, records_below(Position(kRigFileSize)));
  EXPECT_EQ(opened_.log->earliest(), Position(kRigFileSize));
  EXPECT_EQ(opened_.log->file_count(), 3u);
  EXPECT_FALSE(exists(disk_, log_path(options_.directory, Position(0))));
  EXPECT_FALSE(exists(disk_, index_path(options_.directory, Position(0))));
  const Located located = opened_.log->locate(Position(64));
  EXPECT_EQ(located.kind, Located::Kind::skip);
  EXPECT_EQ(located.next, Position(kRigFileSize));
}

TEST_F(Retention, TheNewestFileStays) {
  const auto trimmed = opened_.log->retain({.bytes = 1}, 0, kKeepNothing);
  EXPECT_EQ(trimmed->files, 3u);
  EXPECT_EQ(trimmed->trimmed, Position(3 * kRigFileSize));
  const Served served = serve(*opened_.log, options_, Position(0));
  EXPECT_TRUE(served.damage.empty());
  EXPECT_EQ(served.records.back(), writer_->records().back());
}

TEST_F(Retention, WhatIsStillNeededStays) {
  const auto trimmed = opened_.log->retain({.bytes = 1}, 0, Position(2 * kRigFileSize - 1));
  EXPECT_EQ(trimmed->files, 1u) << "the second file reaches above what is to be kept";
}

TEST_F(Retention, AgeIsThatOfAFilesNewestRecord) {
  std::uint64_t newest_ns = 0;
  for (const RigRecord& record : writer_->records())
    if (record.position < Position(kRigFileSize) && record.claim.kind() != layout::RecordKind::pad &&
        record.claim.state() == layout::RecordState::committed)
      newest_ns = record.time_ns;
  const RetentionLimits limits{.bytes = 0, .age_ns = 1000};
  EXPECT_EQ(opened_.log->retain(limits, newest_ns + 1000, kKeepNothing)->files, 0u);
  EXPECT_EQ(opened_.log->retain(limits, newest_ns + 1001, kKeepNothing)->files, 1u);
  EXPECT_EQ(opened_.log->retain({.bytes = 0, .age_ns = ~std::uint64_t{0}}, 5, kKeepNothing)->files, 0u)
      << "an age above the time since the epoch keeps everything";
}

TEST_F(Retention, WhatWasRemovedStaysAwayAfterAPowerLoss) {
  ASSERT_TRUE(opened_.log->retain({.bytes = 2 * kRigFileSize}, 0, kKeepNothing));
  opened_.log.reset();
  disk_.power_loss();
  const Opened again = open_log(disk_, options_);
  EXPECT_EQ(again.log->earliest(), Position(2 * kRigFileSize));
  EXPECT_EQ(again.report.end, writer_->end());
  EXPECT_TRUE(again.report.damaged.empty());
}

TEST_F(Retention, FilesOfEarlierStartsGoToo) {
  ASSERT_TRUE(opened_.log->close());
  opened_ = open_log(disk_, options_);
  LogWriter writer(disk_, *opened_.log, options_, 2, next_start(opened_.report, options_));
  writer.append("new");
  ASSERT_TRUE(writer.sync());
  const auto trimmed = opened_.log->retain({.bytes = 1}, 0, kKeepNothing);
  ASSERT_TRUE(trimmed);
  EXPECT_EQ(trimmed->files, 4u);
  EXPECT_EQ(serve(*opened_.log, options_, Position(0)).records, writer.records());
}

TEST_F(Retention, TheFileWithTheDurableEndStaysUntilSomethingNewerIsDurable) {
  const Position end = writer_->end();
  ASSERT_TRUE(opened_.log->close());
  opened_ = open_log(disk_, options_);
  const Position start = next_start(opened_.report, options_);
  LogWriter writer(disk_, *opened_.log, options_, 2, start);
  writer.append("written, not durable");
  ASSERT_TRUE(writer.submit_writes(true) && writer.drain());
  EXPECT_EQ(opened_.log->retain({.bytes = 1}, 0, kKeepNothing)->files, 3u);
  // The power goes, and of the newer file it takes the beginning alone.
  opened_.log.reset();
  auto bytes = read_file(disk_, log_path(options_.directory, start));
  std::fill(bytes.begin(), bytes.begin() + 64, std::byte{0});
  write_file(disk_, log_path(options_.directory, start), bytes);
  const Opened again = open_log(disk_, options_);
  EXPECT_EQ(again.report.end, end);
  EXPECT_EQ(again.log->end(), end);
}

}  // namespace
}  // namespace sluice::log
