#include "daemon/spill/writer.h"

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <new>
#include <system_error>

#include <spdlog/spdlog.h>

#include "shm/base/assert.h"
#include "shm/base/failpoint.h"
#include "shm/base/limits.h"
#include "shm/layout/record.h"

namespace sluice::spill {
namespace {

constexpr std::uint64_t kBlock = kDirectIoAlignment;
constexpr std::uint32_t kAttemptsMax = 3;          // of a write that came back short
constexpr std::uint64_t kRetryNs = 100'000'000;    // after a full disk
constexpr std::uint64_t kQueueFullNs = 1'000'000;  // after a full queue, if no completion comes before
constexpr std::size_t kFrontiersMax = 256;
constexpr std::uint32_t kSyncTokenBit = 0x8000'0000;
constexpr std::uint32_t kZerosTokenBit = 0x4000'0000;
constexpr std::uint32_t kTokenBits = kSyncTokenBit | kZerosTokenBit;
constexpr std::uint64_t kSyncStepMax = 16 * 1024 * 1024;
constexpr std::uint64_t kSyncStepRingFraction = 4;
constexpr std::uint64_t kZeroStep = 1024 * 1024;  // zeros ahead of the data, where a sync is waited for

Position block_floor(Position p) { return Position(p.value & ~(kBlock - 1)); }

std::byte* allocate_aligned(std::uint64_t size) {
  void* memory = std::aligned_alloc(kBlock, size);
  if (memory == nullptr) throw std::bad_alloc();
  return static_cast<std::byte*>(memory);
}

std::byte* allocate_zeros() {
  std::byte* memory = allocate_aligned(kZeroStep);
  std::memset(memory, 0, kZeroStep);
  return memory;
}

}  // namespace

Writer::Writer(io::Disk& disk, log::PartitionLog& log, ring::SlotManager& slots, const Scan& scan,
               const PartitionIdentity& identity, WriterOptions options, Position start)
    : disk_(disk),
      log_(log),
      slots_(slots),
      scan_(scan),
      identity_(identity),
      options_(options),
      sync_step_(std::min(kSyncStepMax, slots.memory().segment_size() * slots.memory().slots / kSyncStepRingFraction)),
      next_(block_floor(start)),
      submitted_(start),
      written_(start),
      durable_(start),
      sync_covers_(start),
      flush_target_(start),
      written_records_(start),
      registrations_(slots.memory().slots),
      copy_(allocate_aligned(kWriteChunkSizeMax), std::free),
      prefix_begin_(next_),
      zeroed_(next_),
      zeros_(options.write_through ? allocate_zeros() : nullptr, std::free) {
  take_prefix(start);
}

// Unreadable: it is damaged, and memory is as good as anything.
void Writer::take_prefix(Position start) {
  prefix_.resize(start - prefix_begin_);
  if (prefix_.empty()) return;
  const auto got = log_.read(prefix_begin_, prefix_);
  if (!got || *got != prefix_.size()) prefix_.clear();
}

Writer::~Writer() {
  SLUICE_ASSERT(is_idle());
  for (const auto& registration : registrations_)
    if (registration.value_or(0) != 0) disk_.unregister_memory(*registration);
}

bool Writer::do_work(Position frontier, std::uint64_t now_ns) {
  if (is_poisoned()) return false;
  queue_full_until_ns_ = 0;
  note_frontier(frontier);
  if (frontier > durable_ && dirty_since_ns_ == 0) dirty_since_ns_ = now_ns;
  const bool due = dirty_since_ns_ != 0 && (flush_now_ || now_ns >= dirty_since_ns_ + options_.flush_interval_ns);
  if (due && !is_syncing() && flush_target_ <= durable_) {
    flush_target_ = frontier;
    flush_now_ = false;
  }
  const bool flushing = flush_target_ > durable_ && !is_syncing();
  bool worked = submit_syncs(now_ns);
  if (now_ns >= retry_at_ns_) {
    retry_at_ns_ = 0;
    worked |= submit_again(now_ns);
    worked |= submit_writes(frontier, flushing, now_ns);
  }
  // A long way to the target is synced in steps, while the disk writes on: else the ring would be full before any of it
  // is durable. What is written becomes durable also while a full disk holds up the rest.
  const Position upto = written_records();
  const bool enough = upto >= flush_target_ || upto >= durable_ + sync_step_ ||
                      (is_obstructed() && writes_at_disk_ == 0 && upto > durable_);
  if (flushing && enough && !is_poisoned()) worked |= begin_sync(upto, now_ns);
  if (options_.write_through && submitted_ > durable_ && !is_poisoned() && !is_obstructed()) worked |= submit_zeros();
  check_invariants(frontier);
  return worked;
}

void Writer::note_frontier(Position frontier) {
  if (frontier <= written_records_ || (!frontiers_.empty() && frontier <= frontiers_.back())) return;
  // The last one is what a flush waits for; of those before, any may be missing.
  if (frontiers_.size() == kFrontiersMax) frontiers_.pop_back();
  frontiers_.push_back(frontier);
}

// The end of the last record that is written whole, as far as it is known. A segment's start is always one.
Position Writer::written_records() {
  const ring::PartitionMemory& memory = slots_.memory();
  written_records_ = std::max(written_records_, memory.start_of(memory.segment_of(written_)));
  while (!frontiers_.empty() && frontiers_.front() <= written_) {
    written_records_ = std::max(written_records_, frontiers_.front());
    frontiers_.pop_front();
  }
  return written_records_;
}

bool Writer::submit_writes(Position frontier, bool with_partial, std::uint64_t now_ns) {
  bool worked = false;
  while (in_flight_.size() < kWritesInFlightMax && frontier > submitted_ && !is_poisoned() && !is_obstructed()) {
    // A partial write of this very block must have ended before the block is written again.
    if (!in_flight_.empty() && in_flight_.back().partial) break;
    const Position blocks_end = block_floor(frontier);
    const bool partial = next_ == blocks_end;
    if (partial && !with_partial) break;
    if (!submit_write(partial ? frontier : blocks_end, partial, now_ns)) break;
    worked = true;
  }
  return worked;
}

// Those that came back short, or found no room on the disk.
bool Writer::submit_again(std::uint64_t now_ns) {
  bool worked = false;
  for (Write& write : in_flight_) {
    if (!write.waiting) continue;
    if (!hand_over(write, now_ns)) break;
    worked = true;
  }
  return worked;
}

// False: the disk's queue is full.
bool Writer::hand_over(Write& write, std::uint64_t now_ns) {
  write.waiting = !disk_.submit_write(write.file, write.offset, {write.bytes, write.size}, write.token);
  if (write.waiting) {
    queue_full_until_ns_ = now_ns + kQueueFullNs;
    return false;
  }
  ++writes_at_disk_;
  SLUICE_FAILPOINT("spill.write_submitted");
  return true;
}

// A full disk: what waits for room is tried again until there is some. Says so once.
void Writer::obstruct(const std::string& what, std::uint64_t now_ns) {
  if (obstacle_.empty())
    spdlog::error("no room on the disk, producers wait partition={} reason={}", identity_.name, what);
  obstacle_ = what;
  retry_at_ns_ = now_ns + kRetryNs;
}

void Writer::register_slot(std::uint32_t slot, SegmentNumber segment) {
  if (registrations_[slot] || slots_.prepared() < slots_.memory().start_of(segment.next())) return;
  registrations_[slot] = disk_.register_memory({slots_.memory().slot_base(slot), slots_.memory().segment_size()});
}

// Submits one write of [next_, end), or as much of it as one request can hold.
bool Writer::submit_write(Position end, bool partial, std::uint64_t now_ns) {
  const ring::PartitionMemory& memory = slots_.memory();
  const SegmentNumber segment = memory.segment_of(next_);
  if (next_ == memory.start_of(segment)) {
    // Ahead of need; a failure shows when the file is needed.
    static_cast<void>(log_.prepare_next(next_));
  }
  auto target = log_.target(next_);
  if (!target && target.error().code() == ErrorCode::would_block) {
    obstruct(target.error().message(), now_ns);
    return false;
  }
  if (!target) {
    poison(target.error().message(), target.error().system_errno());
    return false;
  }
  end = std::min(end, memory.start_of(segment.next()));
  Write write;
  write.begin = next_;
  write.size = std::min({layout::align_up(end - next_, kBlock), kWriteChunkSizeMax, target->room});
  if (zeros_in_flight_ && next_ + write.size > zeros_begin_) write.size = zeros_begin_ - next_;
  if (write.size == 0) return false;
  write.end = std::min(end, next_ + write.size);
  write.file = target->file;
  write.offset = target->offset;
  write.partial = partial;
  const bool has_prefix = !prefix_.empty() && write.begin == prefix_begin_;
  write.uses_copy = partial || has_prefix || scan_.has_zombies(write.begin, write.begin + write.size);
  const std::uint32_t slot = slots_.slot_of(segment);
  const std::byte* source = memory.slot_base(slot) + (next_ - memory.start_of(segment));
  if (write.uses_copy) {
    if (copy_in_use_) return false;
    const std::uint64_t valid = write.end - write.begin;
    std::memcpy(copy_.get(), source, valid);
    std::memset(copy_.get() + valid, 0, write.size - valid);
    if (has_prefix) std::memcpy(copy_.get(), prefix_.data(), prefix_.size());
    scan_.fix_zombies(write.begin, {copy_.get(), write.size});
    write.bytes = copy_.get();
  } else {
    register_slot(slot, segment);
    write.bytes = source;
  }
  write.token = options_.token_base | (next_token_++ & ~kTokenBits);
  if (!hand_over(write, now_ns)) return false;
  copy_in_use_ |= write.uses_copy;
  submitted_ = write.end;
  if (!partial) next_ = write.end;
  in_flight_.push_back(write);
  return true;
}

// True if zeros were submitted: ahead of everything submitted, within the file that the data is in.
bool Writer::submit_zeros() {
  zeroed_ = std::max(zeroed_, Position(layout::align_up(submitted_.value, kBlock)));
  if (zeros_in_flight_ || zeroed_ > submitted_ + kZeroStep / 2) return false;
  const auto here = log_.target(next_);
  const std::uint64_t ahead = zeroed_ - next_;
  if (!here || here->reused || ahead >= here->room) return false;
  const std::uint64_t size = std::min(kZeroStep, here->room - ahead);
  const std::uint64_t token = options_.token_base | kZerosTokenBit | (next_token_++ & ~kTokenBits);
  if (!disk_.submit_write(here->file, here->offset + ahead, {zeros_.get(), size}, token)) return false;
  zeros_in_flight_ = true;
  zeros_begin_ = zeroed_;
  return true;
}

void Writer::on_zeros(std::int64_t result) {
  SLUICE_ASSERT(zeros_in_flight_);
  zeros_in_flight_ = false;
  // A full disk shows, and heals, where the data is written.
  if (result >= 0)
    zeroed_ = std::max(zeroed_, zeros_begin_ + (static_cast<std::uint64_t>(result) & ~(kBlock - 1)));
  else if (result != -ENOSPC && result != -EDQUOT)
    poison("writing ahead of " + identity_.name + "@" + std::to_string(zeros_begin_.value) + " failed",
           static_cast<int>(-result));
}

// One round: every file that holds any of it is synced, and the writes up to there have completed already.
bool Writer::begin_sync(Position upto, std::uint64_t now_ns) {
  files_to_sync_ = log_.files_between(durable_, upto);
  SLUICE_ASSERT(!files_to_sync_.empty());
  sync_covers_ = upto;
  return submit_syncs(now_ns);
}

bool Writer::submit_syncs(std::uint64_t now_ns) {
  bool worked = false;
  while (!files_to_sync_.empty()) {
    const std::uint64_t token = options_.token_base | kSyncTokenBit | (next_token_++ & ~kTokenBits);
    if (!disk_.submit_sync(files_to_sync_.back(), token)) {
      queue_full_until_ns_ = now_ns + kQueueFullNs;
      break;
    }
    files_to_sync_.pop_back();
    ++syncs_in_flight_;
    worked = true;
  }
  return worked;
}

bool Writer::on_completion(const io::Completion& completion, std::uint64_t now_ns) {
  if ((completion.token & kZerosTokenBit) != 0) {
    on_zeros(completion.result);
    return false;
  }
  if ((completion.token & kSyncTokenBit) != 0) {
    const Position before = durable_;
    on_sync(completion.result, now_ns);
    return durable_ > before;
  }
  const auto found = std::find_if(in_flight_.begin(), in_flight_.end(),
                                  [&](const Write& write) { return write.token == completion.token; });
  SLUICE_ASSERT(found != in_flight_.end());
  SLUICE_ASSERT(writes_at_disk_ > 0);
  --writes_at_disk_;
  on_write(*found, completion.result, now_ns);
  while (!is_poisoned() && !in_flight_.empty() && in_flight_.front().done) {
    written_ = in_flight_.front().end;
    in_flight_.pop_front();
  }
  return false;
}

void Writer::on_write(Write& write, std::int64_t result, std::uint64_t now_ns) {
  if (result == static_cast<std::int64_t>(write.size)) {
    write.done = true;
    if (write.uses_copy) copy_in_use_ = false;
    if (!obstacle_.empty()) spdlog::info("there is room on the disk again partition={}", identity_.name);
    obstacle_.clear();
    return;
  }
  const std::string what =
      "writing " + std::to_string(write.size) + " bytes of " + identity_.name + "@" + std::to_string(write.begin.value);
  write.waiting = true;
  if (result == -ENOSPC || result == -EDQUOT) {
    obstruct(what + " failed: " + std::generic_category().message(static_cast<int>(-result)), now_ns);
  } else if (result >= 0 && ++write.attempts <= kAttemptsMax) {
    // Short: the whole range again; the bytes are the same. Where there is no place in the queue, with the next
    // do_work.
    if (!is_poisoned() && !is_obstructed()) hand_over(write, now_ns);
  } else {
    poison(what + (result < 0 ? " failed" : " stayed short"), result < 0 ? static_cast<int>(-result) : 0);
  }
}

void Writer::on_sync(std::int64_t result, std::uint64_t now_ns) {
  SLUICE_ASSERT(syncs_in_flight_ > 0);
  --syncs_in_flight_;
  if (result < 0)
    poison("syncing " + identity_.name + " up to " + std::to_string(sync_covers_.value) + " failed",
           static_cast<int>(-result));
  if (is_syncing() || is_poisoned()) return;
  SLUICE_FAILPOINT("spill.synced");
  durable_ = std::max(durable_, sync_covers_);
  dirty_since_ns_ = submitted_ > durable_ ? now_ns : 0;
}

std::uint64_t Writer::deadline_ns() const {
  if (is_poisoned()) return 0;
  if (is_obstructed()) return retry_at_ns_;
  if (queue_full_until_ns_ != 0) return queue_full_until_ns_;
  if (!is_idle() || dirty_since_ns_ == 0) return 0;
  return dirty_since_ns_ + options_.flush_interval_ns;
}

// Never retry a sync and believe it: what the device has kept of these pages is unknown from here on.
void Writer::poison(const std::string& what, int system_errno) {
  if (is_poisoned()) return;
  poison_ = what;
  if (system_errno != 0) poison_ += ": " + std::generic_category().message(system_errno);
  spdlog::critical("partition poisoned, publishing to it is refused partition={} reason={}", identity_.name, poison_);
}

void Writer::check_invariants(Position frontier) const {
  SLUICE_ASSERT(durable_ <= written_);
  SLUICE_ASSERT(written_ <= submitted_);
  SLUICE_ASSERT(submitted_ <= frontier);
  SLUICE_ASSERT(sync_covers_ <= written_);
  SLUICE_ASSERT(writes_at_disk_ <= in_flight_.size());
}

}  // namespace sluice::spill
