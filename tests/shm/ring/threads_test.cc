// Producers, consumers and a daemon as threads over one mapping: each committed message is seen exactly once by each
// consumer, in its producer's order, whole; sequences are contiguous; nobody sleeps for ever.
//
// The daemon thread plays spill, sweep and reclaim: it walks the log, expires claims at random, copies what is final
// into a "file", retires and prepares. In `blocking` partitions a segment is retired once every consumer is past it; in
// `spilled` ones at once, and consumers that come late read the file.
//
// Bounded by count. SLUICE_RING_TEST_FACTOR multiplies the messages.
#include <sched.h>

#include <atomic>
#include <cstdlib>
#include <map>
#include <mutex>
#include <random>
#include <thread>

#include <gtest/gtest.h>

#include "shm/base/failpoint.h"
#include "shm/ring/continuity.h"
#include "shm/ring/membarrier.h"
#include "tests/shm/ring/test_partition.h"

namespace sluice::ring::test {
namespace {

using layout::ClaimWord;
using layout::RecordKind;

struct Setting {
  const char* name;
  std::uint32_t producers;
  std::uint32_t consumers;
  std::uint32_t flags;
  bool expire;  // claims are aborted at random (never with plain commits)
  bool spilled;
  bool exchange;           // producers are not registered for membarrier
  std::uint64_t messages;  // of each producer
};

std::ostream& operator<<(std::ostream& out, const Setting& s) { return out << s.name; }

std::uint64_t factor() {
  const char* text = std::getenv("SLUICE_RING_TEST_FACTOR");
  return text != nullptr ? std::strtoull(text, nullptr, 10) : 1;
}

// A message: who sent it, which it is, and bytes that follow from both.
std::string message_of(std::uint32_t producer, std::uint64_t index) {
  std::uint64_t size = 16 + (index * 131 + producer * 17) % 240;
  if (index % 97 == 0) size += 4000;
  std::string text = text_of(index * 31 + producer, size);
  std::memcpy(text.data(), &index, 8);
  std::memcpy(text.data() + 8, &producer, 4);
  return text;
}

// Segments that have left memory. Aborts are stored as their claim word alone: their owner may still be writing.
class Files {
 public:
  void store(SegmentNumber segment, std::vector<std::byte> bytes) {
    const std::lock_guard lock(mutex_);
    files_.emplace(segment, std::move(bytes));
  }
  const std::vector<std::byte>* find(SegmentNumber segment) const {
    const std::lock_guard lock(mutex_);
    const auto found = files_.find(segment);
    return found == files_.end() ? nullptr : &found->second;  // a map's nodes stay where they are
  }

 private:
  mutable std::mutex mutex_;
  std::map<SegmentNumber, std::vector<std::byte>> files_;
};

struct World {
  explicit World(const Setting& s)
      : setting(s), partition({.flags = s.flags, .pins = s.producers + s.consumers}), positions(s.consumers) {}
  const Setting setting;
  TestPartition partition;
  Files files;
  std::vector<std::atomic<std::uint64_t>> positions;  // each consumer: everything below was read
  std::atomic<std::uint32_t> consumers_done{0};
  std::atomic<std::uint64_t> sleeps{0};
  std::atomic<std::uint64_t> unrung{0};  // sleeps that ended with something to do and nobody having rung
  std::atomic<std::uint64_t> expired{0};
  std::atomic<std::uint64_t> limbo{0};
  std::atomic<std::uint64_t> from_files{0};
};

// ---- producer

class ProducerThread {
 public:
  ProducerThread(World& world, std::uint32_t index)
      : world_(world),
        id_(index + 1),
        random_(index * 7919 + 1),
        appender_(world.partition.memory, ProducerId(id_), world.partition.pins.cell(index), world.setting.exchange,
                  Sequence(1)) {}

  void run() {
    while (next_ < world_.setting.messages) {
      const std::uint64_t left = world_.setting.messages - next_;
      switch (random_() % 4) {
        case 0: batch(std::min<std::uint64_t>(left, 1 + random_() % 8)); break;
        case 1: in_place(); break;
        default: single();
      }
    }
  }

 private:
  template <typename Attempt>
  AppendResult until_room(const Attempt& attempt) {
    for (;;) {
      AppendResult result = attempt();
      if (result != AppendResult::no_room) return result;
      const std::uint32_t count = appender_.arm_room();
      result = attempt();
      if (result != AppendResult::no_room) return result;
      world_.sleeps.fetch_add(1, std::memory_order_relaxed);
      appender_.sleep_room(count, kSleepNsMax);
      const bool rung = Bell(world_.partition.memory).count_word().load(std::memory_order_relaxed) != count;
      result = attempt();
      if (result == AppendResult::no_room) continue;
      if (!rung) world_.unrung.fetch_add(1, std::memory_order_relaxed);
      return result;
    }
  }
  void done(AppendResult result, std::uint64_t count) {
    if (result == AppendResult::ok)
      next_ += count;
    else
      ASSERT_EQ(result, AppendResult::claim_expired);
  }
  void single() {
    const std::string text = message_of(id_, next_);
    Appended appended;
    done(until_room([&] { return appender_.append({bytes(text), {}, 0}, appended); }), 1);
  }
  void batch(std::uint64_t count) {
    std::vector<std::string> texts;
    for (std::uint64_t i = 0; i < count; ++i) texts.push_back(message_of(id_, next_ + i));
    const std::vector<std::span<const std::byte>> payloads = [&] {
      std::vector<std::span<const std::byte>> spans;
      for (const auto& text : texts) spans.push_back(bytes(text));
      return spans;
    }();
    Appended appended;
    done(until_room([&] { return appender_.append_batch(payloads, {}, appended); }), count);
  }
  void in_place() {
    const std::string text = message_of(id_, next_);
    OpenClaim claim;
    if (until_room([&] { return appender_.claim(text.size(), 0, RecordKind::data, claim); }) != AppendResult::ok)
      return;
    const std::size_t half = text.size() / 2;
    std::memcpy(claim.payload(), text.data(), half);
    if (random_() % 8 == 0) ::sched_yield();
    std::memcpy(claim.payload() + half, text.data() + half, text.size() - half);
    if (random_() % 16 == 0) return appender_.abort(claim);
    Appended appended;
    done(appender_.commit(claim, static_cast<std::uint32_t>(text.size()), {}, 0, appended), 1);
  }

  World& world_;
  const std::uint32_t id_;
  std::minstd_rand random_;
  Appender appender_;
  std::uint64_t next_ = 0;  // index of the next message
};

// ---- consumer

class ConsumerThread {
 public:
  ConsumerThread(World& world, std::uint32_t index)
      : world_(world),
        mine_(world.positions[index]),
        cell_(world.partition.pins.cell(world.setting.producers + index)),
        verify_((world.setting.flags & layout::kTopicFlagChecksums) != 0),
        random_(index + 100),
        next_(world.setting.producers, 0) {}

  void run() {
    const std::uint64_t total = world_.setting.producers * world_.setting.messages;
    const Bell bell(world_.partition.memory);
    while (seen_ < total && !testing::Test::HasFailure()) {
      if (look()) continue;
      const std::uint32_t count = bell.arm();
      if (look()) continue;
      world_.sleeps.fetch_add(1, std::memory_order_relaxed);
      bell.sleep(count, kSleepNsMax);
      const bool rung = bell.count_word().load(std::memory_order_relaxed) != count;
      if (look() && !rung) world_.unrung.fetch_add(1, std::memory_order_relaxed);
    }
    world_.consumers_done.fetch_add(1, std::memory_order_release);
  }

 private:
  // One batch. True if it got anywhere.
  bool look() {
    const PartitionMemory& memory = world_.partition.memory;
    const SegmentNumber segment = memory.segment_of(position_);
    std::uint32_t slot = 0;
    bool moved = false;
    switch (pin_segment(memory, cell_, segment, slot)) {
      case Presence::not_yet: return false;
      case Presence::gone: {
        const auto* file = world_.files.find(segment);
        if (file == nullptr) {
          ADD_FAILURE() << "segment " << segment.value << " is gone, and in no file";
          return false;
        }
        world_.from_files.fetch_add(1, std::memory_order_relaxed);
        SegmentView view{file->data(), memory.start_of(segment), {}, {}, 0, verify_};
        view.end = view.limit = view.start + memory.segment_size();
        layout::SegmentHeader header;
        std::memcpy(&header, file->data(), sizeof header);
        view.checksum = header.checksum;
        moved = scan(view);
        break;
      }
      case Presence::here:
        moved = scan(view_of(memory, segment, slot, verify_));
        dawdle();  // with the segment pinned
        cell_.store(0, std::memory_order_release);
    }
    mine_.store(position_.value, std::memory_order_release);  // pairs with the daemon's acquire
    if (world_.setting.spilled) dawdle();                     // falls behind, so that segments leave memory first
    return moved;
  }
  void dawdle() {
    if (random_() % 64 != 0) return;
    for (int i = 0; i < 50; ++i) ::sched_yield();
  }
  bool scan(const SegmentView& view) {
    const Position before = position_;
    for (int i = 0; i < 64; ++i) {
      RecordView record;
      const ScanResult result = scan_record(view, position_, record);
      if (result == ScanResult::record) {
        check(record);
      } else if (result == ScanResult::aborted) {
        continuity_.on_abort(record.fields.claim.producer());
      } else if (result != ScanResult::pad) {
        const bool halt = result == ScanResult::free || result == ScanResult::claimed || result == ScanResult::limit ||
                          result == ScanResult::segment_end;
        EXPECT_TRUE(halt) << "scan result " << static_cast<int>(result) << " at " << record.position.value;
        break;
      }
    }
    return position_ != before;
  }
  void check(const RecordView& record) {
    const std::uint32_t producer = record.fields.claim.producer().value;
    ASSERT_TRUE(producer >= 1 && producer <= next_.size());
    std::uint64_t& next = next_[producer - 1];
    const std::string expected = message_of(producer, next);
    ASSERT_EQ(record.payload.size(), expected.size()) << "producer " << producer << " message " << next;
    ASSERT_EQ(std::memcmp(record.payload.data(), expected.data(), expected.size()), 0)
        << "producer " << producer << " message " << next << " at " << record.position.value;
    Sequence wanted;
    const auto verdict = continuity_.on_record(record.fields.claim.producer(), record.fields.sequence, wanted);
    ASSERT_TRUE(verdict == Continuity::Verdict::next || (verdict == Continuity::Verdict::first && next == 0))
        << "sequence " << record.fields.sequence.value << ", expected " << wanted.value;
    ++next;
    ++seen_;
  }

  World& world_;
  std::atomic<std::uint64_t>& mine_;
  std::atomic<std::uint64_t>& cell_;
  const bool verify_;
  std::minstd_rand random_;
  std::vector<std::uint64_t> next_;  // index of each producer's next message
  Continuity continuity_;
  Position position_{0};
  std::uint64_t seen_ = 0;
};

// ---- daemon

class DaemonThread {
 public:
  explicit DaemonThread(World& world) : world_(world), slots_(world.partition.slots), bell_(world.partition.memory) {}

  void run() {
    while (world_.consumers_done.load(std::memory_order_acquire) < world_.setting.consumers) {
      bool worked = sweep();
      worked = retire() || worked;
      worked = slots_.release_unpinned() != 0 || worked;
      while (slots_.prepare_step(Position(0))) worked = true;
      world_.limbo.fetch_add(slots_.counts().limbo, std::memory_order_relaxed);
      if (!worked) ::sched_yield();
    }
  }

 private:
  // Walks what is newly final; expires the claim it halts at, at times.
  bool sweep() {
    const PartitionMemory& memory = world_.partition.memory;
    bool moved = false;
    while (slots_.is_ready(memory.segment_of(frontier_))) {
      const SegmentNumber segment = memory.segment_of(frontier_);
      SegmentView view = view_of(memory, segment, slots_.slot_of(segment), false);
      view.checksum = slots_.segment_checksum(segment);
      RecordView record;
      const ScanResult result = scan_record(view, frontier_, record);
      if (result == ScanResult::claimed && world_.setting.expire && random_() % 4 == 0 &&
          world_.partition.expire(record.position)) {
        world_.expired.fetch_add(1, std::memory_order_relaxed);
        bell_.published();
        continue;
      }
      if (result == ScanResult::free || result == ScanResult::claimed || result == ScanResult::limit) return moved;
      if (result == ScanResult::segment_end) continue;  // frontier_ stands at the next segment
      spill(record, result);
      moved = true;
    }
    return moved;
  }
  void spill(const RecordView& record, ScanResult result) {
    if (!world_.setting.spilled) return;
    const PartitionMemory& memory = world_.partition.memory;
    const SegmentNumber segment = memory.segment_of(record.position);
    auto& file = open_[segment];
    const std::byte* base = memory.slot_base(slots_.slot_of(segment));
    if (file.empty()) {
      file.resize(memory.segment_size());
      std::memcpy(file.data(), base, layout::kSegmentHeaderSize);
    }
    const std::uint64_t offset = record.position - memory.start_of(segment);
    if (result == ScanResult::record)
      std::memcpy(file.data() + offset + 8, base + offset + 8, record.fields.claim.span_size() - 8);
    std::memcpy(file.data() + offset, &record.fields.claim.bits, 8);
  }
  bool retire() {
    const PartitionMemory& memory = world_.partition.memory;
    Position end = frontier_;
    if (!world_.setting.spilled)
      for (const auto& position : world_.positions)
        end = std::min(end, Position(position.load(std::memory_order_acquire)));  // pairs with the consumer's release
    bool worked = false;
    while (slots_.first_ready() < memory.segment_of(end)) {
      const SegmentNumber segment = slots_.first_ready();
      if (world_.setting.spilled) {
        world_.files.store(segment, std::move(open_[segment]));
        open_.erase(segment);
      }
      slots_.retire_first();
      worked = true;
    }
    return worked;
  }

  World& world_;
  SlotManager& slots_;
  const Bell bell_;
  std::minstd_rand random_{42};
  Position frontier_{0};
  std::map<SegmentNumber, std::vector<std::byte>> open_;
};

class Threads : public testing::TestWithParam<Setting> {};

TEST_P(Threads, every_message_is_seen_once_whole_and_in_order) {
  ASSERT_TRUE(membarrier_register());
#if defined(SLUICE_FAILPOINTS)
  // Lets another thread in between, in every window of an append.
  failpoint::set_handler([](std::string_view) {
    thread_local std::minstd_rand random(std::random_device{}());
    if (random() % 32 == 0) ::sched_yield();
  });
#endif
  Setting setting = GetParam();
  setting.messages *= factor();
  World world(setting);
  std::vector<std::thread> threads;
  threads.emplace_back([&] { DaemonThread(world).run(); });
  for (std::uint32_t i = 0; i < setting.consumers; ++i)
    threads.emplace_back([&world, i] { ConsumerThread(world, i).run(); });
  for (std::uint32_t i = 0; i < setting.producers; ++i)
    threads.emplace_back([&world, i] { ProducerThread(world, i).run(); });
  for (auto& thread : threads) thread.join();
#if defined(SLUICE_FAILPOINTS)
  failpoint::set_handler({});
#endif
  for (std::uint32_t i = 0; i < setting.producers; ++i) EXPECT_EQ(world.partition.pins.cell(i).load(), 0u);
  // More than one or two cannot be somebody who was put aside between publishing and ringing.
  EXPECT_LE(world.unrung.load(), 2u) << "lost wake-ups, of " << world.sleeps.load() << " sleeps";
  std::printf(
      "  sleeps %llu, expired %llu, limbo %llu, batches from files %llu\n",
      static_cast<unsigned long long>(world.sleeps.load()), static_cast<unsigned long long>(world.expired.load()),
      static_cast<unsigned long long>(world.limbo.load()), static_cast<unsigned long long>(world.from_files.load()));
  if (setting.expire) {
    EXPECT_GT(world.expired.load(), 0u);
  }
}

constexpr std::uint32_t kPlain = layout::kTopicFlagPlainCommit;
constexpr std::uint32_t kChecked = layout::kTopicFlagChecksums;
INSTANTIATE_TEST_SUITE_P(Ring, Threads,
                         testing::Values(Setting{"one_to_one", 1, 1, 0, false, false, false, 32000},
                                         Setting{"plain_one_to_one", 1, 1, kPlain, false, false, false, 32000},
                                         Setting{"many_expiring", 3, 2, kChecked, true, false, false, 12000},
                                         Setting{"plain_many", 3, 2, kPlain, false, false, false, 12000},
                                         Setting{"spilled_expiring", 2, 2, kChecked, true, true, false, 12000},
                                         Setting{"spilled_plain", 2, 2, kPlain | kChecked, false, true, false, 12000},
                                         Setting{"exchanging_expiring", 2, 1, 0, true, false, true, 12000},
                                         Setting{"exchanging_plain", 2, 1, kPlain, false, true, true, 12000}),
                         [](const auto& tested) { return std::string(tested.param.name); });

}  // namespace
}  // namespace sluice::ring::test
