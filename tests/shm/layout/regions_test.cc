#include "shm/layout/regions.h"

#include <cstring>

#include <gtest/gtest.h>

#include "shm/layout/member_region.h"

namespace sluice::layout {
namespace {

TEST(Regions, EachKindHasAMagicOfItsOwn) {
  const std::uint64_t magic = region_magic(RegionKind::bell);
  EXPECT_EQ(std::memcmp(&magic, "SLUCREG\3", 8), 0);
  EXPECT_NE(region_magic(RegionKind::control), region_magic(RegionKind::log));
}

TEST(Regions, ASlotEntryKeepsItsFieldsAtTheirLimits) {
  const SegmentNumber last((std::uint64_t{1} << 48) - 1);
  const SlotEntry entry = SlotEntry::make(last, kSlotsMax - 1, SlotState::retiring);
  EXPECT_EQ(entry.segment(), last);
  EXPECT_EQ(entry.slot(), kSlotsMax - 1);
  EXPECT_EQ(entry.state(), SlotState::retiring);
  EXPECT_EQ(SlotEntry{}.state(), SlotState::absent);
}

TEST(Regions, NoPinIsZeroAndSegmentZeroCanBePinned) {
  EXPECT_NE(pin_word(0, SegmentNumber(0)), 0u);
  EXPECT_EQ(pin_word(3, SegmentNumber(9)), (std::uint64_t{3} << 40) | 10);
}

TEST(Regions, WordsOfDifferentWritersLieTwoLinesApart) {
  EXPECT_GE(offsetof(ControlRegion, durable) - offsetof(ControlRegion, prepared), kWriterDistance);
  EXPECT_EQ(sizeof(PinCell), kWriterDistance);
  EXPECT_EQ(offsetof(LogRegionHeader, tail) % kWriterDistance, 0u);
  EXPECT_GE(offsetof(BellRegion, durable_waiters) - offsetof(BellRegion, flags), kWriterDistance);
}

TEST(Regions, ALogRegionHasItsHeaderPageAndItsSlots) {
  EXPECT_EQ(log_region_size(kSegmentSizeDefault, 8), 4096u + 8 * kSegmentSizeDefault);
}

TEST(Regions, TheMemberRegionIsWhatTheFormatPageSays) {
  EXPECT_EQ(offsetof(MemberRegion, assignments), 132u);
  EXPECT_EQ(offsetof(MemberRegion, ended), 136u);
  EXPECT_EQ(offsetof(MemberRegion, outcomes_read), 152u);
  EXPECT_EQ(offsetof(MemberRegion, fd_armed), 260u);
  EXPECT_EQ(offsetof(MemberRegion, taken), 272u);
  EXPECT_EQ(offsetof(MemberRegion, outcomes_written), 280u);
  EXPECT_EQ(offsetof(MemberRegion, slots), 262'656u);
  EXPECT_EQ(offsetof(MemberRegion, ring), 541'184u);
  EXPECT_EQ(offsetof(MemberRegion, started), 557'568u);
  EXPECT_EQ(offsetof(MemberRegion, outcomes), 590'336u);
  EXPECT_EQ(sizeof(MemberRegion), 1'114'624u);
  EXPECT_EQ(offsetof(AssignmentCell, released), 160u);
}

TEST(Regions, AReasonFillsWholeEntries) {
  EXPECT_EQ(reason_entries(0), 0u);
  EXPECT_EQ(reason_entries(1), 1u);
  EXPECT_EQ(reason_entries(sizeof(OutcomeEntry)), 1u);
  EXPECT_EQ(reason_entries(kReasonSizeMax), 8u);
}

}  // namespace
}  // namespace sluice::layout
