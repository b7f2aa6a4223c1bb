// What the tests of the disks share: a directory on some disk to work in, aligned memory, and waiting for completions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "daemon/io/disk.h"
#include "daemon/io/sim_disk.h"
#include "daemon/io/uring_disk.h"
#include "shm/base/limits.h"

namespace sluice::io {

// A multiple of kDirectIoAlignment, aligned to it, filled with bytes that follow from the seed.
class AlignedBuffer {
 public:
  explicit AlignedBuffer(std::size_t size, std::uint64_t seed = 0);
  std::span<std::byte> bytes() { return {memory_.get(), size_}; }
  std::span<const std::byte> bytes() const { return {memory_.get(), size_}; }
  std::vector<std::byte> copy() const { return {memory_.get(), memory_.get() + size_}; }

 private:
  struct Free {
    void operator()(std::byte* memory) const;
  };
  std::unique_ptr<std::byte, Free> memory_;
  std::size_t size_;
};

// A disk and a directory on it that is empty at first and is gone with the rig.
class DiskRig {
 public:
  virtual ~DiskRig() = default;
  virtual Disk& disk() = 0;
  // Another process' view of the same directory.
  virtual std::unique_ptr<Disk> another() = 0;
  virtual std::string directory() const = 0;
  // Makes room for about this much. False if this rig cannot.
  virtual bool limit_room(std::uint64_t bytes) = 0;
  // Empty if the rig works on this machine; else what is missing.
  virtual std::string why_not() const { return {}; }
};

// Makes another disk of the kind that is tested.
using MakeDisk = std::function<Result<std::unique_ptr<Disk>>()>;
MakeDisk uring(UringDisk::Options options);

// In a new directory below `parent`, which is a mount of its own with `tmpfs_size` bytes if that is not 0.
std::unique_ptr<DiskRig> make_posix_rig(const std::string& parent, MakeDisk make, std::uint64_t tmpfs_size = 0);
std::unique_ptr<DiskRig> make_sim_rig(SimDisk::Options options);
// Two copies behind one disk, one in each rig's directory, or both in the first one's if there is no second. The disk
// is of the first rig's kind.
std::unique_ptr<DiskRig> make_mirror_rig(std::unique_ptr<DiskRig> first, std::unique_ptr<DiskRig> second);

inline constexpr std::uint32_t kRigQueueDepth = 16;

// Reaps until `count` completions have come; sleeps on completion_fd() between. Fewer if nothing happens for 20 s.
std::vector<Completion> wait_for(Disk& disk, std::size_t count);
// One request from submission to completion; its result.
std::int64_t write_and_wait(Disk& disk, FileId file, std::uint64_t offset, std::span<const std::byte> bytes);
std::int64_t sync_and_wait(Disk& disk, FileId file);
// Runs it in a child, and returns what that wrote to stderr if SLUICE_ASSERT ended it; "" if it went well. (gtest's
// death tests complain of the kernel's worker threads, or run the test's set-up again and leave its directory behind.)
std::string assertion_of(const std::function<void()>& defect);
// All of a file, as read through the disk.
std::vector<std::byte> contents(Disk& disk, FileId file);

}  // namespace sluice::io
