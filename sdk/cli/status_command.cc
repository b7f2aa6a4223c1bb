// sluice status | doctor | config, session list | kill

#include <chrono>
#include <memory>
#include <sstream>

#include <toml++/toml.h>

#include "sdk/cli/command.h"
#include "sdk/cli/message_text.h"

namespace sluice::cli {
namespace {

struct Flags {
  bool json = false;
  bool quick = false;
  std::uint64_t session = 0;
};
using Action = int (*)(const Context&, const Flags&);

std::uint64_t wall_ns() {
  return static_cast<std::uint64_t>(
      std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::system_clock::now().time_since_epoch())
          .count());
}

std::string mirror_text(const MirrorStatus& m) {
  std::string text = m.path + ": " + (m.state == "good" ? m.state : coloured(1, Colour::red, m.state));
  if (m.state == "filling") text += ", " + human_size(m.filled_bytes) + " of " + human_size(m.total_bytes);
  if (m.failed_reads != 0) text += ", " + std::to_string(m.failed_reads) + " reads answered by another copy";
  if (!m.reason.empty()) text += " (" + printable(m.reason) + ")";
  return text;
}

std::string status_text(const BusStatus& s) {
  Table table({"sluiced", s.version + ", pid " + std::to_string(s.pid)});
  const auto row = [&table](std::string what, std::string value) { table.add({std::move(what), std::move(value)}); };
  const std::uint64_t now = wall_ns();
  row("up since", rfc3339(s.started_ns) + (now > s.started_ns ? " (" + human_duration(now - s.started_ns) + ")" : ""));
  row("incarnation", std::to_string(s.incarnation.value));
  row("data directory", s.data_directory);
  row("socket", s.socket);
  row("disk", s.disk_backend + ", " + human_size(s.disk_bytes) + " in log files");
  for (const MirrorStatus& m : s.mirrors) row(m.topic.empty() ? "copy" : "copy of " + m.topic, mirror_text(m));
  if (s.scrub_mended_bytes != 0) row("mended", human_size(s.scrub_mended_bytes) + " from another copy");
  if (s.scrub_damaged_bytes != 0)
    row("damaged", coloured(1, Colour::red, human_size(s.scrub_damaged_bytes) + " intact on no copy"));
  row("memory", human_size(s.memory_bytes) + " of " + human_size(s.memory_budget_bytes));
  row("sessions", std::to_string(s.sessions));
  row("topics", std::to_string(s.topics) + " with " + std::to_string(s.partitions) + " partitions");
  row("poisoned", s.poisoned == 0 ? "0" : coloured(1, Colour::red, std::to_string(s.poisoned) + " partitions"));
  if (s.open_transactions != 0) row("transactions", human_count(s.open_transactions) + " open");
  if (s.parked_transactions != 0)
    row("parked", coloured(1, Colour::red, human_count(s.parked_transactions) + " transactions wait for an operator") +
                      " (sluice txn list --state parked)");
  row("repaired claims",
      std::to_string(s.repaired_claims) + " of the dead, " + std::to_string(s.expired_claims) + " past their deadline");
  if (s.repair_ns_max != 0)
    row("repair took", human_duration(s.repair_ns_last) + " last, " + human_duration(s.repair_ns_max) + " at most");
  std::string out = table.text();
  for (const std::string& line : s.recovery) out += "last start: " + printable(line) + "\n";
  return out;
}

int status(const Context& context, const Flags& flags) {
  return with_client(context, "status", [&](Client& client) -> int {
    const auto bus = client.status();
    if (!bus) return report("status", bus.error());
    flags.json ? print_json(to_json(*bus)) : print(status_text(*bus));
    return kExitDone;
  });
}

std::string doctor_text(const std::vector<DoctorCheck>& checks) {
  std::string out;
  for (const DoctorCheck& check : checks) {
    out += check.ok ? coloured(1, Colour::green, "ok    ") : coloured(1, Colour::red, "FAILED");
    out += "  " + check.name + ": " + printable(check.detail) + "\n";
    if (!check.ok && !check.advice.empty()) out += "        -> " + printable(check.advice) + "\n";
  }
  return out;
}

int doctor(const Context& context, const Flags& flags) {
  return with_client(context, "doctor", [&](Client& client) -> int {
    const auto checks = [&] {
      const Waiting waiting("examining the bus");
      return client.doctor(flags.quick);
    }();
    if (!checks) return report("doctor", checks.error());
    const Json document = to_json(*checks);
    flags.json ? print_json(document) : print(doctor_text(*checks));
    return document["ok"].get<bool>() ? kExitDone : kExitCheckFailed;
  });
}

// The daemon answers in TOML; toml++ turns it into JSON.
Result<std::string> json_of_toml(const std::string& text) {
  try {
    std::ostringstream out;
    out << toml::json_formatter(toml::parse(text));
    return Json::parse(out.str()).dump(2) + "\n";
  } catch (const std::exception& error) {
    return fail(ErrorCode::internal, std::string("reading the daemon's configuration: ") + error.what());
  }
}

int config(const Context& context, const Flags& flags) {
  return with_client(context, "config", [&](Client& client) -> int {
    auto toml = client.daemon_config();
    if (toml && flags.json) toml = json_of_toml(*toml);
    if (!toml) return report("config", toml.error());
    print(*toml);
    return kExitDone;
  });
}

int session_list(const Context& context, const Flags& flags) {
  return with_client(context, "session list", [&](Client& client) -> int {
    const auto sessions = client.sessions();
    if (!sessions) return report("session list", sessions.error());
    if (flags.json) {
      print_json(to_json(*sessions));
      return kExitDone;
    }
    Table table({"SESSION", "PID", "UID", "PRODUCERS", "READERS", "PINS", "SOCKET", "CLIENT"},
                {true, true, true, true, true, true, false, false});
    for (const SessionInfo& s : *sessions)
      table.add({std::to_string(s.id), std::to_string(s.pid), std::to_string(s.uid), std::to_string(s.producers),
                 std::to_string(s.readers), std::to_string(s.pins), s.connected ? "open" : "closed",
                 printable(s.client_name)});
    print(table.text());
    return kExitDone;
  });
}

int session_kill(const Context& context, const Flags& flags) {
  return with_client(context, "session kill", [&](Client& client) -> int {
    if (Status done = client.kill_session(flags.session); !done) return report("session kill", done.error());
    return kExitDone;
  });
}

CLI::App& add(CLI::App& app, Context& context, const char* verb, const char* help, Action action,
              const std::shared_ptr<Flags>& flags) {
  CLI::App& sub = *app.add_subcommand(verb, help);
  sub.callback(
      [&context, flags, action] { context.run = [&context, flags, action] { return action(context, *flags); }; });
  return sub;
}

constexpr const char* kJsonHelp = "Print one JSON document";

}  // namespace

void add_status_commands(CLI::App& app, Context& context) {
  auto flags = std::make_shared<Flags>();
  add(app, context, "status", "The daemon at a glance", status, flags).add_flag("--json", flags->json, kJsonHelp);
  flags = std::make_shared<Flags>();
  CLI::App& sub = add(app, context, "doctor", "Look for what is wrong, and say what to do", doctor, flags);
  sub.add_flag("--json", flags->json, kJsonHelp);
  sub.add_flag("--quick", flags->quick, "Leave out what reads or writes the disk");
  flags = std::make_shared<Flags>();
  add(app, context, "config", "The daemon's effective configuration", config, flags)
      .add_flag("--json", flags->json, kJsonHelp);
}

void add_session_commands(CLI::App& app, Context& context) {
  CLI::App& group = *app.add_subcommand("session", "See and end attached clients");
  group.require_subcommand(1);
  group.fallthrough();
  auto flags = std::make_shared<Flags>();
  add(group, context, "list", "All attached clients", session_list, flags).add_flag("--json", flags->json, kJsonHelp);
  flags = std::make_shared<Flags>();
  add(group, context, "kill", "End a session: its claims are aborted, its pins let go", session_kill, flags)
      .add_option("ID", flags->session, "As in sluice session list")
      ->required();
}

}  // namespace sluice::cli
