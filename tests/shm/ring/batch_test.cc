// Batches: visible at once or not at all.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "shm/base/failpoint.h"
#include "shm/layout/trailer.h"
#include "tests/shm/ring/test_partition.h"

namespace sluice::ring::test {
namespace {

struct Batch {
  explicit Batch(std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) texts.push_back(text_of(i, (i * 37) % 200));
    for (const auto& text : texts) payloads.push_back(bytes(text));
  }
  std::vector<std::string> texts;
  std::vector<std::span<const std::byte>> payloads;
};

TEST(Batch, comes_back_record_by_record_in_order) {
  for (const std::uint32_t flags : {0u, layout::kTopicFlagChecksums, layout::kTopicFlagPlainCommit}) {
    TestPartition partition({.flags = flags});
    partition.prepare_all();
    Appender appender = partition.appender(1, 0);
    layout::TrailerBuilder trailer;
    ASSERT_TRUE(trailer.tag("batch"));
    Walker walker(partition, 1, Position(0), (flags & layout::kTopicFlagChecksums) != 0);
    std::uint64_t sequence = 1;
    for (const std::size_t count : {1, 2, 3, 50, 63}) {
      const Batch batch(count);
      const auto tail = count % 2 == 0 ? trailer.finish() : std::span<const std::byte>();
      Appended appended;
      ASSERT_EQ(appender.append_batch(batch.payloads, {{}, tail, 5}, appended), AppendResult::ok) << count;
      EXPECT_EQ(appended.sequence, Sequence(sequence));
      const auto seen = walker.all();
      ASSERT_EQ(seen.size(), count);
      for (std::size_t i = 0; i < count; ++i) {
        EXPECT_EQ(seen[i].result, ScanResult::record);
        EXPECT_EQ(seen[i].payload, batch.texts[i]);
        EXPECT_EQ(seen[i].sequence, sequence++);
        EXPECT_EQ(seen[i].trailer.size(), tail.size());
      }
      EXPECT_EQ(appended.end, walker.position());
      EXPECT_EQ(appender.next_sequence(), Sequence(sequence));
    }
  }
}

TEST(Batch, too_large_together_is_refused_and_uses_nothing) {
  TestPartition partition({.message_size_max = 1024});
  partition.prepare_all();
  Appender appender = partition.appender(1, 0);
  const std::vector<std::span<const std::byte>> payloads(17, bytes("one line"));
  Appended appended;
  EXPECT_EQ(appender.append_batch(payloads, {}, appended), AppendResult::too_large);
  EXPECT_EQ(appender.append_batch(std::span(payloads).first(16), {}, appended), AppendResult::ok);
  EXPECT_EQ(appended.sequence, Sequence(1));
}

TEST(Batch, goes_into_the_next_segment_as_a_whole) {
  TestPartition partition;
  partition.prepare_all();
  Appender appender = partition.appender(1, 0);
  Appended appended;
  for (int i = 0; i < 1015; ++i) ASSERT_EQ(appender.append({bytes("x"), {}, 0}, appended), AppendResult::ok);
  const std::vector<std::span<const std::byte>> payloads(9, bytes("one line"));
  ASSERT_EQ(appender.append_batch(payloads, {}, appended), AppendResult::ok);
  EXPECT_EQ(appended.position, Position(kSegmentSizeMin + layout::kSegmentHeaderSize));
  EXPECT_EQ(Walker(partition, 1, Position(0)).payloads().size(), 1015u + 9);
}

#if defined(SLUICE_FAILPOINTS)
// Runs `action` once, in the window between the last byte written and the commit.
class AtWritten {
 public:
  explicit AtWritten(std::function<void()> action) {
    failpoint::set_handler([action, done = false](std::string_view name) mutable {
      if (name == "ring.written" && !std::exchange(done, true)) action();
    });
  }
  ~AtWritten() { failpoint::set_handler({}); }
};

TEST(Batch, is_not_visible_before_its_first_header) {
  TestPartition partition;
  partition.prepare_all();
  Appender appender = partition.appender(1, 0);
  Walker walker(partition, 1, Position(0));
  const Batch batch(20);
  Appended appended;
  {
    AtWritten check([&] {
      EXPECT_TRUE(walker.payloads().empty());
      EXPECT_EQ(walker.stopped, ScanResult::claimed);
    });
    ASSERT_EQ(appender.append_batch(batch.payloads, {}, appended), AppendResult::ok);
  }
  EXPECT_EQ(walker.payloads(), batch.texts);
}

TEST(Batch, expired_keeps_its_total_length_and_uses_up_one_sequence) {
  TestPartition partition;
  partition.prepare_all();
  Appender appender = partition.appender(1, 0);
  Walker walker(partition, 1, Position(0));
  const Batch batch(20);
  std::uint64_t total = 0;
  for (const auto& payload : batch.payloads) total += layout::record_span(payload.size(), 0);
  Appended appended;
  {
    AtWritten expire([&] { ASSERT_TRUE(partition.expire(Position(layout::kSegmentHeaderSize))); });
    EXPECT_EQ(appender.append_batch(batch.payloads, {}, appended), AppendResult::claim_expired);
  }
  EXPECT_EQ(appender.next_sequence(), Sequence(2));
  const auto seen = walker.all();
  ASSERT_EQ(seen.size(), 1u);
  EXPECT_EQ(seen[0].result, ScanResult::aborted);
  EXPECT_EQ(seen[0].fields.claim.span_size(), total);
  EXPECT_EQ(walker.position(), Position(layout::kSegmentHeaderSize + total));
  ASSERT_EQ(appender.append_batch(batch.payloads, {}, appended), AppendResult::ok);
  EXPECT_EQ(appended.sequence, Sequence(2));
  EXPECT_EQ(walker.payloads(), batch.texts);
}
#endif

}  // namespace
}  // namespace sluice::ring::test
