#include "daemon/main/daemon.h"

#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include <spdlog/spdlog.h>

#include "daemon/bus/bus.h"
#include "daemon/bus/bus_loop.h"
#include "daemon/control/server.h"
#include "daemon/keep/notify_store.h"
#include "daemon/main/socket_group.h"
#include "daemon/main/storage.h"
#include "daemon/resolve/runner.h"

#ifndef SLUICE_VERSION
#error "the build names the version"
#endif

namespace sluice::daemon {
namespace {

// What stop, reload and the end of a thread come as; blocked in every thread and taken by run() alone.
sigset_t handled_signals() {
  sigset_t set;
  sigemptyset(&set);
  for (const int signal : {SIGTERM, SIGINT, SIGHUP, SIGUSR1}) sigaddset(&set, signal);
  return set;
}

// Everything below run(), in order of construction; destroyed the other way round.
struct Parts {
  std::unique_ptr<keep::RegionKeeper> keeper;  // null: nothing outlives this daemon
  Storage storage;
  std::unique_ptr<bus::BusLoop> loop;
  std::unique_ptr<control::Server> server;
  std::unique_ptr<resolve::Runner> resolvers;  // null: none is configured
  std::unique_ptr<bus::Bus> bus;
};

bus::BusSettings settings_of(const Config& config, const session::Policy& policy) {
  bus::BusSettings settings;
  settings.socket = config.socket;
  settings.version = SLUICE_VERSION;
  settings.config_toml = to_toml(config);
  settings.policy = policy;
  settings.memory_budget = memory_budget_bytes(config);
  settings.flush_interval_ns = config.topics.flush_interval_ns;
  settings.segments_per_file = config.topics.segments_per_file;
  settings.topic_defaults = {config.topics.durability, config.topics.segment_size, config.topics.slots,
                             config.retention.bytes,   config.retention.time_ns,   config.topics.claim_deadline_ns};
  settings.partitions_max = config.limits.partitions_max;
  settings.sessions_max = config.limits.sessions_max;
  settings.retention_interval_ns = config.retention.check_interval_ns;
  settings.transactions.timeout_ns = config.transactions.timeout_ns;
  settings.transactions.check_max = config.transactions.check_max;
  settings.transactions.park_after_ns = config.transactions.park_after_ns;
  for (const core::ResolverConfig& resolver : config.transactions.resolvers)
    settings.transactions.resolver_groups.push_back(resolver.group);
  return settings;
}

// The listening socket: the one that the daemon before had, or one of socket activation.
UniqueFd take_listening(keep::Inheritance& inherited) {
  const auto found = std::find_if(inherited.begin(), inherited.end(), [](const auto& entry) {
    return entry.first == keep::kListenName || entry.first.ends_with(".socket");
  });
  if (found == inherited.end()) return {};
  UniqueFd listening = std::move(found->second);
  inherited.erase(found);
  return listening;
}

// The entry stays: without one the bus cannot go on with the memory of the daemon before.
UniqueFd take_wake(keep::Inheritance& inherited) {
  const auto found = inherited.find(bus::kWakeName);
  return found == inherited.end() ? UniqueFd() : std::move(found->second);
}

Status listen(const Config& config, const session::Policy& policy, keep::Inheritance& inherited, Parts& parts) {
  UniqueFd listening = take_listening(inherited);
  const bool fresh = !listening;
  SLUICE_ASSIGN(
      parts.server,
      control::Server::listen({config.socket, policy.socket_group, std::move(listening), policy.owner}, *parts.loop));
  return parts.keeper && fresh ? parts.keeper->keep(keep::kListenName, parts.server->share_listening_fd()) : Status();
}

Status open_resolvers(const Config& config, Parts& parts) {
  const std::vector<core::ResolverConfig>& resolvers = config.transactions.resolvers;
  if (resolvers.empty()) return {};
  for (const core::ResolverConfig& resolver : resolvers)
    if (::access(resolver.command.front().c_str(), X_OK) != 0)
      spdlog::warn("resolver cannot be run now group={} command={} reason=\"{}\"", resolver.group,
                   resolver.command.front(), std::strerror(errno));
  SLUICE_ASSIGN(parts.resolvers,
                resolve::Runner::create(resolvers, config.socket, [loop = parts.loop.get()] { loop->wake(); }));
  return {};
}

Status open_parts(const Config& config, Parts& parts) {
  keep::Inheritance inherited;
  parts.keeper = keep::NotifyStore::from_environment(inherited);
  SLUICE_TRY(open_storage(config, parts.storage));
  SLUICE_ASSIGN(const std::optional<gid_t> group, resolve_group(config.socket_group));
  const session::Policy policy{::geteuid(), group};
  SLUICE_ASSIGN(parts.loop, bus::BusLoop::create(*parts.storage.disk, take_wake(inherited)));
  SLUICE_TRY(listen(config, policy, inherited, parts));
  SLUICE_TRY(open_store(parts.storage));
  bus::BusSettings settings = settings_of(config, policy);
  settings.on_revoked = [server = parts.server.get()](SessionId session) { server->end_session(session); };
  SLUICE_TRY(open_resolvers(config, parts));
  settings.resolvers = parts.resolvers.get();
  settings.mirror_store = parts.storage.mirror_store;
  settings.mirrors.may_fill = parts.storage.may_fill;
  settings.mirrors.retry_ns = config.mirror_retry_ns;
  settings.mirror_scrub_ns = config.mirror_scrub_ns;
  settings.topic_mirrors.roots = config.mirror_roots;
  settings.topic_mirrors.retry_ns = config.mirror_retry_ns;
  settings.topic_mirrors.open = [missing = config.accept_missing,
                                 loop = parts.loop.get()](const auto& roots) -> Result<bus::CopySet> {
    SLUICE_ASSIGN(bus::CopySet set, open_topic_copies(roots, missing));
    SLUICE_TRY(loop->watch(set.disk->completion_fd()));
    return set;
  };
  SLUICE_ASSIGN(parts.bus,
                bus::Bus::start(std::move(settings), *parts.storage.directory, *parts.storage.disk,
                                *parts.storage.store, parts.loop->wake_fd(), parts.keeper.get(), std::move(inherited)));
  parts.server->await_sessions(parts.bus->disconnected_sessions());
  return {};
}

void name_thread(const char* name) { ::pthread_setname_np(::pthread_self(), name); }

// Three descriptors a partition, and as many a session: as many as the system lets us have.
void raise_descriptor_limit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == limit.rlim_max) return;
  limit.rlim_cur = limit.rlim_max;
  if (::setrlimit(RLIMIT_NOFILE, &limit) != 0) spdlog::warn("descriptor limit not raised errno={}", errno);
}

void set_log_level(const std::string& level) { spdlog::set_level(spdlog::level::from_str(level)); }

void reload(const Config& config) {
  if (config.file.empty()) {
    spdlog::info("nothing to reload: started without a configuration file");
    return;
  }
  auto fresh = read_config(config.file, default_config(Environment::of_process()));
  if (!fresh) {
    spdlog::error("configuration not reloaded reason=\"{}\"", fresh.error().message());
    return;
  }
  set_log_level(fresh->log_level);
  spdlog::info("configuration reloaded, log_level={}; other settings take effect at the next start", fresh->log_level);
}

// Tells a service manager that asked for it that the bus thread is alive, and only while it is. An idle one may sleep
// for longer than the manager waits: it is woken, and has turned by the next look.
class Watchdog {
 public:
  explicit Watchdog(bus::BusLoop& loop) : loop_(loop) {
    std::uint64_t interval_us = 0;
    if (::sd_watchdog_enabled(1, &interval_us) > 0) pause_ns_ = interval_us * 1000 / 3;
  }
  // How long to wait before look(), or nothing.
  std::optional<timespec> pause() const {
    if (pause_ns_ == 0) return std::nullopt;
    return timespec{static_cast<time_t>(pause_ns_ / 1'000'000'000), static_cast<long>(pause_ns_ % 1'000'000'000)};
  }
  void look() {
    const std::uint64_t turns = loop_.turns();
    if (std::exchange(turns_, turns) != turns)
      ::sd_notify(0, "WATCHDOG=1");
    else
      loop_.wake();
  }

 private:
  bus::BusLoop& loop_;
  std::uint64_t pause_ns_ = 0;
  std::uint64_t turns_ = 0;
};

// Until a stop is asked for, or a thread has ended by itself (it raises SIGUSR1).
void wait_for_end(const Config& config, const std::atomic<bool>& thread_ended, Watchdog& watchdog) {
  const sigset_t signals = handled_signals();
  const std::optional<timespec> pause = watchdog.pause();
  for (;;) {
    const int signal = ::sigtimedwait(&signals, nullptr, pause ? &*pause : nullptr);
    if (signal < 0) {
      if (errno == EAGAIN) watchdog.look();
      continue;
    }
    if (signal == SIGHUP) {
      reload(config);
      continue;
    }
    if (signal == SIGUSR1 && !thread_ended.load(std::memory_order_acquire)) continue;
    spdlog::info("stopping signal={}", ::strsignal(signal));
    return;
  }
}

int report(const Error& error) {
  spdlog::critical("{}", error.message());
  return exit_code(error);
}

template <typename Body>
Status start_thread(const char* name, std::thread& thread, Body body) {
  try {
    thread = std::thread([name, body] {
      name_thread(name);
      body();
    });
    return {};
  } catch (const std::system_error& error) {
    return fail(system_error(error.code().value(), std::string("starting the thread ") + name));
  }
}

// The thread that runs resolvers. Where this goes it is stopped, and all their processes with it.
class ResolverThread {
 public:
  ResolverThread() = default;
  ~ResolverThread() { stop(); }
  ResolverThread(const ResolverThread&) = delete;
  ResolverThread& operator=(const ResolverThread&) = delete;

  Status start(resolve::Runner* runner) {
    runner_ = runner;
    return runner == nullptr ? Status() : start_thread("sluice-resolve", thread_, [runner] { runner->run(); });
  }
  void stop() {
    if (!thread_.joinable()) return;
    runner_->stop();
    thread_.join();
  }

 private:
  resolve::Runner* runner_ = nullptr;
  std::thread thread_;
};

}  // namespace

int exit_code(const Error& error) {
  switch (error.code()) {
    case ErrorCode::invalid: return 2;
    case ErrorCode::in_use: return 3;
    case ErrorCode::version:
    case ErrorCode::conflict:  // copies of the data that must not be served from
    case ErrorCode::corrupt:
    case ErrorCode::io: return 7;
    default: return 4;
  }
}

int run(const Config& config) {
  set_log_level(config.log_level);
  ::signal(SIGPIPE, SIG_IGN);
  ::signal(SIGCHLD, SIG_DFL);  // whoever started us may have it ignored, and resolvers would leave no exit code
  raise_descriptor_limit();
  const sigset_t signals = handled_signals();
  ::pthread_sigmask(SIG_BLOCK, &signals, nullptr);

  Parts parts;
  if (auto opened = open_parts(config, parts); !opened) return report(opened.error());

  Watchdog watchdog(*parts.loop);
  const pid_t self = ::getpid();
  std::atomic<bool> thread_ended{false};
  Status bus_status;
  Status server_status;
  std::thread bus_thread;
  std::thread control_thread;
  ResolverThread resolver_thread;
  if (auto resolving = resolver_thread.start(parts.resolvers.get()); !resolving) return report(resolving.error());
  Status started = start_thread("sluice-bus", bus_thread, [&] {
    bus_status = parts.loop->run(*parts.bus);
    // release: pairs with the acquire in wait_for_end.
    thread_ended.store(true, std::memory_order_release);
    ::kill(self, SIGUSR1);
  });
  if (!started) return report(started.error());
  started = start_thread("sluice-control", control_thread, [&] {
    server_status = parts.server->run();
    thread_ended.store(true, std::memory_order_release);
    ::kill(self, SIGUSR1);
  });
  if (!started) {
    parts.loop->stop();
    bus_thread.join();
    return report(started.error());
  }
  spdlog::info("ready version={} data_dir={} socket={} partitions={}", SLUICE_VERSION, config.data_dir, config.socket,
               parts.bus->partition_count());
  ::sd_notify(0, "READY=1");
  wait_for_end(config, thread_ended, watchdog);

  ::sd_notify(0, "STOPPING=1");
  resolver_thread.stop();
  parts.loop->stop();
  bus_thread.join();
  parts.server->stop();
  control_thread.join();
  if (!server_status) return report(server_status.error());
  if (!bus_status) return report(bus_status.error());
  if (auto closed = parts.storage.store->close(); !closed) return report(closed.error());
  spdlog::info("stopped");
  return 0;
}

}  // namespace sluice::daemon
