// The machine under a simulated disk: what its files and directories hold, and what a power cut leaves of them.
// It outlives the SimDisks (processes) that use it. The fault model is in sim_disk.h.
//
// Owner: the simulation's one thread. SimDisks hold it by shared_ptr.
//
// Invariants
//  1. An entry operation (create, rename, unlink, remove) is durable once every directory that it touched was synced
//     after it. None becomes durable, or is kept by a power loss, without the older ones that it builds on.
//  2. A rename is kept whole or not at all.
//  3. A file's bytes live while a directory, now or durably, or an operation in between, or an open handle, names it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/io/sim_file.h"
#include "daemon/io/sim_random.h"
#include "shm/base/result.h"
#include "shm/base/types.h"

namespace sluice::io {

// A file or directory of the simulated machine. Never reused. 0 is none.
struct SimNodeId : Strong<SimNodeId, std::uint64_t> {
  using Strong::Strong;
};
// An open file description; holder of locks. Never reused. 0 is nobody.
struct SimHandleId : Strong<SimHandleId, std::uint64_t> {
  using Strong::Strong;
};

class SimMedia {
 public:
  explicit SimMedia(std::uint64_t seed);

  // ---- controls for tests
  // Power goes and comes back: what was not durable is kept, dropped or torn; handles and locks of all disks are gone.
  void power_loss();
  // Bytes, in whole blocks; what is in use stays.
  void set_capacity(std::uint64_t bytes) { capacity_blocks_ = bytes / kSimBlockSize; }
  // Rot: changes one bit of a file at rest.
  Status flip_bit(const std::string& path, std::uint64_t offset, unsigned bit);
  // A file's stable bytes and what a reader sees now; not_found if the path names no file.
  Result<std::vector<std::byte>> durable_bytes(const std::string& path) const;
  Result<std::vector<std::byte>> current_bytes(const std::string& path) const;
  // All that is durable, names and bytes, as one number: for tests of determinism.
  std::uint32_t durable_checksum() const;
  std::size_t orphaned_writes() const { return orphans_.size(); }

  // ---- for SimDisk
  // Counts power losses: a disk that knows an older one has lost its handles.
  std::uint64_t lives() const { return lives_; }
  // One step of simulated time: writes of dead processes land.
  void tick();

  Result<SimNodeId> create_file(const std::string& path);
  Result<SimNodeId> find_file(const std::string& path) const;
  Status rename(const std::string& from, const std::string& to);
  Status unlink(const std::string& path);
  Status make_directories(const std::string& path);
  Status remove_directory(const std::string& path);
  Status sync_directory(const std::string& path);
  Result<std::vector<std::string>> list(const std::string& path) const;

  SimFile& file(SimNodeId node);
  SimHandleId open_handle(SimNodeId node);
  void close_handle(SimHandleId handle);
  // Its process died: writes in flight go on without it, and hold its lock until they have ended.
  void orphan_handle(SimHandleId handle, std::span<const SimFile::ChangeNumber> in_flight);
  // False: another handle holds it.
  bool lock(SimHandleId handle);
  std::uint64_t free_blocks() const;
  // False: the disk has no room for it.
  bool reserve(SimNodeId node, std::uint64_t size);
  bool has_room_for_write(SimNodeId node, std::uint64_t offset, std::uint64_t size) const;

 private:
  using Names = std::map<std::string, SimNodeId, std::less<>>;
  struct Node {
    bool is_directory = false;
    Names current;  // directory
    Names durable;  // directory
    SimFile file;
    SimHandleId lock_holder;
    std::uint32_t handles = 0;
  };
  // Name → node from now on; no node: the name goes.
  struct EntryChange {
    SimNodeId directory;
    std::string name;
    SimNodeId after;
  };
  struct EntryOperation {
    std::vector<EntryChange> changes;
    std::set<SimNodeId> unsynced;  // directories still to be synced
    SimNodeId removed_directory;
  };
  struct Place {
    SimNodeId directory;
    std::string name;
  };
  struct Orphan {
    SimHandleId handle;
    SimNodeId node;
    SimFile::ChangeNumber change = 0;
    std::uint64_t ticks_left = 0;
  };

  Node& node(SimNodeId id);
  const Node& node(SimNodeId id) const;
  std::optional<SimNodeId> lookup(const std::string& path) const;
  Result<SimNodeId> find_directory(const std::string& path) const;
  Result<Place> place_of(const std::string& path) const;
  Result<std::vector<std::byte>> bytes_of(const std::string& path, bool durable) const;
  SimNodeId add_node(bool is_directory);
  void perform(EntryOperation operation);
  static bool builds_on(const EntryOperation& younger, const EntryOperation& older);
  void commit(std::size_t index);
  void make_entry_durable(const EntryOperation& operation);
  void settle_entries_after_power_loss();
  void collect_garbage();
  void mark_reachable(SimNodeId from, bool durable, std::set<SimNodeId>& reached) const;
  void checksum_directory(SimNodeId directory, std::uint32_t& checksum) const;

  SimRandom random_;
  std::uint64_t capacity_blocks_ = std::numeric_limits<std::uint32_t>::max();
  std::uint64_t lives_ = 1;
  std::uint64_t next_id_ = 1;
  std::map<SimNodeId, Node> nodes_;
  std::map<SimHandleId, SimNodeId> handles_;
  std::vector<EntryOperation> operations_;  // not durable yet, oldest first
  std::vector<Orphan> orphans_;
  SimNodeId root_;
};

}  // namespace sluice::io
