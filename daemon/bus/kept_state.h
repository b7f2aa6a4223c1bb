// What the bus notes for the daemon after it (keep::KeptTable), and reads back: sessions and their producers and
// readers, partitions and their handles, and where the audit of volatile ones stands.
//
// Owner: the bus thread. Notes are taken before what they tell of is answered to a client, so that the next daemon
// knows of everything that a client does.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "daemon/keep/kept_table.h"
#include "daemon/keep/region_keeper.h"
#include "daemon/session/session.h"
#include "daemon/spill/partition.h"
#include "shm/base/result.h"
#include "shm/base/types.h"

namespace sluice::bus {

struct KeptPartition {
  TopicId topic;
  PartitionNumber number = 0;
  std::uint32_t handle = 0;
  std::optional<spill::Checkpoint> audit;  // its counts as they stood at `upto`, which is durable unless it is volatile
};

struct KeptState {
  Incarnation incarnation;
  std::uint64_t daemons = 1;  // that have worked on this memory; the next one counts itself in
  ProducerId first_producer;  // of this incarnation
  std::vector<session::SessionRecord> sessions;
  std::vector<KeptPartition> partitions;
  bool has_transactors = true;  // what is noted of the sessions; a daemon before they were has left none

  const KeptPartition* find(TopicId topic, PartitionNumber number) const;
};

// Names under which descriptors are held.
std::string session_fd_name(SessionId session);
// Those of a partition: control, log and bell, in this order.
std::array<std::string, 3> region_fd_names(std::uint32_t handle);
inline constexpr const char* kTableName = "table";
inline constexpr const char* kWakeName = "wake";

// corrupt if an entry cannot be read; version: of a layout that this daemon does not know.
Result<KeptState> read_state(const keep::KeptTable& table);

// Each is an upsert. Errors: quota.
Status note_bus(keep::KeptTable& table, const KeptState& state);
Status note_session(keep::KeptTable& table, const session::Session& session);
void forget_session(keep::KeptTable& table, SessionId session);
Status note_partition(keep::KeptTable& table, const KeptPartition& partition);
bool is_noted(const keep::KeptTable& table, std::uint32_t handle);
Status note_audit(keep::KeptTable& table, std::uint32_t handle, const spill::Checkpoint& checkpoint);
void forget_partition(keep::KeptTable& table, std::uint32_t handle);

}  // namespace sluice::bus
