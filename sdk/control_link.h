// BusLink and TransactionLink over a connection to sluiced.
//
// Owner: shared by a Client and its producers and readers; the last of them ends the connection.
// Thread safety: every member from any thread.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "sdk/bus_link.h"
#include "sdk/control_client.h"
#include "sdk/transaction_link.h"

namespace sluice::internal {

class ControlLink final : public BusLink, public TransactionLink {
 public:
  // As ControlClient::connect(); `options.socket` must be given.
  static Result<std::shared_ptr<ControlLink>> connect(ConnectOptions options);

  ControlClient& control() const { return *control_; }

  std::uint64_t word() const override { return control_->word(); }
  bool memory_kept() const override { return control_->memory_kept(); }
  ConnectionState state() const override { return control_->state(); }
  Status health() const override { return control_->health(); }
  Status wait_online(Duration timeout) const override { return control_->wait_online(timeout); }
  std::shared_ptr<SessionMemory> memory() const override { return control_->memory(); }
  Result<ProducerGrant> open_producer(std::string_view topic, std::string_view name, const GrantSink& sink) override;
  void close_producer(ProducerId id, std::uint64_t generation) override;
  Result<ReaderGrant> open_reader(std::string_view topic, const std::vector<PartitionNumber>& partitions, bool cursors,
                                  const GrantSink& sink) override;
  Status close_reader(std::uint64_t id, std::uint64_t generation) override;
  Status open_partitions(std::string_view topic, bool produce, PartitionNumber first, const GrantSink& sink,
                         Duration timeout) override;
  Result<LocateAnswer> locate(TopicId topic, PartitionNumber partition, Position position, bool damaged) override;
  Result<Position> seek_time(TopicId topic, PartitionNumber partition, std::uint64_t time_ns) override;
  Status report_sequences(TopicId topic, const std::vector<SequenceReport>& reports, Duration timeout) override;
  Result<std::string> gate_reason(std::string_view topic, PartitionNumber partition) override;
  Result<MemberGrant> join_group(const JoinGroup& request) override;
  Status leave_group(std::uint64_t member, std::uint64_t generation) override;
  Result<std::vector<Assignment>> assignments(std::uint64_t member) override;
  Result<std::vector<EpochStart>> group_epochs(std::string_view group, TopicId topic,
                                               PartitionNumber partition) override;
  Status save_acks(std::uint64_t member, Duration timeout) override;

  // ---- TransactionLink
  Result<ProducerId> open_transactor(std::string_view group, ProducerId former) override {
    return control_->open_transactor(group, former);
  }
  Status close_transactor(ProducerId transactor) override;
  Result<Resolution> resolve(const ResolveRequest& request, Duration timeout) override {
    return control_->resolve(request, timeout);
  }
  Result<CheckRequest> take_check(ProducerId transactor) override { return control_->take_check(transactor); }
  Status answer_check(ProducerId transactor, TransactionId transaction, std::uint64_t serial,
                      Verdict verdict) override {
    return control_->answer_check(transactor, transaction, serial, verdict);
  }

 private:
  ControlLink() = default;

  std::unique_ptr<ControlClient> control_;
};

}  // namespace sluice::internal
