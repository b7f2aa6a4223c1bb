#include "sdk/control_convert.h"

#include <algorithm>

namespace sluice::internal {
namespace {

template <typename List>
std::vector<std::string> copy_list(List in) {
  std::vector<std::string> result;
  for (const auto entry : in) result.push_back(copy(entry));
  return result;
}

template <typename Builder>
void write_list(Builder out, const std::vector<std::string>& entries) {
  for (unsigned i = 0; i < entries.size(); ++i) out.set(i, entries[i]);
}

TopicConfig read_config(protocol::TopicConfig::Reader in) {
  TopicConfig config;
  config.name = copy(in.getName());
  config.partitions = in.getPartitions();
  config.durability = static_cast<Durability>(in.getDurability());
  config.visibility = static_cast<Visibility>(in.getVisibility());
  config.segment_size = in.getSegmentSize();
  config.slots = in.getSlots();
  config.retention_bytes = in.getRetentionBytes();
  config.retention_time = duration_of(in.getRetentionTimeNs());
  config.message_ttl = duration_of(in.getMessageTtlNs());
  config.overflow = static_cast<Overflow>(in.getOverflow());
  config.claim_deadline = duration_of(in.getClaimDeadlineNs());
  config.checksum = in.getChecksum();
  config.time_mode = static_cast<TimeMode>(in.getTimeMode());
  config.publishers = copy_list(in.getPublishers());
  config.consumers = copy_list(in.getConsumers());
  config.mirrors = copy_list(in.getMirrors());
  return config;
}

PartitionInfo read_partition(protocol::PartitionInfo::Reader in) {
  PartitionInfo info;
  info.partition = in.getPartition();
  // layout::Gate and PartitionState are the same numbers; what a newer daemon may add is shown as closing.
  info.state = static_cast<PartitionState>(std::min<std::uint32_t>(in.getGate(), 4));
  info.reason = copy(in.getGateReason());
  info.earliest = Position(in.getEarliest());
  info.committed = Position(in.getCommitted());
  info.durable = Position(in.getDurable());
  info.tail = Position(in.getTail());
  info.prepared = Position(in.getPrepared());
  info.memory_start = Position(in.getMemoryStart());
  info.file_count = in.getFileCount();
  info.file_bytes = in.getFileBytes();
  info.records = in.getRecords();
  info.slots_used = in.getSlotsUsed();
  info.slots_pinned = in.getSlotsPinned();
  info.open_claims = in.getOpenClaims();
  info.quarantined_bytes = in.getQuarantinedBytes();
  info.corrupt_records = in.getCorruptRecords();
  info.delayed = in.getDelayed();
  info.open_halves = in.getOpenHalves();
  info.committed_halves = in.getCommittedHalves();
  info.rolled_back_halves = in.getRolledBackHalves();
  info.next_due_ns = in.getNextDueNs();
  return info;
}

AuditRow read_row(protocol::AuditRow::Reader in) {
  AuditRow row;
  row.partition = in.getPartition();
  row.producer = ProducerId(in.getProducerId());
  row.name = copy(in.getName());
  row.sequence_first = Sequence(in.getSequenceFirst());
  row.sequence_last = Sequence(in.getSequenceLast());
  row.data = in.getData();
  row.committed_halves = in.getCommittedHalves();
  row.rolled_back = in.getRolledBack();
  row.open = in.getOpen();
  row.delayed = in.getDelayed();
  row.aborted = in.getAborted();
  row.fenced = in.getFenced();
  row.dropped = in.getDropped();
  row.expired = in.getExpired();
  row.cut = in.getCut();
  row.quarantined = in.getQuarantined();
  row.gaps = in.getGaps();
  row.repeats = in.getRepeats();
  return row;
}

}  // namespace

std::string copy(capnp::Text::Reader text) { return {text.cStr(), text.size()}; }

std::uint64_t count_of(Duration duration) {
  return static_cast<std::uint64_t>(std::max<std::int64_t>(duration.count(), 0));
}

Duration duration_of(std::uint64_t ns) {
  return Duration(static_cast<std::int64_t>(std::min<std::uint64_t>(ns, INT64_MAX)));
}

Error to_error(const kj::Exception& exception, std::string_view doing) {
  const auto description = exception.getDescription();
  std::string text(doing);
  text += ": ";
  text.append(description.begin(), description.size());
  switch (exception.getType()) {
    case kj::Exception::Type::DISCONNECTED: return Error(ErrorCode::no_daemon, text + " (the daemon hung up)");
    case kj::Exception::Type::OVERLOADED: return Error(ErrorCode::quota, text + " (try again later)");
    case kj::Exception::Type::UNIMPLEMENTED:
      return Error(ErrorCode::version,
                   text + " (the daemon does not know this call; install the same version of both)");
    case kj::Exception::Type::FAILED: break;
  }
  return Error(ErrorCode::internal, std::move(text));
}

Error read_failure(protocol::Failure::Reader in) {
  const std::uint8_t code = in.getCode();
  const bool known =
      code >= static_cast<std::uint8_t>(ErrorCode::invalid) && code <= static_cast<std::uint8_t>(ErrorCode::internal);
  return Error(known ? static_cast<ErrorCode>(code) : ErrorCode::internal, copy(in.getContext()), in.getSystemErrno());
}

Status read_status_beside(protocol::Failure::Reader in) {
  if (in.getCode() == 0) return {};
  return fail(read_failure(in));
}

Status read_done(protocol::Done::Reader in) {
  if (in.isOk()) return {};
  return fail(read_failure(in.getFailure()));
}

void write_config(protocol::TopicConfig::Builder out, const TopicConfig& config) {
  out.setName(config.name);
  out.setPartitions(config.partitions);
  if (config.durability) out.setDurability(static_cast<protocol::Durability>(*config.durability));
  out.setVisibility(static_cast<protocol::Visibility>(config.visibility));
  out.setSegmentSize(config.segment_size);
  out.setSlots(config.slots);
  if (config.retention_bytes) out.setRetentionBytes(*config.retention_bytes);
  out.setMessageTtlNs(count_of(config.message_ttl));
  if (config.retention_time) out.setRetentionTimeNs(count_of(*config.retention_time));
  out.setOverflow(static_cast<protocol::Overflow>(config.overflow));
  if (config.claim_deadline) out.setClaimDeadlineNs(count_of(*config.claim_deadline));
  out.setChecksum(config.checksum);
  out.setTimeMode(static_cast<protocol::TimeMode>(config.time_mode));
  write_list(out.initPublishers(static_cast<unsigned>(config.publishers.size())), config.publishers);
  write_list(out.initConsumers(static_cast<unsigned>(config.consumers.size())), config.consumers);
  write_list(out.initMirrors(static_cast<unsigned>(config.mirrors.size())), config.mirrors);
}

void write_change(protocol::TopicChange::Builder out, const TopicChange& change) {
  if (change.partitions) out.setPartitions(*change.partitions);
  if (change.retention_bytes) {
    out.setSetRetentionBytes(true);
    out.setRetentionBytes(*change.retention_bytes);
  }
  if (change.retention_time) {
    out.setSetRetentionTime(true);
    out.setRetentionTimeNs(count_of(*change.retention_time));
  }
  if (change.message_ttl) {
    out.setSetMessageTtl(true);
    out.setMessageTtlNs(count_of(*change.message_ttl));
  }
  if (change.overflow) {
    out.setSetOverflow(true);
    out.setOverflow(static_cast<protocol::Overflow>(*change.overflow));
  }
}

TopicInfo read_topic(protocol::TopicInfo::Reader in) {
  TopicInfo topic;
  topic.config = read_config(in.getConfig());
  topic.id = TopicId(in.getTopicId());
  topic.created_ns = in.getCreatedNs();
  for (const auto partition : in.getPartitions()) topic.partitions.push_back(read_partition(partition));
  topic.producers = in.getProducers();
  topic.readers = in.getReaders();
  return topic;
}

AuditReport read_audit(protocol::AuditReport::Reader in) {
  AuditReport report;
  for (const auto row : in.getRows()) report.rows.push_back(read_row(row));
  report.holds = in.getHolds();
  return report;
}

ScrubReport read_scrub(protocol::ScrubReport::Reader in) {
  ScrubReport report;
  report.run = in.getRun();
  report.running = in.getRunning();
  report.copies = in.getCopies();
  report.segments = in.getSegments();
  report.bytes = in.getBytes();
  report.mended_segments = in.getMendedSegments();
  report.mended_bytes = in.getMendedBytes();
  report.damaged_bytes = in.getDamagedBytes();
  for (const auto range : in.getDamaged())
    report.damaged.push_back(
        {range.getPartition(), Position(range.getBegin()), Position(range.getEnd()), copy(range.getReason())});
  for (const auto error : in.getErrors()) report.errors.push_back(copy(error));
  return report;
}

AnswerCounts read_counts(protocol::AnswerCounts::Reader in) {
  return {in.getCommit(), in.getRollback(), in.getUnknown(), in.getNone()};
}

BusStatus read_status(protocol::BusStatus::Reader in) {
  BusStatus status;
  status.version = copy(in.getVersion());
  status.pid = in.getPid();
  status.started_ns = in.getStartedNs();
  status.incarnation = Incarnation(in.getIncarnation());
  status.data_directory = copy(in.getDataDirectory());
  status.socket = copy(in.getSocket());
  status.sessions = in.getSessions();
  status.topics = in.getTopics();
  status.partitions = in.getPartitions();
  status.poisoned = in.getPoisoned();
  status.memory_bytes = in.getMemoryBytes();
  status.memory_budget_bytes = in.getMemoryBudgetBytes();
  status.disk_bytes = in.getDiskBytes();
  status.repaired_claims = in.getRepairedClaims();
  status.expired_claims = in.getExpiredClaims();
  status.repair_ns_max = in.getRepairNsMax();
  status.repair_ns_last = in.getRepairNsLast();
  status.disk_backend = copy(in.getDiskBackend());
  status.recovery = copy_list(in.getRecovery());
  for (const auto mirror : in.getMirrors())
    status.mirrors.push_back({copy(mirror.getPath()), copy(mirror.getState()), copy(mirror.getReason()),
                              mirror.getFilledBytes(), mirror.getTotalBytes(), mirror.getFailedReads(),
                              copy(mirror.getTopic())});
  status.scrub_passes = in.getScrubPasses();
  status.scrub_mended_bytes = in.getScrubMendedBytes();
  status.scrub_damaged_bytes = in.getScrubDamagedBytes();
  status.open_transactions = in.getOpenTransactions();
  status.parked_transactions = in.getParkedTransactions();
  status.committed_transactions = in.getCommittedTransactions();
  status.rolled_back_transactions = in.getRolledBackTransactions();
  status.checks = read_counts(in.getChecks());
  status.resolver_runs = read_counts(in.getResolverRuns());
  return status;
}

std::vector<DoctorCheck> read_checks(capnp::List<protocol::DoctorCheck>::Reader in) {
  std::vector<DoctorCheck> checks;
  for (const auto check : in) {
    checks.push_back({copy(check.getName()), check.getOk(), copy(check.getDetail()), copy(check.getAdvice())});
  }
  return checks;
}

std::vector<SessionInfo> read_sessions(capnp::List<protocol::SessionInfo>::Reader in) {
  std::vector<SessionInfo> sessions;
  for (const auto entry : in) {
    SessionInfo info;
    info.id = entry.getSessionId();
    info.pid = entry.getPid();
    info.uid = entry.getUid();
    info.client_name = copy(entry.getClientName());
    info.producers = entry.getProducers();
    info.readers = entry.getReaders();
    info.pins = entry.getPins();
    info.connected = entry.getConnected();
    sessions.push_back(std::move(info));
  }
  return sessions;
}

std::vector<PartitionRange> read_ranges(capnp::List<protocol::PartitionRange>::Reader in) {
  std::vector<PartitionRange> ranges;
  for (const auto range : in) {
    ranges.push_back({range.getPartition(), Position(range.getEarliest()), Position(range.getEnd())});
  }
  return ranges;
}

std::vector<LastSent> read_last(capnp::List<protocol::LastSent>::Reader in) {
  std::vector<LastSent> last;
  for (const auto entry : in) {
    const auto bookmark = entry.getBookmark().asChars();
    last.push_back(
        {entry.getPartition(), Sequence(entry.getSequence()), std::string(bookmark.begin(), bookmark.size())});
  }
  return last;
}

}  // namespace sluice::internal
