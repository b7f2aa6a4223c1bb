#include "daemon/bus/audit_recovery.h"

#include <algorithm>
#include <set>

#include "shm/layout/trailer.h"

namespace sluice::bus {

using layout::RecordKind;
using layout::RecordState;

AuditRecovery::AuditRecovery(const store::AuditSnapshot& snapshot, const std::vector<store::NamedProducer>& attaches,
                             const std::vector<store::FenceRecord>& fences, PartitionNumber partition)
    : counted_(snapshot.upto), waited_(snapshot.delays.upto) {
  waiting_.delays.restore(snapshot.delays);
  waiting_.halves.restore(snapshot.halves, snapshot.upto);
  for (const store::NamedProducer& attach : attaches) names_[attach.id] = attach.name;
  for (const core::AuditRow& row : snapshot.rows) {
    audit_.restore(row);
    met_[row.producer] = true;
    if (row.name.empty()) continue;
    names_[row.producer] = row.name;
    ProducerId& last = last_of_name_[row.name];
    last = std::max(last, row.producer);
  }
  for (const auto& bookmark : snapshot.bookmarks) {
    const auto holder = last_of_name_.find(bookmark.producer_name);
    if (holder != last_of_name_.end()) bookmarks_[holder->second] = {bookmark.sequence, bookmark.bookmark};
  }
  for (const store::FenceRecord& fence : fences)
    if (fence.partition == partition) fences_[fence.old_id] = fence.position;
}

// The first sight of a producer: a named one continues where its name stood.
void AuditRecovery::meet(ProducerId producer) {
  bool& met = met_[producer];
  if (met) return;
  met = true;
  const auto name = names_.find(producer);
  if (name == names_.end()) return;
  // Former holders first: one that was fenced before it sent anything may still show up later.
  for (const auto& [former, its_name] : names_) {
    if (former >= producer) break;
    if (its_name == name->second) meet(former);
  }
  const auto last = last_of_name_.find(name->second);
  const Sequence next = last == last_of_name_.end() ? Sequence(1) : next_below_fence(last->second);
  if (last != last_of_name_.end()) {
    if (const auto mark = bookmarks_.find(last->second); mark != bookmarks_.end()) bookmarks_[producer] = mark->second;
  }
  audit_.on_attach(producer, name->second, next);
  last_of_name_[name->second] = producer;
}

// What an old holder sent above its fence is counted in its own row, and its successor did not count on from there.
Sequence AuditRecovery::next_below_fence(ProducerId producer) const {
  const auto fenced = next_when_fenced_.find(producer);
  return fenced == next_when_fenced_.end() ? audit_.next_sequence(producer) : fenced->second;
}

bool AuditRecovery::is_fenced(ProducerId producer, Position position) const {
  const auto fence = fences_.find(producer);
  return fence != fences_.end() && position >= fence->second;
}

void AuditRecovery::visit_waiting(Position position, const layout::RecordFields& fields,
                                  std::span<const std::byte> trailer) {
  if (position < waited_ || fields.claim.state() != RecordState::committed) return;
  if (fields.claim.kind() == RecordKind::ref) {
    const auto reference = layout::as_u64(layout::find_entry(trailer, layout::TrailerType::reference));
    if (!reference) return;
    static_cast<void>(waiting_.delays.met(position, Position(*reference)));
    static_cast<void>(waiting_.halves.met(position, Position(*reference)));
    return;
  }
  if (!layout::waits_for_ref(fields.claim.kind()) || is_fenced(fields.claim.producer(), position)) return;
  if (fields.claim.kind() == RecordKind::delayed)
    waiting_.delays.note(spill::delay_of(position, trailer));
  else if (auto half = spill::half_of(position, fields, trailer))
    static_cast<void>(waiting_.halves.note(std::move(*half)));
}

void AuditRecovery::visit(Position position, const layout::RecordFields& fields, std::span<const std::byte> trailer) {
  const RecordKind kind = fields.claim.kind();
  if (kind == RecordKind::pad) return;
  if (kind == RecordKind::fence) {
    if (const auto fence = layout::as_fence(layout::find_entry(trailer, layout::TrailerType::fence)))
      fences_[fence->old_id] = position;
    return;
  }
  visit_waiting(position, fields, trailer);
  if (position < counted_) return;
  if (kind == RecordKind::ref) {
    time_max_ns_ = std::max(time_max_ns_, fields.time_ns);
    return;
  }
  const ProducerId producer = fields.claim.producer();
  meet(producer);
  const bool fenced = is_fenced(producer, position);
  if (fenced) next_when_fenced_.try_emplace(producer, audit_.next_sequence(producer));
  if (fields.claim.state() == RecordState::aborted) {
    audit_.on_abort(producer);
    return;
  }
  if (fenced) {
    audit_.on_fenced(producer, fields.sequence);
    return;
  }
  if (kind == RecordKind::delayed)
    audit_.on_delayed(producer, fields.sequence);
  else if (kind == RecordKind::half)
    audit_.on_half(producer, fields.sequence);
  else
    audit_.on_data(producer, fields.sequence);
  time_max_ns_ = std::max(time_max_ns_, fields.time_ns);
  const auto bookmark = layout::find_entry(trailer, layout::TrailerType::bookmark);
  if (bookmark.data() != nullptr) bookmarks_[producer] = {fields.sequence, std::string(layout::as_text(bookmark))};
}

void AuditRecovery::finish(bool all_ended) {
  for (const auto& [producer, name] : names_) meet(producer);
  if (all_ended) audit_.fold_former();
}

void AuditRecovery::continue_names(spill::Partition& partition) const {
  std::set<ProducerId> counted;
  for (const core::AuditRow& row : partition.audit().rows())
    if (row.counts.sequence_first.value != 0) counted.insert(row.producer);
  std::map<std::string, ProducerId> holders;
  for (const auto& [producer, name] : names_) {
    const auto before = holders.find(name);
    if (before != holders.end() && !counted.contains(producer)) partition.adopt_name(producer, name, before->second);
    holders[name] = producer;
  }
}

store::AuditSnapshot snapshot_of(const spill::Checkpoint& checkpoint) {
  store::AuditSnapshot snapshot;
  snapshot.upto = checkpoint.upto;
  snapshot.rows = checkpoint.rows;
  snapshot.delays = checkpoint.delays;
  snapshot.delays.upto = checkpoint.upto;
  snapshot.halves = checkpoint.halves;
  // The holders as the checkpoint has them: a name may have gone on to another producer since it was taken.
  std::map<std::string, ProducerId> holders;
  std::map<ProducerId, std::string> names;
  for (const core::AuditRow& row : checkpoint.rows) {
    if (row.name.empty()) continue;
    names[row.producer] = row.name;
    ProducerId& holder = holders[row.name];
    holder = std::max(holder, row.producer);
  }
  for (const auto& [producer, mark] : checkpoint.bookmarks) {
    const auto name = names.find(producer);
    if (name != names.end() && holders[name->second] == producer)
      snapshot.bookmarks.push_back({name->second, mark.sequence, mark.bookmark});
  }
  return snapshot;
}

}  // namespace sluice::bus
