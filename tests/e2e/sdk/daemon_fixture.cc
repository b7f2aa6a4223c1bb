#include "tests/e2e/sdk/daemon_fixture.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <thread>

extern char** environ;

namespace sluice::test {
namespace {
using std::chrono::milliseconds;
constexpr milliseconds kPatience{30'000};
constexpr milliseconds kPoll{5};
}  // namespace

DaemonFixture::DaemonFixture(std::vector<std::string> arguments) : arguments_(std::move(arguments)) {
  const char* base = ::getenv("TMPDIR");
  std::string pattern = std::string(base != nullptr && *base != '\0' ? base : "/tmp") + "/sluice-e2e-XXXXXX";
  if (::mkdtemp(pattern.data()) == nullptr) throw std::runtime_error("making a temporary directory: " + pattern);
  directory_ = pattern;
  socket_ = directory_ + "/s";
  std::filesystem::create_directory(data_directory());
}

DaemonFixture::~DaemonFixture() {
  kill();
  std::error_code ignored;
  std::filesystem::remove_all(directory_, ignored);
}

bool DaemonFixture::start() {
  std::vector<std::string> words = {SLUICED, "--data-dir", data_directory(), "--socket", socket_};
  words.insert(words.end(), arguments_.begin(), arguments_.end());
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  const std::string log_path = directory_ + "/log";
  const std::size_t log_before = log().size();
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_addopen(&actions, 1, log_path.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0644);
  ::posix_spawn_file_actions_adddup2(&actions, 1, 2);
  const int error = ::posix_spawn(&pid_, SLUICED, &actions, nullptr, argv.data(), environ);
  ::posix_spawn_file_actions_destroy(&actions);
  if (error != 0) {
    pid_ = -1;
    return false;
  }
  for (milliseconds waited{0}; waited < kPatience; waited += kPoll) {
    if (log().find("ready", log_before) != std::string::npos) return true;
    if (wait_for_exit(milliseconds(0)) >= 0) return false;
    std::this_thread::sleep_for(kPoll);
  }
  return false;
}

int DaemonFixture::wait_for_exit(milliseconds timeout) {
  for (milliseconds waited{0};; waited += kPoll) {
    int status = 0;
    if (::waitpid(pid_, &status, WNOHANG) == pid_) {
      pid_ = -1;
      return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    }
    if (waited >= timeout) return -1;
    std::this_thread::sleep_for(kPoll);
  }
}

int DaemonFixture::stop() {
  if (pid_ < 0) return -1;
  ::kill(pid_, SIGTERM);
  const int status = wait_for_exit(kPatience);
  if (status < 0) kill();
  return status;
}

void DaemonFixture::kill() {
  if (pid_ < 0) return;
  ::kill(pid_, SIGKILL);
  ::waitpid(pid_, nullptr, 0);
  pid_ = -1;
}

std::string DaemonFixture::log() const {
  std::ifstream file(directory_ + "/log");
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

}  // namespace sluice::test
