// What a copy of the data directory knows about the others: <root>/mirror.state. Bytes: docs/FORMAT.md, Mirror state.
//
// Owner: MirrorDisk and open_mirror_set(), on the bus thread.
//
// Two slots of one block each, written in turn, so that a crash in the middle of a write leaves the one before, and a
// full disk cannot keep a copy from being marked stale: no write needs a new block.
//
// Invariants
//  1. The slot with the highest generation whose checksum holds is what the copy knows.
//  2. A copy that some state calls stale is not served by a start that sees that state.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "daemon/io/disk.h"
#include "shm/base/limits.h"
#include "shm/base/result.h"

namespace sluice::io {

inline constexpr std::size_t kMirrorSlotSize = 4096;  // bytes
inline constexpr const char* kMirrorStateName = "mirror.state";

struct MirrorMember {
  std::uint64_t id = 0;  // random, given when it joined; never 0
  bool good = false;     // false: stale
  std::string path;      // where it was last seen, for messages
  bool operator==(const MirrorMember&) const = default;
};

struct MirrorState {
  std::uint64_t set = 0;  // random, made once; never 0
  std::uint64_t generation = 0;
  std::uint64_t self = 0;  // the member that this root is
  std::vector<MirrorMember> members;

  const MirrorMember* find(std::uint64_t id) const;
  bool is_good(std::uint64_t id) const;
  // Whether both say the same of the members; `self` is not compared.
  bool same_members(const MirrorState& other) const;
};

// Nothing if there is none. Errors: corrupt (there is one, and no slot of it holds), version, io.
Result<std::optional<MirrorState>> read_mirror_state(Disk& disk, const std::string& root);
// Makes the file, in place of what is there.
Status create_mirror_state(Disk& disk, const std::string& root, const MirrorState& state);
// Writes the slot of that generation into a file that is there. Durable on return.
Status write_mirror_state(Disk& disk, const std::string& root, const MirrorState& state);

}  // namespace sluice::io
