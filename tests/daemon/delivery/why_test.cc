// The one cause that is told of several, and what its sentence names.
#include <unistd.h>

#include "daemon/delivery/lag.h"
#include "tests/daemon/delivery/delivery_rig.h"

namespace sluice::delivery {
namespace {

constexpr std::uint64_t kSecond = 1'000'000'000;

class Why : public testing::Test {
 protected:
  void SetUp() override {
    position_ = rig_.logs.produce(rig_.topic, 0, "m");
    info_.config = rig_.group().record().config;
    session::GroupPartitionInfo partition;
    partition.topic = "orders";
    partition.topic_id = rig_.topic;
    partition.member = kMember;
    partition.lag_messages = 5;
    info_.partitions.push_back(partition);
    session::MemberInfo member;
    member.member = kMember;
    member.pid = ::getpid();  // it is not stopped
    member.client_name = "billing-3";
    member.in_flight_max = 10;
    info_.members.push_back(member);
  }
  session::GroupReason explain() { return delivery::explain(info_, rig_.group(), rig_.logs, rig_.now); }
  void expect(const std::string& cause, const std::string& words, bool well = false) {
    const session::GroupReason reason = explain();
    EXPECT_EQ(reason.cause, cause) << reason.sentence;
    EXPECT_EQ(reason.well, well);
    EXPECT_NE(reason.sentence.find(words), std::string::npos) << reason.sentence;
    EXPECT_FALSE(reason.advice.empty());
  }
  session::GroupPartitionInfo& partition() { return info_.partitions[0]; }
  session::MemberInfo& member() { return info_.members[0]; }

  DeliveryRig rig_;
  Position position_;
  session::GroupInfo info_;
};

TEST_F(Why, NothingIsBehind) {
  partition().lag_messages = 0;
  info_.paused = true;
  info_.members.clear();
  expect("caught_up", "everything", true);
}

TEST_F(Why, PausedComesBeforeTheMembersThatItLacks) {
  info_.paused = true;
  info_.members.clear();
  expect("paused", "5 messages");
}

TEST_F(Why, NoMembers) {
  info_.members.clear();
  expect("no_members", "no members");
}

TEST_F(Why, NoSubscription) {
  info_.partitions.clear();
  expect("not_subscribed", "nothing");
}

TEST_F(Why, APartitionOfATopicThatNobodySubscribesTo) {
  partition().member = 0;
  expect("not_subscribed", "orders");
}

TEST_F(Why, AMemberThatDoesNotCall) {
  member().in_flight = 3;
  member().idle_ns = info_.config.member_timeout_ns / 2;
  expect("member_hung", "billing-3 (pid " + std::to_string(::getpid()) + ")");
  member().in_flight = 0;  // it waits
  expect("catching_up", "", true);
}

TEST_F(Why, AMemberAtItsLimit) {
  member().in_flight = 10;
  expect("in_flight_limit", "limit of 10 messages");
  member().in_flight = 9;
  expect("catching_up", "", true);
}

TEST_F(Why, AMessageThatFailsAgainAndAgainAndItsAddress) {
  rig_.join();
  rig_.say(core::Verb::nack, position_);
  EXPECT_NE(explain().cause, "poison_message") << "once is no poison";
  rig_.group().machine().tick(rig_.now.ns + kSecond);
  const std::vector<std::uint32_t> slots = rig_.group().machine().slots_out(kMember);
  ASSERT_EQ(slots.size(), 1u);
  core::Outcome outcome;
  outcome.verb = core::Verb::nack;
  outcome.by_slot = true;
  outcome.index = slots[0];
  outcome.target = rig_.group().machine().stamp_of(kMember, slots[0]);
  outcome.argument = core::kByPolicy;
  rig_.group().machine().outcome(kMember, outcome, rig_.now.ns + kSecond);
  expect("poison_message", "orders/0@" + std::to_string(position_.value) + " of group g has failed 2 times");
}

TEST_F(Why, AMemberThatTakesLongForOneMessage) {
  rig_.join();
  core::CellWords words;
  words.acked = words.oldest = words.newest = position_;
  words.in_flight = 1;
  rig_.group().machine().progress(kMember, 0, words, position_ + kFakeRecordSize, rig_.now.ns);
  rig_.now.ns += info_.config.ack_timeout_ns / 4 - 1;
  expect("catching_up", "", true);
  rig_.now.ns += 1;
  expect("member_slow", "billing-3");
}

TEST_F(Why, AProducerInsideAClaim) {
  rig_.logs.set_open_claim(4711);
  expect("open_claim", "pid 4711");
}

TEST_F(Why, ProducersThatAreFaster) {
  partition().produced_per_s = 100;
  partition().consumed_per_s = 20;
  expect("producers_faster", "100 messages a second come in, 20 are settled");
  partition().consumed_per_s = 200;
  expect("catching_up", "", true);
}

TEST_F(Why, RetriesAlone) {
  partition().retrying = 5;
  expect("retrying", "5 messages");
}

}  // namespace
}  // namespace sluice::delivery
