#include "sdk/control_loop.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include <kj/async-unix.h>

#include "shm/layout/regions.h"

namespace sluice::internal {
namespace {

constexpr auto kReconnectPauseMin = 20 * kj::MILLISECONDS;
constexpr auto kReconnectPauseMax = 1 * kj::SECONDS;
constexpr auto kBacklogPause = 2 * kj::MILLISECONDS;          // the daemon's backlog is full: it lives
constexpr auto kEndingPause = 10 * kj::MILLISECONDS;          // the daemon there has hung up, or says that it stops
constexpr unsigned kDescriptorsPerMessageMax = 253;           // what the kernel carries
constexpr std::uint64_t kMessageWordsMax = 64 * 1024 * 1024;  // an audit of very many producers

capnp::ReaderOptions reader_options() {
  capnp::ReaderOptions result;
  result.traversalLimitInWords = kMessageWordsMax;
  return result;
}

// What a failed connect() means to whoever wants to send something.
Error connect_error(int error, const std::string& path) {
  const std::string text = "connecting to the daemon at " + path;
  switch (error) {
    case ENOENT:
    case ECONNREFUSED:
    case ENOTDIR:
      return Error(ErrorCode::no_daemon,
                   text + ": nobody answers; start sluiced, or set SLUICE_SOCKET (--socket) to its socket", error);
    case EACCES:
    case EPERM:
      return Error(ErrorCode::permission, text + ": the socket may not be used by this user; ask the bus's operator",
                   error);
    default: return system_error(error, text);
  }
}

// 0, or the errno.
int connect_socket(const std::string& path, UniqueFd& socket) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) return ENAMETOOLONG;
  std::memcpy(address.sun_path, path.c_str(), path.size());
  socket = UniqueFd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket) return errno;
  const int result = ::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address);
  return result == 0 ? 0 : errno;
}

// Errors that another attempt will not mend.
bool is_final(const Error& error) {
  return error.code() == ErrorCode::permission || error.code() == ErrorCode::version ||
         error.code() == ErrorCode::invalid;
}

}  // namespace

kj::Promise<Result<UniqueFd>> take_descriptor(protocol::Descriptor::Client capability, std::string_view what) {
  auto fd = capability.getFd();
  return fd.then(
      [capability = kj::mv(capability), text = std::string(what)](kj::Maybe<int> received) -> Result<UniqueFd> {
        KJ_IF_MAYBE (number, received) {
          UniqueFd copy(::fcntl(*number, F_DUPFD_CLOEXEC, 0));
          if (copy) return copy;
          return fail(system_error(errno, "receiving " + text + ": raise the limit of open files (ulimit -n)"));
        }
        return fail(ErrorCode::no_memory,
                    "receiving " + text + ": its descriptor did not arrive; raise the limit of open files (ulimit -n)");
      });
}

ControlClient::Loop::Link::Link(kj::Own<kj::AsyncCapabilityStream> capability_stream, std::uint64_t link_number)
    : number(link_number),
      stream(kj::mv(capability_stream)),
      network(*stream, kDescriptorsPerMessageMax, capnp::rpc::twoparty::Side::CLIENT, reader_options()),
      rpc(capnp::makeRpcClient(network)) {}

ControlClient::Loop::Loop(ControlClient& owner) : owner_(owner), shared_(*owner.shared_) {}

Status ControlClient::Loop::start() {
  // The application's signals go to its own threads.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  thread_ = std::thread([this] { run(); });
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  std::unique_lock lock(start_mutex_);
  started_.wait(lock, [this] { return start_result_.has_value(); });
  return *start_result_;
}

ControlClient::Loop::~Loop() noexcept(false) {
  if (!thread_.joinable()) return;
  try {
    if (executor_.get() != nullptr) executor_->executeSync([this] { stop_->fulfill(); });
  } catch (const kj::Exception&) {
    // The loop has ended already, after a failed start.
  }
  thread_.join();
}

void ControlClient::Loop::run() {
  pthread_setname_np(pthread_self(), "sluice-control");
  Status outcome;
  try {
    // KJ ignores SIGPIPE for the whole process; that is the application's to decide. This thread has it blocked.
    struct sigaction pipe_action {};
    sigaction(SIGPIPE, nullptr, &pipe_action);
    auto io = kj::setupAsyncIo();
    sigaction(SIGPIPE, &pipe_action, nullptr);
    serve(io);
    return;
  } catch (const kj::Exception& exception) {
    outcome = fail(to_error(exception, "running the control thread"));
  } catch (const std::exception& exception) {
    outcome = fail(ErrorCode::internal, std::string("running the control thread: ") + exception.what());
  }
  const std::lock_guard lock(start_mutex_);
  if (!start_result_) start_result_ = std::move(outcome);
  started_.notify_all();
}

void ControlClient::Loop::serve(kj::AsyncIoContext& io) {
  io_ = &io;
  timer_ = &io.provider->getTimer();
  kj::TaskSet::ErrorHandler& errors = *this;
  tasks_ = kj::heap<kj::TaskSet>(errors);
  auto stop = kj::newPromiseAndFulfiller<void>();
  stop_ = kj::mv(stop.fulfiller);
  announce_change();
  const Status first = attempt(timer_->now() + to_kj(shared_.options.timeout)).wait(io.waitScope);
  if (first) publish(ConnectionState::connected, std::nullopt, memory_, "connected to " + shared_.options.socket);
  {
    const std::lock_guard lock(start_mutex_);
    if (first) executor_ = kj::getCurrentThreadExecutor().addRef();
    start_result_ = first;
  }
  started_.notify_all();
  if (first) stop.promise.wait(io.waitScope);
  tasks_ = nullptr;
  link_ = nullptr;
  change_ = nullptr;
  change_fulfiller_ = nullptr;
  io.waitScope.cancelAllDetached();
}

void ControlClient::Loop::taskFailed(kj::Exception&& exception) {
  close_for_good(to_error(exception, "keeping the connection to the daemon"));
}

kj::Promise<Status> ControlClient::Loop::attempt(kj::TimePoint deadline) {
  const auto again_after = [this, deadline](kj::Duration pause) {
    return timer_->afterDelay(pause).then([this, deadline] { return attempt(deadline); });
  };
  UniqueFd socket;
  const int error = connect_socket(shared_.options.socket, socket);
  if (error == EAGAIN && timer_->now() + kBacklogPause < deadline) return again_after(kBacklogPause);
  if (error != 0) return Status(fail(connect_error(error, shared_.options.socket)));
  using Flags = kj::LowLevelAsyncIoProvider;
  auto stream = io_->lowLevelProvider->wrapUnixSocketFd(
      socket.release(), Flags::TAKE_OWNERSHIP | Flags::ALREADY_CLOEXEC | Flags::ALREADY_NONBLOCK);
  auto timed_out = timer_->atTime(deadline).then([this]() -> Status {
    return fail(ErrorCode::timed_out, "connecting to the daemon at " + shared_.options.socket +
                                          ": it accepts connections, but does not answer; is it stopped?");
  });
  return say_hello(kj::heap<Link>(kj::mv(stream), ++links_))
      .exclusiveJoin(kj::mv(timed_out))
      .catch_([this](kj::Exception&& exception) -> Status {
        return fail(to_error(exception, "connecting to the daemon at " + shared_.options.socket));
      })
      .then([this, deadline, again_after](Status status) -> kj::Promise<Status> {
        // One on its way out: another one may be about to take its socket over.
        const bool ending = !status && status.error().code() == ErrorCode::no_daemon;
        if (!ending || timer_->now() + kEndingPause >= deadline) return status;
        return again_after(kEndingPause);
      });
}

kj::Promise<Status> ControlClient::Loop::say_hello(kj::Own<Link> link) {
  capnp::MallocMessageBuilder peer;
  auto vat = peer.initRoot<capnp::rpc::twoparty::VatId>();
  vat.setSide(capnp::rpc::twoparty::Side::SERVER);
  auto request = link->rpc.bootstrap(vat).castAs<protocol::Bus>().helloRequest();
  auto hello = request.initRequest();
  hello.setProtocolVersion(protocol::PROTOCOL_VERSION);
  hello.setLayoutVersion(layout::kRegionVersion);
  hello.setClientName(shared_.options.client_name);
  hello.setMembarrier(shared_.membarrier);
  hello.setResume(kj::arrayPtr(reinterpret_cast<const kj::byte*>(token_.data()), token_.size()));
  return request.send().then([this, link = kj::mv(link)](
                                 capnp::Response<protocol::Bus::HelloResults> answer) mutable -> kj::Promise<Status> {
    const auto response = answer.getResponse();
    if (response.isFailure()) return Status(fail(read_failure(response.getFailure())));
    const auto welcome = response.getWelcome();
    const auto descriptor = [](bool there, auto get, std::string_view what) -> kj::Promise<Result<UniqueFd>> {
      if (!there) return Result<UniqueFd>(UniqueFd());
      return take_descriptor(get(), what);
    };
    auto descriptors = kj::heapArrayBuilder<kj::Promise<Result<UniqueFd>>>(2);
    descriptors.add(descriptor(
        welcome.hasSessionRegion(), [&] { return welcome.getSessionRegion(); }, "the session region"));
    descriptors.add(descriptor(
        welcome.hasWake(), [&] { return welcome.getWake(); }, "the daemon's eventfd"));
    return kj::joinPromises(descriptors.finish())
        .then([this, link = kj::mv(link), answer = kj::mv(answer)](kj::Array<Result<UniqueFd>> fds) mutable -> Status {
          for (const auto& fd : fds) {
            if (!fd) return fail(fd.error());
          }
          const auto given = answer.getResponse().getWelcome();
          SLUICE_TRY(take_welcome(given, std::move(*fds[0]), std::move(*fds[1])));
          link->session = given.getSession();
          link_ = kj::mv(link);
          watch(*link_);
          return {};
        });
  });
}

Status ControlClient::Loop::take_welcome(protocol::Welcome::Reader welcome, UniqueFd region, UniqueFd wake) {
  const SessionId session(welcome.getSessionId());
  const Incarnation incarnation(welcome.getIncarnation());
  const bool same =
      welcome.getResumed() && memory_ && memory_->session() == session && memory_->incarnation() == incarnation;
  if (!same) {
    if (!region || !wake) {
      return fail(ErrorCode::internal, "attaching to the daemon: it gave no memory for the session");
    }
    auto opened =
        SessionMemory::open(region.get(), std::move(wake), session, incarnation, generation_ + 1, shared_.membarrier);
    if (!opened) return fail(std::move(opened).error());
    memory_ = std::move(*opened);
    ++generation_;
  }
  owner_.memory_kept_.store(welcome.getMemoryKept(), std::memory_order_relaxed);
  const auto token = welcome.getToken().asChars();
  token_.assign(token.begin(), token.size());
  return {};
}

void ControlClient::Loop::watch(Link& link) {
  const std::uint64_t number = link.number;
  tasks_->add(link.network.onDisconnect().then([this, number] {
    if (link_.get() != nullptr && link_->number == number) lost();
  }));
}

void ControlClient::Loop::lost() {
  link_ = nullptr;
  if (memory_->revoked()) {
    close_for_good(Error(ErrorCode::revoked,
                         "the daemon has ended this session (it held too much memory, wrote what cannot "
                         "be right, or an operator ended it); connect again"));
    return;
  }
  trouble_ =
      Error(ErrorCode::no_daemon, "the daemon at " + shared_.options.socket + " hung up; waiting for its return");
  publish(ConnectionState::disconnected, trouble_, memory_, trouble_->context());
  tasks_->add(reconnect(kReconnectPauseMin));
}

kj::Promise<void> ControlClient::Loop::reconnect(kj::Duration pause) {
  const std::uint64_t before = generation_;
  return attempt(timer_->now() + to_kj(shared_.options.timeout))
      .then([this, pause, before](Status status) -> kj::Promise<void> {
        if (status) {
          trouble_.reset();
          const bool resumed = generation_ == before;
          publish(resumed ? ConnectionState::resumed : ConnectionState::replaced, std::nullopt, memory_,
                  resumed ? "the daemon is back, nothing was lost"
                          : "the daemon is back with new memory: receipts that were not durable are unknown");
          return kj::READY_NOW;
        }
        if (is_final(status.error())) {
          close_for_good(status.error());
          return kj::READY_NOW;
        }
        trouble_ = status.error();
        {
          const std::lock_guard lock(shared_.mutex);
          shared_.trouble = trouble_;
        }
        return timer_->afterDelay(pause).then(
            [this, pause] { return reconnect(std::min(2 * pause, kReconnectPauseMax)); });
      });
}

void ControlClient::Loop::close_for_good(Error error) {
  link_ = nullptr;
  closed_ = error;
  const std::string why = error.context();
  publish(ConnectionState::closed, std::move(error), memory_, why);
}

void ControlClient::Loop::publish(ConnectionState state, std::optional<Error> trouble,
                                  std::shared_ptr<SessionMemory> memory, const std::string& why) {
  {
    const std::lock_guard lock(shared_.mutex);
    shared_.state = state;
    shared_.trouble = std::move(trouble);
    shared_.memory = std::move(memory);
    const bool is_online = link_.get() != nullptr;
    // release: pairs with the acquire in word(); publishes what the session's memory holds. Inside the mutex, so that
    // waiters of `changed` see it.
    owner_.word_.store((generation_ << 1) | (is_online ? 1 : 0), std::memory_order_release);
  }
  shared_.changed.notify_all();
  announce_change();
  if (shared_.options.on_state) shared_.options.on_state(state, why);
}

kj::Promise<void> ControlClient::Loop::next_change() { return change_.addBranch(); }

void ControlClient::Loop::announce_change() {
  auto next = kj::newPromiseAndFulfiller<void>();
  auto previous = kj::mv(change_fulfiller_);
  change_ = next.promise.fork();
  change_fulfiller_ = kj::mv(next.fulfiller);
  if (previous.get() != nullptr) previous->fulfill();
}

std::optional<Error> ControlClient::Loop::obstacle(const CallOptions& options) const {
  if (closed_) return Error(closed_->code(), options.doing + ": " + closed_->context(), closed_->system_errno());
  if (options.generation && *options.generation != generation_) {
    return Error(ErrorCode::conflict, options.doing + ": the daemon's memory was replaced meanwhile; open it again");
  }
  return std::nullopt;
}

Error ControlClient::Loop::away(const CallOptions& options) const {
  const std::string why = trouble_ ? trouble_->context() : "the daemon is away";
  return Error(ErrorCode::no_daemon, options.doing + ": " + why);
}

}  // namespace sluice::internal
