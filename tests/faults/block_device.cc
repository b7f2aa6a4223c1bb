#include "tests/faults/block_device.h"

#include <fcntl.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <stdexcept>
#include <utility>

namespace sluice::test {
namespace {

using nlohmann::json;

constexpr const char* kStorageDaemon = "/usr/bin/qemu-storage-daemon";
constexpr std::uint32_t kExtentsMax = 256;      // of one file
constexpr std::size_t kFlushFailuresMax = 512;  // more than anything flushes in vain

void make_file(const std::filesystem::path& path, std::uint64_t size) {
  const UniqueFd file(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (!file || ::ftruncate(file.get(), static_cast<off_t>(size)) != 0)
    throw std::runtime_error("making " + path.string() + " failed: " + std::strerror(errno));
}

const char* iotype(Fault::On on) {
  switch (on) {
    case Fault::On::read: return "read";
    case Fault::On::write: return "write";
    case Fault::On::flush: break;
  }
  return "flush";
}

}  // namespace

std::string why_no_block_devices() {
  if (const std::string why = why_no_file_systems(); !why.empty()) return why;
  if (::access(kStorageDaemon, X_OK) != 0)
    return std::string(kStorageDaemon) + " is not installed (qemu-system-common)";
  const UniqueFd fuse(::open("/dev/fuse", O_RDWR | O_CLOEXEC));
  if (!fuse) return std::string("/dev/fuse cannot be opened: ") + std::strerror(errno);
  return {};
}

BlockDevice::BlockDevice(std::filesystem::path folder, std::uint64_t size, Log log)
    : folder_(std::move(folder)), base_(log == Log::yes ? "logged" : "disk") {
  std::filesystem::create_directories(folder_);
  make_file(data(), size);
  make_file(folder_ / "exported", 0);
  const std::string socket = folder_ / "qmp.sock";
  Process::Options options;
  options.log = folder_ / "qemu.log";
  // It waits for the connection: one that comes while its monitor is being made loses bytes now and then (QEMU 7.2).
  process_ = Process::start(
      {kStorageDaemon, "--chardev", "socket,id=qmp,path=" + socket + ",server=on,wait=on", "--monitor", "chardev=qmp"},
      options);
  qmp_ = std::make_unique<Qmp>(socket);
  add_node({{"driver", "file"}, {"node-name", "disk"}, {"filename", data().string()}});
  if (log == Log::yes) {
    make_file(this->log(), 0);
    add_node({{"driver", "file"}, {"node-name", "log"}, {"filename", this->log().string()}});
    add_node({{"driver", "blklogwrites"},
              {"node-name", "logged"},
              {"file", "disk"},
              {"log", "log"},
              {"log-sector-size", kSectorSize}});
  }
  add_node({{"driver", "raw"}, {"node-name", "top"}, {"file", base_}});
  qmp_->execute("block-export-add", {{"type", "fuse"},
                                     {"id", "export"},
                                     {"node-name", "top"},
                                     {"mountpoint", (folder_ / "exported").string()},
                                     {"writable", true}});
  attach();
}

// Healed first: what is in flight ends, and the loop device can go.
BlockDevice::~BlockDevice() {
  try {
    heal();
  } catch (const std::exception&) {
    // Then its end fails all requests.
  }
  detach();
  process_.signal(SIGTERM);
  process_.wait();
}

void BlockDevice::attach() {
  const std::filesystem::path file = folder_ / "exported";
  const UniqueFd exported(::open(file.c_str(), O_RDWR | O_CLOEXEC));
  if (!exported) throw std::runtime_error("opening " + file.string() + " failed: " + std::strerror(errno));
  loop_ = std::make_unique<LoopDevice>(exported.get());
}

void BlockDevice::detach() { loop_.reset(); }

void BlockDevice::add_node(json node) { qmp_->execute("blockdev-add", node); }

void BlockDevice::put_below_top(const std::string& node) {
  qmp_->execute("blockdev-reopen", {{"options", {{{"driver", "raw"}, {"node-name", "top"}, {"file", node}}}}});
}

void BlockDevice::inject(const Fault& fault) {
  heal();
  if (fault.sectors.size() > kFaultySectorsMax) throw std::runtime_error("too many faulty sectors");
  json rules = json::array();
  const json rule = {{"event", "none"}, {"iotype", iotype(fault.on)}, {"errno", EIO}, {"once", false}};
  for (const std::uint64_t sector : fault.sectors) {
    rules.push_back(rule);
    rules.back()["sector"] = sector;
  }
  if (fault.on == Fault::On::flush) {
    // To take the node out again needs a flush that succeeds: heal() uses up what is left of these.
    rules = json(kFlushFailuresMax, rule);
    for (json& one : rules) one["once"] = true;
  } else if (rules.empty()) {
    rules.push_back(rule);
  }
  add_node({{"driver", "blkdebug"}, {"node-name", "faulty"}, {"image", base_}, {"inject-error", rules}});
  faulty_ = true;
  put_below_top("faulty");
}

void BlockDevice::throttle(std::uint64_t write_bytes_per_second) {
  heal();
  qmp_->execute(
      "object-add",
      {{"qom-type", "throttle-group"}, {"id", "limits"}, {"limits", {{"bps-write", write_bytes_per_second}}}});
  add_node({{"driver", "throttle"}, {"node-name", "slow"}, {"throttle-group", "limits"}, {"file", base_}});
  slow_ = true;
  put_below_top("slow");
}

void BlockDevice::heal() {
  if (!faulty_ && !slow_) return;
  use_up_flush_failures();
  put_below_top(base_);
  if (std::exchange(faulty_, false)) qmp_->execute("blockdev-del", {{"node-name", "faulty"}});
  if (std::exchange(slow_, false)) {
    qmp_->execute("blockdev-del", {{"node-name", "slow"}});
    qmp_->execute("object-del", {{"id", "limits"}});
  }
}

void BlockDevice::use_up_flush_failures() const {
  const UniqueFd exported(::open((folder_ / "exported").c_str(), O_RDWR | O_CLOEXEC));
  for (std::size_t i = 0; i < kFlushFailuresMax && ::fsync(exported.get()) != 0; ++i) {
  }
}

void BlockDevice::forget_cached() const {
  const UniqueFd exported(::open((folder_ / "exported").c_str(), O_RDONLY | O_CLOEXEC));
  ::fsync(exported.get());
  ::posix_fadvise(exported.get(), 0, 0, POSIX_FADV_DONTNEED);
}

std::vector<std::uint64_t> sectors_of(const std::filesystem::path& file, std::uint64_t step) {
  std::vector<std::byte> memory(sizeof(fiemap) + kExtentsMax * sizeof(fiemap_extent));
  auto* map = reinterpret_cast<fiemap*>(memory.data());
  map->fm_length = FIEMAP_MAX_OFFSET;
  map->fm_flags = FIEMAP_FLAG_SYNC;
  map->fm_extent_count = kExtentsMax;
  const UniqueFd fd(::open(file.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd || ::ioctl(fd.get(), FS_IOC_FIEMAP, map) != 0)
    throw std::runtime_error("finding the blocks of " + file.string() + " failed: " + std::strerror(errno));
  std::vector<std::uint64_t> sectors;
  for (std::uint32_t i = 0; i < map->fm_mapped_extents; ++i) {
    const fiemap_extent& extent = map->fm_extents[i];
    for (std::uint64_t at = 0; at < extent.fe_length; at += step)
      sectors.push_back((extent.fe_physical + at) / kSectorSize);
  }
  return sectors;
}

}  // namespace sluice::test
