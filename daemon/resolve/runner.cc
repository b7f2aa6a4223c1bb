#include "daemon/resolve/runner.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <optional>
#include <string_view>
#include <utility>

#include "shm/base/clock.h"
#include "shm/base/units.h"

namespace sluice::resolve {
namespace {

constexpr std::size_t kReadSize = 4096;
constexpr std::size_t kReadsMax = 16;  // of one process in one turn
constexpr std::string_view kPathDefault = "PATH=/usr/local/bin:/usr/bin:/bin";

// Between the daemon and who keeps it, or for this run to say.
bool is_private(std::string_view variable) {
  for (const std::string_view prefix : {"SLUICE_", "LISTEN_", "WATCHDOG_", "NOTIFY_SOCKET=", "FDSTORE="})
    if (variable.starts_with(prefix)) return true;
  return false;
}

std::vector<std::string> common_environment(const std::string& socket) {
  std::vector<std::string> all;
  bool has_path = false;
  for (char** variable = environ; variable != nullptr && *variable != nullptr; ++variable) {
    if (is_private(*variable)) continue;
    all.emplace_back(*variable);
    has_path |= all.back().starts_with("PATH=");
  }
  if (!has_path) all.emplace_back(kPathDefault);
  all.push_back("SLUICE_SOCKET=" + socket);
  return all;
}

// Keeps the beginning, and drops the rest, so that nobody waits for room. False: there is no more to come.
bool read_said(int fd, std::string& said) {
  std::array<char, kReadSize> bytes;
  for (std::size_t reads = 0; reads < kReadsMax; ++reads) {
    const ssize_t size = ::read(fd, bytes.data(), bytes.size());
    if (size <= 0) return size < 0 && (errno == EAGAIN || errno == EINTR);
    said.append(bytes.data(), std::min(static_cast<std::size_t>(size), kSaidSizeMax - said.size()));
  }
  return true;
}

// For the log: one line, and nothing that a terminal would obey.
std::string first_line(std::string_view said) {
  std::string line(said.substr(0, said.find('\n')));
  for (char& c : line)
    if (static_cast<unsigned char>(c) < ' ' || c == '\x7f') c = '?';
  return line;
}

std::optional<Verdict> verdict_of(int status) {
  if (!WIFEXITED(status)) return std::nullopt;
  switch (WEXITSTATUS(status)) {
    case kExitCommit: return Verdict::commit;
    case kExitRollback: return Verdict::rollback;
    case kExitUnknown: return Verdict::unknown;
    default: return std::nullopt;
  }
}

std::string text_of(int status) {
  if (WIFEXITED(status)) return "exit code " + std::to_string(WEXITSTATUS(status)) + ", which is no answer";
  return "ended by signal " + std::to_string(WTERMSIG(status)) + " (" + ::strsignal(WTERMSIG(status)) + ")";
}

}  // namespace

Runner::Runner(const std::vector<core::ResolverConfig>& resolvers, const std::string& socket,
               std::function<void()> on_answer)
    : environment_(common_environment(socket)),
      on_answer_(std::move(on_answer)),
      wake_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  for (const core::ResolverConfig& resolver : resolvers) by_group_.emplace(resolver.group, resolver);
}

Result<std::unique_ptr<Runner>> Runner::create(const std::vector<core::ResolverConfig>& resolvers,
                                               const std::string& socket, std::function<void()> on_answer) {
  std::unique_ptr<Runner> runner(new Runner(resolvers, socket, std::move(on_answer)));
  if (!runner->wake_) return fail(system_error(errno, "making the descriptor of the thread that runs resolvers"));
  return runner;
}

// ---- from other threads

void Runner::ask(Question question) {
  {
    const std::lock_guard lock(mutex_);
    inbox_.push_back(std::move(question));
  }
  const std::uint64_t one = 1;
  [[maybe_unused]] const ssize_t size = ::write(wake_.get(), &one, sizeof one);  // full: it is awake
}

std::vector<Answer> Runner::take_answers() {
  const std::lock_guard lock(mutex_);
  return std::exchange(answers_, {});
}

void Runner::stop() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  const std::uint64_t one = 1;
  [[maybe_unused]] const ssize_t size = ::write(wake_.get(), &one, sizeof one);
}

// ---- the runner's thread

void Runner::run() {
  while (take_questions()) wait();
  // All at once, then one after the other: none is waited for while another lives.
  for (const auto& run : runs_) run->child.kill();
  runs_.clear();
}

bool Runner::take_questions() {
  for (;;) {
    std::optional<Question> question;
    {
      const std::lock_guard lock(mutex_);
      if (stop_) return false;
      if (inbox_.empty() || runs_.size() >= core::kResolverRunsMax) return true;
      question = std::move(inbox_.front());
      inbox_.pop_front();
    }
    begin(std::move(*question));
  }
}

void Runner::begin(Question question) {
  const auto resolver = by_group_.find(question.group);
  if (resolver == by_group_.end()) {
    tell({question.serial, question.transaction, std::nullopt, "the group has no resolver", {}});
    return;
  }
  std::vector<std::string> environment = environment_;
  environment.push_back("SLUICE_TRANSACTION=" + to_text(question.transaction));
  environment.push_back("SLUICE_GROUP=" + question.group);
  environment.push_back("SLUICE_HALVES=" + question.halves);
  environment.push_back("SLUICE_HALVES_LEFT_OUT=" + std::to_string(question.halves_left_out));
  auto child = Child::start(resolver->second.command, environment);
  if (!child) {
    tell({question.serial, question.transaction, std::nullopt, child.error().message(), {}});
    return;
  }
  const std::uint64_t timeout_ns = resolver->second.timeout_ns;
  runs_.push_back(std::make_unique<Run>(
      Run{std::move(question), std::move(*child), monotonic_ns() + timeout_ns, timeout_ns, false, true, {}}));
}

void Runner::wait() {
  std::vector<pollfd> waiting{{wake_.get(), POLLIN, 0}};
  const std::uint64_t now = monotonic_ns();
  std::uint64_t pause_ns = UINT64_MAX;
  for (const auto& run : runs_) {
    waiting.push_back({run->child.exit_fd(), POLLIN, 0});
    waiting.push_back({run->says_more ? run->child.said_fd() : -1, POLLIN, 0});
    if (!run->is_killed) pause_ns = std::min(pause_ns, run->until_ns > now ? run->until_ns - now : 0);
  }
  const timespec pause{static_cast<time_t>(pause_ns / 1'000'000'000), static_cast<long>(pause_ns % 1'000'000'000)};
  if (::ppoll(waiting.data(), waiting.size(), pause_ns == UINT64_MAX ? nullptr : &pause, nullptr) < 0) return;
  std::uint64_t count = 0;
  [[maybe_unused]] const ssize_t size = ::read(wake_.get(), &count, sizeof count);  // non-blocking; empty is fine
  const std::uint64_t after = monotonic_ns();
  std::size_t next = 1;
  for (const auto& run : runs_) {
    const bool has_ended = waiting[next].revents != 0;
    if (run->says_more && (has_ended || waiting[next + 1].revents != 0))
      run->says_more = read_said(run->child.said_fd(), run->said);
    next += 2;
    if (has_ended) {
      end(*run, run->child.reap());
    } else if (!run->is_killed && after >= run->until_ns) {
      run->child.kill();
      run->is_killed = true;
    }
  }
  std::erase_if(runs_, [](const auto& run) { return run->child.is_reaped(); });
}

void Runner::end(const Run& run, int status) {
  Answer ended{run.question.serial, run.question.transaction, std::nullopt, {}, {}};
  if (run.is_killed)
    ended.why = "killed, it took longer than " + format_duration(run.timeout_ns);
  else
    ended.verdict = verdict_of(status);
  if (!ended.verdict) {
    if (ended.why.empty()) ended.why = text_of(status);
    ended.said = first_line(run.said);
  }
  tell(std::move(ended));
}

void Runner::tell(Answer answer) {
  {
    const std::lock_guard lock(mutex_);
    answers_.push_back(std::move(answer));
  }
  on_answer_();
}

}  // namespace sluice::resolve
