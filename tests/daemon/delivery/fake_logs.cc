#include "tests/daemon/delivery/fake_logs.h"

#include <algorithm>
#include <utility>

namespace sluice::delivery {

void FakeLogs::add_topic(TopicId id, const std::string& name, std::uint32_t partitions) {
  topics_.push_back({id, name, partitions, false});
  for (PartitionNumber partition = 0; partition < partitions; ++partition) logs_[{id, partition}];
}

Position FakeLogs::produce(TopicId topic, PartitionNumber partition, std::string payload, std::string trailer) {
  Log& log = logs_.at({topic, partition});
  LogMessage message;
  message.record.position = end_of(log);
  ++log.produced;
  message.record.end = end_of(log);
  message.record.time_ns = time_ns_;
  message.payload = std::move(payload);
  message.trailer = std::move(trailer);
  log.records.push_back(std::move(message));
  if (!holds_syncs_) log.durable = end_of(log);
  return log.records.back().record.position;
}

void FakeLogs::drop(TopicId topic, PartitionNumber partition, Position position) {
  std::erase_if(logs_.at({topic, partition}).records,
                [&](const LogMessage& message) { return message.record.position == position; });
}

Result<const FakeLogs::Log*> FakeLogs::log_of(TopicId topic, PartitionNumber partition) const {
  const auto found = logs_.find({topic, partition});
  if (found == logs_.end()) return fail(ErrorCode::not_found, "looking into a log: there is no such partition");
  return &found->second;
}

std::optional<TopicView> FakeLogs::find(TopicId topic) const {
  for (const TopicView& view : topics_)
    if (view.id == topic) return view;
  return std::nullopt;
}

Result<Position> FakeLogs::earliest(TopicId topic, PartitionNumber partition) const {
  SLUICE_ASSIGN(const Log* log, log_of(topic, partition));
  return log->records.empty() ? end_of(*log) : log->records.front().record.position;
}

Result<Position> FakeLogs::end(TopicId topic, PartitionNumber partition) const {
  SLUICE_ASSIGN(const Log* log, log_of(topic, partition));
  return end_of(*log);
}

Result<Position> FakeLogs::durable(TopicId topic, PartitionNumber partition) const {
  SLUICE_ASSIGN(const Log* log, log_of(topic, partition));
  return log->durable;
}

Result<Position> FakeLogs::snap(TopicId topic, PartitionNumber partition, Position position) {
  SLUICE_ASSIGN(const Log* log, log_of(topic, partition));
  for (const LogMessage& message : log->records)
    if (message.record.position >= position) return message.record.position;
  return end_of(*log);
}

Result<Position> FakeLogs::at_time(TopicId topic, PartitionNumber partition, std::uint64_t time_ns) {
  SLUICE_ASSIGN(const Log* log, log_of(topic, partition));
  for (const LogMessage& message : log->records)
    if (message.record.time_ns >= time_ns) return message.record.position;
  return end_of(*log);
}

Result<LogWalk> FakeLogs::walk(TopicId topic, PartitionNumber partition, Position from, std::uint32_t count,
                               std::string_view) {
  SLUICE_ASSIGN(const Log* log, log_of(topic, partition));
  LogWalk walk;
  walk.next = end_of(*log);
  walk.at_end = true;
  for (const LogMessage& message : log->records) {
    if (message.record.position < from) continue;
    if (walk.records.size() == count) {
      walk.next = message.record.position;
      walk.at_end = false;
      break;
    }
    walk.records.push_back(message.record);
  }
  return walk;
}

Result<LogMessage> FakeLogs::read(TopicId topic, PartitionNumber partition, Position position) {
  SLUICE_ASSIGN(const Log* log, log_of(topic, partition));
  for (const LogMessage& message : log->records)
    if (message.record.position == position) return message;
  return fail(ErrorCode::not_found, "reading a record: it is gone");
}

Result<std::uint64_t> FakeLogs::count(TopicId topic, PartitionNumber partition, Position from, Position to) {
  SLUICE_ASSIGN(const Log* log, log_of(topic, partition));
  return static_cast<std::uint64_t>(std::count_if(
      log->records.begin(), log->records.end(),
      [&](const LogMessage& message) { return message.record.position >= from && message.record.position < to; }));
}

std::uint64_t FakeLogs::produced(TopicId topic, PartitionNumber partition) const {
  return logs_.at({topic, partition}).produced;
}

Result<TopicId> FakeLogs::make_dead_letter_topic(const std::string& name) {
  if (!find(letters_topic_)) add_topic(letters_topic_, name, 1);
  return letters_topic_;
}

Result<std::pair<Position, Position>> FakeLogs::append(TopicId topic, PartitionNumber partition,
                                                       std::string_view payload, std::string_view trailer) {
  if (payload.size() > payload_max_) return fail(ErrorCode::too_large, "appending a copy: it is too large");
  const Position at = produce(topic, partition, std::string(payload), std::string(trailer));
  return std::pair(at, at + kFakeRecordSize);
}

}  // namespace sluice::delivery
