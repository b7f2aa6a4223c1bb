#include "daemon/main/storage.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <random>
#include <utility>

#include <spdlog/spdlog.h>

#include "daemon/io/mirror_set.h"
#include "daemon/io/open_disk.h"

namespace sluice::daemon {
namespace {

constexpr std::uint32_t kTopicQueueDepth = 64;  // requests of one topic with mirrors of its own

std::string without_trailing_slash(std::string path) {
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  return path;
}

// The store's view of the copies.
class DiskCopies final : public store::Copies {
 public:
  explicit DiskCopies(io::MirrorDisk& disk) : disk_(disk) {}
  std::size_t count() const override { return disk_.copy_count(); }
  bool is_good(std::size_t copy) const override { return disk_.is_good(copy); }
  Status mark_stale(std::size_t copy, const std::string& reason) override { return disk_.mark_stale(copy, reason); }
  std::string store_path(std::size_t copy) const override { return disk_.root(copy) + "/store.db"; }

 private:
  io::MirrorDisk& disk_;
};

std::uint64_t random_id() {
  std::random_device device;
  return (std::uint64_t{device()} << 32) | device();
}

// The file system that a directory is on, or would be made on; nothing if it cannot be told.
std::optional<dev_t> device_of(const std::string& path) {
  struct stat about {};
  for (std::filesystem::path at = path;; at = at.parent_path()) {
    if (::stat(at.c_str(), &about) == 0) return about.st_dev;
    if (errno != ENOENT || at == at.parent_path()) return std::nullopt;
  }
}

// Whether `root` is on the same file system as the system's root directory or another copy.
bool shares_device(const std::string& root, const std::vector<std::string>& roots) {
  const auto own = device_of(root);
  if (!own) return false;
  return own == device_of("/") || std::any_of(roots.begin(), roots.end(), [&](const std::string& other) {
           return other != root && own == device_of(other);
         });
}

// A copy on the same file system shares the fate of the other one.
void warn_of_one_device(const std::vector<std::string>& roots) {
  for (std::size_t i = 0; i < roots.size(); ++i)
    for (std::size_t j = 0; j < i; ++j)
      if (device_of(roots[i]) && device_of(roots[i]) == device_of(roots[j]))
        spdlog::warn("a mirror lies on the same file system as another copy, and fails with it mirror={} other={}",
                     roots[i], roots[j]);
}

using Locks = std::map<std::string, UniqueFd>;

// Those that were on a file system of their own must be: else their disk is not mounted, and the copy would grow in the
// directory below.
std::function<Status(const std::string&)> mount_check(const std::vector<std::string>& roots,
                                                      const std::shared_ptr<Locks>& locks) {
  std::vector<std::string> sharing;
  for (const std::string& root : roots)
    if (shares_device(root, roots)) sharing.push_back(root);
  return [roots, sharing, locks](const std::string& root) -> Status {
    const bool shared = std::find(sharing.begin(), sharing.end(), root) != sharing.end();
    if (!shared && shares_device(root, roots))
      return fail(ErrorCode::conflict,
                  "filling " + root + ": it was on a file system of its own, and is not any more: mount its disk");
    // It may be another disk by now.
    locks->erase(root);
    SLUICE_ASSIGN((*locks)[root], bus::DataDirectory::lock(root));
    return {};
  };
}

// A root whose disk is dead cannot be locked; the others' locks keep a second daemon out.
Result<std::shared_ptr<Locks>> lock_all(const std::vector<std::string>& roots) {
  auto locks = std::make_shared<Locks>();
  std::optional<Error> first;
  for (const std::string& root : roots) {
    Result<UniqueFd> lock = bus::DataDirectory::lock(root);
    if (lock) {
      (*locks)[root] = std::move(*lock);
      continue;
    }
    if (lock.error().code() == ErrorCode::in_use || roots.size() == 1) return fail(std::move(lock).error());
    spdlog::error("copy not locked root={} reason={}", root, lock.error().message());
    if (!first) first = std::move(lock).error();
  }
  if (locks->empty()) return fail(std::move(*first));
  return locks;
}

Result<bus::CopySet> open_copies(const std::vector<std::string>& roots, const std::vector<std::string>& accept_missing,
                                 std::uint32_t queue_depth, std::unique_ptr<io::Disk> inner,
                                 std::shared_ptr<Locks> locks) {
  std::vector<std::string> accepted;
  for (const std::string& path : accept_missing) accepted.push_back(without_trailing_slash(path));
  SLUICE_ASSIGN(io::MirrorSet set, io::open_mirror_set(*inner, {roots, accepted, random_id}));
  for (const io::MirrorCopy& copy : set.copies) {
    if (copy.good) SLUICE_TRY(bus::DataDirectory::prepare(copy.root));
    if (!copy.good)
      spdlog::error("a copy is stale, messages are durable without it root={} reason={}", copy.root, copy.reason);
  }
  warn_of_one_device(roots);
  const auto on_stale = [locks](const io::MirrorInfo& copy) {
    locks->erase(copy.root);
    spdlog::critical("a copy has failed and is stale, messages are durable without it root={} reason={}", copy.root,
                     copy.reason);
  };
  auto disk = std::make_unique<io::MirrorDisk>(std::move(inner), std::move(set),
                                               io::MirrorDisk::Options{queue_depth, on_stale});
  auto may_fill = mount_check(roots, locks);
  return bus::CopySet{std::move(locks), std::move(disk), std::move(may_fill)};
}

Result<std::unique_ptr<io::Disk>> open_inner(std::uint32_t queue_depth, std::size_t copies) {
  return io::open_disk({.queue_depth = io::MirrorDisk::inner_queue_depth(queue_depth, copies)});
}

}  // namespace

Status open_storage(const Config& config, Storage& storage) {
  std::vector<std::string> roots = {without_trailing_slash(config.data_dir)};
  for (const std::string& mirror : config.mirrors) roots.push_back(without_trailing_slash(mirror));
  SLUICE_ASSIGN(storage.locks, lock_all(roots));
  SLUICE_ASSIGN(std::unique_ptr<io::Disk> disk, open_inner(io::kQueueDepthDefault, roots.size()));
  // A data directory that had mirrors is not served as if it never had, because somebody changed the configuration.
  bool mirrored = roots.size() > 1;
  if (!mirrored) {
    SLUICE_ASSIGN(mirrored, io::has_mirror_state(*disk, roots.front()));
  }
  storage.directory.emplace(roots.front());
  if (!mirrored) {
    SLUICE_TRY(bus::DataDirectory::prepare(roots.front()));
    storage.disk = std::move(disk);
    return {};
  }
  SLUICE_ASSIGN(bus::CopySet set,
                open_copies(roots, config.accept_missing, io::kQueueDepthDefault, std::move(disk), storage.locks));
  storage.copies = std::make_unique<DiskCopies>(*set.disk);
  storage.disk = std::move(set.disk);
  storage.may_fill = std::move(set.may_fill);
  return {};
}

Status open_store(Storage& storage) {
  if (storage.copies == nullptr) {
    SLUICE_ASSIGN(storage.store, store::open_sqlite_store(storage.directory->store_path()));
    return {};
  }
  SLUICE_ASSIGN(std::unique_ptr<store::MirrorStore> mirrors,
                store::open_mirror_store(*storage.copies, store::open_sqlite_store));
  storage.mirror_store = mirrors.get();
  storage.store = std::move(mirrors);
  return {};
}

Result<bus::CopySet> open_topic_copies(const std::vector<std::string>& roots,
                                       const std::vector<std::string>& accept_missing) {
  SLUICE_ASSIGN(std::shared_ptr<Locks> locks, lock_all(roots));
  SLUICE_ASSIGN(std::unique_ptr<io::Disk> disk, open_inner(kTopicQueueDepth, roots.size()));
  return open_copies(roots, accept_missing, kTopicQueueDepth, std::move(disk), std::move(locks));
}

}  // namespace sluice::daemon
