// The control server: accepts clients on a Unix socket and turns their calls into closures for the bus thread.
//
// Owner: main() makes it, gives it a thread (run()) and stops it (stop()). The one place in the daemon that knows KJ;
// no exception of KJ leaves it.
//
// Invariants
//  1. A peer's credentials come from the kernel, before its first byte is read.
//  2. A closed socket or an exited peer makes the bus look for the proof of death (on_peer), again and again with
//  pauses
//     from 1 ms doubling to 1 s, until the session is gone or its client is back. It decides nothing by itself.
//  3. No client makes the others wait: nothing on the control thread blocks, and what one client may hold is limited.
//
// Lifetimes: `poster` outlives run(); closures that were posted may run after run() has returned, and are then without
// effect on the server.
#pragma once

#include <sys/types.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "daemon/session/access.h"
#include "daemon/session/bus_interface.h"
#include "shm/base/fd.h"
#include "shm/base/result.h"
#include "shm/base/types.h"

namespace sluice::control {

struct ServerOptions {
  std::string socket;                 // path; ignored if `listening` is given
  std::optional<gid_t> socket_group;  // the socket's group: its members may connect
  UniqueFd listening;                 // a socket that listens already: socket activation, keeper
  uid_t owner = 0;                    // whose daemon this is
};

class Server {
 public:
  // Listens; clients wait in the backlog until run(). in_use · permission · invalid with the path and what to do.
  static Result<std::unique_ptr<Server>> listen(ServerOptions options, session::BusPoster& poster);
  ~Server();

  // Serves until stop(). Called once, on a thread of its own. An error means that the event loop could not be set up.
  Status run();

  // Closes all connections and makes run() return; the socket's file goes. Any thread; before or after run(), too.
  void stop();
  // Closes the session's connection (the bus has ended it). Any thread.
  void end_session(SessionId session);

  // Sessions of the daemon before, which are expected to come back. Before run().
  void await_sessions(std::vector<SessionId> sessions);
  // For a keeper or service manager that shall hold it: its file is then left where it is. Before run().
  int share_listening_fd();

 private:
  struct Shared;
  explicit Server(std::unique_ptr<Shared> shared);
  std::unique_ptr<Shared> shared_;
};

}  // namespace sluice::control
