// Rebuilds a partition's audit, and what waits in it for its time, from their last snapshots and the records behind
// these: what the running scan would have counted. Owner: the bus thread, during a start.
#pragma once

#include <map>
#include <span>
#include <string>
#include <vector>

#include "daemon/core/audit.h"
#include "daemon/spill/partition.h"
#include "daemon/store/store.h"
#include "shm/layout/record.h"

namespace sluice::bus {

class AuditRecovery {
 public:
  // `attaches`: every known attach of a producer name, by ascending id. The snapshot's delays may be older than its
  // rows.
  AuditRecovery(const store::AuditSnapshot& snapshot, const std::vector<store::NamedProducer>& attaches,
                const std::vector<store::FenceRecord>& fences, PartitionNumber partition);

  // One intact final record, in order; what the snapshot holds already is passed over.
  void visit(Position position, const layout::RecordFields& fields, std::span<const std::byte> trailer);
  // Names that have sent nothing since get their rows, so that their sequences continue. `all_ended`: no producer lives
  // on; rows beyond the limit are folded then.
  void finish(bool all_ended);

  // Of kept memory: names whose holders have changed above what was read here go on in the partition that was made of
  // it, which has its fences.
  void continue_names(spill::Partition& partition) const;

  void note_bookmark(ProducerId producer, spill::ProducerMark mark) { bookmarks_[producer] = std::move(mark); }

  // Where the snapshot's rows stood.
  Position counted() const { return counted_; }
  core::PartitionAudit& audit() { return audit_; }
  spill::Partition::Waiting& waiting() { return waiting_; }
  const std::map<ProducerId, spill::ProducerMark>& bookmarks() const { return bookmarks_; }
  const std::map<ProducerId, Position>& fences() const { return fences_; }
  std::uint64_t time_max_ns() const { return time_max_ns_; }

 private:
  bool is_fenced(ProducerId producer, Position position) const;
  void visit_waiting(Position position, const layout::RecordFields& fields, std::span<const std::byte> trailer);
  void meet(ProducerId producer);
  Sequence next_below_fence(ProducerId producer) const;

  Position counted_;  // what lies below is in the snapshot's rows
  Position waited_;   // and in its delays and halves
  core::PartitionAudit audit_;
  spill::Partition::Waiting waiting_;
  std::map<ProducerId, std::string> names_;
  std::map<ProducerId, bool> met_;                  // has a row
  std::map<std::string, ProducerId> last_of_name_;  // the newest id of the name that has a row
  std::map<ProducerId, spill::ProducerMark> bookmarks_;
  std::map<ProducerId, Position> fences_;
  std::map<ProducerId, Sequence> next_when_fenced_;  // of those met above their fence
  std::uint64_t time_max_ns_ = 0;
};

// What the store keeps of a checkpoint: its rows, and the bookmark of each name's holder.
store::AuditSnapshot snapshot_of(const spill::Checkpoint& checkpoint);

}  // namespace sluice::bus
