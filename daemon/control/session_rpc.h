// The capabilities that clients call: Bus (bootstrap, hello) and Session. Each call is checked for form, posted to the
// bus thread, and answered when that has answered.
//
// Owner: the control thread; a capability lives until its client has released it or hung up and its last call is done.
#pragma once

#include "daemon/control/connection.h"
#include "daemon/session/bus_interface.h"
#include "sdk/protocol/control.capnp.h"

namespace sluice::control {

// What the capabilities need of the server. Outlives them.
class Host {
 public:
  virtual ~Host() noexcept(false) = default;
  virtual session::BusPoster& poster() = 0;
  virtual const session::Policy& policy() const = 0;
  // This connection is now the session's: its hang-up and its peer's exit are watched.
  virtual void attached(Connection& connection, SessionId session) = 0;
  // Until the descriptor is readable or at its end; an error after a while.
  virtual kj::Promise<void> readable(UniqueFd fd) = 0;
  // The session was ended: close its connection.
  virtual void ended(SessionId session) = 0;
};

// The bootstrap capability of a connection.
protocol::Bus::Client make_bus_capability(Host& host, Connection& connection);

}  // namespace sluice::control
