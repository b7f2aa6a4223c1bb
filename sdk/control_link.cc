#include "sdk/control_link.h"

#include <chrono>
#include <utility>

namespace sluice::internal {
namespace {
// What is closed on the way out must not hold up its owner for long: the daemon closes it with the session anyway.
constexpr Duration kCloseTimeout = std::chrono::seconds(1);
// The reason belongs to an error that is returned anyway.
constexpr Duration kReasonTimeout = std::chrono::seconds(2);
}  // namespace

Result<std::shared_ptr<ControlLink>> ControlLink::connect(ConnectOptions options) {
  std::shared_ptr<ControlLink> link(new ControlLink());
  // The connection is destroyed with the link, so that the pointer is good as long as the control thread runs.
  options.on_state = [self = link.get(), user = std::move(options.on_state)](ConnectionState state,
                                                                             const std::string& why) {
    self->changed();
    if (user) user(state, why);
  };
  SLUICE_ASSIGN(link->control_, ControlClient::connect(std::move(options)));
  return link;
}

Result<ProducerGrant> ControlLink::open_producer(std::string_view topic, std::string_view name, const GrantSink& sink) {
  return control_->open_producer(topic, name, sink);
}

void ControlLink::close_producer(ProducerId id, std::uint64_t generation) {
  if (control_->online()) static_cast<void>(control_->close_producer(id, generation, kCloseTimeout).has_value());
}

Result<ReaderGrant> ControlLink::open_reader(std::string_view topic, const std::vector<PartitionNumber>& partitions,
                                             bool cursors, const GrantSink& sink) {
  return control_->open_reader(topic, partitions, cursors, sink);
}

Status ControlLink::close_reader(std::uint64_t id, std::uint64_t generation) {
  if (!control_->online()) return control_->health();
  return control_->close_reader(id, generation, kCloseTimeout);
}

Status ControlLink::open_partitions(std::string_view topic, bool produce, PartitionNumber first, const GrantSink& sink,
                                    Duration timeout) {
  const auto access = produce ? ControlClient::Access::produce : ControlClient::Access::consume;
  SLUICE_ASSIGN(std::vector<PartitionGrant> rest, control_->open_partitions(topic, access, first, sink, timeout));
  for (PartitionGrant& grant : rest) SLUICE_TRY(sink(std::move(grant)));
  return {};
}

Result<LocateAnswer> ControlLink::locate(TopicId topic, PartitionNumber partition, Position position, bool damaged) {
  return control_->locate(topic, partition, position, damaged);
}

Result<Position> ControlLink::seek_time(TopicId topic, PartitionNumber partition, std::uint64_t time_ns) {
  return control_->seek_time(topic, partition, time_ns);
}

Status ControlLink::report_sequences(TopicId topic, const std::vector<SequenceReport>& reports, Duration timeout) {
  return control_->report_sequences(topic, reports, timeout);
}

Result<std::string> ControlLink::gate_reason(std::string_view topic, PartitionNumber partition) {
  SLUICE_ASSIGN(const TopicInfo info, control_->describe_topic(topic, kReasonTimeout));
  for (const PartitionInfo& one : info.partitions) {
    if (one.partition == partition) return one.reason;
  }
  return std::string();
}

Result<MemberGrant> ControlLink::join_group(const JoinGroup& request) { return control_->join_group(request); }

Status ControlLink::leave_group(std::uint64_t member, std::uint64_t generation) {
  if (!control_->online()) return control_->health();
  return control_->leave_group(member, generation, kCloseTimeout);
}

Status ControlLink::close_transactor(ProducerId transactor) {
  if (!control_->online()) return control_->health();
  return control_->close_transactor(transactor, kCloseTimeout);
}

Result<std::vector<Assignment>> ControlLink::assignments(std::uint64_t member) { return control_->assignments(member); }

Result<std::vector<EpochStart>> ControlLink::group_epochs(std::string_view group, TopicId topic,
                                                          PartitionNumber partition) {
  return control_->group_epochs(group, topic, partition);
}
Status ControlLink::save_acks(std::uint64_t member, Duration timeout) { return control_->save_acks(member, timeout); }

}  // namespace sluice::internal
