// System calls that fail while the daemon starts: out of descriptors, out of memory. Either it starts all the same, or
// it ends at once with one line that says why and an exit code of its own; and the next start has everything.
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <optional>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "tests/crash/daemon_process.h"
#include "tests/crash/results.h"
#include "tests/faults/evidence.h"
#include "tests/faults/loop_device.h"

namespace sluice::test {
namespace {

using namespace std::chrono_literals;

struct Injected {
  const char* call;
  const char* error_name;
  int error;
};

const std::vector<Injected> kInjected = {
    {"memfd_create", "EMFILE", EMFILE}, {"mmap", "ENOMEM", ENOMEM},           {"openat", "EMFILE", EMFILE},
    {"socket", "EMFILE", EMFILE},       {"bind", "ENOMEM", ENOMEM},           {"listen", "ENOBUFS", ENOBUFS},
    {"ftruncate", "ENOMEM", ENOMEM},    {"fallocate", "ENOMEM", ENOMEM},      {"flock", "ENOLCK", ENOLCK},
    {"fcntl", "EMFILE", EMFILE},        {"io_uring_setup", "ENOMEM", ENOMEM}, {"io_uring_register", "ENOMEM", ENOMEM},
    {"eventfd2", "EMFILE", EMFILE},     {"epoll_create1", "EMFILE", EMFILE},  {"epoll_ctl", "ENOMEM", ENOMEM},
    {"signalfd4", "EMFILE", EMFILE},    {"timerfd_create", "EMFILE", EMFILE}, {"clone3", "EAGAIN", EAGAIN},
    {"pipe2", "EMFILE", EMFILE},        {"accept4", "EMFILE", EMFILE},
};

std::string slurp(const std::filesystem::path& file) {
  std::ifstream stream(file);
  std::ostringstream text;
  text << stream.rdbuf();
  return text.str();
}

std::size_t count_of(const std::string& text, const std::string& word) {
  std::size_t count = 0;
  for (std::size_t at = 0; (at = text.find(word, at)) != std::string::npos; at += word.size()) ++count;
  return count;
}

bool can_trace() {
  try {
    return run_command({"strace", "-c", "true"}).exit_code == 0;
  } catch (const std::exception&) {
    return false;
  }
}

class StartSyscalls : public testing::Test {
 protected:
  // It is not about a disk, and in memory it is quick.
  static void SetUpTestSuite() {
    if (::access("/dev/shm", W_OK) == 0) ::setenv("TMPDIR", "/dev/shm", 0);
  }

  void SetUp() override {
    if (!can_trace()) GTEST_SKIP() << "strace is not there, or may not trace";
    daemon_.configure("[topics]\nsegments_per_file = 1\n");
    ASSERT_TRUE(daemon_.start()) << daemon_.log_tail();
    client_.emplace(daemon_.connect());
    ASSERT_TRUE(create_small_topic(*client_, "orders", Durability::sync, 64 * 1024));
    sender_.emplace(*client_, "orders", 1, 30s);
    ASSERT_TRUE(sender_->send(100));
    ASSERT_TRUE(sender_->flush());
    sender_->settle();
    daemon_.kill();
  }

  std::vector<std::string> traced(const std::string& call, const std::string& inject) const {
    std::vector<std::string> command = {"/usr/bin/strace", "-f", "-qq", "-o", trace_path(), "-e", "trace=" + call};
    if (!inject.empty()) command.insert(command.end(), {"-e", "inject=" + call + ":" + inject});
    return command;
  }
  std::string trace_path() const { return daemon_.folder() / "strace.out"; }

  // How often the call is made before main() has anything to say about it: by the loader, and by constructors.
  std::uint64_t calls_before_start(const std::string& call) const {
    std::vector<std::string> command = traced(call, "");
    command.insert(command.end(), {SLUICED_PATH, "--version"});
    EXPECT_EQ(0, run_command(command).exit_code);
    return count_of(slurp(trace_path()), call + "(");
  }

  // A start of which the n-th of these calls fails, of each thread. False if there were fewer.
  bool start_injected(const Injected& what, std::uint64_t n, Counts& counts) {
    daemon_.run_below(traced(what.call, std::string("error=") + what.error_name + ":when=" + std::to_string(n)));
    daemon_.launch();
    daemon_.run_below({});
    const std::optional<int> ended = ends_or_serves();
    const std::string failed = failed_calls();
    if (failed.empty()) return false;
    ++counts["failed calls"];
    if (ended) {
      ++counts["refused"];
      check_refusal(what, *ended);
    }
    EXPECT_TRUE(daemon_.start()) << daemon_.log_tail();
    if (!HasFailure()) check_content(counts);
    daemon_.kill();
    if (HasFailure()) ADD_FAILURE() << "after " << failed;
    return true;
  }

  // The wait status, if it has ended by itself; one that serves is killed.
  std::optional<int> ends_or_serves() {
    std::optional<int> ended;
    bool ready = false;
    const bool decided = wait_until([&] {
      ended = daemon_.process().poll();
      ready = ready || daemon_.log_since_start().find(" ready ") != std::string::npos;
      if (ended || !ready) return ended.has_value();
      ConnectOptions options;
      options.socket = daemon_.socket();
      options.timeout = options.control_timeout = 1s;
      auto client = Client::connect(options);
      if (!client) return false;
      const auto status = client->status();
      // What is traced would go on when its tracer is killed.
      if (status) ::kill(static_cast<pid_t>(status->pid), SIGKILL);
      return status.has_value();
    });
    EXPECT_TRUE(decided) << "neither serves nor ends\n" << daemon_.log_tail();
    if (!ended) static_cast<void>(daemon_.process().wait());
    return ended;
  }

  std::string failed_calls() const {
    std::istringstream lines(slurp(trace_path()));
    std::string injected;
    for (std::string line; std::getline(lines, line);)
      if (line.find("(INJECTED)") != std::string::npos) injected += line + "\n";
    return injected;
  }

  void check_refusal(const Injected& what, int status) const {
    static const std::set<int> kDocumented = {2, 3, 4, 7};  // sluiced(8); 2: its configuration
    const std::string log = daemon_.log_since_start();
    EXPECT_TRUE(WIFEXITED(status) && kDocumented.contains(WEXITSTATUS(status))) << "wait status " << status;
    // Before it can log it says the same on stderr.
    EXPECT_EQ(1u, count_of(log, " critical ") + count_of(log, "sluiced: ")) << log;
    // Of a thread whose stack cannot be mapped the system says EAGAIN.
    const bool says_why = log.find(std::strerror(what.error)) != std::string::npos ||
                          (what.error == ENOMEM && log.find(std::strerror(EAGAIN)) != std::string::npos);
    EXPECT_TRUE(says_why) << log;
  }

  void check_content(Counts& counts) {
    Client client = daemon_.connect();
    std::uint64_t held = 0;
    EXPECT_TRUE(receipts_hold(client, {&*sender_}, held)) << daemon_.log_tail();
    EXPECT_EQ(100u, held);
    counts["durable receipts"] += held;
  }

  TestDaemon daemon_;
  std::optional<Client> client_;
  std::optional<Sender> sender_;
};

TEST_F(StartSyscalls, EachFailsOnceAndTheNextStartHasEverything) {
  // A round is one call with one error, at each place where a start passes it.
  run_rounds({"failing_start_syscalls", kInjected.size(), 50 * kInjected.size(), 40},
             [&](std::uint64_t seed, Counts& counts) {
               const Injected& what = kInjected[(seed - 1) % kInjected.size()];
               const std::uint64_t so_far = counts["failed calls"];
               const std::uint64_t before = calls_before_start(what.call);
               for (std::uint64_t n = before + 1; start_injected(what, n, counts) && !HasFailure();) ++n;
               std::printf("  %s %s: %llu calls\n", what.call, what.error_name,
                           static_cast<unsigned long long>(counts["failed calls"] - so_far));
               return 1;
             });
}

}  // namespace
}  // namespace sluice::test
