#include "daemon/bus/topic_mirrors.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <set>
#include <system_error>

#include <spdlog/spdlog.h>

#include "daemon/io/mirror_state.h"

namespace sluice::bus {
namespace {

namespace fs = std::filesystem;

constexpr const char* kFolder = "/mirrored";
// What lies in a root but for its log files.
constexpr std::array kOwnFiles = {"format", "format.tmp", "format.fill", "mirror.state", "mirror.state.tmp", "lock"};

std::string folder_name(const std::string& topic, TopicId id) { return topic + "-" + std::to_string(id.value); }

// As it is without symbolic links, as far as it is there; a slash at its end.
std::string resolved(const std::string& path) {
  std::error_code error;
  const fs::path real = fs::weakly_canonical(path, error);
  return (error ? fs::path(path).lexically_normal() : real).string() + "/";
}

bool overlap(const std::string& a, const std::string& b) { return a.starts_with(b) || b.starts_with(a); }

std::string listed(const std::vector<std::string>& paths) {
  std::string text;
  for (const std::string& path : paths) text += (text.empty() ? "" : ", ") + path;
  return text;
}

// Its log files are gone, or it is left as it is.
Status remove_root(const std::string& root) {
  std::error_code error;
  fs::remove(root + "/topics", error);
  for (const char* name : kOwnFiles)
    if (!error) fs::remove(root + "/" + name, error);
  if (!error) fs::remove(root, error);
  if (error) return fail(system_error(error.value(), "removing " + root));
  return {};
}

void remove_roots(const std::vector<std::string>& roots) {
  // The first one last: it is where a start finds what is left.
  for (auto root = roots.rbegin(); root != roots.rend(); ++root)
    if (auto removed = remove_root(*root); !removed)
      spdlog::warn("copy of a topic that is no more not removed, left alone path={} reason={}", *root,
                   removed.error().message());
}

}  // namespace

TopicMirrors::TopicMirrors(TopicMirrorSettings settings, const DataDirectory& directory, io::Disk& disk)
    : settings_(std::move(settings)), directory_(directory), disk_(disk) {}

// ---- where they lie

std::size_t TopicMirrors::daemon_copies() const {
  return disk_.mirrors() == nullptr ? 1 : disk_.mirrors()->copy_count();
}

std::vector<std::string> TopicMirrors::daemon_roots() const {
  if (disk_.mirrors() == nullptr) return {directory_.path()};
  std::vector<std::string> roots;
  for (std::size_t copy = 0; copy < daemon_copies(); ++copy) roots.push_back(disk_.mirrors()->root(copy));
  return roots;
}

// Those on the daemon's own disks come first, in the daemon's order.
std::vector<std::string> TopicMirrors::roots_of(const core::TopicRecord& record) const {
  const std::string name = folder_name(record.config.name, record.id);
  std::vector<std::string> roots;
  for (const std::string& root : daemon_roots()) roots.push_back(root + kFolder + "/" + name);
  for (const std::string& mirror : record.config.mirrors) roots.push_back(mirror + "/" + name);
  return roots;
}

Status TopicMirrors::check(const core::TopicConfig& config) const {
  if (config.mirrors.empty()) return {};
  const std::string doing = "creating topic " + config.name + ": ";
  if (settings_.roots.empty())
    return fail(ErrorCode::permission, doing +
                                           "it cannot have mirrors of its own: the daemon's configuration names no "
                                           "directories for them (mirror_roots); leave --mirror out");
  if (own_.size() >= kMirroredTopicsMax)
    return fail(ErrorCode::quota,
                doing + "at most " + std::to_string(kMirroredTopicsMax) + " topics may have mirrors of their own");
  if (daemon_copies() + config.mirrors.size() > kMirrorCopiesMax)
    return fail(ErrorCode::invalid, doing + std::to_string(config.mirrors.size()) + " mirrors and " +
                                        std::to_string(daemon_copies()) + " copies of the data directory; at most " +
                                        std::to_string(kMirrorCopiesMax) + " copies are possible");
  std::vector<std::string> taken = daemon_roots();
  for (const std::string& mirror : config.mirrors) {
    const std::string real = resolved(mirror);
    if (std::none_of(settings_.roots.begin(), settings_.roots.end(),
                     [&](const std::string& root) { return real.starts_with(resolved(root)); }))
      return fail(ErrorCode::permission, doing + "the mirror " + mirror +
                                             " lies in none of the directories that the daemon's configuration allows "
                                             "(mirror_roots): " +
                                             listed(settings_.roots));
    for (const std::string& other : taken)
      if (overlap(real, resolved(other)))
        return fail(ErrorCode::invalid, doing + "the mirror " + mirror + " and " + other +
                                            " lie in one another: a mirror is a directory of its own, on another disk");
    taken.push_back(mirror);
  }
  return {};
}

const DataDirectory& TopicMirrors::directory_of(TopicId topic) const {
  const auto found = own_.find(topic);
  return found == own_.end() ? directory_ : found->second->directory;
}

io::Disk& TopicMirrors::disk_of(TopicId topic) const {
  const auto found = own_.find(topic);
  return found == own_.end() ? disk_ : *found->second->set.disk;
}

// ---- opening

Status TopicMirrors::open(const core::TopicRecord& record, bool fresh) {
  if (record.config.mirrors.empty()) return {};
  const std::string doing = "opening the copies of topic " + record.config.name + ": ";
  const std::vector<std::string> roots = roots_of(record);
  for (const std::string& root : roots) {
    if (root.size() > kMirrorPathSizeMax)
      return fail(ErrorCode::invalid, doing + root + " has more than " + std::to_string(kMirrorPathSizeMax) + " bytes");
    std::error_code ignored;
    if (fresh && fs::exists(root, ignored))
      return fail(ErrorCode::exists,
                  doing + root + " is there already: choose another mirror, or remove that directory");
  }
  Result<CopySet> set = settings_.open(roots);
  if (!set) {
    if (fresh) remove_roots(roots);
    return fail(set.error().code(), doing + set.error().context(), set.error().system_errno());
  }
  auto own = std::make_unique<Own>(Own{record.config.name, DataDirectory(roots.front()), std::move(*set), nullptr});
  Own* const opened = own.get();
  const auto may_fill_here = [this, opened](const std::string& root) { return may_fill(*opened, root); };
  own->keeper = std::make_unique<MirrorKeeper>(own->set.disk.get(), nullptr,
                                               MirrorKeeperOptions{settings_.retry_ns, may_fill_here});
  own_[record.id] = std::move(own);
  return {};
}

// ---- the bus's turn

Status TopicMirrors::may_fill(const Own& own, const std::string& root) const {
  for (std::size_t copy = 0; disk_.mirrors() != nullptr && copy < daemon_copies(); ++copy)
    if (own.set.disk->root(copy) == root && !disk_.mirrors()->is_good(copy))
      return fail(ErrorCode::would_block, "filling " + root + ": the daemon's own copy on that disk comes first");
  return own.set.may_fill ? own.set.may_fill(root) : Status();
}

void TopicMirrors::follow_daemon(Own& own) const {
  if (disk_.mirrors() == nullptr) return;
  io::MirrorDisk& copies = *own.set.disk;
  for (std::size_t copy = 0; copy < daemon_copies(); ++copy) {
    if (disk_.mirrors()->is_good(copy) || !copies.is_good(copy) || copies.good_count() == 1) continue;
    if (auto marked = copies.mark_stale(copy, "the daemon's own copy on that disk is stale"); !marked)
      spdlog::error("a copy is not marked stale root={} reason={}", copies.root(copy), marked.error().message());
  }
}

bool TopicMirrors::do_work(std::uint64_t now_ns) {
  bool progressed = false;
  for (const auto& [id, own] : own_) {
    follow_daemon(*own);
    progressed |= own->keeper->do_work(now_ns);
  }
  return progressed;
}

std::uint64_t TopicMirrors::deadline_ns() const {
  std::uint64_t first = 0;
  for (const auto& [id, own] : own_) {
    const std::uint64_t deadline = own->keeper->deadline_ns();
    if (deadline != 0 && (first == 0 || deadline < first)) first = deadline;
  }
  return first;
}

void TopicMirrors::stop() {
  for (const auto& [id, own] : own_) own->keeper->stop();
}

bool TopicMirrors::is_idle() const {
  return std::all_of(own_.begin(), own_.end(), [](const auto& entry) { return entry.second->keeper->is_idle(); });
}

// ---- deleted topics

void TopicMirrors::remove(TopicId topic) {
  const auto found = own_.find(topic);
  if (found == own_.end()) return;
  std::unique_ptr<Own> own = std::move(found->second);
  own_.erase(found);
  own->keeper.reset();
  // A stale copy was not asked when the files were set aside.
  io::MirrorDisk& copies = *own->set.disk;
  for (std::size_t copy = 0; copy < copies.copy_count(); ++copy)
    if (!copies.is_good(copy))
      static_cast<void>(DataDirectory(copies.root(copy)).set_aside(copies.inner(), own->topic, topic).has_value());
  remove_copies(std::move(own->set));
}

void TopicMirrors::remove_copies(CopySet set) {
  std::vector<std::string> roots;
  for (std::size_t copy = 0; copy < set.disk->copy_count(); ++copy) {
    roots.push_back(set.disk->root(copy));
    if (auto removed = DataDirectory(roots.back()).remove_deleted(set.disk->inner()); !removed)
      spdlog::error("files of a deleted topic not removed path={} reason={}", roots.back(), removed.error().message());
  }
  set = {};  // nothing of them is open
  remove_roots(roots);
}

void TopicMirrors::remove_leftovers(const std::vector<core::TopicRecord>& topics) const {
  std::set<std::string> live;
  for (const core::TopicRecord& record : topics)
    if (!record.config.mirrors.empty()) live.insert(folder_name(record.config.name, record.id));
  std::vector<std::string> left;
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(directory_.path() + kFolder, error))
    if (!live.contains(entry.path().filename().string())) left.push_back(entry.path().string());
  for (const std::string& root : left) remove_leftover(root);
}

// Its state says where the other copies are.
void TopicMirrors::remove_leftover(const std::string& root) const {
  io::Disk& disk = disk_.mirrors() == nullptr ? disk_ : disk_.mirrors()->inner();
  const auto state = io::read_mirror_state(disk, root);
  if (state && !*state) return remove_roots({root});
  std::vector<std::string> roots = {root};
  if (state)
    for (const io::MirrorMember& member : (*state)->members)
      if (member.id != (*state)->self) roots.push_back(member.path);
  Result<CopySet> set = state ? settings_.open(roots) : fail(state.error());
  if (set) return remove_copies(std::move(*set));
  spdlog::warn("copies of a deleted topic not removed, tried again at the next start path={} reason={}", root,
               set.error().message());
}

}  // namespace sluice::bus
