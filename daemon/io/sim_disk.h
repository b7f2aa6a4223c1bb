// A Disk in memory, for tests: deterministic from a seed, and as unpleasant as a real one may be.
//
// A SimDisk is what one process sees; the SimMedia under it is the machine. Tests that need no second process never
// mention the media. Owner: the simulation's one thread.
//
// The fault model. What this disk may do to you:
//  1. Completions come late (0 to delay_reaps_max calls of reap()) and in any order. Readers see a write when its
//     completion is reaped.
//  2. Power loss (power_loss(), or cut_power_after() at any operation): each write that no sync covered is kept,
//     dropped or torn by sectors of 512 bytes, independently of the others, whether or not it was completed. Changes of
//     size are kept or dropped. Of one sector there is the old content or the new, never a mixture.
//  3. Creates, renames and unlinks whose directories were not synced afterwards are kept or dropped, independently, but
//     none is kept without the older ones on the same names. A rename is never half done. Syncing a file does not make
//     its name durable.
//  4. A failed write leaves any of its sectors new. A short write leaves a prefix of sectors.
//  5. A failed sync covers nothing, and what it would have covered is covered by no later sync of other data either: it
//     is lost by the next power loss with the same chance as if it had never been synced.
//  6. A full disk: ENOSPC for what needs blocks above the capacity; nothing of that request is written.
//  7. A process that dies (the SimDisk is destroyed) leaves its writes in flight: they land later, and its locks on
//     their files hold until then. Simulated time goes on with each reap() and lock() of any disk on the media.
//  8. Rot: bits of a file at rest change (SimMedia::flip_bit). Reads fail when told to.
// What it never does: lose what a successful sync covered; write where nobody asked; show bytes of another file; mix
// old and new inside a sector.
//
// It checks its caller (SLUICE_ASSERT): alignment; that a write's bytes stay as they were until its completion; that
// writes in flight do not overlap each other, nor a write_synced or a truncate; no close with requests in flight; no
// use of a closed file.
//
// Lifetimes: file ids are never reused here. Those from before a power loss may still be closed (nothing happens);
// other calls with them answer io.
#pragma once

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <map>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "daemon/io/disk.h"
#include "daemon/io/sim_media.h"
#include "daemon/io/sim_random.h"

namespace sluice::io {

enum class SimFault : std::uint8_t {
  write,        // a submitted write fails
  short_write,  // a submitted write of more than one sector ends early; its error is not used
  sync,         // a submitted sync fails
  read,
  write_synced,  // fails; as a failed write followed by a failed sync
  create,        // open(create)
  allocate,
  sync_directory,
};
inline constexpr std::size_t kSimFaults = 8;
inline constexpr std::uint32_t kSimForever = std::numeric_limits<std::uint32_t>::max();

class SimDisk final : public Disk {
 public:
  struct Options {
    std::uint64_t seed = 1;
    std::uint32_t queue_depth = kQueueDepthDefault;  // requests, 1 to kQueueDepthMax
    std::uint32_t delay_reaps_max = 3;
  };

  explicit SimDisk(Options options);
  // Another process on the same machine, or the same one started again.
  SimDisk(Options options, std::shared_ptr<SimMedia> media);
  // As kill -9 of the process: see 7 above.
  ~SimDisk() override;
  SimDisk(const SimDisk&) = delete;
  SimDisk& operator=(const SimDisk&) = delete;

  // ---- controls for tests
  const std::shared_ptr<SimMedia>& media() const { return media_; }
  // The next `times` operations of that kind, on paths that begin with `below`, fail with `error`.
  void inject(SimFault fault, std::uint32_t times = kSimForever, int error = EIO, std::string below = {});
  // One of several disks fails as a whole: from now on every call and request on paths that begin with `below` ends
  // with `error`, and changes nothing but what was under way. Empty: no disk does. heal() leaves it.
  void break_below(std::string below, int error = EIO);
  void heal();
  void set_delay_reaps_max(std::uint32_t reaps) { delay_reaps_max_ = reaps; }
  // Power goes during the n-th changing operation from now (call, submission or completion; n from 1), which then may
  // or may not have had its effect. From there on all calls answer io and all requests −EIO, until power_loss().
  void cut_power_after(std::uint64_t operations);
  bool power_is_off();
  // For all disks on this media. Afterwards this one can be used as by a process that was just started.
  void power_loss();
  std::size_t in_flight() const { return requests_.size(); }

  // ---- Disk
  Result<FileId> open(const std::string& path, OpenMode mode) override;
  void close(FileId file) override;
  Result<std::uint64_t> size(FileId file) override;
  Status allocate(FileId file, std::uint64_t size) override;
  Status truncate(FileId file, std::uint64_t size) override;
  Result<std::size_t> read(FileId file, std::uint64_t offset, std::span<std::byte> into) override;
  Status write_synced(FileId file, std::uint64_t offset, std::span<const std::byte> bytes) override;
  Status lock(FileId file) override;
  Result<bool> is_unread(FileId) override { return true; }
  Status rename(const std::string& from, const std::string& to) override;
  Status unlink(const std::string& path) override;
  Status make_directories(const std::string& path) override;
  Status remove_directory(const std::string& path) override;
  Status sync_directory(const std::string& path) override;
  Result<std::vector<std::string>> list(const std::string& path) override;
  Result<UniqueFd> open_for_client(const std::string& path) override;
  Result<std::uint64_t> free_bytes(const std::string& path) override;

  std::uint32_t register_memory(std::span<std::byte> memory) override;
  void unregister_memory(std::uint32_t registration) override;
  bool submit_write(FileId file, std::uint64_t offset, std::span<const std::byte> bytes, std::uint64_t token) override;
  bool submit_sync(FileId file, std::uint64_t token) override;
  std::size_t reap(std::span<Completion> into) override;
  int completion_fd() const override { return -1; }
  DiskFeatures features() const override;

 private:
  struct OpenFile {
    SimNodeId node;
    SimHandleId handle;
    OpenMode mode = OpenMode::read;
    std::uint32_t in_flight = 0;
    std::string path;
  };
  struct Request {
    enum class Kind : std::uint8_t { write, sync, dead };  // dead: submitted after the power went
    Kind kind = Kind::dead;
    FileId file;
    std::uint64_t token = 0;
    std::uint64_t due_reap = 0;
    int error = 0;  // the fault that it was given
    bool is_short = false;
    SimFile::ChangeNumber change = 0;            // write
    std::span<const std::byte> bytes;            // write: the caller's memory
    std::vector<SimFile::ChangeNumber> covered;  // sync
  };
  struct Injected {
    std::uint32_t times = 0;
    int error = 0;
    std::string below;
  };

  // Drops what a power loss took away. Called first by each member.
  void notice_power_loss();
  // nullptr: opened before a power loss.
  OpenFile* find(FileId file);
  OpenFile& writable(FileId file);
  bool power_goes_now();
  int take_fault(SimFault fault, const std::string& path);
  bool is_broken(const std::string& path) const { return broken_error_ != 0 && path.starts_with(broken_below_); }
  Status check_works(const std::string& doing, const std::string& path) const;
  template <typename Call>
  Status change(const std::string& doing, const std::string& path, Call call);

  Request& add_request(FileId file, std::uint64_t token);
  std::size_t pick_due();
  Completion finish(Request request);
  std::int64_t finish_write(const Request& request, OpenFile& file);
  std::int64_t finish_sync(const Request& request, OpenFile& file);

  const Options options_;
  std::shared_ptr<SimMedia> media_;
  SimRandom random_;
  std::uint32_t delay_reaps_max_;
  std::array<Injected, kSimFaults> faults_{};
  std::string broken_below_;
  int broken_error_ = 0;  // 0: no disk is broken

  std::uint64_t life_ = 0;  // of the media, when the members below were filled
  bool off_ = false;
  std::uint64_t cut_after_ = 0;  // operations left; 0: never
  std::uint32_t next_file_ = 1;
  std::uint32_t first_file_of_life_ = 1;
  std::map<FileId, OpenFile> files_;
  std::vector<Request> requests_;
  std::uint64_t reaps_ = 0;
  std::uint32_t next_registration_ = 1;
  std::set<std::uint32_t> registrations_;
};

}  // namespace sluice::io
