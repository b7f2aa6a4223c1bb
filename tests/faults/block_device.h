// A block device that fails when told to: a file behind a qemu-storage-daemon, exported as a file again (FUSE), and a
// loop device over that.
//
//   /dev/loopN ─ exported file ─ "top" ─┬─ "disk": the data file          (healthy)
//                                       ├─ "faulty": blkdebug ─ "disk"    (some or all requests answer EIO)
//                                       └─ "slow": throttle ─ "disk"
//   With a write log, "logged" (blklogwrites, see write_log.h) stands in the place of "disk".
//
// The loop device goes through the page cache of the exported file on purpose: with direct I/O its requests overlap,
// and the export of QEMU 7.2 then mixes up the bytes of writes. Reads may be answered from there; attaching again
// empties it.
//
// Owner: the test; one thread, its main one. Throws where the rig itself fails.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tests/crash/daemon_process.h"
#include "tests/faults/loop_device.h"
#include "tests/faults/qmp.h"

namespace sluice::test {

// Empty, or why there can be no such device here: the reason to skip.
std::string why_no_block_devices();

inline constexpr std::uint64_t kSectorSize = 512;
inline constexpr std::size_t kFaultySectorsMax = 4096;  // one rule each

struct Fault {
  enum class On : std::uint8_t { read, write, flush } on = On::write;
  // Requests that touch one of these answer EIO; empty: all. Flushes touch none.
  std::vector<std::uint64_t> sectors;
};

class BlockDevice {
 public:
  enum class Log : bool { no, yes };
  // `data`, a file in `folder` (made, all zero, if it is missing), holds the bytes; `folder` is the device's own.
  BlockDevice(std::filesystem::path folder, std::uint64_t size, Log log = Log::no);
  ~BlockDevice();
  BlockDevice(const BlockDevice&) = delete;
  BlockDevice& operator=(const BlockDevice&) = delete;

  // As /dev/loopN; from the start on.
  void attach();
  void detach();
  const std::string& path() const { return loop_->path(); }
  unsigned in_flight() const { return loop_->in_flight(); }

  // From here on, until heal(). One at a time.
  void inject(const Fault& fault);
  void throttle(std::uint64_t write_bytes_per_second);
  void heal();

  // What the page cache holds of the exported file goes: reads reach the device.
  void forget_cached() const;

  std::filesystem::path data() const { return folder_ / "data"; }
  std::filesystem::path log() const { return folder_ / "log"; }

 private:
  void add_node(nlohmann::json node);
  void put_below_top(const std::string& node);
  void use_up_flush_failures() const;

  const std::filesystem::path folder_;
  std::string base_;  // the healthy node
  Process process_;
  std::unique_ptr<Qmp> qmp_;
  std::unique_ptr<LoopDevice> loop_;
  bool faulty_ = false;
  bool slow_ = false;
};

// Where the blocks of a file lie on its device, in sectors: one for each `step` bytes of the file.
std::vector<std::uint64_t> sectors_of(const std::filesystem::path& file, std::uint64_t step);

}  // namespace sluice::test
