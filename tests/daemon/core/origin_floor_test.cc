#include "daemon/core/origin_floor.h"

#include <algorithm>
#include <random>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

namespace sluice::core {
namespace {

TEST(OriginFloor, WithoutRefsAMessageIsKnownByWhereItStands) {
  const OriginFloor floor;
  EXPECT_EQ(floor.from(Position(100)), Position(100));
  EXPECT_EQ(floor.from(Position(5000)), Position(5000));
}

TEST(OriginFloor, ARefReachesBackFromWhereItStandsOrBelowAndNotFromBehindIt) {
  OriginFloor floor;
  floor.met(Position(1000), Position(64));
  floor.met(Position(2000), Position(640));
  EXPECT_EQ(floor.from(Position(500)), Position(64));
  EXPECT_EQ(floor.from(Position(1000)), Position(64));
  EXPECT_EQ(floor.from(Position(1001)), Position(640));
  EXPECT_EQ(floor.from(Position(32)), Position(32)) << "at most what was asked";
  EXPECT_EQ(floor.from(Position(2001)), Position(2001));
}

TEST(OriginFloor, WhatALaterRefUndercutsIsLeftOut) {
  OriginFloor floor;
  floor.met(Position(1000), Position(640));
  floor.met(Position(2000), Position(64));
  EXPECT_EQ(floor.from(Position(1000)), Position(64));
  EXPECT_EQ(floor.from(Position(1500)), Position(64));
  floor.forget_below(Position(2001));
  EXPECT_EQ(floor.from(Position(2001)), Position(2001));
}

// More refs than it keeps apart, at random: never above the truth, and the same where nothing was merged.
TEST(OriginFloor, ItIsNeverTooHigh) {
  for (const std::size_t count : {std::size_t{1000}, 3 * OriginFloor::kEntriesMax}) {
    std::mt19937_64 dice(count);
    OriginFloor floor;
    std::vector<std::pair<std::uint64_t, std::uint64_t>> refs;
    for (std::uint64_t at = 100'000; refs.size() < count; at += 1 + dice() % 100) {
      refs.emplace_back(at, at - 1 - dice() % 50'000);
      floor.met(Position(at), Position(refs.back().second));
    }
    for (int asked = 0; asked < 1000; ++asked) {
      const std::uint64_t from = dice() % (refs.back().first + 100);
      std::uint64_t lowest = from;
      for (const auto& [at, origin] : refs)
        if (at >= from) lowest = std::min(lowest, origin);
      const Position said = floor.from(Position(from));
      EXPECT_LE(said.value, lowest) << from;
      if (count <= OriginFloor::kEntriesMax) {
        EXPECT_EQ(said.value, lowest) << from;
      }
    }
  }
}

// The worst for its room: each ref names something above what all before have named.
TEST(OriginFloor, InOrderItStaysWithinItsRoomAndIsTooLowByLittle) {
  OriginFloor floor;
  constexpr std::uint64_t kRefs = 10 * OriginFloor::kEntriesMax;
  for (std::uint64_t i = 0; i < kRefs; ++i) floor.met(Position(1000 + 100 * i), Position(900 + 100 * i));
  for (std::uint64_t i = 0; i < kRefs; i += 97) {
    const std::uint64_t said = floor.from(Position(1000 + 100 * i)).value;
    EXPECT_LE(said, 900 + 100 * i);
    EXPECT_GE(said + 100 * 64, 900 + 100 * i);
  }
}

}  // namespace
}  // namespace sluice::core
