#include "sdk/cli/command.h"

#include <unistd.h>

#include <iostream>

namespace sluice::cli {
namespace {

// Called on the SDK's control thread.
void say_state(const std::string& command, ConnectionState state, const std::string& why) {
  const char* what = nullptr;
  switch (state) {
    case ConnectionState::disconnected: what = "the daemon has hung up; waiting for it"; break;
    case ConnectionState::resumed: what = "the daemon is back"; break;
    case ConnectionState::replaced:
      what = "the daemon is back with new memory: what was not durable may be lost";
      break;
    case ConnectionState::closed: what = "the session was ended"; break;
    case ConnectionState::connected: return;
  }
  std::string line = "sluice " + command + ": " + what;
  if (!why.empty()) line += " (" + printable(why) + ")";
  line += "\n";
  [[maybe_unused]] const auto written = ::write(STDERR_FILENO, line.data(), line.size());
}

ConnectOptions options_for(const Context& context, const std::string& command) {
  ConnectOptions options;
  options.socket = context.socket;
  options.client_name = "sluice " + command;
  return options;
}

// Help and version too are "errors" to the parser.
int parse_failed(const CLI::App& app, const CLI::ParseError& error) {
  const std::vector<std::string> unknown = app.remaining();
  if (app.get_subcommands().empty() && !unknown.empty())
    return report_usage("", "there is no command \"" + unknown.front() + "\"; sluice --help names them all");
  return app.exit(error, std::cout, std::cerr) == 0 ? kExitDone : kExitUsage;
}

}  // namespace

Result<Client> connect(const Context& context, const std::string& command) {
  return Client::connect(options_for(context, command));
}

Result<Client> connect_for_long(const Context& context, const std::string& command) {
  ConnectOptions options = options_for(context, command);
  options.on_state = [command](ConnectionState state, const std::string& why) { say_state(command, state, why); };
  return Client::connect(std::move(options));
}

void print(std::string_view text) {
  Writer out(STDOUT_FILENO);
  out.write(text);
}

void print_json(const Json& document) { print(text_of(document)); }

int run_command_line(int argc, const char* const* argv) {
  CLI::App app("Sluice, a message bus for one host", "sluice");
  Context context;
  app.add_option("--socket", context.socket, "Where the daemon listens (default: SLUICE_SOCKET, or the user's own)")
      ->type_name("PATH");
  app.set_version_flag("--version", std::string("sluice ") + SLUICE_VERSION);
  app.require_subcommand(1);
  // --socket may stand behind the subcommand too.
  app.fallthrough();
  add_topic_commands(app, context);
  add_produce_command(app, context);
  add_consume_command(app, context);
  add_group_commands(app, context);
  add_why_command(app, context);
  add_dlq_commands(app, context);
  add_txn_commands(app, context);
  add_audit_command(app, context);
  add_message_command(app, context);
  add_status_commands(app, context);
  add_top_command(app, context);
  add_session_commands(app, context);
  add_metrics_command(app, context);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return parse_failed(app, error);
  }
  return context.run();
}

}  // namespace sluice::cli
