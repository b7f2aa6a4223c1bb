// The synchronous half of a Disk on real files: open files, directories, locks. UringDisk and PwriteDisk add the
// asynchronous half.
//
// Owner: the bus thread, as all of Disk.
//
// Each file that is opened for writing has two descriptions: `direct` (O_DIRECT) takes the submitted writes and syncs,
// `buffered` serves read(), write_synced(), allocate() and truncate(). They stay coherent because
//   - a direct write flushes and then drops the page cache of its range, before and after, so a later buffered read
//     fetches what it wrote, and
//   - write_synced() flushes what it wrote before it returns, so no dirty page is left to land on a direct write.
// Not coherent is only a buffered read of a range that a direct write is under way to; it may see old bytes or new.
//
// Invariants
//  1. The lock is taken on the description that submitted writes go through. The kernel holds that description until
//     its last write has ended, also after the process was killed, so a successor's lock() fails until then.
//  2. Where O_DIRECT is refused, or needs a coarser alignment than kDirectIoAlignment, writes go through `buffered`.
//  3. No descriptor is inherited by a child.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "daemon/io/closer.h"
#include "daemon/io/disk.h"
#include "shm/base/fd.h"
#include "shm/base/result.h"

namespace sluice::io {

class PosixDisk : public Disk {
 public:
  Result<FileId> open(const std::string& path, OpenMode mode) override;
  void close(FileId file) override;
  Result<std::uint64_t> size(FileId file) override;
  Status allocate(FileId file, std::uint64_t size) override;
  Status truncate(FileId file, std::uint64_t size) override;
  Result<std::size_t> read(FileId file, std::uint64_t offset, std::span<std::byte> into) override;
  Status write_synced(FileId file, std::uint64_t offset, std::span<const std::byte> bytes) override;
  Status lock(FileId file) override;
  Status write_blocks_synced(FileId file, std::span<const std::uint64_t> offsets,
                             std::span<const std::byte> block) override;
  Result<bool> is_unread(FileId file) override;
  Status rename(const std::string& from, const std::string& to) override;
  Status unlink(const std::string& path) override;
  Status make_directories(const std::string& path) override;
  Status remove_directory(const std::string& path) override;
  Status sync_directory(const std::string& path) override;
  Result<std::vector<std::string>> list(const std::string& path) override;
  Result<UniqueFd> open_for_client(const std::string& path) override;
  Result<std::uint64_t> free_bytes(const std::string& path) override;

 protected:
  struct OpenFile {
    UniqueFd buffered;  // open as long as the entry is in use
    UniqueFd direct;    // empty where O_DIRECT is not to be had, and in OpenMode::read
    OpenMode mode = OpenMode::read;
    std::uint32_t in_flight = 0;  // requests accepted and not reaped
    std::string path;             // as opened, for messages: a rename does not change it

    int write_fd() const { return direct ? direct.get() : buffered.get(); }
  };

  // `use_direct` false: every write goes through the page cache.
  explicit PosixDisk(bool use_direct) : use_direct_(use_direct) {}

  static Status check_queue_depth(std::uint32_t depth);
  // Asserts what submit_write asks of its caller.
  void check_write(FileId file, std::uint64_t offset, std::span<const std::byte> bytes);
  OpenFile& at(FileId file);
  // Whether every file opened for writing so far (at least one) has a direct description.
  bool direct() const { return direct_seen_ && direct_why_not_.empty(); }
  const std::string& direct_why_not() const { return direct_why_not_; }

 private:
  Status open_direct(OpenFile& file);
  void give_up_direct(const OpenFile& file, const std::string& why);

  const bool use_direct_;
  bool direct_seen_ = false;
  std::string direct_why_not_;         // of the first file that was refused
  std::vector<OpenFile> files_;        // index = FileId − 1
  std::vector<std::uint32_t> unused_;  // indices of closed entries
  Closer closer_;                      // of removed files
};

}  // namespace sluice::io
