#include "tests/sdk/local_group.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <cstring>
#include <utility>

#include "shm/base/assert.h"
#include "shm/region/memfd.h"
#include "shm/region/region.h"
#include "shm/ring/futex.h"
#include "tests/sdk/local_bus.h"

namespace sluice::test {

using layout::DeliverySlot;
using layout::OutcomeEntry;

internal::Assignment& LocalGroup::assign(PartitionNumber partition, Position start) {
  internal::Assignment made;
  made.cell = next_cell_++;
  made.generation = ++last_generation_;
  made.topic = LocalBus::kTopic;
  made.topic_id = LocalBus::kTopicId;
  made.partition = partition;
  made.start = start;
  const std::lock_guard lock(mutex_);
  return list_.emplace_back(made);
}

void LocalGroup::name_topic(TopicId topic, std::string name, PartitionNumber partition) {
  internal::Assignment made;
  made.cell = 0xffff'ffff;
  made.topic = std::move(name);
  made.topic_id = topic;
  made.partition = partition;
  const std::lock_guard lock(mutex_);
  list_.push_back(made);
}

void LocalGroup::publish() {
  region().news.fetch_add(1, std::memory_order_seq_cst);
  if (region().asleep.exchange(0) != 0) ring::futex_wake_all(region().news);
}

void LocalGroup::want_back(std::uint32_t cell_index) {
  cell(cell_index).generation.fetch_or(layout::kWantedBack);
  region().assignments.fetch_add(1);
  publish();
}

void LocalGroup::take_back(std::uint32_t cell_index) {
  {
    const std::lock_guard lock(mutex_);
    std::erase_if(list_, [&](const internal::Assignment& one) { return one.cell == cell_index; });
  }
  cell(cell_index).generation.store(0);
  region().assignments.fetch_add(1);
  publish();
}

void LocalGroup::publish_assignments() {
  {
    const std::lock_guard lock(mutex_);
    for (const internal::Assignment& one : list_) {
      if (one.cell >= kMemberCellsMax) continue;
      auto& generation = cell(one.cell).generation;
      if ((generation.load() & ~layout::kWantedBack) != one.generation) generation.store(one.generation);
    }
  }
  region().assignments.fetch_add(1);
  publish();
}

std::uint64_t LocalGroup::refer(DeliverySlot slot) {
  layout::MemberRegion& to = region();
  const std::uint32_t index = next_slot_++ % kDeliverySlotsMax;
  if (slot.stamp == 0 && slot.kind == static_cast<std::uint32_t>(layout::DeliveryKind::message))
    slot.stamp = ++last_stamp_;
  to.slots[index] = slot;
  to.started[index].store(slot.stamp | layout::kOffered);
  const std::uint64_t delivered = to.delivered.load();
  to.ring[delivered % kDeliverySlotsMax] = index;
  to.delivered.store(delivered + 1, std::memory_order_release);
  publish();
  return slot.stamp;
}

std::uint64_t LocalGroup::refer_to(PartitionNumber partition, Position position, std::uint32_t delivered,
                                   std::uint32_t failed) {
  DeliverySlot slot{};
  slot.position = position.value;
  slot.kind = static_cast<std::uint32_t>(layout::DeliveryKind::message);
  slot.topic_id = LocalBus::kTopicId.value;
  slot.partition = partition;
  slot.delivered = delivered;
  slot.failed = failed;
  return refer(slot);
}

void LocalGroup::unblock(PartitionNumber partition, std::uint64_t key_hash, std::uint64_t outcomes_read) {
  DeliverySlot slot{};
  slot.position = outcomes_read;
  slot.argument = key_hash;
  slot.kind = static_cast<std::uint32_t>(layout::DeliveryKind::unblock);
  slot.topic_id = LocalBus::kTopicId.value;
  slot.partition = partition;
  refer(slot);
}

void LocalGroup::withdraw(std::uint64_t stamp) {
  DeliverySlot slot{};
  slot.stamp = stamp;
  slot.kind = static_cast<std::uint32_t>(layout::DeliveryKind::withdrawn);
  refer(slot);
}

void LocalGroup::end_member() {
  forget_member();
  region().ended.store(1, std::memory_order_release);
  publish();
}

std::vector<Outcome> LocalGroup::peek_outcomes() {
  std::vector<Outcome> outcomes;
  const std::uint64_t written = region().outcomes_written.load(std::memory_order_acquire);
  for (std::uint64_t at = read_; at < written;) {
    const OutcomeEntry entry = region().outcomes[at++ % kOutcomesMax];
    Outcome one{
        static_cast<layout::OutcomeVerb>(entry.verb), entry.target, entry.argument, entry.place, entry.generation, {}};
    for (std::uint32_t left = entry.reason_size; left != 0;) {
      char piece[sizeof(OutcomeEntry)];
      std::memcpy(piece, &region().outcomes[at++ % kOutcomesMax], sizeof piece);
      const auto size = std::min<std::uint32_t>(left, sizeof piece);
      one.reason.append(piece, size);
      left -= size;
    }
    outcomes.push_back(std::move(one));
  }
  return outcomes;
}

std::vector<Outcome> LocalGroup::read_outcomes() {
  std::vector<Outcome> outcomes = peek_outcomes();
  read_ = region().outcomes_written.load(std::memory_order_acquire);
  region().outcomes_read.store(read_, std::memory_order_release);
  return outcomes;
}

bool LocalGroup::ring_fd() {
  if (region().fd_armed.exchange(0) == 0) return false;
  const std::uint64_t one = 1;
  SLUICE_ASSERT(::write(readable_.get(), &one, sizeof one) == sizeof one);
  return true;
}

void LocalGroup::forget_member() {
  const std::lock_guard lock(mutex_);
  member_ = 0;
}

void LocalGroup::forget_assignments() {
  const std::lock_guard lock(mutex_);
  list_.clear();
}

// ---- control calls ----

Result<internal::MemberGrant> LocalGroup::join(const internal::JoinGroup& request,
                                               std::shared_ptr<internal::SessionMemory> memory) {
  const std::lock_guard lock(mutex_);
  if (refused_joins_ != 0 && refused_joins_-- != 0)
    return fail(ErrorCode::timed_out, "joining a group: the test lets it wait");
  if (deleted_ && request.must_exist) return fail(ErrorCode::not_found, "joining a group: it is deleted");
  ++joins_;
  request_ = request;
  member_ = ++last_member_;
  read_ = 0;
  next_slot_ = 0;
  former_.push_back(std::move(mapping_));
  region_fd_ = region::create_memfd("sluice-test-member", sizeof(layout::MemberRegion)).value();
  mapping_ = region::Mapping::map(region_fd_.get(), region::Access::read_write, "a member region").value();
  region::RegionInfo info;
  info.kind = layout::RegionKind::member;
  info.incarnation = memory->incarnation();
  info.size = sizeof(layout::MemberRegion);
  info.session = memory->session();
  region::initialise_header(mapping_, info);
  for (const internal::Assignment& one : list_) {
    if (one.cell < kMemberCellsMax) cell(one.cell).generation.store(one.generation);
  }
  internal::MemberGrant grant;
  grant.member = member_;
  grant.region = region::duplicate(region_fd_.get(), "a member region").value();
  readable_ = UniqueFd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  grant.readable = region::duplicate(readable_.get(), "an eventfd").value();
  grant.config = config;
  grant.memory = std::move(memory);
  return grant;
}

Status LocalGroup::leave(std::uint64_t member) {
  const std::lock_guard lock(mutex_);
  ++leaves_;
  if (member == member_) member_ = 0;
  return {};
}

Result<std::vector<internal::Assignment>> LocalGroup::assignments(std::uint64_t member) {
  const std::lock_guard lock(mutex_);
  ++lists_;
  if (forgotten_joins_ != 0) {
    --forgotten_joins_;
    member_ = 0;
  }
  if (member != member_ || member == 0) return fail(ErrorCode::not_found, "listing assignments: no such member");
  return list_;
}

Status LocalGroup::save(std::uint64_t member) {
  const std::lock_guard lock(mutex_);
  if (member != member_ || member == 0) return fail(ErrorCode::not_found, "saving acks: no such member");
  ++saves_;
  return {};
}

Result<std::vector<internal::EpochStart>> LocalGroup::epochs() {
  const std::lock_guard lock(mutex_);
  ++epoch_calls;
  return epoch_starts;
}

}  // namespace sluice::test
