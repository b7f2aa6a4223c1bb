#include "daemon/session/session.h"

#include <sys/resource.h>

#include <gtest/gtest.h>

#include "shm/region/region.h"

namespace sluice::session {
namespace {

class SessionTest : public testing::Test {
 protected:
  // What a client does with the descriptor that it was handed.
  struct Client {
    region::Mapping mapping;
    layout::SessionRegion& region() { return *mapping.at<layout::SessionRegion>(); }
    void pin(std::uint32_t cell, std::uint32_t handle, std::uint64_t segment) {
      if (region().pins_used < cell + 1) region().pins_used = cell + 1;
      region().pins[cell].pin = layout::pin_word(handle, SegmentNumber(segment));
    }
  };

  Session& attach(uid_t uid = 1000) { return *table_.create({uid, uid, 1, {}}, "test", true).value(); }
  static Client client_of(const Session& session) {
    region::RegionExpectation expectation;
    expectation.kind = layout::RegionKind::session;
    expectation.incarnation = Incarnation(3);
    expectation.session = session.id();
    const UniqueFd fd = session.hand_out().value();
    return {region::open_region(fd.get(), region::Access::read_write, expectation).value().mapping};
  }

  SessionTable table_{Incarnation(3)};
};

TEST_F(SessionTest, LivesAsLongAsItsClientsMapping) {
  Session& session = attach();
  {
    Client client = client_of(session);
    EXPECT_FALSE(session.is_dead().value());
  }
  EXPECT_TRUE(session.is_dead().value());
}

TEST_F(SessionTest, IsFoundByIdAndByItsTokenForTheSameUserAlone) {
  Session& session = attach(1000);
  Session& other = attach(1000);
  EXPECT_NE(session.id(), other.id());
  EXPECT_NE(session.token(), other.token());
  EXPECT_EQ(table_.find(session.id()), &session);
  EXPECT_EQ(table_.find_resumable(session.token(), {1000, 1, 2, {}}), &session);
  EXPECT_EQ(table_.find_resumable(session.token(), {0, 0, 2, {}}), nullptr);
  EXPECT_EQ(table_.find_resumable(session.token() + "x", {1000, 1, 2, {}}), nullptr);
  EXPECT_EQ(table_.find_resumable("", {1000, 1, 2, {}}), nullptr);
  session.revoke();
  EXPECT_EQ(table_.find_resumable(session.token(), {1000, 1, 2, {}}), nullptr);
  const SessionId id = session.id();
  table_.remove(id);
  EXPECT_EQ(table_.find(id), nullptr);
  EXPECT_NE(attach().id(), id) << "ids are not reused";
}

TEST_F(SessionTest, RevokingShowsInTheRegion) {
  Session& session = attach();
  Client client = client_of(session);
  EXPECT_EQ(client.region().revoked, 0u);
  session.revoke();
  EXPECT_EQ(client.region().revoked, 1u);
}

TEST_F(SessionTest, PinsOfEverySessionCount) {
  Session& first = attach();
  Session& second = attach();
  Client one = client_of(first);
  Client two = client_of(second);
  EXPECT_FALSE(table_.is_pinned(5, SegmentNumber(0)));
  two.pin(0, 5, 0);
  one.pin(255, 6, 9);
  one.pin(3, 6, 9);
  EXPECT_TRUE(table_.is_pinned(5, SegmentNumber(0)));
  EXPECT_TRUE(table_.is_pinned(6, SegmentNumber(9)));
  EXPECT_FALSE(table_.is_pinned(6, SegmentNumber(8)));
  EXPECT_FALSE(table_.is_pinned(5, SegmentNumber(9)));
  EXPECT_EQ(first.pins(), (std::vector<Pin>{{6, SegmentNumber(9)}})) << "two pins of one segment are one segment";
  EXPECT_EQ(second.pins(), (std::vector<Pin>{{5, SegmentNumber(0)}}));
  first.clear_pins();
  EXPECT_TRUE(first.pins().empty());
  EXPECT_FALSE(table_.is_pinned(6, SegmentNumber(9)));
  table_.remove(second.id());
  EXPECT_FALSE(table_.is_pinned(5, SegmentNumber(0)));
}

TEST_F(SessionTest, ARevokedSessionsViewsHoldNothingButItsProducersDo) {
  Session& session = attach();
  Client client = client_of(session);
  session.add_producer({ProducerId(1), TopicId(1), "", 0});
  client.pin(0, 5, 1);  // a claim that may still be written
  client.pin(1, 5, 2);  // a view that is kept
  EXPECT_TRUE(table_.is_pinned(5, SegmentNumber(2)));
  session.revoke();
  EXPECT_TRUE(table_.is_pinned(5, SegmentNumber(1)));
  EXPECT_FALSE(table_.is_pinned(5, SegmentNumber(2)));
  EXPECT_EQ(session.pins(), (std::vector<Pin>{{5, SegmentNumber(1)}}));
  session.remove_producer(ProducerId(1));
  EXPECT_TRUE(table_.is_pinned(5, SegmentNumber(1))) << "until its death is proven";
}

TEST_F(SessionTest, WhoHoldsTooManySegmentsOfAPartitionIsRevokedAndHoldsNothing) {
  Session& greedy = attach();
  Session& modest = attach();
  Client one = client_of(greedy);
  Client two = client_of(modest);
  table_.add_reader(greedy, TopicId(1), {{0, 5, 0}});
  for (std::uint32_t i = 0; i < 4; ++i) one.pin(i, 5, i);
  for (std::uint32_t i = 0; i < 4; ++i) one.pin(4 + i, 5, i);  // the same segments again
  for (std::uint32_t i = 0; i < 3; ++i) two.pin(i, 5, i);
  for (std::uint32_t i = 3; i < 8; ++i) two.pin(i, 6, i);  // another partition's
  EXPECT_TRUE(table_.revoke_over_quota(5, 4).empty());
  EXPECT_EQ(table_.revoke_over_quota(5, 3), std::vector{greedy.id()});
  EXPECT_TRUE(greedy.revoked());
  EXPECT_FALSE(modest.revoked());
  EXPECT_FALSE(table_.is_pinned(5, SegmentNumber(3)));
  EXPECT_TRUE(table_.is_pinned(5, SegmentNumber(2)));
  EXPECT_FALSE(table_.min_cursor(5)) << "nothing waits for a revoked reader";
}

TEST_F(SessionTest, AClientThatStatesNonsenseAboutItsCellsHarmsNobody) {
  Session& session = attach();
  Client client = client_of(session);
  client.region().pins_used = 0xffff'ffff;
  EXPECT_TRUE(session.pins().empty());
  client.region().pins_used = 0;
  session.add_producer({ProducerId(1), TopicId(1), "", 4});
  client.region().pins[4].pin = layout::pin_word(7, SegmentNumber(1));
  EXPECT_TRUE(table_.is_pinned(7, SegmentNumber(1))) << "producers' cells are known without its word";
  EXPECT_TRUE(session.producer_pins(4, 7, SegmentNumber(1)));
  EXPECT_FALSE(session.producer_pins(4, 7, SegmentNumber(2)));
}

TEST_F(SessionTest, AProducerOpenedOnTheSamePinReplacesTheOther) {
  Session& session = attach();
  EXPECT_FALSE(session.add_producer({ProducerId(1), TopicId(1), "a", 0}));
  EXPECT_FALSE(session.add_producer({ProducerId(2), TopicId(1), "b", 1}));
  const auto replaced = session.add_producer({ProducerId(3), TopicId(1), "a", 0});
  ASSERT_TRUE(replaced);
  EXPECT_EQ(replaced->id, ProducerId(1));
  EXPECT_EQ(session.find_producer(ProducerId(1)), nullptr);
  EXPECT_NE(session.find_producer(ProducerId(3)), nullptr);
  EXPECT_EQ(session.remove_producer(ProducerId(2))->name, "b");
  EXPECT_FALSE(session.remove_producer(ProducerId(2)));
  EXPECT_EQ(session.producers().size(), 1u);
}

TEST_F(SessionTest, TheSlowestCursorOfAPartitionCounts) {
  Session& first = attach();
  Session& second = attach();
  Client one = client_of(first);
  Client two = client_of(second);
  EXPECT_FALSE(table_.min_cursor(5));
  const auto reader = table_.add_reader(first, TopicId(1), {{0, 5, 10}, {1, 6, 11}});
  EXPECT_EQ(table_.min_cursor(5), Position(0)) << "a reader that has not started holds everything";
  one.region().cursors[10].position = 700;
  one.region().cursors[11].position = 50;
  table_.add_reader(second, TopicId(1), {{0, 5, 0}});
  two.region().cursors[0].position = 600;
  EXPECT_EQ(table_.min_cursor(5), Position(600));
  EXPECT_EQ(table_.min_cursor(6), Position(50));
  EXPECT_EQ(table_.cursor_count(5), 2u);
  table_.remove(second.id());
  EXPECT_EQ(table_.min_cursor(5), Position(700));
  EXPECT_TRUE(table_.remove_reader(first, reader));
  EXPECT_FALSE(table_.remove_reader(first, reader));
  EXPECT_FALSE(table_.min_cursor(5));
  EXPECT_FALSE(table_.min_cursor(6));
}

TEST_F(SessionTest, AReaderOpenedOnTheSameCellReplacesTheOther) {
  Session& session = attach();
  Client client = client_of(session);
  table_.add_reader(session, TopicId(1), {{0, 5, 10}});
  const auto again = table_.add_reader(session, TopicId(1), {{0, 5, 10}});
  EXPECT_EQ(table_.cursor_count(5), 1u);
  EXPECT_EQ(session.readers().size(), 1u);
  EXPECT_TRUE(table_.remove_reader(session, again));
}

TEST_F(SessionTest, OneMoreThanTheLimitIsRefused) {
  rlimit files{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &files), 0);
  files.rlim_cur = kSessionsMax + 256;
  if (files.rlim_max < files.rlim_cur) GTEST_SKIP() << "this many descriptors are not allowed here";
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &files), 0);
  for (std::uint32_t i = 0; i < kSessionsMax; ++i) ASSERT_TRUE(table_.create({1, 1, 1, {}}, "x", true));
  const auto refused = table_.create({1, 1, 1, {}}, "x", true);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), ErrorCode::quota);
  table_.remove(SessionId(1));
  EXPECT_TRUE(table_.create({1, 1, 1, {}}, "x", true));
}

}  // namespace
}  // namespace sluice::session
