#include "daemon/io/sim_media.h"

#include <algorithm>
#include <cerrno>
#include <utility>

#include "daemon/io/disk_error.h"
#include "shm/base/assert.h"
#include "shm/base/checksum.h"

namespace sluice::io {

namespace {

// A dead process' writes land within so many ticks.
constexpr std::uint64_t kOrphanTicksMax = 8;

std::vector<std::string> split(const std::string& path) {
  SLUICE_ASSERT(!path.empty() && path.front() == '/');
  std::vector<std::string> names;
  for (std::size_t at = 1; at < path.size();) {
    const std::size_t end = std::min(path.find('/', at), path.size());
    if (end > at) names.push_back(path.substr(at, end - at));
    at = end + 1;
  }
  return names;
}

std::string join(const std::vector<std::string>& names, std::size_t count) {
  std::string path = "/";
  for (std::size_t i = 0; i < count; ++i) path += (i == 0 ? "" : "/") + names[i];
  return path;
}

}  // namespace

SimMedia::SimMedia(std::uint64_t seed) : random_(seed) { root_ = add_node(true); }

SimMedia::Node& SimMedia::node(SimNodeId id) {
  const auto found = nodes_.find(id);
  SLUICE_ASSERT(found != nodes_.end());
  return found->second;
}

const SimMedia::Node& SimMedia::node(SimNodeId id) const {
  const auto found = nodes_.find(id);
  SLUICE_ASSERT(found != nodes_.end());
  return found->second;
}

SimNodeId SimMedia::add_node(bool is_directory) {
  const SimNodeId id(next_id_++);
  nodes_[id].is_directory = is_directory;
  return id;
}

// ---- names

std::optional<SimNodeId> SimMedia::lookup(const std::string& path) const {
  SimNodeId at = root_;
  for (const std::string& name : split(path)) {
    const Node& directory = node(at);
    const auto found = directory.current.find(name);
    if (!directory.is_directory || found == directory.current.end()) return std::nullopt;
    at = found->second;
  }
  return at;
}

Result<SimNodeId> SimMedia::find_directory(const std::string& path) const {
  const std::optional<SimNodeId> found = lookup(path);
  if (!found) return fail(disk_error(ENOENT, "opening the directory " + path));
  if (!node(*found).is_directory) return fail(disk_error(ENOTDIR, "opening the directory " + path));
  return *found;
}

Result<SimNodeId> SimMedia::find_file(const std::string& path) const {
  const std::optional<SimNodeId> found = lookup(path);
  if (!found) return fail(disk_error(ENOENT, "opening " + path));
  if (node(*found).is_directory) return fail(disk_error(EISDIR, "opening " + path));
  return *found;
}

Result<SimMedia::Place> SimMedia::place_of(const std::string& path) const {
  const std::vector<std::string> names = split(path);
  if (names.empty()) return fail(disk_error(EBUSY, "working on " + path));
  SLUICE_ASSIGN(const SimNodeId directory, find_directory(join(names, names.size() - 1)));
  return Place{directory, names.back()};
}

Result<SimNodeId> SimMedia::create_file(const std::string& path) {
  SLUICE_ASSIGN(const Place place, place_of(path));
  if (lookup(path)) return fail(disk_error(EEXIST, "creating " + path));
  const SimNodeId created = add_node(false);
  perform(EntryOperation{{{place.directory, place.name, created}}, {}, {}});
  return created;
}

Status SimMedia::rename(const std::string& from, const std::string& to) {
  const std::string doing = "renaming " + from + " to " + to;
  SLUICE_ASSIGN(const Place source, place_of(from));
  SLUICE_ASSIGN(const Place target, place_of(to));
  const std::optional<SimNodeId> moved = lookup(from);
  if (!moved) return fail(disk_error(ENOENT, doing));
  if (const std::optional<SimNodeId> replaced = lookup(to)) {
    if (*replaced == *moved) return {};
    if (node(*replaced).is_directory != node(*moved).is_directory) {
      return fail(disk_error(node(*moved).is_directory ? ENOTDIR : EISDIR, doing));
    }
    if (!node(*replaced).current.empty()) return fail(disk_error(ENOTEMPTY, doing));
  }
  perform(
      EntryOperation{{{source.directory, source.name, SimNodeId()}, {target.directory, target.name, *moved}}, {}, {}});
  return {};
}

Status SimMedia::unlink(const std::string& path) {
  SLUICE_ASSIGN(const Place place, place_of(path));
  const std::optional<SimNodeId> found = lookup(path);
  if (!found) return fail(disk_error(ENOENT, "removing " + path));
  if (node(*found).is_directory) return fail(disk_error(EISDIR, "removing " + path));
  perform(EntryOperation{{{place.directory, place.name, SimNodeId()}}, {}, {}});
  return {};
}

Status SimMedia::make_directories(const std::string& path) {
  const std::vector<std::string> names = split(path);
  for (std::size_t count = 1; count <= names.size(); ++count) {
    const std::string prefix = join(names, count);
    if (const std::optional<SimNodeId> found = lookup(prefix)) {
      if (!node(*found).is_directory) return fail(disk_error(EEXIST, "making the directory " + prefix));
      continue;
    }
    SLUICE_ASSIGN(const Place place, place_of(prefix));
    perform(EntryOperation{{{place.directory, place.name, add_node(true)}}, {}, {}});
    SLUICE_TRY(sync_directory(join(names, count - 1)));
  }
  return {};
}

Status SimMedia::remove_directory(const std::string& path) {
  SLUICE_ASSIGN(const SimNodeId removed, find_directory(path));
  SLUICE_ASSIGN(const Place place, place_of(path));
  if (!node(removed).current.empty()) {
    return fail(disk_error(ENOTEMPTY, "removing the directory " + path));
  }
  perform(EntryOperation{{{place.directory, place.name, SimNodeId()}}, {}, removed});
  return {};
}

Result<std::vector<std::string>> SimMedia::list(const std::string& path) const {
  SLUICE_ASSIGN(const SimNodeId directory, find_directory(path));
  std::vector<std::string> names;
  for (const auto& [name, entry] : node(directory).current) names.push_back(name);
  return names;
}

// ---- which names are durable

void SimMedia::perform(EntryOperation operation) {
  for (const EntryChange& change : operation.changes) {
    Names& names = node(change.directory).current;
    if (change.after == SimNodeId()) {
      names.erase(change.name);
    } else {
      names[change.name] = change.after;
    }
    operation.unsynced.insert(change.directory);
  }
  operations_.push_back(std::move(operation));
  collect_garbage();
}

Status SimMedia::sync_directory(const std::string& path) {
  SLUICE_ASSIGN(const SimNodeId directory, find_directory(path));
  for (EntryOperation& operation : operations_) operation.unsynced.erase(directory);
  for (std::size_t index = 0; index < operations_.size();) {
    if (operations_[index].unsynced.empty()) {
      commit(index);
      index = 0;  // it took older ones with it
    } else {
      ++index;
    }
  }
  collect_garbage();
  return {};
}

// Whether the younger one cannot be durable without the older: they concern the same name, or the younger removes the
// directory that the older worked in.
bool SimMedia::builds_on(const EntryOperation& younger, const EntryOperation& older) {
  for (const EntryChange& before : older.changes) {
    if (before.directory == younger.removed_directory) return true;
    for (const EntryChange& change : younger.changes) {
      if (change.directory == before.directory && change.name == before.name) return true;
    }
  }
  return false;
}

void SimMedia::commit(std::size_t index) {
  const EntryOperation operation = operations_[index];
  for (std::size_t older = 0; older < index;) {
    if (builds_on(operation, operations_[older])) {
      const std::size_t before = operations_.size();
      commit(older);
      index -= before - operations_.size();
      older = 0;
    } else {
      ++older;
    }
  }
  make_entry_durable(operation);
  operations_.erase(operations_.begin() + static_cast<std::ptrdiff_t>(index));
}

void SimMedia::make_entry_durable(const EntryOperation& operation) {
  for (const EntryChange& change : operation.changes) {
    Names& names = node(change.directory).durable;
    if (change.after == SimNodeId()) {
      names.erase(change.name);
    } else {
      names[change.name] = change.after;
    }
  }
}

void SimMedia::settle_entries_after_power_loss() {
  std::vector<bool> kept(operations_.size());
  for (std::size_t index = 0; index < operations_.size(); ++index) kept[index] = random_.coin();
  for (std::size_t index = operations_.size(); index > 0; --index) {
    if (!kept[index - 1]) continue;
    for (std::size_t older = 0; older + 1 < index; ++older) {
      if (builds_on(operations_[index - 1], operations_[older])) kept[older] = true;
    }
  }
  for (std::size_t index = 0; index < operations_.size(); ++index) {
    if (kept[index]) make_entry_durable(operations_[index]);
  }
  operations_.clear();
  for (auto& [id, settled] : nodes_) settled.current = settled.durable;
}

void SimMedia::power_loss() {
  ++lives_;
  settle_entries_after_power_loss();
  for (auto& [id, settled] : nodes_) {
    settled.file.power_loss(random_);
    settled.lock_holder = SimHandleId();
    settled.handles = 0;
  }
  handles_.clear();
  orphans_.clear();
  collect_garbage();
}

void SimMedia::mark_reachable(SimNodeId from, bool durable, std::set<SimNodeId>& reached) const {
  reached.insert(from);
  const Node& directory = node(from);
  for (const auto& [name, entry] : durable ? directory.durable : directory.current) {
    if (!reached.contains(entry)) mark_reachable(entry, durable, reached);
  }
}

void SimMedia::collect_garbage() {
  std::set<SimNodeId> reached;
  mark_reachable(root_, false, reached);
  std::set<SimNodeId> durably;
  mark_reachable(root_, true, durably);
  reached.merge(durably);
  for (const EntryOperation& operation : operations_) {
    for (const EntryChange& change : operation.changes) {
      reached.insert(change.directory);
      reached.insert(change.after);
    }
  }
  // What is not reached any more may hold names, but nothing can lead there.
  std::erase_if(nodes_, [&](const auto& entry) { return entry.second.handles == 0 && !reached.contains(entry.first); });
}

// ---- handles, locks, writes that outlive their process

SimFile& SimMedia::file(SimNodeId id) { return node(id).file; }

SimHandleId SimMedia::open_handle(SimNodeId id) {
  const SimHandleId handle(next_id_++);
  handles_.emplace(handle, id);
  ++node(id).handles;
  return handle;
}

void SimMedia::close_handle(SimHandleId handle) {
  const auto found = handles_.find(handle);
  SLUICE_ASSERT(found != handles_.end());
  Node& closed = node(found->second);
  --closed.handles;
  if (closed.lock_holder == handle) closed.lock_holder = SimHandleId();
  handles_.erase(found);
  collect_garbage();
}

void SimMedia::orphan_handle(SimHandleId handle, std::span<const SimFile::ChangeNumber> in_flight) {
  const auto found = handles_.find(handle);
  SLUICE_ASSERT(found != handles_.end());
  for (const SimFile::ChangeNumber change : in_flight) {
    orphans_.push_back(Orphan{handle, found->second, change, 1 + random_.below(kOrphanTicksMax)});
  }
  if (in_flight.empty()) close_handle(handle);
}

void SimMedia::tick() {
  for (std::size_t index = 0; index < orphans_.size();) {
    if (--orphans_[index].ticks_left > 0) {
      ++index;
      continue;
    }
    const Orphan landed = orphans_[index];
    orphans_.erase(orphans_.begin() + static_cast<std::ptrdiff_t>(index));
    SimFile& target = file(landed.node);
    // Nobody is told; but a sync by the successor, who waited for the lock, covers it.
    target.complete(landed.change, target.bytes_of(landed.change).size());
    const bool last = std::none_of(orphans_.begin(), orphans_.end(),
                                   [&](const Orphan& other) { return other.handle == landed.handle; });
    if (last) close_handle(landed.handle);
  }
}

bool SimMedia::lock(SimHandleId handle) {
  const auto found = handles_.find(handle);
  SLUICE_ASSERT(found != handles_.end());
  SimHandleId& holder = node(found->second).lock_holder;
  if (holder != SimHandleId() && holder != handle) return false;
  holder = handle;
  return true;
}

// ---- room

std::uint64_t SimMedia::free_blocks() const {
  std::set<SimNodeId> in_use;
  mark_reachable(root_, false, in_use);
  std::uint64_t used = 0;
  for (const auto& [id, counted] : nodes_) {
    if (counted.handles > 0 || in_use.contains(id)) used += counted.file.used_blocks();
  }
  return used < capacity_blocks_ ? capacity_blocks_ - used : 0;
}

bool SimMedia::reserve(SimNodeId id, std::uint64_t size) {
  SimFile& target = file(id);
  const std::uint64_t more = target.used_blocks_after_reserve(size) - target.used_blocks();
  if (more > 0 && more > free_blocks()) return false;
  target.reserve(size);
  return true;
}

bool SimMedia::has_room_for_write(SimNodeId id, std::uint64_t offset, std::uint64_t size) const {
  const SimFile& target = node(id).file;
  const std::uint64_t more = target.used_blocks_after_write(offset, size) - target.used_blocks();
  return more == 0 || more <= free_blocks();
}

// ---- for tests

Status SimMedia::flip_bit(const std::string& path, std::uint64_t offset, unsigned bit) {
  SLUICE_ASSIGN(const SimNodeId found, find_file(path));
  file(found).flip(offset, bit);
  return {};
}

Result<std::vector<std::byte>> SimMedia::bytes_of(const std::string& path, bool durable) const {
  SLUICE_ASSIGN(const SimNodeId found, find_file(path));
  const SimFile& source = node(found).file;
  const SparseBytes& bytes = durable ? source.durable() : source.current();
  std::vector<std::byte> copy(static_cast<std::size_t>(bytes.size()));
  bytes.read(0, copy);
  return copy;
}

Result<std::vector<std::byte>> SimMedia::durable_bytes(const std::string& path) const { return bytes_of(path, true); }

Result<std::vector<std::byte>> SimMedia::current_bytes(const std::string& path) const { return bytes_of(path, false); }

std::uint32_t SimMedia::durable_checksum() const {
  std::uint32_t checksum = 0;
  checksum_directory(root_, checksum);
  return checksum;
}

void SimMedia::checksum_directory(SimNodeId directory, std::uint32_t& checksum) const {
  for (const auto& [name, entry] : node(directory).durable) {
    checksum = crc32c(checksum, name.data(), name.size());
    const Node& named = node(entry);
    if (named.is_directory) {
      checksum_directory(entry, checksum);
      continue;
    }
    checksum = crc32c_u64(checksum, named.file.durable().size());
    for (const auto& [number, block] : named.file.durable().blocks()) {
      checksum = crc32c_u64(checksum, number);
      checksum = crc32c(checksum, block.data(), block.size());
    }
  }
}

}  // namespace sluice::io
