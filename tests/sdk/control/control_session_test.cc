#include "sdk/control_session.h"

#include <sys/eventfd.h>

#include <algorithm>
#include <set>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "shm/region/memfd.h"
#include "shm/region/region.h"

namespace sluice::internal {
namespace {

class Cells : public testing::Test {
 protected:
  Cells() : fd_(region::create_memfd("session", sizeof(layout::SessionRegion)).value()) {
    daemon_ = region::Mapping::map(fd_.get(), region::Access::read_write, "session").value();
    region::initialise_header(
        daemon_, {layout::RegionKind::session, TopicId(0), 0, 0, Incarnation(2), daemon_.size(), SessionId(5)});
    memory_ = open(SessionId(5)).value();
  }
  Result<std::shared_ptr<SessionMemory>> open(SessionId id) const {
    return SessionMemory::open(fd_.get(), UniqueFd(eventfd(0, EFD_CLOEXEC)), id, Incarnation(2), 1, true);
  }
  layout::SessionRegion& region() const { return *daemon_.at<layout::SessionRegion>(); }

  UniqueFd fd_;
  region::Mapping daemon_;
  std::shared_ptr<SessionMemory> memory_;
};

TEST_F(Cells, AnotherSessionsRegionIsRefused) { EXPECT_EQ(open(SessionId(6)).error().code(), ErrorCode::corrupt); }

TEST_F(Cells, EachIsLeasedOnceAndAllOfThem) {
  std::vector<PinLease> leases;
  std::set<std::uint32_t> seen;
  for (std::uint32_t i = 0; i < kSessionPinsMax; ++i) {
    auto lease = PinLease::take(memory_);
    ASSERT_TRUE(lease);
    EXPECT_TRUE(seen.insert(lease->index()).second);
    leases.push_back(std::move(*lease));
  }
  EXPECT_EQ(region().pins_used, kSessionPinsMax);
  const auto one_more = PinLease::take(memory_);
  ASSERT_FALSE(one_more);
  EXPECT_EQ(one_more.error().code(), ErrorCode::quota);
  const std::uint32_t freed = leases[100].index();
  leases[100].reset();
  EXPECT_EQ(PinLease::take(memory_)->index(), freed);
}

TEST_F(Cells, TheLowestFreeOneIsTakenSoThatFewAreEverUsed) {
  for (int i = 0; i < 1000; ++i) {
    const auto lease = PinLease::take(memory_).value();
    EXPECT_EQ(lease.index(), 0u);
  }
  EXPECT_EQ(region().pins_used, 1u);
}

TEST_F(Cells, AreClearedWhenTheyAreGivenBack) {
  {
    auto lease = PinLease::take(memory_).value();
    lease.cell() = 77;
    EXPECT_EQ(region().pins[lease.index()].pin, 77u);
    PinLease moved = std::move(lease);
    EXPECT_FALSE(lease);
    EXPECT_EQ(region().pins[moved.index()].pin, 77u);
  }
  EXPECT_EQ(region().pins[0].pin, 0u);
  {
    const auto cursor = CursorLease::take(memory_).value();
    cursor.cell() = 5;
  }
  EXPECT_EQ(region().cursors[0].position, 0u);
}

TEST_F(Cells, ALeaseKeepsTheMemoryMapped) {
  auto lease = PinLease::take(memory_).value();
  memory_.reset();
  lease.cell() = 9;
  EXPECT_EQ(region().pins[0].pin, 9u);
}

TEST_F(Cells, RevocationIsSeen) {
  EXPECT_FALSE(memory_->revoked());
  region().revoked = 1;
  EXPECT_TRUE(memory_->revoked());
}

TEST_F(Cells, ManyThreadsNeverShareOne) {
  std::vector<std::thread> threads;
  std::atomic<int> shared{0};
  for (std::uint64_t t = 1; t <= 8; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 5000; ++i) {
        auto lease = PinLease::take(memory_);
        if (!lease) continue;
        if (lease->cell().exchange(t) != 0) ++shared;
        if (lease->cell().load() != t) ++shared;
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(shared, 0);
}

}  // namespace
}  // namespace sluice::internal
