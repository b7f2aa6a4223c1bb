// Which copies a start may serve from: everything that cannot be known is refused.
#include "daemon/io/mirror_set.h"

#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/daemon/io/mirror_rig.h"

namespace sluice::io {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

const std::vector<std::string> kTwo = {"/a", "/b"};
const std::vector<std::string> kThree = {"/a", "/b", "/c"};

class MirrorSetTest : public testing::Test {
 protected:
  std::vector<std::string> good(const Result<MirrorSet>& set) {
    std::vector<std::string> roots;
    for (const MirrorCopy& copy : set.value().copies)
      if (copy.good) roots.push_back(copy.root);
    return roots;
  }
  // What a refused start says; "" if it was not refused.
  std::string refusal(const std::vector<std::string>& roots, std::vector<std::string> accept = {}) {
    const Result<MirrorSet> set = rig_.open_set(roots, std::move(accept));
    if (set) return "";
    EXPECT_EQ(set.error().code(), ErrorCode::conflict) << set.error().message();
    return set.error().message();
  }
  void put(const std::string& path) {
    const auto disk = rig_.another();
    ASSERT_TRUE(disk->make_directories(path.substr(0, path.rfind('/'))));
    const FileId file = disk->open(path, OpenMode::create).value();
    ASSERT_TRUE(disk->write_synced(file, 0, std::as_bytes(std::span("x"))));
    disk->close(file);
  }
  void remove_state(const std::string& root) { ASSERT_TRUE(rig_.another()->unlink(root + "/" + kMirrorStateName)); }
  // /b fails while the daemon runs.
  void fail_b(const std::vector<std::string>& roots) {
    rig_.start(roots);
    ASSERT_TRUE(rig_.disk->mark_stale(1, "a test"));
    rig_.disk.reset();
  }

  MirrorRig rig_;
};

TEST_F(MirrorSetTest, EmptyDirectoriesAreGoodFromTheStart) {
  put("/b/lost+found");
  EXPECT_THAT(good(rig_.open_set(kThree)), ElementsAre("/a", "/b", "/c"));
  for (const std::string& root : kThree) EXPECT_EQ(rig_.good_in_state(root), kThree);
  EXPECT_THAT(good(rig_.open_set(kThree)), ElementsAre("/a", "/b", "/c"));
}

TEST_F(MirrorSetTest, ADataDirectoryThatIsThereIsTheFirstGoodCopy) {
  put("/a/store.db");
  EXPECT_THAT(good(rig_.open_set(kTwo)), ElementsAre("/a"));
  EXPECT_THAT(good(rig_.open_set(kTwo)), ElementsAre("/a"));
  EXPECT_EQ(rig_.open_set(kTwo)->copies[1].id, rig_.durable_state("/b").self);
}

TEST_F(MirrorSetTest, AMirrorThatHoldsSomethingElseIsRefused) {
  put("/b/thesis.tex");
  EXPECT_THAT(refusal(kTwo), AllOf(HasSubstr("/b is not empty"), HasSubstr("empty it")));
  ASSERT_THAT(good(rig_.open_set({"/a", "/c"})), ElementsAre("/a", "/c"));
  EXPECT_THAT(refusal(kThree), HasSubstr("/b is not empty"));
}

TEST_F(MirrorSetTest, ACopyThatWasMarkedStaleIsNotServedFrom) {
  ASSERT_TRUE(rig_.open_set(kTwo));
  fail_b(kTwo);
  EXPECT_THAT(good(rig_.open_set(kTwo)), ElementsAre("/a"));
}

TEST_F(MirrorSetTest, AFullDiskRefusesNoStart) {
  ASSERT_TRUE(rig_.open_set(kTwo));
  rig_.media->set_capacity(0);
  EXPECT_EQ(good(rig_.open_set(kTwo)), kTwo);
  // The state changes, too: there is a copy less.
  remove_state("/b");
  EXPECT_THAT(good(rig_.open_set(kTwo, {"/b"})), ElementsAre("/a"));
}

// It learns at the next start that it is stale, and may not be filled before the one after.
TEST_F(MirrorSetTest, AStaleDataDirectoryRefusesNoStart) {
  ASSERT_TRUE(rig_.open_set(kTwo));
  rig_.start(kTwo);
  ASSERT_TRUE(rig_.disk->mark_stale(0, "a test"));
  rig_.disk.reset();
  for (int start = 0; start < 3; ++start) EXPECT_THAT(good(rig_.open_set(kTwo)), ElementsAre("/b")) << start;
}

TEST_F(MirrorSetTest, AGoodCopyThatCannotBeSeenRefusesTheStart) {
  ASSERT_TRUE(rig_.open_set(kTwo));
  // Not configured any more.
  EXPECT_THAT(refusal({"/a"}), AllOf(HasSubstr("/b"), HasSubstr("--accept-missing-mirror /b")));
  // Its disk is not mounted: the directory below is empty.
  remove_state("/b");
  EXPECT_THAT(refusal(kTwo), AllOf(HasSubstr("the directory is empty"), HasSubstr("--accept-missing-mirror /b")));
  EXPECT_THAT(refusal(kTwo, {"/c"}), HasSubstr("/b")) << "another one was accepted";
  EXPECT_THAT(good(rig_.open_set(kTwo, {"/b"})), ElementsAre("/a"));
  EXPECT_THAT(good(rig_.open_set(kTwo)), ElementsAre("/a")) << "accepted once, known from then on";
}

TEST_F(MirrorSetTest, AMissingCopyIsAcceptedByADirectoryAboveItAndByNoOtherName) {
  const std::vector<std::string> roots = {"/a", "/disk/sluice/t-1"};
  ASSERT_TRUE(rig_.open_set(roots));
  remove_state("/disk/sluice/t-1");
  EXPECT_THAT(refusal(roots, {"/disk/slu"}), HasSubstr("/disk/sluice/t-1"));
  EXPECT_THAT(refusal(roots, {"/disk/sluice/t-1/below"}), HasSubstr("/disk/sluice/t-1"));
  EXPECT_THAT(good(rig_.open_set(roots, {"/disk/sluice"})), ElementsAre("/a"));
}

TEST_F(MirrorSetTest, TheMissingOneMayBeTheDataDirectoryItself) {
  ASSERT_TRUE(rig_.open_set(kTwo));
  remove_state("/a");
  EXPECT_THAT(refusal(kTwo), HasSubstr("--accept-missing-mirror /a"));
  EXPECT_THAT(good(rig_.open_set(kTwo, {"/a"})), ElementsAre("/b"));
}

TEST_F(MirrorSetTest, OnlyAStaleCopyInSightIsRefused) {
  ASSERT_TRUE(rig_.open_set(kThree));
  fail_b(kThree);
  // /b itself never heard of it: it calls the others good, and they are missing.
  EXPECT_THAT(refusal({"/b"}), HasSubstr("--accept-missing-mirror /a"));
  // One that knows.
  ASSERT_TRUE(rig_.open_set(kThree));
  EXPECT_THAT(refusal({"/b"}, {"/a", "/c"}), AllOf(HasSubstr("only stale copies"), HasSubstr("bring back /a, /c")));
}

TEST_F(MirrorSetTest, CopiesThatWentOnWithoutEachOtherAreRefused) {
  ASSERT_TRUE(rig_.open_set(kTwo));
  const MirrorState a = rig_.durable_state("/a");
  const MirrorState b = rig_.durable_state("/b");
  const auto alone = [&](MirrorState state, std::uint64_t generations) {
    state.generation += generations;
    for (MirrorMember& member : state.members) member.good = member.id == state.self;
    return state;
  };
  const auto disk = rig_.another();
  for (const std::uint64_t further : {1u, 3u}) {
    ASSERT_TRUE(create_mirror_state(*disk, "/a", alone(a, 1)));
    ASSERT_TRUE(create_mirror_state(*disk, "/b", alone(b, further)));
    EXPECT_THAT(refusal(kTwo), HasSubstr("have each gone on without the other")) << further;
  }
}

TEST_F(MirrorSetTest, CopiesOfDifferentSetsOrOfEachOtherAreRefused) {
  ASSERT_TRUE(rig_.open_set({"/a", "/b"}));
  ASSERT_TRUE(rig_.open_set({"/c", "/d"}));
  EXPECT_THAT(refusal({"/a", "/b", "/c"}), HasSubstr("different data directories"));
  const auto disk = rig_.another();
  ASSERT_TRUE(create_mirror_state(*disk, "/e", rig_.durable_state("/a")).has_value() ||
              disk->make_directories("/e").has_value());
  ASSERT_TRUE(create_mirror_state(*disk, "/e", rig_.durable_state("/a")));
  EXPECT_THAT(refusal({"/a", "/b", "/e"}), HasSubstr("/e is a copy that somebody made"));
}

TEST_F(MirrorSetTest, AStateThatCannotBeReadIsNotGuessed) {
  ASSERT_TRUE(rig_.open_set(kTwo));
  for (const std::uint64_t slot : {0u, 1u}) {
    // The generations 1 and 2 lie in both slots.
    const std::uint64_t at = slot * kMirrorSlotSize + 30;
    ASSERT_TRUE(rig_.media->flip_bit(std::string("/b/") + kMirrorStateName, at, 3));
    if (slot == 0) continue;
    EXPECT_THAT(refusal(kTwo), AllOf(HasSubstr("does not say any more"), HasSubstr("--accept-missing-mirror /b")));
    EXPECT_THAT(good(rig_.open_set(kTwo, {"/b"})), ElementsAre("/a"));
  }
}

TEST_F(MirrorSetTest, ADeadDiskOfAStaleCopyKeepsNobodyFromStarting) {
  ASSERT_TRUE(rig_.open_set(kTwo));
  fail_b(kTwo);
  const auto disk = rig_.another();
  disk->break_below("/b");
  const Result<MirrorSet> set = open_mirror_set(*disk, {kTwo, {}, [this] { return rig_.random.next(); }});
  ASSERT_TRUE(set) << set.error().message();
  EXPECT_TRUE(set->copies[1].absent);
  EXPECT_THAT(set->copies[1].reason, HasSubstr("/b"));
}

// Whatever a power cut leaves of a start or of a note, the next start finds good copies or refuses, and never serves
// from a copy that was called stale.
TEST_F(MirrorSetTest, APowerCutAnywhereLeavesASetThatOpens) {
  for (std::uint64_t cut = 1; cut < 60; ++cut) {
    rig_ = MirrorRig(cut);
    const auto disk = rig_.another();
    disk->cut_power_after(cut);
    const Result<MirrorSet> first = open_mirror_set(*disk, {kTwo, {}, [this] { return rig_.random.next(); }});
    rig_.media->power_loss();
    const Result<MirrorSet> again = rig_.open_set(kTwo);
    ASSERT_TRUE(again) << "cut at " << cut << ": " << again.error().message();
    ASSERT_THAT(good(again).front(), "/a");
    if (!first) continue;
    EXPECT_THAT(good(again), ElementsAre("/a", "/b"));
  }
}

TEST_F(MirrorSetTest, APowerCutInANoteKeepsItOrNot) {
  std::size_t refused = 0;
  for (std::uint64_t cut = 1; cut < 30; ++cut) {
    rig_ = MirrorRig(cut);
    rig_.start(kTwo);
    rig_.sim->cut_power_after(cut);
    const bool noted = rig_.disk->mark_stale(1, "a test").has_value();
    rig_.disk.reset();
    rig_.media->power_loss();
    const Result<MirrorSet> again = rig_.open_set(kTwo);
    ASSERT_TRUE(again) << "cut at " << cut << ": " << again.error().message();
    if (noted) {
      EXPECT_THAT(good(again), ElementsAre("/a")) << cut;
    } else {
      ++refused;
    }
  }
  EXPECT_GT(refused, 0u);
}

}  // namespace
}  // namespace sluice::io
