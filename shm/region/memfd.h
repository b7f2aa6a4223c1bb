// Sealed memfds: the files behind every shared-memory region.
//
// Owner: the daemon makes them; clients receive descriptors and check them before use. Any thread.
//
// Invariants
//  1. A memfd made here can neither shrink nor grow nor lose its seals, so that no peer can take pages from under a
//     mapping (SIGBUS). It is sparse: memory is backed a step at a time by allocate().
//  2. Its mode is 0600 under the daemon's uid: a descriptor opened O_RDONLY cannot be reopened for writing by another
//     uid, nor mapped or mprotected writable by anybody.
//  3. Each descriptor handed out is a description of its own (reopened), so that its access mode and its locks are its
//     holder's alone.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "shm/base/fd.h"
#include "shm/base/result.h"

namespace sluice::region {

// A sealed, sparse memfd of exactly `size` bytes, read-write. `name` is for diagnostics alone (/proc/PID/maps).
// no_memory (descriptors, memory), invalid (size 0), or what the system says.
Result<UniqueFd> create_memfd(const std::string& name, std::uint64_t size);

// A new description of the same file. Needs /proc. `what` names the region in errors.
Result<UniqueFd> reopen_read_only(int fd, std::string_view what);
Result<UniqueFd> reopen_read_write(int fd, std::string_view what);
// Another descriptor of the same description (dup, close-on-exec).
Result<UniqueFd> duplicate(int fd, std::string_view what);

// The size of the file behind a descriptor, bytes.
Result<std::uint64_t> file_size(int fd, std::string_view what);

// Is this received descriptor a memfd that its maker cannot pull from under us? Checks the seals against shrinking and
// growing, and the size (0: any). corrupt if not.
Status check_memfd(int fd, std::uint64_t size, std::string_view what);

// Backs [offset, offset + size) with memory. no_memory if there is none.
Status allocate(int fd, std::uint64_t offset, std::uint64_t size, std::string_view what);
// Gives the memory of [offset, offset + size) back: it reads as zero afterwards. Page-aligned ranges only.
Status punch_hole(int fd, std::uint64_t offset, std::uint64_t size, std::string_view what);

}  // namespace sluice::region
