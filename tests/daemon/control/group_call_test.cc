// Every call of consumer groups, client to bus and back.

#include <unistd.h>

#include <chrono>
#include <memory>
#include <thread>

#include <gtest/gtest.h>

#include "sdk/control_client.h"
#include "shm/layout/member_region.h"
#include "shm/region/memfd.h"
#include "tests/daemon/control/fake_bus.h"

namespace sluice {
namespace {

using internal::ControlClient;
using namespace std::chrono_literals;
using test::FakeBus;
using test::FakeGroups;

class GroupCall : public testing::Test {
 protected:
  GroupCall() {
    ConnectOptions options;
    options.socket = folder_.file("s");
    options.control_timeout = 10s;
    client_ = ControlClient::connect(std::move(options)).value();
  }
  // Looks at the groups on the bus thread.
  void look(const std::function<void(FakeGroups&)>& at) {
    bus_.run([&](FakeBus& bus) { at(bus.fake_groups); });
  }
  // Starts the call, and hangs up while the bus has not answered.
  template <typename Call>
  void hang_up_during(Call call) {
    ASSERT_TRUE(client_->status());  // it is back from the last one
    bus_.block(true);
    std::thread calling(call);
    std::this_thread::sleep_for(50ms);  // it is in the bus's inbox by now
    server_.reset();
    bus_.block(false);
    server_ = std::make_unique<test::RunningServer>(folder_.file("s"), bus_);
    calling.join();
  }

  test::TemporaryFolder folder_;
  FakeBus bus_;
  std::unique_ptr<test::RunningServer> server_ = std::make_unique<test::RunningServer>(folder_.file("s"), bus_);
  std::unique_ptr<ControlClient> client_;
};

TEST_F(GroupCall, EveryFieldOfANewGroupArrives) {
  GroupConfig config;
  config.name = "billing";
  config.mode = GroupMode::shared;
  config.ack_timeout = 1s;
  config.member_timeout = 2s;
  config.max_attempts = 3;
  config.backoff = Backoff{{4s, 5s}, 6s, 7s};
  config.strict = Strict::key;
  config.hold = true;
  ASSERT_TRUE(client_->create_group(config));
  look([](FakeGroups& groups) {
    core::GroupConfig expected;
    expected.name = "billing";
    expected.mode = core::GroupMode::shared;
    expected.ack_timeout_ns = 1'000'000'000;
    expected.member_timeout_ns = 2'000'000'000;
    expected.max_attempts = 3;
    expected.backoff = {{4'000'000'000, 5'000'000'000}, 6'000'000'000, 7'000'000'000};
    expected.strict = core::Strict::key;
    expected.hold = true;
    EXPECT_EQ(groups.created, expected);
  });
  EXPECT_EQ(client_->create_group(config).error().code(), ErrorCode::exists);
}

TEST_F(GroupCall, WhatIsLeftOutOfAGroupIsTheDefaultAndZeroIsNotLeftOut) {
  GroupConfig config;
  config.name = "plain";
  ASSERT_TRUE(client_->create_group(config));
  look([](FakeGroups& groups) {
    core::GroupConfig expected;
    expected.name = "plain";
    EXPECT_EQ(groups.created, expected);
  });
  config.name = "zero";
  config.ack_timeout = Duration(0);
  config.member_timeout = Duration(-5);
  config.backoff = Backoff{{}, Duration(0), Duration(0)};
  ASSERT_TRUE(client_->create_group(config));
  look([](FakeGroups& groups) { EXPECT_FALSE(core::check(*groups.created)) << "taken for the defaults"; });
  config.max_attempts = 0;
  EXPECT_EQ(client_->create_group(config).error().code(), ErrorCode::invalid);
}

TEST_F(GroupCall, AChangeSaysWhatChangesAndNothingElse) {
  ASSERT_TRUE(client_->alter_group("billing", {}));
  look([](FakeGroups& groups) {
    const core::GroupChange& change = *groups.altered;
    EXPECT_FALSE(change.ack_timeout_ns || change.member_timeout_ns || change.max_attempts || change.backoff ||
                 change.strict || change.hold);
  });
  GroupChange change;
  change.ack_timeout = 1s;
  change.member_timeout = 2s;
  change.max_attempts = 3;
  change.backoff = Backoff{{Duration(0)}, 1s, 2s};
  change.strict = Strict::none;
  change.hold = false;
  ASSERT_TRUE(client_->alter_group("billing", change));
  look([](FakeGroups& groups) {
    const core::GroupChange& got = *groups.altered;
    EXPECT_EQ(got.ack_timeout_ns, 1'000'000'000u);
    EXPECT_EQ(got.member_timeout_ns, 2'000'000'000u);
    EXPECT_EQ(got.max_attempts, 3u);
    EXPECT_EQ(got.backoff, (core::Backoff{{0}, 1'000'000'000, 2'000'000'000}));
    EXPECT_EQ(got.strict, core::Strict::none);
    EXPECT_EQ(got.hold, false);
  });
  EXPECT_EQ(client_->alter_group("none", change).error().code(), ErrorCode::not_found);
  change.max_attempts = 0;
  EXPECT_EQ(client_->alter_group("billing", change).error().code(), ErrorCode::invalid);
}

TEST_F(GroupCall, GroupsArePausedResumedAndDeleted) {
  ASSERT_TRUE(client_->pause_group("billing", true));
  look([](FakeGroups& groups) { EXPECT_EQ(groups.paused, true); });
  ASSERT_TRUE(client_->pause_group("billing", false));
  look([](FakeGroups& groups) { EXPECT_EQ(groups.paused, false); });
  EXPECT_EQ(client_->pause_group("none", true).error().code(), ErrorCode::not_found);
  ASSERT_TRUE(client_->delete_group("billing"));
  EXPECT_EQ(client_->delete_group("none").error().code(), ErrorCode::not_found);
}

TEST_F(GroupCall, EveryFieldOfADescriptionComesBack) {
  EXPECT_EQ(client_->describe_groups("").value().size(), 2u);
  const auto groups = client_->describe_groups("billing").value();
  ASSERT_EQ(groups.size(), 1u);
  const GroupInfo& group = groups[0];
  EXPECT_EQ(group.config.name, "billing");
  EXPECT_EQ(group.config.mode, GroupMode::shared);
  EXPECT_EQ(group.config.ack_timeout, 11ms);
  EXPECT_EQ(group.config.member_timeout, 12ms);
  EXPECT_EQ(group.config.max_attempts, 13u);
  EXPECT_EQ(group.config.backoff->steps, (std::vector<Duration>{Duration(14), Duration(15)}));
  EXPECT_EQ(group.config.backoff->first, Duration(16));
  EXPECT_EQ(group.config.backoff->max, Duration(17));
  EXPECT_EQ(group.config.strict, Strict::partition);
  EXPECT_TRUE(group.config.hold);
  EXPECT_TRUE(group.paused);
  EXPECT_EQ(group.epoch, 18u);
  EXPECT_EQ(group.subscriptions, (std::vector<std::string>{"orders", "bills.*"}));
  ASSERT_EQ(group.members.size(), 1u);
  const MemberInfo& member = group.members[0];
  EXPECT_EQ(member.member, FakeGroups::kMember);
  EXPECT_EQ(member.session, 21u);
  EXPECT_EQ(member.pid, 22);
  EXPECT_EQ(member.client_name, "worker");
  EXPECT_EQ(member.partitions, 23u);
  EXPECT_EQ(member.in_flight, 24u);
  EXPECT_EQ(member.in_flight_max, 25u);
  EXPECT_EQ(member.idle, Duration(26));
  EXPECT_TRUE(member.hung);
  ASSERT_EQ(group.partitions.size(), 2u);
  const GroupPartitionInfo& partition = group.partitions[0];
  EXPECT_EQ(partition.topic, "orders");
  EXPECT_EQ(partition.topic_id, TopicId(31));
  EXPECT_EQ(partition.partition, 32u);
  EXPECT_EQ(partition.member, 33u);
  EXPECT_EQ(partition.cursor, Position(34));
  EXPECT_EQ(partition.end, Position(35));
  EXPECT_EQ(partition.lag_messages, 36u);
  EXPECT_EQ(partition.lag_bytes, 37u);
  EXPECT_EQ(partition.oldest_age, Duration(38));
  EXPECT_EQ(partition.ready, 39u);
  EXPECT_EQ(partition.in_flight, 40u);
  EXPECT_EQ(partition.retrying, 41u);
  EXPECT_EQ(partition.parked, 42u);
  EXPECT_EQ(partition.produced_per_s, 43.5);
  EXPECT_EQ(partition.consumed_per_s, 44.5);
  EXPECT_EQ(partition.catch_up, Duration(45));
  EXPECT_EQ(group.partitions[1].catch_up, std::nullopt);
  EXPECT_EQ(client_->describe_groups("none").error().code(), ErrorCode::not_found);
}

TEST_F(GroupCall, AReasonComesBack) {
  const auto reason = client_->explain_group("billing").value();
  EXPECT_TRUE(reason.well);
  EXPECT_EQ(reason.cause, "catching_up");
  EXPECT_EQ(reason.sentence, "It is catching up.");
  EXPECT_EQ(reason.advice, "Wait.");
  EXPECT_EQ(client_->explain_group("none").error().code(), ErrorCode::not_found);
}

TEST_F(GroupCall, ASeekSaysWhereToInEachWay) {
  using Kind = core::GroupStart::Kind;
  const auto seek = [&](const From& to) { return client_->seek_group("billing", "orders", to, true, true); };
  const auto moves = seek(From::position(5, Position(640))).value();
  ASSERT_EQ(moves.size(), 1u);
  EXPECT_EQ(moves[0].topic, "orders");
  EXPECT_EQ(moves[0].partition, 61u);
  EXPECT_EQ(moves[0].from, Position(62));
  EXPECT_EQ(moves[0].to, Position(63));
  EXPECT_TRUE(moves[0].below_horizon);
  look([](FakeGroups& groups) {
    EXPECT_EQ(groups.sought->topic, "orders");
    EXPECT_EQ(groups.sought->to.kind, Kind::position);
    EXPECT_EQ(groups.sought->to.partition, 5u);
    EXPECT_EQ(groups.sought->to.position, Position(640));
    EXPECT_TRUE(groups.sought->execute);
    EXPECT_TRUE(groups.sought->force);
  });
  ASSERT_TRUE(seek(From::time(99)));
  look([](FakeGroups& groups) {
    EXPECT_EQ(groups.sought->to.kind, Kind::time);
    EXPECT_EQ(groups.sought->to.time_ns, 99u);
  });
  ASSERT_TRUE(seek(From::earliest()));
  look([](FakeGroups& groups) { EXPECT_EQ(groups.sought->to.kind, Kind::earliest); });
  ASSERT_TRUE(client_->seek_group("billing", "", From::latest(), false, false));
  look([](FakeGroups& groups) {
    EXPECT_EQ(groups.sought->to.kind, Kind::latest);
    EXPECT_FALSE(groups.sought->execute);
    EXPECT_FALSE(groups.sought->force);
    EXPECT_TRUE(groups.sought->topic.empty());
  });
  EXPECT_EQ(client_->seek_group("none", "", From::latest(), false, false).error().code(), ErrorCode::not_found);
}

TEST_F(GroupCall, TheSafeHorizonAndTheEpochsOfAGroup) {
  const auto horizon = client_->safe_horizon("billing", "orders", 3).value();
  EXPECT_EQ(horizon.topic, TopicId(91));
  EXPECT_EQ(horizon.epoch, 92u);
  EXPECT_EQ(horizon.below, Position(96));
  EXPECT_EQ(horizon.parked, (std::vector<Position>{Position(94), Position(95)}));
  EXPECT_EQ(client_->safe_horizon("none", "orders", 0).error().code(), ErrorCode::not_found);
  EXPECT_EQ(client_->safe_horizon("billing", "none", 0).error().code(), ErrorCode::not_found);
  const auto epochs = client_->group_epochs("billing", TopicId(7), 8).value();
  ASSERT_EQ(epochs.size(), 2u);
  EXPECT_EQ(epochs[0].from, Position(7));
  EXPECT_EQ(epochs[0].epoch, 8u);
  EXPECT_EQ(epochs[1].from, Position(96));
  EXPECT_EQ(epochs[1].epoch, 97u);
  EXPECT_EQ(client_->group_epochs("none", TopicId(7), 8).error().code(), ErrorCode::not_found);
}

TEST_F(GroupCall, AMemberSaysWhatItHoldsAndGetsItsRegionAndItsEventfd) {
  internal::JoinGroup join;
  join.group = "billing";
  join.mode = GroupMode::shared;
  join.must_exist = true;
  join.topics = {"orders", "bills.*"};
  join.tag = "paid";
  join.from = From::earliest();
  join.in_flight_max = 12;
  join.held_partitions = {{TopicId(1), 2, Position(3), Position(4), Position(5), 51}};
  join.held_messages = {{TopicId(6), 7, Position(8), 9, 10, true, 52}};
  const auto grant = client_->join_group(join).value();
  look([](FakeGroups& groups) {
    const session::JoinGroup& got = *groups.joined;
    EXPECT_EQ(got.group, "billing");
    EXPECT_EQ(got.mode, core::GroupMode::shared);
    EXPECT_TRUE(got.must_exist);
    EXPECT_EQ(got.topics, (std::vector<std::string>{"orders", "bills.*"}));
    EXPECT_EQ(got.tag, "paid");
    EXPECT_EQ(got.start.kind, core::GroupStart::Kind::earliest);
    EXPECT_EQ(got.in_flight_max, 12u);
    ASSERT_EQ(got.held_partitions.size(), 1u);
    EXPECT_EQ(got.held_partitions[0].topic, TopicId(1));
    EXPECT_EQ(got.held_partitions[0].partition, 2u);
    EXPECT_EQ(got.held_partitions[0].acked, Position(3));
    EXPECT_EQ(got.held_partitions[0].oldest, Position(4));
    EXPECT_EQ(got.held_partitions[0].newest, Position(5));
    EXPECT_EQ(got.held_partitions[0].seeks, 51u);
    ASSERT_EQ(got.held_messages.size(), 1u);
    EXPECT_EQ(got.held_messages[0].topic, TopicId(6));
    EXPECT_EQ(got.held_messages[0].partition, 7u);
    EXPECT_EQ(got.held_messages[0].position, Position(8));
    EXPECT_EQ(got.held_messages[0].delivered, 9u);
    EXPECT_EQ(got.held_messages[0].failed, 10u);
    EXPECT_TRUE(got.held_messages[0].started);
    EXPECT_EQ(got.held_messages[0].seeks, 52u);
  });
  EXPECT_EQ(grant.member, FakeGroups::kMember);
  EXPECT_EQ(grant.config.max_attempts, 13u);
  EXPECT_EQ(grant.memory, client_->memory());
  EXPECT_EQ(region::file_size(grant.region.get(), "the member's region").value(), sizeof(layout::MemberRegion));
  std::uint64_t count = 0;
  ASSERT_EQ(read(grant.readable.get(), &count, sizeof count), 8);
  EXPECT_EQ(count, 7u) << "the eventfd and the region are exchanged";
  join.group = "none";
  EXPECT_EQ(client_->join_group(join).error().code(), ErrorCode::not_found);
  join.must_exist = false;
  join.in_flight_max = 0;
  ASSERT_TRUE(client_->join_group(join));
  look([](FakeGroups& groups) { EXPECT_EQ(groups.joined->in_flight_max, kInFlightMaxDefault); });
}

TEST_F(GroupCall, EveryFieldOfAnAssignmentComesBack) {
  const auto assignments = client_->assignments(FakeGroups::kMember).value();
  ASSERT_EQ(assignments.size(), 1u);
  const internal::Assignment& assignment = assignments[0];
  EXPECT_EQ(assignment.cell, 71u);
  EXPECT_EQ(assignment.generation, 72u);
  EXPECT_EQ(assignment.topic, "orders");
  EXPECT_EQ(assignment.topic_id, TopicId(73));
  EXPECT_EQ(assignment.partition, 74u);
  EXPECT_EQ(assignment.start, Position(75));
  EXPECT_EQ(assignment.careful_until, Position(76));
  ASSERT_EQ(assignment.settled.size(), 2u);
  EXPECT_EQ(assignment.settled[1].begin, Position(79));
  EXPECT_EQ(assignment.settled[1].end, Position(80));
  ASSERT_EQ(assignment.repeats.size(), 1u);
  EXPECT_EQ(assignment.repeats[0].position, Position(81));
  EXPECT_EQ(assignment.repeats[0].delivered, 82u);
  EXPECT_EQ(assignment.repeats[0].failed, 83u);
  EXPECT_EQ(assignment.blocked_keys, (std::vector<std::uint64_t>{84, 85}));
  EXPECT_TRUE(assignment.blocked);
  EXPECT_EQ(assignment.seeks, 86u);
}

TEST_F(GroupCall, AMemberThatTheDaemonDoesNotKnowIsToldToJoinAgain) {
  EXPECT_TRUE(client_->save_acks(FakeGroups::kMember));
  EXPECT_EQ(client_->save_acks(9).error().code(), ErrorCode::not_found);
  EXPECT_EQ(client_->assignments(9).error().code(), ErrorCode::not_found);
  EXPECT_EQ(client_->leave_group(9, client_->generation()).error().code(), ErrorCode::not_found);
  EXPECT_TRUE(client_->leave_group(FakeGroups::kMember, client_->generation()));
  // What belonged to a lost memory is gone already, and the daemon is not asked.
  EXPECT_TRUE(client_->leave_group(9, client_->generation() - 1));
  look([](FakeGroups& groups) { EXPECT_EQ(groups.leaves, 2u); });
}

TEST_F(GroupCall, DeadLettersAreCountedListedRedrivenAndPurged) {
  const auto counts = client_->count_dead_letters("").value();
  ASSERT_EQ(counts.size(), 1u);
  EXPECT_EQ(counts[0].group, "billing");
  EXPECT_EQ(counts[0].parked, 91u);
  EXPECT_EQ(counts[0].redriven, 92u);
  EXPECT_EQ(counts[0].purged, 93u);

  const auto letters = client_->list_dead_letters("billing", 7, 8).value();
  look([](FakeGroups& groups) {
    EXPECT_EQ(groups.after_id, 7u);
    EXPECT_EQ(groups.limit, 8u);
  });
  ASSERT_EQ(letters.size(), 1u);
  EXPECT_EQ(letters[0].id, 51u);
  EXPECT_EQ(letters[0].group, "billing");
  EXPECT_EQ(letters[0].topic, "orders");
  EXPECT_EQ(letters[0].partition, 52u);
  EXPECT_EQ(letters[0].position, Position(53));
  EXPECT_EQ(letters[0].parked_at, Position(54));
  EXPECT_EQ(letters[0].reason, "no such customer");
  EXPECT_EQ(letters[0].delivered, 55u);
  EXPECT_EQ(letters[0].failed, 56u);
  EXPECT_EQ(letters[0].parked_ns, 57u);
  EXPECT_EQ(letters[0].state, "parked");

  RedriveOptions options;
  options.filter = {{"topic", "orders"}, {"reason", "customer"}};
  options.rate = 5;
  options.dry_run = true;
  const auto outcomes = client_->redrive("billing", options).value();
  ASSERT_EQ(outcomes.size(), 1u);
  EXPECT_EQ(outcomes[0].letter.id, 51u);
  EXPECT_EQ(outcomes[0].outcome, "would_redrive");
  look([&](FakeGroups& groups) {
    EXPECT_EQ(groups.redriven->filter, options.filter);
    EXPECT_EQ(groups.redriven->rate, 5u);
    EXPECT_TRUE(groups.redriven->dry_run);
  });
  EXPECT_EQ(client_->purge_dead_letters("billing").value(), 101u);
  EXPECT_EQ(client_->count_dead_letters("none").error().code(), ErrorCode::not_found);
  EXPECT_EQ(client_->list_dead_letters("none", 0, 1).error().code(), ErrorCode::not_found);
  EXPECT_EQ(client_->redrive("none", {}).error().code(), ErrorCode::not_found);
  EXPECT_EQ(client_->purge_dead_letters("none").error().code(), ErrorCode::not_found);
}

TEST_F(GroupCall, WhatChangesAGroupIsNotDoneTwiceBehindItsCallersBack) {
  const auto unknown_after_hang_up = [&](auto call) {
    Status status;
    hang_up_during([&] { status = call(); });
    return !status && status.error().code() == ErrorCode::unknown;
  };
  const auto to_status = [](auto result) -> Status {
    if (result) return {};
    return fail(result.error());
  };
  GroupConfig config;
  config.name = "billing";
  EXPECT_TRUE(unknown_after_hang_up([&] { return client_->create_group(config); }));
  EXPECT_TRUE(unknown_after_hang_up([&] { return client_->alter_group("billing", {}); }));
  EXPECT_TRUE(unknown_after_hang_up([&] { return client_->delete_group("billing"); }));
  EXPECT_TRUE(unknown_after_hang_up(
      [&] { return to_status(client_->seek_group("billing", "", From::latest(), true, false)); }));
  EXPECT_TRUE(unknown_after_hang_up([&] { return to_status(client_->redrive("billing", {})); }));
  EXPECT_TRUE(unknown_after_hang_up([&] { return to_status(client_->purge_dead_letters("billing")); }));
  look([](FakeGroups& groups) {
    EXPECT_EQ(groups.creates, 1u);
    EXPECT_EQ(groups.deletes, 1u);
    EXPECT_EQ(groups.seeks, 1u);
    EXPECT_EQ(groups.redrives, 1u);
    EXPECT_EQ(groups.purges, 1u);
  });
}

TEST_F(GroupCall, WhatIsHarmlessTwiceIsRepeatedAfterAHangUp) {
  const auto goes_on = [&](auto call) {
    bool good = false;
    hang_up_during([&] { good = call().has_value(); });
    return good;
  };
  EXPECT_TRUE(goes_on([&] { return client_->pause_group("billing", true); }));
  EXPECT_TRUE(goes_on([&] { return client_->describe_groups(""); }));
  EXPECT_TRUE(goes_on([&] { return client_->seek_group("billing", "", From::latest(), false, false); }));
  EXPECT_TRUE(goes_on([&] { return client_->redrive("billing", {{}, 0, true}); }));
  internal::JoinGroup join;
  join.group = "billing";
  EXPECT_TRUE(goes_on([&] { return client_->join_group(join); }));
  EXPECT_TRUE(goes_on([&] { return client_->save_acks(FakeGroups::kMember); }));
  look([](FakeGroups& groups) { EXPECT_EQ(groups.joins, 2u); });
}

}  // namespace
}  // namespace sluice
