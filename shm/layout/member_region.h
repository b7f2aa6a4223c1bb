// The region of one member of a consumer group (docs/FORMAT.md, Member region): read and written by the member and the
// daemon alone.
//
//   daemon ──▶ member   assignment cells (which partition, which generation), deliveries (references to records)
//   member ──▶ daemon   how far it has settled each partition, outcomes (ack, nack, reject, extend, defer)
//
// Invariants
//  1. Nothing in here decides anything for others: the daemon copies each word once, clamps it to what can be true, and
//     takes it for this member's word about itself. What the daemon wrote it never reads back.
//  2. A cell's member words count only if the member has said that they are of the generation that the daemon gave
//     (`accepted`), and while that stands. A late member can neither lose nor settle what is another's.
//  3. An outcome is in its ring before `acked` moves past its record: the daemon reads `acked` first (acquire), then
//  the
//     ring, so a message that is passed is settled or known to be unsettled.
//  4. A slot of a delivery is used again only after the daemon has seen its outcome, or the member's end.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "shm/base/limits.h"
#include "shm/layout/regions.h"

namespace sluice::layout {

// The partition of an assignment, as both see it. Its number is its index.
struct AssignmentCell {
  // Daemon: the generation of the assignment, 0: none; kWantedBack set: give it back as soon as nothing is in hand.
  alignas(kWriterDistance) std::atomic<std::uint64_t> generation;
  // The member, each with release; one line.
  alignas(kWriterDistance) std::atomic<std::uint64_t> acked;  // position: every message below it is settled
  std::atomic<std::uint64_t> oldest;     // position of the oldest message in the application's hands, 0: none
  std::atomic<std::uint64_t> newest;     // position of the newest one that was handed out, 0: none yet
  std::atomic<std::uint64_t> settled;    // messages, since the generation began
  std::atomic<std::uint64_t> released;   // the generation that it has given back: the last word of it
  std::atomic<std::uint64_t> read;       // position of its next read
  std::atomic<std::uint64_t> accepted;   // the generation that the words of this line are of: set once they are
  std::atomic<std::uint32_t> in_flight;  // messages in the application's hands
  std::uint32_t reserved;                // 0
};
static_assert(std::is_standard_layout_v<AssignmentCell> && sizeof(AssignmentCell) == 2 * kWriterDistance);
static_assert(offsetof(AssignmentCell, acked) == 128 && offsetof(AssignmentCell, in_flight) == 184);
inline constexpr std::uint64_t kWantedBack = std::uint64_t{1} << 63;

enum class DeliveryKind : std::uint32_t {
  message = 1,    // a record for the application
  unblock = 2,    // strict groups: nothing of this key (0: of the partition) is held back any more
  withdrawn = 3,  // the delivery `stamp` is another's by now, or (stamp 0) what was read directly at `position`: its
                  // outcome will be refused
};

// A reference to a record, or a note about one. Written by the daemon before its index is in the ring.
struct DeliverySlot {
  std::uint64_t stamp;     // of this delivery, unique in the member's life; withdrawn: of the one that is
  std::uint64_t position;  // unblock: how many outcomes of the member the daemon had read
  std::uint64_t argument;  // message: seeks of the group in its partition before it; unblock: the key's hash
  std::uint32_t kind;      // DeliveryKind
  std::uint32_t topic_id;
  std::uint32_t partition;
  std::uint32_t delivered;    // times, this one included
  std::uint32_t failed;       // times
  std::uint32_t alone;        // 1: under suspicion; handed out while nothing else is in the application's hands
  std::uint64_t reserved[2];  // 0
};
static_assert(std::is_standard_layout_v<DeliverySlot> && sizeof(DeliverySlot) == 64);
static_assert(offsetof(DeliverySlot, kind) == 24 && offsetof(DeliverySlot, alone) == 44);

enum class OutcomeVerb : std::uint8_t {
  ack = 1,
  nack = 2,    // argument: delay in ns, or kDelayByPolicy
  reject = 3,  // to the dead letters at once
  extend = 4,  // argument: ns from now
  defer = 5,   // strict by key: read behind a message of the same key that waits; argument: the key's hash
};
inline constexpr std::uint64_t kDelayByPolicy = 0xffff'ffff'ffff'ffff;

// One outcome. Its reason, if any, follows in the next entries, 32 bytes each.
struct OutcomeEntry {
  std::uint64_t target;       // by cell: the record's position; by slot: the delivery's stamp
  std::uint64_t argument;     // as the verb says; ack by cell: the record's end
  std::uint32_t place;        // index of the cell, or of the slot with kPlaceIsSlot
  std::uint32_t generation;   // by cell: lower half of the cell's generation
  std::uint32_t reason_size;  // bytes
  std::uint8_t verb;          // OutcomeVerb
  std::uint8_t reserved[3];   // 0
};
static_assert(std::is_standard_layout_v<OutcomeEntry> && sizeof(OutcomeEntry) == 32);
static_assert(offsetof(OutcomeEntry, place) == 16 && offsetof(OutcomeEntry, verb) == 28);
inline constexpr std::uint32_t kPlaceIsSlot = 0x8000'0000;
constexpr std::uint32_t reason_entries(std::uint32_t reason_size) { return (reason_size + 31) / 32; }

inline constexpr std::uint64_t kOffered = 0x8000'0000'0000'0000;  // with the delivery's stamp
inline constexpr std::uint64_t kRecalled = 0xffff'ffff'ffff'ffff;

struct MemberRegion {
  RegionHeader header;
  // ---- daemon → member
  alignas(kWriterDistance) std::atomic<std::uint32_t> news;  // futex word: bumped with each change below; release
  std::atomic<std::uint32_t> assignments;  // bumped when cells were given or wanted back: ask for the list
  std::atomic<std::uint32_t> ended;        // 1: no member any more (timed out, group deleted): join again
  std::atomic<std::uint32_t> epoch;      // of the group, lower half: raised by each forced seek, before what follows it
  std::atomic<std::uint64_t> delivered;  // entries of `ring` that were ever published; release
  std::atomic<std::uint64_t> outcomes_read;  // entries of `outcomes` that were ever read; release: they may be reused
  // ---- member → daemon
  alignas(kWriterDistance) std::atomic<std::uint32_t> asleep;  // 1: it sleeps on `news`; taken down by the daemon
  std::atomic<std::uint32_t> fd_armed;  // 1: it waits on its descriptor: written once when there is something to read
  std::atomic<std::uint64_t> progress;  // bumped with each call of the application: proof that it is not hung
  std::atomic<std::uint64_t> taken;     // entries of `ring` that were ever read; release
  std::atomic<std::uint64_t> outcomes_written;  // release: publishes entries
  // ---- both: 1 while the daemon wants to hear of the next change (it has saved everything); taken down by the member
  // with an exchange, who then writes the daemon's eventfd.
  alignas(kWriterDistance) std::atomic<std::uint32_t> daemon_armed;
  // ---- tables
  alignas(kWriterDistance) AssignmentCell cells[kMemberCellsMax];
  // Daemon. Deliveries of messages have the first kDeliverySlotsMax, other notes those behind them.
  DeliverySlot slots[kDeliverySlotsMax + kNoteSlotsMax];
  std::uint32_t ring[kDeliverySlotsMax];  // daemon: indexes of slots, by `delivered` modulo the size
  // Of messages. Daemon: 0 before it writes the slot, kOffered | stamp behind it, and then the ring: who copies a slot
  // that is used again meanwhile sees that this is no delivery. Member, by compare-and-swap kOffered | stamp → stamp,
  // before it hands the message out; daemon, by compare-and-swap kOffered | stamp → kRecalled: the message is
  // another's, and there is no outcome to come.
  std::atomic<std::uint64_t> started[kDeliverySlotsMax];
  OutcomeEntry outcomes[kOutcomesMax];  // member, by `outcomes_written` modulo the size
};
static_assert(std::is_standard_layout_v<MemberRegion>);
static_assert(offsetof(MemberRegion, news) == 128 && offsetof(MemberRegion, delivered) == 144);
static_assert(offsetof(MemberRegion, asleep) == 256 && offsetof(MemberRegion, progress) == 264);
static_assert(offsetof(MemberRegion, daemon_armed) == 384 && offsetof(MemberRegion, cells) == 512);
static_assert(std::atomic<std::uint64_t>::is_always_lock_free && std::atomic<std::uint32_t>::is_always_lock_free);

}  // namespace sluice::layout
