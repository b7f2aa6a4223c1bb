#include "daemon/bus/mirror_scrub.h"

#include <algorithm>

#include <spdlog/spdlog.h>

#include "daemon/log/mirror_reconcile.h"

namespace sluice::bus {

void MirrorScrub::do_work(const std::map<TopicId, Topic*>& topics, std::uint64_t now_ns) {
  if (deadline_ns() == 0 || now_ns < next_ns_) return;
  next_ns_ = now_ns + interval_ns_;
  if (disk_->good_count() < 2) return;
  const Found found = next(topics);
  if (found.log == nullptr) {
    place_ = {};
    ++passes_;
    return;
  }
  log::MirrorRepairs repairs;
  const log::LogOptions& options = found.log->options();
  if (Status scrubbed = log::scrub_segment(*disk_, options, found.base, found.segment, repairs); !scrubbed)
    spdlog::error("scrub failed partition={} segment={} reason={}", options.name, found.segment.value,
                  scrubbed.error().message());
  mended_bytes_ += repairs.bytes;
  for (const std::string& line : repairs.told)
    spdlog::warn("scrub partition={} segment={} finding=\"{}\"", options.name, found.segment.value, line);
}

MirrorScrub::Found MirrorScrub::next(const std::map<TopicId, Topic*>& topics) {
  for (auto topic = topics.lower_bound(place_.topic); topic != topics.end(); ++topic) {
    if (topic->first != place_.topic) place_ = {topic->first, 0, Position()};
    const auto& partitions = topic->second->partitions();
    for (; place_.partition < partitions.size(); ++place_.partition, place_.position = Position()) {
      log::PartitionLog* const log = partitions[place_.partition].partition->log();
      const Found found = log == nullptr ? Found() : next_in(*log);
      if (found.log != nullptr) return found;
    }
  }
  return {};
}

MirrorScrub::Found MirrorScrub::next_in(log::PartitionLog& log) {
  const std::uint64_t segment_size = log.options().segment_size;
  for (const auto& [base, end] : log.closed_files()) {
    const Position at = std::max(base, place_.position);
    if (at >= end) continue;
    const SegmentNumber segment(at.value / segment_size);
    place_.position = Position(segment.next().value * segment_size);
    return {&log, base, segment};
  }
  return {};
}

}  // namespace sluice::bus
