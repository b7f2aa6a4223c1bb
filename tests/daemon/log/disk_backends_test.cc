// The same log on the simulated disk and on real files through io_uring.
#include <stdlib.h>

#include <filesystem>
#include <memory>

#include <gtest/gtest.h>

#include "daemon/io/sim_disk.h"
#include "daemon/io/uring_disk.h"
#include "daemon/log/log_file.h"
#include "tests/daemon/log/log_rig.h"

namespace sluice::log {
namespace {

class LogOnDisk : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    if (GetParam() == "simulated") {
      disk_ = std::make_unique<io::SimDisk>(io::SimDisk::Options{});
      directory_ = "/data";
      return;
    }
    auto made = io::UringDisk::create({});
    if (!made) GTEST_SKIP() << "io_uring is not allowed here: " << made.error().message();
    disk_ = std::move(*made);
    std::string pattern = (std::filesystem::temp_directory_path() / "sluice-log-XXXXXX").string();
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    directory_ = pattern;
    real_ = true;
  }
  void TearDown() override {
    disk_.reset();
    if (real_) std::filesystem::remove_all(directory_);
  }

  std::unique_ptr<io::Disk> disk_;
  std::string directory_;
  bool real_ = false;
};

TEST_P(LogOnDisk, ThreeLivesAreServedWithTheirGaps) {
  const LogOptions options = rig_options(directory_ + "/topics/orders/0");
  std::vector<RigRecord> records;
  for (std::uint64_t life = 1; life <= 3; ++life) {
    Opened opened = open_log(*disk_, options);
    EXPECT_TRUE(opened.report.damaged.empty());
    EXPECT_TRUE(opened.report.unparsed.empty());
    EXPECT_EQ(opened.report.torn_bytes, 0u);
    LogWriter writer(*disk_, *opened.log, options, life, life == 1 ? Position(0) : next_start(opened.report, options));
    for (std::uint64_t step = 0; step < 10; ++step) {
      writer.append_some(kRigFileSize / 4, life * 100 + step);
      ASSERT_TRUE(writer.sync());
      ASSERT_TRUE(opened.log->prepare_next(writer.end()));
    }
    records.insert(records.end(), writer.records().begin(), writer.records().end());
    const Served served = serve(*opened.log, options, Position(0));
    EXPECT_EQ(served.damage, std::vector<std::string>());
    EXPECT_TRUE(served.records == records);
    if (life == 2) {
      ASSERT_TRUE(opened.log->close());
    }
  }
  const Opened opened = open_log(*disk_, options);
  EXPECT_TRUE(serve(*opened.log, options, Position(0)).records == records);
  EXPECT_EQ(opened.visited.size(), records.size());
}

TEST_P(LogOnDisk, AFileThatIsOpenElsewhereIsInUse) {
  const LogOptions options = rig_options(directory_ + "/p");
  Opened opened = open_log(*disk_, options);
  LogWriter writer(*disk_, *opened.log, options, 1, Position(0));
  writer.append("x");
  ASSERT_TRUE(writer.sync());
  RecoveryReport report;
  const auto second = PartitionLog::open(*disk_, options, Position(), {}, report);
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code(), ErrorCode::in_use);
}

// The first file goes while a client has it, the second one when nobody has.
TEST_P(LogOnDisk, AFileIsUsedAgainUnlessAClientHasIt) {
  const LogOptions options = rig_options(directory_ + "/p");
  const Opened opened = open_log(*disk_, options);
  LogWriter writer(*disk_, *opened.log, options, 1, Position(0));
  const auto write_until = [&](Position end) {
    for (std::uint64_t seed = writer.end().value; writer.end() < end; ++seed) {
      writer.append_some(2000, seed);
      ASSERT_TRUE(writer.sync());
    }
  };
  const auto first = [&] { return log_path(options.directory, opened.log->earliest()); };
  write_until(Position(2 * kRigFileSize + 100));
  {
    const auto client = opened.log->open_for_client(opened.log->locate(Position(64)));
    ASSERT_TRUE(client);
    const std::string path = first();
    ASSERT_EQ(opened.log->retain({.bytes = 2 * kRigFileSize}, 1, opened.log->end())->files, 1u);
    EXPECT_FALSE(exists(*disk_, path));
    EXPECT_EQ(exists(*disk_, temporary_path(path)), !real_) << "the simulated disk knows no clients";
  }
  write_until(Position(3 * kRigFileSize + 100));
  const std::string path = first();
  ASSERT_EQ(opened.log->retain({.bytes = 2 * kRigFileSize}, 1, opened.log->end())->files, 1u);
  EXPECT_FALSE(exists(*disk_, path));
  EXPECT_TRUE(exists(*disk_, temporary_path(path)));
  write_until(Position(4 * kRigFileSize + 100));
  EXPECT_TRUE(opened.log->target(writer.end()).value().reused);
  EXPECT_EQ(serve(*opened.log, options, opened.log->earliest()).damage, std::vector<std::string>());
}

INSTANTIATE_TEST_SUITE_P(Disks, LogOnDisk, testing::Values("simulated", "io_uring"),
                         [](const auto& param_info) { return param_info.param; });

}  // namespace
}  // namespace sluice::log
