#include "tests/faults/qmp.h"

#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <stdexcept>

#include "tests/crash/daemon_process.h"

namespace sluice::test {

using nlohmann::json;

Qmp::Qmp(const std::string& socket) : fd_(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (socket.size() >= sizeof address.sun_path) throw std::runtime_error("too long for a socket: " + socket);
  std::memcpy(address.sun_path, socket.c_str(), socket.size());
  const timeval patience{kHangSeconds, 0};
  ::setsockopt(fd_.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  const bool connected = wait_until(
      [&] { return ::connect(fd_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0; });
  if (!connected) throw std::runtime_error("qemu-storage-daemon does not listen on " + socket);
  read_line();  // its greeting
  execute("qmp_capabilities", json::object());
}

json Qmp::execute(const std::string& command, const json& arguments) {
  const std::string line = json{{"execute", command}, {"arguments", arguments}}.dump() + "\n";
  if (::send(fd_.get(), line.data(), line.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(line.size()))
    throw std::runtime_error("qemu-storage-daemon hung up before " + command);
  for (;;) {
    const json answer = json::parse(read_line());
    if (answer.contains("return")) return answer["return"];
    // Everything else is an event.
    if (answer.contains("error")) throw std::runtime_error(command + ": " + answer["error"].dump());
  }
}

std::string Qmp::read_line() {
  for (;;) {
    if (const std::size_t end = buffer_.find('\n'); end != std::string::npos) {
      std::string line = buffer_.substr(0, end);
      buffer_.erase(0, end + 1);
      return line;
    }
    char bytes[4096];
    const ssize_t count = ::recv(fd_.get(), bytes, sizeof bytes, 0);
    if (count <= 0) throw std::runtime_error("qemu-storage-daemon does not answer");
    buffer_.append(bytes, static_cast<std::size_t>(count));
  }
}

}  // namespace sluice::test
