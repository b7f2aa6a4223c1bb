// Reads records that the daemon refers to, in any partition of any topic: a stream each, opened when it is first
// needed.
//
// Owner: one ConsumerCore, on the consumer's thread. Invariant: one stream is pinned at a time, the last one read.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>
#include <unordered_map>

#include "sdk/partition_opener.h"
#include "sdk/partition_stream.h"
#include "sdk/references.h"
#include "shm/base/result.h"

namespace sluice::internal {

class ReferenceReader {
 public:
  ReferenceReader(StreamContext& context, std::shared_ptr<BusLink> link);

  enum class Read : std::uint8_t {
    expired,  // it is there, and past its time
    record,   // the view is filled, and lies under stream().hold() until the next call
    gone,     // nothing of that kind is there, and never will be
    not_now,  // ask again
    failed,   // take_error()
  };
  // `topic` lives as long as the context's pool. `open_already`: the partition's memory, if the member has it mapped.
  Read read(const Reference& reference, std::string_view topic, const PartitionMapsPtr& open_already,
            ring::RecordView& record);
  Error take_error() { return std::move(*error_); }
  // Of the last record.
  PartitionStream& stream() { return *current_; }
  // Nothing is held any more.
  void rest();
  // The memory was replaced, or nothing more is read here.
  void clear();

 private:
  struct Open {
    std::unique_ptr<PartitionStream> stream;
    ReaderHandlePtr reader;
  };
  Status open(Open& into, const Reference& reference, std::string_view topic, const PartitionMapsPtr& open_already);

  StreamContext& context_;
  const std::shared_ptr<BusLink> link_;
  std::unordered_map<std::uint64_t, Open> open_;  // topic id << 32 | partition
  std::uint64_t current_key_ = 0;
  PartitionStream* current_ = nullptr;
  std::optional<Error> error_;
};

}  // namespace sluice::internal
