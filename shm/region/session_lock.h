// The proof of life: a shared flock on a description of the session memfd that only the client's mapping keeps open.
//
// The daemon opens the session memfd anew, takes flock(LOCK_SH) on that description and hands it over. The client maps
// it and closes the descriptor; the daemon closes its copy once it was sent. From then on the lock lives exactly as
// long as the client's mapping: it is free once the process has died or exec'ed, and not when it is stopped or has
// closed its sockets. It works across pid namespaces and needs no process id.
//
// Owner: the bus thread.
// Invariant: whoever still holds the handed-out description (the daemon's own copy, a message in flight) makes the
// client look alive, never dead: proven_dead() errs towards life.
#pragma once

#include <string_view>

#include "shm/base/fd.h"
#include "shm/base/result.h"

namespace sluice::region {

// A new read-write description of the session memfd that holds the lock, to be handed to the client.
Result<UniqueFd> open_locked(int session_memfd, std::string_view what);

// True if nobody holds the lock any more: the client is dead, for good. `probe` is another description of the memfd
// (the daemon's own); nothing stays locked.
Result<bool> proven_dead(int probe, std::string_view what);

}  // namespace sluice::region
