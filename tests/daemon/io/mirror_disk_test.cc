// Several copies as one disk: what is called done is on every good copy, and who is not good is known in time.
#include "daemon/io/mirror_disk.h"

#include <cerrno>
#include <functional>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/daemon/io/disk_rig.h"
#include "tests/daemon/io/mirror_rig.h"

namespace sluice::io {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr std::size_t kBlock = kDirectIoAlignment;
const std::vector<std::string> kTwo = {"/a", "/b"};
const std::vector<std::string> kThree = {"/a", "/b", "/c"};

class MirrorDiskTest : public testing::Test {
 protected:
  MirrorDisk& disk() { return *rig_.disk; }
  std::vector<std::byte> at(const std::string& path) { return rig_.media->durable_bytes(path).value(); }
  FileId create(const std::string& path) {
    const FileId file = disk().open(path, OpenMode::create).value();
    SLUICE_ASSERT(disk().sync_directory("/a").has_value());
    return file;
  }

  static Status opened(const Result<FileId>& file) {
    if (!file) return fail(file.error());
    return {};
  }

  MirrorRig rig_;
  const AlignedBuffer data_{2 * kBlock, 1};
};

TEST_F(MirrorDiskTest, WhatIsSyncedIsDurableOnEveryCopy) {
  rig_.start(kThree);
  const FileId file = create("/a/x");
  ASSERT_EQ(write_and_wait(disk(), file, 0, data_.bytes()), 2 * kBlock);
  ASSERT_EQ(sync_and_wait(disk(), file), 0);
  for (const char* copy : {"/a/x", "/b/x", "/c/x"}) EXPECT_EQ(at(copy), data_.copy()) << copy;
}

TEST_F(MirrorDiskTest, ACopyThatFailsIsStaleOnTheOthersBeforeTheWriteIsCalledDone) {
  for (const SimFault fault : {SimFault::write, SimFault::sync}) {
    rig_ = MirrorRig(7);
    rig_.start(kThree);
    const FileId file = create("/a/x");
    rig_.sim->inject(fault, kSimForever, EIO, "/b");
    EXPECT_EQ(write_and_wait(disk(), file, 0, data_.bytes()), 2 * kBlock);
    EXPECT_EQ(sync_and_wait(disk(), file), 0);
    EXPECT_THAT(rig_.stale, ElementsAre("/b"));
    EXPECT_THAT(rig_.good_in_state("/a"), ElementsAre("/a", "/c"));
    EXPECT_THAT(rig_.good_in_state("/c"), ElementsAre("/a", "/c"));
    EXPECT_EQ(at("/a/x"), data_.copy());
    EXPECT_EQ(at("/c/x"), data_.copy());
    EXPECT_THAT(disk().info()[1].reason, HasSubstr("/b/x"));
  }
}

TEST_F(MirrorDiskTest, AStaleCopyIsNotTouchedAnyMore) {
  rig_.start(kTwo);
  const FileId file = create("/a/x");
  rig_.sim->inject(SimFault::write, 1, EIO, "/b");
  ASSERT_EQ(write_and_wait(disk(), file, 0, data_.bytes()), 2 * kBlock);
  const std::vector<std::byte> before = rig_.media->current_bytes("/b/x").value();
  ASSERT_EQ(write_and_wait(disk(), file, 0, AlignedBuffer(2 * kBlock, 2).bytes()), 2 * kBlock);
  disk().close(create("/a/y"));
  EXPECT_EQ(rig_.media->current_bytes("/b/x").value(), before);
  EXPECT_FALSE(rig_.media->current_bytes("/b/y"));
}

TEST_F(MirrorDiskTest, EachCallThatFailsOnOneCopyAloneMarksIt) {
  struct Case {
    const char* name;
    std::function<Status(MirrorDisk&, FileId)> call;
  };
  const std::vector<Case> cases = {
      {"open", [](MirrorDisk& d, FileId) { return opened(d.open("/a/x", OpenMode::read_write)); }},
      {"create", [](MirrorDisk& d, FileId) { return opened(d.open("/a/y", OpenMode::create)); }},
      {"allocate", [](MirrorDisk& d, FileId f) { return d.allocate(f, 8 * kBlock); }},
      {"truncate", [](MirrorDisk& d, FileId f) { return d.truncate(f, kBlock); }},
      {"write_synced", [](MirrorDisk& d, FileId f) { return d.write_synced(f, 0, std::as_bytes(std::span("abc"))); }},
      {"lock", [](MirrorDisk& d, FileId f) { return d.lock(f); }},
      {"rename", [](MirrorDisk& d, FileId) { return d.rename("/a/x", "/a/z"); }},
      {"unlink", [](MirrorDisk& d, FileId) { return d.unlink("/a/x"); }},
      {"make_directories", [](MirrorDisk& d, FileId) { return d.make_directories("/a/t/0"); }},
      {"sync_directory", [](MirrorDisk& d, FileId) { return d.sync_directory("/a"); }},
  };
  for (const std::string broken : {"/a", "/b"}) {
    for (const Case& c : cases) {
      rig_ = MirrorRig(3);
      rig_.start(kTwo);
      const FileId file = create("/a/x");
      rig_.sim->break_below(broken);
      EXPECT_TRUE(c.call(disk(), file)) << c.name << " " << broken;
      EXPECT_THAT(rig_.stale, ElementsAre(broken)) << c.name;
      EXPECT_THAT(rig_.good_in_state(broken == "/a" ? "/b" : "/a"), ElementsAre(broken == "/a" ? "/b" : "/a"));
    }
  }
}

TEST_F(MirrorDiskTest, WhereAllCopiesFailTheCallerGetsTheErrorAndNoneIsMarked) {
  rig_.start(kTwo);
  const FileId file = create("/a/x");
  rig_.sim->inject(SimFault::sync);
  ASSERT_EQ(write_and_wait(disk(), file, 0, data_.bytes()), 2 * kBlock);
  EXPECT_EQ(sync_and_wait(disk(), file), -EIO);
  rig_.sim->inject(SimFault::write);
  EXPECT_EQ(write_and_wait(disk(), file, 0, data_.bytes()), -EIO);
  rig_.sim->break_below("/");
  EXPECT_FALSE(disk().unlink("/a/x"));
  EXPECT_THAT(rig_.stale, IsEmpty());
  rig_.sim->break_below("");
  EXPECT_THAT(rig_.good_in_state("/a"), ElementsAre("/a", "/b"));
}

TEST_F(MirrorDiskTest, NothingIsCalledDoneWithoutTheNote) {
  rig_.start(kTwo);
  const FileId file = create("/a/x");
  rig_.sim->inject(SimFault::write, 1, EIO, "/b");
  rig_.sim->inject(SimFault::write_synced, 1, EIO, "/a");  // the note itself
  EXPECT_EQ(write_and_wait(disk(), file, 0, data_.bytes()), -EIO);
  EXPECT_THAT(rig_.stale, IsEmpty());
  // The next success takes the note with it first.
  EXPECT_EQ(sync_and_wait(disk(), file), 0);
  EXPECT_THAT(rig_.stale, ElementsAre("/b"));
  EXPECT_THAT(rig_.good_in_state("/a"), ElementsAre("/a"));
}

TEST_F(MirrorDiskTest, ACopyThatCannotTakeTheNoteIsStaleItself) {
  rig_.start(kThree);
  const FileId file = create("/a/x");
  rig_.sim->inject(SimFault::write, 1, EIO, "/b");
  rig_.sim->inject(SimFault::write_synced, 1, EIO, "/a");
  EXPECT_EQ(write_and_wait(disk(), file, 0, data_.bytes()), 2 * kBlock);
  EXPECT_THAT(rig_.stale, ElementsAre("/a", "/b"));
  EXPECT_THAT(rig_.good_in_state("/c"), ElementsAre("/c"));
  EXPECT_EQ(sync_and_wait(disk(), file), 0);
  EXPECT_EQ(contents(disk(), file), data_.copy());
}

TEST_F(MirrorDiskTest, AFullCopyPushesBackAndIsNotMarked) {
  rig_.start(kTwo);
  const FileId file = create("/a/x");
  rig_.sim->inject(SimFault::write, 1, ENOSPC, "/b");
  EXPECT_EQ(write_and_wait(disk(), file, 0, data_.bytes()), -ENOSPC);
  EXPECT_EQ(write_and_wait(disk(), file, 0, data_.bytes()), 2 * kBlock);
  rig_.sim->inject(SimFault::create, 1, ENOSPC, "/b");
  EXPECT_EQ(disk().open("/a/y", OpenMode::create).error().code(), ErrorCode::would_block);
  EXPECT_FALSE(rig_.media->current_bytes("/a/y")) << "undone where it had succeeded";
  rig_.sim->inject(SimFault::allocate, 1, ENOSPC, "/b");
  EXPECT_EQ(disk().allocate(file, 64 * kBlock).error().code(), ErrorCode::would_block);
  EXPECT_EQ(rig_.media->current_bytes("/a/x")->size(), 2 * kBlock);
  EXPECT_THAT(rig_.stale, IsEmpty());
}

TEST_F(MirrorDiskTest, OfAFullCopyAndAFailedOneTheFailedOneIsMarked) {
  rig_.start(kTwo);
  const FileId file = create("/a/x");
  rig_.sim->inject(SimFault::write, 1, ENOSPC, "/a");
  rig_.sim->break_below("/b");
  EXPECT_EQ(write_and_wait(disk(), file, 0, data_.bytes()), -ENOSPC);
  EXPECT_THAT(rig_.stale, ElementsAre("/b"));
  EXPECT_EQ(write_and_wait(disk(), file, 0, data_.bytes()), 2 * kBlock);
}

TEST_F(MirrorDiskTest, ALeftoverOnOneCopyIsSeenAndCanBeRemoved) {
  rig_.start(kTwo);
  rig_.sim->close(rig_.sim->open("/b/x", OpenMode::create).value());
  EXPECT_EQ(disk().open("/a/x", OpenMode::create).error().code(), ErrorCode::exists);
  EXPECT_FALSE(rig_.media->current_bytes("/a/x"));
  EXPECT_TRUE(disk().unlink("/a/x"));
  EXPECT_TRUE(disk().open("/a/x", OpenMode::create));
  EXPECT_THAT(rig_.stale, IsEmpty());
}

TEST_F(MirrorDiskTest, AShortWriteIsAsLongAsTheShortestCopy) {
  rig_.start(kTwo);
  const FileId file = create("/a/x");
  rig_.sim->inject(SimFault::short_write, 1, EIO, "/b");
  const std::int64_t written = write_and_wait(disk(), file, 0, data_.bytes());
  EXPECT_GE(written, 0);
  EXPECT_LT(written, static_cast<std::int64_t>(2 * kBlock));
  EXPECT_EQ(write_and_wait(disk(), file, 0, data_.bytes()), 2 * kBlock);
  EXPECT_THAT(rig_.stale, IsEmpty());
}

TEST_F(MirrorDiskTest, ReadsGoToTheNextCopy) {
  rig_.start(kTwo);
  const FileId file = create("/a/x");
  ASSERT_EQ(write_and_wait(disk(), file, 0, data_.bytes()), 2 * kBlock);
  const FileId reader = disk().open("/a/x", OpenMode::read).value();
  rig_.sim->inject(SimFault::read, kSimForever, EIO, "/a");
  EXPECT_EQ(contents(disk(), file), data_.copy());
  EXPECT_EQ(contents(disk(), reader), data_.copy());
  EXPECT_EQ(disk().info()[0].failed_reads, 2u);
  EXPECT_TRUE(disk().is_good(0)) << "a scrub may repair it";
  rig_.sim->inject(SimFault::read);
  std::vector<std::byte> into(kBlock);
  EXPECT_EQ(disk().read(file, 0, into).error().code(), ErrorCode::io);
}

TEST_F(MirrorDiskTest, RequestsInFlightOnACopyThatFailsEndOnce) {
  rig_.start(kTwo);
  const FileId file = create("/a/x");
  const AlignedBuffer many(16 * kBlock, 3);
  for (int round = 0; round < 20; ++round) {
    for (std::uint64_t i = 0; i < 16; ++i)
      ASSERT_TRUE(disk().submit_write(file, i * kBlock, many.bytes().subspan(i * kBlock, kBlock), i));
    if (round == 10) rig_.sim->break_below("/b");
    const std::vector<Completion> ends = wait_for(disk(), 16);
    ASSERT_EQ(ends.size(), 16u);
    std::uint64_t seen = 0;
    for (const Completion& end : ends) {
      EXPECT_EQ(end.result, static_cast<std::int64_t>(kBlock));
      seen |= std::uint64_t{1} << end.token;
    }
    EXPECT_EQ(seen, 0xffffu);
  }
  EXPECT_EQ(contents(disk(), file), many.copy());
  EXPECT_THAT(rig_.good_in_state("/a"), ElementsAre("/a"));
  disk().close(file);
}

}  // namespace
}  // namespace sluice::io
