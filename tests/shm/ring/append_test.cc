// Append and read back, single-threaded: sizes, pads, segments, refusals, options.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "shm/layout/trailer.h"
#include "tests/shm/ring/test_partition.h"

namespace sluice::ring::test {
namespace {

using testing::ElementsAre;

AppendResult send(Appender& appender, std::string_view text, Appended& appended) {
  return appender.append({bytes(text), {}, 0}, appended);
}

class AppendFlags : public testing::TestWithParam<std::uint32_t> {};
INSTANTIATE_TEST_SUITE_P(Topics, AppendFlags,
                         testing::Values(0u, layout::kTopicFlagChecksums, layout::kTopicFlagPlainCommit,
                                         layout::kTopicFlagChecksums | layout::kTopicFlagPlainCommit));

TEST_P(AppendFlags, every_size_comes_back_whole) {
  TestPartition partition({.segment_size = 1 << 20, .slots = 16, .flags = GetParam()});
  partition.prepare_all();
  Appender appender = partition.appender(11, 0);
  Walker walker(partition, 1, Position(0), (GetParam() & layout::kTopicFlagChecksums) != 0);
  std::vector<std::size_t> sizes;
  for (std::size_t size = 0; size <= 300; ++size) sizes.push_back(size);
  for (std::size_t size : {1023, 1024, 1025, 4000, 4096, 65535, 262144 - 32}) sizes.push_back(size);
  Position end(0);
  for (std::size_t size : sizes) {
    Appended appended;
    const std::string text = text_of(size, size);
    ASSERT_EQ(appender.append({bytes(text), {}, size + 1}, appended), AppendResult::ok) << size;
    EXPECT_GE(appended.position, end);
    EXPECT_EQ(appended.end - appended.position, layout::record_span(size, 0));
    end = appended.end;
    const auto seen = walker.all();
    ASSERT_EQ(seen.size(), 1u) << size;
    EXPECT_EQ(seen[0].result, ScanResult::record);
    EXPECT_EQ(seen[0].payload, text);
    EXPECT_EQ(seen[0].position, appended.position);
    EXPECT_EQ(seen[0].sequence, appended.sequence.value);
    EXPECT_EQ(seen[0].producer, 11u);
    EXPECT_EQ(seen[0].fields.time_ns, size + 1);
  }
  EXPECT_EQ(appender.next_sequence(), Sequence(sizes.size() + 1));
  EXPECT_EQ(appender.local_end(), end);
  EXPECT_EQ(partition.pins.cell(0).load(), 0u);
}

TEST(Append, first_record_stands_behind_the_segment_header) {
  TestPartition partition;
  partition.prepare_all();
  Appender appender = partition.appender(1, 0);
  Appended appended;
  ASSERT_EQ(send(appender, "x", appended), AppendResult::ok);
  EXPECT_EQ(appended.position, Position(layout::kSegmentHeaderSize));
  EXPECT_EQ(appended.sequence, Sequence(1));
}

TEST(Append, a_record_that_does_not_fit_leaves_a_pad_and_goes_on_in_the_next_segment) {
  TestPartition partition;
  partition.prepare_all();
  Appender appender = partition.appender(1, 0);
  const std::string text = text_of(1, 10'000);  // six of them leave 5 KiB of a 64 KiB segment
  std::vector<std::string> sent;
  Appended appended;
  for (int i = 0; i < 7; ++i) {
    ASSERT_EQ(send(appender, text, appended), AppendResult::ok);
    sent.push_back(text);
  }
  EXPECT_EQ(appended.position, Position(kSegmentSizeMin + layout::kSegmentHeaderSize));
  const Position pad(layout::kSegmentHeaderSize + 6 * layout::record_span(10'000, 0));
  const layout::ClaimWord word{partition.header_at(pad)->claim.load()};
  EXPECT_EQ(word.kind(), layout::RecordKind::pad);
  EXPECT_EQ(word.state(), layout::RecordState::committed);
  EXPECT_EQ(pad + word.span_size(), Position(kSegmentSizeMin));
  EXPECT_EQ(Walker(partition, 1, Position(0)).payloads(), sent);
}

TEST(Append, a_segment_filled_to_the_last_byte_has_no_pad) {
  TestPartition partition;
  partition.prepare_all();
  Appender appender = partition.appender(1, 0);
  Appended appended;
  // 65,536 − 64 = 1023 records of one line.
  for (int i = 0; i < 1023; ++i) ASSERT_EQ(send(appender, "1", appended), AppendResult::ok);
  EXPECT_EQ(appended.end, Position(kSegmentSizeMin));
  ASSERT_EQ(send(appender, "2", appended), AppendResult::ok);
  EXPECT_EQ(appended.position, Position(kSegmentSizeMin + layout::kSegmentHeaderSize));
  EXPECT_EQ(Walker(partition, 1, Position(0)).payloads().size(), 1024u);
}

TEST(Append, every_rest_of_a_segment_is_padded_or_used) {
  for (std::uint32_t lines = 0; lines < 12; ++lines) {
    TestPartition partition;
    partition.prepare_all();
    Appender appender = partition.appender(1, 0);
    Appended appended;
    for (std::uint32_t i = 0; i < 1023 - lines; ++i) ASSERT_EQ(send(appender, "1", appended), AppendResult::ok);
    ASSERT_EQ(send(appender, text_of(lines, 300), appended), AppendResult::ok);  // six lines
    const bool fits = lines >= 6;
    EXPECT_EQ(appended.position.value >> 16, fits ? 0u : 1u) << lines;
    EXPECT_EQ(Walker(partition, 1, Position(0)).payloads().back(), text_of(lines, 300));
  }
}

TEST(Append, two_producers_walk_over_each_other) {
  TestPartition partition;
  partition.prepare_all();
  Appender a = partition.appender(1, 0);
  Appender b = partition.appender(2, 1, 40);
  Appended appended;
  for (int i = 0; i < 50; ++i) ASSERT_EQ(send(a, "a", appended), AppendResult::ok);
  ASSERT_EQ(send(b, "b", appended), AppendResult::ok);
  EXPECT_EQ(appended.position, Position(64 * 51));
  EXPECT_EQ(appended.sequence, Sequence(40));
  ASSERT_EQ(send(a, "c", appended), AppendResult::ok);
  EXPECT_EQ(appended.sequence, Sequence(51));
  EXPECT_EQ(appended.position, Position(64 * 52));
}

TEST(Append, above_the_limit_is_too_large_and_uses_nothing) {
  TestPartition partition({.message_size_max = 1024});
  partition.prepare_all();
  Appender appender = partition.appender(1, 0);
  Appended appended;
  EXPECT_EQ(send(appender, text_of(1, 1024 - 31), appended), AppendResult::too_large);
  EXPECT_EQ(send(appender, text_of(1, 1024 - 32), appended), AppendResult::ok);
  EXPECT_EQ(appended.sequence, Sequence(1));
  OpenClaim claim;
  for (std::uint64_t size : {UINT64_MAX, UINT64_MAX - 31, UINT64_MAX - 95, std::uint64_t{1} << 40})
    EXPECT_EQ(appender.claim(size, 0, layout::RecordKind::data, claim), AppendResult::too_large) << size;
  EXPECT_EQ(appender.claim(8, UINT64_MAX - 7, layout::RecordKind::data, claim), AppendResult::too_large);
  EXPECT_EQ(partition.pins.cell(0).load(), 0u);
}

TEST(Append, a_gate_that_is_not_open_refuses) {
  TestPartition partition;
  partition.prepare_all();
  Appender appender = partition.appender(1, 0);
  Appended appended;
  for (auto gate : {layout::Gate::poisoned, layout::Gate::deleted, layout::Gate::denied, layout::Gate::closing}) {
    partition.control().gate.store(static_cast<std::uint32_t>(gate));
    EXPECT_EQ(send(appender, "x", appended), AppendResult::gate_closed);
    EXPECT_EQ(partition.pins.cell(0).load(), 0u);
  }
  partition.control().gate.store(static_cast<std::uint32_t>(layout::Gate::open));
  EXPECT_EQ(send(appender, "x", appended), AppendResult::ok);
  EXPECT_EQ(appended.sequence, Sequence(1));
}

TEST(Append, a_full_ring_has_no_room_holds_nothing_and_goes_on_once_there_is) {
  TestPartition partition;
  partition.prepare_all();
  Appender appender = partition.appender(1, 0);
  Appended appended;
  std::uint64_t sent = 0;
  while (send(appender, text_of(sent, 1000), appended) == AppendResult::ok) ++sent;
  EXPECT_EQ(sent, 4u * 60);  // 17 lines each, 1023 a segment
  EXPECT_EQ(send(appender, "", appended), AppendResult::no_room);
  EXPECT_EQ(partition.pins.cell(0).load(), 0u);
  EXPECT_EQ(appender.next_sequence(), Sequence(sent + 1));
  partition.slots.retire_first();
  partition.prepare_all();
  ASSERT_EQ(send(appender, "more", appended), AppendResult::ok);
  EXPECT_EQ(appended.sequence, Sequence(sent + 1));
  EXPECT_EQ(appended.position, Position(4 * kSegmentSizeMin + layout::kSegmentHeaderSize));
}

TEST(Append, nothing_is_claimed_above_prepared) {
  TestPartition partition({.segment_size = 1 << 20, .message_size_max = 200'000});
  ASSERT_TRUE(partition.slots.prepare_step(Position(0)));
  // What the previous lap may have left there: a record to the eye.
  std::memset(partition.memory.slot_base(0) + kPrepareStepSize, 0xff, (1 << 20) - kPrepareStepSize);
  Appender appender = partition.appender(1, 0);
  Appended appended;
  ASSERT_EQ(send(appender, text_of(1, 199'000), appended), AppendResult::ok);
  EXPECT_EQ(send(appender, text_of(2, 199'000), appended), AppendResult::no_room);
  Walker walker(partition, 1, Position(0));
  EXPECT_EQ(walker.payloads().size(), 1u);
  EXPECT_EQ(walker.stopped, ScanResult::free);
  // Up to the last line below it there is room; the scan stops at the limit.
  while (send(appender, "", appended) == AppendResult::ok) {
  }
  EXPECT_EQ(appended.end, Position(kPrepareStepSize));
  walker.all();
  EXPECT_EQ(walker.stopped, ScanResult::limit);
  ASSERT_TRUE(partition.slots.prepare_step(Position(0)));
  EXPECT_EQ(send(appender, text_of(2, 199'000), appended), AppendResult::ok);
  EXPECT_EQ(walker.payloads(), std::vector<std::string>{text_of(2, 199'000)});
}

TEST(Append, starts_at_the_given_position) {
  const std::uint64_t start = 7 * kSegmentSizeMin;
  TestPartition partition({.start_position = start});
  partition.prepare_all();
  Appender appender = partition.appender(1, 0);
  Appended appended;
  for (int i = 0; i < 200; ++i) ASSERT_EQ(send(appender, text_of(i, 1000), appended), AppendResult::ok);
  Walker walker(partition, 1, Position(start));
  EXPECT_EQ(walker.payloads().size(), 200u);
  std::uint32_t slot = 0;
  EXPECT_EQ(pin_segment(partition.memory, partition.pins.cell(1), SegmentNumber(6), slot), Presence::gone);
  EXPECT_EQ(pin_segment(partition.memory, partition.pins.cell(1), SegmentNumber(11), slot), Presence::not_yet);
}

TEST(Append, before_anything_is_prepared_nothing_is_there_yet) {
  TestPartition partition({.start_position = 7 * kSegmentSizeMin});
  Appender appender = partition.appender(1, 0);
  Appended appended;
  EXPECT_EQ(send(appender, "x", appended), AppendResult::no_room);
  std::uint32_t slot = 0;
  EXPECT_EQ(pin_segment(partition.memory, partition.pins.cell(1), SegmentNumber(6), slot), Presence::gone);
  EXPECT_EQ(pin_segment(partition.memory, partition.pins.cell(1), SegmentNumber(7), slot), Presence::not_yet);
  EXPECT_EQ(partition.pins.cell(1).load(), 0u);
  partition.prepare_all();
  EXPECT_EQ(send(appender, "x", appended), AppendResult::ok);
}

TEST(Append, the_tail_is_moved_lazily_but_across_segments_at_once) {
  TestPartition partition;
  partition.prepare_all();
  Appender appender = partition.appender(1, 0);
  Appended appended;
  std::uint64_t moves = 0;
  std::uint64_t before = partition.memory.log->tail.load();
  for (int i = 0; i < 3000; ++i) {
    ASSERT_EQ(send(appender, "1", appended), AppendResult::ok);
    const std::uint64_t tail = partition.memory.log->tail.load();
    EXPECT_LE(tail, appended.end.value);
    EXPECT_LT(appended.end.value - tail, kTailLagMax);
    EXPECT_EQ(appended.end.value >> 16, tail >> 16);
    if (tail != before) ++moves;
    before = tail;
  }
  EXPECT_LT(moves, 3000u * 64 / kTailLagMax + 8);
}

TEST(Append, exchanging_and_registered_producers_write_the_same) {
  TestPartition partition({.flags = layout::kTopicFlagPlainCommit});
  partition.prepare_all();
  Appender exchanging(partition.memory, ProducerId(1), partition.pins.cell(0), true, Sequence(1));
  Appended appended;
  ASSERT_EQ(send(exchanging, "x", appended), AppendResult::ok);
  EXPECT_EQ(partition.pins.cell(0).load(), 0u);
  EXPECT_THAT(Walker(partition, 1, Position(0)).payloads(), ElementsAre("x"));
}

TEST_P(AppendFlags, a_trailer_with_every_option_comes_back_behind_any_payload) {
  TestPartition partition({.flags = GetParam()});
  partition.prepare_all();
  Appender appender = partition.appender(1, 0);
  Walker walker(partition, 1, Position(0), true && (GetParam() & layout::kTopicFlagChecksums) != 0);
  layout::TrailerBuilder trailer;
  for (std::size_t size = 0; size < 140; ++size) {
    trailer.clear();
    ASSERT_TRUE(trailer.key("key " + std::to_string(size)));
    ASSERT_TRUE(trailer.tag("tag"));
    ASSERT_TRUE(trailer.header("name", "value"));
    ASSERT_TRUE(trailer.header("other", ""));
    ASSERT_TRUE(trailer.bookmark("mark"));
    trailer.reference(Position(4711));
    trailer.due(1);
    trailer.expiry(2);
    trailer.fence({ProducerId(1), ProducerId(2), Sequence(3)});
    const std::string text = text_of(size, size);
    Appended appended;
    ASSERT_EQ(appender.append({bytes(text), trailer.finish(), 0}, appended, layout::RecordKind::half),
              AppendResult::ok);
    const auto seen = walker.all();
    ASSERT_EQ(seen.size(), 1u);
    EXPECT_EQ(seen[0].payload, text);
    EXPECT_EQ(seen[0].fields.claim.kind(), layout::RecordKind::half);
    const auto found = bytes(seen[0].trailer);
    EXPECT_EQ(layout::as_text(layout::find_entry(found, layout::TrailerType::key)), "key " + std::to_string(size));
    EXPECT_EQ(layout::as_text(layout::find_entry(found, layout::TrailerType::bookmark)), "mark");
    EXPECT_EQ(layout::as_u64(layout::find_entry(found, layout::TrailerType::reference)), 4711u);
    EXPECT_EQ(layout::as_fence(layout::find_entry(found, layout::TrailerType::fence))->next_sequence, Sequence(3));
  }
}

TEST(Append, checksums_are_there_only_where_the_topic_has_them) {
  for (const std::uint32_t flags : {0u, layout::kTopicFlagChecksums}) {
    TestPartition partition({.flags = flags});
    partition.prepare_all();
    Appender appender = partition.appender(1, 0);
    Appended appended;
    ASSERT_EQ(send(appender, "text", appended), AppendResult::ok);
    EXPECT_EQ(partition.header_at(appended.position)->checksum != 0, flags != 0);
  }
}

}  // namespace
}  // namespace sluice::ring::test
