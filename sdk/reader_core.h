// A reader: several partitions in turn, waiting on all of them at once, through reconnects. The inside of
// sluice::Reader.
//
// Owner: one thread.
// Invariants
//  1. One partition is read at a time (current_), kTurn records at the most while others have something.
//  2. With several partitions, only the current one is pinned; before a sleep and a return without a message, none is.
//  3. The steady state (records are there) makes no system call and allocates nothing.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "sdk/bus_link.h"
#include "sdk/hold.h"
#include "sdk/partition_stream.h"
#include "sdk/wait_loop.h"
#include "shm/base/result.h"
#include "sluice/reader.h"

namespace sluice::internal {

class ReaderCore {
 public:
  static Result<std::unique_ptr<ReaderCore>> open(std::shared_ptr<BusLink> link, std::vector<std::string> topics,
                                                  ReaderOptions options);
  ~ReaderCore();

  Result<Message> next(Duration timeout);
  Result<std::size_t> poll(std::size_t count, Duration timeout, const std::function<void(const Message&)>& handler);
  Position position(std::string_view topic, PartitionNumber partition) const;
  Status seek(std::string_view topic, PartitionNumber partition, Position at);
  bool at_initial_end() const;
  const ReaderCounters& counters() const { return counters_; }

 private:
  // One topic, as it was opened in the daemon's present memory. A grant covers the partitions that were there then;
  // those added later have grants of their own.
  struct Topic {
    std::string_view name;  // in the pool
    std::vector<std::uint64_t> reader_ids;
    std::uint64_t generation = 0;       // of the memory it was opened in
    std::uint32_t partition_count = 0;  // that this reader knows of
    PartitionMapsPtr maps;              // of any partition: says how many there are by now
  };

  ReaderCore(std::shared_ptr<BusLink> link, ReaderOptions options);
  Status open_topic(Topic& topic, const std::vector<PartitionNumber>& partitions, const From& from, bool reattach);
  bool has_added_partitions(const Topic& topic) const;
  bool has_added_partitions() const;
  Status open_added_partitions();
  Status reattach();
  PartitionStream* find(std::string_view topic, PartitionNumber partition) const;

  // One turn over the partitions. `thorough`: no hints. `more`: records were passed over, call again.
  Look look(ring::RecordView& record, bool thorough);
  // Until there is a record, `timeout` has passed, or nothing can come any more.
  Status wait(ring::RecordView& record, Duration timeout);
  struct Waiting;
  // What an idle reader looks at: the connection, deleted topics, added partitions.
  Status check_surroundings();
  // `why` the topic cannot be read any more, told once; its streams go.
  Status drop_topic(const Topic& topic, const Error& why);
  bool drop_streams(std::string_view topic);
  void end_turn();
  void rest_all();
  void count(const ring::RecordView& record);
  PartitionStream& current() { return *streams_[current_]; }

  // Constant.
  const std::shared_ptr<BusLink> link_;
  const ReaderOptions options_;
  // The reader's thread. The order matters: streams use the pool and the context.
  ReaderCounters counters_;
  HoldPool::Ptr pool_ = HoldPool::make();
  StreamContext context_;
  std::vector<Topic> topics_;
  std::vector<std::unique_ptr<PartitionStream>> streams_;
  std::uint64_t generation_ = 0;  // of every topic
  bool surroundings_due_ = false;
  std::size_t current_ = 0;
  std::uint32_t turn_left_ = 0;
  std::uint32_t found_ = 0;  // records since the last look that found nothing
  WaitLoop wait_loop_;
  std::uint64_t added_retry_ns_ = 0;  // monotonic: added partitions could not be opened, not tried before
  std::optional<Error> closed_;       // every topic is gone
};

}  // namespace sluice::internal

namespace sluice {
struct Reader::Impl {
  std::unique_ptr<internal::ReaderCore> core;
};
}  // namespace sluice
