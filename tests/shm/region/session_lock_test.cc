#include "shm/region/session_lock.h"

#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <functional>
#include <string>
#include <thread>

#include <gtest/gtest.h>

#include "shm/region/mapping.h"
#include "shm/region/memfd.h"

namespace sluice::region {
namespace {

constexpr std::uint64_t kSize = 64 * 1024;

// A process that maps the session, closes the descriptor and then does as told by a pipe.
class Client {
 public:
  enum class Life { waits, execs, exits };

  explicit Client(UniqueFd locked, Life life = Life::waits) {
    int ready[2], go[2];
    EXPECT_EQ(pipe(ready), 0);
    EXPECT_EQ(pipe(go), 0);
    pid_ = fork();
    if (pid_ == 0) {
      close(go[1]);
      run(std::move(locked), life, ready[1], go[0]);
    }
    locked.reset();  // as the daemon does once the descriptor was sent
    close(ready[1]);
    close(go[0]);
    char byte = 0;
    EXPECT_EQ(read(ready[0], &byte, 1), 1);
    close(ready[0]);
    go_ = UniqueFd(go[1]);
  }
  ~Client() { end(); }

  void go() { EXPECT_EQ(write(go_.get(), "x", 1), 1); }
  void signal(int number) const { kill(pid_, number); }
  void wait_stopped() const {
    int status = 0;
    EXPECT_EQ(waitpid(pid_, &status, WUNTRACED), pid_);
    EXPECT_TRUE(WIFSTOPPED(status));
  }
  void end() {
    if (pid_ <= 0) return;
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
    pid_ = -1;
  }

 private:
  [[noreturn]] static void run(UniqueFd locked, Life life, int ready, int go) {
    Mapping mapping = Mapping::map(locked.get(), Access::read_write, "session").value();
    locked.reset();
    if (write(ready, "x", 1) != 1) _exit(1);
    close(ready);
    char byte = 0;
    if (read(go, &byte, 1) != 1) _exit(1);
    if (life == Life::execs) execl("/bin/sleep", "sleep", "60", nullptr);
    if (life == Life::exits) _exit(0);
    pause();
    _exit(0);
  }

  pid_t pid_ = -1;
  UniqueFd go_;
};

class SessionLock : public testing::Test {
 protected:
  bool dead() const { return proven_dead(memfd_.get(), "session 1").value(); }
  // Death is noticed by other means; here its proof is awaited, with a bound for a broken build.
  bool dies() const {
    for (int i = 0; i < 10000; ++i) {
      if (dead()) return true;
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return false;
  }
  UniqueFd locked() const { return open_locked(memfd_.get(), "session 1").value(); }

  UniqueFd memfd_ = create_memfd("sluice-session", kSize).value();
};

TEST_F(SessionLock, IsFreeBeforeItIsHandedOutAndHeldWhileTheDescriptorIs) {
  EXPECT_TRUE(dead());
  UniqueFd handed_out = locked();
  EXPECT_FALSE(dead());
  handed_out.reset();
  EXPECT_TRUE(dead());
}

TEST_F(SessionLock, LivesAsLongAsTheMappingWithoutTheDescriptor) {
  UniqueFd handed_out = locked();
  {
    Mapping mapping = Mapping::map(handed_out.get(), Access::read_write, "session").value();
    handed_out.reset();
    EXPECT_FALSE(dead());
  }
  EXPECT_TRUE(dead());
}

TEST_F(SessionLock, IsHeldInFlightThroughASocket) {
  // What the proof must not do: call a client dead whose Welcome has not arrived yet.
  int pair[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
  UniqueFd handed_out = locked();
  char byte = 0;
  iovec data{&byte, 1};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr message{};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  cmsghdr* rights = CMSG_FIRSTHDR(&message);
  rights->cmsg_level = SOL_SOCKET;
  rights->cmsg_type = SCM_RIGHTS;
  rights->cmsg_len = CMSG_LEN(sizeof(int));
  const int fd = handed_out.get();
  memcpy(CMSG_DATA(rights), &fd, sizeof fd);
  ASSERT_EQ(sendmsg(pair[0], &message, 0), 1);
  handed_out.reset();
  EXPECT_FALSE(dead());
  close(pair[0]);
  close(pair[1]);
  EXPECT_TRUE(dies());
}

TEST_F(SessionLock, IsReleasedByKill) {
  Client client(locked());
  EXPECT_FALSE(dead());
  client.end();
  EXPECT_TRUE(dead()) << "reaped, so the mapping is gone";
}

TEST_F(SessionLock, IsReleasedByExit) {
  Client client(locked(), Client::Life::exits);
  EXPECT_FALSE(dead());
  client.go();
  EXPECT_TRUE(dies());
}

TEST_F(SessionLock, IsReleasedByExec) {
  Client client(locked(), Client::Life::execs);
  EXPECT_FALSE(dead());
  client.go();
  EXPECT_TRUE(dies());
}

TEST_F(SessionLock, IsHeldByAStoppedProcess) {
  Client client(locked());
  client.signal(SIGSTOP);
  client.wait_stopped();
  EXPECT_FALSE(dead());
  client.end();
  EXPECT_TRUE(dead());
}

TEST_F(SessionLock, AChildOfTheClientDoesNotHoldIt) {
  UniqueFd handed_out = locked();
  Mapping mapping = Mapping::map(handed_out.get(), Access::read_write, "session").value();
  handed_out.reset();
  const pid_t child = fork();
  if (child == 0) {
    pause();
    _exit(0);
  }
  mapping = Mapping();
  EXPECT_TRUE(dead()) << "the mapping is not inherited";
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
}

TEST_F(SessionLock, TheProofLeavesNothingLocked) {
  EXPECT_TRUE(dead());
  UniqueFd handed_out = locked();
  EXPECT_FALSE(dead());
}

}  // namespace
}  // namespace sluice::region
