// Fills a stale or new copy from the good ones while the bus runs, a bounded step at a time.
//
// Owner: MirrorDisk, on the bus thread. It walks over the directory tree and makes each file of the copy anew. What the
// copy held before is not believed, though it may read back right: after a failed sync nobody knows what of it is on
// the device, and writes of a daemon that died may still land in it. They land in files that have no name any more.
//
//   not open for writing ── copied chunk by chunk, small ones at once ─▶ synced
//   open for writing ── attach: from here on every write and sync goes there too ─▶ copied ─▶ synced ─▶ in sync
//   made meanwhile ── made on the copy too, in sync from the start
//
// Names change on the copy at once, as far as they are there; a path that changed otherwise is touched(): looked at
// again.
//
// Invariants
//  1. The copy is stale until everything is the same (complete()); then MirrorDisk calls it good.
//  2. A chunk is not read while a write that overlaps it is in flight. A write that is submitted while a chunk that it
//     overlaps is on its way to the copy does not go there too, and all from its begin on is copied again: so writes on
//     one file never overlap, and no older bytes land on newer ones.
//  3. A file is in sync only after a sync that was submitted when all of it was copied; what was written since has been
//     given to the copy, and so was each later sync.
//  4. No error here is one of the callers': filling ends (failure()), and the copy stays stale.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "daemon/io/disk.h"
#include "shm/base/result.h"

namespace sluice::io {

inline constexpr std::uint64_t kFillChunkSize = 512 * 1024;
inline constexpr std::uint64_t kFillSmallFileSize = 256 * 1024;  // replaced as a whole
inline constexpr std::uint32_t kFillRequestsMax = 1;             // of its own, at the inner disk

class MirrorFill {
 public:
  MirrorFill(MirrorDisk& disk, std::size_t copy);
  ~MirrorFill();
  MirrorFill(const MirrorFill&) = delete;
  MirrorFill& operator=(const MirrorFill&) = delete;

  std::size_t copy() const { return copy_; }
  // Goes on a little. True: it did something, and wants to be called again soon.
  bool step();
  bool complete() const;
  const std::string& failure() const { return failure_; }
  void fail(const std::string& reason);
  // A request of its own is at the inner disk: it must not go then.
  bool is_busy() const { return in_flight_; }
  void on_answer(std::int64_t result);
  std::uint64_t filled_bytes() const { return filled_bytes_; }
  // Of files that no good copy could read: the copy has not them either.
  std::uint64_t unreadable_bytes() const { return unreadable_bytes_; }

  // ---- what MirrorDisk tells. Paths below root 0.
  void touched(const std::string& path);
  void made(FileId file) { in_sync_.insert(file); }
  // False: this write must not go to the copy.
  bool on_write(FileId file, std::uint64_t offset, std::uint64_t size);
  bool is_in_sync(FileId file) const { return in_sync_.contains(file); }
  bool is_copying(FileId file) const { return current_ && current_->live == file; }
  // The file changes its length, or closes. False: its handle on the copy is in use, and is taken over.
  bool lets_go_of(FileId file);

 private:
  struct Current {
    std::string path;
    FileId live;    // of MirrorDisk, if it is open for writing there
    FileId source;  // of MirrorDisk, to read
    FileId target;  // of the inner disk; the live file's own, if there is one
    bool owns_target = true;
    std::uint64_t size = 0;
    std::uint64_t at = 0;
    std::uint64_t untouched_from = 0;       // at and above it nothing of ours was written: zeros, but for live writes
    std::uint64_t writing = 0;              // bytes of the chunk at `at` that are in flight; 0: a sync is
    std::uint64_t again_from = UINT64_MAX;  // a live write that the copy was not given begins here
    std::uint32_t attempts = 0;
  };
  struct Freed {
    void operator()(std::byte* bytes) const;
  };

  Disk& inner() const;
  bool next_path();
  Status take_up(const std::string& path, bool may_be_directory);
  Status list_directory(const std::string& path);
  Status remove_tree(const std::string& at_copy);
  Status copy_small(const std::string& path, FileId source, std::uint64_t size);
  Status begin_file(const std::string& path, FileId source, std::uint64_t size, FileId live);
  Result<FileId> make_target(const std::string& path, std::uint64_t size);
  Status go_on();
  Status copy_chunk();
  void end_current();
  std::span<std::byte> chunk(std::size_t size) { return {chunk_.get(), size}; }

  MirrorDisk& disk_;
  const std::size_t copy_;
  std::vector<std::string> directories_;  // still to be listed
  std::deque<std::string> files_;         // still to be looked at
  std::set<std::string> touched_;
  std::set<FileId> in_sync_;  // of MirrorDisk
  std::optional<Current> current_;
  bool in_flight_ = false;
  bool orphaned_ = false;  // current_ ends with its request: its file went
  std::unique_ptr<std::byte, Freed> chunk_;
  std::uint64_t filled_bytes_ = 0;
  std::uint64_t unreadable_bytes_ = 0;
  std::string failure_;
};

}  // namespace sluice::io
