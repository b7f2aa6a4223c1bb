#include "daemon/core/ack_state.h"

#include <gtest/gtest.h>

#include "shm/base/limits.h"

namespace sluice::core {
namespace {

std::vector<std::pair<std::uint64_t, std::uint64_t>> spans(const AckState& acks) {
  std::vector<std::pair<std::uint64_t, std::uint64_t>> spans;
  for (const PositionSpan& span : acks.settled()) spans.emplace_back(span.begin.value, span.end.value);
  return spans;
}

TEST(AckState, SpansThatTouchBecomeOne) {
  AckState acks(Position(0));
  acks.settle(Position(30), Position(40));
  acks.settle(Position(10), Position(20));
  EXPECT_EQ(spans(acks), (std::vector<std::pair<std::uint64_t, std::uint64_t>>{{10, 20}, {30, 40}}));
  acks.settle(Position(20), Position(30));
  EXPECT_EQ(spans(acks), (std::vector<std::pair<std::uint64_t, std::uint64_t>>{{10, 40}}));
  acks.settle(Position(5), Position(50));
  EXPECT_EQ(spans(acks), (std::vector<std::pair<std::uint64_t, std::uint64_t>>{{5, 50}}));
  acks.settle(Position(20), Position(25));
  EXPECT_EQ(acks.settled_count(), 1u);
}

TEST(AckState, TheCursorTakesInTheSpansThatItReaches) {
  AckState acks(Position(0));
  acks.settle(Position(10), Position(20));
  acks.settle(Position(30), Position(40));
  acks.advance(Position(10));
  EXPECT_EQ(acks.cursor(), Position(20));
  acks.settle(Position(20), Position(30));
  EXPECT_EQ(acks.cursor(), Position(40));
  EXPECT_EQ(acks.settled_count(), 0u);
}

TEST(AckState, TheCursorNeverGoesBack) {
  AckState acks(Position(50));
  acks.saved();
  acks.advance(Position(40));
  acks.settle(Position(10), Position(50));
  EXPECT_EQ(acks.cursor(), Position(50));
  EXPECT_FALSE(acks.dirty());
}

TEST(AckState, IsSettledWithinItsSpansAlone) {
  AckState acks(Position(10));
  acks.settle(Position(20), Position(30));
  EXPECT_TRUE(acks.is_settled(Position(9)));
  EXPECT_FALSE(acks.is_settled(Position(10)));
  EXPECT_FALSE(acks.is_settled(Position(19)));
  EXPECT_TRUE(acks.is_settled(Position(20)));
  EXPECT_TRUE(acks.is_settled(Position(29)));
  EXPECT_FALSE(acks.is_settled(Position(30)));
}

TEST(AckState, BeyondItsLimitASpanOfItsOwnCountsAsNotSettled) {
  AckState acks(Position(0));
  for (std::uint64_t i = 0; i < kAckRangesMax; ++i) acks.settle(Position(10 + 20 * i), Position(20 + 20 * i));
  EXPECT_EQ(acks.settled_count(), kAckRangesMax);
  const Position beyond(10 + 20 * std::uint64_t{kAckRangesMax});
  acks.settle(beyond, beyond + 10);
  EXPECT_FALSE(acks.is_settled(beyond));
  // What touches another one needs no room: in front of it, and behind it.
  acks.settle(Position(5), Position(10));
  EXPECT_TRUE(acks.is_settled(Position(5)));
  acks.settle(Position(20), Position(25));
  EXPECT_TRUE(acks.is_settled(Position(24)));
  EXPECT_EQ(acks.settled_count(), kAckRangesMax);
}

TEST(AckState, ASeekForgetsWhatWasSettledAndKeepsWhatIsPending) {
  AckState acks(Position(0));
  acks.settle(Position(20), Position(30));
  acks.put(Position(40), {});
  acks.counts()[Position(50)] = {1, 1};
  acks.saved();
  acks.seek(Position(10));
  EXPECT_EQ(acks.cursor(), Position(10));
  EXPECT_EQ(acks.settled_count(), 0u);
  EXPECT_TRUE(acks.counts().empty());
  EXPECT_NE(acks.find(Position(40)), nullptr);
  EXPECT_TRUE(acks.dirty());
}

TEST(AckState, ChangedNamesWhatDiffersFromTheStore) {
  AckState acks(Position(0));
  EXPECT_TRUE(acks.dirty());  // a new one is to be saved
  acks.restore(Position(10), {});
  acks.restore({});
  EXPECT_FALSE(acks.dirty());
  EXPECT_FALSE(acks.drop(Position(11)));
  EXPECT_FALSE(acks.dirty());
  acks.put(Position(20), {});
  EXPECT_TRUE(acks.drop(Position(10)));
  EXPECT_EQ(acks.changed(), (std::set<Position>{Position(10), Position(20)}));
  acks.saved();
  EXPECT_FALSE(acks.dirty());
}

}  // namespace
}  // namespace sluice::core
