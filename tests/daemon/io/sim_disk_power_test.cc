// What a power loss of the simulated disk may do, what it does now and then, and what it never does.
#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "daemon/io/sim_disk.h"
#include "daemon/io/sim_random.h"
#include "tests/daemon/io/disk_rig.h"

namespace sluice::io {
namespace {

using testing::ElementsAre;

constexpr std::size_t kBlock = kDirectIoAlignment;
constexpr std::uint64_t kSeeds = 100;

// One block in a file whose name is durable.
struct OneFile {
  explicit OneFile(std::uint64_t seed) : disk(SimDisk::Options{.seed = seed}) {
    file = disk.open("/a", OpenMode::create).value();
    EXPECT_TRUE(disk.sync_directory("/"));
  }
  void write(const AlignedBuffer& data) { ASSERT_EQ(write_and_wait(disk, file, 0, data.bytes()), data.bytes().size()); }
  void sync() { ASSERT_EQ(sync_and_wait(disk, file), 0); }
  // What is there when the machine is up again.
  std::vector<std::byte> after_power_loss() {
    disk.power_loss();
    file = disk.open("/a", OpenMode::read_write).value();
    return contents(disk, file);
  }

  SimDisk disk;
  FileId file;
};

const AlignedBuffer kOld(kBlock, 1);
const AlignedBuffer kNew(kBlock, 2);

enum class Outcome { old_bytes, new_bytes, torn };

// Fails the test if a sector is neither.
Outcome outcome_of(const std::vector<std::byte>& found) {
  EXPECT_EQ(found.size(), kBlock);
  std::size_t new_sectors = 0;
  for (std::size_t at = 0; at < found.size(); at += kSimSectorSize) {
    const bool is_new = std::memcmp(&found[at], kNew.bytes().data() + at, kSimSectorSize) == 0;
    EXPECT_TRUE(is_new || std::memcmp(&found[at], kOld.bytes().data() + at, kSimSectorSize) == 0) << at;
    new_sectors += is_new;
  }
  if (new_sectors == 0) return Outcome::old_bytes;
  return new_sectors * kSimSectorSize == found.size() ? Outcome::new_bytes : Outcome::torn;
}

template <typename Scenario>
std::map<Outcome, int> outcomes(Scenario scenario) {
  std::map<Outcome, int> counts;
  for (std::uint64_t seed = 1; seed <= kSeeds; ++seed) {
    OneFile one(seed);
    one.write(kOld);
    one.sync();
    scenario(one);
    ++counts[outcome_of(one.after_power_loss())];
  }
  return counts;
}

TEST(SimDiskPower, SyncedWritesStay) {
  const auto counts = outcomes([](OneFile& one) {
    one.write(kNew);
    one.sync();
  });
  EXPECT_EQ(counts, (std::map<Outcome, int>{{Outcome::new_bytes, kSeeds}}));
}

TEST(SimDiskPower, UnsyncedWritesAreKeptDroppedOrTorn) {
  const auto counts = outcomes([](OneFile& one) { one.write(kNew); });
  EXPECT_EQ(counts.size(), 3u);
}

TEST(SimDiskPower, WritesInFlightAreKeptDroppedOrTorn) {
  const auto counts = outcomes([](OneFile& one) { ASSERT_TRUE(one.disk.submit_write(one.file, 0, kNew.bytes(), 1)); });
  EXPECT_EQ(counts.size(), 3u);
}

TEST(SimDiskPower, SyncCoversOnlyWhatWasReapedBefore) {
  const auto counts = outcomes([](OneFile& one) {
    ASSERT_TRUE(one.disk.submit_write(one.file, 0, kNew.bytes(), 1));
    ASSERT_TRUE(one.disk.submit_sync(one.file, 2));
    ASSERT_EQ(wait_for(one.disk, 2).size(), 2u);
  });
  EXPECT_EQ(counts.size(), 3u);
}

TEST(SimDiskPower, SyncInFlightPromisesNothing) {
  const auto counts = outcomes([](OneFile& one) {
    one.write(kNew);
    ASSERT_TRUE(one.disk.submit_sync(one.file, 2));
  });
  EXPECT_EQ(counts.size(), 3u);
}

TEST(SimDiskPower, FailedSyncIsNotMendedByALaterOne) {
  const auto counts = outcomes([](OneFile& one) {
    one.write(kNew);
    one.disk.inject(SimFault::sync, 1);
    ASSERT_EQ(sync_and_wait(one.disk, one.file), -EIO);
    one.sync();
  });
  EXPECT_EQ(counts.size(), 3u);
}

TEST(SimDiskPower, WritingAgainAfterAFailedSyncCounts) {
  const auto counts = outcomes([](OneFile& one) {
    one.write(kOld);
    one.disk.inject(SimFault::sync, 1);
    ASSERT_EQ(sync_and_wait(one.disk, one.file), -EIO);
    one.write(kNew);
    one.sync();
  });
  EXPECT_EQ(counts, (std::map<Outcome, int>{{Outcome::new_bytes, kSeeds}}));
}

TEST(SimDiskPower, WriteSyncedStaysOverOlderUnsyncedWrites) {
  const auto counts = outcomes([](OneFile& one) {
    one.write(kOld);
    ASSERT_TRUE(one.disk.write_synced(one.file, 0, kNew.bytes()));
  });
  EXPECT_EQ(counts, (std::map<Outcome, int>{{Outcome::new_bytes, kSeeds}}));
}

TEST(SimDiskPower, SizesAreLostUnlessSynced) {
  std::set<std::size_t> unsynced;
  for (std::uint64_t seed = 1; seed <= kSeeds; ++seed) {
    OneFile one(seed);
    ASSERT_TRUE(one.disk.allocate(one.file, 4 * kBlock));
    unsynced.insert(one.after_power_loss().size());
    ASSERT_TRUE(one.disk.allocate(one.file, 4 * kBlock));
    ASSERT_TRUE(one.disk.truncate(one.file, 2 * kBlock));
    ASSERT_EQ(sync_and_wait(one.disk, one.file), 0);
    ASSERT_EQ(one.after_power_loss().size(), 2 * kBlock);
  }
  EXPECT_EQ(unsynced, (std::set<std::size_t>{0, 4 * kBlock}));
}

TEST(SimDiskPower, WhatASyncedCutTookOffStaysOff) {
  for (std::uint64_t seed = 1; seed <= kSeeds; ++seed) {
    OneFile one(seed);
    one.write(kNew);
    one.disk.inject(SimFault::sync, 1);
    ASSERT_EQ(sync_and_wait(one.disk, one.file), -EIO);
    ASSERT_TRUE(one.disk.truncate(one.file, 0));
    one.sync();
    ASSERT_EQ(one.after_power_loss().size(), 0u);
  }
}

TEST(SimDiskPower, AnOldCutDoesNotUndoYoungerSyncedWrites) {
  const auto counts = outcomes([](OneFile& one) {
    ASSERT_TRUE(one.disk.truncate(one.file, 0));
    one.disk.inject(SimFault::sync, 1);
    ASSERT_EQ(sync_and_wait(one.disk, one.file), -EIO);
    one.write(kNew);
    one.sync();
  });
  EXPECT_EQ(counts, (std::map<Outcome, int>{{Outcome::new_bytes, kSeeds}}));
}

// ---- names

// How often each list of names in "/d" was found.
template <typename Scenario>
std::map<std::vector<std::string>, int> names_after(Scenario scenario) {
  std::map<std::vector<std::string>, int> counts;
  for (std::uint64_t seed = 1; seed <= kSeeds; ++seed) {
    SimDisk disk({.seed = seed});
    EXPECT_TRUE(disk.make_directories("/d"));
    scenario(disk);
    disk.power_loss();
    ++counts[disk.list("/d").value()];
  }
  return counts;
}

using Names = std::vector<std::string>;

void create_synced_file(SimDisk& disk, const std::string& path) {
  const FileId file = disk.open(path, OpenMode::create).value();
  ASSERT_TRUE(disk.write_synced(file, 0, std::as_bytes(std::span(path))));
  ASSERT_EQ(sync_and_wait(disk, file), 0);
  disk.close(file);
}

TEST(SimDiskPower, DirectoriesMadeAreThere) {
  const auto counts = names_after([](SimDisk& disk) { ASSERT_TRUE(disk.make_directories("/d/x/y")); });
  EXPECT_EQ(counts, (std::map<Names, int>{{{"x"}, kSeeds}}));
}

TEST(SimDiskPower, SyncingAFileDoesNotKeepItsName) {
  const auto counts = names_after([](SimDisk& disk) { create_synced_file(disk, "/d/a"); });
  EXPECT_EQ(counts.size(), 2u);
  EXPECT_TRUE(counts.contains({}) && counts.contains({"a"}));
}

TEST(SimDiskPower, SyncingTheDirectoryKeepsNames) {
  const auto counts = names_after([](SimDisk& disk) {
    create_synced_file(disk, "/d/a");
    create_synced_file(disk, "/d/b");
    ASSERT_TRUE(disk.unlink("/d/b"));
    create_synced_file(disk, "/d/c.tmp");
    ASSERT_TRUE(disk.rename("/d/c.tmp", "/d/c"));
    ASSERT_TRUE(disk.sync_directory("/d"));
  });
  EXPECT_EQ(counts, (std::map<Names, int>{{{"a", "c"}, kSeeds}}));
}

TEST(SimDiskPower, UnsyncedUnlinksMayComeBack) {
  const auto counts = names_after([](SimDisk& disk) {
    create_synced_file(disk, "/d/a");
    create_synced_file(disk, "/d/b");
    ASSERT_TRUE(disk.sync_directory("/d"));
    ASSERT_TRUE(disk.unlink("/d/a"));
    ASSERT_TRUE(disk.unlink("/d/b"));
  });
  // Independently of each other: the later may be kept and the earlier lost.
  EXPECT_EQ(counts.size(), 4u);
}

TEST(SimDiskPower, RenameIsNeverHalfDone) {
  const auto counts = names_after([](SimDisk& disk) {
    create_synced_file(disk, "/d/a");
    ASSERT_TRUE(disk.sync_directory("/d"));
    ASSERT_TRUE(disk.rename("/d/a", "/d/b"));
  });
  EXPECT_EQ(counts.size(), 2u);
  EXPECT_TRUE(counts.contains({"a"}) && counts.contains({"b"}));
}

TEST(SimDiskPower, ReplacingByRenameGivesTheOldFileOrTheNewOne) {
  std::map<std::size_t, int> sizes;
  for (std::uint64_t seed = 1; seed <= kSeeds; ++seed) {
    OneFile one(seed);
    one.write(kOld);
    one.sync();
    const FileId newer = one.disk.open("/a.tmp", OpenMode::create).value();
    ASSERT_TRUE(one.disk.write_synced(newer, 0, kNew.bytes().first(100)));
    ASSERT_TRUE(one.disk.rename("/a.tmp", "/a"));
    ++sizes[one.after_power_loss().size()];
  }
  EXPECT_EQ(sizes.size(), 2u);
  EXPECT_TRUE(sizes.contains(kBlock) && sizes.contains(100));
}

TEST(SimDiskPower, NothingIsLostByReusingANameOfARenamedFile) {
  const auto counts = names_after([](SimDisk& disk) {
    create_synced_file(disk, "/d/a");
    ASSERT_TRUE(disk.sync_directory("/d"));
    ASSERT_TRUE(disk.rename("/d/a", "/d/b"));
    create_synced_file(disk, "/d/a");
  });
  EXPECT_EQ(counts.size(), 3u);
  EXPECT_TRUE(counts.contains({"a"}) && counts.contains({"b"}) && counts.contains({"a", "b"}));
}

TEST(SimDiskPower, RenameBetweenDirectoriesNeedsBothSynced) {
  for (const bool both : {false, true}) {
    const auto counts = names_after([both](SimDisk& disk) {
      create_synced_file(disk, "/a");
      ASSERT_TRUE(disk.sync_directory("/"));
      ASSERT_TRUE(disk.rename("/a", "/d/a"));
      ASSERT_TRUE(disk.sync_directory("/d"));
      if (both) {
        ASSERT_TRUE(disk.sync_directory("/"));
      }
    });
    EXPECT_EQ(counts.size(), both ? 1u : 2u);
    EXPECT_TRUE(counts.contains({"a"}));
  }
}

TEST(SimDiskPower, RemovedDirectoryWasEmpty) {
  for (std::uint64_t seed = 1; seed <= kSeeds; ++seed) {
    SimDisk disk({.seed = seed});
    ASSERT_TRUE(disk.make_directories("/d/x"));
    create_synced_file(disk, "/d/x/a");
    ASSERT_TRUE(disk.sync_directory("/d/x"));
    ASSERT_TRUE(disk.rename("/d/x/a", "/d/a"));
    ASSERT_TRUE(disk.remove_directory("/d/x"));
    disk.power_loss();
    const bool moved = disk.open("/d/a", OpenMode::read).has_value();
    const bool stayed = disk.open("/d/x/a", OpenMode::read).has_value();
    EXPECT_NE(moved, stayed);
  }
}

// ---- handles

TEST(SimDiskPower, HandlesRequestsAndLocksAreGone) {
  OneFile one(1);
  const FileId before = one.file;
  ASSERT_TRUE(one.disk.lock(before));
  SimDisk other({.seed = 2}, one.disk.media());
  const FileId others = other.open("/a", OpenMode::read_write).value();
  ASSERT_TRUE(one.disk.submit_write(before, 0, kNew.bytes(), 1));
  ASSERT_TRUE(one.disk.submit_sync(before, 2));
  static_cast<void>(one.after_power_loss());
  EXPECT_EQ(wait_for(one.disk, 1).size(), 0u);
  EXPECT_EQ(one.disk.in_flight(), 0u);
  std::array<std::byte, 8> into;
  EXPECT_EQ(one.disk.read(before, 0, into).error().code(), ErrorCode::io);
  EXPECT_EQ(other.read(others, 0, into).error().code(), ErrorCode::io);
  one.disk.close(before);
  other.close(others);
  const FileId again = other.open("/a", OpenMode::read_write).value();
  EXPECT_TRUE(other.lock(again));
  EXPECT_EQ(one.disk.lock(one.file).error().code(), ErrorCode::in_use);
}

// ---- the power goes at any moment

// Replaces /d/a by a file with `kNew` in it, as one should.
Status replace(SimDisk& disk) {
  SLUICE_ASSIGN(const FileId file, disk.open("/d/a.tmp", OpenMode::create));
  SLUICE_TRY(disk.allocate(file, kBlock));
  if (write_and_wait(disk, file, 0, kNew.bytes()) != static_cast<std::int64_t>(kBlock)) {
    return fail(ErrorCode::io, "writing");
  }
  if (sync_and_wait(disk, file) != 0) return fail(ErrorCode::io, "syncing");
  SLUICE_TRY(disk.rename("/d/a.tmp", "/d/a"));
  return disk.sync_directory("/d");
}

TEST(SimDiskPower, ReplacingAFileProperlyIsSafeAtEveryMoment) {
  std::set<std::uint64_t> failed_at;
  std::set<Outcome> found;
  for (std::uint64_t seed = 1; seed <= 40; ++seed) {
    for (std::uint64_t cut = 1; cut <= 12; ++cut) {
      SimDisk disk({.seed = seed});
      ASSERT_TRUE(disk.make_directories("/d"));
      const FileId file = disk.open("/d/a", OpenMode::create).value();
      ASSERT_TRUE(disk.write_synced(file, 0, kOld.bytes()));
      ASSERT_TRUE(disk.sync_directory("/d"));
      disk.cut_power_after(cut);
      const bool done = replace(disk).has_value();
      EXPECT_NE(done, disk.power_is_off());
      if (!done) {
        failed_at.insert(cut);
        EXPECT_EQ(disk.list("/d").error().code(), ErrorCode::io);
      }
      disk.power_loss();
      const FileId after = disk.open("/d/a", OpenMode::read).value();
      const Outcome outcome = outcome_of(contents(disk, after));
      EXPECT_NE(outcome, Outcome::torn) << "seed " << seed << " cut " << cut;
      EXPECT_TRUE(!done || outcome == Outcome::new_bytes);
      found.insert(outcome);
    }
  }
  // create, allocate, write (submission, completion), sync (the same), rename, sync_directory
  EXPECT_THAT(failed_at, ElementsAre(1, 2, 3, 4, 5, 6, 7, 8));
  EXPECT_EQ(found.size(), 2u);
}

TEST(SimDiskPower, ReplacingAFileWithoutSyncIsFoundOut) {
  std::set<Outcome> found;
  for (std::uint64_t seed = 1; seed <= kSeeds; ++seed) {
    OneFile one(seed);
    const FileId newer = one.disk.open("/a.tmp", OpenMode::create).value();
    ASSERT_TRUE(one.disk.write_synced(newer, 0, kOld.bytes()));
    ASSERT_EQ(write_and_wait(one.disk, newer, 0, kNew.bytes()), kBlock);
    ASSERT_TRUE(one.disk.rename("/a.tmp", "/a"));
    ASSERT_TRUE(one.disk.sync_directory("/"));
    found.insert(outcome_of(one.after_power_loss()));
  }
  EXPECT_EQ(found.size(), 3u);
}

// ---- anything at all, against a model

constexpr std::size_t kModelBlocks = 6;
constexpr std::size_t kModelSectors = kModelBlocks * kBlock / kSimSectorSize;

// A block whose sectors all begin with `value`, so that each sector tells which write it is from.
AlignedBuffer block_of(std::uint64_t value) {
  AlignedBuffer block(kBlock, value);
  for (std::size_t at = 0; at < kBlock; at += kSimSectorSize) std::memcpy(block.bytes().data() + at, &value, 8);
  return block;
}

// Which writes each sector may be from after a power loss, kept by the rules of disk.h alone.
struct AllowedSectors {
  std::array<std::set<std::uint64_t>, kModelSectors> values;

  AllowedSectors() { values.fill({0}); }
  void may_be(std::uint64_t block, std::uint64_t value) {
    for (std::size_t i = 0; i < 8; ++i) values[block * 8 + i].insert(value);
  }
  void is(std::uint64_t block, std::uint64_t value) {
    for (std::size_t i = 0; i < 8; ++i) values[block * 8 + i] = {value};
  }
};

class RandomWork {
 public:
  explicit RandomWork(std::uint64_t seed) : random_(seed), disk_(SimDisk::Options{.seed = seed}) {
    file_ = disk_.open("/a", OpenMode::create).value();
    EXPECT_TRUE(disk_.write_synced(file_, 0, std::vector<std::byte>(kModelBlocks * kBlock)));
    EXPECT_TRUE(disk_.sync_directory("/"));
  }

  void run(int steps) {
    for (int i = 0; i < steps; ++i) {
      switch (random_.below(4)) {
        case 0:
        case 1: submit_write(); break;
        case 2: submit_sync(); break;
        default: reap();
      }
    }
  }

  void check_power_loss() {
    disk_.power_loss();
    in_flight_.clear();
    syncs_.clear();
    file_ = disk_.open("/a", OpenMode::read_write).value();
    const std::vector<std::byte> found = contents(disk_, file_);
    ASSERT_EQ(found.size(), kModelBlocks * kBlock);
    for (std::size_t sector = 0; sector < kModelSectors; ++sector) {
      std::uint64_t value = 0;
      std::memcpy(&value, &found[sector * kSimSectorSize], 8);
      ASSERT_TRUE(allowed_.values[sector].contains(value)) << "sector " << sector << " is from write " << value;
      allowed_.values[sector] = {value};
    }
    // A disk that kept everything, or nothing, would be of no use.
    reaped_.fill(0);
  }

  std::uint32_t checksum() const { return disk_.media()->durable_checksum(); }

 private:
  struct Write {
    std::uint64_t block;
    std::uint64_t value;
    AlignedBuffer bytes;
  };

  void submit_write() {
    const std::uint64_t block = random_.below(kModelBlocks);
    for (const auto& [token, write] : in_flight_) {
      if (write->block == block) return;
    }
    const std::uint64_t value = next_value_++;
    auto write = std::make_unique<Write>(Write{block, value, block_of(value)});
    ASSERT_TRUE(disk_.submit_write(file_, block * kBlock, write->bytes.bytes(), value));
    in_flight_.emplace(value, std::move(write));
    allowed_.may_be(block, value);
  }

  void submit_sync() {
    if (!syncs_.empty()) return;
    const std::uint64_t token = next_value_++;
    ASSERT_TRUE(disk_.submit_sync(file_, token));
    syncs_.emplace(token, reaped_);
  }

  void reap() {
    std::array<Completion, 3> into;
    const std::size_t count = disk_.reap(into);
    for (std::size_t i = 0; i < count; ++i) {
      if (const auto sync = syncs_.find(into[i].token); sync != syncs_.end()) {
        ASSERT_EQ(into[i].result, 0);
        cover(sync->second);
        syncs_.erase(sync);
      } else {
        const auto write = in_flight_.find(into[i].token);
        ASSERT_NE(write, in_flight_.end());
        ASSERT_EQ(into[i].result, kBlock);
        reaped_[write->second->block] = write->second->value;
        in_flight_.erase(write);
      }
    }
  }

  // From now on each block is from the write that the sync covered, or a later one.
  void cover(const std::array<std::uint64_t, kModelBlocks>& covered) {
    for (std::size_t block = 0; block < kModelBlocks; ++block) {
      if (covered[block] == 0) continue;
      for (std::size_t i = 0; i < 8; ++i) {
        auto& values = allowed_.values[block * 8 + i];
        values.erase(values.begin(), values.lower_bound(covered[block]));
      }
    }
  }

  SimRandom random_;
  SimDisk disk_;
  FileId file_;
  AllowedSectors allowed_;
  std::uint64_t next_value_ = 1;
  std::map<std::uint64_t, std::unique_ptr<Write>> in_flight_;
  std::array<std::uint64_t, kModelBlocks> reaped_{};  // the last write to it that was reaped
  std::map<std::uint64_t, std::array<std::uint64_t, kModelBlocks>> syncs_;
};

TEST(SimDiskPower, AnythingThatHappensIsAllowed) {
  for (std::uint64_t seed = 1; seed <= 300; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    RandomWork work(seed);
    for (int life = 0; life < 3; ++life) {
      work.run(60);
      work.check_power_loss();
      ASSERT_FALSE(testing::Test::HasFatalFailure());
    }
  }
}

TEST(SimDiskPower, TheSameSeedGivesTheSameDisk) {
  std::set<std::uint32_t> checksums;
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    std::array<std::uint32_t, 2> twice{};
    for (std::uint32_t& checksum : twice) {
      RandomWork work(seed);
      work.run(100);
      work.check_power_loss();
      checksum = work.checksum();
    }
    EXPECT_EQ(twice[0], twice[1]) << seed;
    checksums.insert(twice[0]);
  }
  EXPECT_GT(checksums.size(), 15u);
}

}  // namespace
}  // namespace sluice::io
