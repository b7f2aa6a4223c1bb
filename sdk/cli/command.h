// How a command is made: each group adds its subcommands and flags to the parser, and what is to run once parsing chose
// it.
//
// Owner: main's thread. Lifetimes: the App and the Context outlive the run.
#pragma once

#include <functional>
#include <string>

#include <CLI/CLI.hpp>

#include "sdk/cli/exit_code.h"
#include "sdk/cli/json.h"
#include "sdk/cli/output.h"
#include "shm/base/result.h"
#include "sluice/client.h"

namespace sluice::cli {

struct Context {
  std::string socket;        // --socket; empty: SLUICE_SOCKET or the default
  std::function<int()> run;  // set by the parser; returns the exit code
};

// Parses, runs, and returns the exit code.
int run_command_line(int argc, const char* const* argv);

void add_topic_commands(CLI::App& app, Context& context);  // topic create | list | describe | alter | delete | …
void add_topic_scrub(CLI::App& group, Context& context);   // topic scrub
void add_produce_command(CLI::App& app, Context& context);
void add_consume_command(CLI::App& app, Context& context);
void add_group_commands(CLI::App& app, Context& context);  // group create | alter | list | describe | delete | seek | …
void add_why_command(CLI::App& app, Context& context);
void add_dlq_commands(CLI::App& app, Context& context);  // dlq list | show | redrive | purge
void add_txn_commands(CLI::App& app, Context& context);  // txn list | show | commit | rollback | recheck
void add_audit_command(CLI::App& app, Context& context);
void add_message_command(CLI::App& app, Context& context);  // msg show
void add_top_command(CLI::App& app, Context& context);
void add_status_commands(CLI::App& app, Context& context);   // status, doctor, config
void add_session_commands(CLI::App& app, Context& context);  // session list | kill
void add_metrics_command(CLI::App& app, Context& context);

// A connection under the name "sluice COMMAND".
Result<Client> connect(const Context& context, const std::string& command);
// As above, for commands that run for long: says on stderr when the daemon goes and comes back.
Result<Client> connect_for_long(const Context& context, const std::string& command);

// Runs `body` on a connection; reports what fails.
template <typename Body>
int with_client(const Context& context, const std::string& command, Body body) {
  auto client = connect(context, command);
  if (!client) return report(command, client.error());
  return body(*client);
}

void print(std::string_view text);
void print_json(const Json& document);

}  // namespace sluice::cli
