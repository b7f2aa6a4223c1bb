#include "tests/crash/daemon_process.h"

#include <fcntl.h>
#include <grp.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <thread>
#include <utility>

namespace sluice::test {
namespace {

std::string contents(const std::filesystem::path& file, std::uintmax_t from) {
  std::ifstream stream(file, std::ios::binary);
  stream.seekg(static_cast<std::streamoff>(from));
  std::ostringstream text;
  text << stream.rdbuf();
  return text.str();
}

// In the child, between fork and exec.
[[noreturn]] void become(const std::vector<std::string>& command, const Process::Options& options) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);  // a test that dies leaves nothing behind
  if (!options.log.empty()) {
    const int log = ::open(options.log.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    ::dup2(log, STDOUT_FILENO);
    ::dup2(log, STDERR_FILENO);
  }
  if (options.keep_fd >= 0) ::fcntl(options.keep_fd, F_SETFD, 0);
  if (options.uid != static_cast<uid_t>(-1) &&
      (::setgroups(0, nullptr) != 0 || ::setgid(options.uid) != 0 || ::setuid(options.uid) != 0))
    ::_exit(126);
  for (const std::string& entry : options.environment) ::putenv(const_cast<char*>(entry.c_str()));
  std::vector<char*> arguments;
  for (const std::string& argument : command) arguments.push_back(const_cast<char*>(argument.c_str()));
  arguments.push_back(nullptr);
  ::execv(arguments[0], arguments.data());
  ::_exit(127);
}

}  // namespace

bool long_run() {
  const char* value = std::getenv("SLUICE_TEST_LONG");
  return value != nullptr && *value != '\0' && std::string(value) != "0";
}

bool wait_until(const std::function<bool()>& condition) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(kHangSeconds);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > end) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return true;
}

std::uint64_t anonymous_bytes(pid_t pid) {
  std::ifstream status("/proc/" + std::to_string(pid) + "/status");
  for (std::string word; status >> word;) {
    std::uint64_t kilobytes = 0;
    if (word == "RssAnon:" && status >> kilobytes) return kilobytes * 1024;
  }
  return 0;
}

Process Process::start(const std::vector<std::string>& command, const Options& options) {
  Process process;
  process.pid_ = ::fork();
  if (process.pid_ == 0) become(command, options);
  if (process.pid_ < 0) throw std::runtime_error("fork failed");
  return process;
}

Process::Process(Process&& other) noexcept : pid_(std::exchange(other.pid_, -1)) {}
Process& Process::operator=(Process&& other) noexcept {
  if (this != &other) {
    kill();
    pid_ = std::exchange(other.pid_, -1);
  }
  return *this;
}
Process::~Process() { kill(); }

void Process::signal(int number) const {
  if (pid_ > 0) ::kill(pid_, number);
}

std::optional<int> Process::poll(bool stopped) {
  if (pid_ <= 0) return std::nullopt;
  int status = 0;
  const pid_t found = ::waitpid(pid_, &status, WNOHANG | (stopped ? WUNTRACED : 0));
  if (found != pid_) return std::nullopt;
  if (!WIFSTOPPED(status)) pid_ = -1;
  return status;
}

std::optional<int> Process::wait(bool stopped) {
  std::optional<int> status;
  wait_until([&] {
    status = poll(stopped);
    return status.has_value();
  });
  return status;
}

void Process::kill() {
  if (pid_ <= 0) return;
  ::kill(pid_, SIGKILL);
  while (::waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
  }
  pid_ = -1;
}

Client connect_to(const std::string& socket, std::string name) {
  ConnectOptions options;
  options.socket = socket;
  options.client_name = std::move(name);
  options.timeout = std::chrono::seconds(kHangSeconds);
  options.control_timeout = std::chrono::seconds(kHangSeconds);
  auto client = Client::connect(options);
  if (!client) throw std::runtime_error(client.error().message());
  return std::move(*client);
}

TestDaemon::TestDaemon() {
  std::string pattern = std::filesystem::temp_directory_path() / "sluice-test-XXXXXX";
  if (::mkdtemp(pattern.data()) == nullptr) throw std::runtime_error("no temporary directory");
  folder_ = pattern;
  configure("");
}

TestDaemon::~TestDaemon() {
  if (kept_ && process_.running()) stop();  // its child would go on for a moment after a kill
  process_.kill();
  std::error_code ignored;
  std::filesystem::remove_all(folder_, ignored);
}

void TestDaemon::configure(const std::string& toml) { std::ofstream(folder_ / "sluiced.toml") << toml; }

void TestDaemon::launch(const std::vector<std::string>& environment) {
  const std::filesystem::path log = folder_ / "sluiced.log";
  log_start_ = std::filesystem::exists(log) ? std::filesystem::file_size(log) : 0;
  Process::Options options;
  options.environment = environment;
  options.log = log;
  std::vector<std::string> command = below_;
  for (const std::string& argument :
       {std::string(SLUICED_PATH), std::string("--config"), (folder_ / "sluiced.toml").string(),
        std::string("--data-dir"), (folder_ / "data").string(), std::string("--socket"), socket(),
        std::string(kept_ ? "--keeper" : "--no-keeper")})
    command.push_back(argument);
  process_ = Process::start(command, options);
}

bool TestDaemon::wait_ready() {
  bool ready = false;
  wait_until([&] {
    ready = log_since_start().find(" ready ") != std::string::npos;
    return ready || process_.poll().has_value();
  });
  return ready;
}

bool TestDaemon::start(const std::vector<std::string>& environment) {
  launch(environment);
  return wait_ready();
}

int TestDaemon::stop() {
  process_.signal(SIGTERM);
  const std::optional<int> status = process_.wait();
  return status && WIFEXITED(*status) ? WEXITSTATUS(*status) : -1;
}

Client TestDaemon::connect(std::string name) {
  try {
    return connect_to(socket(), std::move(name));
  } catch (const std::runtime_error& error) {
    throw std::runtime_error(std::string(error.what()) + "\n" + log_tail());
  }
}

std::string TestDaemon::log_tail() const {
  const std::filesystem::path log = folder_ / "sluiced.log";
  std::error_code error;
  const std::uintmax_t size = std::filesystem::file_size(log, error);
  return error ? "no log" : "the daemon's log ends with\n" + contents(log, size > 4000 ? size - 4000 : 0);
}

std::string TestDaemon::log_since_start() const { return contents(folder_ / "sluiced.log", log_start_); }

}  // namespace sluice::test
