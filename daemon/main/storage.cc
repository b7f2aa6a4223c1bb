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

// Those that were on a file system of their own must be: else their disk is not mounted, and the copy would grow in the
// directory below.
std::function<Status(const std::string&)> mount_check(const std::vector<std::string>& roots, Storage& storage) {
  std::vector<std::string> sharing;
  for (const std::string& root : roots)
    if (shares_device(root, roots)) sharing.push_back(root);
  return [roots, sharing, &storage](const std::string& root) -> Status {
    const bool shared = std::find(sharing.begin(), sharing.end(), root) != sharing.end();
    if (!shared && shares_device(root, roots))
      return fail(ErrorCode::conflict,
                  "filling " + root + ": it was on a file system of its own, and is not any more: mount its disk");
    // It may be another disk by now.
    storage.locks.erase(root);
    SLUICE_ASSIGN(storage.locks[root], bus::DataDirectory::lock(root));
    return {};
  };
}

// A root whose disk is dead cannot be locked; the others' locks keep a second daemon out.
Status lock_all(const std::vector<std::string>& roots, Storage& storage) {
  std::optional<Error> first;
  for (const std::string& root : roots) {
    Result<UniqueFd> lock = bus::DataDirectory::lock(root);
    if (lock) {
      storage.locks[root] = std::move(*lock);
      continue;
    }
    if (lock.error().code() == ErrorCode::in_use || roots.size() == 1) return fail(std::move(lock).error());
    spdlog::error("copy not locked root={} reason={}", root, lock.error().message());
    if (!first) first = std::move(lock).error();
  }
  if (storage.locks.empty()) return fail(std::move(*first));
  return {};
}

Status open_mirrors(const Config& config, const std::vector<std::string>& roots, std::unique_ptr<io::Disk> inner,
                    Storage& storage) {
  std::vector<std::string> accepted;
  for (const std::string& path : config.accept_missing) accepted.push_back(without_trailing_slash(path));
  SLUICE_ASSIGN(io::MirrorSet set, io::open_mirror_set(*inner, {roots, accepted, random_id}));
  for (const io::MirrorCopy& copy : set.copies) {
    if (copy.good) SLUICE_TRY(bus::DataDirectory::prepare(copy.root));
    if (!copy.good)
      spdlog::error("a copy is stale, messages are durable without it root={} reason={}", copy.root, copy.reason);
  }
  warn_of_one_device(roots);
  storage.may_fill = mount_check(roots, storage);
  const auto on_stale = [&storage](const io::MirrorInfo& copy) {
    storage.locks.erase(copy.root);
    spdlog::critical("a copy has failed and is stale, messages are durable without it root={} reason={}", copy.root,
                     copy.reason);
  };
  auto disk = std::make_unique<io::MirrorDisk>(std::move(inner), std::move(set),
                                               io::MirrorDisk::Options{io::kQueueDepthDefault, on_stale});
  storage.copies = std::make_unique<DiskCopies>(*disk);
  storage.disk = std::move(disk);
  storage.directory.emplace(roots.front());
  return {};
}

}  // namespace

Status open_storage(const Config& config, Storage& storage) {
  std::vector<std::string> roots = {without_trailing_slash(config.data_dir)};
  for (const std::string& mirror : config.mirrors) roots.push_back(without_trailing_slash(mirror));
  SLUICE_TRY(lock_all(roots, storage));
  SLUICE_ASSIGN(
      std::unique_ptr<io::Disk> disk,
      io::open_disk({.queue_depth = io::MirrorDisk::inner_queue_depth(io::kQueueDepthDefault, roots.size())}));
  // A data directory that had mirrors is not served as if it never had, because somebody changed the configuration.
  bool mirrored = roots.size() > 1;
  if (!mirrored) {
    SLUICE_ASSIGN(mirrored, io::has_mirror_state(*disk, roots.front()));
  }
  if (mirrored) return open_mirrors(config, roots, std::move(disk), storage);
  SLUICE_TRY(bus::DataDirectory::prepare(roots.front()));
  storage.disk = std::move(disk);
  storage.directory.emplace(roots.front());
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

}  // namespace sluice::daemon
