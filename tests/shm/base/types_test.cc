#include "shm/base/types.h"

#include <fcntl.h>
#include <unistd.h>

#include <type_traits>
#include <unordered_set>
#include <utility>

#include <gtest/gtest.h>

#include "shm/base/clock.h"
#include "shm/base/fd.h"
#include "shm/base/limits.h"

namespace sluice {
namespace {

static_assert(!std::is_convertible_v<std::uint64_t, Position>, "positions are made explicitly");
static_assert(!std::is_convertible_v<Position, SegmentNumber>, "numbers of different meaning do not mix");
static_assert(std::is_trivially_copyable_v<Position> && sizeof(Position) == 8);

TEST(Types, PositionsCountBytes) {
  const Position position(100);
  EXPECT_EQ(position + 28, Position(128));
  EXPECT_EQ(position - 36, Position(64));
  EXPECT_EQ(Position(128) - position, 28u);
  EXPECT_LT(position, Position(101));
  EXPECT_EQ(SegmentNumber(3).next(), SegmentNumber(4));
  EXPECT_EQ(Sequence().next(), Sequence(1));
}

TEST(Types, TheyCanBeKeysOfAHashTable) {
  std::unordered_set<ProducerId> ids{ProducerId(1), ProducerId(2), ProducerId(1)};
  EXPECT_EQ(ids.size(), 2u);
}

TEST(Types, LimitsFitEachOther) {
  EXPECT_EQ(kSegmentSizeDefault & (kSegmentSizeDefault - 1), 0u);
  EXPECT_EQ(kPrepareStepSize % kDirectIoAlignment, 0u);
  EXPECT_LE(kTrailerSizeMax, kSegmentSizeDefault / kMessageSegmentFraction);
  EXPECT_LT(kKeySizeMax + kTagSizeMax + kBookmarkSizeMax, kTrailerSizeMax);
}

TEST(UniqueFd, ClosesOnceAndMoves) {
  int raw = -1;
  {
    UniqueFd fd(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    ASSERT_TRUE(fd);
    raw = fd.get();
    UniqueFd moved = std::move(fd);
    EXPECT_EQ(moved.get(), raw);
    EXPECT_NE(::fcntl(raw, F_GETFD), -1);
  }
  EXPECT_EQ(::fcntl(raw, F_GETFD), -1);
  UniqueFd released(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  const int kept = released.release();
  EXPECT_FALSE(released);
  EXPECT_EQ(::close(kept), 0);
}

TEST(Clock, MonotonicTimeDoesNotGoBack) {
  const std::uint64_t first = monotonic_ns();
  EXPECT_LE(first, monotonic_ns());
  EXPECT_GT(realtime_ns(), 1'500'000'000'000'000'000u);
  EXPECT_GT(realtime_coarse_ns(), 1'500'000'000'000'000'000u);
}

}  // namespace
}  // namespace sluice
