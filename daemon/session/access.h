// Who may connect, and who may publish to or consume from a topic. Credentials come from the kernel, never from the
// peer.
//
// Thread safety: values; resolve() asks the system's user database and may block on it.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "shm/base/result.h"

namespace sluice::session {

// The process at the other end of a socket, as the kernel saw it when it connected.
struct Peer {
  uid_t uid = 0;
  gid_t gid = 0;
  pid_t pid = 0;  // 0: in a pid namespace that is not visible from here
  std::vector<gid_t> groups;

  bool is_in(gid_t group) const;
};

// Reads uid, gid, pid (SO_PEERCRED) and supplementary groups (SO_PEERGROUPS) of a connected Unix socket's peer.
Result<Peer> peer_of(int socket_fd);

// Whose daemon this is.
struct Policy {
  uid_t owner = 0;                    // the daemon's uid
  std::optional<gid_t> socket_group;  // members may connect, too

  // Root and the owner: they may do everything.
  bool is_operator(const Peer& peer) const { return peer.uid == 0 || peer.uid == owner; }
  // permission, with whom it would let in.
  Status may_connect(const Peer& peer) const;
};

// A topic's list of "user:NAME" and "group:NAME" (or numbers), resolved.
class AccessList {
 public:
  AccessList() = default;  // empty: whoever may connect
  // invalid: not of that form; not_found: the system knows no such user or group.
  static Result<AccessList> resolve(const std::vector<std::string>& entries);
  // As resolve(), for lists from the store: names that the system no longer knows let nobody in, and are named in
  // `unknown`; a list of unknown names alone lets nobody in but the operators.
  static AccessList resolve_known(const std::vector<std::string>& entries, std::vector<std::string>& unknown);

  bool allows(const Peer& peer, const Policy& policy) const;
  // permission: "publishing to topic orders: user 1000 is not among its publishers …". `verb`: "publishing to" |
  // "consuming from".
  Status check(const Peer& peer, const Policy& policy, std::string_view verb, std::string_view topic) const;

 private:
  bool restricted_ = false;
  std::vector<uid_t> users_;
  std::vector<gid_t> groups_;
};

}  // namespace sluice::session
