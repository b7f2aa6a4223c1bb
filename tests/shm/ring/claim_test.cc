// Claims in place: commit, abort, expiry.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "shm/layout/trailer.h"
#include "tests/shm/ring/test_partition.h"

namespace sluice::ring::test {
namespace {

using layout::RecordKind;
using testing::ElementsAre;

constexpr std::uint32_t kChecked = layout::kTopicFlagChecksums;

TEST(Claim, filled_in_place_and_committed_is_read) {
  TestPartition partition({.flags = kChecked});
  partition.prepare_all();
  Appender appender = partition.appender(1, 0);
  Walker walker(partition, 1, Position(0), true);
  OpenClaim claim;
  ASSERT_EQ(appender.claim(100, 0, RecordKind::data, claim), AppendResult::ok);
  EXPECT_EQ(partition.pins.cell(0).load(), layout::pin_word(5, SegmentNumber(0)));
  std::memset(claim.payload(), 'p', 100);
  EXPECT_TRUE(walker.payloads().empty());
  EXPECT_EQ(walker.stopped, ScanResult::claimed);
  Appended appended;
  ASSERT_EQ(appender.commit(claim, 100, {}, 77, appended), AppendResult::ok);
  EXPECT_EQ(partition.pins.cell(0).load(), 0u);
  EXPECT_THAT(walker.payloads(), ElementsAre(std::string(100, 'p')));
}

TEST(Claim, may_be_committed_with_less_than_was_claimed) {
  TestPartition partition({.flags = kChecked});
  partition.prepare_all();
  Appender appender = partition.appender(1, 0);
  Walker walker(partition, 1, Position(0), true);
  layout::TrailerBuilder trailer;
  ASSERT_TRUE(trailer.key("k"));
  const auto tail = trailer.finish();
  OpenClaim claim;
  Appended appended;
  ASSERT_EQ(appender.claim(1000, tail.size(), RecordKind::data, claim), AppendResult::ok);
  std::memcpy(claim.payload(), "abc", 3);
  ASSERT_EQ(appender.commit(claim, 3, tail, 0, appended), AppendResult::ok);
  EXPECT_EQ(appended.end - appended.position, layout::record_span(1000, tail.size()));
  auto seen = walker.all();
  ASSERT_EQ(seen.size(), 1u);
  EXPECT_EQ(seen[0].payload, "abc");
  EXPECT_EQ(seen[0].trailer.size(), tail.size());
  // Room for a trailer claimed, none given.
  ASSERT_EQ(appender.claim(10, 100, RecordKind::data, claim), AppendResult::ok);
  std::memcpy(claim.payload(), "0123456789", 10);
  ASSERT_EQ(appender.commit(claim, 10, {}, 0, appended), AppendResult::ok);
  seen = walker.all();
  ASSERT_EQ(seen.size(), 1u);
  EXPECT_EQ(seen[0].result, ScanResult::record);
  EXPECT_EQ(seen[0].payload, "0123456789");
  EXPECT_FALSE(seen[0].fields.claim.has_trailer());
}

TEST(Claim, committing_more_than_was_claimed_is_our_own_bug_and_aborts) {
  TestPartition partition;
  partition.prepare_all();
  Appender appender = partition.appender(1, 0);
  OpenClaim claim;
  Appended appended;
  ASSERT_EQ(appender.claim(32, 0, RecordKind::data, claim), AppendResult::ok);
  EXPECT_DEATH((void)appender.commit(claim, 33, {}, 0, appended), "span_size");
}

TEST(Claim, aborted_keeps_its_length_and_uses_up_one_sequence) {
  TestPartition partition;
  partition.prepare_all();
  Appender appender = partition.appender(1, 0);
  OpenClaim claim;
  Appended appended;
  ASSERT_EQ(appender.claim(500, 0, RecordKind::data, claim), AppendResult::ok);
  appender.abort(claim);
  EXPECT_EQ(partition.pins.cell(0).load(), 0u);
  ASSERT_EQ(appender.append({bytes("next"), {}, 0}, appended), AppendResult::ok);
  EXPECT_EQ(appended.sequence, Sequence(2));
  const auto seen = Walker(partition, 1, Position(0)).all();
  ASSERT_EQ(seen.size(), 2u);
  EXPECT_EQ(seen[0].result, ScanResult::aborted);
  EXPECT_EQ(seen[0].producer, 1u);
  EXPECT_EQ(seen[1].position - seen[0].position, layout::record_span(500, 0));
}

TEST(Claim, expired_is_told_and_the_next_append_goes_through) {
  TestPartition partition;
  partition.prepare_all();
  Appender appender = partition.appender(1, 0);
  Walker walker(partition, 1, Position(0));
  OpenClaim claim;
  Appended appended;
  ASSERT_EQ(appender.claim(10, 0, RecordKind::data, claim), AppendResult::ok);
  ASSERT_TRUE(partition.expire(claim.position));
  EXPECT_NE(partition.pins.cell(0).load(), 0u);  // its owner may still write
  std::memset(claim.payload(), 'x', 10);
  EXPECT_EQ(appender.commit(claim, 10, {}, 0, appended), AppendResult::claim_expired);
  EXPECT_EQ(partition.pins.cell(0).load(), 0u);
  ASSERT_EQ(appender.append({bytes("again"), {}, 0}, appended), AppendResult::ok);
  EXPECT_EQ(appended.sequence, Sequence(2));
  EXPECT_THAT(walker.payloads(), ElementsAre("again"));
  appender.abort(claim);  // late and harmless
  EXPECT_EQ(layout::ClaimWord{partition.header_at(claim.position)->claim.load()}.state(), layout::RecordState::aborted);
}

TEST(Claim, a_committed_one_is_not_expired) {
  TestPartition partition;
  partition.prepare_all();
  Appender appender = partition.appender(1, 0);
  Appended appended;
  ASSERT_EQ(appender.append({bytes("x"), {}, 0}, appended), AppendResult::ok);
  EXPECT_FALSE(partition.expire(appended.position));
}

TEST(Claim, open_claims_do_not_hold_up_other_producers_but_their_readers) {
  TestPartition partition;
  partition.prepare_all();
  Appender slow = partition.appender(1, 0);
  Appender quick = partition.appender(2, 1);
  Walker walker(partition, 2, Position(0));
  OpenClaim claim;
  Appended appended;
  ASSERT_EQ(slow.claim(10, 0, RecordKind::data, claim), AppendResult::ok);
  ASSERT_EQ(quick.append({bytes("behind"), {}, 0}, appended), AppendResult::ok);
  EXPECT_TRUE(walker.payloads().empty());
  EXPECT_EQ(walker.stopped, ScanResult::claimed);
  ASSERT_TRUE(partition.expire(claim.position));
  EXPECT_THAT(walker.payloads(), ElementsAre("behind"));
}

}  // namespace
}  // namespace sluice::ring::test
