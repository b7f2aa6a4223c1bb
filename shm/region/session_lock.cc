#include "shm/region/session_lock.h"

#include <sys/file.h>

#include <cerrno>
#include <string>

#include "shm/region/memfd.h"

namespace sluice::region {
namespace {

int lock(int fd, int operation) {
  while (::flock(fd, operation) != 0) {
    if (errno != EINTR) return errno;
  }
  return 0;
}

}  // namespace

Result<UniqueFd> open_locked(int session_memfd, std::string_view what) {
  SLUICE_ASSIGN(UniqueFd fresh, reopen_read_write(session_memfd, what));
  if (const int error = lock(fresh.get(), LOCK_SH | LOCK_NB); error != 0) {
    return fail(system_error(error, "locking " + std::string(what)));
  }
  return fresh;
}

Result<bool> proven_dead(int probe, std::string_view what) {
  const int error = lock(probe, LOCK_EX | LOCK_NB);
  if (error == EWOULDBLOCK) return false;
  if (error != 0) return fail(system_error(error, "asking for the lock of " + std::string(what)));
  // Nobody can take it again: a lock is only ever taken before its description is handed out.
  lock(probe, LOCK_UN);
  return true;
}

}  // namespace sluice::region
