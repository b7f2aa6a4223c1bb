#include "tests/sim/transactions/host.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "daemon/bus/kept_state.h"
#include "shm/base/assert.h"
#include "shm/base/clock.h"
#include "shm/base/failpoint.h"
#include "tests/sim/transactions/clock.h"

namespace sluice::transactions::sim {
namespace {

// Not there: what the bus looks for beside the simulated disk it must not find.
constexpr const char* kDirectory = "/nonexistent/sluice-simulation";
constexpr std::uint32_t kQueueDepth = 64;
constexpr std::uint64_t kMemoryBudget = std::uint64_t{64} << 20;
constexpr int kLastTurnsMax = 20;
constexpr std::size_t kPageSize = 4096;

}  // namespace

Host::Host(io::SimRandom& random, HostOptions options)
    : options_(options),
      random_(random),
      directory_(kDirectory),
      media_(std::make_shared<io::SimMedia>(random.next())),
      store_medium_(random.next()),
      wake_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  io::SimDisk disk({random.next(), kQueueDepth, 0}, media_);
  for (std::string path = std::string(kDirectory) + "/topics"; !path.empty(); path.erase(path.rfind('/'))) {
    SLUICE_ASSERT(disk.make_directories(path).has_value());
    SLUICE_ASSERT(disk.sync_directory(path).has_value());
  }
  SLUICE_ASSERT(disk.sync_directory("/").has_value());
  failpoint::set_handler([this](std::string_view name) { on_point(name); });
}

Host::~Host() {
  end(false, false);
  failpoint::set_handler({});
}

std::string Host::partition_path(const std::string& topic, PartitionNumber partition) const {
  return directory_.partition_path(topic, partition);
}

// ---- the daemon

bool Host::start(std::uint64_t cuts_power_at) {
  SLUICE_ASSERT(bus_ == nullptr && disk_ == nullptr);
  ++number_;
  dead_ = false;
  killed_at_.clear();
  disk_ = std::make_unique<::sluice::sim::ProcessDisk>(
      io::SimDisk::Options{random_.next(), kQueueDepth, options_.delay_reaps_max}, media_);
  disk_->sim().cut_power_after(cuts_power_at);
  store_losses_ = store_medium_.power_losses();
  store_ = store_medium_.open().value();
  bus::BusSettings settings;
  settings.policy = {::geteuid(), ::getegid()};
  settings.memory_budget = kMemoryBudget;
  settings.flush_interval_ns = options_.flush_interval_ns;
  settings.retention_interval_ns = options_.retention_interval_ns;
  settings.segments_per_file = options_.segments_per_file;
  settings.transactions = options_.rules;
  keep::Inheritance inherited = keeper_.inheritance();
  adopted_ = inherited.contains(bus::kTableName);
  works_ = true;
  auto started = bus::Bus::start(std::move(settings), directory_, *disk_, *store_, wake_.get(),
                                 options_.has_keeper ? &keeper_ : nullptr, std::move(inherited));
  works_ = false;
  refusal_ = started ? "killed at " + killed_at_ : started.error().message();
  if (started) bus_ = std::move(*started);
  return bus_ != nullptr && ended() == End::none;
}

void Host::turn() {
  works_ = true;
  bus_->do_work(monotonic_ns());
  works_ = false;
}

bool Host::stop(std::uint64_t turns) {
  bus_->begin_stop();
  for (std::uint64_t i = 0; i < turns && !bus_->drained(); ++i) {
    advance_clock(1'000'000);
    turn();
    if (ended() != End::none) return false;
  }
  works_ = true;
  const bool finished = bus_->finish_stop().has_value();
  works_ = false;
  return finished && ended() == End::none;
}

Host::End Host::ended() const {
  if (dead_) return End::killed;
  if (disk_ && disk_->sim().power_is_off()) return End::power;
  return End::none;
}

void Host::end(bool keeps_memory, bool loses_power) {
  if (disk_) {
    loses_power |= ended() == End::power;
    keeps_memory &= options_.has_keeper && !loses_power;
    if (!dead_) {
      // What is taken apart takes no time: the power does not go in it.
      if (!loses_power) disk_->sim().cut_power_after(0);
      if (keeps_memory) image_ = image();
      die();
    }
    // Its requests end, badly; then everything may go.
    for (int i = 0; bus_ != nullptr && (disk_->in_flight() != 0 || i == 0); ++i) {
      SLUICE_ASSERT(i < kLastTurnsMax);
      bus_->do_work(monotonic_ns());
    }
    bus_.reset();
    store_.reset();
    disk_.reset();
    if (keeps_memory) restore(image_);
    image_.clear();
    dead_ = false;
  }
  if (loses_power) {
    media_->power_loss();
    store_medium_.lose_power();
  }
  if (!keeps_memory) keeper_.drop_all_but({});
}

// ---- misfortune

void Host::on_point(std::string_view name) {
  if (!works_ || dead_ || points_left_ == 0 || --points_left_ != 0 || ended() != End::none) return;
  killed_at_ = name;
  if (options_.has_keeper) image_ = image();
  die();
}

void Host::die() {
  dead_ = true;
  points_left_ = 0;
  disk_->die();
  store_medium_.lose_power();
}

void Host::cut_power_at_operation(std::uint64_t nth) {
  if (disk_ && !disk_->is_dead()) disk_->sim().cut_power_after(nth);
}

void Host::plan_nothing() {
  points_left_ = 0;
  store_medium_.lose_power_in(0);
  cut_power_at_operation(0);
}

// ---- memory that is put back

Host::Image Host::image() const {
  Image image;
  for (const auto& [name, fd] : keeper_.descriptors()) {
    if (name == bus::kWakeName) continue;
    Extents& extents = image[name];
    for (off_t at = ::lseek(fd.get(), 0, SEEK_DATA); at >= 0; at = ::lseek(fd.get(), at, SEEK_DATA)) {
      const off_t end = ::lseek(fd.get(), at, SEEK_HOLE);
      std::string bytes(static_cast<std::size_t>(end - at), '\0');
      SLUICE_ASSERT(::pread(fd.get(), bytes.data(), bytes.size(), at) == static_cast<ssize_t>(bytes.size()));
      extents.emplace_back(at, std::move(bytes));
      at = end;
    }
  }
  return image;
}

// Page by page, where something has changed. What was a hole may be zeros now.
void Host::restore(const Image& then) const {
  const Image now = image();
  for (const auto& [name, extents] : now) {
    std::map<std::uint64_t, std::string_view> pages;
    if (const auto before = then.find(name); before != then.end())
      for (const auto& [start, bytes] : before->second)
        for (std::size_t at = 0; at < bytes.size(); at += kPageSize)
          pages[start + at] = std::string_view(bytes).substr(at, kPageSize);
    const int fd = keeper_.descriptors().at(name).get();
    static const std::string zeros(kPageSize, '\0');
    for (const auto& [start, bytes] : extents) {
      for (std::size_t at = 0; at < bytes.size(); at += kPageSize) {
        const auto page = pages.find(start + at);
        const std::string_view wanted = page == pages.end() ? std::string_view(zeros) : page->second;
        if (std::memcmp(bytes.data() + at, wanted.data(), std::min(kPageSize, bytes.size() - at)) != 0)
          SLUICE_ASSERT(::pwrite(fd, wanted.data(), wanted.size(), static_cast<off_t>(start + at)) ==
                        static_cast<ssize_t>(wanted.size()));
      }
    }
  }
}

// ---- what is there

template <typename Value>
Value Host::ask_store(const std::function<Result<Value>(store::Store&)>& ask) {
  if (store_ && !store_has_failed()) return ask(*store_).value();
  return ask(*store_medium_.open().value()).value();
}

std::optional<store::Decision> Host::stored_decision(TransactionId id) {
  return ask_store<std::optional<store::Decision>>([&](store::Store& store) { return store.decision(id); });
}

store::GroupState Host::stored_group(const std::string& name) {
  return ask_store<store::GroupState>([&](store::Store& store) -> Result<store::GroupState> {
    SLUICE_ASSIGN(const std::vector<store::GroupRecord> groups, store.groups());
    for (const store::GroupRecord& group : groups)
      if (group.config.name == name) return store.group_state(group.id);
    return store::GroupState();
  });
}

}  // namespace sluice::transactions::sim
