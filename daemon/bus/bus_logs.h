// The bus's topics as consumer groups see them.
//
// Owner: the bus, on its thread.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "daemon/bus/topic.h"
#include "daemon/delivery/logs.h"

namespace sluice::bus {

class Bus;

class BusLogs final : public delivery::Logs {
 public:
  explicit BusLogs(Bus& bus) : bus_(bus) {}

  std::vector<delivery::TopicView> topics() const override;
  std::optional<delivery::TopicView> find(TopicId topic) const override;
  Status may_consume(const session::Peer& peer, TopicId topic) const override;
  Result<Position> earliest(TopicId topic, PartitionNumber partition) const override;
  Result<Position> end(TopicId topic, PartitionNumber partition) const override;
  void catch_up(TopicId topic, PartitionNumber partition) override;
  Result<Position> durable(TopicId topic, PartitionNumber partition) const override;
  Result<Position> snap(TopicId topic, PartitionNumber partition, Position position) override;
  Result<Position> at_time(TopicId topic, PartitionNumber partition, std::uint64_t time_ns) override;
  Result<delivery::LogWalk> walk(TopicId topic, PartitionNumber partition, Position from, std::uint32_t count,
                                 std::string_view tag) override;
  Result<delivery::LogMessage> read(TopicId topic, PartitionNumber partition, Position position) override;
  Result<Position> lowest_origin(TopicId topic, PartitionNumber partition, Position from) override;
  Result<std::uint64_t> count(TopicId topic, PartitionNumber partition, Position from, Position to) override;
  std::uint64_t produced(TopicId topic, PartitionNumber partition) const override;
  std::optional<std::int32_t> open_claim(TopicId topic, PartitionNumber partition) const override;
  Result<TopicId> make_dead_letter_topic(const std::string& name) override;
  Result<std::pair<Position, Position>> append(TopicId topic, PartitionNumber partition, std::string_view payload,
                                               std::string_view trailer) override;

 private:
  Result<spill::Partition*> partition(TopicId topic, PartitionNumber number) const;
  Position end_of(const spill::Partition& partition) const;
  Result<std::optional<delivery::LogMessage>> follow(spill::Partition& partition, const ring::RecordView& ref,
                                                     std::string_view tag) const;
  Result<std::uint64_t> walk_count(spill::Partition& partition, Position from, Position to) const;

  Bus& bus_;
};

}  // namespace sluice::bus
