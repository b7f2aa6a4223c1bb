// A log that is opened over memory that was kept: its files go on where they end.
#include <memory>
#include <random>

#include <gtest/gtest.h>

#include "daemon/io/sim_disk.h"
#include "tests/daemon/log/log_rig.h"

namespace sluice::log {
namespace {

LogOptions kept(LogOptions options) {
  options.memory_kept = true;
  return options;
}

// Committed records below `end` in the segment that it lies in.
std::uint64_t records_in_last_segment(const std::vector<RigRecord>& records, Position end) {
  const Position start(end.value / kRigSegmentSize * kRigSegmentSize);
  std::uint64_t count = 0;
  for (const RigRecord& record : records)
    if (record.position >= start && record.position < end && record.claim.state() == layout::RecordState::committed &&
        record.claim.kind() != layout::RecordKind::pad)
      ++count;
  return count;
}

std::vector<RigRecord> below(const std::vector<RigRecord>& records, Position end) {
  std::vector<RigRecord> found;
  for (const RigRecord& record : records)
    if (record.position < end) found.push_back(record);
  return found;
}

// The recovery after lost memory could not note the end of a file that the data nearly fills; then memory is kept.
TEST(WriteOn, AFileOfALostMemoryIsNotWrittenOn) {
  auto disk = std::make_unique<io::SimDisk>(io::SimDisk::Options{});
  const auto media = disk->media();
  const LogOptions options = rig_options();
  Opened opened = open_log(*disk, options);
  LogWriter writer(*disk, *opened.log, options, 1, Position(0));
  while (writer.end() + 1024 < Position(kRigFileSize)) writer.append("message");
  ASSERT_TRUE(writer.sync());
  forget(std::move(opened.log));
  media->set_capacity(0);
  disk = std::make_unique<io::SimDisk>(io::SimDisk::Options{}, media);
  opened = open_log(*disk, options);
  forget(std::move(opened.log));
  media->set_capacity(std::uint64_t{1} << 40);
  disk = std::make_unique<io::SimDisk>(io::SimDisk::Options{}, media);
  LogOptions adopting = kept(options);
  adopting.memory_start = Position(4 * kRigFileSize);
  opened = open_log(*disk, adopting);
  opened.log->set_durable(adopting.memory_start);
  EXPECT_EQ(opened.log->locate(Position(0)).data_end, writer.end());
}

class WriteOnTest : public testing::TestWithParam<int> {};

TEST_P(WriteOnTest, NothingIsCutAndEveryRecordIsThereInTheEnd) {
  std::mt19937_64 random(static_cast<std::uint64_t>(GetParam()));
  auto disk = std::make_unique<io::SimDisk>(io::SimDisk::Options{});
  const auto media = disk->media();
  const LogOptions options = rig_options();
  Opened opened = open_log(*disk, options);
  LogWriter writer(*disk, *opened.log, options, 1, Position(0));
  for (int life = 0; life < 8; ++life) {
    const int steps = static_cast<int>(random() % 6);
    for (int step = 0; step < steps; ++step) {
      const std::uint64_t bytes = 64 + random() % (random() % 4 == 0 ? 3 * kRigFileSize / 2 : 3000);
      const std::uint64_t seed = random();
      writer.append_some(bytes, seed);
      switch (random() % 4) {
        case 0: ASSERT_TRUE(writer.sync()); break;
        case 1: ASSERT_TRUE(writer.submit_writes(random() % 2 == 0) && writer.drain()); break;
        case 2: ASSERT_TRUE(opened.log->prepare_next(opened.log->end())); break;
        default: break;
      }
    }
    const Position durable = opened.log->end();
    forget(std::move(opened.log));
    disk = std::make_unique<io::SimDisk>(io::SimDisk::Options{}, media);
    opened = open_log(*disk, kept(options));
    const Position end = opened.report.end;
    ASSERT_GE(end, durable);
    EXPECT_EQ(opened.log->end(), end);
    EXPECT_EQ(opened.report.torn_bytes, 0u);
    EXPECT_TRUE(opened.report.damaged.empty());
    EXPECT_EQ(opened.report.last_segment.records, records_in_last_segment(writer.records(), end));
    ASSERT_EQ(opened.visited.size(), below(writer.records(), end).size());
    ASSERT_TRUE(serve(*opened.log, options, Position(0)).records == below(writer.records(), end)) << "life " << life;
    writer.go_on(*disk, *opened.log);
  }
  ASSERT_TRUE(writer.sync());
  EXPECT_TRUE(serve(*opened.log, options, Position(0)).records == writer.records());
  ASSERT_TRUE(opened.log->close());
  opened.log.reset();
  opened = open_log(*disk, options);
  EXPECT_EQ(opened.report.end, writer.end());
  EXPECT_TRUE(opened.report.damaged.empty());
  const Served served = serve(*opened.log, options, Position(0));
  EXPECT_TRUE(served.damage.empty());
  EXPECT_TRUE(served.records == writer.records());
}
INSTANTIATE_TEST_SUITE_P(Seeds, WriteOnTest, testing::Range(0, 200));

TEST(WriteOn, AShortFileIsNotWrittenOn) {
  auto first = std::make_unique<io::SimDisk>(io::SimDisk::Options{});
  const auto media = first->media();
  const LogOptions options = rig_options();
  Opened opened = open_log(*first, options);
  LogWriter writer(*first, *opened.log, options, 1, Position(0));
  writer.append("kept");
  ASSERT_TRUE(writer.sync());
  const Position end = writer.end();
  const std::vector<RigRecord> records = writer.records();
  forget(std::move(opened.log));
  first.reset();
  io::SimDisk disk({}, media);
  const std::string path = options.directory + "/00000000000000000000.log";
  std::vector<std::byte> bytes = read_file(disk, path);
  bytes.resize(kDirectIoAlignment);
  write_file(disk, path, bytes);
  const Opened again = open_log(disk, kept(options));
  EXPECT_EQ(again.report.end, end);
  EXPECT_EQ(again.log->target(end).error().code(), ErrorCode::conflict);
  EXPECT_EQ(serve(*again.log, options, Position(0)).records, records);
}

}  // namespace
}  // namespace sluice::log
