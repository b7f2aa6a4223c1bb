#include "daemon/control/convert.h"

#include <algorithm>
#include <utility>

#include "shm/base/limits.h"

namespace sluice::control {
namespace {

constexpr std::size_t kAccessListMax = 256;       // entries of a topic's publishers or consumers
constexpr std::size_t kAccessEntrySizeMax = 256;  // bytes

std::string copy(capnp::Text::Reader text) { return {text.cStr(), text.size()}; }

Result<std::vector<std::string>> read_list(capnp::List<capnp::Text>::Reader in, std::string_view what) {
  if (in.size() > kAccessListMax) {
    return fail(ErrorCode::quota, "reading a topic's " + std::string(what) + ": " + std::to_string(in.size()) +
                                      " entries, at most " + std::to_string(kAccessListMax) +
                                      " are possible; use groups");
  }
  std::vector<std::string> result;
  for (const auto entry : in) {
    SLUICE_ASSIGN(std::string text, read_text(entry, kAccessEntrySizeMax, what));
    result.push_back(std::move(text));
  }
  return result;
}

void write_config(protocol::TopicConfig::Builder out, const core::TopicConfig& config) {
  out.setName(config.name);
  out.setPartitions(config.partitions);
  out.setDurability(static_cast<protocol::Durability>(config.durability));
  out.setVisibility(static_cast<protocol::Visibility>(config.visibility));
  out.setSegmentSize(config.segment_size);
  out.setSlots(config.slots);
  out.setRetentionBytes(config.retention_bytes);
  out.setRetentionTimeNs(config.retention_time_ns);
  out.setMessageTtlNs(config.message_ttl_ns);
  out.setOverflow(static_cast<protocol::Overflow>(config.overflow));
  out.setClaimDeadlineNs(config.claim_deadline_ns);
  out.setChecksum(config.checksum);
  out.setTimeMode(static_cast<protocol::TimeMode>(config.time_mode));
  const auto write_list = [](capnp::List<capnp::Text>::Builder list, const std::vector<std::string>& entries) {
    for (unsigned i = 0; i < entries.size(); ++i) list.set(i, entries[i]);
  };
  write_list(out.initPublishers(static_cast<unsigned>(config.publishers.size())), config.publishers);
  write_list(out.initConsumers(static_cast<unsigned>(config.consumers.size())), config.consumers);
  write_list(out.initMirrors(static_cast<unsigned>(config.mirrors.size())), config.mirrors);
}

void write_partition(protocol::PartitionInfo::Builder out, const session::PartitionInfo& info) {
  out.setPartition(info.partition);
  out.setGate(static_cast<std::uint32_t>(info.gate));
  out.setGateReason(info.gate_reason);
  out.setEarliest(info.earliest.value);
  out.setCommitted(info.committed.value);
  out.setDurable(info.durable.value);
  out.setTail(info.tail.value);
  out.setPrepared(info.prepared.value);
  out.setMemoryStart(info.memory_start.value);
  out.setFileCount(info.file_count);
  out.setFileBytes(info.file_bytes);
  out.setRecords(info.records);
  out.setSlotsUsed(info.slots_used);
  out.setSlotsPinned(info.slots_pinned);
  out.setOpenClaims(info.open_claims);
  out.setQuarantinedBytes(info.quarantined_bytes);
  out.setCorruptRecords(info.corrupt_records);
  out.setDelayed(info.delayed);
  out.setOpenHalves(info.open_halves);
  out.setCommittedHalves(info.committed_halves);
  out.setRolledBackHalves(info.rolled_back_halves);
  out.setNextDueNs(info.next_due_ns);
}

}  // namespace

Error to_error(const kj::Exception& exception, std::string_view doing) {
  const auto description = exception.getDescription();
  std::string text(doing);
  text += ": ";
  text.append(description.begin(), description.size());
  switch (exception.getType()) {
    case kj::Exception::Type::DISCONNECTED: return Error(ErrorCode::closed, text + " (the peer hung up)");
    case kj::Exception::Type::OVERLOADED: return Error(ErrorCode::quota, text + " (try again later)");
    case kj::Exception::Type::UNIMPLEMENTED: return Error(ErrorCode::version, text + " (not known to this version)");
    case kj::Exception::Type::FAILED: break;
  }
  return Error(ErrorCode::internal, std::move(text));
}

Result<std::string> read_text(capnp::Text::Reader text, std::size_t size_max, std::string_view what) {
  if (text.size() > size_max) {
    return fail(ErrorCode::invalid, "reading a request: the " + std::string(what) + " has " +
                                        std::to_string(text.size()) + " bytes, at most " + std::to_string(size_max) +
                                        " are possible");
  }
  return copy(text);
}

std::string read_display_text(capnp::Text::Reader text, std::size_t size_max) {
  std::string result(text.cStr(), std::min(text.size(), size_max));
  std::replace_if(
      result.begin(), result.end(), [](unsigned char c) { return c < 0x20 || c == 0x7f; }, '?');
  return result;
}

Result<core::TopicRequest> read_request(protocol::TopicConfig::Reader in) {
  core::TopicRequest request;
  core::TopicConfig& config = request.config;
  SLUICE_ASSIGN(config.name, read_text(in.getName(), kTopicNameSizeMax, "topic name"));
  config.partitions = in.getPartitions();
  request.default_durability = in.getDurability() == protocol::Durability::DAEMON_DEFAULT;
  if (!request.default_durability) {
    SLUICE_ASSIGN(config.durability, read_enum<core::Durability>(in.getDurability(), 3, "durability"));
  }
  SLUICE_ASSIGN(config.visibility, read_enum<core::Visibility>(in.getVisibility(), 2, "visibility"));
  config.segment_size = in.getSegmentSize();
  config.slots = in.getSlots();
  config.retention_bytes = in.getRetentionBytes();
  config.retention_time_ns = in.getRetentionTimeNs();
  request.default_retention_bytes = config.retention_bytes == protocol::DAEMON_DEFAULT;
  request.default_retention_time = config.retention_time_ns == protocol::DAEMON_DEFAULT;
  config.message_ttl_ns = in.getMessageTtlNs();
  SLUICE_ASSIGN(config.overflow, read_enum<core::Overflow>(in.getOverflow(), 2, "overflow"));
  config.claim_deadline_ns = in.getClaimDeadlineNs();
  request.default_claim_deadline = config.claim_deadline_ns == protocol::DAEMON_DEFAULT;
  config.checksum = in.getChecksum();
  SLUICE_ASSIGN(config.time_mode, read_enum<core::TimeMode>(in.getTimeMode(), 3, "time mode"));
  SLUICE_ASSIGN(config.publishers, read_list(in.getPublishers(), "publishers"));
  SLUICE_ASSIGN(config.consumers, read_list(in.getConsumers(), "consumers"));
  if (in.getMirrors().size() >= kMirrorCopiesMax) {
    return fail(ErrorCode::invalid, "creating topic " + config.name + ": " + std::to_string(in.getMirrors().size()) +
                                        " mirrors; at most " + std::to_string(kMirrorCopiesMax - 1) + " are possible");
  }
  for (const auto mirror : in.getMirrors()) {
    SLUICE_ASSIGN(std::string path, read_text(mirror, core::kTopicMirrorPathSizeMax, "path of a mirror"));
    config.mirrors.push_back(std::move(path));
  }
  return request;
}

Result<core::TopicChange> read_change(protocol::TopicChange::Reader in) {
  core::TopicChange change;
  if (in.getPartitions() != 0) change.partitions = in.getPartitions();
  if (in.getSetRetentionBytes()) change.retention_bytes = in.getRetentionBytes();
  if (in.getSetRetentionTime()) change.retention_time_ns = in.getRetentionTimeNs();
  if (in.getSetMessageTtl()) change.message_ttl_ns = in.getMessageTtlNs();
  if (in.getSetOverflow()) {
    SLUICE_ASSIGN(const core::Overflow overflow, read_enum<core::Overflow>(in.getOverflow(), 2, "overflow"));
    change.overflow = overflow;
  }
  return change;
}

Result<session::OpenProducer> read_open_producer(protocol::OpenProducer::Reader in) {
  session::OpenProducer request;
  SLUICE_ASSIGN(request.topic, read_text(in.getTopic(), kTopicNameSizeMax, "topic name"));
  SLUICE_ASSIGN(request.name, read_text(in.getName(), kProducerNameSizeMax, "producer name"));
  request.pin = in.getPin();
  if (request.pin >= kSessionPinsMax) {
    return fail(ErrorCode::invalid, "opening a producer: pin cell " + std::to_string(request.pin) + " does not exist");
  }
  return request;
}

Result<session::OpenReader> read_open_reader(protocol::OpenReader::Reader in) {
  session::OpenReader request;
  SLUICE_ASSIGN(request.topic, read_text(in.getTopic(), kTopicNameSizeMax, "topic name"));
  if (in.getCursors().size() > kPartitionsPerTopicMax) {
    return fail(ErrorCode::quota, "opening a reader: " + std::to_string(in.getCursors().size()) +
                                      " partitions, at most " + std::to_string(kPartitionsPerTopicMax) +
                                      " are possible");
  }
  std::vector<bool> seen_cells(kSessionCursorsMax);
  std::vector<bool> seen_partitions(kPartitionsPerTopicMax);
  for (const auto cursor : in.getCursors()) {
    const PartitionNumber partition = cursor.getPartition();
    const std::uint32_t cell = cursor.getCell();
    if (cell != session::kNoCursor && (cell >= kSessionCursorsMax || seen_cells[cell])) {
      return fail(ErrorCode::invalid,
                  "opening a reader: cursor cell " + std::to_string(cell) + " does not exist, or is named twice");
    }
    if (partition >= kPartitionsPerTopicMax) {
      return fail(ErrorCode::not_found, "opening a reader: partition " + std::to_string(partition) + " does not exist");
    }
    if (seen_partitions[partition]) {
      return fail(ErrorCode::invalid, "opening a reader: partition " + std::to_string(partition) + " is named twice");
    }
    if (cell != session::kNoCursor) seen_cells[cell] = true;
    seen_partitions[partition] = true;
    request.cursors.push_back({partition, cell});
  }
  return request;
}

Result<session::Access> read_access(protocol::Access access) { return read_enum<session::Access>(access, 2, "access"); }

Result<std::vector<session::SequenceReport>> read_reports(capnp::List<protocol::SequenceReport>::Reader in) {
  std::vector<session::SequenceReport> reports;
  reports.reserve(in.size());
  for (const auto report : in) {
    reports.push_back({report.getPartition(), ProducerId(report.getProducerId()), Sequence(report.getSequence())});
  }
  return reports;
}

void write_failure(protocol::Failure::Builder out, const Error& error) {
  out.setCode(static_cast<std::uint8_t>(error.code()));
  out.setSystemErrno(error.system_errno());
  out.setContext(error.context());
}

void write_done(protocol::Done::Builder out, const Status& status) {
  if (status) {
    out.setOk();
  } else {
    write_failure(out.initFailure(), status.error());
  }
}

void write_topic(protocol::TopicInfo::Builder out, const session::TopicInfo& topic) {
  write_config(out.initConfig(), topic.record.config);
  out.setTopicId(topic.record.id.value);
  out.setCreatedNs(topic.record.created_ns);
  auto partitions = out.initPartitions(static_cast<unsigned>(topic.partitions.size()));
  for (unsigned i = 0; i < topic.partitions.size(); ++i) write_partition(partitions[i], topic.partitions[i]);
  out.setProducers(topic.producers);
  out.setReaders(topic.readers);
}

void write_audit(protocol::AuditReport::Builder out, const session::AuditReport& report) {
  auto rows = out.initRows(static_cast<unsigned>(report.rows.size()));
  for (unsigned i = 0; i < report.rows.size(); ++i) {
    const session::AuditRow& row = report.rows[i];
    const core::AuditCounts& counts = row.row.counts;
    rows[i].setPartition(row.partition);
    rows[i].setProducerId(row.row.producer.value);
    rows[i].setName(row.row.name);
    rows[i].setSequenceFirst(counts.sequence_first.value);
    rows[i].setSequenceLast(counts.sequence_last.value);
    rows[i].setData(counts.data);
    rows[i].setCommittedHalves(counts.committed_halves);
    rows[i].setRolledBack(counts.rolled_back);
    rows[i].setOpen(counts.open);
    rows[i].setDelayed(counts.delayed);
    rows[i].setAborted(counts.aborted);
    rows[i].setFenced(counts.fenced);
    rows[i].setDropped(counts.dropped);
    rows[i].setExpired(counts.expired);
    rows[i].setCut(counts.cut);
    rows[i].setQuarantined(counts.quarantined);
    rows[i].setGaps(counts.gaps);
    rows[i].setRepeats(counts.repeats);
  }
  out.setHolds(report.holds);
}

void write_scrub(protocol::ScrubReport::Builder out, const session::ScrubReport& report) {
  out.setRun(report.run);
  out.setRunning(report.running);
  out.setCopies(report.copies);
  out.setSegments(report.segments);
  out.setBytes(report.bytes);
  out.setMendedSegments(report.mended_segments);
  out.setMendedBytes(report.mended_bytes);
  out.setDamagedBytes(report.damaged_bytes);
  auto damaged = out.initDamaged(static_cast<unsigned>(report.damaged.size()));
  for (unsigned i = 0; i < report.damaged.size(); ++i) {
    damaged[i].setPartition(report.damaged[i].partition);
    damaged[i].setBegin(report.damaged[i].begin.value);
    damaged[i].setEnd(report.damaged[i].end.value);
    damaged[i].setReason(report.damaged[i].reason);
  }
  auto errors = out.initErrors(static_cast<unsigned>(report.errors.size()));
  for (unsigned i = 0; i < report.errors.size(); ++i) errors.set(i, report.errors[i]);
}

void write_counts(protocol::AnswerCounts::Builder out, const core::AnswerCounts& counts) {
  out.setCommit(counts.commit);
  out.setRollback(counts.rollback);
  out.setUnknown(counts.unknown);
  out.setNone(counts.none);
}

void write_status(protocol::BusStatus::Builder out, const session::BusStatus& status) {
  out.setVersion(status.version);
  out.setPid(status.pid);
  out.setStartedNs(status.started_ns);
  out.setIncarnation(status.incarnation.value);
  out.setDataDirectory(status.data_directory);
  out.setSocket(status.socket);
  out.setSessions(status.sessions);
  out.setTopics(status.topics);
  out.setPartitions(status.partitions);
  out.setPoisoned(status.poisoned);
  out.setMemoryBytes(status.memory_bytes);
  out.setMemoryBudgetBytes(status.memory_budget_bytes);
  out.setDiskBytes(status.disk_bytes);
  out.setRepairedClaims(status.repaired_claims);
  out.setExpiredClaims(status.expired_claims);
  out.setRepairNsMax(status.repair_ns_max);
  out.setRepairNsLast(status.repair_ns_last);
  out.setDiskBackend(status.disk_backend);
  auto recovery = out.initRecovery(static_cast<unsigned>(status.recovery.size()));
  for (unsigned i = 0; i < status.recovery.size(); ++i) recovery.set(i, status.recovery[i]);
  auto mirrors = out.initMirrors(static_cast<unsigned>(status.mirrors.size()));
  for (unsigned i = 0; i < status.mirrors.size(); ++i) {
    const session::MirrorStatus& mirror = status.mirrors[i];
    mirrors[i].setPath(mirror.path);
    mirrors[i].setState(mirror.state);
    mirrors[i].setReason(mirror.reason);
    mirrors[i].setFilledBytes(mirror.filled_bytes);
    mirrors[i].setTotalBytes(mirror.total_bytes);
    mirrors[i].setFailedReads(mirror.failed_reads);
    mirrors[i].setTopic(mirror.topic);
  }
  out.setScrubPasses(status.scrub_passes);
  out.setScrubMendedBytes(status.scrub_mended_bytes);
  out.setScrubDamagedBytes(status.scrub_damaged_bytes);
  out.setOpenTransactions(status.open_transactions);
  out.setParkedTransactions(status.parked_transactions);
  out.setCommittedTransactions(status.committed_transactions);
  out.setRolledBackTransactions(status.rolled_back_transactions);
  write_counts(out.initChecks(), status.checks);
  write_counts(out.initResolverRuns(), status.resolver_runs);
}

void write_check(protocol::DoctorCheck::Builder out, const session::DoctorCheck& check) {
  out.setName(check.name);
  out.setOk(check.ok);
  out.setDetail(check.detail);
  out.setAdvice(check.advice);
}

void write_session(protocol::SessionInfo::Builder out, const session::SessionInfo& info) {
  out.setSessionId(info.id.value);
  out.setPid(info.pid);
  out.setUid(info.uid);
  out.setClientName(info.client_name);
  out.setProducers(info.producers);
  out.setReaders(info.readers);
  out.setPins(info.pins);
  out.setConnected(info.connected);
}

void write_ranges(capnp::List<protocol::PartitionRange>::Builder out,
                  const std::vector<session::PartitionRange>& ranges) {
  for (unsigned i = 0; i < ranges.size(); ++i) {
    out[i].setPartition(ranges[i].partition);
    out[i].setEarliest(ranges[i].earliest.value);
    out[i].setEnd(ranges[i].end.value);
  }
}

}  // namespace sluice::control
