// Retention and refs: what a ref means is kept for as long as the ref.
#include <memory>

#include <gtest/gtest.h>

#include "daemon/io/sim_disk.h"
#include "daemon/log/log_file.h"
#include "daemon/log/references.h"
#include "shm/layout/trailer.h"
#include "tests/daemon/log/log_rig.h"

namespace sluice::log {
namespace {

constexpr Position kKeepNothing{~std::uint64_t{0}};

class ReferenceRetention : public testing::Test {
 protected:
  void SetUp() override { open(options_); }
  // Nobody wants to see the records: what the indexes say need not be scanned.
  void open(const LogOptions& options) {
    opened_ = open_log(*disk_, options, writer_ ? writer_->end() : Position());
    if (!writer_) writer_ = std::make_unique<LogWriter>(*disk_, *opened_.log, options_, 1, Position(0));
  }
  void crash_and_open(const LogOptions& options) {
    forget(std::move(opened_.log));
    disk_ = std::make_unique<io::SimDisk>(io::SimDisk::Options{}, disk_->media());
    open(options);
  }
  Position append_message() {
    writer_->append("waits for its ref");
    return writer_->records().back().position;
  }
  void fill_files(std::uint64_t count) {
    while (writer_->end() < Position(count * kRigFileSize)) writer_->append(std::string(500, 'x'));
    ASSERT_TRUE(writer_->sync());
  }
  // So much is kept, but for what refs need; how many files have gone.
  std::uint64_t retain(std::uint64_t files, Position needed_from = kRefersToNothing) {
    return opened_.log->retain({files * kRigFileSize, 0, needed_from}, 0, kKeepNothing).value().files;
  }
  // A message in the first of five files, its ref in the third.
  void write_five() {
    const Position message = append_message();
    fill_files(2);
    writer_->append_ref(message);
    fill_files(4);
    ASSERT_EQ(opened_.log->file_count(), 5u);
  }
  void expect_kept_with_the_ref() {
    EXPECT_EQ(retain(3), 0u) << "the third file stays, and its ref";
    EXPECT_EQ(retain(2), 3u);
  }

  std::unique_ptr<io::SimDisk> disk_ = std::make_unique<io::SimDisk>(io::SimDisk::Options{});
  const LogOptions options_ = rig_options();
  Opened opened_;
  std::unique_ptr<LogWriter> writer_;
};

TEST_F(ReferenceRetention, AFileStaysAsLongAsAFileWithARefToIt) {
  write_five();
  expect_kept_with_the_ref();
}

TEST_F(ReferenceRetention, AfterACleanStop) {
  write_five();
  ASSERT_TRUE(opened_.log->close());
  open(options_);
  expect_kept_with_the_ref();
}

TEST_F(ReferenceRetention, AfterACrash) {
  write_five();
  crash_and_open(options_);
  expect_kept_with_the_ref();
}

TEST_F(ReferenceRetention, AfterACrashThatTookTheIndexes) {
  write_five();
  for (const std::string& name : list_files(*disk_, options_.directory)) {
    const ParsedName parsed = parse_name(name, options_.segment_size);
    if (parsed.kind != NameKind::index) continue;
    ASSERT_TRUE(disk_->unlink(index_path(options_.directory, parsed.base)));
  }
  crash_and_open(options_);
  expect_kept_with_the_ref();
}

TEST_F(ReferenceRetention, OverKeptMemory) {
  write_five();
  LogOptions kept = options_;
  kept.memory_kept = true;
  crash_and_open(kept);
  expect_kept_with_the_ref();
}

TEST_F(ReferenceRetention, ARefInTheSegmentThatTheLogEndsInIsToldToWhoGoesOnThere) {
  const Position message = append_message();
  fill_files(4);
  writer_->append_ref(message);
  ASSERT_TRUE(writer_->sync());
  const std::uint64_t back = writer_->end().value / kRigSegmentSize + 1;
  LogOptions kept = options_;
  kept.memory_kept = true;
  crash_and_open(kept);
  EXPECT_EQ(opened_.report.last_segment.refers_back, back);
  crash_and_open(options_);  // lost memory: nobody goes on there, the log knows it
  EXPECT_EQ(retain(1), 0u);
}

TEST_F(ReferenceRetention, RefsInAFileThatOnlyARefKeepsKeepNothing) {
  const Position first = append_message();
  fill_files(2);
  writer_->append_ref(first);
  const Position second = append_message();
  fill_files(4);
  writer_->append_ref(second);
  fill_files(5);
  ASSERT_EQ(opened_.log->file_count(), 6u);
  EXPECT_EQ(retain(3), 2u) << "the third file is over the limit, so its own ref is";
  EXPECT_EQ(opened_.log->earliest(), Position(2 * kRigFileSize));
  EXPECT_EQ(retain(1), 3u);
}

TEST_F(ReferenceRetention, WhatIsNeededOtherwiseStaysAndItsRefsKeepNothing) {
  const Position first = append_message();
  fill_files(2);
  writer_->append_ref(first);
  const Position waits = append_message();
  fill_files(4);
  EXPECT_EQ(retain(1, waits), 2u);
  EXPECT_EQ(retain(1), 2u);
}

TEST(References, OnlyTheDaemonsRefsToWhatLiesBeforeThemCount) {
  layout::TrailerBuilder builder;
  builder.reference(Position(3 * kRigSegmentSize + 640));
  const auto trailer = builder.finish();
  const auto back = [&](Position at, std::uint32_t producer, layout::RecordKind kind) {
    layout::RecordFields fields;
    fields.claim = layout::ClaimWord::make(ProducerId(producer), 1, kind, true, layout::RecordState::committed);
    return refers_back(at, fields, trailer, kRigSegmentSize);
  };
  EXPECT_EQ(back(Position(3 * kRigSegmentSize + 704), 0, layout::RecordKind::ref), 1u);
  EXPECT_EQ(back(Position(5 * kRigSegmentSize), 0, layout::RecordKind::ref), 3u);
  EXPECT_EQ(back(Position(3 * kRigSegmentSize + 640), 0, layout::RecordKind::ref), 0u);
  EXPECT_EQ(back(Position(5 * kRigSegmentSize), 1, layout::RecordKind::ref), 0u);
  EXPECT_EQ(back(Position(5 * kRigSegmentSize), 0, layout::RecordKind::data), 0u);
  EXPECT_EQ(referred_from(SegmentNumber(5), 3, kRigSegmentSize), Position(3 * kRigSegmentSize));
  EXPECT_EQ(referred_from(SegmentNumber(5), 0, kRigSegmentSize), kRefersToNothing);
  EXPECT_EQ(referred_from(SegmentNumber(5), 99, kRigSegmentSize), Position(0));
}

}  // namespace
}  // namespace sluice::log
