// One Disk that keeps several copies of the data directory, each on a disk of its own, behind one inner Disk.
//
// Owner: the bus thread. Callers name paths below root 0 (the data directory); the same path below each other root is
// its copy there. The inner disk, its ring and its completion descriptor are shared by all copies.
//
//   good ──a request or call of it fails while another copy's succeeds──▶ failed ──note on every good copy──▶ stale
//   stale ──begin_fill, fill_step (mirror_fill.h)──▶ the same as the good ones ──finish_fill: note on all──▶ good
//
// Invariants
//  1. What this disk calls done is done on every good copy. A caller never sees a success that a failed copy lacks
//     before every good copy's mirror.state calls that one stale, durably (settle()).
//  2. One copy stays good: where all of them fail, or the note cannot be made, the caller gets the error.
//  3. A lack of room or of descriptors is no failure of a copy: the caller gets it, and what the others had done of
//  that
//     call is undone. Of a full disk and a failed one, the failed one is marked.
//  4. A request ends when all copies that it was given to have answered, also those that are stale by then: the
//  caller's
//     bytes are in use until then. A write's result is the smallest of the good copies'.
//  5. Nothing that a copy which is being filled answers reaches a caller; it is good only once the good ones' states,
//     and then its own, say so.
//  6. Reads come from the first good copy, and from the next one where that fails. No copy is marked for a failed read.
// Lifetimes: it owns the inner disk, whose queue takes inner_queue_depth() requests.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "daemon/io/disk.h"
#include "daemon/io/mirror_fill.h"
#include "daemon/io/mirror_set.h"
#include "shm/base/fd.h"
#include "shm/base/result.h"

namespace sluice::io {

// What one copy is, for `status` and `doctor`.
struct MirrorInfo {
  std::string root;
  bool good = false;
  std::string reason;  // why it is not
  bool filling = false;
  std::uint64_t filled_bytes = 0;
  std::uint64_t failed_reads = 0;  // answered from another copy
};

class MirrorDisk final : public Disk {
 public:
  struct Options {
    std::uint32_t queue_depth = kQueueDepthDefault;  // requests of callers
    // A copy went stale; the note of it is durable on the others.
    std::function<void(const MirrorInfo&)> on_stale;
  };

  // What the inner disk's queue must take for a queue of that depth over that many copies.
  static std::uint32_t inner_queue_depth(std::uint32_t queue_depth, std::size_t copies);

  // `set` has a good copy.
  MirrorDisk(std::unique_ptr<Disk> inner, MirrorSet set, Options options);
  ~MirrorDisk() override;
  MirrorDisk(const MirrorDisk&) = delete;
  MirrorDisk& operator=(const MirrorDisk&) = delete;

  // ---- the copies
  std::size_t copy_count() const { return copies_.size(); }
  bool is_good(std::size_t copy) const { return copies_[copy].state == CopyState::good; }
  std::size_t good_count() const;
  const std::string& root(std::size_t copy) const { return copies_[copy].root; }
  // The path of a copy's file, of one below root 0.
  std::string path_at(std::size_t copy, const std::string& path) const;
  std::vector<MirrorInfo> info() const;
  // The disk under all copies, for those who work on one copy by itself (recovery, filling).
  Disk& inner() { return *inner_; }
  // What a copy could not do, and others could. Success: it is stale, and every good copy knows. It must be good, and
  // not the only one.
  Status mark_stale(std::size_t copy, const std::string& reason);

  // ---- filling a stale copy, one at a time
  // Nothing of its root may be open elsewhere. Errors: what its disk says of the first step.
  Status begin_fill(std::size_t copy);
  // The copy that is being filled; none: copy_count().
  std::size_t filling() const { return fill_ ? fill_->copy() : copies_.size(); }
  // A bounded step. True: it did something, and wants another one soon.
  bool fill_step() { return fill_ && fill_->step(); }
  // Why it cannot go on; empty: it can. end_fill() then.
  const std::string& fill_failure() const { return fill_->failure(); }
  // Just now the copy holds what the good ones hold.
  bool is_fill_complete() const { return fill_ && fill_->complete(); }
  // It is good from here on. Only while is_fill_complete().
  Status finish_fill();
  // It stays stale. False: a request of the filling is still at the disk, call again.
  bool end_fill(const std::string& reason);

  // ---- Disk
  Result<FileId> open(const std::string& path, OpenMode mode) override;
  void close(FileId file) override;
  Result<std::uint64_t> size(FileId file) override;
  Status allocate(FileId file, std::uint64_t size) override;
  Status truncate(FileId file, std::uint64_t size) override;
  Result<std::size_t> read(FileId file, std::uint64_t offset, std::span<std::byte> into) override;
  Status write_synced(FileId file, std::uint64_t offset, std::span<const std::byte> bytes) override;
  Status lock(FileId file) override;
  Status rename(const std::string& from, const std::string& to) override;
  Status unlink(const std::string& path) override;
  Status make_directories(const std::string& path) override;
  Status remove_directory(const std::string& path) override;
  Status sync_directory(const std::string& path) override;
  Result<std::vector<std::string>> list(const std::string& path) override;
  Result<UniqueFd> open_for_client(const std::string& path) override;
  Result<std::uint64_t> free_bytes(const std::string& path) override;

  std::uint32_t register_memory(std::span<std::byte> memory) override { return inner_->register_memory(memory); }
  void unregister_memory(std::uint32_t registration) override { inner_->unregister_memory(registration); }
  bool submit_write(FileId file, std::uint64_t offset, std::span<const std::byte> bytes, std::uint64_t token) override;
  bool submit_sync(FileId file, std::uint64_t token) override;
  std::size_t reap(std::span<Completion> into) override;
  int completion_fd() const override { return inner_->completion_fd(); }
  DiskFeatures features() const override { return inner_->features(); }
  MirrorDisk* mirrors() override { return this; }

 private:
  friend class MirrorFill;
  static constexpr std::uint64_t kFillToken = std::uint64_t{1} << 63;
  enum class CopyState : std::uint8_t {
    good,
    failed,  // not used any more; the good copies' states do not say so yet
    stale,
  };
  struct Copy {
    std::string root;
    std::uint64_t id = 0;
    CopyState state = CopyState::good;
    std::string reason;
    std::uint64_t failed_reads = 0;
  };
  template <typename T>
  using PerCopy = std::array<T, kMirrorCopiesMax>;
  struct OpenFile {
    std::string path;  // below root 0; follows renames
    OpenMode mode = OpenMode::read;
    PerCopy<FileId> ids;  // 0: not open there
    std::uint32_t in_flight = 0;
  };
  struct Request {
    std::uint64_t token = 0;
    FileId file;
    std::uint64_t offset = 0;
    std::uint64_t size = 0;         // 0: a sync
    std::uint32_t waiting_for = 0;  // copies; 0: not in use
    PerCopy<bool> given{};
    PerCopy<std::int64_t> results{};
  };
  struct Outcome;

  OpenFile& at(FileId file);
  FileId add_file(OpenFile file);
  template <typename Call>
  auto first_that_works(Call call) -> decltype(call(std::size_t{0}));
  template <typename Call, typename Undo>
  Status on_all(Call call, Undo undo, int as_good_as_done = 0);
  template <typename Call>
  Status on_all(Call call);
  Status conclude(const Outcome& outcome);
  void fail_copy(std::size_t copy, const std::string& reason);
  Status settle();
  Result<std::size_t> read_at(OpenFile& file, std::size_t copy, std::uint64_t offset, std::span<std::byte> into);

  bool full() const { return idle_requests_.empty(); }
  template <typename Submit>
  bool submit(FileId file, std::uint64_t offset, std::uint64_t size, std::uint64_t token, Submit call);
  bool take_answer(const Completion& answer, Completion& completion);
  std::int64_t result_of(const Request& request);

  // ---- for the filling
  std::vector<FileId> files_open_for_writing() const;
  FileId open_for_writing(const std::string& path) const;  // 0: it is not
  const std::string& path_of(FileId file) { return at(file).path; }
  // The copy's handle of a file: from here on writes and syncs go there too.
  void attach(FileId file, std::size_t copy, FileId id);
  // A write that overlaps the range is in flight.
  bool is_written(FileId file, std::uint64_t offset, std::uint64_t size) const;
  bool is_filling(std::size_t copy) const { return fill_ && fill_->copy() == copy && fill_->failure().empty(); }
  void create_on_filling(OpenFile& file);
  template <typename Call>
  void also_on_filling(Call call);
  template <typename Call>
  void also_on_filling(OpenFile& file, FileId id, bool resizes, Call call);
  void close_handles_of_lost_copies(OpenFile& file);

  const std::unique_ptr<Disk> inner_;
  const Options options_;
  std::vector<Copy> copies_;
  MirrorState state_;                  // as it stands on the good copies; `self` is without meaning
  bool unsettled_ = false;             // a copy is `failed`
  std::vector<OpenFile> files_;        // index = FileId − 1
  std::vector<std::uint32_t> unused_;  // indices of closed entries
  std::vector<Request> requests_;
  std::vector<std::uint32_t> idle_requests_;  // indices
  std::unique_ptr<MirrorFill> fill_;
};

}  // namespace sluice::io
