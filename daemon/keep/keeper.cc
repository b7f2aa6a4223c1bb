#include "daemon/keep/keeper.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <optional>
#include <string_view>
#include <utility>

#include <spdlog/spdlog.h>

#include "daemon/keep/region_keeper.h"
#include "shm/base/clock.h"
#include "shm/base/fd.h"
#include "shm/base/result.h"

namespace sluice::keep {
namespace {

constexpr std::size_t kMessageSizeMax = 4096;
constexpr std::size_t kDescriptorsPerMessage = 253;  // the kernel's limit
constexpr int kFirstPassedFd = 3;                    // SD_LISTEN_FDS_START
constexpr std::uint64_t kDescriptorsOwn = 64;        // beside those that it holds
// A daemon that dies so soon after it was ready is started again a little later.
constexpr std::uint64_t kQuickDeathNs = 20'000'000;
constexpr std::uint32_t kQuickDeathsMax = 10;
constexpr std::uint64_t kRestartPauseNs = 1'000'000'000;

struct Held {
  std::string name;
  UniqueFd fd;
};

// What a notification says; fields of systemd's that mean nothing here are passed over.
struct Notification {
  bool store = false, remove = false, ready = false, stopping = false, watchdog = false;
  std::string name;
};

Notification parse(std::string_view text) {
  Notification said;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (line == "FDSTORE=1") said.store = true;
    if (line == "FDSTOREREMOVE=1") said.remove = true;
    if (line == "READY=1") said.ready = true;
    if (line == "STOPPING=1") said.stopping = true;
    if (line == "WATCHDOG=1") said.watchdog = true;
    if (line.starts_with("FDNAME=")) said.name = line.substr(7);
  }
  return said;
}

class Keeper {
 public:
  explicit Keeper(const KeeperOptions& options) : options_(options) {}

  Status open();
  int run();

 private:
  Status listen();
  Status start();
  [[noreturn]] void become_daemon(pid_t keeper);
  void set_environment(pid_t daemon) const;
  void wait_for_events();
  void read_signals();
  void read_notifications();
  bool read_notification();
  void take(std::string_view text, std::vector<UniqueFd> fds);
  void reap();
  void on_end(int status);
  void end(int exit_code);
  std::uint64_t next_deadline_ns() const;

  std::uint64_t capacity_ = 0;  // descriptors
  const KeeperOptions& options_;
  UniqueFd notify_;
  std::string notify_name_;  // as NOTIFY_SOCKET has it
  UniqueFd signals_;
  std::deque<Held> held_;
  pid_t daemon_ = -1;
  bool was_ever_ready_ = false;
  bool stopping_ = false;
  std::uint64_t ready_ns_ = 0;     // when this daemon was; 0: not yet
  std::uint64_t heard_ns_ = 0;     // its last sign of life
  bool watched_ = false;           // it owes signs of life
  std::uint64_t start_at_ns_ = 0;  // there is none: when the next one is to be started
  std::uint32_t starts_failed_ = 0;
  std::uint32_t quick_deaths_ = 0;
  std::optional<int> exit_code_;
};

Status Keeper::open() {
  ::prctl(PR_SET_NAME, "sluice-keeper");
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) == 0) {
    const rlimit raised{limit.rlim_max, limit.rlim_max};
    if (::setrlimit(RLIMIT_NOFILE, &raised) == 0) limit = raised;
  }
  // A child has each of them twice while they are put where it looks for them.
  capacity_ = std::min<std::uint64_t>(kHeldMax,
                                      (std::max<std::uint64_t>(limit.rlim_cur, kDescriptorsOwn) - kDescriptorsOwn) / 2);
  sigset_t set;
  sigemptyset(&set);
  for (const int signal : {SIGTERM, SIGINT, SIGHUP, SIGCHLD}) sigaddset(&set, signal);
  ::sigprocmask(SIG_BLOCK, &set, nullptr);
  signals_ = UniqueFd(::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!signals_) return fail(system_error(errno, "making the keeper's signalfd"));
  return listen();
}

// A name that the kernel chooses, in the abstract namespace: nothing is left behind in a file system.
Status Keeper::listen() {
  notify_ = UniqueFd(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  socklen_t size = sizeof(sa_family_t);
  const int on = 1;
  if (!notify_ || ::bind(notify_.get(), reinterpret_cast<const sockaddr*>(&address), size) != 0 ||
      ::setsockopt(notify_.get(), SOL_SOCKET, SO_PASSCRED, &on, sizeof on) != 0)
    return fail(system_error(errno, "making the keeper's socket"));
  size = sizeof address;
  if (::getsockname(notify_.get(), reinterpret_cast<sockaddr*>(&address), &size) != 0)
    return fail(system_error(errno, "asking for the name of the keeper's socket"));
  notify_name_ = "@" + std::string(address.sun_path + 1, size - sizeof(sa_family_t) - 1);
  return {};
}

// ---- the daemon

Status Keeper::start() {
  start_at_ns_ = 0;
  ready_ns_ = 0;
  watched_ = false;
  heard_ns_ = monotonic_ns();
  const pid_t keeper = ::getpid();
  daemon_ = ::fork();
  if (daemon_ == 0) become_daemon(keeper);
  if (daemon_ < 0) return fail(system_error(errno, "starting the daemon"));
  return {};
}

void Keeper::set_environment(pid_t daemon) const {
  std::string names;
  for (const Held& held : held_) names += (names.empty() ? "" : ":") + held.name;
  ::setenv("NOTIFY_SOCKET", notify_name_.c_str(), 1);
  ::setenv("FDSTORE", std::to_string(capacity_).c_str(), 1);
  ::setenv("WATCHDOG_USEC", std::to_string(options_.watchdog_us).c_str(), 1);
  ::setenv("WATCHDOG_PID", std::to_string(daemon).c_str(), 1);
  ::setenv("LISTEN_PID", std::to_string(daemon).c_str(), 1);
  ::setenv("LISTEN_FDS", std::to_string(held_.size()).c_str(), 1);
  ::setenv("LISTEN_FDNAMES", names.c_str(), 1);
}

// In the child: descriptors to where sd_listen_fds(3) looks for them, then the program.
void Keeper::become_daemon(pid_t keeper) {
  // Whatever the keeper dies of, the daemon must not go on without it: it stops, and loses nothing.
  ::prctl(PR_SET_PDEATHSIG, SIGTERM);
  if (::getppid() != keeper) ::_exit(0);
  set_environment(::getpid());
  const int passed_end = kFirstPassedFd + static_cast<int>(held_.size());
  std::vector<int> aside;
  for (const Held& held : held_) aside.push_back(::fcntl(held.fd.get(), F_DUPFD_CLOEXEC, passed_end));
  bool passed = std::find(aside.begin(), aside.end(), -1) == aside.end();
  for (std::size_t i = 0; passed && i < aside.size(); ++i)
    passed = ::dup2(aside[i], kFirstPassedFd + static_cast<int>(i)) >= 0;
  if (!passed) {
    std::fprintf(stderr, "sluice-keeper: descriptors cannot be passed on: %s\n", std::strerror(errno));
    ::_exit(4);
  }
  sigset_t none;
  sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  std::vector<char*> argv;
  for (const std::string& argument : options_.arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  ::execv(options_.binary.c_str(), argv.data());
  std::fprintf(stderr, "sluice-keeper: %s cannot be run: %s\n", options_.binary.c_str(), std::strerror(errno));
  ::_exit(4);
}

// ---- what it says

void Keeper::read_notifications() {
  while (read_notification()) {
  }
}

bool Keeper::read_notification() {
  std::array<char, kMessageSizeMax> text;
  alignas(cmsghdr) std::array<char, CMSG_SPACE(kDescriptorsPerMessage * sizeof(int)) + CMSG_SPACE(sizeof(ucred))> space;
  iovec data{text.data(), text.size()};
  msghdr message{};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  message.msg_control = space.data();
  message.msg_controllen = space.size();
  const ssize_t size = ::recvmsg(notify_.get(), &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
  if (size < 0) return errno == EINTR;
  if ((message.msg_flags & MSG_CTRUNC) != 0) spdlog::error("a descriptor that the daemon gave did not arrive");
  std::vector<UniqueFd> fds;
  pid_t sender = 0;
  for (cmsghdr* part = CMSG_FIRSTHDR(&message); part != nullptr; part = CMSG_NXTHDR(&message, part)) {
    if (part->cmsg_level != SOL_SOCKET) continue;
    const auto* bytes = CMSG_DATA(part);
    if (part->cmsg_type == SCM_RIGHTS) {
      for (std::size_t at = 0; at + sizeof(int) <= part->cmsg_len - CMSG_LEN(0); at += sizeof(int)) {
        int fd = -1;
        std::memcpy(&fd, bytes + at, sizeof fd);
        fds.emplace_back(fd);
      }
    } else if (part->cmsg_type == SCM_CREDENTIALS) {
      ucred credentials{};
      std::memcpy(&credentials, bytes, sizeof credentials);
      sender = credentials.pid;
    }
  }
  // The descriptor of a barrier is closed with `fds`: that is its answer.
  if (sender == daemon_ && size > 0) take({text.data(), static_cast<std::size_t>(size)}, std::move(fds));
  return true;
}

void Keeper::take(std::string_view text, std::vector<UniqueFd> fds) {
  const Notification said = parse(text);
  heard_ns_ = monotonic_ns();
  if (said.ready) {
    ready_ns_ = heard_ns_;
    watched_ = true;
    starts_failed_ = 0;
    if (!std::exchange(was_ever_ready_, true)) ::sd_notify(0, "READY=1");  // to a service manager above, if any
  }
  if (said.stopping) watched_ = false;
  if (said.watchdog) ::sd_notify(0, "WATCHDOG=1");
  if (said.store)
    for (UniqueFd& fd : fds)
      if (held_.size() < capacity_) held_.push_back({said.name, std::move(fd)});
  if (said.remove) std::erase_if(held_, [&](const Held& held) { return held.name == said.name; });
}

// ---- its end

void Keeper::reap() {
  int status = 0;
  while (daemon_ > 0 && ::waitpid(daemon_, &status, WNOHANG) == daemon_) {
    read_notifications();  // what it gave just before
    daemon_ = -1;
    on_end(status);
  }
  while (::waitpid(-1, nullptr, WNOHANG) > 0) {
  }  // orphans, where the keeper is the first process of a container
}

void Keeper::on_end(int status) {
  const bool exited = WIFEXITED(status);
  const int code = exited ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  if (stopping_) return end(exited ? code : 1);
  if (!was_ever_ready_) return end(code);
  if (ready_ns_ == 0 && ++starts_failed_ >= kStartsFailedMax) {
    spdlog::critical("keeper gives up: the daemon did not get ready in {} starts, its memory goes exit_code={}",
                     starts_failed_, code);
    return end(code);
  }
  const std::uint64_t now = monotonic_ns();
  quick_deaths_ = ready_ns_ != 0 && now - ready_ns_ > kQuickDeathNs ? 0 : quick_deaths_ + 1;
  const bool pause = quick_deaths_ > kQuickDeathsMax || starts_failed_ > 1;
  spdlog::warn("daemon ended, starting it again {}={} held={}", exited ? "exit_code" : "signal",
               exited ? code : WTERMSIG(status), held_.size());
  start_at_ns_ = now + (pause ? kRestartPauseNs : 0);
}

// What it had bound is not needed any more, and nothing would answer there.
void Keeper::end(int exit_code) {
  exit_code_ = exit_code;
  for (const Held& held : held_) {
    sockaddr_un address{};
    socklen_t size = sizeof address;
    if (held.name != kListenName || ::getsockname(held.fd.get(), reinterpret_cast<sockaddr*>(&address), &size) != 0)
      continue;
    if (address.sun_family == AF_UNIX && size > sizeof(sa_family_t) && address.sun_path[0] == '/')
      ::unlink(address.sun_path);
  }
}

// ---- events

void Keeper::read_signals() {
  signalfd_siginfo info{};
  bool child = false;
  while (::read(signals_.get(), &info, sizeof info) == sizeof info) {
    const auto signal = static_cast<int>(info.ssi_signo);
    if (signal == SIGCHLD) {
      child = true;
      continue;
    }
    stopping_ |= signal != SIGHUP;
    if (daemon_ > 0) ::kill(daemon_, signal);
  }
  if (child) reap();
  if (stopping_ && daemon_ < 0 && !exit_code_) end(0);
}

std::uint64_t Keeper::next_deadline_ns() const {
  if (daemon_ < 0) return start_at_ns_;
  return !watched_ ? UINT64_MAX : heard_ns_ + options_.watchdog_us * 1000;
}

void Keeper::wait_for_events() {
  const std::uint64_t now = monotonic_ns();
  const std::uint64_t deadline = next_deadline_ns();
  int timeout_ms = -1;
  if (deadline != UINT64_MAX) timeout_ms = deadline <= now ? 0 : static_cast<int>((deadline - now) / 1'000'000 + 1);
  std::array<pollfd, 2> waiting{pollfd{signals_.get(), POLLIN, 0}, pollfd{notify_.get(), POLLIN, 0}};
  if (::poll(waiting.data(), waiting.size(), timeout_ms) > 0) {
    read_notifications();
    read_signals();
    return;
  }
  if (daemon_ > 0 && watched_ && monotonic_ns() >= heard_ns_ + options_.watchdog_us * 1000) {
    spdlog::error("daemon gives no sign of life, killing it pid={}", daemon_);
    ::kill(daemon_, SIGKILL);
    heard_ns_ = monotonic_ns();
  }
}

int Keeper::run() {
  while (!exit_code_) {
    if (daemon_ < 0 && monotonic_ns() >= start_at_ns_) {
      if (auto started = start(); !started) {
        spdlog::critical("{}", started.error().message());
        return 4;
      }
    }
    wait_for_events();
  }
  return *exit_code_;
}

}  // namespace

int run_keeper(const KeeperOptions& options) {
  Keeper keeper(options);
  if (auto opened = keeper.open(); !opened) {
    spdlog::critical("{}", opened.error().message());
    return 4;
  }
  return keeper.run();
}

}  // namespace sluice::keep
