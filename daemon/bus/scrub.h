// What looks at log files again, and mends them: where a reader has met damage, where an operator asked
// (`sluice topic scrub`), and slowly everywhere where there are mirrors. One segment at a time, in short steps.
//
// Owner: the bus thread, as a part of its turn.
//
//   idle ──a reader's report, else a run, else the slow pass when it is due──▶ a segment ──its last step──▶ idle
//
// Invariants
//  1. What is intact on no copy is quarantined before anybody is told that the segment was seen to.
//  2. A segment whose file went meanwhile (retention, a deleted topic) is let go of before anything more is done to it.
//  3. A run ends: it looks at what was durable when it came to the partition, and no further.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <tuple>

#include "daemon/bus/topic.h"
#include "daemon/bus/topic_mirrors.h"
#include "daemon/io/disk.h"
#include "daemon/log/segment_scrub.h"
#include "daemon/session/bus_interface.h"
#include "shm/base/types.h"

namespace sluice::bus {

inline constexpr std::size_t kScrubReportsMax = 256;  // of readers, that wait or were not asked for again
inline constexpr std::size_t kScrubRangesMax = 1024;  // told of one run
inline constexpr std::size_t kScrubErrorsMax = 64;    // told of one run

class Scrub {
 public:
  using Topics = std::map<TopicId, Topic*>;

  // `disk`: the daemon's. `interval_ns`: of the slow pass, from one segment to the next; 0: none. It needs mirrors.
  Scrub(io::Disk& disk, const TopicMirrors& topic_mirrors, std::uint64_t interval_ns)
      : disk_(disk), topic_mirrors_(topic_mirrors), interval_ns_(interval_ns) {}

  // A step. True: there was one to do, and there may be more.
  bool do_work(const Topics& topics, std::uint64_t now_ns);
  // When it wants to be called next, monotonic ns; 0: not before something happens.
  std::uint64_t deadline_ns() const { return has_pass() ? next_ns_ : 0; }

  // A reader has met damage at `position`. True: it is being seen to, ask again; false: it has been, or cannot be.
  bool see_to(TopicId topic, PartitionNumber partition, const log::PartitionLog& log, Position position);
  // Looks at all of the topic, or one partition. One that is under way goes on instead.
  void start_run(TopicId topic, std::optional<PartitionNumber> partition);
  // The topic was deleted: nothing of it stays open.
  void let_go_of(TopicId topic);
  // Of the topic's last run; `run` 0: none.
  session::ScrubReport report(TopicId topic) const;

  // The slow pass has been through everything so often.
  std::uint64_t passes() const { return passes_; }
  std::uint64_t mended_bytes() const { return mended_bytes_; }
  std::uint64_t damaged_bytes() const { return damaged_bytes_; }  // found, and intact on no copy

 private:
  struct Place {
    TopicId topic;
    PartitionNumber partition = 0;
    Position position;
  };
  using Key = std::tuple<TopicId, PartitionNumber, SegmentNumber>;
  enum class Cause : std::uint8_t { reader, run, pass };
  struct Unit {
    Cause cause = Cause::pass;
    TopicId topic;
    PartitionNumber partition = 0;
    Position base;
    SegmentNumber segment;
    std::unique_ptr<log::SegmentScrub> work;
  };
  struct Run {
    session::ScrubReport report;
    std::optional<PartitionNumber> only;
    Place place;                    // what comes next
    std::optional<Position> until;  // of the partition that it is in
  };

  bool has_pass() const { return interval_ns_ != 0 && (disk_.mirrors() != nullptr || !topic_mirrors_.empty()); }
  bool has_copies(TopicId topic) const;
  static log::PartitionLog* log_of(const Topics& topics, TopicId topic, PartitionNumber partition);
  bool choose(const Topics& topics, std::uint64_t now_ns);
  bool choose_report(const Topics& topics);
  bool choose_run(const Topics& topics);
  bool go_on_with(Run& run, const Topics& topics);
  bool choose_pass(const Topics& topics, std::uint64_t now_ns);
  bool take(Cause cause, Place& place, log::PartitionLog& log, Position until);
  void settle(log::PartitionLog& log, const Result<log::ScrubOutcome>& outcome);
  void quarantine(log::PartitionLog& log, const log::ScrubOutcome& outcome);
  void add_to_run(const Result<log::ScrubOutcome>& outcome);
  void let_go();

  io::Disk& disk_;
  const TopicMirrors& topic_mirrors_;
  const std::uint64_t interval_ns_;
  std::optional<Unit> unit_;
  std::map<Key, bool> reports_;  // true: seen to, and not asked for again yet
  std::deque<Key> order_;        // of reports_
  std::map<TopicId, Run> runs_;
  std::uint64_t last_run_ = 0;
  Place place_;  // of the pass
  std::uint64_t next_ns_ = 1;
  std::uint64_t passes_ = 0;
  std::uint64_t mended_bytes_ = 0;
  std::uint64_t damaged_bytes_ = 0;
};

}  // namespace sluice::bus
