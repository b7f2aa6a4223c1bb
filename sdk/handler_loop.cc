#include "sdk/handler_loop.h"

#include <pthread.h>

#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "sdk/partitioner.h"
#include "shm/base/clock.h"
#include "shm/base/limits.h"

namespace sluice::internal {
namespace {

// Messages taken for each handler that may run: one runs, one waits.
constexpr std::uint32_t kTakenPerHandler = 2;
constexpr Duration kWait = std::chrono::seconds(1);

std::uint64_t lane_of(const Message& message) {
  const std::string_view key = message.key();
  const std::uint64_t place = key_hash(message.topic()) + message.partition();
  return key.data() == nullptr || key.empty() ? place : place ^ key_hash(key);
}

Duration or_default(const std::optional<Duration>& timeout, std::uint64_t default_ns) {
  return timeout.value_or(Duration(static_cast<Duration::rep>(default_ns)));
}

}  // namespace

// Renews what the calling thread handles. A message that is seen at two ticks is renewed at the second: within
// ack_timeout / 3.
class HandlerLoop::Extender {
 public:
  explicit Extender(HandlerLoop& loop) : loop_(loop), thread_([this] { work(); }) {}
  ~Extender() {
    {
      const std::lock_guard lock(mutex_);
      ended_ = true;
    }
    ended_cv_.notify_one();
    thread_.join();
  }

  // While it lives, the delivery is renewed. Without an extender it does nothing.
  class Handling {
   public:
    Handling(Extender* extender, const Delivery& delivery) : extender_(extender) { set(&delivery); }
    ~Handling() { set(nullptr); }
    Handling(const Handling&) = delete;
    Handling& operator=(const Handling&) = delete;

   private:
    void set(const Delivery* delivery) {
      if (extender_ == nullptr) return;
      const std::lock_guard lock(extender_->mutex_);
      extender_->current_ = delivery;
      ++extender_->number_;
    }
    Extender* const extender_;
  };

 private:
  void work() {
    ::pthread_setname_np(::pthread_self(), "sluice-extend");
    const auto tick = std::chrono::nanoseconds(loop_.renew_every_ns_ / 2);
    std::uint64_t seen = 0;
    std::unique_lock lock(mutex_);
    while (!ended_cv_.wait_for(lock, tick, [this] { return ended_; })) {
      if (current_ == nullptr) continue;
      // Refused: it is another's by now, and its outcome will say so.
      if (std::exchange(seen, number_) == number_)
        static_cast<void>(loop_.core_.extend(*current_, loop_.ack_timeout_).has_value());
    }
  }

  HandlerLoop& loop_;
  // Shared, under mutex_; with current_ set, so is the consumer.
  std::mutex mutex_;
  std::condition_variable ended_cv_;
  const Delivery* current_ = nullptr;
  std::uint64_t number_ = 0;
  bool ended_ = false;
  std::thread thread_;  // last: it uses all of it
};

HandlerLoop::HandlerLoop(ConsumerCore& core, const Handler& handler, const RunOptions& options,
                         std::atomic<bool>& stopping)
    : core_(core),
      handler_(handler),
      options_(options),
      stopping_(stopping),
      ack_timeout_(or_default(core.group().ack_timeout, kAckTimeoutNsDefault)),
      renew_every_ns_(std::max<std::uint64_t>(
          1'000'000,
          nanoseconds(std::min(ack_timeout_, or_default(core.group().member_timeout, kMemberTimeoutNsDefault))) / 3)) {}

Status HandlerLoop::run() {
  core_.set_interruptible(true);
  Status status = options_.concurrency <= 1 ? run_inline() : run_with_pool();
  core_.set_interruptible(false);
  stopping_.store(false, std::memory_order_relaxed);
  return status;
}

Status HandlerLoop::judge(const Error& error) {
  switch (error.code()) {
    case ErrorCode::timed_out: return {};
    case ErrorCode::would_block: core_.take_interrupt(); return {};
    case ErrorCode::no_daemon:
      if (core_.may_come_back()) return {};
      break;
    default: break;
  }
  return fail(error);
}

void HandlerLoop::settle(const Delivery& delivery, const Status& result) {
  for (;;) {
    Status settled;
    if (result)
      settled = core_.ack(delivery);
    else if (result.error().code() == ErrorCode::invalid)
      settled = core_.reject(delivery, result.error().message());
    else
      settled = core_.nack(delivery, Duration(-1), result.error().message());
    // No room: the daemon is away or slow. What is refused is another's by now, and counted.
    if (settled || settled.error().code() != ErrorCode::would_block || is_stopping()) return;
  }
}

Status HandlerLoop::run_inline() {
  std::optional<Extender> extender;
  if (options_.auto_extend) extender.emplace(*this);
  while (!is_stopping()) {
    auto delivery = core_.next(kWait);
    if (!delivery) {
      SLUICE_TRY(judge(delivery.error()));
      continue;
    }
    const Status result = [&] {
      const Extender::Handling handling(extender ? &*extender : nullptr, *delivery);
      return handler_(*delivery);
    }();
    settle(*delivery, result);
  }
  return {};
}

Status HandlerLoop::run_with_pool() {
  const Strict strict = core_.group().strict;
  core_.set_one_per_partition(strict == Strict::partition);
  HandlerPool pool(options_.concurrency, handler_, strict == Strict::key, [this] { core_.interrupt(); });
  const std::size_t taken_max = std::size_t{options_.concurrency} * kTakenPerHandler;
  Status status;
  while (status && !is_stopping()) {
    if (taken_.size() >= taken_max) {
      status = core_.tend(pause());
    } else {
      auto taken = core_.poll(taken_max - taken_.size(), pause(), [&](const Delivery& delivery) {
        const std::uint64_t lane = lane_of(delivery.message());
        taken_.emplace(++last_task_, Taken{delivery, lane, monotonic_coarse_ns() + renew_every_ns_});
        pool.submit(last_task_, lane, delivery);
      });
      if (!taken) status = judge(taken.error());
    }
    settle_finished(pool);
    renew();
  }
  while (!taken_.empty()) {
    // An error was returned before, or is met by the next call; what runs is waited for all the same.
    static_cast<void>(core_.tend(pause()).has_value());
    settle_finished(pool);
    renew();
  }
  core_.set_one_per_partition(false);
  return status;
}

void HandlerLoop::settle_finished(HandlerPool& pool) {
  for (const HandlerPool::Finished& one : pool.take_finished()) {
    const auto task = taken_.find(one.task);
    const Taken taken = std::move(task->second);
    taken_.erase(task);
    settle(taken.delivery, one.result);
    if (one.result) continue;
    // Strict by key: what is behind it waits for the daemon to hand it out again.
    for (const std::uint64_t queued : pool.take_failed_lane(taken.lane)) {
      const auto behind = taken_.find(queued);
      static_cast<void>(core_.defer(behind->second.delivery).has_value());
      taken_.erase(behind);
    }
  }
}

void HandlerLoop::renew() {
  if (!options_.auto_extend) return;
  const std::uint64_t now = monotonic_coarse_ns();
  for (auto& [number, taken] : taken_) {
    if (now < taken.renew_ns) continue;
    taken.renew_ns = now + renew_every_ns_;
    static_cast<void>(core_.extend(taken.delivery, ack_timeout_).has_value());
  }
}

Duration HandlerLoop::pause() const {
  if (taken_.empty() || !options_.auto_extend) return kWait;
  std::uint64_t due = ~std::uint64_t{0};
  for (const auto& [number, taken] : taken_) due = std::min(due, taken.renew_ns);
  const std::uint64_t now = monotonic_coarse_ns();
  const std::uint64_t wait_ns = due <= now ? 0 : due - now;
  return std::clamp(Duration(static_cast<Duration::rep>(std::min<std::uint64_t>(wait_ns, nanoseconds(kWait)))),
                    Duration(std::chrono::milliseconds(1)), kWait);
}

}  // namespace sluice::internal
