// The whole command line where no daemon is: what is refused before one is asked, and what happens where none answers.

#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "sdk/cli/command.h"

namespace sluice::cli {
namespace {

struct Outcome {
  int exit_code;
  std::string out;
  std::string err;
};

Outcome run(std::vector<const char*> arguments) {
  arguments.insert(arguments.begin(), "sluice");
  testing::internal::CaptureStdout();
  testing::internal::CaptureStderr();
  const int code = run_command_line(static_cast<int>(arguments.size()), arguments.data());
  return {code, testing::internal::GetCapturedStdout(), testing::internal::GetCapturedStderr()};
}

constexpr const char* kNoSocket = "/nonexistent/sluice.sock";

TEST(CommandLine, usage_errors_end_with_two_and_say_so_on_stderr_alone) {
  const std::vector<std::vector<const char*>> wrong = {
      {},
      {"bogus"},
      {"topic"},
      {"topic", "create"},
      {"topic", "create", "a", "--durability", "safe"},
      {"topic", "create", "a", "--segment-size", "4MB"},
      {"topic", "create", "a", "--partitions", "0"},
      {"topic", "create", "a", "--claim-deadline", "1"},
      {"topic", "create", "a", "--checksum", "maybe"},
      {"topic", "alter", "a"},
      {"topic", "alter", "a", "--partitions", "4"},
      {"topic", "describe"},
      {"produce"},
      {"produce", "a", "--rate", "-1"},
      {"produce", "a", "--header", "x"},
      {"produce", "a", "--durability", "async"},
      {"produce", "a", "--key", "k", "--key-delimiter", ":"},
      {"produce", "a", "--key-delimiter", "::"},
      {"produce", "a", "--timeout", "5"},
      {"consume"},
      {"consume", "a", "--from", "there"},
      {"consume", "a", "--format", "%x"},
      {"consume", "a", "--format", "%s", "--json"},
      {"consume", "a", "--count", "0"},
      {"consume", "a", "--timeout", "soon"},
      {"msg", "show", "a"},
      {"msg", "show", "a/b@c"},
      {"audit"},
      {"session", "kill", "x"},
      {"consume", "a", "--mode", "shared"},
      {"consume", "a", "--no-ack"},
      {"consume", "a", "--group", ""},
      {"consume", "a", "--group", "g", "--mode", "sorted"},
      {"consume", "a", "--group", "g", "--partition", "1"},
      {"group"},
      {"group", "create"},
      {"group", "create", "g", "--mode", "sorted"},
      {"group", "create", "g", "--ack-timeout", "30"},
      {"group", "create", "g", "--max-attempts", "0"},
      {"group", "create", "g", "--backoff", "exp:5s"},
      {"group", "create", "g", "--strict", "tag"},
      {"group", "alter", "g"},
      {"group", "alter", "g", "--hold", "--no-hold"},
      {"group", "alter", "g", "--mode", "shared"},
      {"group", "describe"},
      {"group", "seek", "g"},
      {"group", "seek", "g", "--to", "there"},
      {"group", "seek", "g", "--to", "0@64"},
      {"group", "seek", "g", "--to", "64"},
      {"group", "pause"},
      {"why"},
      {"why", "g", "--max-lag", "5"},
      {"why", "g", "--check", "--max-age", "5"},
      {"dlq"},
      {"dlq", "show"},
      {"dlq", "show", "g", "--limit", "0"},
      {"dlq", "redrive", "g", "--filter", "colour=red"},
      {"dlq", "redrive", "g", "--rate", "0"},
      {"dlq", "purge"},
      {"txn"},
      {"txn", "list", "--state", "closed"},
      {"txn", "show"},
      {"txn", "show", "17"},
      {"txn", "commit", "17-3x"},
      {"txn", "rollback", "0-1"},
      {"top", "--interval", "2"},
      {"top", "--interval", "0"},
      {"top", "--count", "0"},
  };
  for (const auto& arguments : wrong) {
    const Outcome outcome = run(arguments);
    std::string line;
    for (const char* argument : arguments) line += std::string(" ") + argument;
    EXPECT_EQ(outcome.exit_code, 2) << "sluice" << line;
    EXPECT_EQ(outcome.out, "") << "sluice" << line;
    EXPECT_NE(outcome.err, "") << "sluice" << line;
  }
}

TEST(CommandLine, every_command_has_help) {
  for (const std::vector<const char*>& arguments :
       std::vector<std::vector<const char*>>{{"--help"},
                                             {"topic", "--help"},
                                             {"topic", "create", "--help"},
                                             {"topic", "list", "--help"},
                                             {"topic", "describe", "--help"},
                                             {"topic", "alter", "--help"},
                                             {"topic", "delete", "--help"},
                                             {"produce", "--help"},
                                             {"consume", "--help"},
                                             {"audit", "--help"},
                                             {"group", "create", "--help"},
                                             {"group", "alter", "--help"},
                                             {"group", "list", "--help"},
                                             {"group", "describe", "--help"},
                                             {"group", "delete", "--help"},
                                             {"group", "seek", "--help"},
                                             {"group", "pause", "--help"},
                                             {"group", "resume", "--help"},
                                             {"why", "--help"},
                                             {"dlq", "list", "--help"},
                                             {"dlq", "show", "--help"},
                                             {"dlq", "redrive", "--help"},
                                             {"dlq", "purge", "--help"},
                                             {"msg", "show", "--help"},
                                             {"status", "--help"},
                                             {"doctor", "--help"},
                                             {"metrics", "--help"},
                                             {"config", "--help"},
                                             {"session", "list", "--help"},
                                             {"session", "kill", "--help"}}) {
    const Outcome outcome = run(arguments);
    EXPECT_EQ(outcome.exit_code, 0);
    EXPECT_NE(outcome.out, "");
    EXPECT_EQ(outcome.err, "");
  }
  EXPECT_EQ(run({"--version"}).out.substr(0, 7), "sluice ");
}

TEST(CommandLine, where_no_daemon_answers_every_command_ends_with_three_and_says_what_to_do) {
  const std::vector<std::vector<const char*>> commands = {
      {"topic", "list"},
      {"topic", "create", "a"},
      {"produce", "a"},
      {"consume", "a", "--exit"},
      {"consume", "a", "--group", "g"},
      {"group", "list"},
      {"group", "create", "g", "--backoff", "1s,5s,1m", "--ack-timeout", "5s", "--hold"},
      {"group", "alter", "g", "--no-hold"},
      {"group", "describe", "g"},
      {"group", "delete", "g"},
      {"group", "seek", "g", "--topic", "a", "--to", "0@64"},
      {"group", "seek", "g", "--to", "-10m"},
      {"group", "pause", "g"},
      {"group", "resume", "g"},
      {"why", "g", "--check", "--max-lag", "5", "--max-age", "5s"},
      {"dlq", "list"},
      {"dlq", "list", "g"},
      {"dlq", "show", "g"},
      {"dlq", "redrive", "g", "--filter", "topic=a", "--filter", "reason=x=y", "--rate", "5", "--dry-run"},
      {"dlq", "purge", "g"},
      {"audit", "a"},
      {"msg", "show", "a/0@64"},
      {"status"},
      {"top"},
      {"doctor", "--quick"},
      {"metrics"},
      {"config", "--json"},
      {"session", "list"}};
  for (const std::vector<const char*>& arguments : commands) {
    std::vector<const char*> all = arguments;
    all.push_back("--socket");
    all.push_back(kNoSocket);
    const Outcome outcome = run(all);
    EXPECT_EQ(outcome.exit_code, 3) << outcome.err;
    EXPECT_EQ(outcome.out, "");
    EXPECT_NE(outcome.err.find(kNoSocket), std::string::npos) << outcome.err;
    EXPECT_NE(outcome.err.find("sluiced"), std::string::npos) << outcome.err;
    EXPECT_LE(std::count(outcome.err.begin(), outcome.err.end(), '\n'), 2) << outcome.err;
  }
}

}  // namespace
}  // namespace sluice::cli
