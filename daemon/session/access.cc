#include "daemon/session/access.h"

#include <grp.h>
#include <pwd.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <string>

namespace sluice::session {
namespace {

constexpr std::size_t kGroupsMax = 65536;         // NGROUPS_MAX
constexpr std::size_t kLookupBufferSize = 65536;  // bytes; a group with very many members needs it

std::optional<std::uint32_t> as_number(std::string_view text) {
  std::uint32_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

std::optional<uid_t> find_user(const std::string& name) {
  if (const auto number = as_number(name)) return *number;
  std::vector<char> buffer(kLookupBufferSize);
  passwd entry{};
  passwd* found = nullptr;
  if (getpwnam_r(name.c_str(), &entry, buffer.data(), buffer.size(), &found) != 0 || found == nullptr) {
    return std::nullopt;
  }
  return found->pw_uid;
}

std::optional<gid_t> find_group(const std::string& name) {
  if (const auto number = as_number(name)) return *number;
  std::vector<char> buffer(kLookupBufferSize);
  group entry{};
  group* found = nullptr;
  if (getgrnam_r(name.c_str(), &entry, buffer.data(), buffer.size(), &found) != 0 || found == nullptr) {
    return std::nullopt;
  }
  return found->gr_gid;
}

// The supplementary groups that the system's database gives a user, for kernels without SO_PEERGROUPS.
std::vector<gid_t> database_groups(uid_t uid, gid_t gid) {
  std::vector<char> buffer(kLookupBufferSize);
  passwd entry{};
  passwd* found = nullptr;
  if (getpwuid_r(uid, &entry, buffer.data(), buffer.size(), &found) != 0 || found == nullptr) return {gid};
  std::vector<gid_t> groups(64);
  int count = static_cast<int>(groups.size());
  if (getgrouplist(found->pw_name, gid, groups.data(), &count) < 0 && count > 0) {
    groups.resize(static_cast<std::size_t>(count));
    if (getgrouplist(found->pw_name, gid, groups.data(), &count) < 0) return {gid};
  }
  groups.resize(static_cast<std::size_t>(count));
  return groups;
}

}  // namespace

bool Peer::is_in(gid_t group) const {
  return gid == group || std::find(groups.begin(), groups.end(), group) != groups.end();
}

Result<Peer> peer_of(int socket_fd) {
  ucred credentials{};
  socklen_t size = sizeof credentials;
  if (getsockopt(socket_fd, SOL_SOCKET, SO_PEERCRED, &credentials, &size) != 0) {
    return fail(system_error(errno, "asking the kernel who the peer of a control connection is"));
  }
  Peer peer{credentials.uid, credentials.gid, credentials.pid, {}};
  peer.groups.resize(64);
  for (;;) {
    auto bytes = static_cast<socklen_t>(peer.groups.size() * sizeof(gid_t));
    if (getsockopt(socket_fd, SOL_SOCKET, SO_PEERGROUPS, peer.groups.data(), &bytes) == 0) {
      peer.groups.resize(bytes / sizeof(gid_t));
      return peer;
    }
    if (errno != ERANGE || bytes / sizeof(gid_t) > kGroupsMax) break;
    peer.groups.resize(bytes / sizeof(gid_t));
  }
  peer.groups = database_groups(peer.uid, peer.gid);
  return peer;
}

Status Policy::may_connect(const Peer& peer) const {
  if (is_operator(peer) || (socket_group && peer.is_in(*socket_group))) return {};
  std::string text =
      "connecting as user " + std::to_string(peer.uid) + ": this bus belongs to user " + std::to_string(owner);
  if (socket_group) text += " and lets members of group " + std::to_string(*socket_group) + " in";
  return fail(ErrorCode::permission, text + "; ask its operator");
}

Result<AccessList> AccessList::resolve(const std::vector<std::string>& entries) {
  AccessList list;
  list.restricted_ = !entries.empty();
  for (const std::string& entry : entries) {
    const auto unknown = [&](std::string_view kind) {
      return fail(ErrorCode::not_found,
                  "access list entry '" + entry + "': the system knows no such " + std::string(kind));
    };
    if (entry.starts_with("user:")) {
      const auto user = find_user(entry.substr(5));
      if (!user) return unknown("user");
      list.users_.push_back(*user);
    } else if (entry.starts_with("group:")) {
      const auto group = find_group(entry.substr(6));
      if (!group) return unknown("group");
      list.groups_.push_back(*group);
    } else {
      return fail(ErrorCode::invalid, "access list entry '" + entry + "': write user:NAME or group:NAME");
    }
  }
  return list;
}

AccessList AccessList::resolve_known(const std::vector<std::string>& entries, std::vector<std::string>& unknown) {
  AccessList list;
  list.restricted_ = !entries.empty();
  for (const std::string& entry : entries) {
    const auto one = resolve({entry});
    if (!one) {
      unknown.push_back(entry);
      continue;
    }
    list.users_.insert(list.users_.end(), one->users_.begin(), one->users_.end());
    list.groups_.insert(list.groups_.end(), one->groups_.begin(), one->groups_.end());
  }
  return list;
}

bool AccessList::allows(const Peer& peer, const Policy& policy) const {
  if (!restricted_ || policy.is_operator(peer)) return true;
  if (std::find(users_.begin(), users_.end(), peer.uid) != users_.end()) return true;
  return std::any_of(groups_.begin(), groups_.end(), [&](gid_t group) { return peer.is_in(group); });
}

Status AccessList::check(const Peer& peer, const Policy& policy, std::string_view verb, std::string_view topic) const {
  if (allows(peer, policy)) return {};
  return fail(ErrorCode::permission, std::string(verb) + " topic " + std::string(topic) + ": user " +
                                         std::to_string(peer.uid) + " is not on the topic's list; ask its operator");
}

}  // namespace sluice::session
