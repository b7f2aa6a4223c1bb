#include "tests/daemon/io/disk_rig.h"

#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <new>
#include <utility>

#include "daemon/io/mirror_disk.h"
#include "daemon/io/sim_random.h"
#include "shm/base/assert.h"

namespace sluice::io {

AlignedBuffer::AlignedBuffer(std::size_t size, std::uint64_t seed) : size_(size) {
  memory_.reset(static_cast<std::byte*>(std::aligned_alloc(kDirectIoAlignment, size)));
  if (!memory_) throw std::bad_alloc();
  SimRandom random(seed);
  for (std::size_t at = 0; at < size; at += 8) {
    const std::uint64_t word = random.next();
    std::memcpy(memory_.get() + at, &word, 8);
  }
}

void AlignedBuffer::Free::operator()(std::byte* memory) const { std::free(memory); }

namespace {

class PosixRig final : public DiskRig {
 public:
  PosixRig(const std::string& parent, MakeDisk make, std::uint64_t tmpfs_size)
      : make_(std::move(make)), limited_(tmpfs_size != 0) {
    std::string name = parent + "/sluice-disk-XXXXXX";
    if (::mkdtemp(name.data()) == nullptr) {
      why_not_ = "no directory below " + parent + ": " + std::strerror(errno);
      return;
    }
    directory_ = name;
    if (limited_) mount_tmpfs(tmpfs_size);
    if (!why_not_.empty()) return;
    Result<std::unique_ptr<Disk>> disk = make_();
    if (disk) {
      disk_ = std::move(*disk);
    } else {
      why_not_ = disk.error().message();
    }
  }

  ~PosixRig() override {
    disk_.reset();
    if (mounted_) ::umount2(directory_.c_str(), MNT_DETACH);
    std::error_code ignored;
    if (!directory_.empty()) std::filesystem::remove_all(directory_, ignored);
  }

  Disk& disk() override { return *disk_; }
  std::unique_ptr<Disk> another() override { return std::move(make_().value()); }
  std::string directory() const override { return directory_; }
  bool limit_room(std::uint64_t) override { return limited_; }
  std::string why_not() const override { return why_not_; }

 private:
  // In a mount namespace of this process, so that nothing is left behind however it ends.
  void mount_tmpfs(std::uint64_t size) {
    const std::string options = "size=" + std::to_string(size);
    if (::unshare(CLONE_NEWNS) != 0 || ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
        ::mount("sluice-test", directory_.c_str(), "tmpfs", 0, options.c_str()) != 0) {
      why_not_ = std::string("no private tmpfs: ") + std::strerror(errno);
      return;
    }
    mounted_ = true;
  }

  const MakeDisk make_;
  const bool limited_;
  bool mounted_ = false;
  std::string directory_;
  std::string why_not_;
  std::unique_ptr<Disk> disk_;
};

class SimRig final : public DiskRig {
 public:
  explicit SimRig(SimDisk::Options options) : options_(options), disk_(options) {
    SLUICE_ASSERT(disk_.make_directories(directory()).has_value());
  }
  Disk& disk() override { return disk_; }
  std::unique_ptr<Disk> another() override { return std::make_unique<SimDisk>(options_, disk_.media()); }
  std::string directory() const override { return "/data"; }
  bool limit_room(std::uint64_t bytes) override {
    disk_.media()->set_capacity(bytes);
    return true;
  }

 private:
  const SimDisk::Options options_;
  SimDisk disk_;
};

class MirrorRig final : public DiskRig {
 public:
  MirrorRig(std::unique_ptr<DiskRig> first, std::unique_ptr<DiskRig> second)
      : first_(std::move(first)), second_(std::move(second)) {
    if (!why_not().empty()) return;
    roots_ = {first_->directory() + "/a", (second_ ? *second_ : *first_).directory() + "/b"};
    disk_ = another();
    SLUICE_ASSERT(disk_->make_directories(directory()).has_value());
  }

  Disk& disk() override { return *disk_; }
  std::unique_ptr<Disk> another() override {
    std::unique_ptr<Disk> inner = first_->another();
    SimRandom random(7);
    MirrorSet set = std::move(open_mirror_set(*inner, {roots_, {}, [&] { return random.next(); }}).value());
    return std::make_unique<MirrorDisk>(std::move(inner), std::move(set),
                                        MirrorDisk::Options{.queue_depth = kRigQueueDepth, .on_stale = {}});
  }
  std::string directory() const override { return roots_[0] + "/data"; }
  bool limit_room(std::uint64_t bytes) override { return second_ && first_->limit_room(bytes); }
  std::string why_not() const override {
    return first_->why_not().empty() && second_ ? second_->why_not() : first_->why_not();
  }

 private:
  const std::unique_ptr<DiskRig> first_;
  const std::unique_ptr<DiskRig> second_;
  std::vector<std::string> roots_;
  std::unique_ptr<Disk> disk_;
};

}  // namespace

std::unique_ptr<DiskRig> make_mirror_rig(std::unique_ptr<DiskRig> first, std::unique_ptr<DiskRig> second) {
  return std::make_unique<MirrorRig>(std::move(first), std::move(second));
}

MakeDisk uring(UringDisk::Options options) {
  return [options]() -> Result<std::unique_ptr<Disk>> {
    SLUICE_ASSIGN(std::unique_ptr<Disk> disk, UringDisk::create(options));
    return disk;
  };
}

std::unique_ptr<DiskRig> make_posix_rig(const std::string& parent, MakeDisk make, std::uint64_t tmpfs_size) {
  return std::make_unique<PosixRig>(parent, std::move(make), tmpfs_size);
}

std::unique_ptr<DiskRig> make_sim_rig(SimDisk::Options options) { return std::make_unique<SimRig>(options); }

std::vector<Completion> wait_for(Disk& disk, std::size_t count) {
  std::vector<Completion> all(count);
  std::size_t done = 0;
  for (int idle = 0; done < count && idle < 100;) {
    const std::size_t got = disk.reap(std::span(all).subspan(done));
    done += got;
    idle = got == 0 ? idle + 1 : 0;
    if (got == 0 && disk.completion_fd() >= 0) {
      pollfd wait{disk.completion_fd(), POLLIN, 0};
      static_cast<void>(::poll(&wait, 1, 200));
    }
  }
  all.resize(done);
  return all;
}

std::int64_t write_and_wait(Disk& disk, FileId file, std::uint64_t offset, std::span<const std::byte> bytes) {
  SLUICE_ASSERT(disk.submit_write(file, offset, bytes, 1));
  const std::vector<Completion> completions = wait_for(disk, 1);
  SLUICE_ASSERT(completions.size() == 1);
  return completions[0].result;
}

std::int64_t sync_and_wait(Disk& disk, FileId file) {
  SLUICE_ASSERT(disk.submit_sync(file, 2));
  const std::vector<Completion> completions = wait_for(disk, 1);
  SLUICE_ASSERT(completions.size() == 1);
  return completions[0].result;
}

std::string assertion_of(const std::function<void()>& defect) {
  std::array<int, 2> ends{};
  SLUICE_ASSERT(::pipe(ends.data()) == 0);
  const pid_t child = ::fork();
  if (child == 0) {
    ::dup2(ends[1], STDERR_FILENO);
    defect();
    ::_exit(0);
  }
  ::close(ends[1]);
  std::string text;
  std::array<char, 256> buffer{};
  for (ssize_t got = 0; (got = ::read(ends[0], buffer.data(), buffer.size())) > 0;) {
    text.append(buffer.data(), static_cast<std::size_t>(got));
  }
  ::close(ends[0]);
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT ? text : "";
}

std::vector<std::byte> contents(Disk& disk, FileId file) {
  std::vector<std::byte> bytes(static_cast<std::size_t>(disk.size(file).value()));
  const std::size_t got = disk.read(file, 0, bytes).value();
  SLUICE_ASSERT(got == bytes.size());
  return bytes;
}

}  // namespace sluice::io
