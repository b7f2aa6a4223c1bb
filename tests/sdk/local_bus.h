// A bus in the same process, without a daemon or a socket: regions as the daemon makes them, handed out through
// BusLink. The test plays the daemon: it prepares, retires (to a file), syncs, cuts the connection and replaces the
// memory.
//
// Thread safety: the connection's state from any thread; what plays the daemon belongs to one thread.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "sdk/bus_link.h"
#include "shm/region/mapping.h"
#include "shm/ring/slot_manager.h"
#include "tests/sdk/local_group.h"

namespace sluice::test {

struct BusShape {
  std::uint32_t partitions = 1;
  std::uint64_t segment_size = kSegmentSizeMin;
  std::uint32_t slots = 4;
  std::uint32_t flags = layout::kTopicFlagChecksums | layout::kTopicFlagDurable;
  layout::TimeMode time_mode = layout::TimeMode::coarse;
};

class LocalBus final : public internal::BusLink {
 public:
  static constexpr const char* kTopic = "orders";
  static constexpr TopicId kTopicId{7};

  explicit LocalBus(BusShape shape);
  ~LocalBus() override;

  // ---- the daemon's part
  struct Partition;
  Partition& partition(PartitionNumber number) { return *partitions_.at(number); }
  // Prepares all that there are slots for.
  void prepare(PartitionNumber number);
  // Writes the oldest segment to the partition's file and takes it out of memory; then prepares.
  void retire(PartitionNumber number);
  void set_durable(PartitionNumber number, Position durable);
  void set_gate(PartitionNumber number, layout::Gate gate);
  void set_trimmed(PartitionNumber number, Position earliest);
  void add_fence(PartitionNumber number, ProducerId producer, Position at);
  // Where it stands; `producer`: the daemon, or who pretends to be it.
  Position append_ref(PartitionNumber number, Position reference, ProducerId producer = ProducerId(0));
  void add_partition();
  void publish_partition_count();
  // Hangs up. With `resume()` everything is as before; with `replace()` the memory is new and starts above.
  void hang_up();
  void resume();
  void replace();
  layout::ControlRegion& control(PartitionNumber number);
  layout::SessionRegion& session_region() { return *session_mapping_.at<layout::SessionRegion>(); }
  std::uint32_t pins_standing();
  const std::vector<internal::SequenceReport>& reports() const { return reports_; }
  std::uint64_t locates() const { return locates_; }
  // Grants asked for, of any kind.
  std::uint64_t opens() const { return opens_; }
  // So many readers' next grants get no answer in time.
  void refuse_reads(std::uint32_t count) { refused_reads_ = count; }
  // The bytes of the partition's file, to damage them.
  void damage_file(PartitionNumber number, Position at, std::uint8_t with);
  void read_file(PartitionNumber number, Position at, std::uint8_t& into);

  // Called for what a reader reports as damaged: true while it is not seen to.
  void set_mender(std::function<bool(Position)> mender) { mender_ = std::move(mender); }
  void quarantine(Position begin, Position end) { quarantined_[begin] = end; }

  LocalGroup& group() { return group_; }

  // ---- BusLink
  std::uint64_t word() const override { return word_.load(std::memory_order_acquire); }
  bool memory_kept() const override { return memory_kept_; }
  void set_memory_kept() { memory_kept_ = true; }
  ConnectionState state() const override;
  Status health() const override;
  Status wait_online(Duration timeout) const override;
  std::shared_ptr<internal::SessionMemory> memory() const override;
  Result<internal::ProducerGrant> open_producer(std::string_view topic, std::string_view name,
                                                const internal::GrantSink& sink) override;
  void close_producer(ProducerId, std::uint64_t) override {}
  Result<internal::ReaderGrant> open_reader(std::string_view topic, const std::vector<PartitionNumber>& partitions,
                                            bool cursors, const internal::GrantSink& sink) override;
  Status close_reader(std::uint64_t, std::uint64_t) override { return health(); }
  Status open_partitions(std::string_view topic, bool produce, PartitionNumber first, const internal::GrantSink& sink,
                         Duration timeout) override;
  Result<internal::LocateAnswer> locate(TopicId topic, PartitionNumber partition, Position position,
                                        bool damaged) override;
  Result<Position> seek_time(TopicId topic, PartitionNumber partition, std::uint64_t time_ns) override;
  Status report_sequences(TopicId topic, const std::vector<internal::SequenceReport>& reports,
                          Duration timeout) override;
  Result<std::string> gate_reason(std::string_view topic, PartitionNumber partition) override;
  Result<internal::MemberGrant> join_group(const internal::JoinGroup& request) override;
  Status leave_group(std::uint64_t member, std::uint64_t generation) override;
  Result<std::vector<internal::Assignment>> assignments(std::uint64_t member) override;
  Result<std::vector<internal::EpochStart>> group_epochs(std::string_view group, TopicId topic,
                                                         PartitionNumber partition) override;
  Status save_acks(std::uint64_t member, Duration timeout) override;

 private:
  class Pins;
  void make_session();
  static void fill_up(Partition& one, SegmentNumber segment);
  std::unique_ptr<Partition> make_partition(PartitionNumber number, Position start);
  internal::PartitionGrant grant(PartitionNumber number, bool produce);
  Position committed_end(const Partition& partition) const;

  const BusShape shape_;
  std::atomic<std::uint64_t> word_{0};
  Incarnation incarnation_{1000};
  UniqueFd session_fd_;
  region::Mapping session_mapping_;
  std::vector<std::unique_ptr<Pins>> pins_;
  mutable std::mutex mutex_;
  std::shared_ptr<internal::SessionMemory> memory_;
  std::vector<std::unique_ptr<Partition>> partitions_;
  std::vector<std::unique_ptr<Partition>> lost_;  // stay mapped, as in a daemon that was killed
  std::uint32_t next_producer_ = 1;
  std::uint64_t next_reader_ = 1;
  std::vector<internal::SequenceReport> reports_;
  std::uint64_t locates_ = 0;
  std::uint64_t opens_ = 0;
  std::uint32_t refused_reads_ = 0;
  bool memory_kept_ = false;
  std::function<bool(Position)> mender_;
  std::map<Position, Position> quarantined_;  // begin → end
  LocalGroup group_;
};

}  // namespace sluice::test
