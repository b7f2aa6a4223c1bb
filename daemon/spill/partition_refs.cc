// Partition: delayed messages whose time has come, and halves that were committed, get their refs.
#include <algorithm>

#include "daemon/log/references.h"
#include "daemon/spill/partition.h"
#include "shm/base/failpoint.h"
#include "shm/base/limits.h"
#include "shm/layout/trailer.h"

namespace sluice::spill {
namespace {

constexpr std::uint32_t kRefsMax = 4096;          // appended in one turn
constexpr std::uint64_t kRefRetryNs = 5'000'000;  // due, and no room: nobody says when there is some

}  // namespace

// The refs that a daemon before has appended lie in memory that was kept, and are met at the end of it at the latest.
bool Partition::settle_waiting() {
  if (waiting_.halves.settled()) return true;
  if (!scan_.at_end()) return false;
  waiting_.delays.settle();
  waiting_.halves.settle();
  return true;
}

bool Partition::deliver_due(std::uint64_t now_ns) {
  due_deadline_ns_ = 0;
  if (!settle_waiting() || gate() != layout::Gate::open) return false;
  const bool committed = deliver_committed(now_ns);
  core::DelayQueue& delays = waiting_.delays;
  if (delays.size() == 0) return committed;
  const std::uint64_t wall = environment_.wall_ns();
  std::uint32_t delivered = 0;
  ring::AppendResult result = ring::AppendResult::ok;
  for (auto due = delays.due(wall); due && delivered < kRefsMax; due = delays.due(wall)) {
    Position ref;
    result = append_ref(due->position, wall, ref);
    if (result != ring::AppendResult::ok) break;
    delays.sent(ref);
    SLUICE_FAILPOINT("spill.ref_appended");
    ++delivered;
  }
  if (result == ring::AppendResult::no_room) {
    due_deadline_ns_ = now_ns + kRefRetryNs;
  } else if (const auto next = delays.next_due_ns(); next && *next > wall && due_deadline_ns_ == 0) {
    due_deadline_ns_ = now_ns + std::min(*next - wall, kDaemonSleepNsMax);
  }
  return delivered != 0 || committed;
}

bool Partition::deliver_committed(std::uint64_t now_ns) {
  std::uint32_t delivered = 0;
  while (const std::optional<Position> half = waiting_.halves.due()) {
    Position ref;
    const ring::AppendResult result = append_ref(*half, environment_.wall_ns(), ref);
    if (result == ring::AppendResult::no_room) due_deadline_ns_ = now_ns + kRefRetryNs;
    if (result != ring::AppendResult::ok) break;
    waiting_.halves.sent(ref);
    SLUICE_FAILPOINT("spill.half_ref_appended");
    if (++delivered == kRefsMax) break;
  }
  return delivered != 0;
}

ring::AppendResult Partition::append_ref(Position reference, std::uint64_t wall_ns, Position& ref) {
  if (!ref_appender_) ref_appender_.emplace(memory_, ProducerId(0), own_pin_, true, Sequence(1));
  layout::TrailerBuilder trailer;
  trailer.reference(reference);
  ring::Appended appended;
  const ring::AppendResult result =
      ref_appender_->append({{}, trailer.finish(), wall_ns}, appended, layout::RecordKind::ref);
  ref = appended.position;
  return result;
}

Position Partition::lowest_origin(Position from) {
  Position lowest = scan_.origins().from(from);
  if (log_ && from < scan_.start())
    lowest = std::min({lowest, log_->lowest_referred(from), log::referred_from(summaries_, memory_.segment_size()),
                       scan_.referred_from()});
  for (const std::optional<Position> waits : {waiting_.delays.oldest(), waiting_.halves.oldest()})
    if (waits) lowest = std::min(lowest, *waits);
  return lowest;
}

bool Partition::decide(Position half, bool commit, std::uint64_t order) {
  const auto decided = waiting_.halves.decide(half, commit, order);
  if (!decided) return false;
  if (!decided->is_counted) audit_.on_decided(decided->half.producer, commit);
  return true;
}

}  // namespace sluice::spill
