// One group of a LocalBus, with one member at a time: the test plays the daemon's part of the member region by hand.
//
// Thread safety: the control calls from any thread; what plays the daemon belongs to one thread, while the member may
// run.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "sdk/control_types.h"
#include "shm/base/fd.h"
#include "shm/layout/member_region.h"
#include "shm/region/mapping.h"

namespace sluice::test {

struct Outcome {
  layout::OutcomeVerb verb{};
  std::uint64_t target = 0;
  std::uint64_t argument = 0;
  std::uint32_t place = 0;
  std::uint32_t generation = 0;
  std::string reason;
};

class LocalGroup {
 public:
  GroupConfig config;

  // Begun by forced seeks; each call is counted.
  std::vector<internal::EpochStart> epoch_starts;
  std::uint32_t epoch_calls = 0;

  // ---- the daemon's part. Assignments stand over joins; each join gives them to the new region.
  // The next cell, the next generation.
  internal::Assignment& assign(PartitionNumber partition, Position start = {});
  // Of a topic that the member gets by reference alone.
  void name_topic(TopicId topic, std::string name, PartitionNumber partition = 0);
  void want_back(std::uint32_t cell);
  void take_back(std::uint32_t cell);
  // The list has changed: puts generations into the cells and says so.
  void publish_assignments();
  // Into a free slot and the ring; the stamp.
  std::uint64_t refer(layout::DeliverySlot slot);
  std::uint64_t refer_to(PartitionNumber partition, Position position, std::uint32_t delivered = 2,
                         std::uint32_t failed = 1);
  void unblock(PartitionNumber partition, std::uint64_t key_hash, std::uint64_t outcomes_read);
  void withdraw(std::uint64_t stamp);
  void end_member();
  void publish();  // what was written to the region by hand
  // What was not read yet; makes room.
  std::vector<Outcome> read_outcomes();
  // The same without making room.
  std::vector<Outcome> peek_outcomes();

  // A daemon that is new: it knows no member.
  void forget_member();
  void forget_assignments();
  // So often a daemon that is new comes between a join and its list.
  void forget_joined(std::uint32_t count) { forgotten_joins_ = count; }
  void delete_group() { deleted_ = true; }
  void refuse_joins(std::uint32_t count) { refused_joins_ = count; }

  layout::MemberRegion& region() { return *mapping_.at<layout::MemberRegion>(); }
  layout::AssignmentCell& cell(std::uint32_t index) { return region().cells[index]; }
  // Writes the member's descriptor if it is armed.
  bool ring_fd();
  std::uint64_t member() const { return member_; }
  const internal::JoinGroup& joined() const { return request_; }
  std::uint32_t joins() const { return joins_; }
  std::uint32_t leaves() const { return leaves_; }
  std::uint32_t saves() const { return saves_; }
  std::uint32_t lists() const { return lists_; }

  // ---- control calls
  Result<internal::MemberGrant> join(const internal::JoinGroup& request,
                                     std::shared_ptr<internal::SessionMemory> memory);
  Status leave(std::uint64_t member);
  Result<std::vector<internal::Assignment>> assignments(std::uint64_t member);
  Status save(std::uint64_t member);
  Result<std::vector<internal::EpochStart>> epochs();

 private:
  mutable std::mutex mutex_;
  UniqueFd region_fd_;
  region::Mapping mapping_;
  std::vector<region::Mapping> former_;
  UniqueFd readable_;
  std::vector<internal::Assignment> list_;
  internal::JoinGroup request_;
  std::uint64_t member_ = 0;  // 0: none is known
  std::uint64_t last_member_ = 0;
  std::uint64_t last_generation_ = 100;
  std::uint64_t last_stamp_ = 0;
  std::uint32_t next_slot_ = 0;
  std::uint32_t next_cell_ = 0;
  std::uint64_t read_ = 0;
  bool deleted_ = false;
  std::uint32_t refused_joins_ = 0;
  std::uint32_t forgotten_joins_ = 0;
  std::uint32_t joins_ = 0;
  std::uint32_t leaves_ = 0;
  std::uint32_t saves_ = 0;
  std::uint32_t lists_ = 0;
};

}  // namespace sluice::test
