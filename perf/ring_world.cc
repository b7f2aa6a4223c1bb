#include "perf/ring_world.h"

#include <poll.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <optional>
#include <utility>

#include "shm/base/clock.h"
#include "shm/base/fd.h"
#include "shm/ring/adaptive_lag.h"
#include "shm/ring/appender.h"
#include "shm/ring/bell.h"
#include "shm/ring/membarrier.h"
#include "shm/ring/scanner.h"
#include "shm/ring/slot_manager.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

namespace sluice::perf {
namespace {

using ring::Presence;
using ring::ScanResult;

constexpr std::uint32_t kSides = 2;  // the two processes
constexpr std::uint32_t kFloorRounds = 20'000;
constexpr std::uint32_t kBatchRecords = 256;
constexpr std::uint32_t kSpinsBeforeSleep = 2'000;
constexpr std::uint64_t kSegmentsAhead = 2;  // as spill::Partition prepares

std::uint64_t environment(const char* name, std::uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text != nullptr ? std::strtoull(text, nullptr, 10) : otherwise;
}

// Shared, zeroed, populated.
template <typename T>
class Shared {
 public:
  explicit Shared(std::size_t size = sizeof(T)) : size_(size) {
    void* data = ::mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (data == MAP_FAILED) throw std::bad_alloc();
    data_ = static_cast<T*>(data);
  }
  ~Shared() { ::munmap(data_, size_); }
  Shared(const Shared&) = delete;
  Shared& operator=(const Shared&) = delete;
  T* get() const { return data_; }
  T* operator->() const { return data_; }
  // A child's page table of a shared mapping is empty after the fork.
  void populate() const { ::madvise(data_, size_, MADV_POPULATE_WRITE); }

 private:
  std::size_t size_;
  T* data_;
};

struct alignas(kWriterDistance) Line {
  std::atomic<std::uint64_t> value;
};

// What the processes share beside the partitions.
struct Board {
  Line arrived[kSides];  // steps that each side has come to
  Line cursor[kSides];   // what the reader of each partition is past
  Line done[kSides];
  PingPong line;
  Measured measured;  // written by side 1, and no_room by the producers
  Line no_room[kSides];
  double finished_s[kSides];
};

class Pins final : public ring::PinSource {
 public:
  bool is_pinned(std::uint32_t handle, SegmentNumber segment) const override {
    for (std::uint32_t i = 0; i < 2 * kSides; ++i)
      if (cells_.get()[i].pin.load(std::memory_order_acquire) == layout::pin_word(handle, segment)) return true;
    return false;
  }
  std::vector<SegmentNumber> pinned(std::uint32_t) const override { return {}; }  // no memory is adopted here
  std::atomic<std::uint64_t>& cell(std::uint32_t index) const { return cells_.get()[index].pin; }

 private:
  Shared<layout::PinCell> cells_{2 * kSides * sizeof(layout::PinCell)};
};

class PopulatedMemory final : public ring::SlotMemory {
 public:
  Status back(std::uint64_t, std::uint64_t) override { return {}; }
  std::uint64_t in_memory(std::uint64_t, std::uint64_t size) const override { return size; }
};

class Partition {
 public:
  Partition(std::uint32_t handle, const Setting& setting, const Pins& pins, int wake_fd)
      : segment_size_(environment("SLUICE_BENCH_SEGMENT_SIZE", 1 << 20)),
        slots_(static_cast<std::uint32_t>(environment("SLUICE_BENCH_SLOTS", 16))),
        log_(layout::log_region_size(segment_size_, slots_)),
        memory(initialise(handle, setting, wake_fd)),
        slots(memory, pins, backing_, TopicId(1), handle, Incarnation(1)) {}
  void populate() const {
    control_.populate();
    log_.populate();
    bell_.populate();
  }

 private:
  ring::PartitionMemory initialise(std::uint32_t handle, const Setting& setting, int wake_fd) {
    layout::ControlRegion* control = control_.get();
    control->header.handle = handle;
    control->segment_size = segment_size_;
    control->slots = slots_;
    control->flags = setting.flags;
    control->message_size_max = segment_size_ / kMessageSegmentFraction;
    return ring::PartitionMemory::view(control, log_.get(), bell_.get(), wake_fd);
  }

  const std::uint64_t segment_size_;
  const std::uint32_t slots_;
  Shared<layout::ControlRegion> control_;
  Shared<layout::LogRegionHeader> log_;
  Shared<layout::BellRegion> bell_;
  PopulatedMemory backing_;

 public:
  ring::PartitionMemory memory;
  ring::SlotManager slots;
};

// ---- the two sides

// A reader that spins: pins a segment, takes what is there in batches, lags behind if records come one by one.
class Reader {
 public:
  Reader(const ring::PartitionMemory& memory, std::atomic<std::uint64_t>& pin, std::atomic<std::uint64_t>& cursor)
      : memory_(memory), bell_(memory), pin_(pin), cursor_(cursor) {}

  // Takes up to `limit` records; reads every byte of them.
  std::uint32_t look(std::uint32_t limit) {
    if (!pinned_ && !pin()) {
      lag_.after_look(0);
      return 0;
    }
    std::uint32_t records = 0;
    bool seen_all = false;
    while (records < limit) {
      ring::RecordView record;
      const ScanResult result = ring::scan_record(view_, position_, record);
      if (result == ScanResult::record) {
        read(record.payload);
        ++records;
        continue;
      }
      seen_all = result == ScanResult::free || result == ScanResult::claimed;
      if (seen_all) break;
      if (result == ScanResult::pad || result == ScanResult::aborted) continue;
      unpin();  // segment_end, limit: look at the table again
      break;
    }
    if (records != 0) cursor_.store(position_.value, std::memory_order_release);  // pairs with the daemon's acquire
    run_ += records;
    pinned_records_ += records;
    if (pinned_records_ >= kBatchRecords) unpin();
    if (seen_all) lag_.after_look(std::exchange(run_, 0));
    return records;
  }
  std::uint64_t sum() const { return sum_; }
  ~Reader() { pin_.store(0, std::memory_order_release); }

 private:
  bool pin() {
    const SegmentNumber segment = memory_.segment_of(position_);
    std::uint32_t slot = 0;
    if (ring::pin_segment(memory_, pin_, segment, slot) != Presence::here) return false;
    view_ = ring::view_of(memory_, segment, slot, false);
    pinned_ = true;
    pinned_records_ = 0;
    return true;
  }
  void unpin() {
    pin_.store(0, std::memory_order_release);
    pinned_ = false;
    if (position_ != view_.end) return;
    cursor_.store(position_.value, std::memory_order_release);
    bell_.call_daemon();  // a segment is read
  }
  void read(std::span<const std::byte> payload) {
    std::uint64_t sum = sum_;
    for (std::size_t i = 0; i + 8 <= payload.size(); i += 8) {
      std::uint64_t word;
      std::memcpy(&word, payload.data() + i, 8);
      sum += word;
    }
    sum_ = sum;
  }

  const ring::PartitionMemory memory_;
  const ring::Bell bell_;
  std::atomic<std::uint64_t>& pin_;
  std::atomic<std::uint64_t>& cursor_;
  ring::AdaptiveLag lag_;
  ring::SegmentView view_;
  Position position_{0};
  bool pinned_ = false;
  std::uint32_t run_ = 0;             // records since the log was last seen to its end
  std::uint32_t pinned_records_ = 0;  // records since the pin
  std::uint64_t sum_ = 0;
};

class Writer {
 public:
  Writer(const Setting& setting, const ring::PartitionMemory& memory, std::uint32_t id, std::atomic<std::uint64_t>& pin)
      : appender_(memory, ProducerId(id), pin, false, Sequence(1)),
        payload_(setting.payload_size),
        time_(setting.time) {}

  void send(std::uint64_t number) {
    std::memcpy(payload_.data(), &number, sizeof number);
    ring::Appended appended;
    for (std::uint32_t spins = 0;; ++spins) {
      const std::uint64_t time_ns = time_ ? realtime_coarse_ns() : 0;
      const auto result = appender_.append({payload_, {}, time_ns}, appended);
      if (result == ring::AppendResult::ok) return;
      if (result != ring::AppendResult::no_room) ::_exit(5);
      if (spins == 0) {
        ++no_room_;
        ring::Bell(appender_.memory()).call_daemon();
      }
      if (spins < kSpinsBeforeSleep) {
        ring::cpu_pause();
        continue;
      }
      const std::uint32_t count = appender_.arm_room();
      if (appender_.append({payload_, {}, time_ns}, appended) == ring::AppendResult::ok) return;
      appender_.sleep_room(count, kSleepNsMax);
    }
  }
  std::uint64_t no_room() const { return no_room_; }

 private:
  ring::Appender appender_;
  std::vector<std::byte> payload_;
  const bool time_;
  std::uint64_t no_room_ = 0;
};

struct World {
  explicit World(const Setting& s) : setting(s), wake(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {
    for (std::uint32_t i = 0; i < kSides; ++i) partitions[i].emplace(i + 1, setting, pins, wake.get());
  }
  const Setting setting;
  const UniqueFd wake;
  Pins pins;
  Shared<Board> board;
  std::optional<Partition> partitions[kSides];

  std::uint32_t partition_count() const { return setting.shape == Shape::round_trip ? 2 : 1; }
};

class Side {
 public:
  Side(World& world, std::uint32_t index) : world_(world), board_(*world.board.get()), index_(index) {}

  void run() {
    for (std::uint32_t i = 0; i < world_.partition_count(); ++i) world_.partitions[i]->populate();
    const Percentiles before = floor();
    meet();
    switch (world_.setting.shape) {
      case Shape::stream: stream(); break;
      case Shape::round_trip: round_trip(); break;
      case Shape::two_producers: produce(); break;
    }
    meet();
    const Percentiles after = floor();
    if (index_ == 1) {
      board_.measured.floor = {(before.p50_ns + after.p50_ns) / 2, (before.p99_ns + after.p99_ns) / 2};
      board_.measured.copy_bytes_per_s = copy_bytes_per_s();
    }
    board_.done[index_].value.store(1, std::memory_order_release);
  }

 private:
  // Both sides come here, and go on together.
  void meet() {
    ++step_;
    board_.arrived[index_].value.store(step_, std::memory_order_release);
    while (board_.arrived[1 - index_].value.load(std::memory_order_acquire) < step_) ring::cpu_pause();
  }
  Percentiles floor() {
    meet();
    if (index_ == 1) return ping(board_.line, kFloorRounds);
    pong(board_.line, kFloorRounds);
    return {};
  }
  Writer writer(std::uint32_t partition) {
    return Writer(world_.setting, world_.partitions[partition]->memory, index_ + 1, world_.pins.cell(2 * index_));
  }
  Reader reader(std::uint32_t partition) {
    return Reader(world_.partitions[partition]->memory, world_.pins.cell(2 * index_ + 1),
                  board_.cursor[partition].value);
  }
  void stream() {
    const std::uint64_t total = world_.setting.messages;
    const std::uint64_t start_ns = monotonic_ns();
    if (index_ == 0) {
      Writer out = writer(0);
      for (std::uint64_t i = 0; i < total; ++i) out.send(i);
      board_.no_room[index_].value.store(out.no_room(), std::memory_order_relaxed);
      return;
    }
    Reader in = reader(0);
    for (std::uint64_t seen = 0; seen < total;) seen += in.look(kBatchRecords);
    const double elapsed_s = static_cast<double>(monotonic_ns() - start_ns) * 1e-9;
    board_.measured.messages_per_s = static_cast<double>(total) / elapsed_s;
    if (world_.setting.payload_size == 8 && in.sum() != total * (total - 1) / 2) ::_exit(6);
  }
  void round_trip() {
    Writer out = writer(index_);
    Reader in = reader(1 - index_);
    std::vector<std::uint64_t> samples;
    samples.reserve(world_.setting.messages);
    for (std::uint64_t i = 0; i < world_.setting.messages; ++i) {
      const std::uint64_t start = cycles();
      if (index_ == 1) out.send(i);
      // One at a time: the answer goes out before the next record is looked for.
      while (in.look(1) == 0) {
      }
      if (index_ == 0)
        out.send(i);
      else
        samples.push_back(cycles() - start);
    }
    if (index_ == 1) board_.measured.trip = percentiles(samples);
  }
  void produce() {
    Writer out = writer(0);
    const std::uint64_t mine = world_.setting.messages / 2;
    const std::uint64_t start_ns = monotonic_ns();
    for (std::uint64_t i = 0; i < mine; ++i) out.send(i);
    board_.finished_s[index_] = static_cast<double>(monotonic_ns() - start_ns) * 1e-9;
    board_.no_room[index_].value.store(out.no_room(), std::memory_order_relaxed);
    meet();
    // Both rates at the time when both ran: the slower one's end would count a time with one producer alone.
    if (index_ == 1)
      board_.measured.messages_per_s =
          static_cast<double>(mine) / board_.finished_s[0] + static_cast<double>(mine) / board_.finished_s[1];
  }

  World& world_;
  Board& board_;
  const std::uint32_t index_;
  std::uint64_t step_ = 0;
};

// ---- the daemon

class Daemon {
 public:
  explicit Daemon(World& world) : world_(world) { work(); }

  // Until both sides are done. False: one ended before.
  bool run(const pid_t (&sides)[kSides]) {
    std::uint32_t ended = 0;
    while (!done()) {
      for (std::uint32_t i = 0; i < world_.partition_count(); ++i)
        ring::Bell(world_.partitions[i]->memory).daemon_arms(layout::kBellDaemonNap);
      ring::membarrier_all();
      if (!work()) {
        pollfd waited{world_.wake.get(), POLLIN, 0};
        ::poll(&waited, 1, 1);
      }
      std::uint64_t count = 0;
      [[maybe_unused]] const ssize_t got = ::read(world_.wake.get(), &count, sizeof count);
      for (std::uint32_t i = 0; i < world_.partition_count(); ++i)
        ring::Bell(world_.partitions[i]->memory).daemon_disarms();
      if (++ended % 64 == 0 && ended_early(sides)) return false;
    }
    return true;
  }

 private:
  bool done() const {
    for (const auto& line : world_.board->done)
      if (line.value.load(std::memory_order_acquire) == 0) return false;
    return true;
  }
  static bool ended_early(const pid_t (&sides)[kSides]) {
    siginfo_t info{};
    for (const pid_t pid : sides)
      if (::waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid == pid &&
          info.si_status != 0)
        return true;
    return false;
  }
  bool work() {
    bool worked = false;
    for (std::uint32_t i = 0; i < world_.partition_count(); ++i) worked = work(i) || worked;
    return worked;
  }
  bool work(std::uint32_t index) {
    Partition& partition = *world_.partitions[index];
    ring::SlotManager& slots = partition.slots;
    const ring::PartitionMemory& memory = partition.memory;
    bool worked = false;
    const Position read_up_to = world_.setting.shape == Shape::two_producers
                                    ? walk(partition)
                                    : Position(world_.board->cursor[index].value.load(std::memory_order_acquire));
    while (slots.first_ready() < memory.segment_of(read_up_to)) {
      slots.retire_first();
      worked = true;
    }
    worked = slots.release_unpinned() != 0 || worked;
    const Position tail(memory.log->tail.load(std::memory_order_acquire));
    const std::uint64_t ahead = kSegmentsAhead * memory.segment_size() + kPrepareStepSize;
    while (slots.prepared() < tail + ahead && slots.prepare_step(Position(0))) worked = true;
    return worked;
  }
  // Nobody reads: a segment may go once all in it is final, which the daemon sees by walking it.
  Position walk(Partition& partition) {
    const ring::PartitionMemory& memory = partition.memory;
    while (partition.slots.is_ready(memory.segment_of(walked_))) {
      const SegmentNumber segment = memory.segment_of(walked_);
      if (Position(memory.log->tail.load(std::memory_order_acquire)) < memory.start_of(segment.next())) break;
      const ring::SegmentView view = ring::view_of(memory, segment, partition.slots.slot_of(segment), false);
      ring::RecordView record;
      ScanResult result = ScanResult::record;
      while (result == ScanResult::record || result == ScanResult::pad || result == ScanResult::aborted)
        result = ring::scan_record(view, walked_, record);
      if (result != ScanResult::segment_end) break;
    }
    return walked_;
  }

  World& world_;
  Position walked_{0};
};

void pin_to_core(std::uint32_t core) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(core, &set);
  ::sched_setaffinity(0, sizeof set, &set);
}

// Under a real-time policy the daemon must come before the two who spin, as the fair scheduler would have it.
void go_first() {
  sched_param parameters{};
  const int policy = ::sched_getscheduler(0);
  if (policy != SCHED_FIFO && policy != SCHED_RR) return;
  static const bool raised = ::sched_getparam(0, &parameters) == 0 && ++parameters.sched_priority > 0 &&
                             ::sched_setscheduler(0, policy, &parameters) == 0;
  static_cast<void>(raised);
}

// A child of a raised parent steps back.
void go_behind() {
  sched_param parameters{};
  const int policy = ::sched_getscheduler(0);
  if (policy != SCHED_FIFO && policy != SCHED_RR) return;
  if (::sched_getparam(0, &parameters) == 0 && parameters.sched_priority > 1) {
    parameters.sched_priority = 1;
    ::sched_setscheduler(0, policy, &parameters);
  }
}

pid_t start(World& world, std::uint32_t index) {
  const pid_t pid = ::fork();
  if (pid != 0) return pid;
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  pin_to_core(index);
  go_behind();
  if (!ring::membarrier_register()) ::_exit(4);
  Side(world, index).run();
  ::_exit(0);
}

}  // namespace

Outcome measure(const Setting& setting) {
  Outcome outcome;
  if (::sysconf(_SC_NPROCESSORS_ONLN) < 2) return {"two processes need two cores; this machine has one", {}};
  World world(setting);
  cycles_per_ns();
  Daemon daemon(world);
  const pid_t sides[kSides] = {start(world, 0), start(world, 1)};
  go_first();
  const bool whole = sides[0] > 0 && sides[1] > 0 && daemon.run(sides);
  for (const pid_t pid : sides) {
    if (pid <= 0) continue;
    if (!whole) ::kill(pid, SIGKILL);
    ::waitpid(pid, nullptr, 0);
  }
  if (!whole) return {"a process of the measurement could not be started, or ended early", {}};
  outcome.measured = world.board->measured;
  for (const auto& line : world.board->no_room) outcome.measured.no_room += line.value.load(std::memory_order_relaxed);
  return outcome;
}

}  // namespace sluice::perf
