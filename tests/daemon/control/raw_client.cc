#include "tests/daemon/control/raw_client.h"

#include <sys/socket.h>
#include <sys/un.h>

#include <cerrno>
#include <system_error>
#include <utility>

namespace sluice::test {

UniqueFd connect_raw(const std::string& socket) {
  UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  socket.copy(address.sun_path, sizeof address.sun_path - 1);
  if (::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0)
    throw std::system_error(errno, std::generic_category(), "connecting to " + socket);
  return fd;
}

RawClient::RawClient(UniqueFd socket)
    : io_(kj::setupAsyncIo()),
      stream_(io_.lowLevelProvider->wrapUnixSocketFd(socket.release(), kj::LowLevelAsyncIoProvider::TAKE_OWNERSHIP)),
      client_(*stream_, 16) {}

capnp::Response<protocol::Bus::HelloResults> RawClient::hello(std::uint32_t protocol_version,
                                                              std::uint32_t layout_version) {
  auto request = bus().helloRequest();
  request.getRequest().setProtocolVersion(protocol_version);
  request.getRequest().setLayoutVersion(layout_version);
  return request.send().wait(io_.waitScope);
}

protocol::Session::Client RawClient::session() {
  return hello(protocol::PROTOCOL_VERSION, layout::kRegionVersion).getResponse().getWelcome().getSession();
}

}  // namespace sluice::test
