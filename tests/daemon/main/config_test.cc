#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <vector>

#include <gtest/gtest.h>

#include "daemon/main/command_line.h"

namespace sluice::daemon {
namespace {

const Environment kRoot{0, "/root", "", "", "/srv/here"};
const Environment kUser{1000, "/home/ann", "/run/user/1000", "/home/ann/.state", "/home/ann"};

Result<Config> parse(std::string_view toml) { return parse_config(toml, "x.toml", default_config(kRoot)); }

std::string error_of(std::string_view toml) {
  const auto config = parse(toml);
  EXPECT_FALSE(config) << toml;
  return config ? "" : config.error().context();
}

CommandLine command_line(std::vector<const char*> arguments) {
  arguments.insert(arguments.begin(), "sluiced");
  return parse_command_line(static_cast<int>(arguments.size()), arguments.data(), kRoot);
}

TEST(Config, defaults_of_root_and_of_others_are_in_their_own_places) {
  const Config root = default_config(kRoot);
  EXPECT_EQ(root.data_dir, "/var/lib/sluice");
  EXPECT_EQ(root.socket, "/run/sluice/sluice.sock");
  const Config user = default_config(kUser);
  EXPECT_EQ(user.data_dir, "/home/ann/.state/sluice");
  EXPECT_EQ(user.socket, "/run/user/1000/sluice/sluice.sock");
  const Config bare = default_config({1000, "/home/ann", "", "", "/"});
  EXPECT_EQ(bare.data_dir, "/home/ann/.local/state/sluice");
  EXPECT_EQ(bare.socket, "/run/user/1000/sluice/sluice.sock");
  EXPECT_TRUE(check(root));
  EXPECT_EQ(root.socket_mode, 0660u);
  EXPECT_EQ(root.http, "off");
}

TEST(Config, an_empty_file_changes_nothing) {
  const auto config = parse("");
  ASSERT_TRUE(config);
  EXPECT_EQ(to_toml(*config), to_toml(default_config(kRoot)));
}

TEST(Config, every_kind_of_setting_is_read) {
  const auto config = parse(R"(
data_dir = "/srv/bus"
socket_group = "staff"
socket_mode = "0666"
http = "off"
log_level = "debug"
keeper = false
memory_budget = "1GiB"
[topics]
durability = "sync"
segment_size = "1MiB"
slots = 16
flush_interval = "20ms"
claim_deadline = "2s"
segments_per_file = 8
[retention]
bytes = "10GiB"
time = "3d"
check_interval = "1m"
[limits]
sessions_max = 10
partitions_max = 20
)");
  ASSERT_TRUE(config) << config.error().message();
  EXPECT_EQ(config->data_dir, "/srv/bus");
  EXPECT_EQ(config->socket, "/run/sluice/sluice.sock");
  EXPECT_EQ(config->socket_group, "staff");
  EXPECT_EQ(config->socket_mode, 0666u);
  EXPECT_EQ(config->log_level, "debug");
  EXPECT_EQ(config->memory_budget, 1u << 30);
  EXPECT_EQ(config->topics.durability, core::Durability::sync);
  EXPECT_EQ(config->topics.segment_size, 1u << 20);
  EXPECT_EQ(config->topics.slots, 16u);
  EXPECT_EQ(config->topics.flush_interval_ns, 20'000'000u);
  EXPECT_EQ(config->topics.claim_deadline_ns, 2'000'000'000u);
  EXPECT_EQ(config->topics.segments_per_file, 8u);
  EXPECT_EQ(config->retention.bytes, 10ull << 30);
  EXPECT_EQ(config->retention.time_ns, 259'200'000'000'000u);
  EXPECT_EQ(config->retention.check_interval_ns, 60'000'000'000u);
  EXPECT_EQ(config->limits.sessions_max, 10u);
  EXPECT_EQ(config->limits.partitions_max, 20u);
  EXPECT_EQ(config->file, "x.toml");
}

TEST(Config, an_unknown_key_is_refused_with_its_line_and_the_nearest_known_one) {
  EXPECT_EQ(error_of("log_level = \"info\"\n\nsokcet = \"/x\"\n"),
            "x.toml:3: unknown key \"sokcet\"; the nearest known one is \"socket\"");
  EXPECT_EQ(error_of("[topics]\nslot = 9\n"),
            "x.toml:2: unknown key \"topics.slot\"; the nearest known one is \"topics.slots\"");
  EXPECT_NE(error_of("sessions_max = 9\n").find("\"limits.sessions_max\""), std::string::npos)
      << "a key in the wrong section finds its own";
  EXPECT_NE(error_of("[topic]\nslots = 9\n").find("x.toml:1: unknown key \"topic\""), std::string::npos);
  EXPECT_NE(error_of("topics = 5\n").find("x.toml:1: unknown key \"topics\""), std::string::npos);
}

TEST(Config, a_wrong_type_unit_or_range_is_refused_with_its_line) {
  EXPECT_EQ(error_of("\nkeeper = 1\n"), "x.toml:2: keeper must be true or false");
  EXPECT_EQ(error_of("data_dir = 5\n"), "x.toml:1: data_dir must be a text in quotes");
  EXPECT_EQ(error_of("data_dir = \"here\"\n"), "x.toml:1: data_dir must be an absolute path");
  EXPECT_NE(
      error_of("[topics]\nflush_interval = \"5MiB\"\n").find("x.toml:2: topics.flush_interval \"5MiB\" has an unknown"),
      std::string::npos);
  EXPECT_NE(error_of("[topics]\nflush_interval = 5\n").find("x.toml:2: "), std::string::npos);
  EXPECT_EQ(error_of("[limits]\nsessions_max = 0\n"),
            "x.toml:2: limits.sessions_max must be a whole number from 1 to 4096");
  EXPECT_NE(error_of("[limits]\nsessions_max = 1.5\n").find("whole number"), std::string::npos);
  EXPECT_NE(error_of("memory_budget = \"1KiB\"\n").find("must be from 16MiB"), std::string::npos);
  EXPECT_NE(error_of("[topics]\ndurability = \"safe\"\n").find("\"volatile\", \"async\" or \"sync\""),
            std::string::npos);
  EXPECT_NE(error_of("socket_mode = \"0999\"\n").find("octal"), std::string::npos);
  for (const char* http : {"9100", ":9100", "host:", "host:0", "host:70000", "unix:x", ""})
    EXPECT_NE(error_of(std::string("http = \"") + http + "\"\n").find("x.toml:1: http"), std::string::npos) << http;
  EXPECT_NE(error_of("socket = \"/" + std::string(107, 'x') + "\"\n").find("107"), std::string::npos);
}

TEST(Config, mirrors_are_directories_of_their_own) {
  const auto config = parse("mirrors = [\"/mnt/b/sluice\", \"/mnt/c\"]\n");
  ASSERT_TRUE(config) << config.error().message();
  EXPECT_EQ(config->mirrors, (std::vector<std::string>{"/mnt/b/sluice", "/mnt/c"}));
  EXPECT_EQ(parse(to_toml(*config))->mirrors, config->mirrors);
  EXPECT_EQ(error_of("mirrors = \"/mnt/b\"\n"), "x.toml:1: mirrors must be a list of directories: [\"/mnt/b/sluice\"]");
  EXPECT_EQ(error_of("mirrors = [\"b\"]\n"), "x.toml:1: mirrors must be an absolute path");
  for (const char* nested : {"\"/var/lib/sluice\"", "\"/var/lib/sluice/\"", "\"/var/lib/sluice/b\"", "\"/var/lib\"",
                             "\"/mnt/b\", \"/mnt/b/c\"", "\"/mnt/b\", \"/mnt/b\""})
    EXPECT_NE(error_of(std::string("mirrors = [") + nested + "]\n").find("lie in one another"), std::string::npos)
        << nested;
  EXPECT_TRUE(parse("mirrors = [\"/var/lib/sluice-b\"]\n")) << "a name that begins alike is another directory";
  EXPECT_NE(error_of("mirrors = [\"/b\", \"/c\", \"/d\", \"/e\"]\n").find("at most 3"), std::string::npos);
  EXPECT_NE(error_of("mirrors = [\"/" + std::string(900, 'x') + "\"]\n").find("at most 900 bytes"), std::string::npos);
}

TEST(Config, resolvers_are_read_and_written_back) {
  EXPECT_TRUE(parse("")->transactions.resolvers.empty());
  const auto config = parse(R"(
[transactions]
timeout = "2s"
[[transactions.resolver]]
group = "shop"
command = ["/usr/libexec/shop-resolver", "--database", "a \"b\" \\ c"]
timeout = "3s"
[[transactions.resolver]]
group = "bank é"
command = ["/bank"]
)");
  ASSERT_TRUE(config) << config.error().message();
  const std::vector<core::ResolverConfig> expected = {
      {"shop", {"/usr/libexec/shop-resolver", "--database", "a \"b\" \\ c"}, 3'000'000'000},
      {"bank é", {"/bank"}, core::kResolverTimeoutNsDefault}};
  EXPECT_EQ(config->transactions.resolvers, expected);
  const auto again = parse(to_toml(*config));
  ASSERT_TRUE(again) << again.error().message();
  EXPECT_EQ(again->transactions.resolvers, expected);
}

TEST(Config, a_resolver_that_cannot_be_is_refused_with_its_line) {
  const std::string good = "[[transactions.resolver]]\ngroup = \"shop\"\ncommand = [\"/x\"]\n";
  const auto refused = [&](const std::string& toml, const std::string& why) {
    const std::string error = error_of(toml);
    EXPECT_NE(error.find(why), std::string::npos) << error;
  };
  EXPECT_TRUE(parse(good));
  refused("[transactions.resolver]\ngroup = \"shop\"\ncommand = [\"/x\"]\n", "with both brackets");
  refused("[[transactions.resolvers]]\n", "the nearest known one is \"transactions.resolver\"");
  refused(good + "[[transactions.resolver]]\ncommand = [\"/x\"]\n", "of line 4: group must be the name");
  refused("[[transactions.resolver]]\ngroup = \"shop\"\n", "command must begin with the absolute path");
  refused("[[transactions.resolver]]\ngroup = \"shop\"\ncommand = [\"x\"]\n", "absolute path");
  refused("[[transactions.resolver]]\ngroup = \"shop\"\ncommand = \"/x -v\"\n", "command must be a list of texts");
  refused("[[transactions.resolver]]\ngroup = \"shop\"\ncommand = [\"/x\", 5]\n", "command must be a list of texts");
  refused(good + "timeout = 5\n", "of line 1: timeout must be a text");
  refused(good + "timeout = \"5MiB\"\n", "timeout \"5MiB\"");
  refused(good + "timeout = \"1h\"\n", "timeout must be from 100ms to 10m");
  refused(good + "shell = true\n", "unknown key \"shell\"; it has group, command and timeout");
  refused(good + good, "group \"shop\": it has one already");
}

TEST(Config, mirror_roots_are_directories_that_topics_may_have_mirrors_in) {
  EXPECT_TRUE(parse("")->mirror_roots.empty());
  const auto config = parse("mirror_roots = [\"/mnt/b\", \"/mnt/c\"]\n");
  ASSERT_TRUE(config) << config.error().message();
  EXPECT_EQ(config->mirror_roots, (std::vector<std::string>{"/mnt/b", "/mnt/c"}));
  EXPECT_EQ(parse(to_toml(*config))->mirror_roots, config->mirror_roots);
  EXPECT_EQ(error_of("mirror_roots = [\"b\"]\n"), "x.toml:1: mirror_roots must be an absolute path");
}

TEST(Config, mirrors_of_the_command_line_take_the_place_of_the_files) {
  const CommandLine line = command_line({"--mirror", "/mnt/b", "--mirror", "c", "--accept-missing-mirror", "/mnt/d"});
  ASSERT_TRUE(line.config) << line.message;
  EXPECT_EQ(line.config->mirrors, (std::vector<std::string>{"/mnt/b", "/srv/here/c"}));
  EXPECT_EQ(line.config->accept_missing, (std::vector<std::string>{"/mnt/d"}));
  EXPECT_EQ(command_line({"--mirror", "/var/lib/sluice"}).exit_code, 2);
}

TEST(Config, what_is_no_toml_is_refused_with_its_line) {
  EXPECT_EQ(error_of("keeper = true\nhttp = \n").substr(0, 9), "x.toml:2:");
  EXPECT_EQ(error_of("keeper = true\nkeeper = true\n").substr(0, 9), "x.toml:2:");
}

TEST(Config, settings_that_do_not_fit_together_are_refused) {
  EXPECT_NE(error_of("[topics]\nsegment_size = \"100KiB\"\n").find("power of two"), std::string::npos);
  EXPECT_NE(error_of("memory_budget = \"16MiB\"\n[topics]\nsegment_size = \"8MiB\"\n").find("32MiB"),
            std::string::npos);
}

TEST(Config, what_this_version_does_not_have_is_refused_and_not_ignored) {
  EXPECT_NE(error_of("http = \"127.0.0.1:9100\"\n").find("no HTTP endpoint"), std::string::npos);
  EXPECT_NE(error_of("http = \"unix:/run/h\"\n").find("no HTTP endpoint"), std::string::npos);
}

TEST(CommandLine, the_keeper_is_on_unless_the_file_or_a_flag_says_otherwise) {
  EXPECT_TRUE(command_line({}).config->keeper);
  EXPECT_TRUE(command_line({"--keeper"}).config->keeper);
  EXPECT_FALSE(command_line({"--no-keeper"}).config->keeper);
  EXPECT_EQ(command_line({"--keeper", "--no-keeper"}).exit_code, 2);
  EXPECT_FALSE(parse("keeper = false\n")->keeper);
}

TEST(Config, the_effective_configuration_is_read_back_as_it_was) {
  Config config = default_config(kUser);
  config.socket_group = "a \"quoted\" group\n";
  config.memory_budget = 123'456'789;
  config.retention.time_ns = 5'000'000'000;
  config.topics.durability = core::Durability::volatile_;
  const auto back = parse_config(to_toml(config), "y.toml", default_config(kRoot));
  ASSERT_TRUE(back) << back.error().message();
  EXPECT_EQ(to_toml(*back), to_toml(config));
  EXPECT_EQ(back->socket_group, config.socket_group);
  EXPECT_EQ(back->memory_budget, config.memory_budget);
}

TEST(Config, the_example_file_is_every_setting_with_its_default) {
  std::ifstream in(SLUICE_EXAMPLE_CONFIG);
  const std::string file{std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
  EXPECT_EQ(file, to_toml(default_config(kRoot), TomlStyle::example))
      << "run sluiced's tests after a new setting, and "
         "take the example over into systemd/sluiced.toml";
  const auto parsed = parse(file);
  ASSERT_TRUE(parsed);
  EXPECT_EQ(to_toml(*parsed), to_toml(default_config(kRoot)));
}

TEST(Config, the_example_file_uncommented_is_the_default_configuration) {
  std::string toml = to_toml(default_config(kRoot), TomlStyle::example);
  for (std::size_t at = toml.find("\n#"); at != std::string::npos; at = toml.find("\n#", at + 1))
    if (toml[at + 2] != ' ') toml.erase(at + 1, 1);
  const auto parsed = parse(toml);
  ASSERT_TRUE(parsed) << parsed.error().message();
  EXPECT_EQ(to_toml(*parsed), to_toml(default_config(kRoot)));
}

TEST(Config, the_memory_budget_is_never_below_its_minimum) {
  EXPECT_GE(memory_budget_bytes(default_config(kRoot)), kMemoryBudgetMin);
  Config config;
  config.memory_budget = 77;
  EXPECT_EQ(memory_budget_bytes(config), 77u);
}

TEST(Config, a_missing_file_is_an_error_with_its_path) {
  const auto config = read_config("/nonexistent/sluiced.toml", default_config(kRoot));
  ASSERT_FALSE(config);
  EXPECT_NE(config.error().message().find("/nonexistent/sluiced.toml"), std::string::npos);
}

TEST(CommandLine, flags_override_the_defaults) {
  const CommandLine line = command_line(
      {"--data-dir", "data", "--socket", "/tmp/s", "--http", "off", "--log-level", "warn", "--memory-budget", "64MiB"});
  ASSERT_TRUE(line.config) << line.message;
  EXPECT_EQ(line.config->data_dir, "/srv/here/data") << "relative to where the command was given";
  EXPECT_EQ(line.config->socket, "/tmp/s");
  EXPECT_EQ(line.config->log_level, "warn");
  EXPECT_EQ(line.config->memory_budget, 64u << 20);
}

TEST(CommandLine, flags_override_the_file) {
  std::string name = (std::filesystem::temp_directory_path() / "sluice-config-XXXXXX").string();
  const std::filesystem::path directory = mkdtemp(name.data());
  const std::string file = (directory / "sluiced.toml").string();
  std::ofstream(file) << "socket = \"/tmp/of-file\"\nlog_level = \"error\"\n";
  const CommandLine line = command_line({"--config", file.c_str(), "--log-level", "warn"});
  ASSERT_TRUE(line.config) << line.message;
  EXPECT_EQ(line.config->socket, "/tmp/of-file");
  EXPECT_EQ(line.config->log_level, "warn");
  EXPECT_EQ(line.config->file, file);
  std::ofstream(file) << "sockte = \"x\"\n";
  const CommandLine bad = command_line({"--config", file.c_str()});
  EXPECT_FALSE(bad.config);
  EXPECT_EQ(bad.exit_code, 2);
  EXPECT_NE(bad.message.find(file + ":1: unknown key"), std::string::npos) << bad.message;
  std::filesystem::remove_all(directory);
}

TEST(CommandLine, usage_errors_end_with_two_and_help_and_version_with_zero) {
  for (const std::vector<const char*>& arguments : {std::vector<const char*>{"--bogus"},
                                                    {"stray"},
                                                    {"--socket"},
                                                    {"--log-level", "loud"},
                                                    {"--http", "x"},
                                                    {"--config", "/nonexistent"},
                                                    {"--memory-budget", "5"}}) {
    const CommandLine line = command_line(arguments);
    EXPECT_FALSE(line.config) << arguments[0];
    EXPECT_EQ(line.exit_code, 2) << arguments[0];
    EXPECT_FALSE(line.message.empty());
    EXPECT_EQ(line.message.back(), '\n');
  }
  EXPECT_EQ(command_line({"--help"}).exit_code, 0);
  EXPECT_NE(command_line({"--help"}).message.find("--data-dir"), std::string::npos);
  EXPECT_EQ(command_line({"--version"}).message.substr(0, 8), "sluiced ");
}

TEST(CommandLine, print_config_prints_what_would_hold) {
  const CommandLine line = command_line({"--print-config", "--socket", "/tmp/s"});
  EXPECT_FALSE(line.config);
  EXPECT_EQ(line.exit_code, 0);
  EXPECT_NE(line.message.find("socket = \"/tmp/s\""), std::string::npos);
}

}  // namespace
}  // namespace sluice::daemon
