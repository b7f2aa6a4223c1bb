// [[transactions.resolver]] of the configuration file.
//
// Thread safety: pure functions.
#pragma once

#include <string>
#include <vector>

#include <toml++/toml.h>

#include "daemon/core/resolver.h"
#include "shm/base/result.h"

namespace sluice::daemon {

// invalid: what is wrong, with the line where it is one table's.
Result<std::vector<core::ResolverConfig>> read_resolvers(const toml::node& value);
// One that read_resolvers() reads back.
std::string resolvers_to_toml(const std::vector<core::ResolverConfig>& resolvers);

}  // namespace sluice::daemon
