// A client of the test's own making: it says what a well-behaved one would not. On the test's thread.
#pragma once

#include <cstdint>
#include <string>

#include <capnp/rpc-twoparty.h>
#include <kj/async-io.h>

#include "sdk/protocol/control.capnp.h"
#include "shm/base/fd.h"
#include "shm/layout/regions.h"

namespace sluice::test {

// A connected socket that nothing was said on.
UniqueFd connect_raw(const std::string& socket);

class RawClient {
 public:
  explicit RawClient(UniqueFd socket);

  protocol::Bus::Client bus() { return client_.bootstrap().castAs<protocol::Bus>(); }
  kj::WaitScope& wait_scope() { return io_.waitScope; }
  capnp::Response<protocol::Bus::HelloResults> hello(std::uint32_t protocol_version, std::uint32_t layout_version);
  // Of a hello with this build's versions.
  protocol::Session::Client session();

 private:
  kj::AsyncIoContext io_;
  kj::Own<kj::AsyncCapabilityStream> stream_;
  capnp::TwoPartyClient client_;
};

}  // namespace sluice::test
