#include "daemon/io/disk_error.h"

#include <cerrno>
#include <utility>

namespace sluice::io {

Error disk_error(int system_errno, std::string doing) {
  switch (system_errno) {
    case ENOSPC:
    case EDQUOT: doing += " (free space on that file system, or raise the quota)"; break;
    case EACCES:
    case EPERM: doing += " (the data directory must belong to the daemon's user)"; break;
    case EROFS: doing += " (mount that file system writable)"; break;
    case EMFILE:
    case ENFILE: doing += " (raise the limit of open files)"; break;
    case EIO: doing += " (the device failed: look at the kernel's log)"; break;
    case EWOULDBLOCK:
      return Error(ErrorCode::in_use,
                   doing +
                       " (another process works on it, or writes of one that died are still in flight: stop it, or "
                       "wait)",
                   system_errno);
    case ENOTEMPTY: return Error(ErrorCode::exists, doing + " (remove what is in it first)", system_errno);
    default: break;
  }
  return system_error(system_errno, std::move(doing));
}

}  // namespace sluice::io
