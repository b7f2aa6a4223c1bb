#include "shm/region/region.h"

#include <gtest/gtest.h>

#include "shm/region/memfd.h"

namespace sluice::region {
namespace {

using layout::RegionKind;

class RegionTest : public testing::Test {
 protected:
  RegionTest() : fd_(create_memfd("sluice-test", sizeof(layout::ControlRegion)).value()) {
    mapping_ = Mapping::map(fd_.get(), Access::read_write, "x").value();
  }
  void initialise() {
    initialise_header(mapping_,
                      {RegionKind::control, TopicId(7), 2, 99, Incarnation(5), mapping_.size(), SessionId(0)});
  }
  Result<Region> open() const {
    return open_region(reopen_read_only(fd_.get(), "x").value().get(), Access::read_only, expectation_);
  }
  void expect_refused(ErrorCode code) const {
    const auto region = open();
    ASSERT_FALSE(region);
    EXPECT_EQ(region.error().code(), code);
    EXPECT_NE(region.error().context().find("control region of topic 7, partition 2"), std::string::npos)
        << region.error().message();
  }
  layout::RegionHeader& header() const { return *mapping_.at<layout::RegionHeader>(); }

  UniqueFd fd_;
  Mapping mapping_;
  RegionExpectation expectation_{RegionKind::control, Incarnation(5), TopicId(7), 2, std::nullopt};
};

TEST_F(RegionTest, OpensWhatWasInitialised) {
  initialise();
  const auto region = open();
  ASSERT_TRUE(region) << region.error().message();
  EXPECT_EQ(region->info.handle, 99u);
  EXPECT_EQ(region->info.topic, TopicId(7));
  EXPECT_EQ(region->info.size, sizeof(layout::ControlRegion));
}

TEST_F(RegionTest, RefusesAHeaderThatIsNotPublishedYet) { expect_refused(ErrorCode::corrupt); }

TEST_F(RegionTest, RefusesAnotherKind) {
  initialise();
  header().magic = layout::region_magic(RegionKind::log);
  expect_refused(ErrorCode::corrupt);
}

TEST_F(RegionTest, RefusesAnotherVersionAsSuch) {
  initialise();
  header().version = layout::kRegionVersion + 1;
  expect_refused(ErrorCode::version);
}

TEST_F(RegionTest, RefusesAnotherIncarnationTopicPartitionOrSession) {
  initialise();
  header().incarnation = 6;
  expect_refused(ErrorCode::corrupt);
  initialise();
  header().topic_id = 8;
  expect_refused(ErrorCode::corrupt);
  initialise();
  header().partition = 3;
  expect_refused(ErrorCode::corrupt);
  initialise();
  expectation_.session = SessionId(1);
  EXPECT_FALSE(open());
}

TEST_F(RegionTest, RefusesASizeThatDoesNotFit) {
  initialise();
  header().size = mapping_.size() + 1;
  expect_refused(ErrorCode::corrupt);
  header().size = 64;
  expect_refused(ErrorCode::corrupt);
}

TEST_F(RegionTest, RefusesAFileTooSmallForItsKind) {
  fd_ = create_memfd("small", 4096).value();
  expect_refused(ErrorCode::corrupt);
}

}  // namespace
}  // namespace sluice::region
