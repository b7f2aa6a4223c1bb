// The slow scrub of mirrors: closed log files, a segment at a time; what one copy has damaged comes from another.
//
// Owner: the bus thread, as a part of its turn. Without mirrors, or with an interval of 0, it does nothing.
#pragma once

#include <cstdint>
#include <map>

#include "daemon/bus/topic.h"
#include "daemon/io/mirror_disk.h"
#include "shm/base/types.h"

namespace sluice::bus {

class MirrorScrub {
 public:
  // `interval_ns`: from one segment to the next.
  MirrorScrub(io::MirrorDisk* disk, std::uint64_t interval_ns) : disk_(disk), interval_ns_(interval_ns) {}

  // Looks at one segment if it is time.
  void do_work(const std::map<TopicId, Topic*>& topics, std::uint64_t now_ns);
  // When it wants to be called next, monotonic ns; 0: never.
  std::uint64_t deadline_ns() const { return disk_ == nullptr || interval_ns_ == 0 ? 0 : next_ns_; }
  // Times that it has been through everything.
  std::uint64_t passes() const { return passes_; }
  std::uint64_t mended_bytes() const { return mended_bytes_; }

 private:
  struct Place {
    TopicId topic;
    PartitionNumber partition = 0;
    Position position;
  };
  struct Found {
    log::PartitionLog* log = nullptr;  // null: everything was looked at
    Position base;
    SegmentNumber segment;
  };
  Found next(const std::map<TopicId, Topic*>& topics);
  Found next_in(log::PartitionLog& log);

  io::MirrorDisk* const disk_;
  const std::uint64_t interval_ns_;
  Place place_;  // what comes next
  std::uint64_t next_ns_ = 1;
  std::uint64_t passes_ = 0;
  std::uint64_t mended_bytes_ = 0;
};

}  // namespace sluice::bus
