// The Unix socket that clients connect to: made, checked against another daemon's, and taken away again.
//
// Guarantee: when listen_at() returns a socket, its file has its final mode and group, and no other daemon answered
// on the path. A file that is no socket is never touched.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <utility>

#include "shm/base/fd.h"
#include "shm/base/result.h"

namespace sluice::control {

class ListenSocket {
 public:
  ListenSocket() = default;
  // Binds and listens. A stale socket file is replaced; the last folder of the path is made if it is missing.
  // in_use (another daemon answers there) · invalid (path too long, no socket) · permission.
  static Result<ListenSocket> listen_at(const std::string& path, std::optional<gid_t> group);
  // Takes over a socket that somebody else has bound and listens on (socket activation, keeper). invalid if it is none.
  static Result<ListenSocket> adopt(UniqueFd listening);

  ListenSocket(ListenSocket&& other) noexcept { *this = std::move(other); }
  ListenSocket& operator=(ListenSocket&& other) noexcept;
  // Somebody else holds the socket as well: its file stays.
  void leave_file() { path_.clear(); }
  // Removes the socket's file if it was made here and is still the same.
  ~ListenSocket();

  int fd() const { return fd_.get(); }

 private:
  void remove_file();

  UniqueFd fd_;
  std::string path_;  // empty if adopted
  dev_t device_ = 0;
  ino_t inode_ = 0;
};

}  // namespace sluice::control
