// sluice-perf: what the bus does on this machine, beside what the machine itself does.
//
// The bare ring has its own program, sluice-ring-bench.

#include <cstdio>

#include <CLI/CLI.hpp>

#include "perf/durable.h"
#include "perf/group.h"
#include "perf/sdk_latency.h"
#include "perf/transaction.h"

namespace {

int report(const sluice::Status& status, const char* what) {
  if (status) return 0;
  std::fprintf(stderr, "sluice-perf %s: %s\n", what, status.error().message().c_str());
  return status.error().code() == sluice::ErrorCode::no_daemon ? 3 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Measures the bus beside the machine's own floor, in the same run.");
  app.require_subcommand(1);
  std::string socket;
  app.add_option("--socket", socket, "the daemon's socket");

  sluice::perf::LatencyOptions latency;
  bool quick = false;
  CLI::App* latency_command = app.add_subcommand("latency", "from send() to the reader's hands, one way");
  latency_command->add_option("--size", latency.size, "bytes of payload")->check(CLI::Range(8u, 65536u));
  latency_command->add_option("--rate", latency.rate, "messages a second")->check(CLI::Range(1u, 1000000u));
  latency_command->add_option("--seconds", latency.seconds, "of each measurement")->check(CLI::Range(0.1, 3600.0));
  latency_command->add_flag("--quick", quick, "half a second each");

  sluice::perf::DurableOptions durable;
  CLI::App* durable_command = app.add_subcommand("durable", "from send() to stable storage");
  durable_command->add_option("--size", durable.size, "bytes of payload")->check(CLI::Range(1u, 1u << 20));
  durable_command->add_option("--seconds", durable.seconds, "of each measurement")->check(CLI::Range(0.1, 3600.0));
  durable_command->add_option("--dir", durable.directory, "where to measure the disk's floor");

  sluice::perf::GroupOptions group;
  CLI::App* group_command = app.add_subcommand("group", "a group's members, acking, beside a bare reader");
  group_command->add_option("--size", group.size, "bytes of payload")->check(CLI::Range(1u, 65536u));
  group_command->add_option("--seconds", group.seconds, "of each measurement")->check(CLI::Range(0.1, 3600.0));

  sluice::perf::TransactionOptions transaction;
  CLI::App* transaction_command =
      app.add_subcommand("transaction", "a half and its commit, beside two synchronous writes");
  transaction_command->add_option("--size", transaction.size, "bytes of payload")->check(CLI::Range(1u, 65536u));
  transaction_command->add_option("--seconds", transaction.seconds, "of each measurement")
      ->check(CLI::Range(0.1, 3600.0));
  transaction_command->add_option("--dir", transaction.directory, "where to measure the disk's floor");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  latency.socket = durable.socket = group.socket = transaction.socket = socket;
  if (quick) latency.seconds = 0.5;
  if (latency_command->parsed()) return report(sluice::perf::print_latency(latency), "latency");
  if (transaction_command->parsed()) return report(sluice::perf::print_transaction(transaction), "transaction");
  if (group_command->parsed()) return report(sluice::perf::print_group(group), "group");
  return report(sluice::perf::print_durable(durable), "durable");
}
