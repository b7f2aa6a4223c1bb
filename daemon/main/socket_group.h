// The group whose members may connect. Thread safety: asks the system's group database.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>

#include "shm/base/result.h"

namespace sluice::daemon {

// By name or number; empty: none. invalid if the system knows no such group.
Result<std::optional<gid_t>> resolve_group(const std::string& name);

}  // namespace sluice::daemon
