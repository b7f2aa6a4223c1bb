// A partition without a daemon, for tests of the ring: its regions, pins and slots in one process (or in a parent and
// its forked children).
//
// Owner: one test. Lifetimes: everything handed out points into the TestPartition.
#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <new>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "shm/base/limits.h"
#include "shm/ring/appender.h"
#include "shm/ring/partition_memory.h"
#include "shm/ring/scanner.h"
#include "shm/ring/slot_manager.h"

namespace sluice::ring::test {

// `heap` lets AddressSanitizer see a step past the end; `shared` outlives a fork.
enum class MemoryKind : std::uint8_t { heap, shared };

// Zeroed, page-aligned memory.
class Pages {
 public:
  Pages(MemoryKind kind, std::size_t size) : kind_(kind), size_((size + 4095) & ~std::size_t{4095}) {
    if (kind_ == MemoryKind::heap) {
      data_ = std::aligned_alloc(4096, size_);
      if (data_ != nullptr) std::memset(data_, 0, size_);
    } else {
      data_ = ::mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
      if (data_ == MAP_FAILED) data_ = nullptr;
    }
    if (data_ == nullptr) throw std::bad_alloc();
  }
  ~Pages() {
    if (kind_ == MemoryKind::heap)
      std::free(data_);
    else
      ::munmap(data_, size_);
  }
  Pages(const Pages&) = delete;
  Pages& operator=(const Pages&) = delete;
  template <typename T>
  T* as() const {
    return static_cast<T*>(data_);
  }
  std::span<std::byte> bytes() const { return {static_cast<std::byte*>(data_), size_}; }

 private:
  MemoryKind kind_;
  std::size_t size_;
  void* data_ = nullptr;
};

struct PartitionOptions {
  std::uint64_t segment_size = kSegmentSizeMin;
  std::uint32_t slots = 4;
  std::uint32_t flags = 0;
  std::uint64_t start_position = 0;
  std::uint64_t message_size_max = 0;  // 0: a quarter of a segment
  MemoryKind memory = MemoryKind::heap;
  std::uint32_t pins = 16;
};

// All sessions' pin cells, in one array.
class PinArray final : public PinSource {
 public:
  PinArray(MemoryKind kind, std::uint32_t count) : pages_(kind, count * sizeof(layout::PinCell)), count_(count) {}
  std::atomic<std::uint64_t>& cell(std::uint32_t index) const { return pages_.as<layout::PinCell>()[index].pin; }
  bool is_pinned(std::uint32_t handle, SegmentNumber segment) const override {
    for (std::uint32_t i = 0; i < count_; ++i)
      // acquire: pairs with the releases of unpin and pin.
      if (cell(i).load(std::memory_order_acquire) == layout::pin_word(handle, segment)) return true;
    return false;
  }
  std::vector<SegmentNumber> pinned(std::uint32_t handle) const override {
    std::vector<SegmentNumber> segments;
    for (std::uint32_t i = 0; i < count_; ++i) {
      const std::uint64_t word = cell(i).load(std::memory_order_acquire);
      if (word != 0 && word >> 40 == handle) segments.push_back(SegmentNumber((word & 0xff'ffff'ffff) - 1));
    }
    return segments;
  }

 private:
  Pages pages_;
  std::uint32_t count_;
};

// Memory that is there already; refuses above `limit` bytes.
class CountedMemory final : public SlotMemory {
 public:
  Status back(std::uint64_t, std::uint64_t size) override {
    if (backed + size > limit) return fail(ErrorCode::no_memory, "backing a slot: the test's limit is reached");
    backed += size;
    return {};
  }
  std::uint64_t in_memory(std::uint64_t, std::uint64_t) const override { return 0; }
  std::uint64_t backed = 0;
  std::uint64_t limit = UINT64_MAX;
};

class TestPartition {
 public:
  explicit TestPartition(const PartitionOptions& options = {})
      : control_(options.memory, sizeof(layout::ControlRegion)),
        log_(options.memory, layout::log_region_size(options.segment_size, options.slots)),
        bell_(options.memory, sizeof(layout::BellRegion)),
        pins(options.memory, options.pins),
        memory(initialise(options)),
        slots(memory, pins, backing, TopicId(7), 3, Incarnation(99)) {}

  // Prepares all that there are free slots for.
  std::uint32_t prepare_all() {
    std::uint32_t steps = 0;
    while (slots.prepare_step(Position(0))) ++steps;
    return steps;
  }
  Appender appender(std::uint32_t id, std::uint32_t cell, std::uint64_t next_sequence = 1) {
    return Appender(memory, ProducerId(id), pins.cell(cell), false, Sequence(next_sequence));
  }
  layout::ControlRegion& control() const { return *memory.control; }
  // The record header at a position whose segment is ready.
  layout::RecordHeader* header_at(Position position) const {
    return reinterpret_cast<layout::RecordHeader*>(at(position));
  }
  std::byte* at(Position position) const {
    const SegmentNumber segment = memory.segment_of(position);
    return memory.slot_base(slots.slot_of(segment)) + (position - memory.start_of(segment));
  }
  // What the daemon does to an expired or dead claim. False: it was final already.
  bool expire(Position position) const {
    auto& word = header_at(position)->claim;
    std::uint64_t seen = word.load(std::memory_order_acquire);
    const layout::ClaimWord claim{seen};
    return claim.is_claimed() && word.compare_exchange_strong(seen, claim.with_state(layout::RecordState::aborted).bits,
                                                              std::memory_order_acq_rel);
  }

 private:
  PartitionMemory initialise(const PartitionOptions& options) {
    auto* control = control_.as<layout::ControlRegion>();
    control->header.handle = 5;
    control->segment_size = options.segment_size;
    control->slots = options.slots;
    control->flags = options.flags;
    control->message_size_max =
        options.message_size_max != 0 ? options.message_size_max : options.segment_size / kMessageSegmentFraction;
    control->start_position = options.start_position;
    control->prepared.store(options.start_position, std::memory_order_relaxed);
    log_.as<layout::LogRegionHeader>()->tail.store(options.start_position, std::memory_order_relaxed);
    return PartitionMemory::view(control, log_.as<layout::LogRegionHeader>(), bell_.as<layout::BellRegion>(), -1);
  }

  Pages control_;
  Pages log_;
  Pages bell_;

 public:
  PinArray pins;
  CountedMemory backing;
  PartitionMemory memory;
  SlotManager slots;
};

// One thing that a scan met.
struct Seen {
  ScanResult result;
  Position position;
  std::uint32_t producer = 0;
  std::uint64_t sequence = 0;
  std::string payload;
  std::string trailer;
  layout::RecordFields fields;
};

// A consumer: walks the log from a position, pinning a segment at a time.
class Walker {
 public:
  Walker(const TestPartition& partition, std::uint32_t cell, Position from, bool verify = false)
      : partition_(partition), cell_(partition.pins.cell(cell)), position_(from), verify_(verify) {}

  // Everything there is to see now, but pads; stops where the log ends for now, and says how in `stopped`.
  std::vector<Seen> all() {
    std::vector<Seen> seen;
    while (batch(seen)) {
    }
    return seen;
  }
  // The records' payloads of all().
  std::vector<std::string> payloads() {
    std::vector<std::string> texts;
    for (auto& s : all())
      if (s.result == ScanResult::record) texts.push_back(std::move(s.payload));
    return texts;
  }
  Position position() const { return position_; }
  ScanResult stopped = ScanResult::free;
  Presence presence = Presence::here;

 private:
  // One segment's worth. True if there may be more in the next segment.
  bool batch(std::vector<Seen>& seen) {
    const SegmentNumber segment = partition_.memory.segment_of(position_);
    std::uint32_t slot = 0;
    presence = pin_segment(partition_.memory, cell_, segment, slot);
    if (presence != Presence::here) return false;
    const SegmentView view = view_of(partition_.memory, segment, slot, verify_);
    for (;;) {
      RecordView record;
      const ScanResult result = scan_record(view, position_, record);
      switch (result) {
        case ScanResult::free:
        case ScanResult::claimed:
        case ScanResult::limit:
        case ScanResult::broken_chain:
        case ScanResult::segment_end:
          stopped = result;
          cell_.store(0, std::memory_order_release);
          return result == ScanResult::segment_end;
        case ScanResult::pad: break;
        default: {
          Seen s{result, record.position, record.fields.claim.producer().value, record.fields.sequence.value, {},
                 {},     record.fields};
          if (result == ScanResult::record) {
            s.payload.assign(reinterpret_cast<const char*>(record.payload.data()), record.payload.size());
            s.trailer.assign(reinterpret_cast<const char*>(record.trailer.data()), record.trailer.size());
          }
          seen.push_back(std::move(s));
        }
      }
    }
  }

  const TestPartition& partition_;
  std::atomic<std::uint64_t>& cell_;
  Position position_;
  bool verify_;
};

inline std::span<const std::byte> bytes(std::string_view text) { return std::as_bytes(std::span(text)); }

// `size` bytes that depend on `seed`, so that bytes of another message are told apart.
inline std::string text_of(std::uint64_t seed, std::size_t size) {
  std::string text(size, '\0');
  std::uint64_t x = seed * 0x9e37'79b9'7f4a'7c15 + 1;
  for (std::size_t i = 0; i < size; ++i) {
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    text[i] = static_cast<char>(x);
  }
  return text;
}

// Appends records of 500 bytes until there is no room. Returns how many.
inline std::uint64_t fill(Appender& appender) {
  std::uint64_t sent = 0;
  Appended appended;
  while (appender.append({bytes(text_of(sent, 500)), {}, 0}, appended) == AppendResult::ok) ++sent;
  return sent;
}

}  // namespace sluice::ring::test
