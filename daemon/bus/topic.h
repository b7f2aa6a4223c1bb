// A topic in the daemon: its record, who may use it, its partitions, the holders of its producer names.
// Owner: the bus thread.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "daemon/bus/audit_recovery.h"
#include "daemon/bus/data_directory.h"
#include "daemon/bus/kept_state.h"
#include "daemon/bus/partition_regions.h"
#include "daemon/core/topic.h"
#include "daemon/session/access.h"
#include "daemon/spill/partition.h"
#include "daemon/store/store.h"
#include "shm/base/types.h"

namespace sluice::bus {

// What opening a partition needs from the bus.
struct OpenContext {
  const DataDirectory& directory;
  store::Store& store;
  io::Disk& disk;
  const ring::PinSource& pins;
  const spill::Attached& attached;
  spill::AuditNotes* notes;
  spill::HalfListener* halves;
  MemoryBudget& budget;
  Incarnation incarnation;
  std::uint64_t flush_interval_ns = 0;
  std::uint32_t segments_per_file = 0;
  std::function<std::uint64_t()> wall_ns;
  int wake_fd = -1;
};

// A partition whose memory outlived the daemon that made it.
struct KeptUnit {
  KeptPartition note;
  std::array<UniqueFd, 3> regions;  // control, log, bell
};

// A producer that has ended: below `settled_at`, all that it claimed is counted.
struct EndedProducer {
  ProducerId id;
  Position settled_at;
};

// A partition and the memory it stands on.
struct PartitionUnit {
  // Its claims were swept, nothing more comes of it: the audit need not keep its row apart once all is counted.
  void note_ended(ProducerId producer);
  // `at_end`: the scan has just met the end of the log, so everything that was claimed before is counted.
  void settle_ended(bool at_end);

  std::uint32_t handle = 0;
  Position lease;                             // positions below it may be in use; kept in the store
  std::unique_ptr<PartitionRegions> regions;  // outlives `partition`
  std::unique_ptr<spill::Partition> partition;
  // Ids below it may have sent to a memory of this partition that was lost: what they report counts.
  ProducerId reporters_end;
  std::string unrecovered;               // why its log could not be opened again; empty: it is open
  std::deque<EndedProducer> ended;       // in the order of their ends
  std::uint64_t folds_checkpointed = 0;  // audit rows
  Position counted;                      // the store has the audit's counts up to here
};

class Topic {
 public:
  explicit Topic(core::TopicRecord record);

  // Opens the partition: recovers its log, chooses its start, makes its memory. `fresh`: the topic was created just
  // now. What recovery found worth telling goes to `findings`.
  Status open_partition(PartitionNumber number, std::uint32_t handle, bool fresh, const OpenContext& context,
                        std::vector<std::string>& findings);
  // After a partition was poisoned: the same as after lost memory, in the place of the one that is there. Its log must
  // be released. After an error all is as before.
  Status replace_partition(PartitionNumber number, std::uint32_t handle, const OpenContext& context,
                           std::vector<std::string>& findings);
  // Opens it over the memory that was kept: recovers its log, and goes on where that ends. corrupt: memory and log do
  // not fit together.
  Status adopt_partition(PartitionNumber number, KeptUnit kept, const OpenContext& context,
                         std::vector<std::string>& findings);
  // Tells attached readers, also those who sleep, how many partitions there are by now.
  void publish_partition_count() const;
  // Volatile topics: keeps the lease on positions ahead of their use.
  Status renew_leases(store::Store& store);
  // Saves an audit snapshot of one partition.
  Status save_checkpoint(store::Store& store, PartitionUnit& unit, const spill::Checkpoint& checkpoint) const;

  const core::TopicRecord& record() const { return record_; }
  TopicId id() const { return record_.id; }
  const std::string& name() const { return record_.config.name; }
  const core::TopicConfig& config() const { return record_.config; }
  void set_config(core::TopicConfig config) { record_.config = std::move(config); }
  bool is_volatile() const { return record_.config.durability == core::Durability::volatile_; }
  bool has_retention() const {
    return !is_volatile() && (record_.config.retention_bytes != 0 || record_.config.retention_time_ns != 0);
  }
  const session::AccessList& publishers() const { return publishers_; }
  const session::AccessList& consumers() const { return consumers_; }
  std::vector<PartitionUnit>& partitions() { return partitions_; }
  const std::vector<PartitionUnit>& partitions() const { return partitions_; }
  // Name → the id that holds it (or held it last).
  std::map<std::string, ProducerId>& holders() { return holders_; }
  void set_attaches(const std::vector<store::NamedProducer>& attaches);
  void set_fences(std::vector<store::FenceRecord> fences) { fences_ = std::move(fences); }

 private:
  struct Recovered {
    std::unique_ptr<log::PartitionLog> log;
    AuditRecovery audit;
    Position end;
    Position used_end;                    // at least `end`: no position below it may be given out again
    log::SegmentTally last_segment = {};  // see log::RecoveryReport
  };
  // `kept`: the note of memory that was kept, or null; it begins at `memory_start`.
  Result<Recovered> recover(PartitionNumber number, const KeptPartition* kept, Position memory_start,
                            const OpenContext& context, std::vector<std::string>& findings) const;
  Result<PartitionUnit> make_unit(PartitionNumber number, std::uint32_t handle, bool fresh, const OpenContext& context,
                                  std::vector<std::string>& findings) const;
  static Recovered recover_volatile(const KeptPartition& kept, Position start);
  std::string partition_name(PartitionNumber number) const;
  Status make_partition(PartitionUnit& unit, PartitionNumber number, Recovered recovered, const OpenContext& context,
                        const std::optional<spill::KeptMemory>& kept) const;
  void restore_fences(PartitionUnit& unit, const AuditRecovery& audit) const;
  Status adopt_fences(PartitionUnit& unit, const AuditRecovery& audit, store::Store& store) const;

  core::TopicRecord record_;
  session::AccessList publishers_;
  session::AccessList consumers_;
  std::vector<store::NamedProducer> attaches_;  // used while partitions are opened
  std::vector<store::FenceRecord> fences_;
  std::map<std::string, ProducerId> holders_;
  std::vector<PartitionUnit> partitions_;
};

}  // namespace sluice::bus
