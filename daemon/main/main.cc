// sluiced: reads its command line and runs the daemon.

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <memory>
#include <new>
#include <string>

#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

#include "daemon/keep/keeper.h"
#include "daemon/keep/notify_store.h"
#include "daemon/main/command_line.h"
#include "daemon/main/daemon.h"

namespace {

constexpr int kExitRefused = 4;  // by the system

// Where this program was started from: after an update a newer one lies there.
std::string own_path() {
  std::error_code error;
  const std::filesystem::path path = std::filesystem::read_symlink("/proc/self/exe", error);
  return error ? "/proc/self/exe" : path.string();
}

}  // namespace

int main(int argc, char** argv) {
  const sluice::daemon::CommandLine command_line =
      sluice::daemon::parse_command_line(argc, argv, sluice::daemon::Environment::of_process());
  if (!command_line.config) {
    std::fputs(command_line.message.c_str(), command_line.exit_code == 0 ? stdout : stderr);
    return command_line.exit_code;
  }
  auto log = std::make_shared<spdlog::logger>("sluiced", std::make_shared<spdlog::sinks::stderr_color_sink_mt>());
  log->set_pattern("%Y-%m-%dT%H:%M:%S.%e %^%l%$ %v");
  spdlog::set_default_logger(log);
  // The keeper goes first: it starts this program again below itself.
  const bool kept = sluice::keep::NotifyStore::is_in_environment() || !command_line.config->keeper;
  int code = kExitRefused;
  try {
    code =
        kept ? sluice::daemon::run(*command_line.config) : sluice::keep::run_keeper({own_path(), {argv, argv + argc}});
  } catch (const std::bad_alloc&) {
    spdlog::critical("starting sluiced: {}", std::strerror(ENOMEM));
  }
  spdlog::shutdown();
  return code;
}
