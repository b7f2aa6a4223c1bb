// A daemon of a test's own, in a temporary directory, and other processes that a test starts and kills.
//
// Owner: the test that made it; one thread. Everything is ended by its pid, and the directory is removed, in the
// destructors. Nothing here asserts how long something takes: kHangSeconds only ends a test that hangs.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "sluice/sluice.h"

namespace sluice::test {

inline constexpr int kHangSeconds = 120;

// SLUICE_TEST_LONG=1: the long versions.
bool long_run();

// Looks every millisecond until it is so; false after kHangSeconds.
bool wait_until(const std::function<bool()>& condition);

// Anonymous memory of a process, bytes: what it shares with others is not its own.
std::uint64_t anonymous_bytes(pid_t pid);

// A process started with fork and exec; killed when it goes out of scope, and when the thread that started it ends.
class Process {
 public:
  Process() = default;
  // `environment` entries are "NAME=value" and come on top of this process's own. `log`: where stdout and stderr go.
  // `keep_fd` stays open in the child. `uid` other than -1: it runs as that user and group, without any further groups.
  struct Options {
    std::vector<std::string> environment;
    std::string log;
    int keep_fd = -1;
    uid_t uid = static_cast<uid_t>(-1);
  };
  static Process start(const std::vector<std::string>& command, const Options& options);
  static Process start(const std::vector<std::string>& command) { return start(command, Options()); }
  Process(Process&& other) noexcept;
  Process& operator=(Process&& other) noexcept;
  ~Process();

  pid_t pid() const { return pid_; }
  bool running() const { return pid_ > 0; }
  void signal(int number) const;
  // The wait status if it has ended (or, with `stopped`, was stopped); nothing if not yet. Forgets a process that
  // ended.
  std::optional<int> poll(bool stopped = false);
  // As poll(), waiting; nothing after kHangSeconds.
  std::optional<int> wait(bool stopped = false);
  void kill();  // SIGKILL, and waits for it

 private:
  pid_t pid_ = -1;
};

// A connection that waits as long as a test may hang. Throws where there is none.
Client connect_to(const std::string& socket, std::string name);

class TestDaemon {
 public:
  TestDaemon();
  ~TestDaemon();
  TestDaemon(const TestDaemon&) = delete;
  TestDaemon& operator=(const TestDaemon&) = delete;

  // From the next start on: the process is a keeper, and the daemon its child.
  void use_keeper() { kept_ = true; }
  // From the next start on: the command is this one's arguments, as for a tracer. process() is then that one.
  void run_below(std::vector<std::string> command) { below_ = std::move(command); }
  // Written to the configuration file that every start names.
  void configure(const std::string& toml);
  // Starts sluiced and waits until it says that it is ready; false if it ended instead (see log_tail()).
  bool start(const std::vector<std::string>& environment = {});
  // The same without waiting for it.
  void launch(const std::vector<std::string>& environment = {});
  bool wait_ready();
  void kill() { process_.kill(); }
  // SIGTERM; the exit code, or -1.
  int stop();
  Process& process() { return process_; }

  Client connect(std::string name = "test");
  const std::filesystem::path& folder() const { return folder_; }
  std::string socket() const { return folder_ / "bus.sock"; }
  std::string log_tail() const;
  // What the process that was started last has logged.
  std::string log_since_start() const;

 private:
  std::filesystem::path folder_;
  Process process_;
  std::uintmax_t log_start_ = 0;
  bool kept_ = false;
  std::vector<std::string> below_;
};

}  // namespace sluice::test
