#include "daemon/core/seek_mark.h"

#include <gtest/gtest.h>

namespace sluice::core {
namespace {

TEST(SeekMark, ForceIsNeededBelowTheHorizonAlone) {
  SeekMark mark;
  EXPECT_FALSE(mark.needs_force(Position(0)));
  mark.horizon = Position(500);
  EXPECT_TRUE(mark.needs_force(Position(499)));
  EXPECT_FALSE(mark.needs_force(Position(500)));
  mark.seek();
  EXPECT_EQ(mark.seeks, 1u);
  EXPECT_EQ(mark.epoch(), 0u);
}

TEST(SeekMark, AForcedSeekBeginsAnEpochForWhatItGoesBackOver) {
  SeekMark mark;
  mark.horizon = Position(500);
  mark.force(Position(200), Position(150), 3);  // a ref behind 200 brings a message from 150
  EXPECT_EQ(mark.seeks, 1u);
  EXPECT_EQ(mark.horizon, Position(200));
  EXPECT_EQ(mark.epoch_of(Position(149)), 0u);
  EXPECT_EQ(mark.epoch_of(Position(150)), 3u);
  EXPECT_EQ(mark.epoch_of(Position(10'000)), 3u);
  mark.force(Position(300), Position(300), 4);
  EXPECT_EQ(mark.epoch_of(Position(299)), 3u) << "a seek to a position above it leaves it as it was";
  EXPECT_EQ(mark.epoch_of(Position(300)), 4u);
  mark.force(Position(100), Position(100), 7);
  EXPECT_EQ(mark.epoch_of(Position(99)), 0u);
  EXPECT_EQ(mark.epoch_of(Position(100)), 7u);
  EXPECT_EQ(mark.epochs.size(), 1u);
  EXPECT_EQ(mark.epoch(), 7u);
  EXPECT_TRUE(is_valid(mark));
}

TEST(SeekMark, ForcedSeeksAboveEachOtherAreLimited) {
  SeekMark mark;
  for (std::uint64_t i = 1; i <= kForcedSeeksMax; ++i) {
    ASSERT_TRUE(mark.may_force(Position(i * 10)));
    mark.force(Position(i * 10), Position(i * 10), i);
  }
  EXPECT_FALSE(mark.may_force(Position(kForcedSeeksMax * 10 + 1)));
  EXPECT_TRUE(mark.may_force(Position(kForcedSeeksMax * 10)));
  EXPECT_TRUE(is_valid(mark));
}

TEST(SeekMark, WhatCannotBeIsNotValid) {
  SeekMark mark;
  mark.epochs = {{Position(10), 1}, {Position(10), 2}};
  EXPECT_FALSE(is_valid(mark));
  mark.epochs = {{Position(10), 2}, {Position(20), 2}};
  EXPECT_FALSE(is_valid(mark));
  mark.epochs.clear();
  for (std::uint64_t i = 0; i <= kForcedSeeksMax; ++i) mark.epochs.push_back({Position(i), i + 1});
  EXPECT_FALSE(is_valid(mark));
}

}  // namespace
}  // namespace sluice::core
