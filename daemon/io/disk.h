// The disk, behind one interface: io_uring on real files (uring_disk.h), plain writes where that is not allowed
// (pwrite_disk.h; open_disk.h chooses), or simulated (sim_disk.h). Or several of them as one (mirror_disk.h).
//
// Owner: the bus thread; every member is called on that thread alone. Data goes by asynchronous requests (submit_write,
// submit_sync, reap); files and directories are handled synchronously, since they are rare and short.
//
// Invariants
//  1. A completion is delivered exactly once for each accepted request, in any order.
//  2. A write's result is the number of bytes written. Less than asked for is a short write, and is not success.
//  3. A sync covers the writes whose completions were reaped before it was submitted, and no others.
//  4. The bytes given to submit_write must stay as they are until its completion.
//  5. Nothing here retries: a failed write or sync is answered once with its errno, and the caller decides.
//  6. Writes in flight on one file never overlap (which one would stand is not defined). SimDisk asserts it.
//  7. After a failed sync, a later sync that succeeds says nothing about the writes that the failed one covered.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "shm/base/fd.h"
#include "shm/base/result.h"
#include "shm/base/types.h"

namespace sluice::io {

// Requests that are accepted and whose completions were not reaped yet: submit_* answer false above it.
inline constexpr std::uint32_t kQueueDepthDefault = 256;
inline constexpr std::uint32_t kQueueDepthMax = 4096;
// Memory regions that can be registered at once; those above it are written unregistered.
inline constexpr std::uint32_t kRegistrationsMax = 4096;
// Of one write: what the kernel takes in one call, rounded down.
inline constexpr std::size_t kDiskWriteSizeMax = std::size_t{1} << 30;

// An open file of this Disk. Values are reused after close().
struct FileId : Strong<FileId, std::uint32_t> {
  using Strong::Strong;
};

enum class OpenMode : std::uint8_t {
  read,        // existing, read-only
  read_write,  // existing; O_DIRECT for submitted writes where the file system has it
  create,      // must not exist; read-write as above
};

struct Completion {
  std::uint64_t token = 0;
  // Bytes written, 0 for a sync, or −errno.
  std::int64_t result = 0;
};

// What this disk turned out to be, for `sluice doctor`.
struct DiskFeatures {
  std::string backend;  // "io_uring", "pwrite", "simulated"
  bool direct = false;  // O_DIRECT works in the data directory
  bool registered_buffers = false;
  std::string why_not;  // why the better way was not taken; empty if it was
};

class MirrorDisk;

class Disk {
 public:
  virtual ~Disk() = default;

  // ---- files: synchronous. Errors: not_found, exists, permission, would_block (no space), io. Paths are absolute.
  virtual Result<FileId> open(const std::string& path, OpenMode mode) = 0;
  // No request on it may be in flight.
  virtual void close(FileId file) = 0;
  virtual Result<std::uint64_t> size(FileId file) = 0;
  // Reserves blocks for [0, size) and makes the file at least that large (never smaller). would_block when the disk is
  // full; the size is then as before.
  virtual Status allocate(FileId file, std::uint64_t size) = 0;
  virtual Status truncate(FileId file, std::uint64_t size) = 0;
  // Reads exactly into.size() bytes at offset, or fewer at the end of the file; returns the number read.
  virtual Result<std::size_t> read(FileId file, std::uint64_t offset, std::span<std::byte> into) = 0;
  // Writes and syncs (the whole file) small things (headers, index files): not for the data path. Complete or an error.
  virtual Status write_synced(FileId file, std::uint64_t offset, std::span<const std::byte> bytes) = 0;
  // flock(LOCK_EX | LOCK_NB) on the file's description: in_use if a predecessor (or its writes in flight) holds it.
  virtual Status lock(FileId file) = 0;
  // Writes the block (kDirectIoAlignment bytes) at each of these offsets, then syncs the file once.
  virtual Status write_blocks_synced(FileId file, std::span<const std::uint64_t> offsets,
                                     std::span<const std::byte> block) {
    for (const std::uint64_t offset : offsets) SLUICE_TRY(write_synced(file, offset, block));
    return {};
  }
  // Whether no client has it (open_for_client), so that it may be written over. Where that is not known, or copies
  // would have to be told: false.
  virtual Result<bool> is_unread([[maybe_unused]] FileId file) { return false; }
  virtual Status rename(const std::string& from, const std::string& to) = 0;
  virtual Status unlink(const std::string& path) = 0;
  // Makes what is missing of the path. Durable on return: the parents of what it made are synced.
  virtual Status make_directories(const std::string& path) = 0;
  virtual Status remove_directory(const std::string& path) = 0;  // must be empty
  // fsync of the directory, after create, rename and unlink in it.
  virtual Status sync_directory(const std::string& path) = 0;
  // Names (not paths) of the entries, sorted.
  virtual Result<std::vector<std::string>> list(const std::string& path) = 0;
  // A fresh read-only descriptor (a description of its own) with an OFD read lock, to hand to a client.
  virtual Result<UniqueFd> open_for_client(const std::string& path) = 0;
  virtual Result<std::uint64_t> free_bytes(const std::string& path) = 0;

  // ---- data: asynchronous.
  // Memory that writes will come from often (slots, bounce blocks). Best effort: without registration writes still
  // work. Returns a registration to pass to unregister_memory; 0 if it was not registered.
  virtual std::uint32_t register_memory(std::span<std::byte> memory) = 0;
  virtual void unregister_memory(std::uint32_t registration) = 0;
  // offset, address and size are multiples of kDirectIoAlignment. False if the queue is full: reap, then call again.
  virtual bool submit_write(FileId file, std::uint64_t offset, std::span<const std::byte> bytes,
                            std::uint64_t token) = 0;
  // fdatasync. False if the queue is full.
  virtual bool submit_sync(FileId file, std::uint64_t token) = 0;
  // Hands what was submitted to the kernel and collects what has completed, without waiting. Returns how many.
  virtual std::size_t reap(std::span<Completion> into) = 0;
  // Readable while completions wait: for the bus thread's epoll, which only waits on it (reap() takes the signal down).
  // −1 in simulation: keep calling reap().
  virtual int completion_fd() const = 0;
  virtual DiskFeatures features() const = 0;
  // Not null: there are several copies behind this disk (mirror_disk.h).
  virtual MirrorDisk* mirrors() { return nullptr; }
};

}  // namespace sluice::io
