// Bus: what is asked and changes nothing (but for cut counts).

#include <sys/resource.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "daemon/bus/bus.h"
#include "daemon/io/mirror_disk.h"
#include "shm/base/clock.h"
#include "shm/ring/membarrier.h"

namespace sluice::bus {
namespace {

constexpr std::uint64_t kHeldLowFraction = 10;       // and when less than this part of what can be held is left
constexpr std::uint64_t kFreeBytesLow = 1ull << 30;  // doctor warns below this

session::DoctorCheck check(std::string name, bool ok, std::string detail, std::string advice) {
  return {std::move(name), ok, std::move(detail), ok ? std::string() : std::move(advice)};
}

session::DoctorCheck check_memlock() {
  rlimit limit{};
  ::getrlimit(RLIMIT_MEMLOCK, &limit);
  const bool unlimited = limit.rlim_cur == RLIM_INFINITY || ::geteuid() == 0;
  const std::string detail = unlimited ? "not limited" : std::to_string(limit.rlim_cur) + " bytes";
  return check("memory lock", unlimited || limit.rlim_cur >= (64u << 20), detail,
               "raise RLIMIT_MEMLOCK (LimitMEMLOCK= of the unit) so that slots can be registered with io_uring");
}

session::DoctorCheck check_keeper(const keep::RegionKeeper* keeper) {
  if (keeper == nullptr) return check("restarts", true, "nobody keeps memory over a restart of the daemon", "");
  const std::uint64_t full = keeper->capacity() - keeper->capacity() / kHeldLowFraction;
  return check("restarts", keeper->held() < full,
               "memory is kept, " + std::to_string(keeper->held()) + " of " + std::to_string(keeper->capacity()) +
                   " descriptors are held",
               "when all are, new partitions and sessions are refused: end some, or start with --no-keeper");
}

session::DoctorCheck check_mirrors(std::string name, const std::vector<const io::MirrorDisk*>& disks) {
  std::string bad;
  std::size_t count = 0;
  for (const io::MirrorDisk* mirrors : disks) {
    count += mirrors->copy_count();
    for (const io::MirrorInfo& copy : mirrors->info())
      if (!copy.good) bad += (bad.empty() ? "" : "; ") + copy.root + ": " + copy.reason;
  }
  return check(std::move(name), bad.empty(), bad.empty() ? std::to_string(count) + " good copies" : bad,
               "messages are durable on the other copies alone: look at that disk (dmesg, smartctl), replace it");
}

// `size`: of the log files in one of the copies.
void add_copies(const io::MirrorDisk& mirrors, const std::string& topic, std::uint64_t size,
                std::vector<session::MirrorStatus>& all) {
  for (const io::MirrorInfo& copy : mirrors.info())
    all.push_back({copy.root,
                   copy.good      ? "good"
                   : copy.filling ? "filling"
                                  : "stale",
                   copy.reason, copy.filled_bytes, copy.filling ? size : 0, copy.failed_reads, topic});
}

session::DoctorCheck check_kernel() {
  utsname name{};
  ::uname(&name);
  int major = 0;
  int minor = 0;
  const bool read = std::sscanf(name.release, "%d.%d", &major, &minor) == 2;
  return check("kernel", read && (major > 5 || (major == 5 && minor >= 16)), name.release, "use Linux 5.16 or later");
}

}  // namespace

session::PartitionInfo Bus::info_of(const PartitionUnit& unit) const {
  const spill::Partition& partition = *unit.partition;
  session::PartitionInfo info;
  info.partition = partition.identity().partition;
  info.gate = partition.gate();
  info.gate_reason = partition.reason();
  info.earliest = partition.earliest();
  info.committed = partition.frontier();
  info.durable = partition.durable();
  info.tail = partition.tail();
  info.prepared = Position(partition.memory().control->prepared.load(std::memory_order_relaxed));
  info.memory_start = partition.memory_start();
  if (const log::PartitionLog* log = unit.partition->log(); log != nullptr) {
    info.file_count = log->file_count();
    info.file_bytes = log->file_bytes();
  }
  for (const core::AuditRow& row : unit.partition->audit().rows()) {
    info.records += row.counts.data + row.counts.delayed + row.counts.committed_halves;
    info.open_halves += row.counts.open;
    info.committed_halves += row.counts.committed_halves;
    info.rolled_back_halves += row.counts.rolled_back;
  }
  const ring::SlotCounts slots = partition.slot_counts();
  info.slots_used = slots.ready + slots.limbo;
  info.slots_pinned = slots.limbo;
  info.open_claims = partition.has_open_claims() ? 1 : 0;
  info.quarantined_bytes = partition.counters().quarantined_bytes;
  if (const log::PartitionLog* log = unit.partition->log(); log != nullptr)
    info.quarantined_bytes += log->damaged_bytes();
  info.corrupt_records = partition.counters().corrupt_records;
  info.delayed = partition.delays().size();
  info.next_due_ns = partition.delays().next_due_ns().value_or(0);
  return info;
}

std::uint32_t Bus::count_sessions_with(const Topic& topic, bool producers) const {
  std::uint32_t count = 0;
  sessions_->for_each([&](const session::Session& session) {
    if (producers) {
      for (const auto& [id, entry] : session.producers()) count += entry.topic == topic.id();
    } else {
      for (const auto& [id, entry] : session.readers()) count += entry.topic == topic.id();
    }
  });
  return count;
}

session::TopicInfo Bus::info_of(const Topic& topic) const {
  session::TopicInfo info;
  info.record = topic.record();
  for (const PartitionUnit& unit : topic.partitions()) info.partitions.push_back(info_of(unit));
  info.producers = count_sessions_with(topic, true);
  info.readers = count_sessions_with(topic, false);
  return info;
}

Result<std::vector<session::TopicInfo>> Bus::list_topics(SessionId session) {
  SLUICE_TRY(live_session(session));
  std::vector<session::TopicInfo> all;
  for (const auto& [name, topic] : topics_) all.push_back(info_of(*topic));
  return all;
}

Result<session::TopicInfo> Bus::describe_topic(SessionId session, const std::string& name) {
  SLUICE_TRY(live_session(session));
  SLUICE_ASSIGN(Topic * topic, find_topic(name));
  return info_of(*topic);
}

Result<session::LocateAnswer> Bus::locate(SessionId session_id, TopicId topic_id, PartitionNumber number,
                                          Position position, bool damaged) {
  SLUICE_ASSIGN(session::Session * session, live_session(session_id));
  SLUICE_ASSIGN(PartitionUnit * unit, find_partition(topic_id, number));
  const Topic& topic = *by_id_.at(topic_id);
  SLUICE_TRY(topic.consumers().check(session->peer(), settings_.policy, "consuming from", topic.name()));
  const spill::Partition& partition = *unit->partition;
  session::LocateAnswer answer;
  const auto go_on_at = [&](session::LocateAnswer::Kind kind, Position at) {
    answer.kind = kind;
    answer.position = at;
    return Result<session::LocateAnswer>(std::move(answer));
  };
  if (position >= partition.memory_start()) return answer;
  log::PartitionLog* log = unit->partition->log();
  if (log == nullptr) return go_on_at(session::LocateAnswer::Kind::trimmed, partition.memory_start());
  if (position < log->earliest()) return go_on_at(session::LocateAnswer::Kind::trimmed, partition.earliest());
  if (damaged && scrub_.see_to(topic_id, number, *log, position)) return answer;
  const log::Located located = log->locate(position);
  const Position memory_begin(partition.memory().control->start_position);
  switch (located.kind) {
    case log::Located::Kind::file: {
      SLUICE_ASSIGN(answer.file, log->open_for_client(located));
      answer.kind = session::LocateAnswer::Kind::file;
      answer.base = located.file_base;
      answer.data_end = located.data_end;
      return answer;
    }
    case log::Located::Kind::skip: return go_on_at(session::LocateAnswer::Kind::skip, located.next);
    case log::Located::Kind::above:
      // Between the recovered end and this incarnation's first position lies nothing.
      if (position < memory_begin) return go_on_at(session::LocateAnswer::Kind::skip, memory_begin);
      return answer;
  }
  return answer;
}

Result<Position> Bus::seek_time(SessionId session_id, TopicId topic_id, PartitionNumber number, std::uint64_t time_ns) {
  SLUICE_ASSIGN(session::Session * session, live_session(session_id));
  SLUICE_ASSIGN(PartitionUnit * unit, find_partition(topic_id, number));
  const Topic& topic = *by_id_.at(topic_id);
  SLUICE_TRY(topic.consumers().check(session->peer(), settings_.policy, "consuming from", topic.name()));
  log::PartitionLog* log = unit->partition->log();
  return log == nullptr ? unit->partition->memory_start() : log->segment_at_time(time_ns);
}

Result<std::vector<session::PartitionRange>> Bus::end_positions(SessionId session_id, const std::string& name) {
  SLUICE_TRY(live_session(session_id));
  SLUICE_ASSIGN(Topic * topic, find_topic(name));
  std::vector<session::PartitionRange> ranges;
  for (PartitionUnit& unit : topic->partitions()) {
    unit.partition->catch_up(monotonic_ns());
    ranges.push_back({unit.partition->identity().partition, unit.partition->earliest(), unit.partition->frontier()});
  }
  return ranges;
}

Status Bus::report_sequences(SessionId session_id, TopicId topic_id, std::vector<session::SequenceReport> reports) {
  SLUICE_ASSIGN(session::Session * session, live_session(session_id));
  SLUICE_ASSIGN(Topic * topic, find_topic(topic_id));
  SLUICE_TRY(topic->publishers().check(session->peer(), settings_.policy, "publishing to", topic->name()));
  std::vector<store::Store::ReportedRow> rows;
  for (const session::SequenceReport& report : reports) {
    // Only of lives before: what was claimed in this one stands in memory.
    if (report.partition >= topic->partitions().size()) continue;
    PartitionUnit& unit = topic->partitions()[report.partition];
    if (report.producer >= unit.reporters_end) continue;
    if (auto row = unit.partition->report(report.producer, report.sequence))
      rows.push_back({report.partition, std::move(*row)});
  }
  // Told once, and no record says it: the next start must know. The partition's last snapshot lies above all that these
  // producers had written, so their rows in it change by reports alone.
  return rows.empty() || topic->is_volatile() ? Status() : store_.save_audit_rows(topic->id(), rows);
}

Result<session::AuditReport> Bus::audit(SessionId session, const std::string& name) {
  SLUICE_TRY(live_session(session));
  SLUICE_ASSIGN(Topic * topic, find_topic(name));
  session::AuditReport report;
  report.holds = true;
  for (PartitionUnit& unit : topic->partitions()) {
    unit.partition->catch_up(monotonic_ns());
    for (const core::AuditRow& row : unit.partition->audit().rows())
      report.rows.push_back({unit.partition->identity().partition, row});
    report.holds &= unit.partition->audit().holds();
  }
  return report;
}

Result<session::BusStatus> Bus::status(SessionId session) {
  SLUICE_TRY(live_session(session));
  session::BusStatus status;
  status.version = settings_.version;
  status.pid = ::getpid();
  status.started_ns = started_ns_;
  status.incarnation = incarnation_;
  status.data_directory = directory_.path();
  status.socket = settings_.socket;
  status.sessions = static_cast<std::uint32_t>(sessions_->size());
  status.topics = static_cast<std::uint32_t>(topics_.size());
  std::map<TopicId, std::uint64_t> own_bytes;  // of topics that have mirrors of their own
  std::uint64_t shared_bytes = 0;              // of the others
  for (const auto& [name, topic] : topics_) {
    std::uint64_t& bytes = topic->config().mirrors.empty() ? shared_bytes : own_bytes[topic->id()];
    for (PartitionUnit& unit : topic->partitions()) {
      const spill::Partition& partition = *unit.partition;
      ++status.partitions;
      status.poisoned += partition.gate() == layout::Gate::poisoned;
      status.repaired_claims += partition.counters().repaired_claims;
      status.expired_claims += partition.counters().expired_claims;
      if (unit.partition->log() != nullptr) bytes += unit.partition->log()->file_bytes();
    }
  }
  status.disk_bytes = shared_bytes;
  for (const auto& [topic, bytes] : own_bytes) status.disk_bytes += bytes;
  status.memory_bytes = budget_.used;
  status.memory_budget_bytes = budget_.limit;
  status.repair_ns_max = repair_ns_max_;
  status.repair_ns_last = repair_ns_last_;
  status.disk_backend = disk_.features().backend;
  status.recovery = findings_;
  status.scrub_passes = scrub_.passes();
  status.scrub_mended_bytes = scrub_.mended_bytes();
  status.scrub_damaged_bytes = scrub_.damaged_bytes();
  status.open_transactions = transactions_.open();
  status.parked_transactions = transactions_.parked();
  status.committed_transactions = transactions_.committed();
  status.rolled_back_transactions = transactions_.rolled_back();
  status.checks = transactions_.checks();
  status.resolver_runs = transactions_.resolver_runs();
  if (io::MirrorDisk* const mirrors = disk_.mirrors()) add_copies(*mirrors, "", shared_bytes, status.mirrors);
  topic_mirrors_.for_each([&](TopicId id, const io::MirrorDisk& mirrors) {
    const auto topic = by_id_.find(id);  // one that was deleted may not be gone yet
    if (topic != by_id_.end()) add_copies(mirrors, topic->second->name(), own_bytes[id], status.mirrors);
  });
  return status;
}

Result<std::vector<session::DoctorCheck>> Bus::doctor(SessionId session, bool quick) {
  SLUICE_TRY(live_session(session));
  std::vector<session::DoctorCheck> checks;
  const io::DiskFeatures disk = disk_.features();
  checks.push_back(check_kernel());
  checks.push_back(check("disk backend", disk.why_not.empty(),
                         disk.backend + (disk.direct ? ", O_DIRECT" : ", through the page cache") +
                             (disk.registered_buffers ? ", registered buffers" : ""),
                         disk.why_not));
  checks.push_back(check_memlock());
  checks.push_back(check("membarrier", ring::membarrier_all(), "global expedited",
                         "allow the membarrier system call: without it sleepers wake every 5 ms"));
  std::uint32_t poisoned = 0;
  std::string first;
  std::string waiting;
  for (const auto& [name, topic] : topics_) {
    for (const PartitionUnit& unit : topic->partitions()) {
      if (unit.partition->gate() == layout::Gate::poisoned) {
        if (poisoned++ == 0) first = unit.partition->identity().name + ": " + unit.partition->reason();
      } else if (waiting.empty() && !unit.partition->reason().empty()) {
        waiting = unit.partition->identity().name + ": " + unit.partition->reason();
      }
    }
  }
  checks.push_back(
      check("partitions", poisoned == 0, poisoned == 0 ? "none is poisoned" : first,
            "look at the disk (dmesg, smartctl), then `sluice topic recover` the topic; publishing to it is "
            "refused until then"));
  checks.push_back(check("room", waiting.empty(), waiting.empty() ? "no partition waits for disk or memory" : waiting,
                         "free disk space or raise memory_budget; it goes on by itself"));
  checks.push_back(check_keeper(keeper_));
  if (io::MirrorDisk* const mirrors = disk_.mirrors()) checks.push_back(check_mirrors("mirrors", {mirrors}));
  std::vector<const io::MirrorDisk*> topic_mirrors;
  topic_mirrors_.for_each([&](TopicId, const io::MirrorDisk& mirrors) { topic_mirrors.push_back(&mirrors); });
  if (!topic_mirrors.empty()) checks.push_back(check_mirrors("topic mirrors", topic_mirrors));
  if (disk_.mirrors() != nullptr || !topic_mirrors.empty() || scrub_.damaged_bytes() != 0)
    checks.push_back(check("scrub", scrub_.mended_bytes() == 0 && scrub_.damaged_bytes() == 0,
                           std::to_string(scrub_.passes()) + " passes, " + std::to_string(scrub_.mended_bytes()) +
                               " bytes mended from another copy, " + std::to_string(scrub_.damaged_bytes()) +
                               " bytes damaged on every copy",
                           "a disk gives back other bytes than were written: look at it (dmesg, smartctl)"));
  checks.push_back(check("last start", findings_.empty(),
                         findings_.empty()
                             ? "nothing was cut or damaged"
                             : std::to_string(findings_.size()) + " findings, first: " + findings_.front(),
                         "`sluice status` lists them all"));
  if (quick) return checks;
  const auto free = disk_.free_bytes(directory_.path());
  checks.push_back(
      check("disk space", free && *free >= kFreeBytesLow,
            free ? std::to_string(*free >> 20) + " MiB free in " + directory_.path() : free.error().message(),
            "free space, or set retention on the topics"));
  return checks;
}

Result<std::vector<session::SessionInfo>> Bus::list_sessions(SessionId session) {
  SLUICE_TRY(live_session(session));
  std::vector<session::SessionInfo> all;
  sessions_->for_each([&](const session::Session& one) {
    all.push_back({one.id(), one.peer().pid, one.peer().uid, one.client_name(),
                   static_cast<std::uint32_t>(one.producers().size()), static_cast<std::uint32_t>(one.readers().size()),
                   static_cast<std::uint32_t>(one.pins().size()), one.connected()});
  });
  return all;
}

Result<std::string> Bus::config(SessionId session) {
  SLUICE_TRY(live_session(session));
  return settings_.config_toml;
}

}  // namespace sluice::bus
