// What transactions need of topics, partitions and sessions, as an interface: the bus in the daemon, simple ones in
// tests.
//
// Thread safety: all of it is used on the bus thread alone.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/core/delivery_types.h"
#include "daemon/session/session.h"
#include "daemon/session/transaction_interface.h"
#include "daemon/store/group_store.h"
#include "shm/base/result.h"
#include "shm/base/types.h"

namespace sluice::transactions {

class Host {
 public:
  virtual ~Host() = default;

  virtual Result<session::Session*> live(SessionId session) const = 0;
  virtual Status require_operator(const session::Session& session, std::string_view doing) const = 0;
  virtual Status may_publish(const session::Peer& peer, TopicId topic) const = 0;
  // An id that nobody had before.
  virtual Result<ProducerId> new_id() = 0;
  // Given by an earlier daemon.
  virtual bool is_former(ProducerId id) const = 0;
  // Given before this memory began: whoever had it attaches anew, if it lives.
  virtual bool may_return(ProducerId id) const = 0;
  // Beside its session, for the daemon that goes on with this memory (Transactions::transactor_kept).
  virtual Status keep_transactor(SessionId session, ProducerId id, const std::string& group) = 0;
  virtual void drop_transactor(SessionId session, ProducerId id) = 0;

  virtual std::optional<std::string> topic_name(TopicId topic) const = 0;
  // Everything below is on stable storage; nothing if the partition is gone, or its disk has failed.
  virtual std::optional<Position> durable(const core::Place& place) const = 0;
  virtual void flush(const core::Place& place) = 0;
  // Acks that a decision includes, as delivery::Delivery has them.
  virtual Status check_acks(const session::AckSet& acks) = 0;
  virtual Result<std::vector<store::GroupSave>> take_acks(const std::vector<const session::AckSet*>& all) = 0;
  virtual void apply_acks(const session::AckSet& acks) = 0;
  virtual void acks_failed(const std::vector<store::GroupSave>& saves) = 0;
  // A decision that the store has. False: no open half stands there.
  virtual bool decide(const core::Place& place, Position half, bool commit, std::uint64_t order) = 0;
};

}  // namespace sluice::transactions
