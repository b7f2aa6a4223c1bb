// One process's disk in a simulation: a SimDisk that the process can be torn away from.
//
// die() is kill -9: the SimDisk goes (its writes in flight land later, or not), and from then on every call answers io
// and every request ends with −EIO, so that the dead process's objects can be taken apart in order. Nothing they do
// after that reaches the media. Owner: the simulation's one thread.
#pragma once

#include <cerrno>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "daemon/io/mirror_disk.h"
#include "daemon/io/mirror_set.h"
#include "daemon/io/sim_disk.h"

namespace sluice::sim {

class ProcessDisk : public io::Disk {
 public:
  ProcessDisk(io::SimDisk::Options options, std::shared_ptr<io::SimMedia> media) {
    auto sim = std::make_unique<io::SimDisk>(options, std::move(media));
    sim_ = sim.get();
    disk_ = std::move(sim);
  }

  // From here on it is several copies. Before anything is open.
  Status open_mirrors(std::vector<std::string> roots, std::uint32_t queue_depth,
                      std::function<std::uint64_t()> random) {
    SLUICE_ASSIGN(io::MirrorSet set, io::open_mirror_set(*disk_, {std::move(roots), {}, std::move(random)}));
    disk_ = std::make_unique<io::MirrorDisk>(std::move(disk_), std::move(set),
                                             io::MirrorDisk::Options{.queue_depth = queue_depth, .on_stale = {}});
    return {};
  }

  void die() { disk_.reset(); }
  bool is_dead() const { return disk_ == nullptr; }
  std::size_t in_flight() const { return tokens_.size(); }
  // Only while alive.
  io::SimDisk& sim() { return *sim_; }
  io::MirrorDisk* mirrors() override { return disk_ ? disk_->mirrors() : nullptr; }

  Result<io::FileId> open(const std::string& path, io::OpenMode mode) override {
    return disk_ ? disk_->open(path, mode) : Result<io::FileId>(dead());
  }
  void close(io::FileId file) override {
    if (disk_) disk_->close(file);
  }
  Result<std::uint64_t> size(io::FileId file) override {
    return disk_ ? disk_->size(file) : Result<std::uint64_t>(dead());
  }
  Status allocate(io::FileId file, std::uint64_t size) override {
    return disk_ ? disk_->allocate(file, size) : Status(dead());
  }
  Status truncate(io::FileId file, std::uint64_t size) override {
    return disk_ ? disk_->truncate(file, size) : Status(dead());
  }
  Result<std::size_t> read(io::FileId file, std::uint64_t offset, std::span<std::byte> into) override {
    return disk_ ? disk_->read(file, offset, into) : Result<std::size_t>(dead());
  }
  Status write_synced(io::FileId file, std::uint64_t offset, std::span<const std::byte> bytes) override {
    return disk_ ? disk_->write_synced(file, offset, bytes) : Status(dead());
  }
  Status lock(io::FileId file) override { return disk_ ? disk_->lock(file) : Status(dead()); }
  Status rename(const std::string& from, const std::string& to) override {
    return disk_ ? disk_->rename(from, to) : Status(dead());
  }
  Status unlink(const std::string& path) override { return disk_ ? disk_->unlink(path) : Status(dead()); }
  Status make_directories(const std::string& path) override {
    return disk_ ? disk_->make_directories(path) : Status(dead());
  }
  Status remove_directory(const std::string& path) override {
    return disk_ ? disk_->remove_directory(path) : Status(dead());
  }
  Status sync_directory(const std::string& path) override {
    return disk_ ? disk_->sync_directory(path) : Status(dead());
  }
  Result<std::vector<std::string>> list(const std::string& path) override {
    return disk_ ? disk_->list(path) : Result<std::vector<std::string>>(dead());
  }
  Result<bool> is_unread(io::FileId file) override { return disk_ ? disk_->is_unread(file) : Result<bool>(dead()); }
  Result<UniqueFd> open_for_client(const std::string& path) override {
    return disk_ ? disk_->open_for_client(path) : Result<UniqueFd>(dead());
  }
  Result<std::uint64_t> free_bytes(const std::string& path) override {
    return disk_ ? disk_->free_bytes(path) : Result<std::uint64_t>(dead());
  }

  std::uint32_t register_memory(std::span<std::byte> memory) override {
    return disk_ ? disk_->register_memory(memory) : 0;
  }
  void unregister_memory(std::uint32_t registration) override {
    if (disk_) disk_->unregister_memory(registration);
  }
  bool submit_write(io::FileId file, std::uint64_t offset, std::span<const std::byte> bytes,
                    std::uint64_t token) override {
    return accept(!disk_ || disk_->submit_write(file, offset, bytes, token), token);
  }
  bool submit_sync(io::FileId file, std::uint64_t token) override {
    return accept(!disk_ || disk_->submit_sync(file, token), token);
  }
  std::size_t reap(std::span<io::Completion> into) override {
    std::size_t count = 0;
    if (disk_) {
      count = disk_->reap(into);
      for (const io::Completion& completion : into.first(count)) std::erase(tokens_, completion.token);
      return count;
    }
    while (count < into.size() && !tokens_.empty()) {
      into[count++] = io::Completion{tokens_.back(), -EIO};
      tokens_.pop_back();
    }
    return count;
  }
  int completion_fd() const override { return -1; }
  io::DiskFeatures features() const override { return disk_ ? disk_->features() : io::DiskFeatures{}; }

 private:
  static tl::unexpected<Error> dead() { return fail(ErrorCode::io, "the simulated process is dead", EIO); }
  bool accept(bool accepted, std::uint64_t token) {
    if (accepted) tokens_.push_back(token);
    return accepted;
  }

  std::unique_ptr<io::Disk> disk_;
  io::SimDisk* sim_ = nullptr;         // it, or the one below it
  std::vector<std::uint64_t> tokens_;  // of requests in flight
};

}  // namespace sluice::sim
