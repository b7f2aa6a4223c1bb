#include "daemon/log/log_file.h"

#include <gtest/gtest.h>

#include "daemon/io/sim_disk.h"
#include "tests/daemon/log/log_rig.h"

namespace sluice::log {
namespace {

TEST(LogFileName, ParsesWhatItMakes) {
  const Position base(3 * kRigSegmentSize);
  EXPECT_EQ(log_path("/d", base), "/d/00000000000000049152.log");
  EXPECT_EQ(index_path("/d", base), "/d/00000000000000049152.idx");
  const ParsedName parsed = parse_name("00000000000000049152.log", kRigSegmentSize);
  EXPECT_EQ(parsed.kind, NameKind::log);
  EXPECT_EQ(parsed.base, base);
  EXPECT_EQ(parse_name("00000000000000049152.idx", kRigSegmentSize).kind, NameKind::index);
  EXPECT_EQ(parse_name("00000000000000049152.log.tmp", kRigSegmentSize).kind, NameKind::temporary);
  EXPECT_EQ(parse_name("00000000000000049152.idx.tmp", kRigSegmentSize).kind, NameKind::temporary);
  EXPECT_EQ(parse_name("00000000000000049152.log.torn", kRigSegmentSize).kind, NameKind::torn);
}

TEST(LogFileName, RefusesWhatIsNotOurs) {
  for (const char* name :
       {"", "0.log", "00000000000000049153.log", "0000000000000004915x.log", "99999999999999999999.log",
        "00000000000000049152", "00000000000000049152.log2", "lost+found", "000000000000000049152.log"})
    EXPECT_EQ(parse_name(name, kRigSegmentSize).kind, NameKind::other) << name;
}

TEST(LogFile, IsThereWholeAndUnderItsNameWhenCreateReturns) {
  io::SimDisk disk({});
  ASSERT_TRUE(disk.make_directories("/d"));
  {
    auto file = create_log_file(disk, "/d", Position(0), kRigFileSize);
    ASSERT_TRUE(file);
  }
  disk.power_loss();
  EXPECT_EQ(list_files(disk, "/d"), std::vector<std::string>{"00000000000000000000.log"});
  EXPECT_EQ(read_file(disk, "/d/00000000000000000000.log"), std::vector<std::byte>(kRigFileSize));
}

TEST(LogFile, AFullDiskLeavesNothingBehind) {
  io::SimDisk disk({});
  ASSERT_TRUE(disk.make_directories("/d"));
  disk.inject(io::SimFault::allocate, 1, ENOSPC);
  const auto file = create_log_file(disk, "/d", Position(0), kRigFileSize);
  ASSERT_FALSE(file);
  EXPECT_EQ(file.error().code(), ErrorCode::would_block);
  EXPECT_TRUE(list_files(disk, "/d").empty());
  EXPECT_TRUE(create_log_file(disk, "/d", Position(0), kRigFileSize)) << "and it recovers by itself";
}

TEST(LogFile, ALeftoverTemporaryIsReplaced) {
  io::SimDisk disk({});
  ASSERT_TRUE(disk.make_directories("/d"));
  write_file(disk, "/d/00000000000000000000.log.tmp", std::vector<std::byte>(10, std::byte{7}));
  ASSERT_TRUE(create_log_file(disk, "/d", Position(0), kRigFileSize));
  EXPECT_EQ(read_file(disk, "/d/00000000000000000000.log"), std::vector<std::byte>(kRigFileSize));
}

}  // namespace
}  // namespace sluice::log
