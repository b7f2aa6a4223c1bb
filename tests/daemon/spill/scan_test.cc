// The scan: what is counted, what is repaired, and what a recovery finds of it.
#include <cstring>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "shm/layout/trailer.h"
#include "tests/daemon/spill/spill_rig.h"

namespace sluice::spill::test {
namespace {

using core::Durability;
using testing::ElementsAre;

TEST(Scan, CountsEachRecordOnceByItsProducer) {
  SpillRig rig(RigOptions::of(Durability::async));
  for (int i = 0; i < 5; ++i) rig.send(1, "one");
  for (int i = 0; i < 3; ++i) rig.send(2, "two");
  rig.settle();
  rig.settle();
  EXPECT_EQ(rig.partition().counters().records, 8u);
  EXPECT_EQ(rig.audit(1).data, 5u);
  EXPECT_EQ(rig.audit(2).data, 3u);
  EXPECT_TRUE(rig.partition().audit().holds());
}

TEST(Scan, AbortsClaimsOfTheDeadAndGoesOn) {
  SpillRig rig(RigOptions::of(Durability::sync));
  rig.claim(1, 500);
  rig.send(2, "behind");
  rig.settle();
  EXPECT_EQ(rig.partition().counters().records, 0u);
  EXPECT_TRUE(rig.partition().has_open_claims());
  rig.attached.alive.erase(1);
  rig.settle();
  EXPECT_EQ(rig.partition().counters().records, 1u);
  EXPECT_EQ(rig.partition().counters().repaired_claims, 1u);
  EXPECT_EQ(rig.audit(1).aborted, 1u);
  EXPECT_THAT(rig.lose_power_and_recover().payloads, ElementsAre("behind"));
}

TEST(Scan, SweepAbortsWhatLiesBehindAnotherOpenClaim) {
  SpillRig rig(RigOptions::of(Durability::sync));
  rig.claim(1, 100);
  rig.claim(2, 100);
  rig.claim(3, 100);
  rig.settle();
  EXPECT_EQ(rig.partition().sweep([](ProducerId id) { return id == ProducerId(2); }), 1u);
  EXPECT_EQ(rig.partition().sweep([](ProducerId id) { return id == ProducerId(2); }), 0u);
}

TEST(Scan, AClaimIsAbortedAtItsDeadlineAndNotBefore) {
  SpillRig rig(RigOptions::of(Durability::async));
  const ring::OpenClaim open = rig.claim(1, 100);
  const std::uint64_t deadline = rig.now_ns + kClaimDeadlineNsDefault;
  EXPECT_EQ(rig.work().deadline_ns, deadline);
  rig.now_ns = deadline - 1;
  EXPECT_EQ(rig.work().deadline_ns, deadline);
  EXPECT_EQ(rig.partition().counters().expired_claims, 0u);
  rig.now_ns = deadline;
  rig.work();
  EXPECT_EQ(rig.partition().counters().expired_claims, 1u);
  ring::Appended appended;
  EXPECT_EQ(rig.producer(1).commit(open, 100, {}, 0, appended), ring::AppendResult::claim_expired);
}

TEST(Scan, ADeadlineRunsOnWhateverIsWrittenIntoTheWord) {
  SpillRig rig(RigOptions::of(Durability::async));
  const ring::OpenClaim open = rig.claim(1, 100);
  for (int i = 0; i < 3; ++i) {
    rig.work();
    rig.advance(kClaimDeadlineNsDefault / 2);
    auto word =
        layout::ClaimWord::make(ProducerId(1), 3, layout::RecordKind::data, i % 2 == 0, layout::RecordState::claimed);
    if (i < 2) rig.header_at(open.position)->claim.store(word.bits);
  }
  rig.work();
  EXPECT_EQ(rig.partition().counters().expired_claims, 1u);
}

// The span of an aborted claim is its owner's until it unpins: it writes all over it, before, during and after the
// spill.
TEST(Scan, AZombieWritesAsItLikesAndTheFileStaysRight) {
  SpillRig rig(RigOptions::of(Durability::sync));
  rig.send(2, "before");
  const ring::OpenClaim open = rig.claim(1, 6000);
  for (int i = 0; i < 30; ++i) rig.send(2, "behind " + std::to_string(i));
  rig.work();
  rig.advance(kClaimDeadlineNsDefault);
  rig.work();  // aborted, and a write is in flight
  auto* header = rig.header_at(open.position);
  for (int turn = 0; turn < 5; ++turn) {
    header->sequence = 77;
    header->payload_size = 0xffff'ffff;
    header->checksum = 1;
    std::memset(open.payload(), 0x40 + turn, 6000);
    rig.work();
    rig.reap();
  }
  header->claim.store(0x1234'5678'9abc'def1);
  rig.settle();
  const auto recovered = rig.lose_power_and_recover();
  EXPECT_TRUE(recovered.report.damaged.empty());
  EXPECT_EQ(recovered.payloads.size(), 31u);
  ASSERT_GE(recovered.seen.size(), 2u);
  EXPECT_EQ(recovered.seen[1].result, ring::ScanResult::aborted);
  EXPECT_EQ(recovered.seen[1].sequence, 1u);
}

TEST(Scan, AFenceEndsTheOldHolder) {
  SpillRig rig(RigOptions::of(Durability::sync));
  rig.send(1, "a", "first");
  const ring::OpenClaim open = rig.claim(1, 10);
  const auto fence = rig.partition().fence(ProducerId(1), ProducerId(2));
  ASSERT_TRUE(fence.has_value());
  EXPECT_EQ(fence->mark.sequence, Sequence(2));
  EXPECT_EQ(fence->mark.bookmark, "first");
  ring::Appended appended;
  EXPECT_EQ(rig.producer(1).commit(open, 10, {}, 0, appended), ring::AppendResult::claim_expired);
  ring::Appender(rig.partition().memory(), ProducerId(1), rig.pins.cell(9), false, Sequence(3))
      .append({bytes("late"), {}, 0}, appended);
  rig.settle();
  EXPECT_EQ(rig.audit(1).data, 1u);
  EXPECT_EQ(rig.audit(1).aborted, 1u);
  EXPECT_EQ(rig.audit(1).fenced, 1u);
  const auto again = rig.partition().fence(ProducerId(1), ProducerId(3));
  ASSERT_TRUE(again.has_value());
  EXPECT_EQ(again->position, fence->position);
  EXPECT_EQ(again->mark.sequence, Sequence(2));
  EXPECT_EQ(rig.partition().last_of(ProducerId(1)).sequence, Sequence(2));
}

TEST(Scan, TellsTheLastSequenceAlsoWhereTheTailLags) {
  SpillRig rig(RigOptions::of(Durability::async));
  for (int i = 1; i <= 7; ++i) rig.send(1, "x", "b" + std::to_string(i));
  const ProducerMark mark = rig.partition().last_of(ProducerId(1));
  EXPECT_EQ(mark.sequence, Sequence(7));
  EXPECT_EQ(mark.bookmark, "b7");
}

TEST(Scan, ABadChecksumIsCountedAndTheRecordsBehindItSurvive) {
  SpillRig rig(RigOptions::of(Durability::sync));
  rig.send(1, "before");
  const ring::Appended bad = rig.send(1, "spoilt");
  rig.send(2, "behind");
  *reinterpret_cast<char*>(rig.header_at(bad.position) + 1) = 'S';
  rig.settle();
  EXPECT_EQ(rig.partition().counters().corrupt_records, 1u);
  EXPECT_EQ(rig.audit(1).quarantined, 1u);
  EXPECT_FALSE(rig.partition().audit().holds());
  const auto recovered = rig.lose_power_and_recover();
  EXPECT_TRUE(recovered.report.damaged.empty());
  EXPECT_THAT(recovered.payloads, ElementsAre("before", "behind"));
}

TEST(Scan, AForgedFenceIsQuarantined) {
  SpillRig rig(RigOptions::of(Durability::sync));
  layout::TrailerBuilder trailer;
  trailer.fence({ProducerId(1), ProducerId(2), Sequence(1)});
  ring::Appended appended;
  rig.producer(2).append({{}, trailer.finish(), 0}, appended, layout::RecordKind::fence);
  rig.send(1, "stands");
  rig.settle();
  EXPECT_EQ(rig.audit(1).data, 1u);
  EXPECT_EQ(rig.partition().counters().corrupt_records, 1u);
  const auto recovered = rig.lose_power_and_recover();
  for (const Seen& seen : recovered.seen) EXPECT_NE(seen.fields.claim.kind(), layout::RecordKind::fence);
}

TEST(Scan, ABrokenChainClosesItsSegmentAndEverybodyGoesOnInTheNext) {
  SpillRig rig(RigOptions::of(Durability::sync));
  rig.send(1, "before");
  const ring::Appended broken = rig.send(1, "broken");
  rig.send(1, "lost with it");
  rig.header_at(broken.position)->claim.store(0xdead'beef'0000'0007);
  rig.settle();
  EXPECT_GT(rig.partition().counters().quarantined_bytes, 0u);
  EXPECT_EQ(rig.partition().frontier(), Position(kSegmentSizeMin));
  // It had walked past the place: it must not go on where nobody looks any more.
  const ring::Appended next = rig.send(1, "next segment");
  EXPECT_GE(next.position, Position(kSegmentSizeMin));
  rig.settle();
  rig.header_at(broken.position)->claim.store(0xdead'beef'0000'0007);
  EXPECT_GE(rig.partition().durable(), next.end);
  const auto recovered = rig.lose_power_and_recover();
  EXPECT_TRUE(recovered.report.damaged.empty());
  EXPECT_THAT(recovered.payloads, ElementsAre("before", "next segment"));
}

TEST(Scan, ASpanAboveWhatIsPreparedIsNotFollowed) {
  RigOptions options = RigOptions::of(Durability::async);
  options.topic.segment_size = 1024 * 1024;
  options.backing_limit = kPrepareStepSize;
  SpillRig rig(options);
  const ring::Appended last = rig.send(1, "last");
  const std::uint64_t rest = options.topic.segment_size - last.end.value;
  for (const auto state :
       {layout::RecordState::aborted, layout::RecordState::committed, layout::RecordState::claimed}) {
    rig.header_at(last.end)->claim.store(
        layout::ClaimWord::make(ProducerId(5), rest / 64, layout::RecordKind::data, false, state).bits);
    rig.settle();
    EXPECT_EQ(rig.partition().frontier(), last.end);
  }
}

// Whatever stands in the slots, a turn ends, nothing is asserted, and the watermarks stay in order.
TEST(Scan, RandomWordsInTheSlotsDoNotHoldItUp) {
  std::uint64_t dice = 42;
  const auto next = [&] { return dice = dice * 6364136223846793005u + 1442695040888963407u; };
  for (int round = 0; round < 60; ++round) {
    SpillRig rig(RigOptions::of(round % 2 == 0 ? Durability::volatile_ : Durability::async));
    for (int i = 0; i < 20; ++i)
      rig.send(1 + static_cast<std::uint32_t>(i % 3), std::string((next() >> 40) % 900, 'x'));
    for (int i = 0; i < 10; ++i) {
      const Position place(rig.partition().frontier().value + 64 + ((next() >> 33) % 200) * 64);
      // Below the frontier the writer may be reading; here only what was not scanned is spoilt.
      auto* header = rig.header_at(place);
      const std::uint64_t producer = (next() >> 62) == 0 ? 0 : (next() >> 62);
      const std::uint64_t word =
          (next() >> 63) != 0 ? next() : (producer << 32) | ((next() >> 55) << 8) | ((next() >> 60) & 0x1f);
      header->claim.store(word);
      header->sequence = (next() >> 62) == 0 ? UINT64_MAX : next();
      header->payload_size = static_cast<std::uint32_t>(next());
      if (rig.partition().is_idle()) rig.settle(false);
      rig.advance(kClaimDeadlineNsDefault);
      rig.settle();
      EXPECT_LE(rig.partition().frontier().value, rig.control().prepared.load());
      EXPECT_LE(rig.partition().durable(), rig.partition().frontier());
    }
    rig.regions_tail().store(next());
    rig.settle();
    EXPECT_EQ(rig.partition().sweep([](ProducerId) { return true; }) & 0x8000'0000, 0u);
  }
}

}  // namespace
}  // namespace sluice::spill::test
