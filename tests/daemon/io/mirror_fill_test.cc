// A stale copy is filled while everything goes on; it is good only when it holds all that the good ones hold.
#include "daemon/io/mirror_fill.h"

#include <cerrno>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "daemon/io/mirror_disk.h"
#include "tests/daemon/io/disk_rig.h"
#include "tests/daemon/io/mirror_rig.h"

namespace sluice::io {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr std::size_t kBlock = kDirectIoAlignment;
const std::vector<std::string> kTwo = {"/a", "/b"};
const std::string kLog = "/a/topics/t/0";

class MirrorFillTest : public testing::Test {
 protected:
  MirrorDisk& disk() { return *rig_.disk; }
  // /b is stale, and lacks what comes.
  void begin(std::uint64_t seed = 1) {
    rig_ = MirrorRig(seed);
    rig_.start(kTwo);
    ASSERT_TRUE(disk().make_directories(kLog));
    ASSERT_TRUE(disk().mark_stale(1, "a test"));
    rig_.stale.clear();
  }
  FileId put(const std::string& path, std::size_t size, std::uint64_t seed) {
    const FileId file = disk().open(path, OpenMode::create).value();
    SLUICE_ASSERT(disk().allocate(file, size).has_value());
    const AlignedBuffer data(size, seed);
    SLUICE_ASSERT(write_and_wait(disk(), file, 0, data.bytes()) == static_cast<std::int64_t>(size));
    SLUICE_ASSERT(sync_and_wait(disk(), file) == 0);
    SLUICE_ASSERT(disk().sync_directory(kLog).has_value());
    return file;
  }
  // Until it is complete, has failed, or does nothing any more.
  void fill() {
    for (int idle = 0; idle < 100 && !disk().is_fill_complete() && disk().fill_failure().empty();) {
      idle = disk().fill_step() ? 0 : idle + 1;
      std::array<Completion, 4> none;
      EXPECT_EQ(disk().reap(none), 0u) << "a completion that is nobody's";
    }
  }
  // All that is durable below a root, by its path there.
  std::map<std::string, std::vector<std::byte>> tree(const std::string& root, const std::string& below = "/topics") {
    std::map<std::string, std::vector<std::byte>> all;
    const Result<std::vector<std::string>> names = rig_.sim->list(root + below);
    for (const std::string& name : names ? *names : std::vector<std::string>()) {
      const std::string path = below + "/" + name;
      if (rig_.sim->list(root + path)) {
        all.merge(tree(root, path));
      } else {
        const auto bytes = rig_.media->durable_bytes(root + path);
        EXPECT_TRUE(bytes) << root + path << " is not durable";
        if (bytes) all[path] = *bytes;
      }
    }
    return all;
  }
  void expect_equal_and_good() {
    ASSERT_EQ(disk().fill_failure(), "");
    ASSERT_TRUE(disk().is_fill_complete());
    ASSERT_TRUE(disk().finish_fill());
    EXPECT_EQ(disk().good_count(), 2u);
    EXPECT_THAT(rig_.good_in_state("/a"), ElementsAre("/a", "/b"));
    EXPECT_THAT(rig_.good_in_state("/b"), ElementsAre("/a", "/b"));
    EXPECT_TRUE(tree("/a") == tree("/b"));
  }

  MirrorRig rig_;
};

TEST_F(MirrorFillTest, FilesAreCopiedAndWhatIsTooMuchGoes) {
  begin();
  disk().close(put(kLog + "/1.log", 3 * kFillChunkSize + kBlock, 1));
  disk().close(put(kLog + "/2.log", kFillSmallFileSize, 2));
  const FileId odd = disk().open(kLog + "/1.idx", OpenMode::create).value();
  ASSERT_TRUE(disk().write_synced(odd, 0, std::as_bytes(std::span("some text"))));
  disk().close(odd);
  ASSERT_TRUE(rig_.sim->make_directories("/b/topics/gone/0"));
  rig_.sim->close(rig_.sim->open("/b/topics/gone/0/x.log", OpenMode::create).value());
  ASSERT_TRUE(disk().begin_fill(1));
  fill();
  expect_equal_and_good();
  EXPECT_FALSE(rig_.sim->list("/b/topics/gone"));
  EXPECT_GT(tree("/b").size(), 2u);
}

TEST_F(MirrorFillTest, AFileThatIsWrittenMeanwhileMissesNothing) {
  for (std::uint64_t seed = 1; seed <= 60 && !HasFailure(); ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    begin(seed);
    constexpr std::size_t kSize = 4 * kFillChunkSize;
    SimRandom random(seed);
    const FileId file = put(kLog + "/1.log", kSize, seed);
    if (random.coin()) rig_.sim->set_delay_reaps_max(10);
    ASSERT_TRUE(disk().begin_fill(1));
    // A write and a sync at a time, as a partition has them, anywhere in the file; other files come and go.
    AlignedBuffer data(8 * kBlock, seed);
    std::uint64_t busy = 0;
    std::uint64_t token = 0;
    FileId other;
    std::array<Completion, 1> end;
    int others = 0;
    for (int step = 0; step < 400 || busy != 0; ++step) {
      static_cast<void>(disk().fill_step());
      if (busy == 0 && step < 400 && random.below(3) == 0) {
        busy = ++token;
        if (random.below(3) == 0) {
          ASSERT_TRUE(disk().submit_sync(file, busy));
        } else {
          const bool zeros = random.below(3) == 0;
          for (std::byte& byte : data.bytes()) byte = zeros ? std::byte{0} : static_cast<std::byte>(random.next());
          const std::uint64_t blocks = 1 + random.below(8);
          ASSERT_TRUE(disk().submit_write(file, random.below(kSize / kBlock - 8) * kBlock,
                                          data.bytes().first(blocks * kBlock), busy));
        }
      }
      if (random.below(20) == 0 && others < 6) {
        const std::string name = kLog + "/" + std::to_string(++others) + ".idx";
        other = disk().open(name + ".tmp", OpenMode::create).value();
        ASSERT_TRUE(disk().write_synced(other, 0, std::as_bytes(std::span(name))));
        disk().close(other);
        ASSERT_TRUE(disk().rename(name + ".tmp", name));
        ASSERT_TRUE(disk().sync_directory(kLog));
      } else if (others > 0 && random.below(20) == 0) {
        const std::string name = kLog + "/" + std::to_string(1 + random.below(others)) + ".idx";
        if (random.coin()) {
          static_cast<void>(disk().unlink(name).has_value());
          ASSERT_TRUE(disk().sync_directory(kLog));
        } else if (const auto again = disk().open(name, OpenMode::read_write)) {
          ASSERT_TRUE(disk().write_synced(*again, 3, std::as_bytes(std::span("changed"))));
          disk().close(*again);
        }
      }
      if (disk().reap(end) == 1) {
        EXPECT_EQ(end[0].token, busy);
        EXPECT_GE(end[0].result, 0);
        busy = 0;
      }
    }
    fill();
    ASSERT_EQ(disk().fill_failure(), "");
    ASSERT_TRUE(disk().is_fill_complete());
    ASSERT_TRUE(disk().finish_fill());
    // What is synced from here on is on both, and nothing that was written before is missing.
    ASSERT_EQ(sync_and_wait(disk(), file), 0);
    EXPECT_TRUE(tree("/a") == tree("/b"));
    disk().close(file);
  }
}

TEST_F(MirrorFillTest, FilesThatAreMadeMeanwhileAreOnTheCopyFromTheirFirstByte) {
  begin();
  const FileId first = put(kLog + "/1.log", 4 * kFillChunkSize, 1);
  ASSERT_TRUE(disk().begin_fill(1));
  for (int i = 0; i < 5; ++i) static_cast<void>(disk().fill_step());
  const FileId second = disk().open(kLog + "/2.log.tmp", OpenMode::create).value();
  ASSERT_TRUE(disk().lock(second));
  ASSERT_TRUE(disk().allocate(second, kFillChunkSize));
  ASSERT_TRUE(disk().write_synced(second, 0, std::vector<std::byte>(kBlock)));
  ASSERT_TRUE(disk().rename(kLog + "/2.log.tmp", kLog + "/2.log"));
  ASSERT_TRUE(disk().sync_directory(kLog));
  const AlignedBuffer data(kBlock, 5);
  ASSERT_EQ(write_and_wait(disk(), second, 2 * kBlock, data.bytes()), kBlock);
  fill();
  ASSERT_EQ(sync_and_wait(disk(), second), 0);
  expect_equal_and_good();
  ASSERT_EQ(write_and_wait(disk(), first, 0, data.bytes()), kBlock);
  ASSERT_EQ(sync_and_wait(disk(), first), 0);
  EXPECT_TRUE(tree("/a") == tree("/b"));
  EXPECT_THAT(rig_.stale, IsEmpty());
}

TEST_F(MirrorFillTest, ACopyThatFailsWhileItIsFilledStaysStaleAndNobodyNotices) {
  for (const SimFault fault : {SimFault::write, SimFault::sync, SimFault::create, SimFault::allocate}) {
    begin();
    const FileId file = put(kLog + "/1.log", 4 * kFillChunkSize, 1);
    rig_.sim->inject(fault, kSimForever, EIO, "/b/topics");
    ASSERT_TRUE(disk().begin_fill(1));
    fill();
    EXPECT_THAT(disk().fill_failure(), HasSubstr("/b/topics/t/0/1.log")) << static_cast<int>(fault);
    EXPECT_FALSE(disk().is_fill_complete());
    const AlignedBuffer data(kBlock, 5);
    EXPECT_EQ(write_and_wait(disk(), file, 0, data.bytes()), kBlock);
    EXPECT_EQ(sync_and_wait(disk(), file), 0);
    EXPECT_TRUE(disk().end_fill("a test"));
    EXPECT_EQ(disk().good_count(), 1u);
    EXPECT_THAT(rig_.good_in_state("/a"), ElementsAre("/a"));
    // And again, when its disk works.
    rig_.sim->heal();
    ASSERT_TRUE(disk().begin_fill(1));
    fill();
    expect_equal_and_good();
    disk().close(file);
  }
}

TEST_F(MirrorFillTest, ALiveWriteThatFailsOnTheCopyEndsTheFillingAlone) {
  begin();
  const FileId file = put(kLog + "/1.log", 4 * kFillChunkSize, 1);
  ASSERT_TRUE(disk().begin_fill(1));
  for (int i = 0; i < 20; ++i) {
    static_cast<void>(disk().fill_step());
    std::array<Completion, 1> none;
    static_cast<void>(disk().reap(none));
  }
  rig_.sim->break_below("/b");
  const AlignedBuffer data(kBlock, 5);
  EXPECT_EQ(write_and_wait(disk(), file, 0, data.bytes()), kBlock);
  EXPECT_EQ(sync_and_wait(disk(), file), 0);
  fill();
  EXPECT_NE(disk().fill_failure(), "");
  while (!disk().end_fill("a test")) {
    std::array<Completion, 1> none;
    static_cast<void>(disk().reap(none));
  }
  EXPECT_THAT(rig_.stale, IsEmpty());
  disk().close(file);
}

TEST_F(MirrorFillTest, TheDataDirectoryItselfCanBeFilledFromAMirror) {
  begin();
  ASSERT_TRUE(disk().begin_fill(1));
  fill();
  expect_equal_and_good();
  ASSERT_TRUE(disk().mark_stale(0, "a test"));
  disk().close(put(kLog + "/1.log", 2 * kFillChunkSize, 1));
  EXPECT_FALSE(rig_.media->current_bytes("/a/topics/t/0/1.log"));
  ASSERT_TRUE(disk().begin_fill(0));
  fill();
  expect_equal_and_good();
}

// The power goes while it is filled, or becomes good: the next start has all of it on each copy that it calls good.
TEST_F(MirrorFillTest, APowerCutAnywhereLeavesGoodCopiesEqual) {
  std::size_t both = 0;
  for (std::uint64_t cut = 1; cut < 120 && !HasFailure(); ++cut) {
    SCOPED_TRACE("cut at " + std::to_string(cut));
    begin(cut);
    disk().close(put(kLog + "/1.log", 2 * kFillChunkSize, 1));
    disk().close(put(kLog + "/2.log", kBlock, 2));
    const auto expected = tree("/a");
    ASSERT_TRUE(disk().begin_fill(1));
    rig_.sim->cut_power_after(cut);
    for (int i = 0; i < 200 && !disk().is_fill_complete() && disk().fill_failure().empty(); ++i) {
      static_cast<void>(disk().fill_step());
      std::array<Completion, 1> none;
      static_cast<void>(disk().reap(none));
    }
    if (disk().is_fill_complete()) static_cast<void>(disk().finish_fill().has_value());
    rig_.disk.reset();
    rig_.media->power_loss();
    rig_.start(kTwo);
    EXPECT_TRUE(tree("/a") == expected);
    if (disk().good_count() == 2) {
      ++both;
      EXPECT_TRUE(tree("/b") == expected);
    } else {
      EXPECT_TRUE(disk().is_good(0));
    }
  }
  EXPECT_GT(both, 0u);
}

}  // namespace
}  // namespace sluice::io
