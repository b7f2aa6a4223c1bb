#include "daemon/resolve/child.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <utility>

namespace sluice::resolve {
namespace {

constexpr int kFirstOther = 3;            // descriptor beyond the standard ones
constexpr int kKilledMsMax = 2000;        // that one may take to die
constexpr rlim_t kDescriptorsMax = 1024;  // the daemon has raised its own; programs that use select() know no more

// What the child needs, made before it is, for it may not allocate.
struct Image {
  char* const* argv;
  char* const* environment;
  int null;
  int said;
  pid_t daemon;
  volatile int error = 0;  // from the child: why it could not become the program
};

[[noreturn]] void give_up(Image& image) {
  image.error = errno;
  ::_exit(127);
}

// In the child, which has the daemon's memory until it is another program: system calls alone.
[[noreturn]] __attribute__((noinline)) void become(Image& image) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != image.daemon) ::_exit(127);
  if (::setpgid(0, 0) != 0) give_up(image);
  struct sigaction standard {};
  standard.sa_handler = SIG_DFL;
  for (int signal = 1; signal < NSIG; ++signal) ::sigaction(signal, &standard, nullptr);  // some cannot be set
  for (const auto& [from, to] : {std::pair(image.null, 0), std::pair(image.null, 1), std::pair(image.said, 2)})
    if (::dup2(from, to) < 0) give_up(image);
  if (::syscall(SYS_close_range, kFirstOther, ~0U, 0) != 0) give_up(image);
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur > kDescriptorsMax) {
    limit.rlim_cur = kDescriptorsMax;
    ::setrlimit(RLIMIT_NOFILE, &limit);
  }
  if (::chdir("/") != 0) give_up(image);
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  ::execve(image.argv[0], image.argv, image.environment);
  give_up(image);
}

// vfork and not fork: a copy of the address space would hold the sessions' mappings, and with them their locks, which
// are the proof that a client lives; and copying it would hold up the bus thread's page faults.
pid_t start_image(Image& image) {
  sigset_t all, before;
  ::sigfillset(&all);
  // A handler of the daemon's must not run in the child, on the memory of both.
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  const pid_t pid = ::vfork();
  if (pid == 0) become(image);
  const int error = errno;
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  errno = error;
  return pid;
}

std::vector<char*> pointers(const std::vector<std::string>& texts) {
  std::vector<char*> all;
  for (const std::string& text : texts) all.push_back(const_cast<char*>(text.c_str()));
  all.push_back(nullptr);
  return all;
}

// Beyond the standard descriptors, so that putting one of those in its place takes no other's.
UniqueFd beyond_standard(UniqueFd fd) {
  if (fd.get() >= kFirstOther || !fd) return fd;
  return UniqueFd(::fcntl(fd.get(), F_DUPFD_CLOEXEC, kFirstOther));
}

}  // namespace

Result<Child> Child::start(const std::vector<std::string>& command, const std::vector<std::string>& environment) {
  const std::string doing = "running " + command.front();
  std::array<int, 2> ends{-1, -1};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) return fail(system_error(errno, doing + ": making a pipe"));
  UniqueFd said(ends[0]);
  const UniqueFd says = beyond_standard(UniqueFd(ends[1]));
  const UniqueFd null = beyond_standard(UniqueFd(::open("/dev/null", O_RDWR | O_CLOEXEC)));
  // Of this end alone: the program's end blocks, as it expects.
  if (!says || !null || ::fcntl(said.get(), F_SETFL, O_NONBLOCK) != 0)
    return fail(system_error(errno, doing + ": making its descriptors"));
  const std::vector<char*> argv = pointers(command);
  const std::vector<char*> variables = pointers(environment);
  Image image{argv.data(), variables.data(), null.get(), says.get(), ::getpid()};
  const pid_t pid = start_image(image);
  if (pid < 0) return fail(system_error(errno, doing));
  // The process is not reaped, so its number is its own.
  Child child(pid, UniqueFd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0))), std::move(said));
  const int no_exit_fd = errno;
  if (image.error != 0) return fail(system_error(image.error, doing));
  if (!child.exit_) return fail(system_error(no_exit_fd, doing + ": watching it"));
  return child;
}

Child::Child(Child&& other) noexcept
    : pid_(std::exchange(other.pid_, -1)), exit_(std::move(other.exit_)), said_(std::move(other.said_)) {}

Child::~Child() {
  if (pid_ < 0) return;
  kill();
  // A disk or network that hangs keeps even a killed one: it is left to whoever reaps orphans.
  pollfd ended{exit_.get(), POLLIN, 0};
  if (!exit_ || ::poll(&ended, 1, kKilledMsMax) > 0) reap();
}

void Child::kill() {
  if (pid_ > 0) ::kill(-pid_, SIGKILL);
}

int Child::reap() {
  siginfo_t ended{};
  // Not reaped yet: until the group's first process is, no other group has its number.
  while (::waitid(P_PID, static_cast<id_t>(pid_), &ended, WEXITED | WNOWAIT) != 0 && errno == EINTR) {
  }
  kill();
  int status = 0;
  while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
  }
  pid_ = -1;
  return status;
}

}  // namespace sluice::resolve
