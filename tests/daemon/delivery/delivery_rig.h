// A group over logs and a store in memory, which outlive the daemons that a test makes over them.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "daemon/delivery/dead_letters.h"
#include "daemon/delivery/group.h"
#include "daemon/store/sim_store.h"
#include "tests/daemon/delivery/fake_logs.h"

namespace sluice::delivery {

inline constexpr core::MemberId kMember = 7;

class DeliveryRig {
 public:
  explicit DeliveryRig(std::uint64_t seed = 1, core::GroupMode mode = core::GroupMode::ordered);

  // A daemon that starts: what the store knows of the group, and what it finds to be parked. The one before is gone.
  void start();
  // A member without a region, which has subscribed to the topic.
  void join();
  // What a member says of a message that it has read directly.
  void say(core::Verb verb, Position position, std::string reason = {});
  // The group's turn; what is to be parked goes to the dead letters.
  void turn();
  Status save();

  Group& group() { return *group_; }
  DeadLetters& letters() { return *letters_; }
  store::Store& store() { return *store_; }
  core::Place place(PartitionNumber partition = 0) const { return {topic, partition}; }
  std::vector<store::DeadLetterRecord> noted() { return store_->dead_letters(id_, 0, 1000).value(); }
  store::GroupState stored() { return store_->group_state(id_).value(); }
  // Copies in the topic of the dead letters.
  std::vector<LogMessage> copies() const;

  store::SimStoreMedium medium;
  FakeLogs logs;
  TopicId topic;
  Now now{1'000'000'000, 1'700'000'000'000'000'000};

 private:
  std::unique_ptr<store::Store> store_;
  std::uint64_t id_ = 0;
  std::unique_ptr<DeadLetters> letters_;
  std::unique_ptr<Group> group_;
};

}  // namespace sluice::delivery
