// sluiced: reads its command line and runs the daemon.

#include <cstdio>
#include <memory>

#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

#include "daemon/main/config.h"
#include "daemon/main/daemon.h"

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
  const int code = sluice::daemon::run(*command_line.config);
  spdlog::shutdown();
  return code;
}
