// How a call of a session is made: posted to the bus thread, and answered when that has answered. The classes that hold
// the calls themselves derive from this.
//
// Owner: the control thread.
#pragma once

#include <utility>

#include "daemon/control/bus_call.h"
#include "daemon/control/connection.h"
#include "daemon/control/convert.h"
#include "daemon/control/session_rpc.h"
#include "daemon/session/bus_interface.h"
#include "sdk/protocol/control.capnp.h"
#include "shm/base/result.h"

namespace sluice::control {

class SessionCalls : public protocol::Session::Server {
 public:
  SessionCalls(Host& host, Connection& connection, SessionId id)
      : host_(host), connection_(kj::addRef(connection)), id_(id) {}

 protected:
  template <typename Context>
  static kj::Promise<void> refuse_done(Context& context, const Error& error) {
    write_failure(context.getResults().initDone().initFailure(), error);
    return kj::READY_NOW;
  }

  // Posts call(bus, session, request) and gives its answer to `answer_with`. A request that was refused, or a client
  // with too many calls, is answered at once.
  template <typename Answer, typename Request, typename Call, typename AnswerWith>
  kj::Promise<void> posted(Result<Request>& request, Call call, AnswerWith answer_with) {
    if (!request) {
      answer_with(Answer(fail(request.error())));
      return kj::READY_NOW;
    }
    auto slot = CallSlot::take(*connection_);
    if (!slot) {
      answer_with(Answer(fail(slot.error())));
      return kj::READY_NOW;
    }
    return on_bus<Answer>(host_.poster(), [id = id_, value = std::move(*request), call = std::move(call)](
                                              session::BusInterface& bus) mutable { return call(bus, id, value); })
        .then([answer_with = std::move(answer_with), slot = std::move(*slot)](Answer answer) mutable {
          answer_with(std::move(answer));
        });
  }

  // The same for a call that may answer later: call(bus, session, request, reply).
  template <typename T, typename Request, typename Call, typename AnswerWith>
  kj::Promise<void> replied(Result<Request>& request, Call call, AnswerWith answer_with) {
    if (!request) {
      answer_with(Result<T>(fail(request.error())));
      return kj::READY_NOW;
    }
    auto slot = CallSlot::take(*connection_);
    if (!slot) {
      answer_with(Result<T>(fail(slot.error())));
      return kj::READY_NOW;
    }
    return later_on_bus<T>(host_.poster(),
                           [id = id_, value = std::move(*request), call = std::move(call)](
                               session::BusInterface& bus, session::Reply<T> reply) mutable {
                             call(bus, id, value, std::move(reply));
                           })
        .then([answer_with = std::move(answer_with), slot = std::move(*slot)](Result<T> answer) mutable {
          answer_with(std::move(answer));
        });
  }

  // Answers with a Done.
  template <typename Context, typename Request, typename Call>
  kj::Promise<void> status_call(Context& context, Result<Request>& request, Call call) {
    return status_call(context, request, std::move(call), [](const Status&) {});
  }
  template <typename Context, typename Request, typename Call, typename Then>
  kj::Promise<void> status_call(Context& context, Result<Request>& request, Call call, Then then) {
    return posted<Status>(request, std::move(call), [context, then = std::move(then)](Status answer) mutable {
      write_done(context.getResults().initDone(), answer);
      then(answer);
    });
  }

  // Answers with a `response` that is a union of a result and a Failure.
  template <typename Value, typename Context, typename Request, typename Call, typename Write>
  kj::Promise<void> union_call(Context& context, Result<Request>& request, Call call, Write write) {
    return posted<Result<Value>>(request, std::move(call), [context, write](Result<Value> answer) mutable {
      auto response = context.getResults().initResponse();
      if (answer) {
        write(response, *answer);
      } else {
        write_failure(response.initFailure(), answer.error());
      }
    });
  }

  // Answers with a `response` that may carry descriptors.
  template <typename Value, typename Context, typename Request, typename Call, typename Write>
  kj::Promise<void> grant_call(Context& context, Result<Request>& request, Call call, Write write) {
    return posted<Result<Value>>(request, std::move(call),
                                 [context, write, connection = kj::addRef(*connection_)](Result<Value> answer) mutable {
                                   write(context.getResults().initResponse(), *connection, std::move(answer));
                                 });
  }

  // Answers with results that have a Failure beside them.
  template <typename Value, typename Context, typename Request, typename Call, typename Write>
  kj::Promise<void> beside_call(Context& context, Result<Request>& request, Call call, Write write) {
    return posted<Result<Value>>(request, std::move(call), [context, write](Result<Value> answer) mutable {
      if (answer) {
        write(context.getResults(), *answer);
      } else {
        write_failure(context.getResults().initFailure(), answer.error());
      }
    });
  }

  // The same without a request.
  template <typename Value, typename Context, typename Call, typename Write>
  kj::Promise<void> plain_call(Context& context, Call call, Write write) {
    struct Nothing {};
    Result<Nothing> request;
    return beside_call<Value>(
        context, request, [call](session::BusInterface& bus, SessionId id, Nothing&) { return call(bus, id); }, write);
  }

  Host& host_;

 private:
  kj::Own<Connection> connection_;
  const SessionId id_;
};

}  // namespace sluice::control
