#include "daemon/main/storage.h"

#include <sys/stat.h>

#include <cstdint>
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

// A copy on the same file system shares the fate of the other one.
void warn_of_one_device(const std::vector<std::string>& roots) {
  for (std::size_t i = 0; i < roots.size(); ++i) {
    for (std::size_t j = 0; j < i; ++j) {
      struct stat one {};
      struct stat other {};
      if (::stat(roots[i].c_str(), &one) != 0 || ::stat(roots[j].c_str(), &other) != 0) continue;
      if (one.st_dev == other.st_dev)
        spdlog::warn("a mirror lies on the same file system as another copy, and fails with it mirror={} other={}",
                     roots[i], roots[j]);
    }
  }
}

// A root whose disk is dead cannot be locked; the others' locks keep a second daemon out.
Result<std::vector<UniqueFd>> lock_all(const std::vector<std::string>& roots) {
  std::vector<UniqueFd> locks;
  std::optional<Error> first;
  for (const std::string& root : roots) {
    Result<UniqueFd> lock = bus::DataDirectory::lock(root);
    if (lock) {
      locks.push_back(std::move(*lock));
      continue;
    }
    if (lock.error().code() == ErrorCode::in_use || roots.size() == 1) return fail(std::move(lock).error());
    spdlog::error("copy not locked root={} reason={}", root, lock.error().message());
    if (!first) first = std::move(lock).error();
  }
  if (locks.empty()) return fail(std::move(*first));
  return locks;
}

Status open_mirrors(const Config& config, const std::vector<std::string>& roots, std::vector<UniqueFd> locks,
                    std::unique_ptr<io::Disk> inner, Storage& storage) {
  std::vector<std::string> accepted;
  for (const std::string& path : config.accept_missing) accepted.push_back(without_trailing_slash(path));
  SLUICE_ASSIGN(io::MirrorSet set, io::open_mirror_set(*inner, {roots, accepted, random_id}));
  for (const io::MirrorCopy& copy : set.copies) {
    if (copy.good) SLUICE_TRY(bus::DataDirectory::prepare(copy.root));
    if (!copy.good)
      spdlog::error("a copy is stale, messages are durable without it root={} reason={}", copy.root, copy.reason);
  }
  warn_of_one_device(roots);
  const auto on_stale = [](const io::MirrorInfo& copy) {
    spdlog::critical("a copy has failed and is stale, messages are durable without it root={} reason={}", copy.root,
                     copy.reason);
  };
  auto disk = std::make_unique<io::MirrorDisk>(std::move(inner), std::move(set),
                                               io::MirrorDisk::Options{io::kQueueDepthDefault, on_stale});
  storage.copies = std::make_unique<DiskCopies>(*disk);
  storage.disk = std::move(disk);
  storage.directory.emplace(roots.front(), std::move(locks));
  return {};
}

}  // namespace

Status open_storage(const Config& config, Storage& storage) {
  std::vector<std::string> roots = {without_trailing_slash(config.data_dir)};
  for (const std::string& mirror : config.mirrors) roots.push_back(without_trailing_slash(mirror));
  SLUICE_ASSIGN(std::vector<UniqueFd> locks, lock_all(roots));
  SLUICE_ASSIGN(
      std::unique_ptr<io::Disk> disk,
      io::open_disk({.queue_depth = io::MirrorDisk::inner_queue_depth(io::kQueueDepthDefault, roots.size())}));
  // A data directory that had mirrors is not served as if it never had, because somebody changed the configuration.
  bool mirrored = roots.size() > 1;
  if (!mirrored) {
    SLUICE_ASSIGN(mirrored, io::has_mirror_state(*disk, roots.front()));
  }
  if (mirrored) return open_mirrors(config, roots, std::move(locks), std::move(disk), storage);
  SLUICE_TRY(bus::DataDirectory::prepare(roots.front()));
  storage.disk = std::move(disk);
  storage.directory.emplace(roots.front(), std::move(locks));
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
