// Clients that do not keep to the protocol: none of them may harm the others.

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <random>
#include <thread>
#include <vector>

#include <capnp/message.h>
#include <capnp/rpc.capnp.h>
#include <capnp/serialize.h>
#include <gtest/gtest.h>

#include "sdk/control_client.h"
#include "sdk/protocol/control.capnp.h"
#include "shm/base/limits.h"
#include "tests/daemon/control/fake_bus.h"
#include "tests/daemon/control/raw_client.h"

namespace sluice {
namespace {

using internal::ControlClient;
using test::RawClient;
using namespace std::chrono_literals;

class Hostile : public testing::Test {
 protected:
  std::unique_ptr<ControlClient> connect() {
    ConnectOptions options;
    options.socket = folder_.file("s");
    auto client = ControlClient::connect(std::move(options));
    EXPECT_TRUE(client) << client.error().message();
    return std::move(client).value();
  }
  UniqueFd raw() const { return test::connect_raw(folder_.file("s")); }
  static bool closed_by_peer(int fd) {
    timeval limit{10, 0};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    char bytes[4096];
    for (;;) {
      const ssize_t got = recv(fd, bytes, sizeof bytes, 0);
      if (got == 0) return true;
      if (got < 0) return errno == ECONNRESET;
    }
  }

  test::TemporaryFolder folder_;
  test::FakeBus bus_;
  test::RunningServer server_{folder_.file("s"), bus_};
};

TEST_F(Hostile, GarbageClosesItsOwnConnectionAlone) {
  const auto good = connect();
  std::mt19937 random(7);
  for (int round = 0; round < 30; ++round) {
    const UniqueFd fd = raw();
    std::vector<char> bytes(1 + random() % 5000);
    for (char& byte : bytes) byte = static_cast<char>(random());
    static_cast<void>(send(fd.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL));
    shutdown(fd.get(), SHUT_WR);
    EXPECT_TRUE(closed_by_peer(fd.get()));
  }
  EXPECT_TRUE(good->status());
}

TEST_F(Hostile, AMessageThatClaimsToBeHugeIsRefused) {
  const UniqueFd fd = raw();
  const std::uint32_t header[2] = {0, 0x7fff'ffff};  // one segment of 16 GiB
  ASSERT_EQ(send(fd.get(), header, sizeof header, MSG_NOSIGNAL), static_cast<ssize_t>(sizeof header));
  EXPECT_TRUE(closed_by_peer(fd.get()));
  EXPECT_TRUE(connect()->status());
}

TEST_F(Hostile, DescriptorsThatAreSentAreDropped) {
  const UniqueFd fd = raw();
  for (int i = 0; i < 64; ++i) {
    int fds[16];
    for (int& one : fds) one = fd.get();
    char byte = 0;
    iovec data{&byte, 1};
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof fds)] = {};
    msghdr message{};
    message.msg_iov = &data;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    cmsghdr* rights = CMSG_FIRSTHDR(&message);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(sizeof fds);
    memcpy(CMSG_DATA(rights), fds, sizeof fds);
    if (sendmsg(fd.get(), &message, MSG_NOSIGNAL) < 0) break;
  }
  EXPECT_TRUE(connect()->status());
}

TEST_F(Hostile, AnotherVersionIsRefusedWithBothNumbers) {
  RawClient client(raw());
  {
    const auto answer = client.hello(99, layout::kRegionVersion);
    ASSERT_TRUE(answer.getResponse().isFailure());
    EXPECT_EQ(answer.getResponse().getFailure().getCode(), static_cast<std::uint8_t>(ErrorCode::version));
    const std::string text = answer.getResponse().getFailure().getContext().cStr();
    EXPECT_NE(text.find("99"), std::string::npos) << text;
  }
  const auto answer = client.hello(protocol::PROTOCOL_VERSION, layout::kRegionVersion + 1);
  ASSERT_TRUE(answer.getResponse().isFailure());
  EXPECT_EQ(answer.getResponse().getFailure().getCode(), static_cast<std::uint8_t>(ErrorCode::version));
  bus_.run([](test::FakeBus& bus) { EXPECT_EQ(bus.sessions.size(), 0u); });
}

TEST_F(Hostile, HelloIsSaidOnce) {
  RawClient client(raw());
  ASSERT_TRUE(client.hello(protocol::PROTOCOL_VERSION, layout::kRegionVersion).getResponse().isWelcome());
  const auto again = client.hello(protocol::PROTOCOL_VERSION, layout::kRegionVersion);
  EXPECT_EQ(again.getResponse().getFailure().getCode(), static_cast<std::uint8_t>(ErrorCode::invalid));
}

TEST_F(Hostile, OversizedAndUnknownValuesAreRefusedByName) {
  RawClient client(raw());
  const auto welcome = client.hello(protocol::PROTOCOL_VERSION, layout::kRegionVersion);
  auto session = welcome.getResponse().getWelcome().getSession();
  const auto create = [&](auto fill) {
    auto request = session.createTopicRequest();
    fill(request.initConfig());
    const auto answer = request.send().wait(client.wait_scope());
    return answer.getDone().isFailure() ? answer.getDone().getFailure().getCode() : std::uint8_t{0};
  };
  constexpr auto kInvalid = static_cast<std::uint8_t>(ErrorCode::invalid);
  EXPECT_EQ(create([](auto config) { config.setName(std::string(kTopicNameSizeMax + 1, 'x')); }), kInvalid);
  EXPECT_EQ(create([](auto config) { config.setDurability(static_cast<protocol::Durability>(77)); }), kInvalid);
  EXPECT_EQ(create([](auto config) { config.initMirrors(kMirrorCopiesMax); }), kInvalid);
  EXPECT_EQ(create([](auto config) { config.initPublishers(1000); }), static_cast<std::uint8_t>(ErrorCode::quota));
  EXPECT_EQ(create([](auto config) { config.setName("fine"); }), 0);

  auto open = session.openProducerRequest();
  open.getRequest().setTopic("fine");
  open.getRequest().setPin(kSessionPinsMax);
  EXPECT_EQ(open.send().wait(client.wait_scope()).getResponse().getFailure().getCode(), kInvalid);
  auto reader = session.openReaderRequest();
  reader.getRequest().setTopic("fine");
  reader.getRequest().initCursors(1)[0].setCell(kSessionCursorsMax);
  EXPECT_EQ(reader.send().wait(client.wait_scope()).getResponse().getFailure().getCode(), kInvalid);
}

TEST_F(Hostile, DescriptorsThatAreNeverReleasedRunIntoAQuota) {
  RawClient client(raw());
  const auto welcome = client.hello(protocol::PROTOCOL_VERSION, layout::kRegionVersion);
  auto session = welcome.getResponse().getWelcome().getSession();
  auto create = session.createTopicRequest();
  create.initConfig().setName("wide");
  create.getConfig().setPartitions(64);
  ASSERT_TRUE(create.send().wait(client.wait_scope()).getDone().isOk());
  std::vector<capnp::Response<protocol::Session::OpenPartitionsResults>> kept;
  bool refused = false;
  for (int i = 0; i < 20 && !refused; ++i) {
    auto request = session.openPartitionsRequest();
    request.setTopic("wide");
    auto answer = request.send().wait(client.wait_scope());
    refused = answer.getResponse().isFailure();
    if (refused) {
      EXPECT_EQ(answer.getResponse().getFailure().getCode(), static_cast<std::uint8_t>(ErrorCode::quota));
    }
    kept.push_back(kj::mv(answer));
  }
  EXPECT_TRUE(refused);
  EXPECT_TRUE(connect()->status());
}

TEST_F(Hostile, TooManyCallsAtOnceRunIntoAQuota) {
  RawClient client(raw());
  const auto welcome = client.hello(protocol::PROTOCOL_VERSION, layout::kRegionVersion);
  auto session = welcome.getResponse().getWelcome().getSession();
  bus_.block(true);
  std::vector<kj::Promise<capnp::Response<protocol::Session::StatusResults>>> calls;
  for (int i = 0; i < 300; ++i) calls.push_back(session.statusRequest().send());
  const auto last = calls.back().wait(client.wait_scope());
  EXPECT_EQ(last.getFailure().getCode(), static_cast<std::uint8_t>(ErrorCode::quota));
  bus_.block(false);
  EXPECT_EQ(calls.front().wait(client.wait_scope()).getFailure().getCode(), 0);
}

TEST_F(Hostile, AnswersThatAreNeverReadEndTheConnection) {
  const auto good = connect();
  const UniqueFd fd = raw();
  const auto say = [&](auto fill) {
    capnp::MallocMessageBuilder builder;
    fill(builder.initRoot<capnp::rpc::Message>());
    const auto flat = capnp::messageToFlatArray(builder);
    return send(fd.get(), flat.asBytes().begin(), flat.asBytes().size(), MSG_NOSIGNAL) > 0;
  };
  ASSERT_TRUE(say([](auto message) { message.initBootstrap().setQuestionId(0); }));
  // A method that there is not: each call is answered, and no answer is read.
  constexpr std::uint32_t kCallsMax = 1'000'000;
  std::uint32_t question = 1;
  const auto call = [&](auto message) {
    auto out = message.initCall();
    out.setQuestionId(question);
    out.initTarget().setImportedCap(0);
    out.setInterfaceId(capnp::typeId<protocol::Bus>());
    out.setMethodId(99);
    out.initParams();
  };
  while (question < kCallsMax && say(call)) ++question;
  EXPECT_GT(question, 100u) << "the calls are not answered";
  EXPECT_LT(question, kCallsMax) << "it still listens";
  EXPECT_TRUE(good->status());
}

TEST_F(Hostile, AClientThatLeavesDuringACallHarmsNobody) {
  for (int i = 0; i < 20; ++i) {
    bus_.block(true);
    {
      RawClient client(raw());
      auto hello = client.bus().helloRequest();
      hello.getRequest().setProtocolVersion(protocol::PROTOCOL_VERSION);
      hello.getRequest().setLayoutVersion(layout::kRegionVersion);
      auto answer = hello.send();
      client.wait_scope().poll();
    }
    bus_.block(false);
  }
  EXPECT_TRUE(connect()->status());
  // Sessions that were made for those who had left are found dead.
  EXPECT_TRUE(bus_.eventually([](test::FakeBus& bus) { return bus.sessions.size() == 0; }));
}

TEST_F(Hostile, AHundredClientsAtOnceAreServed) {
  std::vector<std::thread> threads;
  std::atomic<int> served{0};
  for (int i = 0; i < 100; ++i) {
    threads.emplace_back([&, i] {
      ConnectOptions options;
      options.socket = folder_.file("s");
      options.timeout = 60s;
      options.client_name = "client " + std::to_string(i);
      auto client = ControlClient::connect(std::move(options));
      if (!client) return;
      TopicConfig config;
      config.name = "topic-" + std::to_string(i);
      if (!(*client)->create_topic(config)) return;
      auto producer = (*client)->open_producer(config.name, "");
      auto reader = (*client)->open_reader(config.name, {}, true);
      if (producer && reader && (*client)->status()) ++served;
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(served, 100);
  EXPECT_TRUE(bus_.eventually([](test::FakeBus& bus) { return bus.sessions.size() == 0; }));
}

}  // namespace
}  // namespace sluice
