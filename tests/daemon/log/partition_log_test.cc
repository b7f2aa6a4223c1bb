// Writing and reading through a PartitionLog that is not interrupted.
#include "daemon/log/partition_log.h"

#include <string>

#include <gtest/gtest.h>

#include "daemon/io/sim_disk.h"
#include "daemon/log/log_file.h"
#include "tests/daemon/log/log_rig.h"

namespace sluice::log {
namespace {

class PartitionLogTest : public testing::Test {
 protected:
  io::SimDisk disk_{{}};
  const LogOptions options_ = rig_options();
};

TEST_F(PartitionLogTest, AnEmptyDirectoryIsAnEmptyLog) {
  const Opened opened = open_log(disk_, options_);
  EXPECT_EQ(opened.report.end, Position(0));
  EXPECT_EQ(opened.report.used_end, Position(0));
  EXPECT_EQ(opened.report.records, 0u);
  EXPECT_EQ(opened.log->earliest(), Position(0));
  EXPECT_EQ(opened.log->end(), Position(0));
  EXPECT_EQ(opened.log->file_count(), 0u);
  EXPECT_EQ(opened.log->locate(Position(0)).kind, Located::Kind::above);
  EXPECT_EQ(opened.log->segment_at_time(1), Position(0));
}

TEST_F(PartitionLogTest, WhatIsDurableIsServedAndNothingAbove) {
  Opened opened = open_log(disk_, options_);
  LogWriter writer(disk_, *opened.log, options_, 1, Position(0));
  writer.append("first", "k");
  writer.append_aborted(3);
  ASSERT_TRUE(writer.sync());
  const Position durable = writer.end();
  writer.append("second");
  ASSERT_TRUE(writer.submit_writes(true) && writer.drain());
  EXPECT_EQ(opened.log->end(), durable);
  const Served served = serve(*opened.log, options_, Position(0));
  EXPECT_TRUE(served.damage.empty());
  EXPECT_EQ(served.records, std::vector(writer.records().begin(), writer.records().begin() + 2));
  ASSERT_TRUE(writer.sync());
  EXPECT_EQ(serve(*opened.log, options_, Position(0)).records, writer.records());
}

TEST_F(PartitionLogTest, TheDurablePositionNeverGoesBack) {
  Opened opened = open_log(disk_, options_);
  opened.log->set_durable(Position(128));
  opened.log->set_durable(Position(64));
  EXPECT_EQ(opened.log->end(), Position(128));
}

TEST_F(PartitionLogTest, RollsOverSeveralFilesWithoutAGap) {
  Opened opened = open_log(disk_, options_);
  LogWriter writer(disk_, *opened.log, options_, 1, Position(0));
  for (int i = 0; i < 10; ++i) {
    writer.append_some(kRigFileSize / 3, static_cast<std::uint64_t>(i));
    ASSERT_TRUE(writer.sync());
  }
  EXPECT_EQ(opened.log->file_count(), 4u);
  EXPECT_EQ(opened.log->file_bytes(), 4 * kRigFileSize);
  const Served served = serve(*opened.log, options_, Position(0));
  EXPECT_TRUE(served.damage.empty());
  EXPECT_EQ(served.records, writer.records());
}

TEST_F(PartitionLogTest, ATargetEndsAtItsFilesEnd) {
  Opened opened = open_log(disk_, options_);
  const auto first = opened.log->target(Position(kRigFileSize - 4096));
  ASSERT_TRUE(first);
  EXPECT_EQ(first->offset, 4096 * (kRigSegmentSize / 4096 - 1)) << "the file begins with the position's segment";
  auto log = open_log(disk_, rig_options("/other")).log;
  ASSERT_TRUE(log->target(Position(0)));
  const auto last = log->target(Position(kRigFileSize - 4096));
  ASSERT_TRUE(last);
  EXPECT_EQ(last->room, 4096u);
  const auto next = log->target(Position(kRigFileSize));
  ASSERT_TRUE(next);
  EXPECT_EQ(next->offset, 0u);
  EXPECT_NE(next->file, last->file);
  EXPECT_EQ(log->files_between(Position(kRigFileSize - 64), Position(kRigFileSize)).size(), 1u);
  EXPECT_EQ(log->files_between(Position(kRigFileSize - 64), Position(kRigFileSize + 64)).size(), 2u);
}

TEST_F(PartitionLogTest, ThePreparedFileIsTheOneThatIsUsed) {
  Opened opened = open_log(disk_, options_);
  ASSERT_TRUE(opened.log->prepare_next(Position(0)));
  EXPECT_EQ(opened.log->file_count(), 1u);
  ASSERT_TRUE(opened.log->prepare_next(Position(0)));
  ASSERT_TRUE(opened.log->prepare_next(Position(0)));
  EXPECT_EQ(opened.log->file_count(), 2u) << "the next one is made once";
  ASSERT_TRUE(opened.log->target(Position(kRigFileSize)));
  EXPECT_EQ(opened.log->file_count(), 2u);
}

TEST_F(PartitionLogTest, AFullDiskIsBackPressureAndRecovers) {
  Opened opened = open_log(disk_, options_);
  disk_.inject(io::SimFault::allocate, 2, ENOSPC);
  EXPECT_EQ(opened.log->prepare_next(Position(0)).error().code(), ErrorCode::would_block);
  const auto refused = opened.log->target(Position(0));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), ErrorCode::would_block);
  EXPECT_TRUE(opened.log->target(Position(0)));
}

TEST_F(PartitionLogTest, UsedPositionsAreRefused) {
  {
    Opened opened = open_log(disk_, options_);
    LogWriter writer(disk_, *opened.log, options_, 1, Position(0));
    writer.append("x");
    ASSERT_TRUE(writer.sync());
    ASSERT_TRUE(opened.log->close());
  }
  Opened opened = open_log(disk_, options_);
  const auto target = opened.log->target(Position(0));
  ASSERT_FALSE(target);
  EXPECT_EQ(target.error().code(), ErrorCode::conflict);
}

TEST_F(PartitionLogTest, ReadsFewerBytesAtTheEndAndSaysWhereNothingIs) {
  Opened opened = open_log(disk_, options_);
  LogWriter writer(disk_, *opened.log, options_, 1, Position(kRigSegmentSize));
  writer.append("x");
  ASSERT_TRUE(writer.sync());
  std::vector<std::byte> bytes(4096);
  EXPECT_EQ(opened.log->read(Position(kRigSegmentSize), bytes).value(), 128u);
  EXPECT_EQ(opened.log->read(writer.end(), bytes).value(), 0u);
  EXPECT_EQ(opened.log->read(Position(64), bytes).error().code(), ErrorCode::not_found);
  EXPECT_EQ(opened.log->earliest(), Position(kRigSegmentSize));
}

TEST_F(PartitionLogTest, AClientsDescriptorShowsTheSameBytes) {
  Opened opened = open_log(disk_, options_);
  LogWriter writer(disk_, *opened.log, options_, 1, Position(0));
  writer.append("for a client");
  ASSERT_TRUE(writer.sync());
  const Located located = opened.log->locate(Position(64));
  ASSERT_EQ(located.kind, Located::Kind::file);
  EXPECT_EQ(located.file_base, Position(0));
  EXPECT_EQ(located.data_end, writer.end());
  const auto fd = opened.log->open_for_client(located);
  ASSERT_TRUE(fd);
  std::string payload(12, '\0');
  ASSERT_EQ(::pread(fd->get(), payload.data(), payload.size(), 64 + 32), 12);
  EXPECT_EQ(payload, "for a client");
}

TEST_F(PartitionLogTest, ASegmentIsFoundByTime) {
  std::vector<RigRecord> records;
  Position start;
  for (std::uint64_t life = 1; life <= 2; ++life) {
    Opened opened = open_log(disk_, options_);
    LogWriter writer(disk_, *opened.log, options_, life, start);
    writer.append_some(kRigFileSize + kRigSegmentSize / 2, life);
    ASSERT_TRUE(writer.sync());
    for (const RigRecord& record : writer.records())
      if (record.claim.state() == layout::RecordState::committed && record.claim.kind() == layout::RecordKind::data)
        records.push_back(record);
    for (const RigRecord& record : records) {
      const Position segment = opened.log->segment_at_time(record.time_ns);
      EXPECT_EQ(segment.value, record.position.value / kRigSegmentSize * kRigSegmentSize);
    }
    const Position last = opened.log->segment_at_time(records.back().time_ns + 1);
    EXPECT_GE(last, Position(records.back().position.value / kRigSegmentSize * kRigSegmentSize))
        << "the segment that is being written may hold it, or there is none";
    EXPECT_EQ(opened.log->segment_at_time(0), Position(0));
    ASSERT_TRUE(opened.log->close());
    opened.log.reset();
    start = next_start(open_log(disk_, options_).report, options_);
  }
  Opened opened = open_log(disk_, options_);
  EXPECT_EQ(opened.log->segment_at_time(records.back().time_ns + 1), opened.log->end());
}

}  // namespace
}  // namespace sluice::log
