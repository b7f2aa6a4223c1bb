// The control thread of a ControlClient: the connection, its loss and its return. Everything that knows KJ.
//
// Owner: ControlClient. The loop's members belong to the control thread; other threads come in through call().
//
// Invariants
//  1. There is at most one link (socket, RPC system, session) at a time; a lost one is torn down before the next is
//  made.
//  2. memory() in Shared is replaced before word_ says so, and word_ changes before on_state is called.
#pragma once

#include <sys/types.h>

#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>

#include <capnp/rpc-twoparty.h>
#include <kj/async-io.h>

#include "sdk/control_client.h"
#include "sdk/control_convert.h"
#include "sdk/protocol/control.capnp.h"
#include "shm/base/fd.h"

namespace sluice::internal {

// What other threads may ask without going to the control thread.
struct ControlClient::Shared {
  ConnectOptions options;   // constant
  bool membarrier = false;  // constant
  pid_t pid = 0;            // constant: a forked child must not touch the thread

  mutable std::mutex mutex;
  mutable std::condition_variable changed;
  // Guarded by mutex.
  ConnectionState state = ConnectionState::disconnected;
  std::optional<Error> trouble;  // why it is not online
  std::shared_ptr<SessionMemory> memory;
};

class ControlClient::Loop final : private kj::TaskSet::ErrorHandler {
 public:
  // What a call is made with: the session of the link that stands, and its memory.
  struct Target {
    protocol::Session::Client& session;
    const std::shared_ptr<SessionMemory>& memory;
  };
  struct CallOptions {
    std::string doing;                        // "creating topic orders"
    Duration timeout{};                       // 0: the options' control_timeout
    bool repeatable = true;                   // harmless if done twice
    std::optional<std::uint64_t> generation;  // conflict if memory is another one
  };

  explicit Loop(ControlClient& owner);
  ~Loop() noexcept(false);

  // Starts the thread and waits for the first hello's outcome.
  Status start();

  // Any other thread: runs start_call(Target) -> kj::Promise<Result<T>> on the control thread as soon as a link stands,
  // and waits for its result. start_call may run several times (repeatable calls that met a hang-up).
  template <typename T, typename StartCall>
  Result<T> call(const CallOptions& options, StartCall start_call);

 private:
  struct Link {
    Link(kj::Own<kj::AsyncCapabilityStream> capability_stream, std::uint64_t link_number);
    const std::uint64_t number;
    kj::Own<kj::AsyncCapabilityStream> stream;
    capnp::TwoPartyVatNetwork network;
    capnp::RpcSystem<capnp::rpc::twoparty::VatId> rpc;
    kj::Maybe<protocol::Session::Client> session;
  };

  void run();
  void serve(kj::AsyncIoContext& io);
  void taskFailed(kj::Exception&& exception) override;

  // Connects and says hello, until then.
  kj::Promise<Status> attempt(kj::TimePoint deadline);
  kj::Promise<Status> say_hello(kj::Own<Link> link);
  Status take_welcome(protocol::Welcome::Reader welcome, UniqueFd region, UniqueFd wake);
  void watch(Link& link);
  void lost();
  kj::Promise<void> reconnect(kj::Duration pause);
  void close_for_good(Error error);
  // Publishes a state: memory first, then word_, then waiters and the callback.
  void publish(ConnectionState state, std::optional<Error> trouble, std::shared_ptr<SessionMemory> memory,
               const std::string& why);

  // Resolves at the next change of the link.
  kj::Promise<void> next_change();
  void announce_change();

  template <typename T, typename StartCall>
  kj::Promise<Result<T>> attempt_call(const CallOptions& options, kj::TimePoint deadline, StartCall& start_call);
  std::optional<Error> obstacle(const CallOptions& options) const;
  Error away(const CallOptions& options) const;

  ControlClient& owner_;
  Shared& shared_;
  std::thread thread_;

  // Set by the control thread before start() returns, constant then.
  kj::Own<const kj::Executor> executor_;
  // Handover of the first hello's outcome to start().
  std::mutex start_mutex_;
  std::condition_variable started_;
  std::optional<Status> start_result_;  // guarded by start_mutex_

  // The control thread's alone.
  kj::AsyncIoContext* io_ = nullptr;
  kj::Timer* timer_ = nullptr;
  kj::Own<kj::PromiseFulfiller<void>> stop_;
  kj::Own<Link> link_;  // null while away
  std::uint64_t links_ = 0;
  std::uint64_t generation_ = 0;
  std::string token_;
  std::shared_ptr<SessionMemory> memory_;
  std::optional<Error> closed_;   // for good
  std::optional<Error> trouble_;  // why there is no link
  kj::Own<kj::PromiseFulfiller<void>> change_fulfiller_;
  kj::ForkedPromise<void> change_ = nullptr;
  kj::Own<kj::TaskSet> tasks_;
};

// Resolves with a descriptor of our own, or an error where it did not arrive.
kj::Promise<Result<UniqueFd>> take_descriptor(protocol::Descriptor::Client capability, std::string_view what);

inline kj::Duration to_kj(Duration duration) { return duration.count() * kj::NANOSECONDS; }

template <typename T, typename StartCall>
Result<T> ControlClient::Loop::call(const CallOptions& options, StartCall start_call) {
  const Duration timeout = options.timeout.count() > 0 ? options.timeout : shared_.options.control_timeout;
  try {
    return executor_->executeSync([&]() -> kj::Promise<Result<T>> {
      const kj::TimePoint deadline = timer_->now() + to_kj(timeout);
      return attempt_call<T>(options, deadline, start_call).catch_([&options](kj::Exception&& exception) -> Result<T> {
        return fail(to_error(exception, options.doing));
      });
    });
  } catch (const kj::Exception& exception) {
    return fail(to_error(exception, options.doing));
  }
}

template <typename T, typename StartCall>
kj::Promise<Result<T>> ControlClient::Loop::attempt_call(const CallOptions& options, kj::TimePoint deadline,
                                                         StartCall& start_call) {
  if (auto error = obstacle(options)) return Result<T>(fail(std::move(*error)));
  if (link_.get() == nullptr) {
    auto timed_out = timer_->atTime(deadline).then([] { return false; });
    return next_change()
        .then([] { return true; })
        .exclusiveJoin(kj::mv(timed_out))
        .then([this, &options, deadline, &start_call](bool changed) -> kj::Promise<Result<T>> {
          if (!changed) return Result<T>(fail(away(options)));
          return attempt_call<T>(options, deadline, start_call);
        });
  }
  const std::uint64_t number = link_->number;
  auto timed_out = timer_->atTime(deadline).then([&options]() -> Result<T> {
    return fail(ErrorCode::timed_out, options.doing + ": the daemon has not answered in time; it may still do it");
  });
  auto& session = KJ_ASSERT_NONNULL(link_->session);
  return kj::evalNow([&]() -> kj::Promise<Result<T>> {
           return start_call(Target{session, memory_});
         })
      .exclusiveJoin(kj::mv(timed_out))
      .catch_([this, &options, deadline, &start_call, number](kj::Exception&& exception) -> kj::Promise<Result<T>> {
        if (exception.getType() != kj::Exception::Type::DISCONNECTED) {
          return Result<T>(fail(to_error(exception, options.doing)));
        }
        if (!options.repeatable) {
          return Result<T>(fail(ErrorCode::unknown, options.doing +
                                                        ": the daemon hung up before it answered; it may or "
                                                        "may not have been done: look before you repeat it"));
        }
        // The loss may be noticed here first: then wait until it has been dealt with.
        if (link_.get() == nullptr || link_->number != number) return attempt_call<T>(options, deadline, start_call);
        return next_change().then(
            [this, &options, deadline, &start_call] { return attempt_call<T>(options, deadline, start_call); });
      });
}

}  // namespace sluice::internal
