// Clients in processes of their own that die, stop, and leave.

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <thread>

#include <gtest/gtest.h>

#include "sdk/control_client.h"
#include "tests/daemon/control/fake_bus.h"

namespace sluice {
namespace {

using internal::ControlClient;
using namespace std::chrono_literals;

// A process that connects and then waits. Forked from a test process before it has threads: the bus and the server come
// after it, so it waits for the socket first.
class ClientProcess {
 public:
  explicit ClientProcess(const std::string& socket) {
    pid_ = fork();
    if (pid_ != 0) return;
    ConnectOptions options;
    options.socket = socket;
    for (int i = 0; i < 10000; ++i) {
      auto client = ControlClient::connect(options);
      if (client) {
        auto pin = internal::PinLease::take((*client)->memory()).value();
        pin.cell() = layout::pin_word(1, SegmentNumber(2));
        pause();
      }
      std::this_thread::sleep_for(1ms);
    }
    _exit(1);
  }
  ~ClientProcess() {
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }
  void signal(int number) const { kill(pid_, number); }
  void stop() const {
    kill(pid_, SIGSTOP);
    int status = 0;
    EXPECT_EQ(waitpid(pid_, &status, WUNTRACED), pid_);
    EXPECT_TRUE(WIFSTOPPED(status));
  }

 private:
  pid_t pid_;
};

bool saw(const test::FakeBus& bus, session::PeerEvent event) {
  return std::any_of(bus.peer_events.begin(), bus.peer_events.end(),
                     [&](const auto& seen) { return seen.second == event; });
}

class Death : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(bus_.eventually([](test::FakeBus& bus) { return bus.sessions.is_pinned(1, SegmentNumber(2)); }));
  }

  test::TemporaryFolder folder_;
  ClientProcess client_{folder_.file("s")};
  test::FakeBus bus_;
  test::RunningServer server_{folder_.file("s"), bus_};
};

TEST_F(Death, AKilledClientIsNoticedAndProven) {
  client_.signal(SIGKILL);
  ASSERT_TRUE(bus_.eventually([](test::FakeBus& bus) { return bus.proven_dead == std::vector{SessionId(1)}; }));
  bus_.run([](test::FakeBus& bus) {
    EXPECT_EQ(bus.sessions.size(), 0u);
    EXPECT_FALSE(bus.sessions.is_pinned(1, SegmentNumber(2)));
    EXPECT_TRUE(saw(bus, session::PeerEvent::hung_up) || saw(bus, session::PeerEvent::exited));
  });
}

TEST_F(Death, AStoppedClientIsNotTakenForDead) {
  client_.stop();
  std::this_thread::sleep_for(100ms);
  bus_.run([](test::FakeBus& bus) {
    EXPECT_TRUE(bus.proven_dead.empty());
    EXPECT_TRUE(bus.peer_events.empty());
    EXPECT_FALSE(bus.sessions.find(SessionId(1))->is_dead().value());
  });
  client_.signal(SIGKILL);
  EXPECT_TRUE(bus_.eventually([](test::FakeBus& bus) { return bus.proven_dead == std::vector{SessionId(1)}; }));
}

TEST_F(Death, AStoppedClientThatLostItsSocketLivesAndIsProvenDeadLater) {
  client_.stop();
  server_->end_session(SessionId(1));  // closes the socket; the client cannot come back while it is stopped
  ASSERT_TRUE(bus_.eventually([](test::FakeBus& bus) { return saw(bus, session::PeerEvent::look); }));
  bus_.run([](test::FakeBus& bus) {
    EXPECT_TRUE(bus.proven_dead.empty()) << "hang-up is no proof";
    EXPECT_FALSE(bus.sessions.find(SessionId(1))->connected());
  });
  client_.signal(SIGKILL);
  EXPECT_TRUE(bus_.eventually([](test::FakeBus& bus) { return bus.proven_dead == std::vector{SessionId(1)}; }));
}

TEST_F(Death, AClientThatComesBackIsNoLongerLookedAt) {
  server_->end_session(SessionId(1));
  ASSERT_TRUE(bus_.eventually([](test::FakeBus& bus) {
    return saw(bus, session::PeerEvent::hung_up) && bus.sessions.find(SessionId(1))->connected();
  }));
  std::this_thread::sleep_for(50ms);
  std::size_t events = 0;
  bus_.run([&](test::FakeBus& bus) { events = bus.peer_events.size(); });
  std::this_thread::sleep_for(300ms);
  bus_.run([&](test::FakeBus& bus) {
    EXPECT_EQ(bus.peer_events.size(), events);
    EXPECT_TRUE(bus.proven_dead.empty());
  });
}

TEST_F(Death, IsNotMissedWhenTheInboxIsFull) {
  // The first looks are refused; the event itself must come through in the end.
  bus_.refuse_posts();
  client_.signal(SIGKILL);
  std::this_thread::sleep_for(100ms);
  bus_.accept_posts();
  EXPECT_TRUE(bus_.eventually([](test::FakeBus& bus) { return bus.proven_dead == std::vector{SessionId(1)}; }));
}

}  // namespace
}  // namespace sluice
