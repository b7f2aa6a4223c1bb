// sluice metrics

#include "sdk/cli/command.h"
#include "sdk/cli/metrics_text.h"

namespace sluice::cli {
namespace {

int metrics(const Context& context) {
  const std::string command = "metrics";
  return with_client(context, command, [&](Client& client) -> int {
    const auto bus = client.status();
    if (!bus) return report(command, bus.error());
    const auto topics = client.topics();
    if (!topics) return report(command, topics.error());
    const auto sessions = client.sessions();
    if (!sessions) return report(command, sessions.error());
    print(metrics_text(*bus, *topics, *sessions));
    return kExitDone;
  });
}

}  // namespace

void add_metrics_command(CLI::App& app, Context& context) {
  CLI::App& sub = *app.add_subcommand("metrics", "What Prometheus scrapes: counters and gauges of the whole bus");
  sub.callback([&context] { context.run = [&context] { return metrics(context); }; });
}

}  // namespace sluice::cli
