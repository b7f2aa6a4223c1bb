// The way back after a hang-up, and what is said when there is none.

#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <filesystem>
#include <mutex>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "sdk/control_client.h"
#include "tests/daemon/control/fake_bus.h"

namespace sluice {
namespace {

using internal::ControlClient;
using namespace std::chrono_literals;

// The states that a client went through, from its control thread.
class States {
 public:
  void add(ConnectionState state) {
    const std::lock_guard lock(mutex_);
    states_.push_back(state);
  }
  std::vector<ConnectionState> all() const {
    const std::lock_guard lock(mutex_);
    return states_;
  }
  bool reach(ConnectionState state) const {
    for (int i = 0; i < 10000; ++i) {
      const auto states = all();
      if (!states.empty() && states.back() == state) return true;
      std::this_thread::sleep_for(1ms);
    }
    return false;
  }

 private:
  mutable std::mutex mutex_;
  std::vector<ConnectionState> states_;
};

class Reconnect : public testing::Test {
 protected:
  Result<std::unique_ptr<ControlClient>> try_connect() {
    ConnectOptions options;
    options.socket = socket_;
    options.control_timeout = 10s;
    options.on_state = [this](ConnectionState state, const std::string&) { states_.add(state); };
    return ControlClient::connect(std::move(options));
  }

  test::TemporaryFolder folder_;
  const std::string socket_ = folder_.file("s");
  States states_;
};

TEST_F(Reconnect, WithoutADaemonConnectingFailsAtOnceAndSaysWhatToDo) {
  const auto client = try_connect();
  ASSERT_FALSE(client);
  EXPECT_EQ(client.error().code(), ErrorCode::no_daemon);
  EXPECT_NE(client.error().context().find(socket_), std::string::npos);
  EXPECT_NE(client.error().context().find("start sluiced"), std::string::npos);
  EXPECT_NE(client.error().context().find("SLUICE_SOCKET"), std::string::npos);
}

TEST_F(Reconnect, AStaleSocketIsNoDaemon) {
  test::FakeBus bus;
  auto listening = [&] {
    control::ServerOptions options;
    options.socket = socket_;
    return control::Server::listen(std::move(options), bus).value();
  }();
  std::filesystem::rename(socket_, socket_ + ".kept");
  listening.reset();
  std::filesystem::rename(socket_ + ".kept", socket_);
  EXPECT_EQ(try_connect().error().code(), ErrorCode::no_daemon);
}

TEST_F(Reconnect, ASocketWithoutPermissionSaysSo) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root to become another user";
  test::FakeBus bus;
  test::RunningServer server(socket_, bus);
  ASSERT_EQ(chmod(folder_.file("").c_str(), 0755), 0);
  ASSERT_EQ(seteuid(1234), 0);
  const auto client = try_connect();
  ASSERT_EQ(seteuid(0), 0);
  ASSERT_FALSE(client);
  EXPECT_EQ(client.error().code(), ErrorCode::permission);
}

TEST_F(Reconnect, APeerThatPolicyRefusesIsToldWhy) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root to become another user";
  test::FakeBus bus;
  test::RunningServer server(socket_, bus);
  ASSERT_EQ(chmod(folder_.file("").c_str(), 0755), 0);
  ASSERT_EQ(chmod(socket_.c_str(), 0666), 0);
  ASSERT_EQ(seteuid(1234), 0);
  const auto client = try_connect();
  ASSERT_EQ(seteuid(0), 0);
  ASSERT_FALSE(client);
  EXPECT_EQ(client.error().code(), ErrorCode::permission);
  EXPECT_NE(client.error().context().find("user 1234"), std::string::npos) << client.error().message();
  bus.run([](test::FakeBus& b) { EXPECT_EQ(b.sessions.size(), 0u); });
}

TEST_F(Reconnect, TheSameBusGivesTheSameSessionBack) {
  test::FakeBus bus;
  auto server = std::make_unique<test::RunningServer>(socket_, bus);
  const auto client = try_connect().value();
  const auto memory = client->memory();
  const auto grant_pin = internal::PinLease::take(memory).value();
  server.reset();
  ASSERT_TRUE(states_.reach(ConnectionState::disconnected));
  EXPECT_FALSE(client->online());
  EXPECT_EQ(client->health().error().code(), ErrorCode::no_daemon);
  EXPECT_EQ(client->wait_online(10ms).error().code(), ErrorCode::no_daemon);
  server = std::make_unique<test::RunningServer>(socket_, bus);
  ASSERT_TRUE(client->wait_online(10s));
  ASSERT_TRUE(states_.reach(ConnectionState::resumed));
  EXPECT_EQ(client->generation(), 1u);
  EXPECT_EQ(client->memory(), memory);
  EXPECT_TRUE(client->status());
  bus.run([](test::FakeBus& b) {
    EXPECT_EQ(b.sessions.size(), 1u);
    EXPECT_TRUE(b.proven_dead.empty());
    EXPECT_TRUE(b.sessions.find(SessionId(1))->connected());
  });
}

TEST_F(Reconnect, AnotherBusReplacesTheMemoryAndOldPinsStayMapped) {
  auto bus = std::make_unique<test::FakeBus>(1);
  auto server = std::make_unique<test::RunningServer>(socket_, *bus);
  const auto client = try_connect().value();
  const auto pin = internal::PinLease::take(client->memory()).value();
  server.reset();
  bus.reset();
  test::FakeBus next(2);
  test::RunningServer next_server(socket_, next);
  ASSERT_TRUE(states_.reach(ConnectionState::replaced));
  EXPECT_EQ(client->generation(), 2u);
  EXPECT_EQ(client->incarnation(), Incarnation(2));
  EXPECT_NE(client->memory(), pin.memory());
  pin.cell() = 7;  // a view that is still held
  EXPECT_TRUE(client->status());
  // Closing what belonged to the lost memory is done already.
  EXPECT_TRUE(client->close_producer(ProducerId(1), 1));
  EXPECT_TRUE(client->close_reader(1, 1));
}

TEST_F(Reconnect, ACallWaitsForTheReturnWithinItsTimeout) {
  test::FakeBus bus;
  auto server = std::make_unique<test::RunningServer>(socket_, bus);
  const auto client = try_connect().value();
  server.reset();
  ASSERT_TRUE(states_.reach(ConnectionState::disconnected));
  EXPECT_EQ(client->status(20ms).error().code(), ErrorCode::no_daemon);
  std::thread later([&] {
    std::this_thread::sleep_for(50ms);
    server = std::make_unique<test::RunningServer>(socket_, bus);
  });
  EXPECT_TRUE(client->status(10s));
  TopicConfig config;
  config.name = "orders";
  EXPECT_TRUE(client->create_topic(config));
  later.join();
}

TEST_F(Reconnect, ACallInFlightAtTheHangUpIsRepeatedIfThatIsHarmless) {
  test::FakeBus bus;
  auto server = std::make_unique<test::RunningServer>(socket_, bus);
  const auto client = try_connect().value();
  TopicConfig config;
  config.name = "orders";
  ASSERT_TRUE(client->create_topic(config));
  bus.block(true);
  Result<TopicInfo> described = fail(ErrorCode::internal, "not asked");
  Status created;
  std::thread describing([&] { described = client->describe_topic("orders"); });
  std::thread creating([&] {
    config.name = "twice";
    created = client->create_topic(config);
  });
  std::this_thread::sleep_for(50ms);  // both are in the bus's inbox by now
  server.reset();
  creating.join();
  EXPECT_EQ(created.error().code(), ErrorCode::unknown) << "never done twice behind the caller's back";
  bus.block(false);
  server = std::make_unique<test::RunningServer>(socket_, bus);
  describing.join();
  EXPECT_TRUE(described) << described.error().message();
  bus.run([](test::FakeBus& b) { EXPECT_EQ(b.creates, 2u); });
}

TEST_F(Reconnect, ARepeatedOpeningLeavesOneProducer) {
  test::FakeBus bus;
  auto server = std::make_unique<test::RunningServer>(socket_, bus);
  const auto client = try_connect().value();
  TopicConfig config;
  config.name = "orders";
  ASSERT_TRUE(client->create_topic(config));
  bus.block(true);
  Result<internal::ProducerGrant> grant = fail(ErrorCode::internal, "not asked");
  std::thread opening([&] { grant = client->open_producer("orders", ""); });
  std::this_thread::sleep_for(50ms);
  server.reset();
  bus.block(false);
  server = std::make_unique<test::RunningServer>(socket_, bus);
  opening.join();
  ASSERT_TRUE(grant) << grant.error().message();
  bus.run([&](test::FakeBus& b) {
    const auto* session = b.sessions.find(SessionId(1));
    ASSERT_EQ(session->producers().size(), 1u);
    EXPECT_NE(session->find_producer(grant->id), nullptr);
  });
}

TEST_F(Reconnect, ASessionThatWasEndedIsClosedForGood) {
  test::FakeBus bus;
  test::RunningServer server(socket_, bus);
  const auto operator_client = try_connect().value();
  States victim_states;
  ConnectOptions options;
  options.socket = socket_;
  options.on_state = [&](ConnectionState state, const std::string&) { victim_states.add(state); };
  const auto victim = ControlClient::connect(std::move(options)).value();
  ASSERT_TRUE(operator_client->kill_session(victim->memory()->session().value));
  ASSERT_TRUE(victim_states.reach(ConnectionState::closed));
  EXPECT_TRUE(victim->memory()->revoked());
  EXPECT_FALSE(victim->online());
  EXPECT_EQ(victim->status().error().code(), ErrorCode::revoked);
  EXPECT_EQ(victim->wait_online(10s).error().code(), ErrorCode::revoked);
  EXPECT_TRUE(operator_client->status());
  EXPECT_EQ(operator_client->kill_session(99).error().code(), ErrorCode::not_found);
}

TEST_F(Reconnect, TheBusMayEndASessionByItself) {
  test::FakeBus bus;
  test::RunningServer server(socket_, bus);
  const auto client = try_connect().value();
  bus.run([](test::FakeBus& b) { b.sessions.find(SessionId(1))->revoke(); });
  server->end_session(SessionId(1));
  server->end_session(SessionId(12345));
  EXPECT_TRUE(states_.reach(ConnectionState::closed));
}

TEST_F(Reconnect, TheApplicationsSigpipeDispositionIsItsOwn) {
  test::FakeBus bus;
  test::RunningServer server(socket_, bus);
  const auto client = try_connect().value();
  ASSERT_TRUE(client->status());
  struct sigaction before {};
  struct sigaction mine {};
  mine.sa_handler = [](int) {};
  ASSERT_EQ(sigaction(SIGPIPE, &mine, &before), 0);
  const auto second = try_connect().value();
  struct sigaction now {};
  ASSERT_EQ(sigaction(SIGPIPE, &before, &now), 0);
  EXPECT_EQ(now.sa_handler, mine.sa_handler);
}

}  // namespace
}  // namespace sluice
