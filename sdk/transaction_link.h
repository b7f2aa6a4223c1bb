// What transactional producers ask of the control channel. As BusLink: over a connection, or a bus in the same process.
//
// Thread safety: every member may be called from any thread.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "shm/base/result.h"
#include "shm/base/transaction_id.h"
#include "shm/base/types.h"
#include "sluice/producer.h"

namespace sluice::internal {

struct HalfRef {
  std::string topic;
  TopicId topic_id;
  PartitionNumber partition = 0;
  Position position;
};
// A message in a consumer's hands, as its outcome would name it.
struct TransactionAck {
  std::uint64_t member = 0;
  bool by_slot = false;
  std::uint32_t index = 0;       // of the slot or cell
  std::uint32_t generation = 0;  // by cell: lower half
  std::uint64_t target = 0;      // by slot: stamp; by cell: position
  Position end;                  // by cell: of the record
};
struct ResolveRequest {
  ProducerId transactor;
  TransactionId transaction;
  bool commit = false;
  std::vector<HalfRef> halves;
  std::vector<TransactionAck> acks;
};
struct Resolution {
  bool commit = false;
  bool was_decided = false;
};
struct CheckRequest {
  TransactionId transaction;  // 0: nothing is to be checked, ask again
  std::uint64_t serial = 0;
  std::vector<HalfRef> halves;
};

class TransactionLink {
 public:
  virtual ~TransactionLink() = default;

  virtual Result<ProducerId> open_transactor(std::string_view group, ProducerId former) = 0;
  virtual Status close_transactor(ProducerId transactor) = 0;
  virtual Result<Resolution> resolve(const ResolveRequest& request, Duration timeout) = 0;
  // Waits in the daemon. unknown: the connection was lost meanwhile.
  virtual Result<CheckRequest> take_check(ProducerId transactor) = 0;
  virtual Status answer_check(ProducerId transactor, TransactionId transaction, std::uint64_t serial,
                              Verdict verdict) = 0;
};

}  // namespace sluice::internal
