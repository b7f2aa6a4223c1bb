// Producers as processes over shared memory, killed with SIGKILL: at random, and in every window of an append. What was
// committed is there once, the partition flows on, and a stopped process finds out that its claim was taken from it.
//
// The parent plays daemon and consumer: it reaps the dead, aborts their claims, clears their pins, rings; reads,
// retires, prepares. SLUICE_RING_TEST_FACTOR multiplies the kills.
#include <sched.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstdlib>
#include <map>
#include <random>

#include <gtest/gtest.h>

#include "shm/base/clock.h"
#include "shm/base/failpoint.h"
#include "shm/ring/continuity.h"
#include "shm/ring/membarrier.h"
#include "tests/shm/ring/test_partition.h"

namespace sluice::ring::test {
namespace {

using layout::ClaimWord;
using layout::RecordState;

constexpr std::array<std::string_view, 5> kWindows = {"ring.pinned", "ring.claimed", "ring.half_written",
                                                      "ring.written", "ring.committed"};
constexpr std::uint32_t kAtRandom = kWindows.size();
constexpr std::uint32_t kChildren = 3;
constexpr std::uint32_t kConsumerCell = kChildren;

std::uint64_t kills_wanted() {
  const char* text = std::getenv("SLUICE_RING_TEST_FACTOR");
  return 300 * (text != nullptr ? std::strtoull(text, nullptr, 10) : 1);
}

// What the children tell, in shared memory.
struct Told {
  std::atomic<std::uint64_t> hits[kWindows.size()];  // kills in each window
  std::atomic<std::uint64_t> confirmed[kChildren];   // messages that append() said ok to, by the child in that place
};

std::string message_of(std::uint32_t producer, std::uint64_t index) {
  return text_of(index * 977 + producer, 1 + (index * 61 + producer) % 400);
}

// ---- child

struct Orders {
  std::uint32_t place = 0;     // its pin cell
  std::uint32_t producer = 0;  // its id, never used before
  std::uint32_t window = kAtRandom;
  std::uint64_t at_hit = 0;  // dies at this hit of the window
};

[[noreturn]] void publish_until_killed(TestPartition& partition, Told& told, const Orders& orders) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);  // not longer than the test
  if (!membarrier_register()) ::_exit(3);
  if (orders.window != kAtRandom)
    failpoint::set_handler([&told, orders, left = orders.at_hit](std::string_view name) mutable {
      if (name != kWindows[orders.window] || --left != 0) return;
      told.hits[orders.window].fetch_add(1, std::memory_order_relaxed);
      ::raise(SIGKILL);
    });
  else
    failpoint::set_handler([](std::string_view) {});
  Appender appender = partition.appender(orders.producer, orders.place);
  for (std::uint64_t index = 0;;) {
    const std::string text = message_of(orders.producer, index);
    Appended appended;
    AppendResult result = appender.append({bytes(text), {}, 0}, appended);
    if (result == AppendResult::no_room) {
      const std::uint32_t count = appender.arm_room();
      result = appender.append({bytes(text), {}, 0}, appended);
      if (result == AppendResult::no_room) appender.sleep_room(count, kSleepNsMax);
    }
    if (result == AppendResult::no_room) continue;
    if (result != AppendResult::ok) ::_exit(4);  // claims of the living are not aborted here
    // release: pairs with the acquire of the parent's check.
    told.confirmed[orders.place].store(++index, std::memory_order_release);
  }
}

// ---- parent

class Parent {
 public:
  explicit Parent(std::uint32_t flags)
      : partition_({.flags = flags, .memory = MemoryKind::shared, .pins = kChildren + 1}),
        told_pages_(MemoryKind::shared, sizeof(Told)),
        told_(*told_pages_.as<Told>()),
        bell_(partition_.memory),
        verify_((flags & layout::kTopicFlagChecksums) != 0) {}
  ~Parent() {
    for (auto& child : children_)
      if (child.pid > 0) {
        ::kill(child.pid, SIGKILL);
        ::waitpid(child.pid, nullptr, 0);
      }
  }

  void run(std::uint64_t kills) {
    for (std::uint32_t place = 0; place < kChildren; ++place) start(place);
    while (kills_ < kills && !testing::Test::HasFailure()) {
      const bool moved = turn();
      reap(kills);
      if (random_() % 64 == 0) kill_one_at_random();
      if (!moved) ::sched_yield();
    }
    for (std::uint32_t place = 0; place < kChildren; ++place)
      if (children_[place].pid > 0) {
        ::kill(children_[place].pid, SIGKILL);
        ::waitpid(children_[place].pid, nullptr, 0);
        bury(place);
      }
    while (turn()) {
    }
    check_all();
    const std::uint64_t mean_us = repair_ns_ / 1000 / std::max<std::uint64_t>(1, kills_);
    std::printf(
        "  kills %llu (pinned %llu, claimed %llu, half written %llu, written %llu, committed %llu, at random %llu), "
        "messages %llu, aborted %llu, sweep of a death %llu us\n",
        count(kills_), count(told_.hits[0]), count(told_.hits[1]), count(told_.hits[2]), count(told_.hits[3]),
        count(told_.hits[4]), count(at_random_), count(seen_), count(aborted_), count(mean_us));
    for (std::size_t i = 0; i < kWindows.size(); ++i) EXPECT_GT(told_.hits[i].load(), 0u) << kWindows[i];
    EXPECT_GT(at_random_, 0u);
    EXPECT_GT(aborted_, 0u);
  }

 private:
  struct Child {
    pid_t pid = -1;
    Orders orders;
    std::uint64_t born = 0;
  };
  static unsigned long long count(std::uint64_t n) { return n; }

  void start(std::uint32_t place) {
    Child& child = children_[place];
    const std::uint32_t choice = next_producer_ % 7;
    child.orders = {place, next_producer_++, std::min(choice, kAtRandom), 1 + random_() % 100};
    told_.confirmed[place].store(0, std::memory_order_relaxed);
    child.pid = ::fork();
    ASSERT_GE(child.pid, 0);
    if (child.pid == 0) publish_until_killed(partition_, told_, child.orders);
  }
  void kill_one_at_random() {
    Child& child = children_[random_() % kChildren];
    // Not before it has sent something, so that there is something to lose.
    if (child.orders.window != kAtRandom || told_.confirmed[child.orders.place].load(std::memory_order_relaxed) == 0)
      return;
    ::kill(child.pid, SIGKILL);
  }
  void reap(std::uint64_t kills) {
    int status = 0;
    const pid_t pid = ::waitpid(-1, &status, WNOHANG);
    if (pid <= 0) return;
    for (std::uint32_t place = 0; place < kChildren; ++place) {
      if (children_[place].pid != pid) continue;
      EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) << "child ended by itself, status " << status;
      if (children_[place].orders.window == kAtRandom) ++at_random_;
      const std::uint64_t start_ns = monotonic_ns();
      bury(place);
      repair_ns_ += monotonic_ns() - start_ns;
      ++kills_;
      if (kills_ < kills) start(place);
    }
  }

  // Repairs after a death: claims, then pin, then bell; only then is the place given to another.
  void bury(std::uint32_t place) {
    Child& child = children_[place];
    const ProducerId dead(child.orders.producer);
    const PartitionMemory& memory = partition_.memory;
    Position p = position_;
    while (partition_.slots.is_ready(memory.segment_of(p))) {
      const Position start = memory.start_of(memory.segment_of(p));
      if (p == start) p = p + layout::kSegmentHeaderSize;
      if (p + layout::kRecordAlignment > partition_.slots.prepared()) break;
      const ClaimWord word{partition_.header_at(p)->claim.load(std::memory_order_acquire)};
      if (word.is_free()) break;
      ASSERT_TRUE(word.is_possible(start + memory.segment_size() - p));
      if (word.is_claimed() && word.producer() == dead) {
        EXPECT_TRUE(partition_.expire(p));
      }
      p = p + word.span_size();
    }
    partition_.pins.cell(place).store(0, std::memory_order_release);
    bell_.ring_for_dead();
    partition_.slots.release_unpinned();
    confirmed_[dead.value] = told_.confirmed[place].load(std::memory_order_acquire);
    child.pid = -1;
  }

  // Reads a batch, retires what is read, prepares. True if something moved.
  bool turn() {
    const bool moved = read();
    while (partition_.slots.first_ready() < partition_.memory.segment_of(position_)) partition_.slots.retire_first();
    partition_.slots.release_unpinned();
    return partition_.prepare_all() != 0 || moved;
  }
  bool read() {
    const PartitionMemory& memory = partition_.memory;
    std::uint32_t slot = 0;
    const SegmentNumber segment = memory.segment_of(position_);
    if (pin_segment(memory, partition_.pins.cell(kConsumerCell), segment, slot) != Presence::here) return false;
    const SegmentView view = view_of(memory, segment, slot, verify_);
    const Position before = position_;
    for (int i = 0; i < 256; ++i) {
      RecordView record;
      const ScanResult result = scan_record(view, position_, record);
      if (result == ScanResult::record) {
        check(record);
      } else if (result == ScanResult::aborted) {
        ++aborted_;
        continuity_.on_abort(record.fields.claim.producer());
      } else if (result != ScanResult::pad) {
        EXPECT_TRUE(result != ScanResult::broken_chain && result != ScanResult::corrupt_record);
        break;
      }
    }
    partition_.pins.cell(kConsumerCell).store(0, std::memory_order_release);
    return position_ != before;
  }
  void check(const RecordView& record) {
    const std::uint32_t producer = record.fields.claim.producer().value;
    std::uint64_t& next = next_[producer];
    const std::string expected = message_of(producer, next);
    ASSERT_EQ(std::string_view(reinterpret_cast<const char*>(record.payload.data()), record.payload.size()), expected)
        << "producer " << producer << " message " << next;
    Sequence wanted;
    const auto verdict = continuity_.on_record(ProducerId(producer), record.fields.sequence, wanted);
    ASSERT_TRUE(verdict == Continuity::Verdict::next || (verdict == Continuity::Verdict::first && next == 0));
    ++next;
    ++seen_;
  }
  // Each message that append() said ok to was read; at most the one after it was committed and not told.
  void check_all() {
    for (const auto& [producer, confirmed] : confirmed_) {
      EXPECT_GE(next_[producer], confirmed) << "lost a message of producer " << producer;
      EXPECT_LE(next_[producer], confirmed + 1) << "producer " << producer;
    }
    EXPECT_EQ(partition_.slots.counts().limbo, 0u);
  }

  TestPartition partition_;
  Pages told_pages_;
  Told& told_;
  const Bell bell_;
  const bool verify_;
  std::minstd_rand random_{7};
  std::array<Child, kChildren> children_;
  std::uint32_t next_producer_ = 1;
  Position position_{0};
  Continuity continuity_;
  std::map<std::uint32_t, std::uint64_t> next_;       // by producer: index of its next message
  std::map<std::uint32_t, std::uint64_t> confirmed_;  // by producer, once it is dead
  std::uint64_t kills_ = 0, at_random_ = 0, seen_ = 0, aborted_ = 0, repair_ns_ = 0;
};

TEST(Kill, nothing_committed_is_lost_or_repeated_whatever_window_a_producer_dies_in) {
  ASSERT_TRUE(membarrier_register());
  Parent(layout::kTopicFlagChecksums).run(kills_wanted() / 2);
  Parent(layout::kTopicFlagPlainCommit).run(kills_wanted() / 2);
}

// Stopped between claim and commit, past its deadline, then continued.
TEST(Kill, a_stopped_producer_loses_its_claim_and_appends_again) {
  ASSERT_TRUE(membarrier_register());
  for (const std::string_view window : {"ring.claimed", "ring.half_written", "ring.written"}) {
    TestPartition partition({.memory = MemoryKind::shared});
    partition.prepare_all();
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      failpoint::set_handler([window, done = false](std::string_view name) mutable {
        if (name == window && !std::exchange(done, true)) ::raise(SIGSTOP);
      });
      Appender appender = partition.appender(1, 0);
      Appended appended;
      if (appender.append({bytes("message"), {}, 0}, appended) != AppendResult::claim_expired) ::_exit(1);
      if (appender.append({bytes("message"), {}, 0}, appended) != AppendResult::ok) ::_exit(2);
      ::_exit(appended.sequence == Sequence(2) ? 0 : 3);
    }
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, WUNTRACED), child);
    ASSERT_TRUE(WIFSTOPPED(status));
    EXPECT_TRUE(partition.expire(Position(layout::kSegmentHeaderSize)));
    // The partition flows on, and the segment may go, but its slot waits for the owner of the claim.
    Appender other = partition.appender(2, 1);
    Appended appended;
    while (other.append({bytes(text_of(1, 500)), {}, 0}, appended) == AppendResult::ok) {
    }
    partition.slots.retire_first();
    EXPECT_EQ(partition.slots.counts().limbo, 1u);
    partition.slots.retire_first();
    partition.prepare_all();
    ASSERT_EQ(::kill(child, SIGCONT), 0);
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFEXITED(status));
    EXPECT_EQ(WEXITSTATUS(status), 0) << window;
    EXPECT_EQ(partition.slots.release_unpinned(), 1u);
  }
}

}  // namespace
}  // namespace sluice::ring::test
