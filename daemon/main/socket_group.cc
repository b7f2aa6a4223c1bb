#include "daemon/main/socket_group.h"

#include <grp.h>

#include <charconv>

namespace sluice::daemon {

Result<std::optional<gid_t>> resolve_group(const std::string& name) {
  if (name.empty()) return std::nullopt;
  if (const group* known = ::getgrnam(name.c_str()); known != nullptr) return known->gr_gid;
  gid_t number = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), number);
  if (error == std::errc() && end == name.data() + name.size()) return number;
  return fail(ErrorCode::invalid,
              "socket_group = \"" + name + "\": the system knows no such group; create it, or name another");
}

}  // namespace sluice::daemon
