// Resolvers as real processes: what they are given, what they may answer, and that nothing of them is left.
#include "daemon/resolve/runner.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <set>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "shm/base/clock.h"

namespace sluice::resolve {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::SizeIs;

constexpr std::uint64_t kPatienceNs = 60'000'000'000;  // ends a test that hangs, and asserts nothing
const TransactionId kTransaction = TransactionId::make(ProducerId(17), 3);

template <typename Condition>
void wait_until(Condition condition) {
  const std::uint64_t end = monotonic_ns() + kPatienceNs;
  while (!condition()) {
    ASSERT_LT(monotonic_ns(), end);
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
}

std::string text_of(const std::filesystem::path& file) {
  std::ifstream in(file);
  return {std::istreambuf_iterator<char>(in), {}};
}

bool lives(pid_t pid) {
  // One that nobody has reaped yet (the container's first process may be slow) does not live.
  const std::string stat = text_of("/proc/" + std::to_string(pid) + "/stat");
  const auto end = stat.rfind(')');
  return end != stat.npos && stat.substr(end + 2, 1) != "Z";
}

class RunnerTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = std::filesystem::temp_directory_path() / "sluice-resolve-XXXXXX";
    ASSERT_NE(nullptr, ::mkdtemp(pattern.data()));
    folder_ = pattern;
  }
  void TearDown() override {
    stop();
    std::filesystem::remove_all(folder_);
  }

  // One group whose resolver is this script of the shell, with the test's folder as $1.
  void start(const std::string& script, std::uint64_t timeout_ns = kPatienceNs) {
    start_command({"/bin/sh", "-c", script, "resolver", folder_.string()}, timeout_ns);
  }
  void start_command(std::vector<std::string> command, std::uint64_t timeout_ns = kPatienceNs) {
    auto runner = Runner::create({{"shop", std::move(command), timeout_ns}}, "/run/bus.sock", [this] {
      const std::lock_guard lock(mutex_);
      ++told_;
      changed_.notify_all();
    });
    ASSERT_TRUE(runner) << runner.error().message();
    runner_ = std::move(*runner);
    thread_ = std::thread([this] { runner_->run(); });
  }
  void stop() {
    if (!thread_.joinable()) return;
    runner_->stop();
    thread_.join();
  }
  void ask(std::uint64_t serial = 1, const std::string& group = "shop") {
    runner_->ask({serial, kTransaction, group, "orders/0@64 orders/1@128", 0});
  }
  // Waits for so many.
  std::vector<Answer> answers(std::size_t count) {
    std::vector<Answer> all;
    const auto end = std::chrono::steady_clock::now() + std::chrono::nanoseconds(kPatienceNs);
    while (all.size() < count) {
      std::unique_lock lock(mutex_);
      if (!changed_.wait_until(lock, end, [this] { return told_ != 0; })) return all;
      told_ = 0;
      lock.unlock();
      for (Answer& answer : runner_->take_answers()) all.push_back(std::move(answer));
    }
    return all;
  }
  // The one answer of a resolver that is this script.
  Answer answer_of(const std::string& script) {
    start(script);
    ask();
    const auto all = answers(1);
    stop();
    return all.empty() ? Answer() : all.front();
  }
  std::vector<std::string> lines(const std::string& name) const {
    std::vector<std::string> all;
    std::ifstream in(folder_ / name);
    for (std::string line; std::getline(in, line);) all.push_back(line);
    return all;
  }

  std::filesystem::path folder_;
  std::unique_ptr<Runner> runner_;
  std::thread thread_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::size_t told_ = 0;  // guarded by mutex_
};

TEST_F(RunnerTest, ThreeExitCodesAreAnswers) {
  const std::vector<std::pair<int, Verdict>> codes = {
      {197, Verdict::commit}, {198, Verdict::rollback}, {199, Verdict::unknown}};
  for (const auto& [code, verdict] : codes) {
    const Answer answer = answer_of("exit " + std::to_string(code));
    EXPECT_EQ(answer.verdict, verdict) << code;
    EXPECT_EQ(answer.serial, 1u);
    EXPECT_EQ(answer.transaction, kTransaction);
  }
}

TEST_F(RunnerTest, NoOtherExitCodeIsAnAnswer) {
  start("exit $(cat $1/code)");
  for (int code = 0; code < 256; ++code) {
    if (code >= 197 && code <= 199) continue;
    std::ofstream(folder_ / "code") << code;
    ask(static_cast<std::uint64_t>(code));
    const auto all = answers(1);
    ASSERT_THAT(all, SizeIs(1));
    EXPECT_FALSE(all[0].verdict) << code;
    EXPECT_THAT(all[0].why, HasSubstr("exit code " + std::to_string(code)));
  }
}

TEST_F(RunnerTest, OneThatDiesBySignalGivesNoAnswerAndItsFirstWordsAreKept) {
  const Answer answer = answer_of("printf 'no \\033such table\\nsecond line\\n' >&2; kill -SEGV $$");
  EXPECT_FALSE(answer.verdict);
  EXPECT_THAT(answer.why, HasSubstr("signal 11"));
  EXPECT_EQ(answer.said, "no ?such table");
}

TEST_F(RunnerTest, WhatCannotBeRunIsSaidAndTheNextOneIsAskedNoneTheLess) {
  start_command({"/nowhere/resolver"});
  for (std::uint64_t serial : {7, 8}) {
    ask(serial);
    const auto all = answers(1);
    ASSERT_THAT(all, SizeIs(1));
    EXPECT_EQ(all[0].serial, serial);
    EXPECT_FALSE(all[0].verdict);
    EXPECT_THAT(all[0].why, HasSubstr("running /nowhere/resolver: No such file"));
  }
  ask(9, "bank");
  EXPECT_THAT(answers(1).at(0).why, HasSubstr("no resolver"));
}

TEST_F(RunnerTest, AtItsTimeoutItIsKilledWithAllThatItHasStarted) {
  start("sleep 1000 & echo $! >$1/child; echo $$ >$1/self; echo starting >&2; wait; exit 197", 500'000'000);
  ask();
  const auto all = answers(1);
  ASSERT_THAT(all, SizeIs(1));
  EXPECT_FALSE(all[0].verdict);
  EXPECT_THAT(all[0].why, HasSubstr("longer than 500ms"));
  EXPECT_EQ(all[0].said, "starting");
  EXPECT_FALSE(lives(std::stoi(lines("self").at(0))));
  const pid_t child = std::stoi(lines("child").at(0));
  wait_until([&] { return !lives(child); });
}

TEST_F(RunnerTest, WhatItLeavesBehindIsKilledWhenItAnswers) {
  start("sleep 1000 & echo $! >$1/child; exit 198");
  ask();
  EXPECT_EQ(answers(1).at(0).verdict, Verdict::rollback) << "though its child holds its standard error open";
  const pid_t child = std::stoi(lines("child").at(0));
  wait_until([&] { return !lives(child); });
}

TEST_F(RunnerTest, AStopKillsWhatRuns) {
  start("sleep 1000 & echo $! >>$1/children; echo $$ >>$1/children; wait");
  ask(1);
  ask(2);
  wait_until([&] { return lines("children").size() == 4; });
  stop();
  for (const std::string& child : lines("children")) wait_until([&] { return !lives(std::stoi(child)); });
  EXPECT_THAT(runner_->take_answers(), SizeIs(0));
}

TEST_F(RunnerTest, NoMoreRunAtATimeThanTheLimitSays) {
  start("echo $$ >>$1/started; while ! [ -e $1/go ]; do sleep 0.02; done; exit 197");
  constexpr std::size_t kAsked = 3 * core::kResolverRunsMax;
  for (std::uint64_t serial = 1; serial <= kAsked; ++serial) ask(serial);
  wait_until([&] { return lines("started").size() == core::kResolverRunsMax; });
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  EXPECT_THAT(lines("started"), SizeIs(core::kResolverRunsMax));
  std::ofstream(folder_ / "go") << "";
  std::set<std::uint64_t> serials;
  for (const Answer& answer : answers(kAsked)) {
    EXPECT_EQ(answer.verdict, Verdict::commit);
    EXPECT_TRUE(serials.insert(answer.serial).second);
  }
  EXPECT_THAT(serials, SizeIs(kAsked));
}

TEST_F(RunnerTest, ItHasNoDescriptorsButTheThreeAndNothingToReadThere) {
  // One that is inherited by a program that says nothing of it, as a library may open it.
  const int leak = ::open("/dev/null", O_RDONLY);
  ASSERT_GE(leak, 0);
  const int high = ::fcntl(leak, F_DUPFD, 900);
  ASSERT_GE(high, 900);
  const Answer answer = answer_of(
      "for fd in /proc/$$/fd/*; do if [ -L $fd ]; then echo ${fd##*/}; fi; done >$1/fds; cat >$1/input; exit 197");
  ::close(leak);
  ::close(high);
  EXPECT_EQ(answer.verdict, Verdict::commit);
  std::vector<std::string> fds = lines("fds");
  std::erase(fds, "10");  // where this shell keeps its standard output meanwhile
  EXPECT_THAT(fds, ElementsAre("0", "1", "2"));
  EXPECT_TRUE(text_of(folder_ / "input").empty());
}

TEST_F(RunnerTest, SignalsAreAsAProgramExpectsThem) {
  ::signal(SIGPIPE, SIG_IGN);
  sigset_t some, before;
  ::sigemptyset(&some);
  ::sigaddset(&some, SIGTERM);
  ::pthread_sigmask(SIG_BLOCK, &some, &before);  // as main has it; the runner's thread inherits it
  const Answer answer = answer_of("grep -E '^Sig(Blk|Ign)' /proc/self/status >$1/signals; exit 197");
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  ::signal(SIGPIPE, SIG_DFL);
  EXPECT_EQ(answer.verdict, Verdict::commit);
  EXPECT_THAT(lines("signals"), ElementsAre("SigBlk:\t0000000000000000", "SigIgn:\t0000000000000000"));
}

TEST_F(RunnerTest, ItIsToldWhatItIsAskedAndNothingThatIsTheDaemonsOwn) {
  ::setenv("NOTIFY_SOCKET", "/run/notify", 1);
  ::setenv("LISTEN_FDS", "3", 1);
  ::setenv("WATCHDOG_USEC", "5", 1);
  ::setenv("SLUICE_FAILPOINT", "x", 1);
  ::setenv("PGHOST", "db", 1);
  const Answer answer = answer_of("env >$1/env; pwd >$1/pwd; ulimit -n >$1/limit; exit 197");
  for (const char* name : {"NOTIFY_SOCKET", "LISTEN_FDS", "WATCHDOG_USEC", "SLUICE_FAILPOINT", "PGHOST"})
    ::unsetenv(name);
  EXPECT_EQ(answer.verdict, Verdict::commit);
  const std::string environment = text_of(folder_ / "env");
  for (const char* line :
       {"SLUICE_TRANSACTION=17-3\n", "SLUICE_GROUP=shop\n", "SLUICE_HALVES=orders/0@64 orders/1@128\n",
        "SLUICE_HALVES_LEFT_OUT=0\n", "SLUICE_SOCKET=/run/bus.sock\n", "PGHOST=db\n", "PATH="})
    EXPECT_THAT(environment, HasSubstr(line));
  for (const char* name : {"NOTIFY_SOCKET", "LISTEN_", "WATCHDOG_", "FAILPOINT"})
    EXPECT_THAT(environment, testing::Not(HasSubstr(name)));
  EXPECT_THAT(lines("pwd"), ElementsAre("/"));
}

TEST_F(RunnerTest, OneThatSaysMuchOrClosesItsStandardErrorIsNotHeldUp) {
  const Answer much = answer_of("head -c 3000000 /dev/zero | tr '\\0' x >&2; exit 1");
  EXPECT_EQ(much.said.size(), kSaidSizeMax);
  EXPECT_THAT(much.why, HasSubstr("exit code 1,"));
  const std::clock_t before = std::clock();
  EXPECT_EQ(answer_of("exec 2>&-; sleep 1; exit 199").verdict, Verdict::unknown);
  EXPECT_LT(std::clock() - before, CLOCKS_PER_SEC / 4) << "processor time: the closed end is looked at again and again";
}

TEST_F(RunnerTest, ItDiesWithTheDaemon) {
  const pid_t daemon = ::fork();
  if (daemon == 0) {
    // No threads here but this one: run() is what the daemon's thread does.
    auto runner = Runner::create(
        {{"shop", {"/bin/sh", "-c", "echo $$ >$1/self; exec sleep 1000", "resolver", folder_}, kPatienceNs}},
        "/run/bus.sock", [] {});
    (*runner)->ask({1, kTransaction, "shop", "orders/0@64", 0});
    (*runner)->run();
    ::_exit(0);
  }
  wait_until([&] { return !lines("self").empty(); });
  ::kill(daemon, SIGKILL);
  const pid_t child = std::stoi(lines("self").at(0));
  wait_until([&] { return !lives(child); });
}

}  // namespace
}  // namespace sluice::resolve
