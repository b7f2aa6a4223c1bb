// Every call of the control protocol, client to bus and back.

#include <fcntl.h>
#include <unistd.h>

#include <gtest/gtest.h>

#include "sdk/control_client.h"
#include "shm/region/region.h"
#include "tests/daemon/control/fake_bus.h"

namespace sluice {
namespace {

using internal::ControlClient;

class ControlCall : public testing::Test {
 protected:
  ControlCall() {
    ConnectOptions options;
    options.socket = folder_.file("s");
    options.client_name = "call test";
    client_ = ControlClient::connect(std::move(options)).value();
  }
  void make_topic(const std::string& name, std::uint32_t partitions) {
    TopicConfig config;
    config.name = name;
    config.partitions = partitions;
    ASSERT_TRUE(client_->create_topic(config));
  }
  region::RegionExpectation expect(layout::RegionKind kind, PartitionNumber partition) const {
    return {kind, Incarnation(1), TopicId(1), partition, std::nullopt};
  }

  test::TemporaryFolder folder_;
  test::FakeBus bus_;
  test::RunningServer server_{folder_.file("s"), bus_};
  std::unique_ptr<ControlClient> client_;
};

TEST_F(ControlCall, HelloSaysWhoItIsAndGetsMemory) {
  bus_.run([](test::FakeBus& bus) {
    ASSERT_TRUE(bus.last_hello);
    EXPECT_EQ(bus.last_hello->client_name, "call test");
    EXPECT_EQ(bus.last_hello->peer.uid, geteuid());
    EXPECT_EQ(bus.last_hello->peer.pid, getpid());
    EXPECT_TRUE(bus.last_hello->resume_token.empty());
  });
  EXPECT_EQ(client_->state(), ConnectionState::connected);
  EXPECT_TRUE(client_->online());
  EXPECT_TRUE(client_->health());
  EXPECT_EQ(client_->generation(), 1u);
  EXPECT_EQ(client_->incarnation(), Incarnation(1));
  const auto pin = internal::PinLease::take(client_->memory()).value();
  pin.cell() = layout::pin_word(3, SegmentNumber(4));
  bus_.run([](test::FakeBus& bus) { EXPECT_TRUE(bus.sessions.is_pinned(3, SegmentNumber(4))); });
  EXPECT_FALSE(client_->memory()->revoked());
  const std::uint64_t one = 1;
  EXPECT_EQ(write(client_->memory()->wake_fd(), &one, sizeof one), 8);
}

TEST_F(ControlCall, TheLockIsHeldByTheClientsMappingAlone) {
  // Neither side keeps the descriptor: the session dies with the client object.
  bus_.run([](test::FakeBus& bus) { EXPECT_FALSE(bus.sessions.find(SessionId(1))->is_dead().value()); });
  client_.reset();
  EXPECT_TRUE(bus_.eventually([](test::FakeBus& bus) { return bus.proven_dead == std::vector{SessionId(1)}; }));
}

TEST_F(ControlCall, WhatIsLeftOutOfATopicIsTheDaemonsToSayAndZeroIsNotLeftOut) {
  bus_.run([](test::FakeBus& bus) {
    bus.topic_defaults = {core::Durability::sync, 1 << 20, 6, 7, 8'000'000'000, 9'000'000};
  });
  TopicConfig config;
  config.name = "left out";
  ASSERT_TRUE(client_->create_topic(config));
  config = client_->describe_topic("left out").value().config;
  EXPECT_EQ(config.durability, Durability::sync);
  EXPECT_EQ(config.segment_size, 1u << 20);
  EXPECT_EQ(config.slots, 6u);
  EXPECT_EQ(config.retention_bytes, 7u);
  EXPECT_EQ(config.retention_time, std::chrono::seconds(8));
  EXPECT_EQ(config.claim_deadline, std::chrono::milliseconds(9));
  config.name = "given";
  config.durability = Durability::volatile_;
  config.retention_bytes = 0;
  config.retention_time = Duration(0);
  config.claim_deadline = Duration(0);
  ASSERT_TRUE(client_->create_topic(config));
  config = client_->describe_topic("given").value().config;
  EXPECT_EQ(config.durability, Durability::volatile_);
  EXPECT_EQ(config.retention_bytes, 0u);
  EXPECT_EQ(config.retention_time, Duration(0));
  EXPECT_EQ(config.claim_deadline, Duration(0));
}

TEST_F(ControlCall, TopicsAreCreatedDescribedAlteredAndDeleted) {
  TopicConfig config;
  config.name = "orders";
  config.partitions = 3;
  config.durability = Durability::volatile_;
  config.visibility = Visibility::durable;
  config.segment_size = 1 << 20;
  config.slots = 6;
  config.retention_bytes = 7;
  config.retention_time = std::chrono::seconds(8);
  config.overflow = Overflow::drop_oldest;
  config.claim_deadline = Duration(0);
  config.checksum = false;
  config.time_mode = TimeMode::precise;
  config.message_ttl = std::chrono::hours(9);
  config.publishers = {"user:a", "group:b"};
  config.consumers = {"user:c"};
  ASSERT_TRUE(client_->create_topic(config));
  EXPECT_EQ(client_->create_topic(config).error().code(), ErrorCode::exists);

  TopicChange change;
  change.partitions = 4;
  change.retention_time = std::chrono::seconds(0);
  change.message_ttl = std::chrono::hours(10);
  ASSERT_TRUE(client_->alter_topic("orders", change));
  const auto topic = client_->describe_topic("orders").value();
  EXPECT_EQ(topic.config.name, "orders");
  EXPECT_EQ(topic.config.partitions, 4u);
  EXPECT_EQ(topic.config.durability, Durability::volatile_);
  EXPECT_EQ(topic.config.visibility, Visibility::durable);
  EXPECT_EQ(topic.config.segment_size, 1u << 20);
  EXPECT_EQ(topic.config.slots, 6u);
  EXPECT_EQ(topic.config.retention_bytes, 7u);
  EXPECT_EQ(topic.config.retention_time, Duration(0));
  EXPECT_EQ(topic.config.overflow, Overflow::drop_oldest);
  EXPECT_EQ(topic.config.claim_deadline, Duration(0));
  EXPECT_FALSE(topic.config.checksum);
  EXPECT_EQ(topic.config.time_mode, TimeMode::precise);
  EXPECT_EQ(topic.config.message_ttl, std::chrono::hours(10));
  EXPECT_EQ(topic.config.publishers, config.publishers);
  EXPECT_EQ(topic.config.consumers, config.consumers);
  EXPECT_EQ(topic.id, TopicId(1));
  ASSERT_EQ(topic.partitions.size(), 4u);
  const PartitionInfo& partition = topic.partitions[3];
  EXPECT_EQ(partition.partition, 3u);
  EXPECT_EQ(partition.state, PartitionState::poisoned);
  EXPECT_EQ(partition.reason, "a test");
  EXPECT_EQ(partition.memory_start, Position(6));
  EXPECT_EQ(partition.corrupt_records, 14u);
  EXPECT_EQ(partition.delayed, 15u);
  EXPECT_EQ(partition.next_due_ns, 1'600'000'000'000'000'000u);
  EXPECT_EQ(topic.producers, 15u);
  EXPECT_EQ(topic.readers, 16u);

  ASSERT_TRUE(client_->recover_topic("orders", {}));
  ASSERT_TRUE(client_->recover_topic("orders", 1));
  bus_.run([](test::FakeBus& bus) { EXPECT_EQ(bus.recovered, (std::vector<std::string>{"orders/all", "orders/1"})); });
  EXPECT_EQ(client_->recover_topic("nothing", {}).error().code(), ErrorCode::not_found);

  const ScrubReport scrub = client_->scrub_topic("orders", 3, true).value();
  EXPECT_EQ(scrub.run, 1u);
  EXPECT_TRUE(scrub.running);
  EXPECT_EQ(scrub.copies, 2u);
  EXPECT_EQ(scrub.segments, 3u);
  EXPECT_EQ(scrub.bytes, 4u);
  EXPECT_EQ(scrub.mended_segments, 5u);
  EXPECT_EQ(scrub.mended_bytes, 6u);
  EXPECT_EQ(scrub.damaged_bytes, 7u);
  ASSERT_EQ(scrub.damaged.size(), 1u);
  EXPECT_EQ(scrub.damaged[0].partition, 3u);
  EXPECT_EQ(scrub.damaged[0].end, Position(9));
  EXPECT_EQ(scrub.damaged[0].reason, "a test");
  EXPECT_EQ(scrub.errors, std::vector<std::string>{"an error"});
  EXPECT_EQ(client_->scrub_topic("orders", {}, false).value().damaged[0].partition, 77u);
  EXPECT_EQ(client_->scrub_topic("nothing", {}, true).error().code(), ErrorCode::not_found);

  EXPECT_EQ(client_->list_topics().value().size(), 1u);
  ASSERT_TRUE(client_->delete_topic("orders"));
  EXPECT_EQ(client_->delete_topic("orders").error().code(), ErrorCode::not_found);
  EXPECT_TRUE(client_->list_topics().value().empty());
}

TEST_F(ControlCall, AProducersGrantMaps) {
  make_topic("orders", 2);
  auto grant = client_->open_producer("orders", "billing").value();
  EXPECT_EQ(grant.id, ProducerId(1));
  EXPECT_EQ(grant.topic, TopicId(1));
  ASSERT_EQ(grant.last.size(), 1u);
  EXPECT_EQ(grant.last[0].sequence, Sequence(41));
  EXPECT_EQ(grant.last[0].bookmark, "bookmark of billing");
  ASSERT_EQ(grant.partitions.size(), 2u);
  for (PartitionNumber i = 0; i < 2; ++i) {
    const auto& partition = grant.partitions[i];
    using layout::RegionKind;
    using region::Access;
    EXPECT_TRUE(region::open_region(partition.control.get(), Access::read_only, expect(RegionKind::control, i)));
    EXPECT_TRUE(region::open_region(partition.log.get(), Access::read_write, expect(RegionKind::log, i)));
    EXPECT_TRUE(region::open_region(partition.bell.get(), Access::read_write, expect(RegionKind::bell, i)));
    EXPECT_FALSE(region::open_region(partition.control.get(), Access::read_write, expect(RegionKind::control, i)));
  }
  ASSERT_TRUE(client_->close_producer(grant));
  EXPECT_EQ(client_->close_producer(grant).error().code(), ErrorCode::not_found);
  EXPECT_EQ(client_->open_producer("nothing", "").error().code(), ErrorCode::not_found);
}

TEST_F(ControlCall, AThousandPartitionsComeInSeveralMessages) {
  make_topic("wide", 1000);
  std::vector<PartitionNumber> seen;
  const internal::GrantSink sink = [&](internal::PartitionGrant grant) -> Status {
    EXPECT_GE(grant.log.get(), 0);
    seen.push_back(grant.partition);
    return {};
  };
  auto grant = client_->open_producer("wide", "", sink).value();
  EXPECT_TRUE(grant.partitions.empty());
  EXPECT_EQ(grant.partition_count, 1000u);
  ASSERT_EQ(seen.size(), 1000u);
  for (PartitionNumber i = 0; i < 1000; ++i) ASSERT_EQ(seen[i], i);

  seen.clear();
  ASSERT_TRUE(client_->open_reader("wide", {}, true, sink));
  EXPECT_EQ(seen.size(), 1000u);
  seen.clear();
  ASSERT_TRUE(client_->open_partitions("wide", ControlClient::Access::consume, 990, sink));
  EXPECT_EQ(seen.size(), 10u);
  // What the client has dropped is closed in the daemon, too.
  std::size_t open = 1;
  bus_.eventually([&](test::FakeBus&) {
    open = 0;
    for (int fd = 0; fd < 1024; ++fd) open += fcntl(fd, F_GETFD) != -1 ? 1 : 0;
    return open < 64;
  });
  EXPECT_LT(open, 64u);
}

TEST_F(ControlCall, ASinksErrorEndsTheOpeningAndClosesWhatWasOpened) {
  make_topic("orders", 2);
  const auto refuse = [](internal::PartitionGrant) -> Status { return fail(ErrorCode::no_memory, "no room"); };
  EXPECT_EQ(client_->open_producer("orders", "", refuse).error().code(), ErrorCode::no_memory);
  EXPECT_EQ(client_->open_reader("orders", {}, true, refuse).error().code(), ErrorCode::no_memory);
  bus_.run([](test::FakeBus& bus) {
    EXPECT_TRUE(bus.sessions.find(SessionId(1))->producers().empty());
    EXPECT_TRUE(bus.sessions.find(SessionId(1))->readers().empty());
  });
}

TEST_F(ControlCall, AReaderGetsCursorsThatTheBusSees) {
  make_topic("orders", 3);
  auto grant = client_->open_reader("orders", {2, 0}, true).value();
  ASSERT_EQ(grant.ranges.size(), 2u);
  EXPECT_EQ(grant.ranges[1].partition, 2u);
  EXPECT_EQ(grant.ranges[1].end, Position(20));
  ASSERT_EQ(grant.cursors.size(), 2u);
  ASSERT_EQ(grant.partitions.size(), 2u);
  EXPECT_EQ(grant.partitions[1].partition, 2u);
  EXPECT_EQ(fcntl(grant.partitions[0].log.get(), F_GETFL) & O_ACCMODE, O_RDONLY);
  grant.cursors[1].cell.cell() = 555;
  bus_.run([](test::FakeBus& bus) {
    EXPECT_EQ(bus.sessions.min_cursor(102), Position(555));
    EXPECT_EQ(bus.sessions.min_cursor(100), Position(0));
    EXPECT_FALSE(bus.sessions.min_cursor(101));
  });
  ASSERT_TRUE(client_->close_reader(grant.id, grant.memory->generation()));
  bus_.run([](test::FakeBus& bus) { EXPECT_FALSE(bus.sessions.min_cursor(102)); });
  const auto without = client_->open_reader("orders", {}, false).value();
  EXPECT_EQ(without.partitions.size(), 3u);
  EXPECT_TRUE(without.cursors.empty());
  EXPECT_EQ(client_->open_reader("orders", {1, 1}, true).error().code(), ErrorCode::invalid);
  EXPECT_EQ(client_->open_reader("orders", {7}, true).error().code(), ErrorCode::not_found);
}

TEST_F(ControlCall, LocateAnswersInEachWay) {
  using Kind = internal::LocateAnswer::Kind;
  const auto locate = [&](std::uint64_t position) { return client_->locate(TopicId(1), 0, Position(position)); };
  const auto trimmed = locate(0).value();
  EXPECT_EQ(trimmed.kind, Kind::trimmed);
  EXPECT_EQ(trimmed.position, Position(77));
  EXPECT_EQ(locate(1).value().kind, Kind::skip);
  EXPECT_EQ(locate(2).value().kind, Kind::above);
  EXPECT_EQ(locate(3).error().code(), ErrorCode::io);
  const auto file = locate(4).value();
  EXPECT_EQ(file.kind, Kind::file);
  EXPECT_EQ(file.base, Position(100));
  EXPECT_EQ(file.data_end, Position(200));
  EXPECT_TRUE(region::Mapping::map(file.file.get(), region::Access::read_only, "a log file"));
}

TEST_F(ControlCall, PositionsReportsAuditAndTheRestComeThrough) {
  make_topic("orders", 2);
  EXPECT_EQ(client_->seek_time(TopicId(1), 1, 100).value(), Position(1001));
  EXPECT_EQ(client_->end_positions("orders").value().size(), 2u);
  ASSERT_TRUE(client_->report_sequences(TopicId(1),
                                        std::vector<internal::SequenceReport>(20000, {1, ProducerId(2), Sequence(3)})));
  bus_.run([](test::FakeBus& bus) {
    ASSERT_EQ(bus.reports.size(), 20000u);
    EXPECT_EQ(bus.reports.back().sequence, Sequence(3));
  });
  const auto audit = client_->audit("orders").value();
  ASSERT_EQ(audit.rows.size(), 1u);
  EXPECT_TRUE(audit.holds);
  EXPECT_EQ(audit.rows[0].name, "p");
  EXPECT_EQ(audit.rows[0].sequence_last, Sequence(100));
  EXPECT_EQ(audit.rows[0].data, 1u);
  EXPECT_EQ(audit.rows[0].repeats, 13u);
  const auto status = client_->status().value();
  EXPECT_EQ(status.sessions, 1u);
  EXPECT_EQ(status.recovery, (std::vector<std::string>{"cut 7 bytes", "all well"}));
  EXPECT_TRUE(client_->doctor(true).value()[0].ok);
  EXPECT_FALSE(client_->doctor(false).value()[0].ok);
  const auto sessions = client_->list_sessions().value();
  ASSERT_EQ(sessions.size(), 1u);
  EXPECT_EQ(sessions[0].client_name, "call test");
  EXPECT_TRUE(sessions[0].connected);
  EXPECT_EQ(client_->config().value(), "[daemon]\n");
}

TEST_F(ControlCall, AFullInboxIsBackPressureAndNotAHang) {
  bus_.refuse_posts();
  EXPECT_EQ(client_->status().error().code(), ErrorCode::would_block);
}

TEST_F(ControlCall, ABusThatDoesNotAnswerTimesOut) {
  bus_.block(true);
  EXPECT_EQ(client_->status(std::chrono::milliseconds(50)).error().code(), ErrorCode::timed_out);
  bus_.block(false);
  EXPECT_TRUE(client_->status());
}

}  // namespace
}  // namespace sluice
