#include "tests/faults/loop_device.h"

#include <fcntl.h>
#include <linux/loop.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <string_view>
#include <utility>

#include "tests/crash/daemon_process.h"

namespace sluice::test {
namespace {

constexpr int kLoopTriesMax = 64;  // others take free devices at the same time
constexpr int kUnmountTriesMax = 100;
constexpr useconds_t kUnmountRetryMicroseconds = 20'000;

[[noreturn]] void throw_errno(const std::string& what) {
  throw std::runtime_error(what + " failed: " + std::strerror(errno));
}

// Where the system keeps programs, also those for root.
std::string find_program(const std::string& name) {
  if (name.find('/') != std::string::npos) return name;
  for (const char* folder : {"/usr/local/bin/", "/usr/bin/", "/bin/", "/usr/local/sbin/", "/usr/sbin/", "/sbin/"})
    if (::access((folder + name).c_str(), X_OK) == 0) return folder + name;
  return {};
}

}  // namespace

std::string why_no_file_systems() {
  if (::geteuid() != 0) return "only root can attach loop devices and mount file systems";
  if (::access("/dev/loop-control", R_OK | W_OK) != 0) return "there are no loop devices (/dev/loop-control)";
  if (find_program("mkfs.ext4").empty()) return "mkfs.ext4 is not installed (e2fsprogs)";
  const UniqueFd control(::open("/dev/loop-control", O_RDWR | O_CLOEXEC));
  if (!control || ::ioctl(control.get(), LOOP_CTL_GET_FREE) < 0)
    return std::string("the system gives no loop device: ") + std::strerror(errno);
  return {};
}

void enter_private_mounts() {
  static bool entered = false;
  if (std::exchange(entered, true)) return;
  if (::unshare(CLONE_NEWNS) != 0) throw_errno("making a mount namespace");
  if (::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) throw_errno("making the mounts private");
}

CommandResult run_command(std::vector<std::string> command) {
  const std::string program = find_program(command[0]);
  if (program.empty()) throw std::runtime_error(command[0] + " is not installed");
  command[0] = program;
  const UniqueFd output(::memfd_create("output", MFD_CLOEXEC));
  Process::Options options;
  options.log = "/proc/" + std::to_string(::getpid()) + "/fd/" + std::to_string(output.get());
  Process process = Process::start(command, options);
  CommandResult result;
  if (const auto status = process.wait(); status && WIFEXITED(*status)) result.exit_code = WEXITSTATUS(*status);
  std::ifstream stream(options.log);
  std::ostringstream text;
  text << stream.rdbuf();
  result.output = text.str();
  return result;
}

LoopDevice::LoopDevice(int backing) {
  const UniqueFd control(::open("/dev/loop-control", O_RDWR | O_CLOEXEC));
  if (!control) throw_errno("opening /dev/loop-control");
  loop_config config{};
  config.fd = static_cast<__u32>(backing);
  config.info.lo_flags = LO_FLAGS_AUTOCLEAR;
  for (int attempt = 0; attempt < kLoopTriesMax; ++attempt) {
    const int number = ::ioctl(control.get(), LOOP_CTL_GET_FREE);
    if (number < 0) throw_errno("finding a free loop device");
    path_ = "/dev/loop" + std::to_string(number);
    fd_ = UniqueFd(::open(path_.c_str(), O_RDWR | O_CLOEXEC));
    if (!fd_) throw_errno("opening " + path_);
    if (::ioctl(fd_.get(), LOOP_CONFIGURE, &config) == 0) return;
    if (errno != EBUSY) throw_errno("attaching " + path_);
  }
  throw std::runtime_error("attaching a loop device failed: others took every free one");
}

LoopDevice::~LoopDevice() {
  // Where a file system is still mounted it is cleared with that.
  if (fd_) static_cast<void>(::ioctl(fd_.get(), LOOP_CLR_FD));
}

unsigned LoopDevice::in_flight() const {
  const std::filesystem::path name = std::filesystem::path(path_).filename();
  std::ifstream file("/sys/block" / name / "inflight");
  unsigned reads = 0, writes = 0;
  file >> reads >> writes;
  return reads + writes;
}

void make_ext4(const std::string& device) {
  const CommandResult made =
      run_command({"mkfs.ext4", "-q", "-F", "-E", "nodiscard,lazy_itable_init=0,lazy_journal_init=0", device});
  if (made.exit_code != 0) throw std::runtime_error("mkfs.ext4 " + device + " failed: " + made.output);
}

Mount::Mount(const std::string& source, std::filesystem::path folder, As as) : folder_(std::move(folder)) {
  std::filesystem::create_directories(folder_);
  const unsigned long flags = as == As::bind ? MS_BIND : MS_NOATIME;
  if (::mount(source.c_str(), folder_.c_str(), "ext4", flags, nullptr) != 0)
    throw_errno("mounting " + source + " on " + folder_.string());
}

// A killed process's last requests keep it busy for a moment.
Mount::~Mount() {
  for (int attempt = 0; attempt < kUnmountTriesMax; ++attempt) {
    if (::umount2(folder_.c_str(), 0) == 0 || errno != EBUSY) return;
    ::usleep(kUnmountRetryMicroseconds);
  }
  ::umount2(folder_.c_str(), MNT_DETACH);
}

}  // namespace sluice::test
