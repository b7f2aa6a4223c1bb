// Reads the messages of undecided transactions, which no reader shows: for those who are asked what became of them.
//
// Owner: one thread. What it has read points into its memory: it outlives the messages.
#pragma once

#include <memory>

#include "sdk/hold.h"
#include "sdk/partition_stream.h"
#include "sdk/reference_reader.h"
#include "sdk/transaction_link.h"
#include "sluice/message.h"
#include "sluice/reader.h"

namespace sluice::internal {

class HalfReader {
 public:
  explicit HalfReader(const std::shared_ptr<BusLink>& bus);

  // False: it cannot be read: the topic is gone or not for this client to consume, the record is damaged, or the daemon
  // is away. Waits for a moment where a half lies between memory and file.
  bool read(const HalfRef& half, Message& message);

 private:
  const ReaderOptions options_;
  ReaderCounters counters_;
  const HoldPool::Ptr pool_;
  StreamContext context_;
  ReferenceReader reader_;
};

}  // namespace sluice::internal
