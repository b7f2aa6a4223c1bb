// The four shared-memory regions of the bus: control, log, bell, session (docs/FORMAT.md, Memory).
//
// Each opens with a RegionHeader whose magic is published last (release) by the daemon and acquired first by openers.
// Who may write what: the comment at each word. Words of different writers lie 128 bytes apart.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "shm/base/limits.h"
#include "shm/base/types.h"

namespace sluice::layout {

inline constexpr std::uint32_t kRegionVersion = 1;

// kept_table is the daemon's own, and never handed out (daemon/keep). member: member_region.h.
enum class RegionKind : std::uint32_t { control = 1, log = 2, bell = 3, session = 4, kept_table = 5, member = 6 };
constexpr std::uint64_t region_magic(RegionKind kind) {
  return 0x00'47'45'52'43'55'4c'53 | (static_cast<std::uint64_t>(kind) << 56);  // "SLUCREG" + kind
}

struct RegionHeader {
  std::atomic<std::uint64_t> magic;  // daemon, once; release
  std::uint32_t version;
  std::uint32_t topic_id;  // 0 in a session region
  std::uint32_t partition;
  std::uint32_t handle;  // the partition's number in this incarnation: the upper part of its pins
  std::uint64_t incarnation;
  std::uint64_t size;         // of the whole region, bytes
  std::uint64_t session_id;   // 0 but in a session region
  std::uint64_t reserved[2];  // 0
};
static_assert(std::is_standard_layout_v<RegionHeader> && sizeof(RegionHeader) == 64);
static_assert(offsetof(RegionHeader, incarnation) == 24 && offsetof(RegionHeader, session_id) == 40);

// ---- control: one per partition; only the daemon writes, clients map it read-only ----

enum class Gate : std::uint32_t { open = 0, poisoned = 1, deleted = 2, denied = 3, closing = 4 };
enum class TimeMode : std::uint32_t { coarse = 0, precise = 1, none = 2 };

inline constexpr std::uint32_t kTopicFlagChecksums = 1;
inline constexpr std::uint32_t kTopicFlagDurable = 2;  // async or sync
inline constexpr std::uint32_t kTopicFlagSync = 4;
inline constexpr std::uint32_t kTopicFlagPlainCommit = 8;      // claim_deadline = none: commits are release stores
inline constexpr std::uint32_t kTopicFlagVisibleDurable = 16;  // consumers never see what a power loss could take back
inline constexpr std::uint32_t kTopicFlagDropOldest = 32;

// A slot table entry: what lives where the segment's number says (segment modulo slots).
//   bits 0–1 state · bits 2–15 slot · bits 16–63 segment number
// 0 (absent): no segment has lived here yet. `retiring` stays after the slot is free, until the entry's next segment.
enum class SlotState : std::uint8_t { absent = 0, ready = 1, retiring = 2 };
struct SlotEntry {
  std::uint64_t bits = 0;
  static constexpr SlotEntry make(SegmentNumber segment, std::uint32_t slot, SlotState state) {
    return SlotEntry{static_cast<std::uint64_t>(state) | (std::uint64_t{slot} << 2) | (segment.value << 16)};
  }
  constexpr SlotState state() const { return static_cast<SlotState>(bits & 3); }
  constexpr std::uint32_t slot() const { return static_cast<std::uint32_t>((bits >> 2) & 0x3fff); }
  constexpr SegmentNumber segment() const { return SegmentNumber(bits >> 16); }
};

// Records of `producer` at and above `position` count as aborted.
struct FenceEntry {
  std::uint32_t producer;               // an old id of a name
  std::uint32_t reserved;               // 0
  std::atomic<std::uint64_t> position;  // kFencePending until the fence record stands; release
};
inline constexpr std::uint64_t kFencePending = 0xffff'ffff'ffff'fffe;  // look again: it is known in a moment
inline constexpr std::uint64_t kFenceNone = 0xffff'ffff'ffff'ffff;     // nothing lies above it

struct ControlRegion {
  RegionHeader header;
  // Constant after creation.
  std::uint64_t segment_size;  // bytes, a power of two
  std::uint32_t slots;
  std::uint32_t flags;  // kTopicFlag…
  TimeMode time_mode;
  std::uint32_t reserved0;          // 0
  std::uint64_t message_size_max;   // bytes of a whole record
  std::uint64_t claim_deadline_ns;  // 0: none
  std::uint64_t start_position;     // the first position of this incarnation: below it is disk only
  std::uint64_t reserved1[2];
  // Changes once per prepare step; producers read it with every append.
  alignas(kWriterDistance) std::atomic<std::uint64_t> prepared;  // release: publishes zeroed memory
  std::atomic<std::uint32_t> gate;                               // Gate
  std::uint32_t fence_reserved;
  std::atomic<std::uint32_t> fence_count;  // release: publishes fences[0, count)
  // Changes with every sync.
  alignas(kWriterDistance) std::atomic<std::uint64_t> durable;  // release: everything below is on stable storage
  std::atomic<std::uint32_t> durable_count;                     // futex word: bumped with every change of durable
  // Changes rarely.
  alignas(kWriterDistance) std::atomic<std::uint64_t> trimmed;  // everything below is gone by retention
  std::atomic<std::uint32_t> topic_partitions;                  // how many the topic has by now; grows only
  std::uint32_t reserved2;                                      // 0
  std::atomic<std::uint64_t> message_ttl_ns;  // relaxed: the topic's, 0: none; what is older was expired (expiry.h)
  alignas(kWriterDistance) std::atomic<std::uint64_t> slot_table[kSlotsMax];
  FenceEntry fences[kFencesMax];
};
static_assert(std::is_standard_layout_v<ControlRegion>);
static_assert(offsetof(ControlRegion, segment_size) == 64);
static_assert(offsetof(ControlRegion, prepared) == 128);
static_assert(offsetof(ControlRegion, gate) == 136);
static_assert(offsetof(ControlRegion, durable) == 256);
static_assert(offsetof(ControlRegion, trimmed) == 384 && offsetof(ControlRegion, topic_partitions) == 392);
static_assert(offsetof(ControlRegion, message_ttl_ns) == 400);
static_assert(offsetof(ControlRegion, slot_table) == 512);
static_assert(offsetof(ControlRegion, fences) == 512 + 8 * kSlotsMax);
static_assert(sizeof(ControlRegion) == 512 + 8 * kSlotsMax + 16 * kFencesMax);

// ---- log: one per partition; producers write, consumers map it read-only; the slots follow the header page ----

inline constexpr std::uint64_t kLogHeaderSize = 4096;
struct LogRegionHeader {
  RegionHeader header;
  // Producers and the daemon, by compare-and-swap, only forward. A hint of where the log ends, never past it.
  alignas(kWriterDistance) std::atomic<std::uint64_t> tail;
};
static_assert(std::is_standard_layout_v<LogRegionHeader> && offsetof(LogRegionHeader, tail) == 128);
static_assert(sizeof(LogRegionHeader) <= kLogHeaderSize);
constexpr std::uint64_t log_region_size(std::uint64_t segment_size, std::uint32_t slots) {
  return kLogHeaderSize + segment_size * slots;
}

// ---- bell: one per partition; everybody writes, nothing is decided by it ----

inline constexpr std::uint32_t kBellSleepers = 1;   // a consumer or producer sleeps on `count`
inline constexpr std::uint32_t kBellDaemon = 2;     // the daemon sleeps: whoever has news for it writes its eventfd
inline constexpr std::uint32_t kBellDaemonNap = 4;  // it naps, for a millisecond at most: only who is out of room,
                                                    // crosses a segment or waits for `durable` writes the eventfd
struct BellRegion {
  RegionHeader header;
  // Raised by sleepers (fetch_or), taken down by whoever wakes them (exchange).
  alignas(kWriterDistance) std::atomic<std::uint32_t> flags;
  std::atomic<std::uint32_t> count;  // futex word: bumped before each wake
  // 1 while somebody sleeps on ControlRegion::durable_count.
  alignas(kWriterDistance) std::atomic<std::uint32_t> durable_waiters;
  // 1 while one of those who wait for `durable` spins: a single one, the others sleep. Left behind by a dead one it
  // only makes everybody sleep.
  std::atomic<std::uint32_t> durable_spinner;
};
static_assert(std::is_standard_layout_v<BellRegion>);
static_assert(offsetof(BellRegion, flags) == 128 && offsetof(BellRegion, count) == 132);
static_assert(offsetof(BellRegion, durable_waiters) == 256);

// ---- session: one per attached client, shared with the daemon alone ----

// What holds a segment in memory: partition handle (24 bits) · segment number + 1 (40 bits); 0 is no pin.
constexpr std::uint64_t pin_word(std::uint32_t handle, SegmentNumber segment) {
  return (std::uint64_t{handle} << 40) | ((segment.value + 1) & 0xff'ffff'ffff);
}

struct alignas(kWriterDistance) PinCell {
  std::atomic<std::uint64_t> pin;  // the client; cleared by the daemon after the client's proven death
};
struct alignas(kCacheLineSize) CursorCell {
  std::atomic<std::uint64_t> position;  // the client: everything below was read; release
};

struct SessionRegion {
  RegionHeader header;
  alignas(kWriterDistance) std::atomic<std::uint32_t> revoked;  // daemon: 1 once the session was ended
  // The client: pin cells at and above it were never used; grows only, stored before the first pin in a new cell. It
  // saves the reclaimer from reading all cells; whoever states too little gives up its own pins alone.
  std::atomic<std::uint32_t> pins_used;
  alignas(kWriterDistance) PinCell pins[kSessionPinsMax];
  CursorCell cursors[kSessionCursorsMax];
};
static_assert(std::is_standard_layout_v<SessionRegion>);
static_assert(offsetof(SessionRegion, revoked) == 128 && offsetof(SessionRegion, pins_used) == 132);
static_assert(offsetof(SessionRegion, pins) == 256);
static_assert(offsetof(SessionRegion, cursors) == 256 + kWriterDistance * kSessionPinsMax);

}  // namespace sluice::layout
