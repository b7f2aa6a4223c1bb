// A call to the bus thread as a promise of the control thread.
#pragma once

#include <functional>
#include <memory>
#include <utility>

#include <kj/async.h>

#include "daemon/session/bus_interface.h"
#include "shm/base/result.h"

namespace sluice::control {

// What comes of a call that was posted, or was not.
template <typename Answer>
kj::Promise<Answer> answer_of(session::BusPoster& poster, bool posted, kj::Promise<Answer> promise) {
  if (!posted && !poster.has_ended())
    return Answer(fail(ErrorCode::would_block, "passing a call to the bus: its inbox is full; try again"));
  if (!posted) return kj::NEVER_DONE;
  return promise.catch_([&poster](kj::Exception&& exception) -> kj::Promise<Answer> {
    if (poster.has_ended()) return kj::NEVER_DONE;
    return kj::mv(exception);
  });
}

// Runs call(bus) on the bus thread; its answer (a Result or Status) comes back to this thread's event loop. would_block
// if the bus's inbox is full. A bus that has ended answers nothing: the client sees the hang-up, and asks the next
// daemon. The answer of a call whose promise was dropped is dropped too, descriptors and all.
template <typename Answer, typename Call>
kj::Promise<Answer> on_bus(session::BusPoster& poster, Call call) {
  using Fulfiller = kj::Own<kj::CrossThreadPromiseFulfiller<Answer>>;
  auto [promise, fulfiller] = kj::newPromiseAndCrossThreadFulfiller<Answer>();
  // shared: a std::function can be copied, a fulfiller and a descriptor cannot.
  auto shared = std::make_shared<std::pair<Fulfiller, Call>>(kj::mv(fulfiller), std::move(call));
  const bool posted = poster.post([shared](session::BusInterface& bus) {
    try {
      shared->first->fulfill(shared->second(bus));
    } catch (const std::exception& exception) {
      shared->first->fulfill(fail(ErrorCode::internal, std::string("a control call failed: ") + exception.what()));
    }
  });
  return answer_of<Answer>(poster, posted, kj::mv(promise));
}

// The same for a call that may answer later: call(bus, reply).
template <typename T, typename Call>
kj::Promise<Result<T>> later_on_bus(session::BusPoster& poster, Call call) {
  using Answer = Result<T>;
  using Fulfiller = kj::Own<kj::CrossThreadPromiseFulfiller<Answer>>;
  auto [promise, fulfiller] = kj::newPromiseAndCrossThreadFulfiller<Answer>();
  auto shared = std::make_shared<std::pair<Fulfiller, Call>>(kj::mv(fulfiller), std::move(call));
  const bool posted = poster.post([shared](session::BusInterface& bus) {
    try {
      shared->second(bus, session::Reply<T>([shared](Answer answer) { shared->first->fulfill(std::move(answer)); }));
    } catch (const std::exception& exception) {
      shared->first->fulfill(fail(ErrorCode::internal, std::string("a control call failed: ") + exception.what()));
    }
  });
  return answer_of<Answer>(poster, posted, kj::mv(promise));
}

}  // namespace sluice::control
