#include "shm/layout/claim_word.h"

#include <gtest/gtest.h>

namespace sluice::layout {
namespace {

TEST(ClaimWord, EveryFieldStandsInItsOwnBits) {
  const ClaimWord word =
      ClaimWord::make(ProducerId(0xdead'beef), 0xabcdef, RecordKind::ref, true, RecordState::claimed);
  EXPECT_EQ(word.bits, 0xdead'beef'abcd'ef39u);
  EXPECT_EQ(word.producer(), ProducerId(0xdead'beef));
  EXPECT_EQ(word.span_units(), 0xabcdefu);
  EXPECT_EQ(word.span_size(), 0xabcdefull * 64);
  EXPECT_EQ(word.kind(), RecordKind::ref);
  EXPECT_TRUE(word.has_trailer());
  EXPECT_EQ(word.state(), RecordState::claimed);
}

TEST(ClaimWord, AStateChangeLeavesTheRest) {
  const ClaimWord claimed = ClaimWord::make(ProducerId(9), 3, RecordKind::half, true, RecordState::claimed);
  const ClaimWord committed = claimed.with_state(RecordState::committed);
  EXPECT_EQ(committed, ClaimWord::make(ProducerId(9), 3, RecordKind::half, true, RecordState::committed));
  EXPECT_TRUE(claimed.is_claimed());
  EXPECT_FALSE(claimed.is_final());
  EXPECT_TRUE(committed.is_final());
  EXPECT_TRUE(claimed.with_state(RecordState::aborted).is_final());
}

TEST(ClaimWord, ZeroIsFreeAndNothingElseIs) {
  EXPECT_TRUE(ClaimWord{}.is_free());
  EXPECT_FALSE(ClaimWord{}.is_possible(1024));
  EXPECT_FALSE(ClaimWord::make(ProducerId(0), 1, RecordKind::pad, false, RecordState::committed).is_free());
}

TEST(ClaimWord, SpanMustFitTheRoom) {
  const ClaimWord word = ClaimWord::make(ProducerId(1), 4, RecordKind::data, false, RecordState::claimed);
  EXPECT_TRUE(word.is_possible(256));
  EXPECT_FALSE(word.is_possible(255));
  const ClaimWord none = ClaimWord::make(ProducerId(1), 0, RecordKind::data, false, RecordState::claimed);
  EXPECT_FALSE(none.is_possible(256));
  const ClaimWord largest =
      ClaimWord::make(ProducerId(1), kSpanUnitsMax, RecordKind::data, false, RecordState::claimed);
  EXPECT_TRUE(largest.is_possible(kSpanUnitsMax * kRecordAlignment));
  EXPECT_EQ(largest.producer(), ProducerId(1));
}

TEST(ClaimWord, UnknownKindsAndStatesAreImpossible) {
  for (std::uint64_t state = 0; state < 8; ++state) {
    for (std::uint64_t kind = 0; kind < 16; ++kind) {
      const ClaimWord word{state | (kind << 4) | (1u << 8) | (std::uint64_t{5} << 32)};
      const bool expected = state >= 1 && state <= 3 && kind <= 5;
      EXPECT_EQ(word.is_possible(64), expected) << "state " << state << " kind " << kind;
    }
  }
}

}  // namespace
}  // namespace sluice::layout
