// Who wakes whom, and that nobody is rung for nothing.
#include "shm/ring/bell.h"

#include <linux/futex.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <thread>

#include <gtest/gtest.h>

#include "shm/base/clock.h"
#include "shm/base/fd.h"
#include "shm/ring/futex.h"
#include "tests/shm/ring/test_partition.h"

namespace sluice::ring::test {
namespace {

TEST(Bell, a_commit_rings_only_if_somebody_sleeps) {
  TestPartition partition;
  partition.prepare_all();
  Appender appender = partition.appender(1, 0);
  Appended appended;
  const std::uint32_t before = partition.memory.bell->count.load();
  ASSERT_EQ(appender.append({bytes("x"), {}, 0}, appended), AppendResult::ok);
  EXPECT_EQ(partition.memory.bell->count.load(), before);
  const Bell bell(partition.memory);
  EXPECT_EQ(bell.arm(), before);
  ASSERT_EQ(appender.append({bytes("x"), {}, 0}, appended), AppendResult::ok);
  EXPECT_EQ(partition.memory.bell->count.load(), before + 1);
  EXPECT_EQ(partition.memory.bell->flags.load(), 0u);
}

TEST(Bell, each_call_takes_down_only_the_flags_that_it_is_for) {
  TestPartition partition;
  const UniqueFd wake(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
  const Bell bell(partition.memory.bell, wake.get());
  auto& flags = partition.memory.bell->flags;
  auto woken = [&] {
    std::uint64_t value = 0;
    return ::read(wake.get(), &value, sizeof value) == sizeof value;
  };
  bell.daemon_arms(layout::kBellDaemonNap);
  bell.committed();
  bell.nudge_daemon();
  EXPECT_FALSE(woken());  // a nap ends by itself
  bell.call_daemon();
  EXPECT_TRUE(woken());
  EXPECT_EQ(flags.load(), 0u);
  bell.daemon_arms(layout::kBellDaemon);
  bell.published();
  EXPECT_FALSE(woken());
  bell.arm();
  bell.committed();
  EXPECT_TRUE(woken());
  EXPECT_EQ(flags.load(), 0u);
  bell.daemon_arms(layout::kBellDaemon);
  bell.daemon_disarms();
  bell.committed();
  EXPECT_FALSE(woken());
}

// Runs `wait` in a thread, calls `wake` until it has returned.
void expect_wakes(const std::function<void()>& wait, const std::function<void()>& wake) {
  std::atomic<bool> done{false};
  std::thread sleeper([&] {
    wait();
    done.store(true, std::memory_order_release);
  });
  while (!done.load(std::memory_order_acquire)) {
    wake();
    std::this_thread::yield();
  }
  sleeper.join();
}

TEST(Bell, a_sleeper_whose_waker_died_with_the_flag_in_hand_is_woken_by_the_repair) {
  TestPartition partition;
  const Bell bell(partition.memory);
  const std::uint32_t count = bell.arm();
  partition.memory.bell->flags.store(0);  // taken down by a waker that died before it bumped the count
  bell.published();
  EXPECT_EQ(partition.memory.bell->count.load(), count);
  expect_wakes([&] { bell.sleep(count, kSleepNsMax); }, [&] { bell.ring_for_dead(); });
  EXPECT_NE(partition.memory.bell->count.load(), count);
}

TEST(Bell, who_may_only_read_the_page_can_sleep_on_it_and_is_woken) {
  const UniqueFd fd(::memfd_create("bell", MFD_CLOEXEC));
  ASSERT_EQ(::ftruncate(fd.get(), 4096), 0);
  void* writable = ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
  void* readable = ::mmap(nullptr, 4096, PROT_READ, MAP_SHARED, fd.get(), 0);
  ASSERT_NE(writable, MAP_FAILED);
  ASSERT_NE(readable, MAP_FAILED);
  std::thread sleeper([&] { futex_wait(*static_cast<std::atomic<std::uint32_t>*>(readable), 0, kSleepNsMax); });
  // The kernel says how many it woke: one, once the thread sleeps. Had it refused the page, nobody would.
  long woken = 0;
  for (int i = 0; i < 1'000'000 && woken == 0; ++i) {
    woken = ::syscall(SYS_futex, writable, FUTEX_WAKE, 1, nullptr, nullptr, 0);
    std::this_thread::yield();
  }
  sleeper.join();
  EXPECT_EQ(woken, 1);
  ::munmap(writable, 4096);
  ::munmap(readable, 4096);
}

TEST(DurableWait, returns_when_the_watermark_passes_the_gate_closes_or_time_is_up) {
  TestPartition partition;
  const DurableWait wait(partition.memory);
  EXPECT_TRUE(wait.wait(Position(0), monotonic_ns()));
  EXPECT_FALSE(wait.wait(Position(1), monotonic_ns()));
  DurableWait::publish(partition.memory, Position(100));
  EXPECT_TRUE(wait.wait(Position(100), monotonic_ns()));
  partition.control().gate.store(static_cast<std::uint32_t>(layout::Gate::poisoned));
  EXPECT_FALSE(wait.wait(Position(101), UINT64_MAX));
}

// Each round would take kSleepNsMax if its wake-up were lost; the test's time limit finds that.
TEST(DurableWait, waiters_of_different_positions_are_all_woken) {
  TestPartition partition;
  constexpr std::uint64_t kRounds = 2000;
  std::atomic<std::uint64_t> reached[2] = {};
  std::vector<std::thread> waiters;
  for (auto& mine : reached)
    waiters.emplace_back([&] {
      const DurableWait wait(partition.memory);
      for (std::uint64_t i = 1; i <= kRounds; ++i) {
        while (!wait.wait(Position(i), UINT64_MAX)) {
        }
        mine.store(i, std::memory_order_release);
      }
    });
  for (std::uint64_t i = 1; i <= kRounds; ++i) {
    DurableWait::publish(partition.memory, Position(i));
    while (reached[i % 2].load(std::memory_order_acquire) < i) std::this_thread::yield();
  }
  for (auto& waiter : waiters) waiter.join();
  EXPECT_EQ(reached[0].load(), kRounds);
  EXPECT_EQ(reached[1].load(), kRounds);
}

}  // namespace
}  // namespace sluice::ring::test
