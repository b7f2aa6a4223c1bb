// The Error of a failed disk operation: as system_error(), with what the operator can do about it.
#pragma once

#include <string>

#include "shm/base/result.h"

namespace sluice::io {

// `doing` names the operation and the path. ENOTEMPTY → exists, EWOULDBLOCK → in_use; the rest as system_error().
Error disk_error(int system_errno, std::string doing);

}  // namespace sluice::io
