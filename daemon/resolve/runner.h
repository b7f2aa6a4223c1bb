// Runs resolvers: one process for each question, its exit code the answer.
//
//   ask() ─▶ inbox ─▶ (fewer than kResolverRunsMax run) process ── ends, or is killed at its timeout ─▶ take_answers()
//
// Exit codes are ones that no program ends with by itself: not those of shells and interpreters (0–2, 126–127), of
// SQLite's shell (its error codes: 10 a disk that fails, 11 a damaged database), of <sysexits.h>, 128 + a signal, an
// errno, or 256 − one. So what has crashed, or went wrong on its way, never counts as an answer.
//
// Owner: main, which runs run() on a thread of its own and stops it before this goes; processes die with that thread.
// Thread safety: ask(), take_answers() and stop() from any thread.
//
// Invariants
//  1. Each question is answered once, unless stop() comes first.
//  2. Behind run() there is no process of its left.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "daemon/core/resolver.h"
#include "daemon/resolve/child.h"
#include "daemon/resolve/resolvers.h"
#include "shm/base/fd.h"

namespace sluice::resolve {

inline constexpr int kExitCommit = 197;
inline constexpr int kExitRollback = 198;
inline constexpr int kExitUnknown = 199;
inline constexpr std::size_t kSaidSizeMax = 256;  // bytes of a resolver's standard error that are kept

class Runner final : public Resolvers {
 public:
  // `socket`: where the daemon listens, for what the resolver asks it. `on_answer`: called on the runner's thread when
  // take_answers() has something new. Errors: no descriptor to be had.
  static Result<std::unique_ptr<Runner>> create(const std::vector<core::ResolverConfig>& resolvers,
                                                const std::string& socket, std::function<void()> on_answer);

  void ask(Question question) override;
  std::vector<Answer> take_answers() override;

  // Until stop(). Its thread must live as long as this takes, for the processes die with it.
  void run();
  void stop();

 private:
  struct Run {
    Question question;
    Child child;
    std::uint64_t until_ns = 0;  // monotonic
    std::uint64_t timeout_ns = 0;
    bool is_killed = false;
    bool says_more = true;  // its standard error is open
    std::string said;
  };

  Runner(const std::vector<core::ResolverConfig>& resolvers, const std::string& socket,
         std::function<void()> on_answer);
  void begin(Question question);
  void wait();
  void end(const Run& run, int status);
  void tell(Answer answer);
  // False: stop() was called.
  bool take_questions();

  // Constant after construction.
  std::map<std::string, core::ResolverConfig> by_group_;
  std::vector<std::string> environment_;  // what every run has
  const std::function<void()> on_answer_;
  UniqueFd wake_;
  // Owned by the runner's thread.
  std::vector<std::unique_ptr<Run>> runs_;
  // Shared.
  std::mutex mutex_;  // guards the three below
  std::deque<Question> inbox_;
  std::vector<Answer> answers_;
  bool stop_ = false;
};

}  // namespace sluice::resolve
