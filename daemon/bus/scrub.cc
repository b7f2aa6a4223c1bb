#include "daemon/bus/scrub.h"

#include <algorithm>
#include <utility>

#include <spdlog/spdlog.h>

#include "daemon/io/mirror_disk.h"

namespace sluice::bus {

bool Scrub::do_work(const Topics& topics, std::uint64_t now_ns) {
  if (!unit_ && !choose(topics, now_ns)) return false;
  log::PartitionLog* const log = log_of(topics, unit_->topic, unit_->partition);
  if (log == nullptr || !log->has_file(unit_->base)) {
    let_go();
    return true;
  }
  const Result<bool> stepped = unit_->work->step();
  if (stepped && !*stepped) return true;
  settle(*log, stepped ? Result<log::ScrubOutcome>(unit_->work->take_outcome()) : fail(stepped.error()));
  let_go();
  return true;
}

log::PartitionLog* Scrub::log_of(const Topics& topics, TopicId topic, PartitionNumber partition) {
  const auto found = topics.find(topic);
  if (found == topics.end() || partition >= found->second->partitions().size()) return nullptr;
  return found->second->partitions()[partition].partition->log();
}

// ---- what comes next

bool Scrub::choose(const Topics& topics, std::uint64_t now_ns) {
  return choose_report(topics) || choose_run(topics) || choose_pass(topics, now_ns);
}

bool Scrub::choose_report(const Topics& topics) {
  for (const Key& key : order_) {
    bool& seen_to = reports_.at(key);
    if (seen_to) continue;
    const auto& [topic, partition, segment] = key;
    if (log::PartitionLog* const log = log_of(topics, topic, partition)) {
      Place place{topic, partition, Position(segment.value * log->options().segment_size)};
      const Position end = place.position + log->options().segment_size;
      if (take(Cause::reader, place, *log, end)) return true;
    }
    seen_to = true;  // nothing of it is there any more
  }
  return false;
}

bool Scrub::choose_run(const Topics& topics) {
  for (auto run = runs_.begin(); run != runs_.end();) {
    if (topics.find(run->first) == topics.end()) {
      run = runs_.erase(run);
      continue;
    }
    if (run->second.report.running && go_on_with(run->second, topics)) return true;
    ++run;
  }
  return false;
}

bool Scrub::go_on_with(Run& run, const Topics& topics) {
  Place& place = run.place;
  const std::size_t count = run.only ? *run.only + 1 : topics.at(place.topic)->partitions().size();
  for (; place.partition < count; place = {place.topic, place.partition + 1, Position()}, run.until.reset()) {
    log::PartitionLog* const log = log_of(topics, place.topic, place.partition);
    if (log == nullptr) {
      if (run.report.errors.size() < kScrubErrorsMax)
        run.report.errors.push_back("partition " + std::to_string(place.partition) + " has no open log");
      continue;
    }
    if (!run.until) run.until = log->end();
    if (take(Cause::run, place, *log, *run.until)) return true;
  }
  run.report.running = false;
  return false;
}

bool Scrub::choose_pass(const Topics& topics, std::uint64_t now_ns) {
  if (!has_pass() || now_ns < next_ns_) return false;
  next_ns_ = now_ns + interval_ns_;
  if (std::none_of(topics.begin(), topics.end(), [&](const auto& topic) { return has_copies(topic.first); }))
    return false;
  for (auto topic = topics.lower_bound(place_.topic); topic != topics.end(); ++topic) {
    if (!has_copies(topic->first)) continue;
    if (topic->first != place_.topic) place_ = {topic->first, 0, Position()};
    const std::size_t count = topic->second->partitions().size();
    for (; place_.partition < count; place_ = {place_.topic, place_.partition + 1, Position()}) {
      log::PartitionLog* const log = log_of(topics, place_.topic, place_.partition);
      if (log != nullptr && take(Cause::pass, place_, *log, log->end())) return true;
    }
  }
  place_ = {};
  ++passes_;
  return false;
}

bool Scrub::has_copies(TopicId topic) const {
  io::MirrorDisk* const mirrors = topic_mirrors_.disk_of(topic).mirrors();
  return mirrors != nullptr && mirrors->good_count() >= 2;
}

// The first segment from the place on that begins below `until`; the place goes behind it.
bool Scrub::take(Cause cause, Place& place, log::PartitionLog& log, Position until) {
  const std::uint64_t segment_size = log.options().segment_size;
  for (const log::ScrubFile& file : log.scrub_files()) {
    const Position at = std::max(file.base, place.position);
    if (at >= file.end) continue;
    if (at >= until) break;
    const SegmentNumber segment(at.value / segment_size);
    place.position = Position(segment.next().value * segment_size);
    io::Disk& disk = topic_mirrors_.disk_of(place.topic);
    unit_ = Unit{cause,     place.topic, place.partition,
                 file.base, segment,     std::make_unique<log::SegmentScrub>(disk, log.options(), file, segment)};
    return true;
  }
  return false;
}

// ---- what was found

void Scrub::settle(log::PartitionLog& log, const Result<log::ScrubOutcome>& outcome) {
  const std::string& name = log.options().name;
  if (!outcome) {
    spdlog::error("scrub failed partition={} segment={} reason={}", name, unit_->segment.value,
                  outcome.error().message());
  } else {
    mended_bytes_ += outcome->mended_bytes;
    for (const std::string& line : outcome->told)
      spdlog::warn("scrub partition={} segment={} finding=\"{}\"", name, unit_->segment.value, line);
    if (!outcome->unreadable.empty())
      spdlog::error("scrub cannot read a segment partition={} segment={} reason={}", name, unit_->segment.value,
                    outcome->unreadable);
    quarantine(log, *outcome);
  }
  if (unit_->cause == Cause::run) add_to_run(outcome);
}

void Scrub::quarantine(log::PartitionLog& log, const log::ScrubOutcome& outcome) {
  if (outcome.damaged.empty()) return;
  const std::uint64_t before = log.damaged_bytes();
  const Status noted = log.quarantine(unit_->base, outcome.damaged);
  const std::uint64_t added = log.damaged_bytes() - before;
  damaged_bytes_ += added;
  if (added != 0)
    for (const log::Damage& range : outcome.damaged)
      spdlog::error("quarantined partition={} from={} to={} reason=\"{}\"", log.options().name, range.begin.value,
                    range.end.value, text(range.reason));
  if (!noted)
    spdlog::error("quarantined positions not noted partition={} reason={}", log.options().name,
                  noted.error().message());
}

void Scrub::add_to_run(const Result<log::ScrubOutcome>& outcome) {
  const auto found = runs_.find(unit_->topic);
  if (found == runs_.end()) return;
  session::ScrubReport& report = found->second.report;
  const auto tell = [&](const std::string& reason) {
    if (report.errors.size() < kScrubErrorsMax)
      report.errors.push_back("partition " + std::to_string(unit_->partition) + ", segment " +
                              std::to_string(unit_->segment.value) + ": " + reason);
  };
  if (!outcome) return tell(outcome.error().message());
  ++report.segments;
  report.copies = static_cast<std::uint32_t>(outcome->copies);
  report.bytes += outcome->bytes;
  report.mended_segments += outcome->mended_bytes != 0;
  report.mended_bytes += outcome->mended_bytes;
  for (const log::Damage& range : outcome->damaged) {
    report.damaged_bytes += range.end - range.begin;
    if (report.damaged.size() < kScrubRangesMax)
      report.damaged.push_back({unit_->partition, range.begin, range.end, text(range.reason)});
  }
  if (!outcome->unreadable.empty()) tell(outcome->unreadable);
}

void Scrub::let_go_of(TopicId topic) {
  if (unit_ && unit_->topic == topic) let_go();
}

void Scrub::let_go() {
  if (unit_->cause == Cause::reader) {
    const auto found = reports_.find({unit_->topic, unit_->partition, unit_->segment});
    if (found != reports_.end()) found->second = true;
  }
  unit_.reset();
}

// ---- who asks

bool Scrub::see_to(TopicId topic, PartitionNumber partition, const log::PartitionLog& log, Position position) {
  const Key key{topic, partition, SegmentNumber(position.value / log.options().segment_size)};
  const auto known = reports_.find(key);
  if (known != reports_.end()) {
    if (!known->second) return true;
    reports_.erase(known);
    std::erase(order_, key);
    return false;
  }
  if (order_.size() >= kScrubReportsMax) {
    // Those that were seen to and not asked for again: their readers have gone.
    const auto forgotten = std::find_if(order_.begin(), order_.end(), [&](const Key& k) { return reports_.at(k); });
    if (forgotten == order_.end()) return true;
    reports_.erase(*forgotten);
    order_.erase(forgotten);
  }
  reports_[key] = false;
  order_.push_back(key);
  return true;
}

void Scrub::start_run(TopicId topic, std::optional<PartitionNumber> partition) {
  const auto known = runs_.find(topic);
  if (known != runs_.end() && known->second.report.running) return;
  Run run;
  run.report.run = ++last_run_;
  run.report.running = true;
  run.only = partition;
  run.place = {topic, partition.value_or(0), Position()};
  runs_[topic] = std::move(run);
}

session::ScrubReport Scrub::report(TopicId topic) const {
  const auto found = runs_.find(topic);
  return found == runs_.end() ? session::ScrubReport() : found->second.report;
}

}  // namespace sluice::bus
