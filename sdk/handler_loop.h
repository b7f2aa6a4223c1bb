// run(): takes messages, has them handled (on this thread, or by a pool), settles what the handler says, and renews
// ack_timeout while it runs.
//
// Owner: the thread that called run(). With a pool the consumer stays this thread's. Without one, a helper thread
// renews: it touches the consumer only while the handler runs, under a lock that this thread takes before it goes on.
#pragma once

#include <atomic>
#include <cstdint>
#include <unordered_map>

#include "sdk/consumer_core.h"
#include "sdk/handler_pool.h"

namespace sluice::internal {

class HandlerLoop {
 public:
  HandlerLoop(ConsumerCore& core, const Handler& handler, const RunOptions& options, std::atomic<bool>& stopping);
  // Until `stopping` (which it takes down), or an error. What was taken is handled to its end.
  Status run();

 private:
  class Extender;
  struct Taken {
    Delivery delivery;
    std::uint64_t lane = 0;
    std::uint64_t renew_ns = 0;  // monotonic; then its ack_timeout is renewed
  };

  bool is_stopping() const { return stopping_.load(std::memory_order_acquire); }
  Status run_inline();
  Status run_with_pool();
  // Success: go on.
  Status judge(const Error& error);
  void settle(const Delivery& delivery, const Status& result);
  void settle_finished(HandlerPool& pool);
  void renew();
  // Until the next renewal.
  Duration pause() const;

  // Constant.
  ConsumerCore& core_;
  const Handler& handler_;
  const RunOptions options_;
  std::atomic<bool>& stopping_;
  const Duration ack_timeout_;
  const std::uint64_t renew_every_ns_;
  // The thread of run().
  std::unordered_map<std::uint64_t, Taken> taken_;  // by task
  std::uint64_t last_task_ = 0;
};

}  // namespace sluice::internal
