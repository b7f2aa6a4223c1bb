// Gaps and repeats in producers' sequences.
#include "shm/ring/continuity.h"

#include <gtest/gtest.h>

namespace sluice::ring {
namespace {

using Verdict = Continuity::Verdict;

TEST(Continuity, each_producer_has_a_row_of_its_own) {
  Continuity continuity;
  Sequence expected;
  EXPECT_EQ(continuity.on_record(ProducerId(1), Sequence(5), expected), Verdict::first);
  EXPECT_EQ(continuity.on_record(ProducerId(2), Sequence(1), expected), Verdict::first);
  EXPECT_EQ(continuity.on_record(ProducerId(1), Sequence(6), expected), Verdict::next);
  EXPECT_EQ(continuity.on_record(ProducerId(2), Sequence(2), expected), Verdict::next);
}

TEST(Continuity, gap_and_repeat_name_what_was_expected) {
  Continuity continuity;
  Sequence expected;
  continuity.on_record(ProducerId(1), Sequence(1), expected);
  EXPECT_EQ(continuity.on_record(ProducerId(1), Sequence(4), expected), Verdict::gap);
  EXPECT_EQ(expected, Sequence(2));
  EXPECT_EQ(continuity.on_record(ProducerId(1), Sequence(4), expected), Verdict::repeat);
  EXPECT_EQ(expected, Sequence(5));
  EXPECT_EQ(continuity.on_record(ProducerId(1), Sequence(5), expected), Verdict::next);
}

TEST(Continuity, an_abort_uses_up_one) {
  Continuity continuity;
  Sequence expected;
  continuity.on_abort(ProducerId(1));
  EXPECT_EQ(continuity.on_record(ProducerId(1), Sequence(2), expected), Verdict::first);
  continuity.on_abort(ProducerId(1));
  continuity.on_abort(ProducerId(1));
  EXPECT_EQ(continuity.on_record(ProducerId(1), Sequence(5), expected), Verdict::next);
  continuity.clear();
  EXPECT_EQ(continuity.on_record(ProducerId(1), Sequence(9), expected), Verdict::first);
}

TEST(Continuity, more_producers_than_the_limit_start_anew) {
  Continuity continuity;
  Sequence expected;
  for (std::uint32_t id = 1; id <= kProducersTrackedMax; ++id)
    ASSERT_EQ(continuity.on_record(ProducerId(id), Sequence(1), expected), Verdict::first);
  EXPECT_EQ(continuity.on_record(ProducerId(1), Sequence(2), expected), Verdict::next);
  EXPECT_EQ(continuity.on_record(ProducerId(kProducersTrackedMax + 1), Sequence(1), expected), Verdict::first);
  EXPECT_EQ(continuity.on_record(ProducerId(1), Sequence(3), expected), Verdict::first);
  EXPECT_EQ(continuity.on_record(ProducerId(1), Sequence(4), expected), Verdict::next);
}

}  // namespace
}  // namespace sluice::ring
