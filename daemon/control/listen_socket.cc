#include "daemon/control/listen_socket.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <ctime>
#include <utility>

namespace sluice::control {
namespace {

constexpr int kBacklog = 1024;
constexpr mode_t kSocketMode = 0660;
constexpr mode_t kFolderMode = 0755;

std::string folder_of(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

Result<sockaddr_un> address_of(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof address.sun_path) {
    return fail(ErrorCode::invalid, "listening on the socket '" + path + "': its path has " +
                                        std::to_string(path.size()) + " bytes, 1 to " +
                                        std::to_string(sizeof address.sun_path - 1) +
                                        " are possible; choose a shorter one (--socket)");
  }
  std::memcpy(address.sun_path, path.c_str(), path.size());
  return address;
}

// The lock only orders well-meant daemons; whoever else may read the folder could hold it for ever, so it is not waited
// for longer than this.
void lock_for_a_while(int fd) {
  constexpr int kAttempts = 100;
  constexpr timespec kPause{0, 10'000'000};
  for (int i = 0; i < kAttempts && ::flock(fd, LOCK_EX | LOCK_NB) != 0; ++i) ::nanosleep(&kPause, nullptr);
}

Result<UniqueFd> new_socket() {
  UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd) return fail(system_error(errno, "making a Unix socket"));
  return fd;
}

int connect_to(int fd, const sockaddr_un& address) {
  return ::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0 ? 0 : errno;
}

// Makes way: nothing there, or a socket that nobody listens on any more.
Status clear_path(const std::string& path, const sockaddr_un& address) {
  struct stat status {};
  if (::lstat(path.c_str(), &status) != 0) {
    if (errno == ENOENT) return {};
    return fail(system_error(errno, "looking at the socket's path " + path));
  }
  if (!S_ISSOCK(status.st_mode)) {
    return fail(ErrorCode::invalid, "listening on " + path + ": a file that is no socket is in the way; move it");
  }
  SLUICE_ASSIGN(const UniqueFd probe, new_socket());
  const int error = connect_to(probe.get(), address);
  if (error == ECONNREFUSED) {
    if (::unlink(path.c_str()) == 0 || errno == ENOENT) return {};
    return fail(system_error(errno, "removing the stale socket " + path));
  }
  if (error == 0 || error == EAGAIN) {
    return fail(ErrorCode::in_use,
                "listening on " + path + ": another daemon answers there; stop it, or choose another --socket");
  }
  return fail(system_error(error, "asking whether another daemon listens on " + path));
}

}  // namespace

Result<ListenSocket> ListenSocket::listen_at(const std::string& path, std::optional<gid_t> group) {
  SLUICE_ASSIGN(const sockaddr_un address, address_of(path));
  const std::string folder = folder_of(path);
  if (::mkdir(folder.c_str(), kFolderMode) != 0 && errno != EEXIST) {
    return fail(system_error(errno, "making the folder " + folder + " for the socket"));
  }
  // Two daemons that start at once look at the path one after the other.
  const UniqueFd folder_fd(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!folder_fd) return fail(system_error(errno, "opening the socket's folder " + folder));
  lock_for_a_while(folder_fd.get());
  SLUICE_TRY(clear_path(path, address));

  ListenSocket result;
  SLUICE_ASSIGN(result.fd_, new_socket());
  if (::bind(result.fd_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    return fail(system_error(errno, "binding the socket " + path));
  }
  result.path_ = path;
  struct stat status {};
  if (::lstat(path.c_str(), &status) != 0) return fail(system_error(errno, "looking at the new socket " + path));
  result.device_ = status.st_dev;
  result.inode_ = status.st_ino;
  // Nobody can connect before listen(): mode and group are in place by then.
  if (group && ::chown(path.c_str(), static_cast<uid_t>(-1), *group) != 0) {
    return fail(system_error(errno, "giving the socket " + path + " to group " + std::to_string(*group)));
  }
  if (::chmod(path.c_str(), kSocketMode) != 0)
    return fail(system_error(errno, "setting the mode of the socket " + path));
  if (::listen(result.fd_.get(), kBacklog) != 0) return fail(system_error(errno, "listening on the socket " + path));
  return result;
}

Result<ListenSocket> ListenSocket::adopt(UniqueFd listening) {
  int domain = 0, accepts = 0;
  socklen_t size = sizeof domain;
  if (::getsockopt(listening.get(), SOL_SOCKET, SO_DOMAIN, &domain, &size) != 0) {
    return fail(system_error(errno, "taking over the listening socket"));
  }
  size = sizeof accepts;
  if (::getsockopt(listening.get(), SOL_SOCKET, SO_ACCEPTCONN, &accepts, &size) != 0) {
    return fail(system_error(errno, "taking over the listening socket"));
  }
  if (domain != AF_UNIX || accepts == 0) {
    return fail(ErrorCode::invalid,
                "taking over the listening socket: it is not a Unix stream socket that listens; "
                "check ListenStream= of the socket unit");
  }
  const int flags = ::fcntl(listening.get(), F_GETFL);
  if (flags < 0 || ::fcntl(listening.get(), F_SETFL, flags | O_NONBLOCK) != 0 ||
      ::fcntl(listening.get(), F_SETFD, FD_CLOEXEC) != 0) {
    return fail(system_error(errno, "preparing the listening socket"));
  }
  ListenSocket result;
  result.fd_ = std::move(listening);
  return result;
}

ListenSocket& ListenSocket::operator=(ListenSocket&& other) noexcept {
  if (this != &other) {
    remove_file();
    fd_ = std::move(other.fd_);
    path_ = std::exchange(other.path_, {});
    device_ = other.device_;
    inode_ = other.inode_;
  }
  return *this;
}

ListenSocket::~ListenSocket() { remove_file(); }

void ListenSocket::remove_file() {
  struct stat status {};
  if (path_.empty() || ::lstat(path_.c_str(), &status) != 0) return;
  if (status.st_dev == device_ && status.st_ino == inode_) ::unlink(path_.c_str());
}

}  // namespace sluice::control
