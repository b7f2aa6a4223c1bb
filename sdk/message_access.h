// How a reader fills a Message: the one door to its private members.
#pragma once

#include "sdk/hold.h"
#include "shm/ring/scanner.h"
#include "sluice/message.h"

namespace sluice::internal {

struct MessageAccess {
  // Points `message` at a record that lies under `hold`; its bytes stand at `origin`. Takes a reference of its own only
  // if the hold changes.
  static void set(Message& message, Hold* hold, std::string_view topic, PartitionNumber partition,
                  const ring::RecordView& record, Position origin) {
    if (message.hold_ != hold) {
      retain(hold);
      release(message.hold_);
      message.hold_ = hold;
    }
    message.payload_ = record.payload.data();
    message.payload_size_ = record.payload.size();
    message.trailer_ = record.trailer;
    message.topic_ = topic;
    message.partition_ = partition;
    message.producer_ = record.fields.claim.producer();
    message.position_ = record.position;
    message.origin_ = origin;
    message.sequence_ = record.fields.sequence;
    message.time_ns_ = record.fields.time_ns;
  }
};

}  // namespace sluice::internal
