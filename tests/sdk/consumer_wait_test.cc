// How a consumer waits: on its partitions, on the daemon's news, on its descriptor.
#include <poll.h>

#include <atomic>
#include <thread>

#include <gtest/gtest.h>

#include "tests/sdk/group_rig.h"

namespace sluice::test {
namespace {

using Texts = std::vector<std::string>;

bool is_readable(int fd, int timeout_ms = 0) {
  pollfd one{fd, POLLIN, 0};
  return ::poll(&one, 1, timeout_ms) == 1;
}

TEST(ConsumerWait, ASleeperIsWokenByAMessageOnAnyPartition) {
  for (const WaitStrategy wait : {WaitStrategy::sleep, WaitStrategy::spin_then_sleep, WaitStrategy::spin}) {
    GroupRig rig({.partitions = 3});
    for (PartitionNumber i = 0; i < 3; ++i) rig.group.assign(i);
    ConsumerOptions options;
    options.wait = wait;
    auto consumer = rig.consumer(options);
    std::atomic<int> received{0};
    std::thread other([&] {
      auto sender = rig.producer();
      for (int i = 0; i < 3; ++i) {
        while (received < i || (wait != WaitStrategy::spin && rig.group.region().asleep.load() == 0))
          std::this_thread::yield();
        MessageOptions to;
        to.partition = static_cast<PartitionNumber>(i);
        EXPECT_TRUE(send(*sender, std::to_string(i), to));
      }
    });
    for (int i = 0; i < 3; ++i) {
      EXPECT_EQ(text_of(consumer->next(60s)), std::to_string(i));
      ++received;
    }
    other.join();
    if (wait == WaitStrategy::sleep) {
      // A message may come between the flag and the sleep: that one does not count.
      EXPECT_GE(consumer->counters().sleeps, 1u);
    }
    if (wait == WaitStrategy::spin) {
      EXPECT_EQ(consumer->counters().sleeps, 0u);
    }
  }
}

TEST(ConsumerWait, ASleeperTakesUpANewAssignment) {
  GroupRig rig;
  rig.send_numbers(0, 1);
  ConsumerOptions options;
  options.wait = WaitStrategy::sleep;
  auto consumer = rig.consumer(options);
  std::thread daemon([&] {
    while (rig.group.region().asleep.load() == 0) std::this_thread::yield();
    rig.group.assign(0);
    rig.group.publish_assignments();
  });
  EXPECT_EQ(text_of(consumer->next(30s)), "0");
  daemon.join();
}

TEST(ConsumerWait, AnIdleConsumerHoldsNoSegment) {
  GroupRig rig({.partitions = 2});
  rig.group.assign(0);
  rig.group.assign(1);
  auto consumer = rig.consumer();
  for (int i = 0; i < 4; ++i) {
    rig.send_numbers(i, i + 1);
    ASSERT_TRUE(consumer->ack(consumer->next(0ms).value()));
  }
  rig.sender.reset();
  EXPECT_EQ(text_of(consumer->next(0ms)), "timed_out");
  EXPECT_EQ(rig.bus->pins_standing(), 0u);
}

TEST(ConsumerWait, TheDescriptorIsReadableUntilACallHasFoundNothingAndThenWhenTheDaemonSaysSo) {
  GroupRig rig;
  rig.group.assign(0);
  auto consumer = rig.consumer();
  EXPECT_EQ(text_of(consumer->next(0ms)), "timed_out");
  EXPECT_EQ(rig.group.region().fd_armed.load(), 0u) << "nobody asked for it";
  const int fd = consumer->fd().value();
  EXPECT_EQ(consumer->fd().value(), fd);
  EXPECT_TRUE(is_readable(fd)) << "what is there now was announced to nobody";
  EXPECT_EQ(text_of(consumer->next(0ms)), "timed_out");
  EXPECT_FALSE(is_readable(fd));
  EXPECT_EQ(rig.group.region().fd_armed.load(), 1u);
  rig.send_numbers(0, 2);
  ASSERT_TRUE(rig.group.ring_fd());
  EXPECT_TRUE(is_readable(fd));
  const std::vector<Delivery> taken = take_all(*consumer);
  EXPECT_EQ(texts_of(taken), (Texts{"0", "1"}));
  EXPECT_FALSE(is_readable(fd));
  EXPECT_EQ(rig.group.region().fd_armed.load(), 1u);
}

TEST(ConsumerWait, TheDescriptorStaysTheSameOverAJoinAndBecomesReadable) {
  GroupRig rig;
  rig.group.assign(0);
  auto consumer = rig.consumer();
  const int fd = consumer->fd().value();
  EXPECT_EQ(text_of(consumer->next(0ms)), "timed_out");
  rig.group.end_member();
  EXPECT_EQ(text_of(consumer->next(0ms)), "timed_out");
  EXPECT_EQ(rig.group.joins(), 2u);
  EXPECT_EQ(text_of(consumer->next(0ms)), "timed_out");
  EXPECT_EQ(consumer->fd().value(), fd);
  EXPECT_FALSE(is_readable(fd));
  ASSERT_TRUE(rig.group.ring_fd()) << "armed in the new region";
  EXPECT_TRUE(is_readable(fd));
}

TEST(ConsumerWait, AtItsLimitTheDescriptorWaitsForRoom) {
  GroupRig rig;
  rig.send_numbers(0, 2);
  rig.group.assign(0);
  ConsumerOptions options;
  options.in_flight_max = 1;
  auto consumer = rig.consumer(options);
  const int fd = consumer->fd().value();
  const Delivery first = consumer->next(0ms).value();
  EXPECT_EQ(text_of(consumer->next(0ms)), "timed_out");
  EXPECT_EQ(rig.group.region().fd_armed.load(), 0u) << "the daemon has nothing to say";
  EXPECT_FALSE(is_readable(fd));
  ASSERT_TRUE(consumer->ack(first));
  EXPECT_TRUE(is_readable(fd));
  EXPECT_EQ(text_of(consumer->next(0ms)), "1");
}

TEST(ConsumerWait, ADescriptorThatNobodyWritesIsReadableAfterAWhile) {
  GroupRig rig;
  rig.group.assign(0);
  auto consumer = rig.consumer();
  const int fd = consumer->fd().value();
  EXPECT_EQ(text_of(consumer->next(0ms)), "timed_out");
  EXPECT_TRUE(is_readable(fd, 60'000)) << "a wake-up that was lost costs time alone";
}

}  // namespace
}  // namespace sluice::test
