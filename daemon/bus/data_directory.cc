#include "daemon/bus/data_directory.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <string_view>
#include <thread>

#include <spdlog/spdlog.h>

#include "shm/base/clock.h"

namespace sluice::bus {
namespace {

constexpr std::string_view kFormat = "sluice data format 1\n";

constexpr std::uint64_t kLockWaitNs = 2'000'000'000;
constexpr std::uint64_t kLockLookNs = 5'000'000;

Status make_directory(const std::string& path) {
  std::error_code error;
  std::filesystem::create_directories(path, error);
  if (error) return fail(system_error(error.value(), "making the data directory " + path));
  return {};
}

// Written once, before anything else is in the directory.
Status write_format(const std::string& path, const std::string& directory) {
  const std::string temporary = path + ".tmp";
  UniqueFd file(::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0640));
  if (!file) return fail(system_error(errno, "writing " + temporary));
  if (::write(file.get(), kFormat.data(), kFormat.size()) != static_cast<ssize_t>(kFormat.size()) ||
      ::fsync(file.get()) != 0 || ::rename(temporary.c_str(), path.c_str()) != 0)
    return fail(system_error(errno, "writing " + path));
  UniqueFd parent(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!parent || ::fsync(parent.get()) != 0) return fail(system_error(errno, "syncing " + directory));
  return {};
}

Status check_format(const std::string& directory) {
  const std::string path = directory + "/format";
  UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file) {
    if (errno != ENOENT) return fail(system_error(errno, "reading " + path));
    if (std::filesystem::exists(directory + "/store.db"))
      return fail(ErrorCode::version, "opening data directory " + directory +
                                          ": it has a store but no format file; put the file back from a backup");
    return write_format(path, directory);
  }
  char text[64] = {};
  const ssize_t size = ::read(file.get(), text, sizeof text);
  if (size < 0) return fail(system_error(errno, "reading " + path));
  if (std::string_view(text, static_cast<std::size_t>(size)) == kFormat) return {};
  return fail(ErrorCode::version, "opening data directory " + directory + ": its format is \"" +
                                      std::string(text, std::min<std::size_t>(static_cast<std::size_t>(size), 40)) +
                                      "\", which this daemon does not know; nothing was touched, use the daemon that "
                                      "wrote it or a newer one");
}

// One that is on its way out has a moment.
Status take_lock(int lock, const std::string& directory) {
  const std::uint64_t deadline = monotonic_ns() + kLockWaitNs;
  while (::flock(lock, LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) return fail(system_error(errno, "locking data directory " + directory));
    if (monotonic_ns() >= deadline)
      return fail(ErrorCode::in_use, "opening data directory " + directory +
                                         ": another daemon has it; stop that one, or choose another --data-dir");
    std::this_thread::sleep_for(std::chrono::nanoseconds(kLockLookNs));
  }
  return {};
}

}  // namespace

Result<UniqueFd> DataDirectory::lock(const std::string& path) {
  SLUICE_TRY(make_directory(path));
  const std::string lock_path = path + "/lock";
  UniqueFd lock(::open(lock_path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0640));
  if (!lock) return fail(system_error(errno, "opening " + lock_path));
  SLUICE_TRY(take_lock(lock.get(), path));
  return lock;
}

Status DataDirectory::prepare(const std::string& path) {
  SLUICE_TRY(check_format(path));
  return make_directory(path + "/topics");
}

Result<DataDirectory> DataDirectory::open(const std::string& path) {
  DataDirectory directory(path);
  SLUICE_ASSIGN(directory.lock_, lock(path));
  SLUICE_TRY(prepare(path));
  return directory;
}

Status DataDirectory::set_aside(io::Disk& disk, const std::string& topic, TopicId id) const {
  if (auto renamed = disk.rename(topic_path(topic), deleted_path(id));
      !renamed && renamed.error().code() != ErrorCode::not_found)
    return renamed;
  return disk.sync_directory(path_ + "/topics");
}

Status DataDirectory::remove_deleted(io::Disk& disk) const {
  const std::string topics = path_ + "/topics";
  SLUICE_ASSIGN(const std::vector<std::string> names, disk.list(topics));
  for (const std::string& name : names) {
    if (name.rfind(".deleted-", 0) != 0) continue;
    const std::string topic = topics + "/" + name;
    SLUICE_ASSIGN(const std::vector<std::string> partitions, disk.list(topic));
    for (const std::string& partition : partitions) {
      const std::string directory = topic + "/" + partition;
      SLUICE_ASSIGN(const std::vector<std::string> files, disk.list(directory));
      for (const std::string& file : files) {
        const std::string_view view(file);
        if (view.ends_with(".log") || view.ends_with(".idx") || view.ends_with(".tmp"))
          SLUICE_TRY(disk.unlink(directory + "/" + file));
      }
      if (auto removed = disk.remove_directory(directory); !removed)
        spdlog::warn("directory of a deleted topic is not empty, left alone path={}", directory);
    }
    if (auto removed = disk.remove_directory(topic); !removed)
      spdlog::warn("directory of a deleted topic is not empty, left alone path={}", topic);
  }
  return disk.sync_directory(topics);
}

}  // namespace sluice::bus
