// One client's connection: who is at the other end, what it may still hold, and how it is closed.
//
// Owner: the control thread. Counted: the server holds it while the socket is open, the capabilities that were given
// out on it hold it while they live (calls outlive a hang-up).
//
// Invariants
//  1. The peer was asked from the kernel before the first byte was read.
//  2. A peer holds at most kCallsInFlightMax calls and kDescriptorsMax descriptors of the daemon at a time.
#pragma once

#include <cstdint>
#include <optional>

#include <kj/async.h>
#include <kj/refcount.h>

#include "daemon/session/bus_interface.h"
#include "sdk/protocol/control.capnp.h"
#include "shm/base/fd.h"

// Cap'n Proto's server classes are destroyed by what made them, never through a base pointer.
#pragma GCC diagnostic ignored "-Wnon-virtual-dtor"

namespace sluice::control {

inline constexpr std::uint32_t kCallsInFlightMax = 256;  // of one connection
inline constexpr std::uint32_t kDescriptorsMax = 2048;   // given to one connection and not yet released by it

class Connection final : public kj::Refcounted {
 public:
  Connection(session::Peer peer, UniqueFd pidfd, kj::Own<kj::PromiseFulfiller<void>> close)
      : peer_(std::move(peer)), pidfd_(std::move(pidfd)), close_(kj::mv(close)) {}

  const session::Peer& peer() const { return peer_; }
  // The peer's pidfd; whoever watches it takes it.
  UniqueFd take_pidfd() { return std::move(pidfd_); }

  bool said_hello() const { return said_hello_; }
  void set_said_hello() { said_hello_ = true; }
  std::optional<SessionId> session() const { return session_; }
  void set_session(SessionId id) { session_ = id; }
  bool hung_up() const { return hung_up_; }
  void set_hung_up() { hung_up_ = true; }

  // Closes the socket, soon.
  void close() { close_->fulfill(); }

 private:
  friend class CallSlot;
  friend class DescriptorServer;

  const session::Peer peer_;
  UniqueFd pidfd_;
  kj::Own<kj::PromiseFulfiller<void>> close_;
  bool said_hello_ = false;
  bool hung_up_ = false;
  std::optional<SessionId> session_;
  std::uint32_t calls_in_flight_ = 0;
  std::uint32_t descriptors_ = 0;
};

// A call that counts against its connection while this lives.
class CallSlot {
 public:
  // quota if the connection has too many calls in flight.
  static Result<CallSlot> take(Connection& connection);
  CallSlot(CallSlot&&) = default;
  CallSlot& operator=(CallSlot&&) = default;
  ~CallSlot();

 private:
  explicit CallSlot(kj::Own<Connection> connection) : connection_(kj::mv(connection)) {}
  kj::Own<Connection> connection_;
};

// A capability that carries one descriptor to the peer, and closes ours when the peer has released it.
class DescriptorServer final : public protocol::Descriptor::Server {
 public:
  DescriptorServer(Connection& connection, UniqueFd fd);
  ~DescriptorServer() noexcept(false);
  kj::Maybe<int> getFd() override { return fd_.get(); }

  // quota if the connection would hold too many with `count` more.
  static Status check_quota(const Connection& connection, std::size_t count);

 private:
  kj::Own<Connection> connection_;
  UniqueFd fd_;
};

}  // namespace sluice::control
