#include "sdk/cli/interrupt.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>

namespace sluice::cli::interrupt {
namespace {

// relaxed: a flag alone; nothing is published with it. Lock-free, so a signal handler may store it.
std::atomic<bool> flag{false};
static_assert(std::atomic<bool>::is_always_lock_free);
std::atomic<int> pipe_read{-1};
std::atomic<int> pipe_write{-1};

extern "C" void on_signal(int) {
  const int saved = errno;
  flag.store(true, std::memory_order_relaxed);
  // A full pipe is readable already.
  [[maybe_unused]] const auto written = ::write(pipe_write.load(std::memory_order_relaxed), "x", 1);
  errno = saved;
}

}  // namespace

void install() {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC | O_NONBLOCK) == 0) {
    pipe_read.store(ends[0], std::memory_order_relaxed);
    pipe_write.store(ends[1], std::memory_order_relaxed);
  }
  // Without SA_RESTART, so that a write that waits for a stuck reader ends too. Once: the second signal ends the
  // process where it is.
  struct sigaction action {};
  action.sa_handler = on_signal;
  action.sa_flags = static_cast<int>(SA_RESETHAND);
  ::sigaction(SIGINT, &action, nullptr);
  ::sigaction(SIGTERM, &action, nullptr);
  std::signal(SIGPIPE, SIG_IGN);
}

bool requested() { return flag.load(std::memory_order_relaxed); }
int descriptor() { return pipe_read.load(std::memory_order_relaxed); }

void sleep_ms(int ms) {
  pollfd wait{descriptor(), POLLIN, 0};
  ::poll(&wait, 1, ms);
}

}  // namespace sluice::cli::interrupt
