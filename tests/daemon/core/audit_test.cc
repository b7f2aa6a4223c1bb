#include "daemon/core/audit.h"

#include <limits>
#include <random>

#include <gtest/gtest.h>

#include "shm/base/limits.h"

namespace sluice::core {
namespace {

constexpr ProducerId kA{7};
constexpr ProducerId kB{9};

AuditCounts counts_of(const PartitionAudit& audit, ProducerId producer) {
  for (const AuditRow& row : audit.rows())
    if (row.producer == producer) return row.counts;
  return {};
}

TEST(Audit, a_clean_run_counts_each_message_and_holds) {
  PartitionAudit audit;
  for (std::uint64_t i = 1; i <= 5; ++i) audit.on_data(kA, Sequence(i));
  const AuditCounts counts = counts_of(audit, kA);
  EXPECT_EQ(counts.data, 5u);
  EXPECT_EQ(counts.sequence_first, Sequence(1));
  EXPECT_EQ(counts.sequence_last, Sequence(5));
  EXPECT_EQ(audit.next_sequence(kA), Sequence(6));
  EXPECT_TRUE(audit.holds());
}

TEST(Audit, an_unknown_producer_starts_at_one_so_a_lost_first_message_is_a_gap) {
  PartitionAudit audit;
  EXPECT_EQ(audit.next_sequence(kA), Sequence(1));
  audit.on_data(kA, Sequence(3));
  EXPECT_EQ(counts_of(audit, kA).gaps, 2u);
  EXPECT_FALSE(audit.holds());
}

TEST(Audit, an_abort_takes_the_next_sequence_and_is_no_loss) {
  PartitionAudit audit;
  EXPECT_EQ(audit.on_abort(kA), Sequence(1));
  audit.on_data(kA, Sequence(2));
  EXPECT_EQ(audit.on_abort(kA), Sequence(3));
  EXPECT_EQ(counts_of(audit, kA).aborted, 2u);
  EXPECT_TRUE(audit.holds());
}

TEST(Audit, a_repeat_is_counted_and_does_not_hold) {
  PartitionAudit audit;
  audit.on_data(kA, Sequence(1));
  audit.on_data(kA, Sequence(1));
  const AuditCounts counts = counts_of(audit, kA);
  EXPECT_EQ(counts.data, 2u);
  EXPECT_EQ(counts.repeats, 1u);
  EXPECT_TRUE(counts.sum_holds());
  EXPECT_FALSE(audit.holds());
}

TEST(Audit, what_a_client_reports_above_what_was_found_is_cut_once) {
  PartitionAudit audit;
  audit.on_data(kA, Sequence(1));
  audit.on_reported(kA, Sequence(4));
  audit.on_reported(kA, Sequence(4));
  audit.on_reported(kA, Sequence(2));
  EXPECT_EQ(counts_of(audit, kA).cut, 3u);
  EXPECT_EQ(audit.next_sequence(kA), Sequence(5));
  EXPECT_FALSE(audit.holds());
}

TEST(Audit, an_attached_name_continues_where_it_was_told) {
  PartitionAudit audit;
  audit.on_attach(kA, "feed", Sequence(101));
  EXPECT_EQ(audit.next_sequence(kA), Sequence(101));
  EXPECT_EQ(counts_of(audit, kA).sequence_first, Sequence(0));
  EXPECT_TRUE(audit.holds());
  audit.on_data(kA, Sequence(101));
  EXPECT_EQ(counts_of(audit, kA).sequence_first, Sequence(101));
  EXPECT_TRUE(audit.holds());
}

TEST(Audit, fenced_and_quarantined_records_take_their_sequence) {
  PartitionAudit audit;
  audit.on_fenced(kA, Sequence(1));
  EXPECT_TRUE(audit.holds());
  audit.on_quarantined(kA, Sequence(2));
  EXPECT_EQ(audit.next_sequence(kA), Sequence(3));
  EXPECT_FALSE(audit.holds());
}

TEST(Audit, dropped_and_expired_messages_leave_data_and_keep_the_sum) {
  PartitionAudit audit;
  for (std::uint64_t i = 1; i <= 5; ++i) audit.on_data(kA, Sequence(i));
  audit.on_dropped(kA, 2);
  audit.on_expired(kA, 10);
  audit.on_expired(kB, 10);
  const AuditCounts counts = counts_of(audit, kA);
  EXPECT_EQ(counts.data, 0u);
  EXPECT_EQ(counts.dropped, 2u);
  EXPECT_EQ(counts.expired, 3u);
  EXPECT_EQ(audit.rows().size(), 1u);
  EXPECT_TRUE(audit.holds());
}

TEST(Audit, the_highest_sequence_that_a_hostile_producer_can_name_breaks_nothing) {
  PartitionAudit audit;
  const Sequence max{std::numeric_limits<std::uint64_t>::max()};
  audit.on_data(kA, max);
  EXPECT_EQ(audit.next_sequence(kA), max);
  audit.on_abort(kA);
  audit.on_data(kA, Sequence(0));
  EXPECT_TRUE(counts_of(audit, kA).sum_holds());
  audit.on_data(kB, Sequence(1));
  EXPECT_EQ(counts_of(audit, kB).data, 1u);
}

TEST(Audit, rows_of_different_producers_do_not_mix) {
  PartitionAudit audit;
  audit.on_data(kA, Sequence(1));
  audit.on_data(kB, Sequence(1));
  audit.on_data(kA, Sequence(2));
  EXPECT_EQ(counts_of(audit, kA).data, 2u);
  EXPECT_EQ(counts_of(audit, kB).data, 1u);
}

TEST(Audit, a_copy_counts_for_itself) {
  PartitionAudit audit;
  audit.on_data(kA, Sequence(1));
  PartitionAudit copy = audit;
  copy.on_data(kA, Sequence(2));
  EXPECT_EQ(counts_of(audit, kA).data, 1u);
  EXPECT_EQ(counts_of(copy, kA).data, 2u);
}

AuditCounts total_of(const PartitionAudit& audit) {
  AuditCounts total;
  for (const AuditRow& row : audit.rows()) {
    total.sequence_last = Sequence(total.sequence_last.value + row.counts.sent());
    total.data += row.counts.data;
    total.aborted += row.counts.aborted;
    total.cut += row.counts.cut;
    total.dropped += row.counts.dropped;
    total.gaps += row.counts.gaps;
  }
  return total;
}

TEST(Audit, rows_of_ended_anonymous_producers_are_bounded_and_their_sums_stay) {
  PartitionAudit audit;
  constexpr std::uint32_t kProducers = 3 * kAuditEndedRowsMax;
  for (std::uint32_t id = 1; id <= kProducers; ++id) {
    const ProducerId producer(id);
    for (std::uint64_t i = 1; i <= 3; ++i) audit.on_data(producer, Sequence(i));
    audit.on_abort(producer);
    if (id == 5) audit.on_reported(producer, Sequence(6));
    audit.on_ended(producer);
  }
  EXPECT_EQ(audit.rows().size(), kAuditEndedRowsMax + 1);
  EXPECT_EQ(audit.folds(), kProducers - kAuditEndedRowsMax);
  const AuditCounts total = total_of(audit);
  EXPECT_EQ(total.sequence_last, Sequence(4 * kProducers + 2));
  EXPECT_EQ(total.data, 3 * kProducers);
  EXPECT_EQ(total.aborted, kProducers);
  EXPECT_EQ(total.cut, 2u);
  EXPECT_FALSE(audit.holds()) << "what was cut must not be forgotten by folding";
  EXPECT_EQ(counts_of(audit, ProducerId(kProducers)).data, 3u);
}

TEST(Audit, a_fold_keeps_gaps_and_takes_what_is_dropped_later) {
  PartitionAudit audit;
  audit.on_data(kA, Sequence(3));
  audit.on_ended(kA);
  for (std::uint32_t id = 100; id < 100 + kAuditEndedRowsMax; ++id) {
    audit.on_data(ProducerId(id), Sequence(1));
    audit.on_ended(ProducerId(id));
  }
  EXPECT_EQ(counts_of(audit, kFoldedProducer).gaps, 2u);
  audit.on_dropped(kA, 1);
  EXPECT_EQ(counts_of(audit, kFoldedProducer).dropped, 1u);
  EXPECT_EQ(counts_of(audit, kFoldedProducer).data, 0u);
}

TEST(Audit, named_producers_and_those_that_have_not_ended_keep_their_rows) {
  PartitionAudit audit;
  audit.on_attach(kA, "feed", Sequence(1));
  audit.on_data(kA, Sequence(1));
  audit.on_data(kB, Sequence(1));
  for (std::uint32_t id = 100; id < 100 + 2 * kAuditEndedRowsMax; ++id) {
    audit.on_data(ProducerId(id), Sequence(1));
    audit.on_ended(ProducerId(id));
    audit.on_ended(kA);
  }
  EXPECT_EQ(counts_of(audit, kA).data, 1u);
  EXPECT_EQ(counts_of(audit, kB).data, 1u);
  EXPECT_TRUE(audit.holds());
}

TEST(Audit, a_start_keeps_the_newest_rows_and_counts_no_report_on_the_others_twice) {
  PartitionAudit audit;
  constexpr std::uint32_t kProducers = kAuditFormerRowsMax + 10;
  for (std::uint32_t id = 1; id <= kProducers; ++id) audit.on_data(ProducerId(id), Sequence(1));
  audit.fold_former();
  EXPECT_EQ(audit.rows().size(), kAuditFormerRowsMax + 1);
  EXPECT_EQ(total_of(audit).data, kProducers);
  EXPECT_FALSE(audit.on_reported(ProducerId(10), Sequence(8)).has_value());
  EXPECT_EQ(total_of(audit).cut, 0u);
  EXPECT_EQ(audit.on_reported(ProducerId(11), Sequence(8)).value().counts.cut, 7u);
  EXPECT_EQ(audit.on_reported(ProducerId(kProducers + 1), Sequence(3)).value().counts.cut, 3u);
  EXPECT_FALSE(audit.on_reported(kFoldedProducer, Sequence(1'000'000)).has_value());
}

void random_event(PartitionAudit& audit, std::mt19937_64& random) {
  const ProducerId producer(static_cast<std::uint32_t>(random() % 4 + 1));
  const std::uint64_t next = audit.next_sequence(producer).value;
  // Mostly the next one; at times behind, ahead, or any number at all.
  std::uint64_t sequence = next;
  if (random() % 8 == 0) sequence = next - std::min<std::uint64_t>(next, random() % 5);
  if (random() % 8 == 0) sequence = next + random() % 5;
  if (random() % 200 == 0) sequence = random();
  switch (random() % 10) {
    case 9: audit.on_dropped(kFoldedProducer, random() % 4); break;
    case 0:
    case 1:
    case 2: audit.on_data(producer, Sequence(sequence)); break;
    case 3: EXPECT_EQ(audit.on_abort(producer).value, next); break;
    case 4: audit.on_quarantined(producer, Sequence(sequence)); break;
    case 5: audit.on_fenced(producer, Sequence(sequence)); break;
    case 6: audit.on_dropped(producer, random() % 4); break;
    case 7: audit.on_expired(producer, random() % 4); break;
    default:
      if (random() % 2 == 0) {
        audit.on_reported(producer, Sequence(sequence));
      } else {
        audit.on_attach(producer, "n", Sequence(sequence));
      }
  }
}

// Property: whatever happens, every row's sum holds, next_sequence does not go down, and a restart from the rows counts
// on as if it had not happened.
TEST(Audit, the_sum_holds_after_any_sequence_of_events) {
  for (std::uint64_t seed = 1; seed <= 300; ++seed) {
    std::mt19937_64 random(seed);
    PartitionAudit audit;
    for (int step = 0; step < 300; ++step) {
      const auto before = audit.next_sequence(ProducerId(1));
      random_event(audit, random);
      ASSERT_GE(audit.next_sequence(ProducerId(1)), before) << "seed " << seed << " step " << step;
      for (const AuditRow& row : audit.rows())
        ASSERT_TRUE(row.counts.sum_holds()) << "seed " << seed << " step " << step;
      if (random() % 50 == 0) {
        PartitionAudit restored;
        for (const AuditRow& row : audit.rows()) restored.restore(row);
        ASSERT_EQ(restored.rows(), audit.rows());
        audit = restored;
      }
    }
  }
}

}  // namespace
}  // namespace sluice::core
