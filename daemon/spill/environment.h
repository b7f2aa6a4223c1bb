// What a partition needs from around it, as interfaces: real in the daemon, simulated in tests/sim.
// Thread safety: all of it is used on the bus thread alone.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "daemon/core/half_table.h"
#include "daemon/io/disk.h"
#include "shm/base/clock.h"
#include "shm/base/types.h"
#include "shm/ring/slot_manager.h"

namespace sluice::spill {

// Who is attached: the owners of claims, and the readers that volatile topics wait for.
class Attached {
 public:
  virtual ~Attached() = default;
  // True while the producer's session has not been proven dead (and its claims may still be committed).
  virtual bool is_producer_alive(ProducerId producer) const = 0;
  // The lowest cursor of the readers of this partition; nothing if there is none.
  virtual std::optional<Position> reader_cursor_min(std::uint32_t handle) const = 0;
};

// Who remembers, beyond this process, how far a partition was counted: of volatile ones no disk tells, of durable ones
// it saves the next daemon to count everything since the last snapshot in the store again.
class AuditNotes {
 public:
  virtual ~AuditNotes() = default;
  virtual void note(std::uint32_t handle, const struct Checkpoint& checkpoint) = 0;
};

// Who decides about halves: told of each once the scan has passed it.
class HalfListener {
 public:
  virtual ~HalfListener() = default;
  virtual void on_half(TopicId topic, PartitionNumber partition, const core::Half& half) = 0;
};

struct Environment {
  io::Disk* disk = nullptr;  // null for volatile topics only
  const ring::PinSource* pins = nullptr;
  ring::SlotMemory* backing = nullptr;
  const Attached* attached = nullptr;
  AuditNotes* notes = nullptr;                           // null: nobody
  HalfListener* halves = nullptr;                        // null: nobody
  std::function<std::uint64_t()> wall_ns = realtime_ns;  // what messages are due by: ns since the epoch
};

// What it is: constant for the partition's life in this daemon.
struct PartitionIdentity {
  std::string name;  // "topic/partition", for messages
  TopicId topic;
  PartitionNumber partition = 0;
  Incarnation incarnation;
};

}  // namespace sluice::spill
