// Calls of consumer groups that do not keep to the limits: refused by name, and the bus never hears of them.

#include <string>

#include <gtest/gtest.h>

#include "daemon/control/convert_groups.h"
#include "shm/base/limits.h"
#include "tests/daemon/control/fake_bus.h"
#include "tests/daemon/control/raw_client.h"

namespace sluice {
namespace {

constexpr auto kInvalid = static_cast<std::uint8_t>(ErrorCode::invalid);
constexpr auto kQuota = static_cast<std::uint8_t>(ErrorCode::quota);
constexpr auto kNotFound = static_cast<std::uint8_t>(ErrorCode::not_found);

std::string too_long(std::size_t max) { return std::string(max + 1, 'x'); }

class HostileGroup : public testing::Test {
 protected:
  ~HostileGroup() noexcept override {}
  // Each answers with the failure's code, 0 if there is none.
  template <typename Fill>
  std::uint8_t create(Fill fill) {
    auto request = session_.createGroupRequest();
    fill(request.initConfig());
    return code(request.send().wait(client_.wait_scope()).getDone());
  }
  template <typename Fill>
  std::uint8_t alter(Fill fill) {
    auto request = session_.alterGroupRequest();
    request.setName("billing");
    fill(request.initChange());
    return code(request.send().wait(client_.wait_scope()).getDone());
  }
  template <typename Fill>
  std::uint8_t join(Fill fill) {
    auto request = session_.joinGroupRequest();
    fill(request.initRequest());
    const auto answer = request.send().wait(client_.wait_scope());
    return answer.getResponse().isFailure() ? answer.getResponse().getFailure().getCode() : std::uint8_t{0};
  }
  template <typename Fill>
  std::uint8_t seek(Fill fill) {
    auto request = session_.seekGroupRequest();
    request.initRequest().setGroup("billing");
    fill(request.getRequest());
    return request.send().wait(client_.wait_scope()).getFailure().getCode();
  }
  template <typename Fill>
  std::uint8_t redrive(Fill fill) {
    auto request = session_.redriveRequest();
    request.initRequest().setGroup("billing");
    fill(request.getRequest());
    return request.send().wait(client_.wait_scope()).getFailure().getCode();
  }
  static std::uint8_t code(protocol::Done::Reader done) {
    return done.isFailure() ? done.getFailure().getCode() : std::uint8_t{0};
  }

  test::TemporaryFolder folder_;
  test::FakeBus bus_;
  test::RunningServer server_{folder_.file("s"), bus_};
  test::RawClient client_{test::connect_raw(folder_.file("s"))};
  protocol::Session::Client session_ = client_.session();
};

TEST_F(HostileGroup, ConfigurationsBeyondTheLimitsAreRefused) {
  EXPECT_EQ(create([](auto config) { config.setName(too_long(kGroupNameSizeMax)); }), kInvalid);
  EXPECT_EQ(create([](auto config) { config.setMode(static_cast<protocol::GroupMode>(2)); }), kInvalid);
  EXPECT_EQ(create([](auto config) { config.setStrict(static_cast<protocol::Strict>(3)); }), kInvalid);
  EXPECT_EQ(create([](auto config) { config.initBackoff().initStepsNs(kBackoffStepsMax + 1); }), kQuota);
  EXPECT_EQ(alter([](auto change) {
              change.setSetStrict(true);
              change.setStrict(static_cast<protocol::Strict>(99));
            }),
            kInvalid);
  EXPECT_EQ(alter([](auto change) {
              change.setSetBackoff(true);
              change.initBackoff().initStepsNs(kBackoffStepsMax + 1);
            }),
            kQuota);
  bus_.run([](test::FakeBus& bus) {
    EXPECT_FALSE(bus.fake_groups.created);
    EXPECT_FALSE(bus.fake_groups.altered);
  });
  EXPECT_EQ(create([](auto config) {
              config.setName(std::string(kGroupNameSizeMax, 'x'));
              config.initBackoff().initStepsNs(kBackoffStepsMax);
            }),
            0);
}

TEST_F(HostileGroup, MembersBeyondTheLimitsAreRefused) {
  EXPECT_EQ(join([](auto request) { request.setGroup(too_long(kGroupNameSizeMax)); }), kInvalid);
  EXPECT_EQ(join([](auto request) { request.setMode(static_cast<protocol::GroupMode>(7)); }), kInvalid);
  EXPECT_EQ(join([](auto request) { request.initTopics(kMemberPatternsMax + 1); }), kQuota);
  EXPECT_EQ(join([](auto request) { request.initTopics(1).set(0, too_long(kTopicNameSizeMax)); }), kInvalid);
  EXPECT_EQ(join([](auto request) { request.setTag(too_long(kTagSizeMax)); }), kInvalid);
  EXPECT_EQ(join([](auto request) { request.setInFlightMax(kDeliverySlotsMax + 1); }), kInvalid);
  EXPECT_EQ(join([](auto request) { request.initHeldPartitions(kMemberCellsMax + 1); }), kQuota);
  EXPECT_EQ(join([](auto request) { request.initHeldMessages(kDeliverySlotsMax + 1); }), kQuota);
  EXPECT_EQ(join([](auto request) {
              request.initStart().setPosition(64);
              request.getStart().setPartition(kPartitionsPerTopicMax);
            }),
            kNotFound);
  bus_.run([](test::FakeBus& bus) { EXPECT_EQ(bus.fake_groups.joins, 0u); });
  EXPECT_EQ(join([](auto request) {
              request.initTopics(kMemberPatternsMax);
              request.setInFlightMax(kDeliverySlotsMax);
              request.initHeldPartitions(kMemberCellsMax);
              request.initHeldMessages(kDeliverySlotsMax);
            }),
            0);
}

TEST_F(HostileGroup, SeeksAndRedrivesBeyondTheLimitsAreRefused) {
  EXPECT_EQ(seek([](auto request) { request.setGroup(too_long(kGroupNameSizeMax)); }), kInvalid);
  EXPECT_EQ(seek([](auto request) { request.setTopic(too_long(kTopicNameSizeMax)); }), kInvalid);
  EXPECT_EQ(redrive([](auto request) { request.initFilter(control::kRedriveFiltersMax + 1); }), kQuota);
  EXPECT_EQ(redrive([](auto request) { request.initFilter(1)[0].setKey(too_long(control::kFilterKeySizeMax)); }),
            kInvalid);
  EXPECT_EQ(redrive([](auto request) { request.initFilter(1)[0].setValue(too_long(control::kFilterValueSizeMax)); }),
            kInvalid);
  bus_.run([](test::FakeBus& bus) {
    EXPECT_EQ(bus.fake_groups.seeks, 0u);
    EXPECT_EQ(bus.fake_groups.redrives, 0u);
  });
  EXPECT_EQ(seek([](auto) {}), 0);
  EXPECT_EQ(redrive([](auto) {}), 0);
}

TEST_F(HostileGroup, NamesAreCheckedInEveryCall) {
  const std::string name = too_long(kGroupNameSizeMax);
  auto& scope = client_.wait_scope();
  auto remove = session_.deleteGroupRequest();
  remove.setName(name);
  EXPECT_EQ(code(remove.send().wait(scope).getDone()), kInvalid);
  auto pause = session_.pauseGroupRequest();
  pause.setName(name);
  EXPECT_EQ(code(pause.send().wait(scope).getDone()), kInvalid);
  auto describe = session_.describeGroupsRequest();
  describe.setName(name);
  EXPECT_EQ(describe.send().wait(scope).getFailure().getCode(), kInvalid);
  auto explain = session_.explainGroupRequest();
  explain.setName(name);
  EXPECT_EQ(explain.send().wait(scope).getResponse().getFailure().getCode(), kInvalid);
  auto count = session_.countDeadLettersRequest();
  count.setGroup(name);
  EXPECT_EQ(count.send().wait(scope).getFailure().getCode(), kInvalid);
  auto purge = session_.purgeDeadLettersRequest();
  purge.setGroup(name);
  EXPECT_EQ(purge.send().wait(scope).getFailure().getCode(), kInvalid);
  auto list = session_.listDeadLettersRequest();
  list.setGroup(name);
  EXPECT_EQ(list.send().wait(scope).getFailure().getCode(), kInvalid);
  bus_.run([](test::FakeBus& bus) {
    EXPECT_EQ(bus.fake_groups.deletes, 0u);
    EXPECT_EQ(bus.fake_groups.purges, 0u);
  });
}

TEST_F(HostileGroup, AnAnswerHoldsSoManyDeadLettersAndNoMore) {
  for (const std::uint32_t asked : {0u, control::kDeadLettersPerCallMax + 1, UINT32_MAX}) {
    auto list = session_.listDeadLettersRequest();
    list.setGroup("billing");
    list.setLimit(asked);
    EXPECT_EQ(list.send().wait(client_.wait_scope()).getFailure().getCode(), 0);
    bus_.run([](test::FakeBus& bus) { EXPECT_EQ(bus.fake_groups.limit, control::kDeadLettersPerCallMax); });
  }
}

TEST_F(HostileGroup, RegionsThatAreNeverReleasedRunIntoAQuota) {
  std::vector<capnp::Response<protocol::Session::JoinGroupResults>> kept;
  bool refused = false;
  for (std::uint32_t i = 0; i <= control::kDescriptorsMax / 2 && !refused; ++i) {
    auto answer = session_.joinGroupRequest().send().wait(client_.wait_scope());
    refused = answer.getResponse().isFailure();
    if (refused) {
      EXPECT_EQ(answer.getResponse().getFailure().getCode(), kQuota);
    }
    kept.push_back(kj::mv(answer));
  }
  EXPECT_TRUE(refused);
}

}  // namespace
}  // namespace sluice
