#include "daemon/control/server.h"

#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <map>
#include <mutex>
#include <vector>

#include <capnp/rpc-twoparty.h>
#include <kj/async-io.h>
#include <kj/async-unix.h>
#include <spdlog/spdlog.h>

#include "daemon/control/bus_call.h"
#include "daemon/control/connection.h"
#include "daemon/control/convert.h"
#include "daemon/control/guarded_stream.h"
#include "daemon/control/listen_socket.h"
#include "daemon/control/session_rpc.h"
#include "shm/base/limits.h"

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77
#endif

namespace sluice::control {
namespace {

// More than sessions: those that come back stand beside their old connection for a moment, strangers are refused.
constexpr std::size_t kConnectionsMax = kSessionsMax + 256;
constexpr auto kHelloTimeout = 10 * kj::SECONDS;
constexpr auto kKeeperTimeout = 10 * kj::SECONDS;      // until it holds a descriptor
constexpr auto kAcceptPause = 100 * kj::MILLISECONDS;  // out of descriptors
constexpr auto kLookPauseMin = 1 * kj::MILLISECONDS;
constexpr auto kLookPauseMax = 1 * kj::SECONDS;
// A client's message; the largest legitimate one names every partition of a topic.
constexpr std::uint64_t kMessageWordsMax =
    640 * 1024;  // the largest: a transaction with all halves and acks it may have
// Answers that wait until a client reads them, and their bytes. Beyond it the client is hung up on. (KJ chains a
// promise to each that waits, and takes the chain down by recursion: a few thousand are more than a thread's stack
// holds.)
constexpr std::size_t kUnreadAnswersMax = 4 * kCallsInFlightMax;
constexpr std::size_t kUnreadBytesMax = 32 << 20;
// Clients send no descriptors. One must be allowed, or none is sent either.
constexpr unsigned kDescriptorsPerMessageFromClients = 1;

// A descriptor that tells of the peer's exit; none if the kernel cannot say.
UniqueFd peer_pidfd(int socket_fd, pid_t pid) {
  int fd = -1;
  socklen_t size = sizeof fd;
  if (::getsockopt(socket_fd, SOL_SOCKET, SO_PEERPIDFD, &fd, &size) == 0) return UniqueFd(fd);
  // An older kernel: the number may be another process's by now; a wrong exit makes the bus look, no more.
  if (pid > 0) return UniqueFd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  return {};
}

// A session whose client is being watched: by its socket, by its process, or by looking again and again.
struct Watch {
  kj::Maybe<Connection&> connection;  // null while hung up
  bool exited = false;
  bool looking = false;  // a look is scheduled or under way
  UniqueFd pidfd;
  kj::Own<kj::UnixEventPort::FdObserver> observer;
  kj::Promise<void> exit_task = nullptr;
};

// The event loop's side of the server: lives within run(), on the control thread.
class Loop final : public Host, private kj::TaskSet::ErrorHandler {
 public:
  Loop(kj::AsyncIoContext& io, int listening, session::BusPoster& poster, session::Policy policy)
      : io_(io),
        timer_(io.provider->getTimer()),
        listening_(listening),
        listen_observer_(io.unixEventPort, listening, kj::UnixEventPort::FdObserver::OBSERVE_READ),
        poster_(poster),
        policy_(std::move(policy)),
        tasks_(*this) {
    tasks_.add(accept_loop());
  }

  session::BusPoster& poster() override { return poster_; }
  const session::Policy& policy() const override { return policy_; }

  void attached(Connection& connection, SessionId id) override {
    connection.set_session(id);
    Watch& watch = watches_[id];
    KJ_IF_MAYBE (old, watch.connection) {
      if (old != &connection) old->close();  // it came back on another socket before the first one's hang-up was seen
    }
    watch.connection = connection;
    watch.exited = false;
    watch_exit(id, watch, connection.take_pidfd());
    if (connection.hung_up()) detached(connection);  // it went while the bus was attaching it
  }

  kj::Promise<void> readable(UniqueFd fd) override {
    struct Waiting {
      Waiting(kj::UnixEventPort& port, UniqueFd its_fd)
          : fd(std::move(its_fd)), observer(port, fd.get(), kj::UnixEventPort::FdObserver::OBSERVE_READ) {}
      UniqueFd fd;
      kj::UnixEventPort::FdObserver observer;
    };
    auto waiting = kj::heap<Waiting>(io_.unixEventPort, std::move(fd));
    auto ready = waiting->observer.whenBecomesReadable().attach(kj::mv(waiting));
    return timer_.timeoutAfter(kKeeperTimeout, kj::mv(ready));
  }

  // A session of the daemon before, that has not come back yet: looked at until it does, or is dead.
  void await(SessionId id) {
    watches_[id];
    look(id, session::PeerEvent::look, kLookPauseMin);
  }

  void ended(SessionId id) override {
    const auto found = watches_.find(id);
    if (found == watches_.end()) return;
    KJ_IF_MAYBE (connection, found->second.connection) {
      connection->close();
    }
  }

 private:
  struct Served {
    Served(kj::Own<kj::AsyncCapabilityStream> capability_stream, kj::Own<Connection> its_connection, Host& host)
        : connection(kj::mv(its_connection)),
          stream(kj::mv(capability_stream)),
          network(stream, kDescriptorsPerMessageFromClients, capnp::rpc::twoparty::Side::SERVER, options()),
          rpc(capnp::makeRpcServer(network, make_bus_capability(host, *connection))) {
      stream.guard([this] { return reads_its_answers(); });
    }

    bool reads_its_answers() {
      const std::size_t answers = network.getCurrentQueueCount(), bytes = network.getCurrentQueueSize();
      if (answers <= kUnreadAnswersMax && bytes <= kUnreadBytesMax) return true;
      spdlog::warn("client closed: it does not read its answers uid={} pid={} answers={} bytes={}",
                   connection->peer().uid, connection->peer().pid, answers, bytes);
      connection->close();
      return false;
    }

    static capnp::ReaderOptions options() {
      capnp::ReaderOptions result;
      result.traversalLimitInWords = kMessageWordsMax;
      return result;
    }

    kj::Own<Connection> connection;
    GuardedStream stream;
    capnp::TwoPartyVatNetwork network;
    capnp::RpcSystem<capnp::rpc::twoparty::VatId> rpc;
  };

  kj::Promise<void> accept_loop() {
    for (;;) {
      UniqueFd socket(::accept4(listening_, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
      if (socket) {
        // What one client meets must not end the loop for all of them.
        KJ_IF_MAYBE (exception, kj::runCatchingExceptions([&] { accept(std::move(socket)); })) {
          spdlog::warn("client refused: {}", to_error(*exception, "accepting a client").message());
        }
        continue;
      }
      const int error = errno;
      if (error == EINTR || error == ECONNABORTED) continue;
      if (error == EAGAIN) return listen_observer_.whenBecomesReadable().then([this] { return accept_loop(); });
      spdlog::warn("cannot accept a client: raise the limit of open files error={} sessions={}", error,
                   watches_.size());
      return timer_.afterDelay(kAcceptPause).then([this] { return accept_loop(); });
    }
  }

  void accept(UniqueFd socket) {
    if (connections_ >= kConnectionsMax) {
      spdlog::warn("client refused: too many connections limit={}", kConnectionsMax);
      return;
    }
    auto peer = session::peer_of(socket.get());
    if (!peer) {
      spdlog::warn("client refused: {}", peer.error().message());
      return;
    }
    auto pidfd = peer_pidfd(socket.get(), peer->pid);
    auto close = kj::newPromiseAndFulfiller<void>();
    auto connection = kj::refcounted<Connection>(std::move(*peer), std::move(pidfd), kj::mv(close.fulfiller));
    using Flags = kj::LowLevelAsyncIoProvider;
    auto stream = io_.lowLevelProvider->wrapUnixSocketFd(
        socket.release(), Flags::TAKE_OWNERSHIP | Flags::ALREADY_CLOEXEC | Flags::ALREADY_NONBLOCK);
    auto served = kj::heap<Served>(kj::mv(stream), kj::addRef(*connection), *this);
    ++connections_;

    Connection& reference = *connection;
    auto hello_timeout = timer_.afterDelay(kHelloTimeout).then([&reference]() -> kj::Promise<void> {
      if (reference.said_hello()) return kj::NEVER_DONE;
      spdlog::warn("client closed: it said no hello uid={} pid={}", reference.peer().uid, reference.peer().pid);
      return kj::READY_NOW;
    });
    tasks_.add(served->network.onDisconnect()
                   .exclusiveJoin(kj::mv(close.promise))
                   .exclusiveJoin(kj::mv(hello_timeout))
                   .catch_([](kj::Exception&& exception) {
                     spdlog::debug("control connection: {}", to_error(exception, "serving a client").message());
                   })
                   .then([this, served = kj::mv(served), connection = kj::mv(connection)]() mutable {
                     served = nullptr;
                     --connections_;
                     connection->set_hung_up();
                     detached(*connection);
                   }));
  }

  // The connection is gone: the session, if it was this one's, stands without a socket.
  void detached(Connection& connection) {
    const auto id = connection.session();
    if (!id) return;
    const auto found = watches_.find(*id);
    if (found == watches_.end()) return;
    bool current = false;
    KJ_IF_MAYBE (held, found->second.connection) {
      current = held == &connection;
    }
    if (!current) return;
    found->second.connection = nullptr;
    look(*id, session::PeerEvent::hung_up, kLookPauseMin);
  }

  void watch_exit(SessionId id, Watch& watch, UniqueFd pidfd) {
    watch.exit_task = nullptr;
    watch.observer = nullptr;
    watch.pidfd = std::move(pidfd);
    if (!watch.pidfd) return;
    watch.observer = kj::heap<kj::UnixEventPort::FdObserver>(io_.unixEventPort, watch.pidfd.get(),
                                                             kj::UnixEventPort::FdObserver::OBSERVE_READ);
    watch.exit_task = watch.observer->whenBecomesReadable()
                          .then([this, id] {
                            const auto found = watches_.find(id);
                            if (found == watches_.end()) return;
                            found->second.exited = true;
                            look(id, session::PeerEvent::exited, kLookPauseMin);
                          })
                          .eagerlyEvaluate([this](kj::Exception&& exception) { taskFailed(kj::mv(exception)); });
  }

  // Has the bus look now, and again after `pause`, doubling, while the client is neither gone nor back.
  void look(SessionId id, session::PeerEvent event, kj::Duration pause) {
    tasks_.add(on_bus<Result<bool>>(poster_, [id, event](session::BusInterface& bus) -> Result<bool> {
                 return bus.on_peer(id, event);
               }).then([this, id, pause, event](Result<bool> gone) {
      if (gone && *gone) {
        forget(id);
        return;
      }
      // A full inbox must not lose the event itself.
      look_later(id, gone ? session::PeerEvent::look : event, pause);
    }));
  }

  void look_later(SessionId id, session::PeerEvent event, kj::Duration pause) {
    const auto found = watches_.find(id);
    if (found == watches_.end() || found->second.looking) return;
    found->second.looking = true;
    tasks_.add(timer_.afterDelay(pause).then([this, id, event, pause] {
      const auto again = watches_.find(id);
      if (again == watches_.end()) return;
      again->second.looking = false;
      if (again->second.connection != nullptr && !again->second.exited) return;  // it is back
      look(id, event, std::min(2 * pause, kLookPauseMax));
    }));
  }

  // Not from within the watch's own promise: it would destroy itself.
  void forget(SessionId id) {
    const auto found = watches_.find(id);
    if (found == watches_.end()) return;
    KJ_IF_MAYBE (connection, found->second.connection) {
      connection->close();
    }
    watches_.erase(found);
  }

  void taskFailed(kj::Exception&& exception) override {
    spdlog::error("control server: {}", to_error(exception, "serving clients").message());
  }

  kj::AsyncIoContext& io_;
  kj::Timer& timer_;
  const int listening_;
  kj::UnixEventPort::FdObserver listen_observer_;
  session::BusPoster& poster_;
  const session::Policy policy_;
  std::size_t connections_ = 0;
  std::map<SessionId, Watch> watches_;
  kj::TaskSet tasks_;  // last: its tasks use everything above
};

}  // namespace

struct Server::Shared {
  explicit Shared(session::BusPoster& bus_poster) : poster(bus_poster) {}

  session::BusPoster& poster;
  session::Policy policy;
  ListenSocket socket;
  std::vector<SessionId> awaited;  // constant once run() is called
  UniqueFd wake;                   // eventfd: something below has changed

  std::mutex mutex;
  bool stopping = false;         // guarded by mutex
  std::vector<SessionId> ended;  // guarded by mutex

  void change(auto&& apply) {
    {
      const std::lock_guard lock(mutex);
      apply();
    }
    const std::uint64_t one = 1;
    [[maybe_unused]] const ssize_t written = ::write(wake.get(), &one, sizeof one);  // full: it is awake anyway
  }
};

Server::Server(std::unique_ptr<Shared> shared) : shared_(std::move(shared)) {}
Server::~Server() = default;

Result<std::unique_ptr<Server>> Server::listen(ServerOptions options, session::BusPoster& poster) {
  auto shared = std::make_unique<Shared>(poster);
  shared->policy = {options.owner, options.socket_group};
  if (options.listening) {
    SLUICE_ASSIGN(shared->socket, ListenSocket::adopt(std::move(options.listening)));
  } else {
    SLUICE_ASSIGN(shared->socket, ListenSocket::listen_at(options.socket, options.socket_group));
  }
  shared->wake = UniqueFd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!shared->wake) return fail(system_error(errno, "making the control thread's eventfd"));
  return std::unique_ptr<Server>(new Server(std::move(shared)));
}

void Server::await_sessions(std::vector<SessionId> sessions) { shared_->awaited = std::move(sessions); }

int Server::share_listening_fd() {
  shared_->socket.leave_file();
  return shared_->socket.fd();
}

void Server::stop() {
  shared_->change([this] { shared_->stopping = true; });
}

void Server::end_session(SessionId session) {
  shared_->change([&] { shared_->ended.push_back(session); });
}

Status Server::run() {
  try {
    auto io = kj::setupAsyncIo();
    kj::UnixEventPort::FdObserver wake(io.unixEventPort, shared_->wake.get(),
                                       kj::UnixEventPort::FdObserver::OBSERVE_READ);
    auto loop = kj::heap<Loop>(io, shared_->socket.fd(), shared_->poster, shared_->policy);
    for (const SessionId id : shared_->awaited) loop->await(id);
    for (;;) {
      std::uint64_t count = 0;
      const bool woken = ::read(shared_->wake.get(), &count, sizeof count) == sizeof count;
      std::vector<SessionId> ended;
      {
        const std::lock_guard lock(shared_->mutex);
        if (shared_->stopping) break;
        ended.swap(shared_->ended);
      }
      for (const SessionId id : ended) loop->ended(id);
      if (!woken) wake.whenBecomesReadable().wait(io.waitScope);
    }
    // Calls that outlived their connection refer to the loop: they go first.
    io.waitScope.cancelAllDetached();
    loop = nullptr;
    io.waitScope.cancelAllDetached();
  } catch (const kj::Exception& exception) {
    return fail(to_error(exception, "running the control server"));
  }
  shared_->socket = ListenSocket();
  return {};
}

}  // namespace sluice::control
