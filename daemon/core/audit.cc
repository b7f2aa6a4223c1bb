#include "daemon/core/audit.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "shm/base/assert.h"
#include "shm/base/limits.h"

namespace sluice::core {
namespace {

constexpr Sequence kSequenceMax{std::numeric_limits<std::uint64_t>::max()};

void start_at_next(AuditCounts& counts) {
  if (counts.sequence_first.value == 0) counts.sequence_first = counts.sequence_last.next();
}

}  // namespace

bool AuditCounts::sum_holds() const {
  const std::uint64_t sum = data + committed_halves + rolled_back + open + delayed + aborted + fenced + dropped +
                            expired + cut + quarantined + gaps - repeats;
  return sum == sent();
}

std::uint64_t AuditCounts::sent() const {
  return sequence_first.value == 0 ? 0 : sequence_last.value - sequence_first.value + 1;
}

bool AuditCounts::clean() const { return sum_holds() && gaps == 0 && repeats == 0 && cut == 0 && quarantined == 0; }

AuditRow& PartitionAudit::row(ProducerId producer) {
  if (last_used_.row != nullptr && last_used_.row->producer == producer) return *last_used_.row;
  AuditRow& found = rows_[producer];
  found.producer = producer;
  last_used_.row = &found;
  return found;
}

Sequence PartitionAudit::next_sequence(ProducerId producer) const {
  const auto found = rows_.find(producer);
  if (found == rows_.end()) return Sequence(1);
  const Sequence last = found->second.counts.sequence_last;
  return last == kSequenceMax ? kSequenceMax : last.next();
}

void PartitionAudit::count(ProducerId producer, Sequence sequence, std::uint64_t AuditCounts::*category) {
  AuditCounts& counts = row(producer).counts;
  if (sequence > counts.sequence_last) {
    start_at_next(counts);
    counts.gaps += sequence.value - counts.sequence_last.value - 1;
    counts.sequence_last = sequence;
  } else {
    ++counts.repeats;
  }
  ++(counts.*category);
  SLUICE_ASSERT(counts.sum_holds());
}

void PartitionAudit::on_data(ProducerId producer, Sequence sequence) { count(producer, sequence, &AuditCounts::data); }

void PartitionAudit::on_delayed(ProducerId producer, Sequence sequence) {
  count(producer, sequence, &AuditCounts::delayed);
}

void PartitionAudit::on_half(ProducerId producer, Sequence sequence) { count(producer, sequence, &AuditCounts::open); }

void PartitionAudit::on_decided(ProducerId producer, bool commit) {
  move(producer, 1, &AuditCounts::open, commit ? &AuditCounts::committed_halves : &AuditCounts::rolled_back);
}

Sequence PartitionAudit::on_abort(ProducerId producer) {
  const Sequence sequence = next_sequence(producer);
  count(producer, sequence, &AuditCounts::aborted);
  return sequence;
}

void PartitionAudit::on_quarantined(ProducerId producer, Sequence sequence) {
  count(producer, sequence, &AuditCounts::quarantined);
}

void PartitionAudit::on_fenced(ProducerId producer, Sequence sequence) {
  count(producer, sequence, &AuditCounts::fenced);
}

void PartitionAudit::move(ProducerId producer, std::uint64_t count, std::uint64_t AuditCounts::*from,
                          std::uint64_t AuditCounts::*category) {
  auto found = rows_.find(producer);
  if (found == rows_.end()) found = rows_.find(kFoldedProducer);
  if (found == rows_.end()) return;
  AuditCounts& counts = found->second.counts;
  const std::uint64_t moved = std::min(count, counts.*from);
  counts.*from -= moved;
  counts.*category += moved;
  SLUICE_ASSERT(counts.sum_holds());
}

void PartitionAudit::on_dropped(ProducerId producer, std::uint64_t count) {
  move(producer, count, &AuditCounts::data, &AuditCounts::dropped);
}

void PartitionAudit::on_expired(ProducerId producer, std::uint64_t count) {
  move(producer, count, &AuditCounts::data, &AuditCounts::expired);
}

std::optional<AuditRow> PartitionAudit::on_reported(ProducerId producer, Sequence last) {
  if (producer == kFoldedProducer || (producer <= former_folded_ && rows_.count(producer) == 0)) return std::nullopt;
  const AuditRow& reported = row(producer);
  AuditCounts& counts = row(producer).counts;
  if (last <= counts.sequence_last) return reported;
  start_at_next(counts);
  counts.cut += last.value - counts.sequence_last.value;
  counts.sequence_last = last;
  SLUICE_ASSERT(counts.sum_holds());
  return reported;
}

void PartitionAudit::on_attach(ProducerId producer, std::string name, Sequence next) {
  AuditRow& attached = row(producer);
  attached.name = std::move(name);
  // A row that has counted something already was restored, and knows better.
  if (attached.counts.sequence_first.value == 0 && next > attached.counts.sequence_last)
    attached.counts.sequence_last = Sequence(next.value - 1);
  SLUICE_ASSERT(attached.counts.sum_holds());
}

void PartitionAudit::fold(ProducerId producer) {
  const auto folded = rows_.find(producer);
  const AuditCounts from = folded->second.counts;
  rows_.erase(folded);
  last_used_ = LastUsed();
  ++folds_;
  if (from.sequence_first.value == 0) return;
  AuditCounts& into = row(kFoldedProducer).counts;
  start_at_next(into);
  into.sequence_last = Sequence(into.sequence_last.value + from.sent());
  for (const auto category : kAuditCategories) into.*category += from.*category;
  SLUICE_ASSERT(into.sum_holds());
}

void PartitionAudit::on_ended(ProducerId producer) {
  const auto ended = rows_.find(producer);
  if (ended == rows_.end() || !ended->second.name.empty() || producer == kFoldedProducer) return;
  ended_.push_back(producer);
  if (ended_.size() <= kAuditEndedRowsMax) return;
  fold(ended_.front());
  ended_.pop_front();
}

void PartitionAudit::fold_former() {
  std::vector<ProducerId> anonymous;
  for (const auto& [producer, row] : rows_)
    if (row.name.empty() && producer != kFoldedProducer) anonymous.push_back(producer);
  for (std::size_t i = 0; i + kAuditFormerRowsMax < anonymous.size(); ++i) {
    fold(anonymous[i]);
    former_folded_ = anonymous[i];
  }
}

std::vector<AuditRow> PartitionAudit::rows() const {
  std::vector<AuditRow> all;
  all.reserve(rows_.size());
  for (const auto& [producer, row] : rows_) all.push_back(row);
  return all;
}

bool PartitionAudit::holds() const {
  return std::all_of(rows_.begin(), rows_.end(), [](const auto& entry) { return entry.second.counts.clean(); });
}

void PartitionAudit::restore(const AuditRow& restored) { row(restored.producer) = restored; }

}  // namespace sluice::core
