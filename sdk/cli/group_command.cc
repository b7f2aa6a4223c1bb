// sluice group create | alter | list | describe | delete | seek | pause | resume

#include <algorithm>
#include <chrono>
#include <memory>
#include <optional>

#include "sdk/cli/arguments.h"
#include "sdk/cli/command.h"
#include "sdk/cli/group_text.h"

namespace sluice::cli {
namespace {

// As typed; empty: not given.
struct GroupFlags {
  std::string name;
  std::string mode, ack_timeout, member_timeout, backoff, strict;
  std::uint32_t max_attempts = 0;
  bool hold = false;
  bool no_hold = false;
  bool json = false;
  // seek
  std::string topic, to;
  bool execute = false;
  bool force = false;
};

// Sets `to` if the flag was given.
template <typename T, typename Parse>
Status take(const char* flag, const std::string& text, T& to, Parse parse) {
  if (text.empty()) return {};
  auto value = parse(text);
  if (!value) return fail(ErrorCode::invalid, std::string(flag) + ": " + value.error().context());
  to = std::move(*value);
  return {};
}

Result<Duration> duration_of(std::string_view text) {
  SLUICE_ASSIGN(const std::uint64_t ns, duration_argument(text));
  return Duration(static_cast<Duration::rep>(ns));
}

Result<GroupConfig> config_of(const GroupFlags& flags) {
  GroupConfig config;
  config.name = flags.name;
  SLUICE_TRY(take("--mode", flags.mode, config.mode, group_mode_argument));
  SLUICE_TRY(take("--ack-timeout", flags.ack_timeout, config.ack_timeout, duration_of));
  SLUICE_TRY(take("--member-timeout", flags.member_timeout, config.member_timeout, duration_of));
  SLUICE_TRY(take("--backoff", flags.backoff, config.backoff, backoff_argument));
  SLUICE_TRY(take("--strict", flags.strict, config.strict, strict_argument));
  if (flags.max_attempts != 0) config.max_attempts = flags.max_attempts;
  config.hold = flags.hold;
  return config;
}

Result<GroupChange> change_of(const GroupFlags& flags) {
  GroupChange change;
  SLUICE_TRY(take("--ack-timeout", flags.ack_timeout, change.ack_timeout, duration_of));
  SLUICE_TRY(take("--member-timeout", flags.member_timeout, change.member_timeout, duration_of));
  SLUICE_TRY(take("--backoff", flags.backoff, change.backoff, backoff_argument));
  SLUICE_TRY(take("--strict", flags.strict, change.strict, strict_argument));
  if (flags.max_attempts != 0) change.max_attempts = flags.max_attempts;
  if (flags.hold || flags.no_hold) change.hold = flags.hold;
  return change;
}

int create(const Context& context, const GroupFlags& flags) {
  const std::string command = "group create";
  const auto config = config_of(flags);
  if (!config) return report_usage(command, config.error().context());
  return with_client(context, command, [&](Client& client) -> int {
    if (Status done = client.create_group(*config); !done) return report(command, done.error());
    return kExitDone;
  });
}

int alter(const Context& context, const GroupFlags& flags) {
  const std::string command = "group alter";
  const auto change = change_of(flags);
  if (!change) return report_usage(command, change.error().context());
  if (!change->ack_timeout && !change->member_timeout && !change->max_attempts && !change->backoff && !change->strict &&
      !change->hold)
    return report_usage(command,
                        "nothing to change; give --ack-timeout, --member-timeout, --max-attempts, --backoff, --strict, "
                        "--hold or --no-hold");
  return with_client(context, command, [&](Client& client) -> int {
    if (Status done = client.alter_group(flags.name, *change); !done) return report(command, done.error());
    return kExitDone;
  });
}

int list(const Context& context, const GroupFlags& flags) {
  const std::string command = "group list";
  return with_client(context, command, [&](Client& client) -> int {
    const auto groups = client.groups();
    if (!groups) return report(command, groups.error());
    if (flags.json) {
      print_json(to_json(*groups));
    } else if (groups->empty()) {
      print("no groups; make one with: sluice group create NAME, or sluice consume TOPIC --group NAME\n");
    } else {
      print(group_list_text(*groups));
    }
    return kExitDone;
  });
}

int describe(const Context& context, const GroupFlags& flags) {
  const std::string command = "group describe";
  return with_client(context, command, [&](Client& client) -> int {
    const auto group = client.group(flags.name);
    if (!group) return report(command, group.error());
    flags.json ? print_json(to_json(*group)) : print(group_text(*group));
    return kExitDone;
  });
}

int remove(const Context& context, const GroupFlags& flags) {
  const std::string command = "group delete";
  return with_client(context, command, [&](Client& client) -> int {
    if (Status done = client.delete_group(flags.name); !done) return report(command, done.error());
    return kExitDone;
  });
}

template <bool kPause>
int pause(const Context& context, const GroupFlags& flags) {
  const std::string command = kPause ? "group pause" : "group resume";
  return with_client(context, command, [&](Client& client) -> int {
    if (Status done = client.pause_group(flags.name, kPause); !done) return report(command, done.error());
    return kExitDone;
  });
}

// ---- seek ----

std::uint64_t wall_ns() {
  return static_cast<std::uint64_t>(
      std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::system_clock::now().time_since_epoch())
          .count());
}

// A position is one of a topic's partition: which one must be clear.
Status check_place(Client& client, const GroupFlags& flags, const FromArgument& to) {
  if (to.from.kind != From::Kind::position || to.partition_given) return {};
  SLUICE_ASSIGN(const TopicInfo topic, client.topic(flags.topic));
  if (topic.config.partitions == 1) return {};
  return fail(ErrorCode::invalid, "topic " + flags.topic + " has " + std::to_string(topic.config.partitions) +
                                      " partitions: write --to PARTITION@POSITION");
}

void print_seek(const GroupFlags& flags, const std::vector<SeekMove>& moves) {
  const std::vector<std::string> undo = undo_commands(flags.name, moves);
  if (flags.json) {
    Json list = Json::array();
    for (const SeekMove& move : moves)
      list.push_back({{"topic", move.topic},
                      {"partition", move.partition},
                      {"from", move.from.value},
                      {"to", move.to.value},
                      {"below_safe_horizon", move.below_horizon}});
    print_json({{"group", flags.name}, {"executed", flags.execute}, {"moves", std::move(list)}, {"undo", undo}});
    return;
  }
  std::string out = moves_text(moves);
  const bool forced = std::any_of(moves.begin(), moves.end(), [](const SeekMove& move) { return move.below_horizon; });
  if (forced && !flags.execute)
    out +=
        "\nThat is below the group's safe horizon: what ledgers have forgotten would be handled anew, in a new epoch.\n"
        "It needs --force.\n";
  if (!flags.execute)
    out += "\nA dry run: nothing was moved. Add --execute to do it" +
           std::string(undo.empty() ? "" : "; to undo it then") + (undo.empty() ? ".\n" : ":\n");
  if (flags.execute) out += undo.empty() ? "\nEvery cursor stood there already.\n" : "\nTo undo it:\n";
  for (const std::string& line : undo) out += "  " + line + "\n";
  print(out);
}

int seek(const Context& context, const GroupFlags& flags) {
  const std::string command = "group seek";
  const auto to = from_argument(flags.to, wall_ns());
  if (!to) return report_usage(command, "--to: " + to.error().context());
  if (to->from.kind == From::Kind::position && flags.topic.empty())
    return report_usage(command, "--to with a position needs --topic");
  return with_client(context, command, [&](Client& client) -> int {
    if (Status clear = check_place(client, flags, *to); !clear) return report(command, clear.error());
    const auto moves = client.seek_group(flags.name, flags.topic, to->from, flags.execute, flags.force);
    if (!moves) return report(command, moves.error());
    print_seek(flags, *moves);
    return kExitDone;
  });
}

// ---- the parser ----

using Action = int (*)(const Context&, const GroupFlags&);

CLI::App& add(CLI::App& group, Context& context, const char* verb, const char* help, Action action,
              const std::shared_ptr<GroupFlags>& flags) {
  CLI::App& sub = *group.add_subcommand(verb, help);
  sub.callback(
      [&context, flags, action] { context.run = [&context, flags, action] { return action(context, *flags); }; });
  return sub;
}

void add_settings(CLI::App& sub, GroupFlags& flags) {
  sub.add_option("--ack-timeout", flags.ack_timeout, "From hand-out to outcome; then it has failed (30s)")
      ->type_name("DUR");
  sub.add_option("--member-timeout", flags.member_timeout,
                 "A member with messages in hand that does nothing for so long loses them (30s)")
      ->type_name("DUR");
  sub.add_option("--max-attempts", flags.max_attempts, "A message that failed so often is parked (16)")
      ->type_name("N")
      ->check(CLI::PositiveNumber);
  sub.add_option("--backoff", flags.backoff, "Delays before a message that failed comes again (exp:100ms..30s)")
      ->type_name("LIST|exp:FIRST..MAX");
}

void add_create(CLI::App& group, Context& context) {
  const auto flags = std::make_shared<GroupFlags>();
  CLI::App& sub = add(group, context, "create", "Make a group", create, flags);
  sub.add_option("G", flags->name, "1 to 190 of A-Z a-z 0-9 . _ -")->required();
  sub.add_option("--mode", flags->mode, "A partition to one member at a time, or message by message to any (ordered)")
      ->type_name("ordered|shared");
  add_settings(sub, *flags);
  sub.add_option("--strict", flags->strict, "What a message that waits for its retry holds back (none)")
      ->type_name("key|partition|none");
  sub.add_flag("--hold", flags->hold, "Retention keeps what the group has not settled");
}

void add_alter(CLI::App& group, Context& context) {
  const auto flags = std::make_shared<GroupFlags>();
  CLI::App& sub = add(group, context, "alter", "Change a group's settings, but for its mode", alter, flags);
  sub.add_option("G", flags->name)->required();
  add_settings(sub, *flags);
  sub.add_option("--strict", flags->strict, "What a message that waits for its retry holds back")
      ->type_name("key|partition|none");
  CLI::Option* hold = sub.add_flag("--hold", flags->hold, "Retention keeps what the group has not settled");
  sub.add_flag("--no-hold", flags->no_hold, "Retention takes it")->excludes(hold);
}

void add_seek(CLI::App& group, Context& context) {
  const auto flags = std::make_shared<GroupFlags>();
  CLI::App& sub =
      add(group, context, "seek", "Move a group's cursors; tells what would happen unless --execute", seek, flags);
  sub.add_option("G", flags->name)->required();
  sub.add_option("--topic", flags->topic, "In this topic alone (all that it reads)")->type_name("T");
  sub.add_option("--to", flags->to, "Where to; a position moves that partition alone")
      ->type_name("earliest|latest|POSITION|PARTITION@POSITION|TIME")
      ->required();
  sub.add_flag("--execute", flags->execute, "Do it");
  sub.add_flag("--force", flags->force, "Also below what the group's ledgers have forgotten");
  sub.add_flag("--json", flags->json, "Print one JSON document");
}

}  // namespace

void add_group_commands(CLI::App& app, Context& context) {
  CLI::App& group = *app.add_subcommand("group", "Make, see and change consumer groups");
  group.require_subcommand(1);
  group.fallthrough();
  add_create(group, context);
  add_alter(group, context);
  auto flags = std::make_shared<GroupFlags>();
  add(group, context, "list", "All groups and their lag", list, flags)
      .add_flag("--json", flags->json, "Print one JSON document");
  flags = std::make_shared<GroupFlags>();
  CLI::App& sub = add(group, context, "describe", "A group's settings, members, partitions and lag", describe, flags);
  sub.add_option("G", flags->name)->required();
  sub.add_flag("--json", flags->json, "Print one JSON document");
  const auto add_named = [&](const char* verb, const char* help, Action action) {
    const auto named = std::make_shared<GroupFlags>();
    add(group, context, verb, help, action, named).add_option("G", named->name)->required();
  };
  add_named("delete", "Delete a group: its cursors, and what waits for a retry", remove);
  add_seek(group, context);
  add_named("pause", "Hand out nothing more until it is resumed", pause<true>);
  add_named("resume", "Go on after a pause", pause<false>);
}

}  // namespace sluice::cli
