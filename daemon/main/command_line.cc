#include "daemon/main/command_line.h"

#include <filesystem>
#include <sstream>
#include <utility>
#include <vector>

#include <CLI/CLI.hpp>

namespace sluice::daemon {
namespace {

constexpr const char* kVersion = SLUICE_VERSION;
constexpr int kExitUsage = 2;

std::string absolute(const std::string& path, const Environment& environment) {
  return (std::filesystem::path(environment.working_directory) / path).lexically_normal().string();
}

struct Flags {
  std::string config;
  std::string data_dir;
  std::string socket;
  std::string http;
  std::string log_level;
  std::string memory_budget;
  bool keeper = false, no_keeper = false;
  std::vector<std::string> mirrors;
  std::vector<std::string> accept_missing;
  bool print_config = false;
};

void declare(CLI::App& app, Flags& flags) {
  app.add_option("--config", flags.config, "Read settings from this TOML file")->type_name("FILE");
  app.add_option("--data-dir", flags.data_dir, "Logs and metadata")->type_name("DIR");
  app.add_option("--mirror", flags.mirrors, "A directory on another disk that holds the same as --data-dir")
      ->type_name("DIR")
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  app.add_option("--accept-missing-mirror", flags.accept_missing,
                 "Start although this copy of the data cannot be seen, and never count on it again")
      ->type_name("DIR")
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  app.add_option("--socket", flags.socket, "Where clients connect")->type_name("PATH");
  app.add_option("--http", flags.http, "Metrics over HTTP (this version: off)")->type_name("HOST:PORT|unix:PATH|off");
  app.add_option("--log-level", flags.log_level, "trace, debug, info, warn or error")->type_name("LEVEL");
  app.add_option("--memory-budget", flags.memory_budget, "Memory for the segments of all topics")
      ->type_name("SIZE|auto");
  auto* keeper =
      app.add_flag("--keeper", flags.keeper, "Keep the bus's memory while the daemon restarts (the default)");
  app.add_flag("--no-keeper", flags.no_keeper, "Do not keep it")->excludes(keeper);
  app.add_flag("--print-config", flags.print_config, "Print the effective configuration and end");
  app.set_version_flag("--version", std::string("sluiced ") + kVersion);
}

// One flag as if it stood in the file under `key`.
Status override_with(Config& config, std::string_view key, const std::string& flag, const std::string& value) {
  if (Status given = set(config, key, value); !given)
    return fail(ErrorCode::invalid, flag + " \"" + value + "\" " + given.error().context());
  return {};
}

Result<Config> effective(const Flags& flags, const Environment& environment) {
  Config config = default_config(environment);
  if (!flags.config.empty()) {
    SLUICE_ASSIGN(config, read_config(absolute(flags.config, environment), config));
  }
  if (!flags.data_dir.empty())
    SLUICE_TRY(override_with(config, "data_dir", "--data-dir", absolute(flags.data_dir, environment)));
  if (!flags.socket.empty())
    SLUICE_TRY(override_with(config, "socket", "--socket", absolute(flags.socket, environment)));
  if (!flags.http.empty()) SLUICE_TRY(override_with(config, "http", "--http", flags.http));
  if (!flags.log_level.empty()) SLUICE_TRY(override_with(config, "log_level", "--log-level", flags.log_level));
  if (!flags.memory_budget.empty())
    SLUICE_TRY(override_with(config, "memory_budget", "--memory-budget", flags.memory_budget));
  if (!flags.mirrors.empty()) config.mirrors.clear();
  for (const std::string& mirror : flags.mirrors) config.mirrors.push_back(absolute(mirror, environment));
  for (const std::string& missing : flags.accept_missing)
    config.accept_missing.push_back(absolute(missing, environment));
  if (flags.keeper || flags.no_keeper) config.keeper = flags.keeper;
  SLUICE_TRY(check(config));
  return config;
}

}  // namespace

CommandLine parse_command_line(int argc, const char* const* argv, const Environment& environment) {
  CLI::App app("The daemon of the Sluice message bus", "sluiced");
  Flags flags;
  declare(app, flags);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    std::ostringstream out;
    std::ostringstream err;
    const bool asked = app.exit(error, out, err) == 0;
    return {std::nullopt, asked ? 0 : kExitUsage, asked ? out.str() : "sluiced: " + err.str()};
  }
  Result<Config> config = effective(flags, environment);
  if (!config) return {std::nullopt, kExitUsage, "sluiced: " + config.error().message() + "\n"};
  if (flags.print_config) return {std::nullopt, 0, to_toml(*config)};
  return {std::move(*config), 0, {}};
}

}  // namespace sluice::daemon
