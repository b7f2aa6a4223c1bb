// How far a group is behind, how fast it goes, and why.
//
// Owner: Delivery, on the bus thread. Rates are moving averages that are brought up to date when they are asked for and
// with each save, so that an idle group costs nothing.
#pragma once

#include <cstdint>
#include <map>
#include <utility>

#include "daemon/delivery/group.h"
#include "daemon/delivery/logs.h"
#include "daemon/session/group_interface.h"

namespace sluice::delivery {

struct Rate {
  std::uint64_t at_ns = 0;  // 0: not measured yet
  std::uint64_t count = 0;
  double per_s = 0;
};

class Rates {
 public:
  // Of a partition of a group: how many were produced and settled by now.
  struct Both {
    Rate produced;
    Rate consumed;
  };
  const Both& update(std::uint64_t group, const core::Place& place, std::uint64_t produced, std::uint64_t consumed,
                     std::uint64_t now_ns);
  void forget(std::uint64_t group);

 private:
  std::map<std::pair<std::uint64_t, core::Place>, Both> rates_;
};

// One partition of a group as it stands.
session::GroupPartitionInfo partition_info(const Group& group, const core::Place& place, const TopicView& topic,
                                           Logs& logs, Rates& rates, const Now& now);

// The cause and the next step, in one sentence each. `stopped`: the process is (SIGSTOP, debugger).
session::GroupReason explain(const session::GroupInfo& info, const Group& group, Logs& logs, const Now& now);

// True if the process is there and stopped.
bool is_stopped(std::int32_t pid);

}  // namespace sluice::delivery
