// What the daemon knows beside the logs: topics, ids that are never reused, named producers, audit snapshots.
//
// Owner: the bus thread. SQLite in WAL mode with synchronous=FULL behind this interface, or simulated (sim_store.h),
// which survives a power loss as a prefix of its commits. Every mutating call is one transaction and durable when it
// returns.
//
// Invariants
//  1. An id (topic, producer, incarnation) that was given once is never given again, also after a crash.
//  2. A schema of a newer version is refused with ErrorCode::version and not touched.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "daemon/core/audit.h"
#include "daemon/core/delay_queue.h"
#include "daemon/core/half_table.h"
#include "daemon/core/topic.h"
#include "daemon/store/group_store.h"
#include "daemon/store/transaction_store.h"
#include "shm/base/result.h"
#include "shm/base/types.h"

namespace sluice::store {

// One attach of a producer name. Earlier ones are kept until an audit snapshot of every partition holds their rows, so
// that recovery knows whose records it meets.
struct NamedProducer {
  std::string name;
  ProducerId id;
};

struct FenceRecord {
  PartitionNumber partition = 0;
  ProducerId old_id;
  Position position;  // of the fence record
};

// A partition's audit rows as they stood when everything below `upto` was counted.
struct AuditSnapshot {
  Position upto;
  std::vector<core::AuditRow> rows;
  struct Bookmark {
    std::string producer_name;
    Sequence sequence;
    std::string bookmark;
  };
  std::vector<Bookmark> bookmarks;
  core::DelaySnapshot delays;
  core::HalfSnapshot halves;
};

// A store that is being copied while it is used: what is committed meanwhile is in the copy too.
class StoreCopy {
 public:
  virtual ~StoreCopy() = default;
  // Copies that many more pages. True: the copy is complete and durable, under its own name.
  virtual Result<bool> step(std::uint32_t pages) = 0;
};

class Store : public GroupStore, public TransactionStore {
 public:
  // Commits since the store was made. Of two copies the one with more holds all of the other.
  virtual Result<std::uint64_t> commits() = 0;
  // Begins a copy at `path`, in place of what is there. It must end before this store does.
  virtual Result<std::unique_ptr<StoreCopy>> copy_to(const std::string& path) = 0;

  // Raises and returns the bus's incarnation.
  virtual Result<Incarnation> next_incarnation() = 0;

  virtual Result<std::vector<core::TopicRecord>> topics() = 0;
  // Gives a fresh id. exists if a topic of that name is there.
  virtual Result<TopicId> create_topic(const core::TopicConfig& config, std::uint64_t created_ns) = 0;
  virtual Status alter_topic(TopicId id, const core::TopicConfig& config) = 0;
  // The id stays used.
  virtual Status delete_topic(TopicId id) = 0;

  // Reserves `count` producer ids that nobody had before; returns the first. The daemon leases them in blocks.
  virtual Result<ProducerId> lease_producer_ids(std::uint32_t count) = 0;
  // By ascending id: the last one of a name is its holder.
  virtual Result<std::vector<NamedProducer>> named_producers(TopicId topic) = 0;
  virtual Status add_named_producer(TopicId topic, const NamedProducer& producer) = 0;
  // Forgets the attaches of every name but the last.
  virtual Status forget_former_producers(TopicId topic) = 0;
  virtual Result<std::vector<FenceRecord>> fences(TopicId topic) = 0;
  virtual Status add_fence(TopicId topic, const FenceRecord& fence) = 0;
  virtual Status drop_fences_below(TopicId topic, PartitionNumber partition, Position trimmed) = 0;

  // Volatile topics: positions below the lease may be in use; the next incarnation starts at or above it.
  virtual Result<Position> position_lease(TopicId topic, PartitionNumber partition) = 0;
  virtual Status set_position_lease(TopicId topic, PartitionNumber partition, Position lease) = 0;

  virtual Result<AuditSnapshot> audit_snapshot(TopicId topic, PartitionNumber partition) = 0;
  // Delays and halves are added to those saved before (see their snapshots), everything else replaces what was there.
  // A half that has ended leaves its decision, too.
  virtual Status save_audit_snapshot(TopicId topic, PartitionNumber partition, const AuditSnapshot& snapshot) = 0;

  // One row of a partition's snapshot, put in place of the producer's row there. Without a snapshot nothing is saved.
  struct ReportedRow {
    PartitionNumber partition = 0;
    core::AuditRow row;
  };
  virtual Status save_audit_rows(TopicId topic, const std::vector<ReportedRow>& rows) = 0;

  virtual Status close() = 0;
};

// Opens or creates `path`. version, io, in_use, corrupt with the path and what to do.
Result<std::unique_ptr<Store>> open_sqlite_store(const std::string& path);

}  // namespace sluice::store
