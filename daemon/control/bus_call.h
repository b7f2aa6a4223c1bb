// A call to the bus thread as a promise of the control thread.
#pragma once

#include <functional>
#include <memory>
#include <utility>

#include <kj/async.h>

#include "daemon/session/bus_interface.h"
#include "shm/base/result.h"

namespace sluice::control {

// Runs call(bus) on the bus thread; its answer (a Result or Status) comes back to this thread's event loop. would_block
// if the bus's inbox is full or the bus has stopped. The answer of a call whose promise was dropped is dropped too,
// descriptors and all.
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
  if (!posted) {
    return Answer(
        fail(ErrorCode::would_block, "passing a call to the bus: its inbox is full, or it is stopping; try again"));
  }
  return kj::mv(promise);
}

}  // namespace sluice::control
