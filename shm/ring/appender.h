// Appending to a partition's log in shared memory: claim, fill, commit. Lock-free, any number of producers.
//
// Owner: one thread. Appenders of one producer may share a pin cell (one partition at a time holds a claim).
//
// The protocol (tests/model holds a model of it, with the counterexample for each step left out)
//  1. p = max(local, tail); pin the segment of p; read tail again: in a later segment, start over. Read the gate.
//     Where the last claim's segment still has room, local is p, and tail is read once, after the pin: the first
//     reading only chooses where to begin.
//  2. The slot table must say that the segment is ready, and p + span must lie below `prepared`; else no_room.
//  3. Compare-and-swap the claim word at p, 0 → claimed (producer, span, kind). Lost: check the length found, walk on.
//  A
//     record that does not fit leaves a pad, and goes on in the next segment.
//  4. Move tail forward by compare-and-swap, only while pinned; lazily (every kTailLagMax bytes, or a new segment).
//  5. Write sequence, payload, trailer, fields; commit by compare-and-swap claimed → committed (a release store on
//  topics
//     without claim deadline); then unpin. Lost: the daemon aborted the claim: claim_expired.
//  6. If a bell flag is up, ring.
//
// Invariants
//  1. Between claim and the end of commit/abort the pin holds the segment: its slot is not reused, even if the claim
//  was
//     aborted meanwhile.
//  2. A sequence number is taken at the claim, and is used up by an abort.
//  3. Nothing slow happens between claim and commit here: time and payload checksum are taken before the claim.
// Hot path: no system call unless somebody sleeps, no allocation, no exception.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "shm/base/types.h"
#include "shm/layout/record.h"
#include "shm/ring/bell.h"
#include "shm/ring/partition_memory.h"

namespace sluice::ring {

enum class AppendResult : std::uint8_t {
  ok,
  no_room,        // nothing is held; wait (RoomWait) or give up
  gate_closed,    // poisoned, deleted, denied or closing: see ControlRegion::gate
  too_large,      // above ControlRegion::message_size_max
  claim_expired,  // the daemon aborted the claim: append again
};

// What a claim holds until commit() or abort().
struct OpenClaim {
  std::byte* record = nullptr;  // the record's header in the slot
  Position position;
  layout::ClaimWord word;  // as claimed; word.span_size() bytes are ours
  Sequence sequence;
  std::uint32_t segment_checksum = 0;

  std::byte* payload() const { return record + layout::kRecordHeaderSize; }
};

// Content of one record, as the caller has it.
struct Content {
  std::span<const std::byte> payload;
  std::span<const std::byte> trailer;  // TrailerBuilder::finish(); empty: none
  std::uint64_t time_ns = 0;
};

struct Appended {
  Position position;
  Position end;
  Sequence sequence;
};

class Appender {
 public:
  // `pin` is this producer's cell. `use_exchange`: this process is not registered for membarrier. `next` is the first
  // sequence to use.
  Appender(const PartitionMemory& memory, ProducerId producer, std::atomic<std::uint64_t>& pin, bool use_exchange,
           Sequence next);

  // Copies the content in and commits it.
  AppendResult append(const Content& content, Appended& appended, layout::RecordKind kind = layout::RecordKind::data);
  // n records that become visible at once. Each gets `trailer` and `time_ns` of `shared`.
  AppendResult append_batch(std::span<const std::span<const std::byte>> payloads, const Content& shared,
                            Appended& appended, layout::RecordKind kind = layout::RecordKind::data);

  // Bytes `payload_size` and `trailer_size` in place. On ok the claim is open: commit() or abort() it.
  AppendResult claim(std::uint64_t payload_size, std::uint64_t trailer_size, layout::RecordKind kind, OpenClaim& claim);
  // The payload is in place. `trailer` (whose size was claimed) is copied behind it. Checksums what is there, if the
  // topic has checksums.
  AppendResult commit(const OpenClaim& claim, std::uint32_t payload_size, std::span<const std::byte> trailer,
                      std::uint64_t time_ns, Appended& appended);
  // Gives the claim back: its span stays in the log as an abort, its sequence is used up.
  void abort(const OpenClaim& claim);

  Sequence next_sequence() const { return next_sequence_; }
  // A bound that no record of this producer lies at or above.
  Position local_end() const { return Position(local_); }
  // Chains found broken (hostile or damaged memory) and stepped over by going on in the next segment.
  std::uint64_t broken_chains() const { return broken_chains_; }
  const PartitionMemory& memory() const { return memory_; }
  // After no_room: sleep until there may be room again. arm_room() then try again, then sleep_room(count).
  std::uint32_t arm_room() const;
  void sleep_room(std::uint32_t count, std::uint64_t timeout_ns) const { bell_.sleep(count, timeout_ns); }

 private:
  enum class Step : std::uint8_t { claimed, next_segment, no_room };

  AppendResult claim_span(std::uint64_t span, layout::RecordKind kind, bool trailer, OpenClaim& claim);
  bool claim_here(std::uint64_t span, layout::ClaimWord word, OpenClaim& claim);
  AppendResult claim_anywhere(std::uint64_t span, layout::ClaimWord word, OpenClaim& claim);
  void take(std::byte* at, std::uint64_t position, layout::ClaimWord word, OpenClaim& claim);
  Step claim_in_segment(std::uint64_t& p, std::uint64_t segment_end, std::uint64_t span, layout::ClaimWord word,
                        OpenClaim& claim);
  bool enter(std::uint64_t segment, layout::SlotEntry entry);
  std::uint64_t shared_tail();
  bool has_room(std::uint64_t end);
  void write_fields(const OpenClaim& claim, const layout::RecordFields& fields) const;
  AppendResult finish(const OpenClaim& claim, layout::ClaimWord final_word, std::uint64_t span, Appended& appended);
  void pin(std::uint64_t word);
  void unpin();
  void move_tail();

  // Constant after construction.
  const PartitionMemory memory_;
  const Bell bell_;
  const ProducerId producer_;
  std::atomic<std::uint64_t>& pin_;
  const bool use_exchange_;
  const bool plain_commit_;
  const bool checksums_;
  const std::uint64_t record_size_max_;
  // Owned by this thread.
  std::uint64_t local_ = 0;     // where the log ends, as far as we know
  std::uint64_t tail_due_ = 0;  // the tail is moved once local_ comes here
  std::uint64_t prepared_ = 0;  // cached; only grows
  // The segment of the last claim. room_end_ 0: none yet.
  std::uint64_t room_end_ = 0;    // its end, or prepared_ if that is in it
  std::uint64_t entry_bits_ = 0;  // its slot table entry, ready
  const std::atomic<std::uint64_t>* entry_ = nullptr;
  std::uint64_t pin_word_ = 0;
  std::uint64_t base_position_ = 0;
  std::byte* base_ = nullptr;
  std::uint32_t segment_checksum_ = 0;
  Sequence next_sequence_;
  std::vector<std::uint32_t> content_checksums_;  // of a batch's payloads; grows once
  std::uint64_t broken_chains_ = 0;
};

}  // namespace sluice::ring
