// The keeper over a daemon that is none: this program, started again with SLUICE_FAKE_DAEMON naming a file that it
// writes down in what befell it.
#include "daemon/keep/keeper.h"

#include <sys/mman.h>
#include <sys/wait.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "shm/base/fd.h"

namespace sluice::keep {
namespace {

constexpr const char* kFile = "SLUICE_FAKE_DAEMON";
constexpr std::uint64_t kWatchdogUs = 500'000;

void note(const std::string& line) { std::ofstream(std::getenv(kFile), std::ios::app) << line << std::endl; }

// The first one gives a descriptor away and hangs; the next one says that it has got it, and lives until it is stopped.
[[noreturn]] void be_daemon() {
  static volatile std::sig_atomic_t stopped = 0;
  std::signal(SIGTERM, [](int) { stopped = 1; });
  if (::sd_listen_fds(1) <= 0) {
    const UniqueFd memory(::memfd_create("kept", MFD_CLOEXEC));
    const int fd = memory.get();
    ::sd_pid_notify_with_fds(0, 0, "FDSTORE=1\nFDNAME=memory", &fd, 1);
    ::sd_notify(0, "READY=1");
    note("hangs");
    ::raise(SIGSTOP);
    note("went on");  // it may not
    ::_exit(1);
  }
  note("started again");
  ::sd_notify(0, "READY=1");
  while (stopped == 0) {
    ::sd_notify(0, "WATCHDOG=1");
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  note("stopped");
  ::_exit(0);
}

const bool kIsDaemon = [] {
  if (std::getenv(kFile) != nullptr) be_daemon();
  return false;
}();

class KeeperTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_FALSE(kIsDaemon);
    std::string pattern = std::filesystem::temp_directory_path() / "sluice-keeper-XXXXXX";
    ASSERT_NE(nullptr, ::mkdtemp(pattern.data()));
    folder_ = pattern;
    file_ = folder_ / "daemon";
  }
  void TearDown() override {
    if (keeper_ > 0) {
      ::kill(keeper_, SIGKILL);
      ::waitpid(keeper_, nullptr, 0);
    }
    std::filesystem::remove_all(folder_);
  }

  void start(std::uint64_t watchdog_us) {
    keeper_ = ::fork();
    if (keeper_ != 0) return;
    ::setenv(kFile, file_.c_str(), 1);
    ::_exit(run_keeper({std::filesystem::read_symlink("/proc/self/exe"), {"fake-daemon"}, watchdog_us}));
  }

  std::vector<std::string> lines() const {
    std::ifstream stream(file_);
    std::vector<std::string> all;
    for (std::string line; std::getline(stream, line);) all.push_back(line);
    return all;
  }

  bool wait_for_lines(std::size_t count) const {
    constexpr int kTriesMax = 60'000;
    for (int i = 0; i < kTriesMax && lines().size() < count; ++i)
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    return lines().size() >= count;
  }

  std::filesystem::path folder_, file_;
  pid_t keeper_ = -1;
};

TEST_F(KeeperTest, ADaemonThatHangsIsReplacedAndTheNextOneGetsWhatItGaveAway) {
  start(kWatchdogUs);
  ASSERT_TRUE(wait_for_lines(2));
  EXPECT_EQ((std::vector<std::string>{"hangs", "started again"}), lines());
  ASSERT_EQ(0, ::kill(keeper_, SIGTERM));
  int status = 0;
  ASSERT_EQ(keeper_, ::waitpid(keeper_, &status, 0));
  keeper_ = -1;
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  EXPECT_EQ((std::vector<std::string>{"hangs", "started again", "stopped"}), lines());
}

}  // namespace
}  // namespace sluice::keep
