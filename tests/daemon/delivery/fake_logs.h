// Logs in memory for delivery's tests: records of 64 bytes of log each, and a durable end that a test can hold back.
//
// Owner: one test. They outlive the daemons that a test makes over them, as files do.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "daemon/delivery/logs.h"

namespace sluice::delivery {

inline constexpr std::uint64_t kFakeRecordSize = 64;

class FakeLogs final : public Logs {
 public:
  // The topic of the dead letters, which is made once it is asked for.
  void set_letters_topic(TopicId id) { letters_topic_ = id; }
  TopicId letters_topic() const { return letters_topic_; }
  void add_topic(TopicId id, const std::string& name, std::uint32_t partitions);
  // Where it stands.
  Position produce(TopicId topic, PartitionNumber partition, std::string payload, std::string trailer = {});
  // Records that come from now on are durable only after sync().
  void hold_syncs() { holds_syncs_ = true; }
  void sync() {
    holds_syncs_ = false;
    for (auto& [place, log] : logs_) log.durable = end_of(log);
  }
  // The record is gone by retention.
  void drop(TopicId topic, PartitionNumber partition, Position position);
  // Appends of payloads larger than that are refused.
  void set_payload_max(std::size_t size) { payload_max_ = size; }
  void set_time(std::uint64_t time_ns) { time_ns_ = time_ns; }
  void set_open_claim(std::int32_t pid) { open_claim_ = pid; }
  const std::vector<LogMessage>& records(TopicId topic, PartitionNumber partition) const {
    return logs_.at({topic, partition}).records;
  }

  std::vector<TopicView> topics() const override { return topics_; }
  std::optional<TopicView> find(TopicId topic) const override;
  Status may_consume(const session::Peer&, TopicId) const override { return {}; }
  Result<Position> earliest(TopicId topic, PartitionNumber partition) const override;
  Result<Position> end(TopicId topic, PartitionNumber partition) const override;
  Result<Position> durable(TopicId topic, PartitionNumber partition) const override;
  Result<Position> snap(TopicId topic, PartitionNumber partition, Position position) override;
  Result<Position> at_time(TopicId topic, PartitionNumber partition, std::uint64_t time_ns) override;
  Result<LogWalk> walk(TopicId topic, PartitionNumber partition, Position from, std::uint32_t count,
                       std::string_view tag) override;
  Result<LogMessage> read(TopicId topic, PartitionNumber partition, Position position) override;
  Result<Position> lowest_origin(TopicId, PartitionNumber, Position from) override { return from; }
  Result<std::uint64_t> count(TopicId topic, PartitionNumber partition, Position from, Position to) override;
  std::uint64_t produced(TopicId topic, PartitionNumber partition) const override;
  void catch_up(TopicId, PartitionNumber) override {}
  std::optional<std::int32_t> open_claim(TopicId, PartitionNumber) const override { return open_claim_; }
  Result<TopicId> make_dead_letter_topic(const std::string& name) override;
  Result<std::pair<Position, Position>> append(TopicId topic, PartitionNumber partition, std::string_view payload,
                                               std::string_view trailer) override;

 private:
  struct Log {
    std::vector<LogMessage> records;  // ascending
    std::uint64_t produced = 0;
    Position durable{kFakeRecordSize};
  };
  Position end_of(const Log& log) const { return Position((log.produced + 1) * kFakeRecordSize); }
  Result<const Log*> log_of(TopicId topic, PartitionNumber partition) const;

  TopicId letters_topic_;
  std::vector<TopicView> topics_;
  std::map<std::pair<TopicId, PartitionNumber>, Log> logs_;
  bool holds_syncs_ = false;
  std::size_t payload_max_ = 1024;
  std::uint64_t time_ns_ = 1;
  std::optional<std::int32_t> open_claim_;
};

}  // namespace sluice::delivery
