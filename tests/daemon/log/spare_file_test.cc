// Log files that retention took and that became the next ones: their former bytes lie behind the data, and are never
// taken for any.
#include "daemon/log/spare_file.h"

#include <algorithm>
#include <memory>
#include <random>

#include <gtest/gtest.h>

#include "daemon/io/sim_disk.h"
#include "daemon/log/log_file.h"
#include "tests/daemon/log/log_rig.h"

namespace sluice::log {
namespace {

constexpr Position kKeepNothing{~std::uint64_t{0}};
constexpr RetentionLimits kThreeFiles{.bytes = 3 * kRigFileSize};

class SpareFileTest : public testing::Test {
 protected:
  void SetUp() override { start(Position(0)); }
  void start(Position from) {
    opened_ = open_log(*disk_, options_);
    writer_ = std::make_unique<LogWriter>(*disk_, *opened_.log, options_, ++life_, from);
  }
  // As the spiller does: the next file is made early in the one before it.
  void write_until(Position end) {
    while (writer_->end() < end) {
      writer_->append_some(2000, ++seed_);
      ASSERT_TRUE(opened_.log->prepare_next(opened_.log->end()));
      ASSERT_TRUE(writer_->sync());
    }
  }
  // Five files written, two of them gone; the next file that is made is one of these.
  void write_and_retain() {
    write_until(Position(4 * kRigFileSize + kRigSegmentSize));
    ASSERT_EQ(retain().files, 3u);
    ASSERT_EQ(temporaries(), 1);
  }
  Trimmed retain(std::uint64_t wall_ns = 1) { return opened_.log->retain(kThreeFiles, wall_ns, kKeepNothing).value(); }
  std::ptrdiff_t temporaries() {
    const std::vector<std::string> names = list_files(*disk_, options_.directory);
    return std::count_if(names.begin(), names.end(), [](const std::string& name) { return name.ends_with(".tmp"); });
  }
  bool is_reused(Position position) { return opened_.log->target(position).value().reused; }
  // As kill -9.
  void kill() {
    forget(std::move(opened_.log));
    disk_ = std::make_unique<io::SimDisk>(io::SimDisk::Options{}, disk_->media());
  }
  // Records of this life from there on, up to the durable end, are all served.
  void expect_served(const Opened& opened, Position from, Position end) {
    std::vector<RigRecord> expected;
    for (const RigRecord& record : writer_->records())
      if (record.position >= from && record.position < end) expected.push_back(record);
    const Served served = serve(*opened.log, options_, from);
    EXPECT_EQ(served.damage, std::vector<std::string>());
    EXPECT_TRUE(served.records == expected) << served.records.size() << " of " << expected.size();
  }

  std::unique_ptr<io::SimDisk> disk_ = std::make_unique<io::SimDisk>(io::SimDisk::Options{});
  LogOptions options_ = rig_options();
  Opened opened_;
  std::unique_ptr<LogWriter> writer_;
  std::uint64_t life_ = 0;
  std::uint64_t seed_ = 0;
};

TEST_F(SpareFileTest, ATakenFileBecomesTheNextOne) {
  write_and_retain();
  EXPECT_EQ(opened_.log->file_bytes(), (opened_.log->file_count() + 1) * kRigFileSize);
  EXPECT_FALSE(is_reused(Position(5 * kRigFileSize))) << "it was made before";
  write_until(Position(6 * kRigFileSize + kRigSegmentSize));
  EXPECT_EQ(temporaries(), 0);
  EXPECT_TRUE(is_reused(Position(6 * kRigFileSize)));
  expect_served(opened_, opened_.log->earliest(), opened_.log->end());
}

TEST_F(SpareFileTest, AStartThatLostItsMemoryEndsTheLogBeforeTheFormerBytes) {
  write_and_retain();
  write_until(Position(6 * kRigFileSize + kRigSegmentSize + 500));
  ASSERT_TRUE(is_reused(Position(6 * kRigFileSize)));
  const Position earliest = opened_.log->earliest();
  const Position end = opened_.log->end();
  kill();
  const Opened after = open_log(*disk_, options_);
  EXPECT_EQ(after.report.end, end);
  EXPECT_EQ(after.report.torn_bytes, 0u);
  EXPECT_TRUE(after.report.damaged.empty());
  EXPECT_TRUE(after.report.unparsed.empty());
  EXPECT_LT(after.report.used_end, end + 2 * kRigFileSize) << "only headers count as used";
  expect_served(after, earliest, end);
}

TEST_F(SpareFileTest, OneThatWasMadeAheadOfNeedIsNoDamage) {
  write_and_retain();
  write_until(Position(5 * kRigFileSize + kRigSegmentSize));
  ASSERT_TRUE(is_reused(Position(6 * kRigFileSize)));
  const Position end = opened_.log->end();
  kill();
  const Opened after = open_log(*disk_, options_);
  EXPECT_EQ(after.report.end, end);
  EXPECT_EQ(after.report.torn_bytes, 0u);
  EXPECT_TRUE(after.report.damaged.empty());
  for (const std::string& name : list_files(*disk_, options_.directory)) EXPECT_FALSE(name.ends_with(".torn")) << name;
}

TEST_F(SpareFileTest, ACleanStopCutsIt) {
  write_and_retain();
  write_until(Position(6 * kRigFileSize + kRigSegmentSize + 500));
  const Position earliest = opened_.log->earliest();
  const Position end = opened_.log->end();
  ASSERT_TRUE(opened_.log->close());
  EXPECT_EQ(read_file(*disk_, log_path(options_.directory, Position(6 * kRigFileSize))).size() % 4096, 0u);
  EXPECT_LT(read_file(*disk_, log_path(options_.directory, Position(6 * kRigFileSize))).size(), kRigFileSize);
  opened_.log.reset();
  const Opened after = open_log(*disk_, options_, end);
  EXPECT_EQ(after.report.records, 0u) << "everything was summed up";
  EXPECT_EQ(after.report.end, end);
  expect_served(after, earliest, end);
}

TEST_F(SpareFileTest, KeptMemoryGoesOnInIt) {
  write_and_retain();
  write_until(Position(6 * kRigFileSize + kRigSegmentSize + 500));
  const Position earliest = opened_.log->earliest();
  kill();
  LogOptions kept = options_;
  kept.memory_kept = true;
  opened_ = open_log(*disk_, kept);
  EXPECT_TRUE(is_reused(Position(6 * kRigFileSize)));
  writer_->go_on(*disk_, *opened_.log);
  write_until(Position(7 * kRigFileSize + 300));
  expect_served(opened_, earliest, opened_.log->end());
}

TEST_F(SpareFileTest, OneThatNobodyNeedsIsGoneAfterAWhileAndAtTheEnd) {
  write_and_retain();
  EXPECT_EQ(retain(1 + kSpareKeptNs).files, 0u);
  EXPECT_EQ(temporaries(), 1);
  EXPECT_EQ(retain(2 + kSpareKeptNs).files, 0u);
  EXPECT_EQ(temporaries(), 0);
  write_until(Position(6 * kRigFileSize + kRigSegmentSize));
  retain();
  EXPECT_EQ(temporaries(), 1);
  ASSERT_TRUE(opened_.log->close());
  EXPECT_EQ(temporaries(), 0);
}

TEST_F(SpareFileTest, WithoutChecksumsNothingIsKept) {
  opened_.log.reset();
  options_.directory += "-plain";
  options_.checksums = false;
  start(Position(0));
  write_until(Position(4 * kRigFileSize + kRigSegmentSize));
  EXPECT_EQ(retain().files, 3u);
  EXPECT_EQ(temporaries(), 0);
}

}  // namespace
}  // namespace sluice::log
